//! Watches: who is woken when a session is written or ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use log::debug;

use super::ended::Ended;
use super::shared::Store;
use crate::clock::Timestamp;
use crate::protocol::Concurrency;
use crate::session::{Revision, Session, SessionId};

#[cfg(test)]
mod tests;

/// Watches that a session has at most; a newer one ends the oldest. Two devices
/// meet, and each may have left a poll behind on a lost connection.
pub const MAX_WATCHES: usize = 8;

/// The watches of all sessions.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// Numbers and wakers, the oldest first.
    by_session: BTreeMap<SessionId, Vec<(u64, Waker)>>,
    next_number: u64,
}

impl Watches {
    /// Adds a watch; returns its number, and the waker of the one that it ends.
    fn add(&mut self, id: SessionId, waker: Waker) -> (u64, Option<Waker>) {
        let number = self.next_number;
        self.next_number += 1;
        let watches = self.by_session.entry(id).or_default();
        let oldest = (watches.len() == MAX_WATCHES).then(|| watches.remove(0).1);
        watches.push((number, waker));
        (number, oldest)
    }

    /// Ends all watches of a session.
    pub(super) fn take(&mut self, id: SessionId) -> Woken {
        Woken(self.by_session.remove(&id).unwrap_or_default())
    }

    /// Whether a session is watched.
    pub(super) fn include(&self, id: SessionId) -> bool {
        self.by_session.contains_key(&id)
    }

    fn position(&self, id: SessionId, number: u64) -> Option<usize> {
        let watches = self.by_session.get(&id)?;
        watches.iter().position(|(other, _)| *other == number)
    }

    fn remove(&mut self, id: SessionId, number: u64) {
        let Some(position) = self.position(id, number) else {
            return;
        };
        if let Some(watches) = self.by_session.get_mut(&id) {
            watches.remove(position);
            if watches.is_empty() {
                self.by_session.remove(&id);
            }
        }
    }
}

/// Watches that have ended. They are woken outside the store's lock.
#[derive(Debug)]
pub(super) struct Woken(Vec<(u64, Waker)>);

impl Woken {
    pub(super) fn wake(self) {
        for (_, waker) in self.0 {
            waker.wake();
        }
    }
}

/// A session that was taken out of the store, and who has to be told.
#[derive(Debug)]
pub struct Removed {
    /// How it ended.
    pub ended: Ended,
    pub(super) woken: Woken,
}

impl Removed {
    /// Wakes the watches and logs the end.
    pub fn announce(self) {
        self.woken.wake();
        debug!("{}", self.ended);
    }
}

/// An attempt to watch a session.
#[derive(Debug)]
pub enum Watching {
    /// It is watched.
    Begun(Watch),
    /// It is at another revision, or has ended.
    Changed(Option<Session>),
}

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
        let inner = self.store.lock();
        inner.watches.position(self.id, self.number).is_some()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.store.lock().watches.remove(self.id, self.number);
    }
}

impl Store {
    /// Watches a session with ETags if it is still at `revision`.
    pub fn watch(
        self: &Arc<Self>,
        id: SessionId,
        revision: Revision,
        waker: Waker,
        now: Timestamp,
    ) -> Watching {
        let (mut inner, now) = self.enter(now);
        let session = inner.live(id, Concurrency::ETag, now);
        if session.as_ref().map(|session| session.revision) != Some(revision) {
            return Watching::Changed(session.cloned());
        }
        let (number, oldest) = inner.watches.add(id, waker);
        drop(inner);
        if let Some(oldest) = oldest {
            oldest.wake();
        }
        let store = Arc::clone(self);
        Watching::Begun(Watch { store, id, number })
    }
}
