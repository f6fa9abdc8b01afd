//! The phase of one connection, counted.

use std::sync::Arc;

use super::connections::Phase;
use super::table::Counters;

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
