//! Fairness by time: what bystanders get while others keep the server busy,
//! as a ratio to what they get from the same process when it is undisturbed.
//!
//! `tests/fairness.rs` counts, which shows more clearly what one worker does;
//! this shows what it comes to. It takes medians of several rounds, and the
//! limits leave room, because the clients share the machine with the server.

use std::thread;
use std::time::Duration;

use crate::attacks::{Attack, BUSY};
use crate::bystander::{Bystander, ClientKind, Tally};
use crate::scenario::disturb;
use crate::target::Target;

/// Rounds, of which the medians count.
const ROUNDS: usize = 5;

/// How long a round is undisturbed, and then disturbed.
const TIME: Duration = Duration::from_secs(1);

/// The time in which the server gets rid of the connections of a round.
const REST: Duration = Duration::from_millis(300);

/// The least 99th percentile that is compared with: on an idle machine it is
/// less, and shows little but how the machine schedules threads.
const LEAST_CALM: Duration = Duration::from_millis(1);

/// A kind of bystander. Treating it unfairly is to exceed both limits: on a
/// machine with much else to do either may be, but not both.
struct Kind {
    kind: ClientKind,
    name: &'static str,
    /// The most that its 99th percentile may grow by.
    latency: f64,
    /// The least part of its requests that must be answered.
    served: f64,
}

/// A new connection for each request, which is served before those that have
/// been answered; and one for all requests, which is one of some 2000 in a
/// line. That one must not starve.
const KINDS: [Kind; 2] = [
    Kind {
        kind: ClientKind::Visits,
        name: "new",
        latency: 100.0,
        served: 0.12,
    },
    Kind {
        kind: ClientKind::Reuses,
        name: "known",
        latency: 1_000.0,
        served: 0.01,
    },
];

/// What one kind of bystander got in the rounds.
#[derive(Default)]
struct Rounds {
    calm: Vec<Tally>,
    busy: Vec<Tally>,
}

/// Prints the table; whether every kind of bystander is treated fairly.
pub(crate) fn check(only: &str) -> bool {
    println!(
        "{:<34}{:<7}{:>10}{:>10}{:>8}{:>8}{:>8}",
        "bystanders, p99 in ms and served", "", "calm", "busy", "ratio", "served", "ratio"
    );
    let chosen = BUSY.iter().filter(|attack| attack.name.contains(only));
    let mut fair = true;
    for attack in chosen {
        for (kind, rounds) in KINDS.iter().zip(rounds(attack)) {
            let (calm, busy) = (p99(&rounds.calm), p99(&rounds.busy));
            let latency = busy / calm.max(LEAST_CALM.as_secs_f64());
            let count = served(&rounds.busy);
            let part = count / served(&rounds.calm).max(1.0);
            let good = latency <= kind.latency || part >= kind.served;
            println!(
                "{:<34}{:<7}{:>10.2}{:>10.2}{latency:>8.1}{count:>8}{part:>8.2}{}",
                attack.name,
                kind.name,
                calm * 1e3,
                busy * 1e3,
                if good { "" } else { "  UNFAIR" },
            );
            fair &= good;
        }
    }
    fair
}

/// The rounds of each kind of bystander.
fn rounds(attack: &Attack) -> [Rounds; 2] {
    let target = Target::ours(attack.descriptors);
    let mut bystanders = KINDS
        .map(|kind| Bystander::new(target.server, kind.kind).expect("a session for a bystander"));
    let mut rounds = [Rounds::default(), Rounds::default()];
    for _ in 0..ROUNDS {
        disturb(&target, Vec::new(), &mut bystanders, TIME);
        for (rounds, bystander) in rounds.iter_mut().zip(&mut bystanders) {
            rounds.calm.push(bystander.take_tally());
        }
        let load = (attack.load)(target.server);
        disturb(&target, vec![load], &mut bystanders, TIME);
        for (rounds, bystander) in rounds.iter_mut().zip(&mut bystanders) {
            rounds.busy.push(bystander.take_tally());
        }
        thread::sleep(REST);
    }
    rounds
}

/// The median of the 99th percentiles, in seconds.
fn p99(tallies: &[Tally]) -> f64 {
    median(tallies, |tally| {
        let latency = tally.percentile(99);
        latency.map_or(f64::INFINITY, |latency| latency.as_secs_f64())
    })
}

/// The median of the requests answered.
#[allow(clippy::cast_precision_loss)]
fn served(tallies: &[Tally]) -> f64 {
    median(tallies, |tally| tally.ok as f64)
}

fn median(tallies: &[Tally], value: impl Fn(&Tally) -> f64) -> f64 {
    let mut values: Vec<f64> = tallies.iter().map(value).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
