//! The source of snapshots.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::table::{Counters, Limits, Snapshot};
use crate::clock::system_time;
use crate::store::Store;

/// Where snapshots are taken.
#[derive(Clone, Debug)]
pub struct Metrics {
    counters: Arc<Counters>,
    store: Arc<Store>,
    limits: Limits,
    started: (Instant, SystemTime),
}

impl Metrics {
    /// The counters and those of a store, from now on, of a server that holds
    /// so many connections at most.
    #[must_use]
    pub fn new(counters: Arc<Counters>, store: Arc<Store>, max_connections: usize) -> Self {
        let limits = Limits {
            sessions: store.capacity().get() as u64,
            connections: max_connections as u64,
        };
        Self {
            counters,
            store,
            limits,
            started: (Instant::now(), system_time()),
        }
    }

    /// The values of all at present.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (started, wall) = self.started;
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Snapshot {
            counters: Counters::clone(&self.counters),
            sessions: self.store.counts(),
            limits: self.limits,
            started: wall.as_secs(),
            uptime: started.elapsed(),
        }
    }
}
