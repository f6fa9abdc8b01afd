//! Connections held, by what they wait for.

use std::sync::Arc;

use super::counters::Counter;
use super::table::Counters;

/// What a connection waits for, each with a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A request.
    Idle,
    /// The rest of a request.
    Receiving,
    /// The peer's taking of an answer.
    Sending,
    /// The close of a peer that was rejected.
    Lingering,
    /// The change that a held request asks for.
    Held,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Idle,
        Self::Receiving,
        Self::Sending,
        Self::Lingering,
        Self::Held,
    ];

    /// Its label in the metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Receiving => "receiving",
            Self::Sending => "sending",
            Self::Lingering => "lingering",
            Self::Held => "held",
        }
    }
}

/// How many connections are in each phase.
#[derive(Clone, Debug, Default)]
pub struct Connections([Counter; Phase::ALL.len()]);

impl Connections {
    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    /// How many are in this one.
    #[must_use]
    pub fn in_phase(&self, phase: Phase) -> u64 {
        self.0[phase as usize].get()
    }

    fn enter(&self, phase: Phase) {
        self.0[phase as usize].increment();
    }

    fn leave(&self, phase: Phase) {
        self.0[phase as usize].decrement();
    }
}

/// The phase of one connection, counted as long as this exists.
#[derive(Debug)]
pub struct Counted {
    counters: Arc<Counters>,
    phase: Phase,
}

impl Counted {
    /// Counts a connection.
    #[must_use]
    pub fn new(counters: Arc<Counters>, phase: Phase) -> Self {
        counters.connections.enter(phase);
        Self { counters, phase }
    }

    /// The present phase.
    #[must_use]
    pub fn get(&self) -> Phase {
        self.phase
    }

    /// Moves the connection to another phase.
    pub fn set(&mut self, phase: Phase) {
        if phase != self.phase {
            self.counters.connections.leave(self.phase);
            self.counters.connections.enter(phase);
            self.phase = phase;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counters.connections.leave(self.phase);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_counted_in_one_phase_and_then_in_none() {
        let counters = Arc::new(Counters::default());
        let held = || Phase::ALL.map(|phase| counters.connections.in_phase(phase));
        let mut one = Counted::new(Arc::clone(&counters), Phase::Idle);
        let other = Counted::new(Arc::clone(&counters), Phase::Idle);
        assert_eq!(held(), [2, 0, 0, 0, 0]);
        one.set(Phase::Sending);
        one.set(Phase::Sending);
        assert_eq!(held(), [1, 0, 1, 0, 0]);
        drop(other);
        drop(one);
        assert_eq!(held(), [0; 5]);
    }
}
