//! The store that all threads share.

use std::array;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::counts::Counts;
use super::ended::{Reason, Removed};
use super::errors::{CreateError, WriteError};
use super::inner::{self, Inner};
use super::owners::{Owner, Owners};
use super::records::{TRANSACTIONS_SIZE, TxnHasher};
use crate::clock::Timestamp;
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, Revision, Session, SessionId};

/// The most a session takes beside its blocks in the pool and its part of the
/// tree of owners, in bytes: map slot, list entry, index entries and what the
/// allocator adds. `tests/memory.rs` measures it.
pub const SESSION_OVERHEAD: usize = 350;

/// A sweep takes no further session once it has freed payloads of so many
/// bytes: it frees them under the lock, so that they and what comes in their
/// place are never there together.
pub const SWEEP_BYTES: usize = 256 * 1024;

/// All sessions, at most a given number of them.
#[derive(Debug)]
pub struct Store {
    pub(super) capacity: NonZeroUsize,
    pub(super) txn_hasher: TxnHasher,
    pub(super) inner: Mutex<Inner>,
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
        let sessions = (session as u64).saturating_mul(capacity.get() as u64);
        sessions.saturating_add(Owners::size(capacity) as u64)
    }

    /// Creates a session with a random id. A full store ends an expired
    /// session for it, or else evicts the least recently used one of the owner
    /// that holds most. Where nobody holds more than `owner` will, it evicts
    /// none that is [protected](Session::protected_for): a flood of new sessions
    /// takes none that people are using and have a fair share of.
    ///
    /// # Errors
    /// [`CreateError`], and nothing has changed.
    pub fn create(
        &self,
        content: Content,
        protocol: Protocol,
        lifetime: Duration,
        owner: Owner,
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
        let displaced = inner.evict_for_new(self.capacity, owner, now)?;
        inner.put(id, session.clone(), owner);
        inner.counts.created += 1;
        drop(inner);
        if let Some((removed, content)) = displaced {
            drop(content);
            removed.announce();
        }
        Ok((id, session))
    }

    /// The session as it is now; a use.
    pub fn read(&self, id: SessionId, concurrency: Concurrency, now: Timestamp) -> Option<Session> {
        let (mut inner, now) = self.enter(now);
        inner.live(id, concurrency, now).cloned()
    }

    /// Records that the first payload was fetched. Only the
    /// [outcome](crate::outcome::Outcome) depends on it.
    pub fn note_fetch(&self, id: SessionId) {
        if let Some(Some(entry)) = self.lock().sessions.peek_mut(&id) {
            entry.session.first_fetched = true;
        }
    }

    /// Replaces the content of a session with ETags if it is still at the
    /// revision `expected` (none: whatever the writer saw was never ours), in
    /// one step; returns the session as it is then. A use either way.
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
        self.write_with(id, expected, now, |_| Ok(content))
    }

    /// The same with content that depends on the session's protocol. It is made
    /// under the lock.
    ///
    /// # Errors
    /// [`WriteError`], and nothing has changed.
    pub fn write_with<E>(
        &self,
        id: SessionId,
        expected: Option<Revision>,
        now: Timestamp,
        content: impl FnOnce(Protocol) -> Result<Content, E>,
    ) -> Result<Session, WriteError<E>> {
        let (mut inner, now) = self.enter(now);
        let Inner {
            sessions,
            expiries,
            counts,
            watches,
            owners,
            ..
        } = &mut *inner;
        let session = inner::live(sessions, owners, id, Concurrency::ETag, now)
            .ok_or(WriteError::NotFound)?;
        let content = content(session.protocol).map_err(WriteError::Refused)?;
        if expected != Some(session.revision) {
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
        let to_wake = watches.take(id);
        drop(inner);
        drop(old);
        to_wake.wake();
        Ok(written)
    }

    /// Ends a session; returns its protocol if there was one.
    pub fn delete(
        &self,
        id: SessionId,
        concurrency: Concurrency,
        now: Timestamp,
    ) -> Option<Protocol> {
        let (mut inner, now) = self.enter(now);
        inner.live(id, concurrency, now)?;
        let ended = inner.end(id, Reason::Deleted, now);
        drop(inner);
        let (removed, content) = ended?;
        drop(content);
        let protocol = removed.ended.protocol;
        removed.announce();
        Some(protocol)
    }

    /// Ends sessions that have expired, at most `limit` of them, and adds them
    /// to `gone`, which has room for it; false when no more are left. The limit
    /// and [`SWEEP_BYTES`] bound how long the lock is held.
    pub fn sweep(&self, now: Timestamp, limit: usize, gone: &mut Vec<Removed>) -> bool {
        let (mut inner, now) = self.enter(now);
        let mut bytes = 0;
        for _ in 0..limit {
            let Some((removed, _)) = inner.end_expired(now) else {
                return false;
            };
            bytes += removed.ended.bytes;
            gone.push(removed);
            if bytes >= SWEEP_BYTES {
                break;
            }
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
    pub(super) fn enter(&self, now: Timestamp) -> (MutexGuard<'_, Inner>, Timestamp) {
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
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
