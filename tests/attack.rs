//! The attacks of `tests/attack`, a moment each: no innocent request fails,
//! no thread comes or goes, and the server goes on. The table of all of them
//! is printed by `tests/attack/run`.

// The table uses the rest.
#![allow(dead_code)]

mod common;

#[path = "attack/attacks.rs"]
mod attacks;
#[path = "attack/innocent.rs"]
mod innocent;
#[path = "attack/siege.rs"]
mod siege;
#[path = "attack/swarm.rs"]
mod swarm;
#[path = "attack/victim.rs"]
mod victim;

use std::time::Duration;

use attacks::ATTACKS;
use siege::lay;
use victim::Victim;

/// How long each attack lasts.
const MOMENT: Duration = Duration::from_millis(600);

/// Attacks are one after the other: together they would only slow each other.
#[test]
fn the_innocent_notice_nothing() {
    let mut defects = Vec::new();
    for attack in ATTACKS {
        let victim = Victim::ours(attack.descriptors);
        let outcome = lay(&victim, vec![(attack.swarm)(victim.server)], MOMENT);
        let found = outcome.defects();
        defects.extend(
            found
                .iter()
                .map(|defect| format!("{}: {defect}", attack.name)),
        );
    }
    assert!(defects.is_empty(), "{}", defects.join("\n"));
}
