//! The attacks of `tests/attack`, a moment each: no bystander request fails,
//! no thread comes or goes, and the server goes on. The table of all of them
//! is printed by `tests/attack/run`.

// The table uses the rest.
#![allow(dead_code)]

mod common;

#[path = "attack/attacks.rs"]
mod attacks;
#[path = "attack/bystander.rs"]
mod bystander;
#[path = "attack/load.rs"]
mod load;
#[path = "attack/scenario.rs"]
mod scenario;
#[path = "attack/shares.rs"]
mod shares;
#[path = "attack/target.rs"]
mod target;

use std::time::Duration;

use attacks::ATTACKS;
use scenario::run_scenario;
use shares::{FLOODS, run_flood};
use target::Target;

/// How long each attack lasts.
const MOMENT: Duration = Duration::from_millis(600);

/// Attacks are one after the other: together they would only slow each other.
#[test]
fn the_innocent_notice_nothing() {
    let mut defects = Vec::new();
    for attack in ATTACKS {
        let target = Target::ours(attack.descriptors);
        let outcome = run_scenario(&target, vec![(attack.load)(target.server)], MOMENT);
        let found = outcome.defects();
        defects.extend(
            found
                .iter()
                .map(|defect| format!("{}: {defect}", attack.name)),
        );
    }
    assert!(defects.is_empty(), "{}", defects.join("\n"));
}

/// Whose share of the store is not used up signs in as if it were not full.
#[test]
fn people_sign_in_though_others_keep_the_store_full() {
    let mut defects = Vec::new();
    for flood in FLOODS {
        let found = run_flood(flood, MOMENT).defects();
        defects.extend(
            found
                .iter()
                .map(|defect| format!("{}: {defect}", flood.name)),
        );
    }
    assert!(defects.is_empty(), "{}", defects.join("\n"));
}
