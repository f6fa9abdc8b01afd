//! Fair shares of a full store: a simulation of floods, printed with
//! `cargo test --test shares -- --nocapture`, and what must hold in any order
//! of creations.

#[path = "shares/simulation.rs"]
mod simulation;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use rendezvousd::client::Client;
use rendezvousd::clock::Timestamp;
use rendezvousd::protocol::{Concurrency, Protocol};
use rendezvousd::rate_limit::RateLimit;
use rendezvousd::session::{Content, SessionId};
use rendezvousd::store::{Owner, Snapshot, Store};
use simulation::{
    Outcome, Rule, SLEEPS, Scenario, anywhere, elsewhere, in_6to4, in_one_48, next_door, simulate,
    unnamed,
};

/// The defaults of `--create-rate` and `--create-burst`.
const DEFAULT: RateLimit = RateLimit {
    rate: 20,
    burst: 30,
};

/// No limit: as if the attackers had many more networks like these.
const NONE: RateLimit = RateLimit {
    rate: 60_000,
    burst: 60_000,
};

fn scenario(name: &'static str, count: u64, attacker: fn(u64) -> Option<Client>) -> Scenario {
    Scenario {
        name,
        attackers: (0..count).map(attacker).collect(),
        polls: true,
        bystander: elsewhere,
    }
}

/// All floods in which nobody who holds a fair share may notice anything.
fn scenarios() -> Vec<Scenario> {
    let mut scenarios = vec![
        scenario("100 /64s of a /56", 100, in_one_48),
        scenario("256 /64s of a /56", 256, in_one_48),
        scenario("1024 /64s of a /48", 1_024, in_one_48),
        scenario("400 scattered IPv4 addresses", 400, anywhere),
        scenario("2000 scattered IPv4 addresses", 2_000, anywhere),
        scenario("25 600 6to4 networks of 100", 25_600, in_6to4),
    ];
    let all = scenarios.iter().flat_map(|one| one.attackers.clone());
    scenarios.push(Scenario {
        name: "all at once",
        attackers: all.collect(),
        polls: true,
        bystander: elsewhere,
    });
    scenarios.push(Scenario {
        polls: false,
        ..scenario("2000 addresses, never polling", 2_000, anywhere)
    });
    scenarios.push(Scenario {
        bystander: next_door,
        ..scenario("256 /64s of a /56, to neighbours", 256, in_one_48)
    });
    scenarios
}

/// A table, printed at once when it is complete.
struct Table(String);

impl Table {
    fn new(title: &str) -> Self {
        let columns = SLEEPS.map(|seconds| format!("sleep {seconds} s"));
        let [short, long, longest] = columns;
        Self(format!(
            "\n{title}: sign-ins of bystanders, refused + lost / finished\n\
             {:<34}{:<8}{:>9}{short:>15}{long:>15}{longest:>15}{:>15}\n",
            "attackers", "rule", "they hold", "one office",
        ))
    }

    fn add(&mut self, name: &str, rule: &str, outcome: &Outcome) {
        let attackers = outcome.attackers;
        self.0
            .push_str(&format!("{name:<34}{rule:<8}{attackers:>9}"));
        for tally in outcome.by_sleep.iter().chain([&outcome.office]) {
            let harm = format!("{} + {}", tally.refused, tally.lost);
            let cell = format!("{harm} / {}", tally.finished);
            self.0.push_str(&format!("{cell:>15}"));
        }
        self.0.push('\n');
    }

    /// Adds what came of a scenario by both rules, and returns it.
    fn compare(&mut self, scenario: &Scenario, rate_limit: RateLimit) -> [Outcome; 2] {
        let rules = [(Rule::Idle, "idle"), (Rule::Shares, "shares")];
        rules.map(|(rule, name)| {
            let outcome = simulate(scenario, rule, rate_limit);
            self.add(scenario.name, name, &outcome);
            outcome
        })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        print!("{}", self.0);
    }
}

/// Whether a bystander was refused or lost a session.
fn harmed(outcome: &Outcome) -> bool {
    let tallies = outcome.by_sleep.iter();
    tallies.clone().any(|tally| tally.refused + tally.lost > 0)
}

#[test]
fn bystanders_of_a_flood_notice_nothing() {
    let mut table = Table::new("Without a rate limit");
    for scenario in scenarios() {
        let [before, now] = table.compare(&scenario, NONE);
        assert!(harmed(&before), "{}: no flood", scenario.name);
        assert!(!harmed(&now), "{}: {now:?}", scenario.name);
    }
}

#[test]
fn bystanders_of_a_flood_within_the_rate_limit_notice_nothing() {
    let mut table = Table::new("With the default rate limit");
    for scenario in scenarios() {
        let [_, now] = table.compare(&scenario, DEFAULT);
        assert!(!harmed(&now), "{}: {now:?}", scenario.name);
    }
}

#[test]
fn clients_that_a_proxy_does_not_name_keep_the_protection_of_sessions_in_use() {
    let mut table = Table::new("Through a proxy that names no clients");
    let scenario = Scenario {
        bystander: unnamed,
        ..scenario("all of them", 1, unnamed)
    };
    let [before, now] = table.compare(&scenario, NONE);
    assert_eq!(now, before);
    assert_in_use_are_protected(&now);
}

#[test]
fn with_more_networks_than_sessions_those_in_use_are_protected() {
    let mut table = Table::new("With more networks than sessions");
    let scenario = scenario("20 000 scattered IPv4 addresses", 20_000, anywhere);
    let [_, now] = table.compare(&scenario, NONE);
    assert_in_use_are_protected(&now);
}

/// Whoever came late was refused; whoever came before that finished, unless
/// asleep for longer than is protected.
fn assert_in_use_are_protected(outcome: &Outcome) {
    let [short, ..] = outcome.by_sleep;
    assert!(
        short.refused > 0 && short.lost == 0 && short.finished > 0,
        "{short:?}"
    );
}

const CAPACITY: usize = 24;

#[derive(Clone, Debug)]
enum Step {
    Create([u64; 3]),
    Read(Index),
    Delete(Index),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Some groups are more likely than others, so that they become heavy.
    let path = (0..25_u64, 0..9_u64, 0..9_u64)
        .prop_map(|numbers| [numbers.0, numbers.1, numbers.2].map(u64::isqrt));
    let step = prop_oneof![
        12 => path.prop_map(Step::Create),
        2 => any::<Index>().prop_map(Step::Read),
        2 => any::<Index>().prop_map(Step::Delete),
        2 => (0..9_000_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..250)
}

/// The live sessions and their owners.
fn live(store: &Store, now: Timestamp) -> BTreeMap<SessionId, [u64; 3]> {
    let mut sessions = BTreeMap::new();
    let add = |saved: &Snapshot| -> Result<(), ()> {
        sessions.insert(saved.id, saved.owner.0);
        Ok(())
    };
    store.for_each_live(now, add).unwrap();
    sessions
}

/// Whether an owner who holds so many sessions holds its share or less. The
/// root's share is the whole store; that of all below is the parent's, divided
/// by the number of its children that have sessions or want one.
fn within_share(owners: &[[u64; 3]], owner: [u64; 3], count: usize) -> bool {
    let siblings = (0..3).map(|level| {
        let together = owners
            .iter()
            .filter(|other| other[..level] == owner[..level]);
        let mut keys: Vec<u64> = together.map(|other| other[level]).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    });
    count * siblings.product::<usize>() <= CAPACITY
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever others do: who holds no more than their share is never refused
    /// and never loses a session, in use or not.
    #[test]
    fn who_holds_their_share_or_less_is_neither_evicted_nor_refused(steps in steps()) {
        let store = Store::new(NonZeroUsize::new(CAPACITY).unwrap());
        let mut now = Timestamp { monotonic_ms: 0, unix_ms: 0 };
        for step in steps {
            let before = live(&store, now);
            let chosen = |index: &Index| before.keys().nth(index.index(before.len().max(1)));
            match &step {
                Step::Create(newcomer) => {
                    let held = |owner: &[u64; 3]| before.values().filter(|other| *other == owner).count();
                    let mut owners: Vec<[u64; 3]> = before.values().copied().collect();
                    owners.push(*newcomer);
                    let content = Content::new(b"", "").unwrap();
                    let (protocol, lifetime) = (Protocol::Msc4108, Duration::from_secs(86_400));
                    let created = store.create(content, protocol, lifetime, Owner(*newcomer), now);
                    let entitled = within_share(&owners, *newcomer, held(newcomer) + 1);
                    prop_assert!(created.is_ok() || !entitled, "{:?} was refused", newcomer);
                    let after = live(&store, now);
                    for (_, owner) in before.iter().filter(|(id, _)| !after.contains_key(*id)) {
                        let own = owner == newcomer && !entitled;
                        prop_assert!(
                            own || !within_share(&owners, *owner, held(owner)),
                            "{:?} lost a session to {:?}", owner, newcomer
                        );
                    }
                }
                Step::Read(index) => {
                    chosen(index).map(|id| store.read(*id, Concurrency::ETag, now));
                }
                Step::Delete(index) => {
                    chosen(index).map(|id| store.delete(*id, Concurrency::ETag, now));
                }
                Step::Wait(millis) => now.monotonic_ms += millis,
            }
        }
    }
}
