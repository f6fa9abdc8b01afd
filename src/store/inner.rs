//! What the store's lock guards, and the steps that are done under it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use lru::LruCache;

use super::counts::Counts;
use super::ended::{Ended, Reason, Removed};
use super::errors::CreateError;
use super::records::Records;
use super::watches::Watches;
use crate::clock::Timestamp;
use crate::protocol::Concurrency;
use crate::session::{Content, Session, SessionId};

/// Sessions by their end, in milliseconds on the monotonic clock.
type Expiries = BTreeSet<(u64, SessionId)>;

#[derive(Debug)]
pub(super) struct Inner {
    /// Sessions by use. Those that have ended, `None`, stay as tombstones at
    /// the LRU end and are recycled one per insertion: when 100 000 of these
    /// small allocations are freed in a row, glibc coalesces them all at once
    /// on the way, and holds the lock for some 10 ms.
    pub(super) sessions: LruCache<SessionId, Option<Session>>,
    /// The number of tombstones.
    pub(super) ended: usize,
    /// The sessions that have not ended, soonest end first.
    pub(super) expiries: Expiries,
    /// The transactions of those sessions that have any.
    pub(super) transactions: BTreeMap<SessionId, Records>,
    pub(super) watches: Watches,
    pub(super) counts: Counts,
    /// The latest time at which something was asked.
    pub(super) latest: u64,
}

impl Inner {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        // Room for twice as many: below half full, a removal hardly ever leaves
        // a mark in the hash table that only rehashing clears. With room for
        // just as many, the marks of some ten thousand deletions fill it, and
        // it doubles with the lock held, 0.5 ms for 10 000 sessions.
        let room = capacity.saturating_add(capacity.get());
        Self {
            sessions: LruCache::new(room),
            ended: 0,
            expiries: BTreeSet::new(),
            transactions: BTreeMap::new(),
            watches: Watches::default(),
            counts: Counts::default(),
            latest: 0,
        }
    }

    pub(super) fn live(
        &mut self,
        id: SessionId,
        concurrency: Concurrency,
        now: Timestamp,
    ) -> Option<&mut Session> {
        live(&mut self.sessions, id, concurrency, now)
    }

    /// Adds a session, as the most recently used.
    pub(super) fn put(&mut self, id: SessionId, session: Session) {
        self.expiries.insert((session.expires_at, id));
        self.counts.bytes += size(&session.content);
        self.sessions.put(id, Some(session));
    }

    /// Ends a session and leaves a tombstone; returns what to announce and what
    /// to drop.
    pub(super) fn end(
        &mut self,
        id: SessionId,
        reason: Reason,
        now: Timestamp,
    ) -> Option<(Removed, Content)> {
        let session = self.sessions.peek_mut(&id)?.take()?;
        self.sessions.demote(&id);
        self.ended += 1;
        self.expiries.remove(&(session.expires_at, id));
        if session.protocol.concurrency() == Concurrency::SequenceToken {
            self.transactions.remove(&id);
        }
        let ended = Ended::new(&session, reason, now);
        self.counts.end(&ended);
        let to_wake = self.watches.take(id);
        Some((Removed { ended, to_wake }, session.content))
    }

    pub(super) fn end_expired(&mut self, now: Timestamp) -> Option<(Removed, Content)> {
        let &(expires_at, id) = self.expiries.first()?;
        if expires_at > now.monotonic_ms {
            return None;
        }
        self.end(id, Reason::Expired, now)
    }

    /// Makes sure that an entry can be added: takes out a tombstone if there is
    /// one. A full store without any ends a session first, an expired one or
    /// else the least recently used.
    pub(super) fn evict_for_new(
        &mut self,
        capacity: NonZeroUsize,
        now: Timestamp,
    ) -> Result<Option<(Removed, Content)>, CreateError> {
        let mut displaced = None;
        if self.sessions.len() >= capacity.get() && self.ended == 0 {
            displaced = self.end_expired(now);
            if displaced.is_none() {
                displaced = self.evict_idle(now)?;
            }
        }
        if self.ended > 0 {
            self.sessions.pop_lru();
            self.ended -= 1;
        }
        Ok(displaced)
    }

    /// Ends the least recently used session if it is not protected. One that is
    /// watched is in use: it becomes the most recently used, so each is passed
    /// over once in [`EVICTION_GRACE`](crate::session::EVICTION_GRACE).
    fn evict_idle(&mut self, now: Timestamp) -> Result<Option<(Removed, Content)>, CreateError> {
        loop {
            let Some((&id, Some(session))) = self.sessions.peek_lru() else {
                return Ok(None);
            };
            let protected = session.protected_for(now);
            if protected > 0 {
                self.counts.full += 1;
                return Err(CreateError::Full(protected));
            }
            if !self.watches.include(id) {
                return Ok(self.end(id, Reason::Evicted, now));
            }
            if let Some(Some(session)) = self.sessions.get_mut(&id) {
                session.last_used = now.monotonic_ms;
            }
        }
    }
}

fn size(content: &Content) -> u64 {
    content.len() as u64
}

/// Replaces a session's content, and its place among the expiries if the
/// write moved its end; returns the old content.
pub(super) fn replace(
    expiries: &mut Expiries,
    counts: &mut Counts,
    id: SessionId,
    session: &mut Session,
    content: Content,
    now: Timestamp,
) -> Content {
    let before = session.expires_at;
    counts.bytes += size(&content);
    let old = session.replace(content, now);
    counts.bytes -= size(&old);
    if session.expires_at != before {
        expiries.remove(&(before, id));
        expiries.insert((session.expires_at, id));
    }
    old
}

/// The session if it has not ended, moved to the recently used side.
pub(super) fn live(
    sessions: &mut LruCache<SessionId, Option<Session>>,
    id: SessionId,
    concurrency: Concurrency,
    now: Timestamp,
) -> Option<&mut Session> {
    let session = sessions.peek(&id)?.as_ref()?;
    if !session.is_live(now) || session.protocol.concurrency() != concurrency {
        return None;
    }
    let session = sessions.get_mut(&id)?.as_mut()?;
    session.last_used = now.monotonic_ms;
    Some(session)
}
