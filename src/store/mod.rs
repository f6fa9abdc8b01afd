//! The sessions of the server: one mutex around an LRU map and an index of
//! expiries. Nothing here reads a clock or knows a protocol.

mod ended;
mod inner;
mod saved;
mod transactions;

#[cfg(test)]
mod tests;

pub use ended::{Ended, Reason};
pub use saved::{InvalidSnapshot, Snapshot};
pub use transactions::{
    MAX_TRANSACTIONS, Record, SequenceError, Sequenced, TRANSACTIONS_SIZE, TxnHasher,
};

use std::array;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::debug;

use crate::clock::Timestamp;
use crate::outcome::Outcomes;
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, Revision, Session, SessionId};
use inner::Inner;
use transactions::Records;

/// The most a session takes beside its blocks in the pool, in bytes: map slot,
/// list entry, index entries and what the allocator adds. `tests/memory.rs`
/// measures it.
pub const SESSION_OVERHEAD: usize = 290;

/// Why a session was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// All sessions are in use; one may not be in so many milliseconds, and
    /// then gives way.
    Full(u64),
    /// The operating system has no random numbers to give.
    NoRandomness,
}

/// Why a write was not done.
#[derive(Debug)]
pub enum WriteError {
    /// No such session, or none any more.
    NotFound,
    /// The session is at another revision than the writer thinks; this is
    /// its present state.
    Conflict(Session),
}

/// What has happened in a store since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions created.
    pub created: u64,
    /// Sessions ended: deleted, expired and swept, or pushed out by newer
    /// ones.
    pub ended: Outcomes,
    /// Sessions not made because all others were in use.
    pub full: u64,
    /// Sessions held now, those that expired and were not swept included.
    pub live: u64,
    /// The bytes of their payloads.
    pub bytes: u64,
}

/// All sessions, at most a given number of them.
#[derive(Debug)]
pub struct Store {
    capacity: NonZeroUsize,
    txn_hasher: TxnHasher,
    inner: Mutex<Inner>,
}

impl Store {
    /// An empty store for at most `capacity` sessions.
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity,
            txn_hasher: TxnHasher::random(),
            inner: Mutex::new(Inner::new(capacity)),
        }
    }

    /// The most sessions it can hold.
    #[must_use]
    pub fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }

    /// The most memory that `capacity` sessions with payloads of `payload`
    /// bytes can take, in bytes, with an allocator that has so many heaps: what
    /// one has left of its small allocations is no use to another.
    #[must_use]
    pub fn ceiling(capacity: NonZeroUsize, payload: usize, heaps: usize) -> u64 {
        let blocks = Content::ceiling(payload) + TRANSACTIONS_SIZE;
        let session = blocks + SESSION_OVERHEAD * heaps;
        (session as u64).saturating_mul(capacity.get() as u64)
    }

    /// Makes a session with a random id. A full store gives up an expired
    /// session for it, or else the least recently used one, unless that is
    /// [busy](Session::busy): who floods a store with sessions pushes out
    /// none that people are using.
    ///
    /// # Errors
    /// [`CreateError`], and nothing has changed.
    pub fn create(
        &self,
        content: Content,
        protocol: Protocol,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<(SessionId, Session), CreateError> {
        // Both from one system call, which takes longer than all the rest.
        let mut random = [0; 16 + 8];
        getrandom::fill(&mut random).map_err(|_| CreateError::NoRandomness)?;
        let id = SessionId::new(array::from_fn(|place| random[place]));
        let first = match protocol.concurrency() {
            Concurrency::ETag => u64::from_ne_bytes(array::from_fn(|place| random[16 + place])),
            Concurrency::SequenceToken => 0,
        };
        let first = Revision::new(first);
        let session = Session::new(content, first, protocol, lifetime, now);

        let (mut inner, now) = self.enter(now);
        let displaced = inner.make_room(self.capacity, now)?;
        inner.put(id, session.clone());
        inner.counts.created += 1;
        drop(inner);
        if let Some(ended) = displaced {
            debug!("{ended}");
        }
        Ok((id, session))
    }

    /// The session as it is now, for a reader that fetches the payload; a sign
    /// of use.
    pub fn read(&self, id: SessionId, concurrency: Concurrency, now: Timestamp) -> Option<Session> {
        self.read_if(id, concurrency, now, |_| true)
    }

    /// The session as it is now, for a reader that fetches the payload unless
    /// it has this revision already, as `fetches` says; a sign of use. Only
    /// the first payload's fetch is recorded, so `fetches` is called, under
    /// the lock, until it was fetched or written over.
    pub fn read_if(
        &self,
        id: SessionId,
        concurrency: Concurrency,
        now: Timestamp,
        fetches: impl FnOnce(Revision) -> bool,
    ) -> Option<Session> {
        let (mut inner, now) = self.enter(now);
        let session = inner.live(id, concurrency, now)?;
        if session.is_untouched() && fetches(session.revision()) {
            session.set_fetched();
        }
        Some(session.clone())
    }

    /// The protocol of a session, and a sign of use.
    pub fn protocol(
        &self,
        id: SessionId,
        concurrency: Concurrency,
        now: Timestamp,
    ) -> Option<Protocol> {
        let (mut inner, now) = self.enter(now);
        Some(inner.live(id, concurrency, now)?.protocol())
    }

    /// Replaces the content of a tagged session if it is still at the
    /// revision `expected` (none: whatever the writer saw was never ours), in
    /// one step; returns the session as it is then. A sign of use either way.
    ///
    /// A write that comes again, because its answer was lost, is told the same
    /// and changes nothing: it names the revision just before the present one
    /// and brings the present content to the byte.
    ///
    /// # Errors
    /// [`WriteError`], and nothing has changed.
    pub fn write(
        &self,
        id: SessionId,
        expected: Option<Revision>,
        content: Content,
        now: Timestamp,
    ) -> Result<Session, WriteError> {
        let (mut inner, now) = self.enter(now);
        let Inner {
            sessions,
            expiries,
            counts,
            ..
        } = &mut *inner;
        let session =
            inner::live(sessions, id, Concurrency::ETag, now).ok_or(WriteError::NotFound)?;
        if expected != Some(session.revision()) {
            let repeated = expected.is_some_and(|before| session.has_written(before, &content));
            let present = session.clone();
            return if repeated {
                Ok(present)
            } else {
                Err(WriteError::Conflict(present))
            };
        }
        let old = inner::replace(expiries, counts, id, session, content, now);
        let written = session.clone();
        drop(inner);
        drop(old);
        Ok(written)
    }

    /// Ends a session; false if there was none.
    pub fn delete(&self, id: SessionId, concurrency: Concurrency, now: Timestamp) -> bool {
        let (mut inner, now) = self.enter(now);
        if inner.live(id, concurrency, now).is_none() {
            return false;
        }
        let ended = inner.end(id, Reason::Deleted, now);
        drop(inner);
        if let Some(ended) = &ended {
            debug!("{ended}");
        }
        ended.is_some()
    }

    /// Ends at most `limit` sessions that have expired and moves what they
    /// were to `gone`, which has room for them, for the caller to log and
    /// drop; false when no more are left. The limit bounds how long the lock
    /// is held.
    pub fn sweep(&self, now: Timestamp, limit: usize, gone: &mut Vec<Ended>) -> bool {
        let (mut inner, now) = self.enter(now);
        for _ in 0..limit {
            let Some(ended) = inner.end_expired(now) else {
                return false;
            };
            gone.push(ended);
        }
        true
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts {
            live: (inner.sessions.len() - inner.ended) as u64,
            ..inner.counts
        }
    }

    /// The lock, and a time that is not before any at which it was held:
    /// threads read the clock first and queue then, and an end that one of
    /// them has seen must stay one for all.
    fn enter(&self, now: Timestamp) -> (MutexGuard<'_, Inner>, Timestamp) {
        let mut inner = self.lock();
        inner.latest = inner.latest.max(now.monotonic_ms);
        let monotonic_ms = inner.latest;
        (
            inner,
            Timestamp {
                monotonic_ms,
                ..now
            },
        )
    }

    /// A panic elsewhere must not end the service: no operation here can
    /// panic half-way, so a poisoned lock still guards a sound state.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
