//! The watches of all sessions: who is woken when one is written or ends.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::session::SessionId;

/// Watches that a session has at most; a newer one ends the oldest. Two devices
/// meet, and each may have left a poll behind on a lost connection.
pub const MAX_WATCHES: usize = 8;

/// Wakers by session.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// Each with its number, the oldest first.
    by_session: BTreeMap<SessionId, Vec<(u64, Waker)>>,
    next_number: u64,
}

impl Watches {
    /// Adds a watch; returns its number, and the waker of the one that it ends.
    pub(super) fn add(&mut self, id: SessionId, waker: Waker) -> (u64, Option<Waker>) {
        let number = self.next_number;
        self.next_number += 1;
        let watches = self.by_session.entry(id).or_default();
        let oldest = (watches.len() == MAX_WATCHES).then(|| watches.remove(0).1);
        watches.push((number, waker));
        (number, oldest)
    }

    /// Ends all watches of a session.
    pub(super) fn take(&mut self, id: SessionId) -> ToWake {
        ToWake(self.by_session.remove(&id).unwrap_or_default())
    }

    /// Ends one watch, if it has not ended; returns its waker.
    pub(super) fn remove(&mut self, id: SessionId, number: u64) -> Option<Waker> {
        let watches = self.by_session.get_mut(&id)?;
        let position = watches.iter().position(|(other, _)| *other == number)?;
        let (_, waker) = watches.remove(position);
        watches.shrink_to_fit();
        if watches.is_empty() {
            self.by_session.remove(&id);
        }
        Some(waker)
    }

    /// Whether a session is watched.
    pub(super) fn include(&self, id: SessionId) -> bool {
        self.by_session.contains_key(&id)
    }

    /// Whether a watch goes on.
    pub(super) fn is_pending(&self, id: SessionId, number: u64) -> bool {
        let watches = self.by_session.get(&id);
        watches.is_some_and(|watches| watches.iter().any(|(other, _)| *other == number))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_session.is_empty()
    }
}

/// The wakers of watches that have ended.
#[derive(Debug)]
#[must_use = "nobody else wakes them"]
pub(super) struct ToWake(Vec<(u64, Waker)>);

impl ToWake {
    /// Wakes them. To be called without the store's lock.
    pub(super) fn wake(self) {
        for (_, waker) in self.0 {
            waker.wake();
        }
    }
}
