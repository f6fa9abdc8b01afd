//! One attack on one server, with the innocent in its midst, and what came
//! of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::innocent::{Habit, Innocent, Tally};
use crate::swarm::{Swarm, attack};
use crate::victim::{Usage, Victim};

/// Descriptors that are not an attacker's connections.
const OTHERS: usize = 200;

/// Threads that the attackers get.
const ATTACKERS: usize = 2;

/// What came of an attack.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) usage: Usage,
    /// The most memory that the server said it takes.
    pub(crate) ceiling: Option<ByteSize>,
    /// Whether it answered when all was over.
    pub(crate) alive: bool,
}

impl Outcome {
    /// What must not be.
    pub(crate) fn defects(&self) -> Vec<String> {
        let mut defects = Vec::new();
        if self.tally.failed > 0 {
            let reason = self.tally.reason.as_deref().unwrap_or_default();
            defects.push(format!("{} requests failed: {reason}", self.tally.failed));
        }
        if let Some((least, most)) = self.usage.threads.filter(|(least, most)| least != most) {
            defects.push(format!("threads: {least} to {most}"));
        }
        match self.ceiling {
            Some(ceiling) if self.usage.peak <= ceiling => {}
            Some(ceiling) => {
                let peak = self.usage.peak;
                defects.push(format!("took {peak}, said at most {ceiling}"));
            }
            None => defects.push("said no ceiling".into()),
        }
        if !self.alive {
            defects.push("no answer afterwards".into());
        }
        defects
    }
}

/// Attacks a fresh server for so long.
pub(crate) fn lay(victim: &Victim, swarms: Vec<Swarm>, time: Duration) -> Outcome {
    let innocent = |habit| Innocent::new(victim.server, habit).expect("a session for the innocent");
    let mut innocents = [Habit::Visits, Habit::Keeps].map(innocent);
    let usage = disturb(victim, swarms, &mut innocents, time);
    let alive = innocents.iter_mut().all(Innocent::still_served);
    let mut tally = Tally::default();
    for innocent in &mut innocents {
        tally.add(innocent.take_tally());
    }
    Outcome {
        tally,
        usage,
        ceiling: victim.ceiling,
        alive,
    }
}

/// Has the innocent work for so long, and the swarms attack meanwhile.
pub(crate) fn disturb(
    victim: &Victim,
    mut swarms: Vec<Swarm>,
    innocents: &mut [Innocent],
    time: Duration,
) -> Usage {
    fit(&mut swarms);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| victim.watch(&stop));
        for part in swarms.chunks(swarms.len().div_ceil(ATTACKERS).max(1)) {
            scope.spawn(|| attack(part, victim.server, &stop));
        }
        for innocent in innocents {
            scope.spawn(|| innocent.work(&stop));
        }
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        watch.join().expect("no panic")
    })
}

/// Raises the limit of open files as far as allowed, and makes the swarms so
/// small that descriptors are left for the innocent.
fn fit(swarms: &mut [Swarm]) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit is free up to the hard one");
    let limit = usize::try_from(maximum.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let room = limit.saturating_sub(OTHERS).max(1);
    let wanted: usize = swarms.iter().map(|swarm| swarm.size).sum();
    if wanted > room {
        for swarm in swarms {
            swarm.size = (swarm.size * room / wanted).max(1);
        }
    }
}
