//! Watches on sessions.

use std::sync::Arc;
use std::task::Waker;

use super::shared::Store;
use crate::clock::Timestamp;
use crate::protocol::Concurrency;
use crate::session::{Revision, Session, SessionId};

#[cfg(test)]
mod tests;

/// A watch on a session, for as long as this exists. It ends with the next
/// write, with the session, or when the session has too many, and its waker is
/// woken then.
#[derive(Debug)]
pub struct Watch {
    store: Arc<Store>,
    id: SessionId,
    number: u64,
}

impl Watch {
    /// Whether it goes on.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.store.lock().watches.is_pending(self.id, self.number)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Dropped after the lock.
        let _waker = self.store.lock().watches.remove(self.id, self.number);
    }
}

impl Store {
    /// Watches a session with ETags.
    ///
    /// # Errors
    /// It is not at this `revision`: the session as it is now, unless it has
    /// ended.
    pub fn watch(
        self: &Arc<Self>,
        id: SessionId,
        revision: Revision,
        waker: Waker,
        now: Timestamp,
    ) -> Result<Watch, Option<Session>> {
        let (mut inner, now) = self.enter(now);
        let session = inner.live(id, Concurrency::ETag, now);
        if session.as_ref().map(|session| session.revision) != Some(revision) {
            return Err(session.cloned());
        }
        let (number, oldest) = inner.watches.add(id, waker);
        drop(inner);
        if let Some(oldest) = oldest {
            oldest.wake();
        }
        let store = Arc::clone(self);
        Ok(Watch { store, id, number })
    }
}
