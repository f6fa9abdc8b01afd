//! A stop that load balancers have time to notice.

use std::sync::atomic::{AtomicBool, Ordering};

/// How far a stop has come, for those who answer requests meanwhile.
#[derive(Debug, Default)]
pub struct Draining {
    begun: AtomicBool,
    refuses_creations: AtomicBool,
}

impl Draining {
    /// From now on health checks fail.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// From now on no session is created either.
    pub fn refuse_creations(&self) {
        self.refuses_creations.store(true, Ordering::Relaxed);
    }

    /// Whether health checks fail.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether no session is created.
    #[must_use]
    pub fn refuses_creations(&self) -> bool {
        self.refuses_creations.load(Ordering::Relaxed)
    }
}
