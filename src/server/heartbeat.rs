//! Whether the workers' loops run, for the watchdog.

use std::sync::Arc;

use super::crowd::Crowd;

/// The workers' heartbeat. Unlike a [`Probe`](super::Probe), it does not wait
/// behind the requests of others: a server under load is late and not dead.
#[derive(Debug)]
pub struct Heartbeat {
    crowd: Arc<Crowd>,
    last: Vec<u64>,
}

impl Heartbeat {
    pub(super) fn new(crowd: Arc<Crowd>) -> Self {
        let mut heartbeat = Self {
            crowd,
            last: Vec::new(),
        };
        heartbeat.next();
        heartbeat
    }

    /// Whether every worker's loop has made an iteration since the last call.
    /// Idle ones are woken, so that they have by the next.
    pub fn is_steady(&mut self) -> bool {
        let last = self.next();
        last.iter().zip(&self.last).all(|(last, now)| last != now)
    }

    fn next(&mut self) -> Vec<u64> {
        let last = std::mem::replace(&mut self.last, self.crowd.beats());
        self.crowd.wake_all();
        last
    }
}
