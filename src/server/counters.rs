//! What the server has seen since its start, and what it holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the server has seen since its start, and what it holds.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections closed to make room for newer ones.
    pub evicted: AtomicU64,
    /// Connections held, by what they wait for.
    pub held: Held,
    /// Requests answered by the handler, by how long that took.
    pub answered: Durations,
    /// Requests refused for their framing or size.
    pub refused: AtomicU64,
    /// Requests that did not arrive in time.
    pub late: AtomicU64,
    /// Panics caught.
    pub panics: AtomicU64,
}

/// What a connection waits for, each with a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A request.
    Idle,
    /// The rest of a request.
    Receiving,
    /// The peer's taking of an answer.
    Sending,
    /// The close of a peer that was refused.
    Lingering,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Receiving, Self::Sending, Self::Lingering];
}

/// How many connections are in each phase.
#[derive(Debug, Default)]
pub struct Held([AtomicU64; Phase::ALL.len()]);

impl Held {
    /// How many are in this one.
    #[must_use]
    pub fn in_phase(&self, phase: Phase) -> u64 {
        self.0[phase as usize].load(Ordering::Relaxed)
    }

    fn enter(&self, phase: Phase) {
        self.0[phase as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self, phase: Phase) {
        self.0[phase as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The phase of one connection, counted as long as this exists.
#[derive(Debug)]
pub(super) struct Counted {
    counters: Arc<Counters>,
    phase: Phase,
}

impl Counted {
    pub(super) fn new(counters: Arc<Counters>, phase: Phase) -> Self {
        counters.held.enter(phase);
        Self { counters, phase }
    }

    pub(super) fn get(&self) -> Phase {
        self.phase
    }

    pub(super) fn set(&mut self, phase: Phase) {
        if phase != self.phase {
            self.counters.held.leave(self.phase);
            self.counters.held.enter(phase);
            self.phase = phase;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counters.held.leave(self.phase);
    }
}

/// Durations, by size.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; Self::BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Durations {
    /// The longest of each bucket but the last, which has the rest, in
    /// microseconds.
    pub const BOUNDS: [u64; 16] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
        1_000_000, 2_500_000, 5_000_000, 10_000_000,
    ];

    /// Counts some that took equally long.
    pub fn count(&self, duration: Duration, number: u64) {
        // Cheaper than the 128 bits that a duration has room for.
        let nanoseconds = duration.as_secs() * 1_000_000_000 + u64::from(duration.subsec_nanos());
        let mut bounds = Self::BOUNDS.iter();
        let bucket = bounds.position(|bound| nanoseconds <= bound * 1_000);
        let bucket = bucket.unwrap_or(Self::BOUNDS.len());
        self.buckets[bucket].fetch_add(number, Ordering::Relaxed);
        self.nanoseconds
            .fetch_add(nanoseconds * number, Ordering::Relaxed);
    }

    /// How many are in each bucket.
    #[must_use]
    pub fn buckets(&self) -> [u64; Self::BOUNDS.len() + 1] {
        let load = |bucket: &AtomicU64| bucket.load(Ordering::Relaxed);
        self.buckets.each_ref().map(load)
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.buckets().iter().sum()
    }

    /// How long all of them took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_that_they_fit() {
        let durations = Durations::default();
        durations.count(Duration::from_micros(100), 2);
        durations.count(Duration::from_nanos(100_001), 1);
        durations.count(Duration::from_secs(10), 1);
        durations.count(Duration::from_secs(11), 1);
        let buckets = durations.buckets();
        assert_eq!(buckets[..2], [2, 1]);
        assert_eq!(buckets[15..], [1, 1]);
        assert_eq!(durations.total(), 5);
        assert_eq!(durations.sum(), Duration::from_nanos(21_000_300_001));
        assert!(Durations::BOUNDS.is_sorted());
    }

    #[test]
    fn a_connection_is_counted_in_one_phase_and_then_in_none() {
        let counters = Arc::new(Counters::default());
        let held = || Phase::ALL.map(|phase| counters.held.in_phase(phase));
        let mut one = Counted::new(Arc::clone(&counters), Phase::Idle);
        let other = Counted::new(Arc::clone(&counters), Phase::Idle);
        assert_eq!(held(), [2, 0, 0, 0]);
        one.set(Phase::Sending);
        one.set(Phase::Sending);
        assert_eq!(held(), [1, 0, 1, 0]);
        drop(other);
        drop(one);
        assert_eq!(held(), [0; 4]);
    }
}
