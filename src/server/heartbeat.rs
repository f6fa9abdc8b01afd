//! The workers' heartbeat, for the watchdog.

use std::sync::Arc;

use super::handle::WorkerHandle;

/// The workers' heartbeat. Unlike a [`Probe`](super::Probe), it does not wait
/// behind other requests: a server under load is late but not dead.
#[derive(Debug)]
pub struct Heartbeat {
    workers: Arc<[WorkerHandle]>,
    last: Vec<u64>,
}

impl Heartbeat {
    pub(super) fn new(workers: Arc<[WorkerHandle]>) -> Self {
        let mut heartbeat = Self {
            workers,
            last: Vec::new(),
        };
        heartbeat.next();
        heartbeat
    }

    /// Whether every worker's loop has iterated since the last call. Idle
    /// workers are woken, so that they have by the next.
    pub fn is_steady(&mut self) -> bool {
        let last = self.next();
        last.iter().zip(&self.last).all(|(last, now)| last != now)
    }

    fn next(&mut self) -> Vec<u64> {
        let now = self.workers.iter().map(WorkerHandle::iterations).collect();
        self.workers.iter().for_each(WorkerHandle::wake);
        std::mem::replace(&mut self.last, now)
    }
}
