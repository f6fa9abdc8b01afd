//! What the store's lock guards, and the steps that are done under it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use lru::LruCache;

use super::candidate::Candidate;
use super::counts::Counts;
use super::ended::{Ended, Reason, Removed};
use super::errors::CreateError;
use super::lists::Number;
use super::owners::{Owner, Owners};
use super::records::Records;
use super::watches::Watches;
use crate::clock::{Timestamp, millis};
use crate::protocol::Concurrency;
use crate::session::{Content, EVICTION_GRACE, Session, SessionId};

/// Sessions by their end, in milliseconds on the monotonic clock.
type Expiries = BTreeSet<(u64, SessionId)>;

/// The most sessions in use that an eviction passes over.
const MAX_PASSED: usize = 16;

/// A session, and its number among those of its owner.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) session: Session,
    pub(super) number: Number,
}

/// The entries of sessions by use. Those that have ended are `None`.
pub(super) type Entries = LruCache<SessionId, Option<Entry>>;

#[derive(Debug)]
pub(super) struct Inner {
    /// Sessions by use. Those that have ended, `None`, stay as tombstones at
    /// the LRU end and are recycled one per insertion: when 100 000 of these
    /// small allocations are freed in a row, glibc coalesces them all at once
    /// on the way, and holds the lock for some 10 ms.
    pub(super) sessions: Entries,
    /// The number of tombstones.
    pub(super) ended: usize,
    /// The sessions that have not ended, soonest end first.
    pub(super) expiries: Expiries,
    /// The transactions of those sessions that have any.
    pub(super) transactions: BTreeMap<SessionId, Records>,
    pub(super) owners: Owners,
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
            owners: Owners::new(capacity),
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
        live(&mut self.sessions, &mut self.owners, id, concurrency, now)
    }

    /// Adds a session, as the most recently used.
    pub(super) fn put(&mut self, id: SessionId, session: Session, owner: Owner) {
        self.expiries.insert((session.expires_at, id));
        self.counts.bytes += size(&session.content);
        let number = self.owners.add(owner, id);
        self.sessions.put(id, Some(Entry { session, number }));
    }

    /// Makes a session the least recently used.
    pub(super) fn demote(&mut self, id: SessionId) {
        if let Some(Some(entry)) = self.sessions.peek(&id) {
            self.owners.demote(entry.number);
        }
        self.sessions.demote(&id);
    }

    /// Ends a session and leaves a tombstone; returns what to announce and what
    /// to drop.
    pub(super) fn end(
        &mut self,
        id: SessionId,
        reason: Reason,
        now: Timestamp,
    ) -> Option<(Removed, Content)> {
        let Entry { session, number } = self.sessions.peek_mut(&id)?.take()?;
        self.sessions.demote(&id);
        self.owners.remove(number);
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

    /// Makes sure that a session of `owner` can be added: takes out a tombstone
    /// if there is one. A full store without any ends a session first, an
    /// expired one or else by fair shares.
    pub(super) fn evict_for_new(
        &mut self,
        capacity: NonZeroUsize,
        owner: Owner,
        now: Timestamp,
    ) -> Result<Option<(Removed, Content)>, CreateError> {
        let mut displaced = None;
        if self.sessions.len() >= capacity.get() && self.ended == 0 {
            displaced = self.end_expired(now);
            if displaced.is_none() {
                displaced = self.evict(owner, now)?;
            }
        }
        if self.ended > 0 {
            self.sessions.pop_lru();
            self.ended -= 1;
        }
        Ok(displaced)
    }

    /// Ends a session for a new one of `owner`, if one may be evicted for it.
    fn evict(
        &mut self,
        owner: Owner,
        now: Timestamp,
    ) -> Result<Option<(Removed, Content)>, CreateError> {
        let candidate = self.owners.candidate(owner);
        let mut wait = millis(EVICTION_GRACE);
        for _ in 0..MAX_PASSED {
            let Some(id) = self.least_recent(candidate) else {
                return Ok(None);
            };
            // One that is watched is in use.
            let watched = self.watches.include(id);
            let protected = match (candidate, self.sessions.peek(&id)) {
                _ if watched => millis(EVICTION_GRACE),
                (Candidate::Heavier(_), _) => 0,
                (_, Some(Some(entry))) => entry.session.protected_for(now),
                _ => 0,
            };
            if protected == 0 {
                return Ok(self.end(id, Reason::Evicted, now));
            }
            wait = wait.min(protected);
            match candidate {
                Candidate::Siblings(tier, _) => self.owners.rotate(tier),
                _ if watched => {
                    use_session(&mut self.sessions, &mut self.owners, id, now);
                }
                // All others have been used since.
                _ => break,
            }
        }
        if let Candidate::Heavier(node) = candidate {
            return Ok(self.end(self.owners.least_recent(node), Reason::Evicted, now));
        }
        self.counts.full += 1;
        Err(CreateError::Full(wait))
    }

    fn least_recent(&self, candidate: Candidate) -> Option<SessionId> {
        match candidate {
            Candidate::Heavier(node) | Candidate::Own(node) => Some(self.owners.least_recent(node)),
            Candidate::Siblings(tier, level) => Some(self.owners.first_of_tier(tier, level)),
            Candidate::Any => self.sessions.peek_lru().map(|(id, _)| *id),
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
pub(super) fn live<'s>(
    sessions: &'s mut Entries,
    owners: &mut Owners,
    id: SessionId,
    concurrency: Concurrency,
    now: Timestamp,
) -> Option<&'s mut Session> {
    let session = &sessions.peek(&id)?.as_ref()?.session;
    if !session.is_live(now) || session.protocol.concurrency() != concurrency {
        return None;
    }
    use_session(sessions, owners, id, now)
}

/// Makes a session the most recently used.
fn use_session<'s>(
    sessions: &'s mut Entries,
    owners: &mut Owners,
    id: SessionId,
    now: Timestamp,
) -> Option<&'s mut Session> {
    let Entry { session, number } = sessions.get_mut(&id)?.as_mut()?;
    owners.promote(*number);
    session.last_used = now.monotonic_ms;
    Some(session)
}
