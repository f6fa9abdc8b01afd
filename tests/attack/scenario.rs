//! One attack on one server, with bystanders beside it, and what came
//! of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;

use crate::bystander::{Bystander, ClientKind, Tally};
use crate::common::raise_fd_limit;
use crate::load::{Load, attack};
use crate::target::{Target, Usage};

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
pub(crate) fn run_scenario(target: &Target, loads: Vec<Load>, time: Duration) -> Outcome {
    let bystander = |kind| Bystander::new(target.server, kind).expect("a session for a bystander");
    let mut bystanders = [ClientKind::Visits, ClientKind::Keeps].map(bystander);
    let usage = disturb(target, loads, &mut bystanders, time);
    let alive = bystanders.iter_mut().all(Bystander::still_served);
    let mut tally = Tally::default();
    for bystander in &mut bystanders {
        tally.add(bystander.take_tally());
    }
    Outcome {
        tally,
        usage,
        ceiling: target.ceiling,
        alive,
    }
}

/// Has bystanders work for so long, and the loads attack meanwhile.
pub(crate) fn disturb(
    target: &Target,
    mut loads: Vec<Load>,
    bystanders: &mut [Bystander],
    time: Duration,
) -> Usage {
    fit(&mut loads);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| target.watch(&stop));
        for part in loads.chunks(loads.len().div_ceil(ATTACKERS).max(1)) {
            scope.spawn(|| attack(part, target.server, &stop));
        }
        for bystander in bystanders {
            scope.spawn(|| bystander.work(&stop));
        }
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        watch.join().expect("no panic")
    })
}

/// Raises the limit of open files as far as allowed, and makes the loads so
/// small that descriptors are left for bystanders.
fn fit(loads: &mut [Load]) {
    let room = raise_fd_limit().saturating_sub(OTHERS).max(1);
    let wanted: usize = loads.iter().map(|load| load.size).sum();
    if wanted > room {
        for load in loads {
            load.size = (load.size * room / wanted).max(1);
        }
    }
}
