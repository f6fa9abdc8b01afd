//! The sessions of the server: one mutex around an LRU map and an index of
//! expiries. Nothing here reads a clock or knows a protocol.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::clock::Moment;
use crate::session::{Content, Lifetime, Revision, Session, SessionId};

/// The most a session takes beside its payload, in bytes: map slot, list
/// entry, index entry and allocator overhead. `tests/memory.rs` measures it.
pub const SESSION_OVERHEAD: u64 = 250;

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
    /// Sessions ended by a delete.
    pub deleted: u64,
    /// Sessions swept after their expiry.
    pub expired: u64,
    /// Sessions pushed out by newer ones.
    pub evicted: u64,
    /// Sessions held now, those that expired and were not swept included.
    pub live: u64,
}

/// All sessions, at most a given number of them.
#[derive(Debug)]
pub struct Store {
    capacity: usize,
    inner: Mutex<Inner>,
}

/// A quarter of a second, near enough: fine for a sweep, and in 32 bits it
/// lasts for 34 years of uptime and saves every session 8 bytes of index.
type Tick = u32;

/// The first tick at whose beginning a session with this end is gone.
fn tick(expires: u64) -> Tick {
    Tick::try_from(expires.div_ceil(256)).unwrap_or(Tick::MAX)
}

#[derive(Debug)]
struct Inner {
    /// Sessions by use. Entries of ended ones come first and are given up
    /// one by one as new sessions come: freeing a million of them in a row,
    /// small as they are, makes glibc's allocator stop for 160 ms somewhere
    /// on the way, and the lock with it.
    sessions: LruCache<SessionId, Session>,
    /// How many of them have ended.
    ended: usize,
    /// All that have not, soonest end first.
    expiries: BTreeSet<(Tick, SessionId)>,
    counts: Counts,
}

impl Store {
    /// An empty store for at most `capacity` sessions.
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        // Room for twice as many: below half full, removals leave hardly a
        // tombstone behind, so the table neither grows nor rehashes while
        // the lock is held, which at a million sessions takes 30 ms.
        let room = capacity.saturating_add(capacity.get());
        Self {
            capacity: capacity.get(),
            inner: Mutex::new(Inner {
                sessions: LruCache::new(room),
                ended: 0,
                expiries: BTreeSet::new(),
                counts: Counts::default(),
            }),
        }
    }

    /// The most memory that `capacity` sessions with payloads of `payload`
    /// bytes can take, in bytes.
    #[must_use]
    pub fn ceiling(capacity: NonZeroUsize, payload: usize) -> u64 {
        let session = payload as u64 + Content::MAX_TYPE as u64 + SESSION_OVERHEAD;
        session.saturating_mul(capacity.get() as u64)
    }

    /// Makes a session with a random id. A full store gives up an expired
    /// session for it, or else the least recently used one.
    ///
    /// # Errors
    /// When the operating system has no random numbers to give.
    pub fn create(
        &self,
        content: Content,
        lifetime: Lifetime,
        now: Moment,
    ) -> Result<(SessionId, Session), getrandom::Error> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        let id = SessionId::new(bits);
        let session = Session::new(content, Revision::new(getrandom::u64()?), lifetime, now);

        let mut inner = self.lock();
        let displaced = inner.make_room(self.capacity, now);
        inner.expiries.insert((tick(session.expires()), id));
        inner.sessions.put(id, session.clone());
        inner.counts.created += 1;
        drop(inner);
        drop(displaced);
        Ok((id, session))
    }

    /// The session as it is now, and a sign of use.
    pub fn read(&self, id: SessionId, now: Moment) -> Option<Session> {
        self.lock().live(id, now).cloned()
    }

    /// Replaces the content if the session is still at the revision
    /// `expected` (none: whatever the writer saw was never ours), in one
    /// step; returns the session as it is then. A sign of use either way.
    ///
    /// # Errors
    /// [`WriteError`], and nothing has changed.
    pub fn write(
        &self,
        id: SessionId,
        expected: Option<Revision>,
        content: Content,
        now: Moment,
    ) -> Result<Session, WriteError> {
        let mut inner = self.lock();
        let Some(session) = inner.live(id, now) else {
            return Err(WriteError::NotFound);
        };
        if expected != Some(session.revision()) {
            return Err(WriteError::Conflict(session.clone()));
        }
        let before = tick(session.expires());
        let old = session.replace(content, now);
        let written = session.clone();
        let after = tick(written.expires());
        if after != before {
            inner.expiries.remove(&(before, id));
            inner.expiries.insert((after, id));
        }
        drop(inner);
        drop(old);
        Ok(written)
    }

    /// Ends a session; false if there was none.
    pub fn delete(&self, id: SessionId, now: Moment) -> bool {
        let mut inner = self.lock();
        if inner.live(id, now).is_none() {
            return false;
        }
        let content = inner.end(id);
        inner.counts.deleted += 1;
        drop(inner);
        content.is_some()
    }

    /// Ends at most `limit` sessions that have expired and moves their
    /// contents to `gone`, which has room for them, for the caller to drop;
    /// false when no more are left. The limit bounds how long the lock is
    /// held.
    pub fn sweep(&self, now: Moment, limit: usize, gone: &mut Vec<Content>) -> bool {
        let mut inner = self.lock();
        for _ in 0..limit {
            let Some(content) = inner.end_expired(now) else {
                return false;
            };
            gone.push(content);
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

    /// A panic elsewhere must not end the service: no operation here can
    /// panic half-way, so a poisoned lock still guards a sound state.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The session if it has not ended, moved to the recently used side.
    fn live(&mut self, id: SessionId, now: Moment) -> Option<&mut Session> {
        if !self.sessions.peek(&id)?.is_live(now) {
            return None;
        }
        self.sessions.get_mut(&id)
    }

    /// Ends a session. Its entry stays, at the least recently used side,
    /// until the next session takes its place.
    fn end(&mut self, id: SessionId) -> Option<Content> {
        let session = self.sessions.peek_mut(&id)?;
        self.expiries.remove(&(tick(session.expires()), id));
        let content = session.end();
        self.sessions.demote(&id);
        self.ended += 1;
        Some(content)
    }

    fn end_expired(&mut self, now: Moment) -> Option<Content> {
        let &(end, id) = self.expiries.first()?;
        if u64::from(end) * 256 > now.steady {
            return None;
        }
        self.counts.expired += 1;
        self.end(id)
    }

    /// Sees to it that an entry can be added.
    fn make_room(&mut self, capacity: usize, now: Moment) -> Option<Content> {
        let mut displaced = None;
        if self.sessions.len() >= capacity && self.ended == 0 {
            displaced = self.end_expired(now).or_else(|| {
                let (&id, _) = self.sessions.peek_lru()?;
                self.counts.evicted += 1;
                self.end(id)
            });
        }
        if self.ended > 0 {
            self.sessions.pop_lru();
            self.ended -= 1;
        }
        displaced
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    const TTL: Lifetime = Lifetime::SinceWrite(Duration::from_secs(60));

    fn at(steady: u64) -> Moment {
        Moment { steady, wall: 0 }
    }

    fn text(text: &str) -> Content {
        Content::new(text.as_bytes(), "text/plain").unwrap()
    }

    fn store(capacity: usize) -> Store {
        Store::new(NonZeroUsize::new(capacity).unwrap())
    }

    /// Sweeps once and says how many went.
    fn sweep(store: &Store, now: Moment, limit: usize) -> usize {
        let mut gone = Vec::new();
        store.sweep(now, limit, &mut gone);
        gone.len()
    }

    #[test]
    fn a_session_lives_through_create_read_write_delete() {
        let store = store(10);
        let (id, first) = store.create(text("a"), TTL, at(0)).unwrap();
        assert_eq!(store.read(id, at(1)).unwrap().content(), text("a"));
        let second = store.write(id, Some(first.revision()), text("b"), at(2));
        assert_ne!(second.unwrap().revision(), first.revision());
        assert_eq!(store.read(id, at(3)).unwrap().content(), text("b"));
        assert!(store.delete(id, at(4)));
        assert!(!store.delete(id, at(4)));
        assert!(store.read(id, at(5)).is_none());
        let counts = store.counts();
        assert_eq!((counts.created, counts.deleted, counts.live), (1, 1, 0));
    }

    #[test]
    fn a_stale_or_foreign_revision_changes_nothing() {
        let store = store(10);
        let (id, first) = store.create(text("a"), TTL, at(0)).unwrap();
        let second = store
            .write(id, Some(first.revision()), text("b"), at(0))
            .unwrap();
        for expected in [Some(first.revision()), None] {
            match store.write(id, expected, text("c"), at(0)) {
                Err(WriteError::Conflict(now)) => assert_eq!(now.revision(), second.revision()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(store.read(id, at(0)).unwrap().content(), text("b"));
    }

    #[test]
    fn an_expired_session_is_gone_at_once_and_swept_later() {
        let store = store(10);
        let (id, first) = store.create(text("a"), TTL, at(0)).unwrap();
        assert!(store.read(id, at(59_999)).is_some());
        let end = at(60_000);
        assert!(store.read(id, end).is_none());
        assert!(!store.delete(id, end));
        let write = store.write(id, Some(first.revision()), text("b"), end);
        assert!(matches!(write, Err(WriteError::NotFound)));
        assert_eq!(store.counts().live, 1);
        assert_eq!(sweep(&store, at(60_256), 100), 1);
        assert_eq!(store.counts().live, 0);
        assert_eq!(store.counts().expired, 1);
    }

    #[test]
    fn a_write_moves_the_expiry_in_the_index_too() {
        let store = store(10);
        let (id, first) = store.create(text("a"), TTL, at(0)).unwrap();
        store
            .write(id, Some(first.revision()), text("b"), at(30_000))
            .unwrap();
        assert_eq!(sweep(&store, at(89_999), 100), 0);
        assert_eq!(sweep(&store, at(90_256), 100), 1);
    }

    #[test]
    fn a_sweep_stops_at_its_limit() {
        let store = store(10);
        for _ in 0..7 {
            store.create(text("a"), TTL, at(0)).unwrap();
        }
        assert_eq!(sweep(&store, at(60_256), 5), 5);
        assert_eq!(sweep(&store, at(60_256), 5), 2);
    }

    #[test]
    fn a_full_store_evicts_what_was_not_used_for_longest() {
        let store = store(2);
        let (old, _) = store.create(text("a"), TTL, at(0)).unwrap();
        let (idle, _) = store.create(text("b"), TTL, at(1)).unwrap();
        store.read(old, at(2));
        let (new, _) = store.create(text("c"), TTL, at(3)).unwrap();
        assert!(store.read(old, at(4)).is_some());
        assert!(store.read(idle, at(4)).is_none());
        assert!(store.read(new, at(4)).is_some());
        assert_eq!(store.counts().evicted, 1);
    }

    #[test]
    fn ended_sessions_make_room_before_any_live_one() {
        let store = store(3);
        let (one, _) = store.create(text("a"), TTL, at(0)).unwrap();
        let (two, _) = store.create(text("b"), TTL, at(0)).unwrap();
        let (three, _) = store.create(text("c"), TTL, at(0)).unwrap();
        store.delete(three, at(1));
        store.delete(two, at(1));
        // Asking for what has ended does not keep its entry.
        assert!(store.read(two, at(2)).is_none());
        assert!(!store.delete(two, at(2)));
        store.create(text("d"), TTL, at(3)).unwrap();
        store.create(text("e"), TTL, at(3)).unwrap();
        assert!(store.read(one, at(4)).is_some());
        assert_eq!((store.counts().evicted, store.counts().live), (0, 3));
    }

    #[test]
    fn a_full_store_gives_up_expired_sessions_first() {
        let store = store(2);
        let short = Lifetime::SinceWrite(Duration::from_secs(1));
        let (live, _) = store.create(text("a"), TTL, at(0)).unwrap();
        let (dead, _) = store.create(text("b"), short, at(0)).unwrap();
        store.read(dead, at(10));
        store.create(text("c"), TTL, at(2_000)).unwrap();
        assert!(store.read(live, at(2_000)).is_some());
        assert_eq!(store.counts().evicted, 0);
    }

    #[test]
    fn equal_payloads_have_different_revisions() {
        let store = store(2);
        let (_, one) = store.create(text("a"), TTL, at(0)).unwrap();
        let (_, two) = store.create(text("a"), TTL, at(0)).unwrap();
        assert_ne!(one.revision(), two.revision());
    }

    #[test]
    fn a_payload_is_freed_at_once_when_its_session_lets_go_of_it() {
        let held = |content: Content| Arc::downgrade(&content.shared());
        let store = store(1);
        let (id, first) = store.create(text("a"), TTL, at(0)).unwrap();
        let (a, revision) = (held(first.content()), first.revision());
        drop(first);
        assert!(a.upgrade().is_some());

        let second = store.write(id, Some(revision), text("b"), at(0)).unwrap();
        assert!(a.upgrade().is_none(), "replaced");
        let b = held(second.content());
        drop(second);

        let (id, third) = store.create(text("c"), TTL, at(0)).unwrap();
        assert!(b.upgrade().is_none(), "evicted");
        let c = held(third.content());
        drop(third);
        store.delete(id, at(0));
        assert!(c.upgrade().is_none(), "deleted");

        let (_, last) = store.create(text("d"), TTL, at(0)).unwrap();
        let d = held(last.content());
        drop(last);
        sweep(&store, at(60_256), 1);
        assert!(d.upgrade().is_none(), "expired");
    }
}
