//! What the store's lock guards, and the steps that are done under it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use lru::LruCache;

use super::{Counts, CreateError, Ended, Reason, Records};
use crate::clock::Timestamp;
use crate::protocol::Concurrency;
use crate::session::{Content, Session, SessionId};

/// A quarter of a second, near enough: fine for a sweep, and in 32 bits it
/// lasts for 34 years of uptime and saves every session 8 bytes of index.
type Tick = u32;

/// The first tick at whose beginning a session with this end is gone.
fn tick(expires: u64) -> Tick {
    Tick::try_from(expires.div_ceil(256)).unwrap_or(Tick::MAX)
}

#[derive(Debug)]
pub(super) struct Inner {
    /// Sessions by use. Entries of ended ones come first and are given up
    /// one by one as new sessions come: freeing a million of them in a row,
    /// small as they are, makes glibc's allocator stop for 160 ms somewhere
    /// on the way, and the lock with it.
    pub(super) sessions: LruCache<SessionId, Session>,
    /// How many of them have ended.
    pub(super) ended: usize,
    /// All that have not, soonest end first.
    pub(super) expiries: BTreeSet<(Tick, SessionId)>,
    /// The transactions of those sessions that have any.
    pub(super) transactions: BTreeMap<SessionId, Records>,
    pub(super) counts: Counts,
    /// The latest time at which something was asked.
    pub(super) latest: u64,
}

impl Inner {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        // Room for twice as many: below half full, a removal rarely leaves a
        // tombstone behind, so the table never grows, and it is tidied in
        // place, with the lock held, once in tens of millions of sessions
        // at worst; that takes some 10 ms for a million of them.
        let room = capacity.saturating_add(capacity.get());
        Self {
            sessions: LruCache::new(room),
            ended: 0,
            expiries: BTreeSet::new(),
            transactions: BTreeMap::new(),
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
        self.expiries.insert((tick(session.expires()), id));
        self.counts.bytes += size(&session.content());
        self.sessions.put(id, session);
    }

    /// Ends a session. Its entry stays, at the least recently used side,
    /// until the next session takes its place.
    pub(super) fn end(&mut self, id: SessionId, reason: Reason, now: Timestamp) -> Option<Ended> {
        let session = self.sessions.peek_mut(&id)?;
        self.expiries.remove(&(tick(session.expires()), id));
        if session.protocol().concurrency() == Concurrency::SequenceToken {
            self.transactions.remove(&id);
        }
        let ended = Ended::new(session, reason, now);
        self.sessions.demote(&id);
        self.ended += 1;
        self.counts.end(&ended);
        Some(ended)
    }

    pub(super) fn end_expired(&mut self, now: Timestamp) -> Option<Ended> {
        let &(end, id) = self.expiries.first()?;
        if u64::from(end) * 256 > now.monotonic_ms {
            return None;
        }
        self.end(id, Reason::Expired, now)
    }

    /// Sees to it that an entry can be added.
    pub(super) fn make_room(
        &mut self,
        capacity: NonZeroUsize,
        now: Timestamp,
    ) -> Result<Option<Ended>, CreateError> {
        let mut displaced = None;
        if self.sessions.len() >= capacity.get() && self.ended == 0 {
            displaced = self.end_expired(now);
            if displaced.is_none() {
                displaced = self.end_idle(now)?;
            }
        }
        if self.ended > 0 {
            self.sessions.pop_lru();
            self.ended -= 1;
        }
        Ok(displaced)
    }

    /// Ends the least recently used session if it is not busy.
    fn end_idle(&mut self, now: Timestamp) -> Result<Option<Ended>, CreateError> {
        let Some((&id, session)) = self.sessions.peek_lru() else {
            return Ok(None);
        };
        let busy = session.busy(now);
        if busy > 0 {
            self.counts.full += 1;
            return Err(CreateError::Full(busy));
        }
        Ok(self.end(id, Reason::Evicted, now))
    }
}

impl Counts {
    fn end(&mut self, ended: &Ended) {
        let session = &ended.session;
        self.bytes -= size(&session.content);
        self.ended.count(session.protocol, ended.outcome());
    }
}

fn size(content: &Content) -> u64 {
    content.len() as u64
}

/// Replaces a session's content, and its place among the expiries if the
/// write moved its end; returns the old content.
pub(super) fn replace(
    expiries: &mut BTreeSet<(Tick, SessionId)>,
    counts: &mut Counts,
    id: SessionId,
    session: &mut Session,
    content: Content,
    now: Timestamp,
) -> Content {
    let before = tick(session.expires());
    counts.bytes += size(&content);
    let old = session.replace(content, now);
    counts.bytes -= size(&old);
    let after = tick(session.expires());
    if after != before {
        expiries.remove(&(before, id));
        expiries.insert((after, id));
    }
    old
}

/// The session if it has not ended, moved to the recently used side.
pub(super) fn live(
    sessions: &mut LruCache<SessionId, Session>,
    id: SessionId,
    concurrency: Concurrency,
    now: Timestamp,
) -> Option<&mut Session> {
    let session = sessions.peek(&id)?;
    if !session.is_live(now) || session.protocol().concurrency() != concurrency {
        return None;
    }
    let session = sessions.get_mut(&id)?;
    session.touch(now);
    Some(session)
}
