//! Connections held, by what they wait for.

use super::counters::Counter;

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

    pub(super) fn enter(&self, phase: Phase) {
        self.0[phase as usize].increment();
    }

    pub(super) fn leave(&self, phase: Phase) {
        self.0[phase as usize].decrement();
    }
}
