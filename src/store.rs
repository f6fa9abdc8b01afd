//! The sessions of the server: one mutex around an LRU map and an index of
//! expiries. Nothing here reads a clock or knows a protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::clock::Moment;
use crate::session::{Content, Family, Protocol, Revision, Session, SessionId};

/// The most a session takes beside its payload, in bytes: map slot, list
/// entry, index entry and allocator overhead. `tests/memory.rs` measures it.
pub const SESSION_OVERHEAD: u64 = 250;

/// Transactions recorded a session. A sign-in takes ten writes at most.
pub const MAX_TRANSACTIONS: usize = 64;

/// The most that the recorded transactions of a session take, in bytes: 16
/// each, and their list's place in an index that may be half empty.
pub const TRANSACTIONS_SIZE: u64 = 16 * MAX_TRANSACTIONS as u64 + 112;

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

/// What a writer of the sequenced family asks for.
#[derive(Clone, Copy, Debug)]
pub struct Sequenced<'a> {
    /// The revision that the writer thinks is the present one; none if it
    /// named what cannot be one.
    pub expected: Option<Revision>,
    /// The name under which the outcome is recorded and found again.
    pub transaction: Option<&'a str>,
}

/// Why a write in sequence was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceError {
    /// No such session, or none any more.
    NotFound,
    /// The session is, or was when this transaction came first, at another
    /// revision.
    Conflict,
    /// [`MAX_TRANSACTIONS`] are recorded already.
    TooMany,
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
    /// Sessions not made because all others were in use.
    pub full: u64,
    /// Sessions held now, those that expired and were not swept included.
    pub live: u64,
}

/// All sessions, at most a given number of them.
#[derive(Debug)]
pub struct Store {
    capacity: usize,
    /// Turns transactions' names into numbers that nobody can foresee, so
    /// that a record takes 16 bytes, not up to 270.
    names: RandomState,
    inner: Mutex<Inner>,
}

/// A quarter of a second, near enough: fine for a sweep, and in 32 bits it
/// lasts for 34 years of uptime and saves every session 8 bytes of index.
type Tick = u32;

/// The first tick at whose beginning a session with this end is gone.
fn tick(expires: u64) -> Tick {
    Tick::try_from(expires.div_ceil(256)).unwrap_or(Tick::MAX)
}

/// A transaction: the number of its name, and the revision that it made or
/// nothing for a conflict.
type Record = (u64, Option<NonZeroU64>);

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
    /// The transactions of those sessions that have any.
    transactions: BTreeMap<SessionId, Vec<Record>>,
    counts: Counts,
}

impl Store {
    /// An empty store for at most `capacity` sessions.
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        // Room for twice as many: below half full, a removal rarely leaves a
        // tombstone behind, so the table never grows, and it is tidied in
        // place, with the lock held, once in tens of millions of sessions
        // at worst; that takes some 10 ms for a million of them.
        let room = capacity.saturating_add(capacity.get());
        Self {
            capacity: capacity.get(),
            names: RandomState::new(),
            inner: Mutex::new(Inner {
                sessions: LruCache::new(room),
                ended: 0,
                expiries: BTreeSet::new(),
                transactions: BTreeMap::new(),
                counts: Counts::default(),
            }),
        }
    }

    /// The most memory that `capacity` sessions with payloads of `payload`
    /// bytes can take, in bytes.
    #[must_use]
    pub fn ceiling(capacity: NonZeroUsize, payload: usize) -> u64 {
        let beside = Content::MAX_TYPE as u64 + SESSION_OVERHEAD + TRANSACTIONS_SIZE;
        let session = payload as u64 + beside;
        session.saturating_mul(capacity.get() as u64)
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
        now: Moment,
    ) -> Result<(SessionId, Session), CreateError> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(|_| CreateError::NoRandomness)?;
        let id = SessionId::new(bits);
        let first = match protocol.family() {
            Family::Tagged => getrandom::u64().map_err(|_| CreateError::NoRandomness)?,
            Family::Sequenced => 0,
        };
        let first = Revision::new(first);
        let session = Session::new(content, first, protocol, lifetime, now);

        let mut inner = self.lock();
        let displaced = inner.make_room(self.capacity, now)?;
        inner.expiries.insert((tick(session.expires()), id));
        inner.sessions.put(id, session.clone());
        inner.counts.created += 1;
        drop(inner);
        drop(displaced);
        Ok((id, session))
    }

    /// The session as it is now, and a sign of use.
    pub fn read(&self, id: SessionId, family: Family, now: Moment) -> Option<Session> {
        self.lock().live(id, family, now).cloned()
    }

    /// Replaces the content of a tagged session if it is still at the
    /// revision `expected` (none: whatever the writer saw was never ours), in
    /// one step; returns the session as it is then. A sign of use either way.
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
        let Inner {
            sessions, expiries, ..
        } = &mut *inner;
        let session = live(sessions, id, Family::Tagged, now).ok_or(WriteError::NotFound)?;
        if expected != Some(session.revision()) {
            return Err(WriteError::Conflict(session.clone()));
        }
        let old = replace(expiries, id, session, content, now);
        let written = session.clone();
        drop(inner);
        drop(old);
        Ok(written)
    }

    /// Replaces the content of a sequenced session if it is still at the
    /// revision expected, in one step; returns the revision then present.
    ///
    /// A transaction's outcome, success or conflict, is recorded while the
    /// session lives, and is the answer when it comes again, whatever it
    /// brings then (MSC4388). Without a transaction, a repeated write is
    /// known by a stale revision and by bringing just what is there.
    ///
    /// # Errors
    /// [`SequenceError`], and nothing but the record has changed.
    pub fn write_in_sequence(
        &self,
        id: SessionId,
        write: Sequenced<'_>,
        content: Content,
        now: Moment,
    ) -> Result<Revision, SequenceError> {
        let name = write.transaction.map(|name| self.names.hash_one(name));
        let mut inner = self.lock();
        let Inner {
            sessions,
            expiries,
            transactions,
            ..
        } = &mut *inner;
        let session = live(sessions, id, Family::Sequenced, now).ok_or(SequenceError::NotFound)?;
        if let Some(name) = name {
            let recorded = transactions.get(&id).map_or(&[][..], Vec::as_slice);
            if let Some(outcome) = outcome_of(recorded, name) {
                return outcome;
            }
            if recorded.len() >= MAX_TRANSACTIONS {
                return Err(SequenceError::TooMany);
            }
        }
        let present = session.revision();
        let mut old = None;
        let outcome = if write.expected == Some(present) {
            old = Some(replace(expiries, id, session, content, now));
            Ok(session.revision())
        } else if name.is_none()
            && write
                .expected
                .is_some_and(|stale| stale.number() < present.number())
            && session.content().payload() == content.payload()
        {
            Ok(present)
        } else {
            Err(SequenceError::Conflict)
        };
        if let Some(name) = name {
            let made = outcome.ok().and_then(|made| NonZeroU64::new(made.number()));
            // All the room at once: growing lists between growing payloads
            // leave holes that nothing fits in.
            let room = || Vec::with_capacity(MAX_TRANSACTIONS);
            let recorded = transactions.entry(id).or_insert_with(room);
            recorded.push((name, made));
        }
        drop(inner);
        drop(old);
        outcome
    }

    /// The outcome of a transaction that has been recorded.
    pub fn recorded(
        &self,
        id: SessionId,
        transaction: &str,
        now: Moment,
    ) -> Option<Result<Revision, SequenceError>> {
        let name = self.names.hash_one(transaction);
        let mut inner = self.lock();
        inner.live(id, Family::Sequenced, now)?;
        outcome_of(inner.transactions.get(&id)?, name)
    }

    /// Ends a session; false if there was none.
    pub fn delete(&self, id: SessionId, family: Family, now: Moment) -> bool {
        let mut inner = self.lock();
        if inner.live(id, family, now).is_none() {
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
    fn live(&mut self, id: SessionId, family: Family, now: Moment) -> Option<&mut Session> {
        live(&mut self.sessions, id, family, now)
    }

    /// Ends a session. Its entry stays, at the least recently used side,
    /// until the next session takes its place.
    fn end(&mut self, id: SessionId) -> Option<Content> {
        let session = self.sessions.peek_mut(&id)?;
        self.expiries.remove(&(tick(session.expires()), id));
        if session.protocol().family() == Family::Sequenced {
            self.transactions.remove(&id);
        }
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
    fn make_room(&mut self, capacity: usize, now: Moment) -> Result<Option<Content>, CreateError> {
        let mut displaced = None;
        if self.sessions.len() >= capacity && self.ended == 0 {
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
    fn end_idle(&mut self, now: Moment) -> Result<Option<Content>, CreateError> {
        let Some((&id, session)) = self.sessions.peek_lru() else {
            return Ok(None);
        };
        let busy = session.busy(now);
        if busy > 0 {
            self.counts.full += 1;
            return Err(CreateError::Full(busy));
        }
        self.counts.evicted += 1;
        Ok(self.end(id))
    }
}

/// Replaces a session's content, and its place among the expiries if the
/// write moved its end; returns the old content.
fn replace(
    expiries: &mut BTreeSet<(Tick, SessionId)>,
    id: SessionId,
    session: &mut Session,
    content: Content,
    now: Moment,
) -> Content {
    let before = tick(session.expires());
    let old = session.replace(content, now);
    let after = tick(session.expires());
    if after != before {
        expiries.remove(&(before, id));
        expiries.insert((after, id));
    }
    old
}

/// What is recorded under a name.
fn outcome_of(recorded: &[Record], name: u64) -> Option<Result<Revision, SequenceError>> {
    let (_, made) = recorded.iter().find(|(other, _)| *other == name)?;
    let made = made.map(|number| Revision::new(number.get()));
    Some(made.ok_or(SequenceError::Conflict))
}

/// The session if it has not ended, moved to the recently used side.
fn live(
    sessions: &mut LruCache<SessionId, Session>,
    id: SessionId,
    family: Family,
    now: Moment,
) -> Option<&mut Session> {
    let session = sessions.peek(&id)?;
    if !session.is_live(now) || session.protocol().family() != family {
        return None;
    }
    let session = sessions.get_mut(&id)?;
    session.touch(now);
    Some(session)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn at(steady: u64) -> Moment {
        Moment { steady, wall: 0 }
    }

    fn text(text: &str) -> Content {
        Content::new(text.as_bytes(), "text/plain").unwrap()
    }

    fn store(capacity: usize) -> Store {
        Store::new(NonZeroUsize::new(capacity).unwrap())
    }

    fn create(store: &Store, payload: &str, life: Duration, now: Moment) -> (SessionId, Session) {
        store
            .create(text(payload), Protocol::Msc3886, life, now)
            .unwrap()
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
        let (id, first) = create(&store, "a", TTL, at(0));
        assert_eq!(
            store.read(id, Family::Tagged, at(1)).unwrap().content(),
            text("a")
        );
        let second = store.write(id, Some(first.revision()), text("b"), at(2));
        assert_ne!(second.unwrap().revision(), first.revision());
        assert_eq!(
            store.read(id, Family::Tagged, at(3)).unwrap().content(),
            text("b")
        );
        assert!(store.delete(id, Family::Tagged, at(4)));
        assert!(!store.delete(id, Family::Tagged, at(4)));
        assert!(store.read(id, Family::Tagged, at(5)).is_none());
        let counts = store.counts();
        assert_eq!((counts.created, counts.deleted, counts.live), (1, 1, 0));
    }

    #[test]
    fn a_stale_or_foreign_revision_changes_nothing() {
        let store = store(10);
        let (id, first) = create(&store, "a", TTL, at(0));
        let second = store
            .write(id, Some(first.revision()), text("b"), at(0))
            .unwrap();
        for expected in [Some(first.revision()), None] {
            match store.write(id, expected, text("c"), at(0)) {
                Err(WriteError::Conflict(now)) => assert_eq!(now.revision(), second.revision()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            store.read(id, Family::Tagged, at(0)).unwrap().content(),
            text("b")
        );
    }

    #[test]
    fn an_expired_session_is_gone_at_once_and_swept_later() {
        let store = store(10);
        let (id, first) = create(&store, "a", TTL, at(0));
        assert!(store.read(id, Family::Tagged, at(59_999)).is_some());
        let end = at(60_000);
        assert!(store.read(id, Family::Tagged, end).is_none());
        assert!(!store.delete(id, Family::Tagged, end));
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
        let (id, first) = create(&store, "a", TTL, at(0));
        store
            .write(id, Some(first.revision()), text("b"), at(30_000))
            .unwrap();
        assert_eq!(sweep(&store, at(89_999), 100), 0);
        assert_eq!(sweep(&store, at(90_256), 100), 1);
    }

    #[test]
    fn a_sweep_takes_a_session_from_the_first_tick_at_its_end() {
        let store = store(10);
        create(&store, "a", TTL, at(0));
        assert_eq!(sweep(&store, at(60_159), 9), 0);
        assert_eq!(sweep(&store, at(60_160), 9), 1);
    }

    #[test]
    fn a_sweep_stops_at_its_limit() {
        let store = store(10);
        for _ in 0..7 {
            create(&store, "a", TTL, at(0));
        }
        assert_eq!(sweep(&store, at(60_256), 5), 5);
        assert_eq!(sweep(&store, at(60_256), 5), 2);
    }

    #[test]
    fn a_full_store_evicts_what_was_not_used_for_longest() {
        let store = store(2);
        let (old, _) = create(&store, "a", TTL, at(0));
        let (idle, _) = create(&store, "b", TTL, at(1));
        store.read(old, Family::Tagged, at(2));
        let later = 20_000;
        let (new, _) = create(&store, "c", TTL, at(later));
        assert!(store.read(old, Family::Tagged, at(later)).is_some());
        assert!(store.read(idle, Family::Tagged, at(later)).is_none());
        assert!(store.read(new, Family::Tagged, at(later)).is_some());
        assert_eq!(store.counts().evicted, 1);
    }

    #[test]
    fn a_session_used_within_fifteen_seconds_gives_way_to_none() {
        let store = store(2);
        let (polled, _) = create(&store, "a", TTL, at(0));
        create(&store, "b", TTL, at(0));
        let made = |now| store.create(text("c"), Protocol::Msc3886, TTL, at(now));
        assert!(matches!(made(15_000), Err(CreateError::Full(1..=3_500))));
        store.read(polled, Family::Tagged, at(19_000)).unwrap();
        let (newer, _) = made(19_000).unwrap();
        let refused = made(33_000);
        assert!(matches!(refused, Err(CreateError::Full(1_000..=5_000))));
        for id in [polled, newer] {
            assert!(store.read(id, Family::Tagged, at(33_000)).is_some());
        }
        let counts = store.counts();
        assert_eq!((counts.created, counts.evicted, counts.full), (3, 1, 2));
    }

    #[test]
    fn ended_sessions_make_room_before_any_live_one() {
        let store = store(3);
        let (one, _) = create(&store, "a", TTL, at(0));
        let (two, _) = create(&store, "b", TTL, at(0));
        let (three, _) = create(&store, "c", TTL, at(0));
        store.delete(three, Family::Tagged, at(1));
        store.delete(two, Family::Tagged, at(1));
        // Asking for what has ended does not keep its entry.
        assert!(store.read(two, Family::Tagged, at(2)).is_none());
        assert!(!store.delete(two, Family::Tagged, at(2)));
        create(&store, "d", TTL, at(3));
        create(&store, "e", TTL, at(3));
        assert!(store.read(one, Family::Tagged, at(4)).is_some());
        assert_eq!((store.counts().evicted, store.counts().live), (0, 3));
    }

    #[test]
    fn a_full_store_gives_up_expired_sessions_first() {
        let store = store(2);
        let short = Duration::from_secs(1);
        let (live, _) = create(&store, "a", TTL, at(0));
        let (dead, _) = create(&store, "b", short, at(0));
        store.read(dead, Family::Tagged, at(10));
        create(&store, "c", TTL, at(2_000));
        assert!(store.read(live, Family::Tagged, at(2_000)).is_some());
        assert_eq!(store.counts().evicted, 0);
    }

    #[test]
    fn equal_payloads_have_different_revisions() {
        let store = store(2);
        let (_, one) = create(&store, "a", TTL, at(0));
        let (_, two) = create(&store, "a", TTL, at(0));
        assert_ne!(one.revision(), two.revision());
    }

    #[test]
    fn a_payload_is_freed_at_once_when_its_session_lets_go_of_it() {
        let held = |content: Content| Arc::downgrade(&content.shared());
        let store = store(1);
        let (id, first) = create(&store, "a", TTL, at(0));
        let (a, revision) = (held(first.content()), first.revision());
        drop(first);
        assert!(a.upgrade().is_some());

        let second = store.write(id, Some(revision), text("b"), at(0)).unwrap();
        assert!(a.upgrade().is_none(), "replaced");
        let b = held(second.content());
        drop(second);

        let (id, third) = create(&store, "c", TTL, at(20_000));
        assert!(b.upgrade().is_none(), "evicted");
        let c = held(third.content());
        drop(third);
        store.delete(id, Family::Tagged, at(20_000));
        assert!(c.upgrade().is_none(), "deleted");

        let (_, last) = create(&store, "d", TTL, at(20_000));
        let d = held(last.content());
        drop(last);
        sweep(&store, at(80_256), 1);
        assert!(d.upgrade().is_none(), "expired");
    }

    fn sequenced(store: &Store) -> SessionId {
        let life = Duration::from_secs(300);
        let made = store.create(text("a"), Protocol::Msc4388, life, at(0));
        made.unwrap().0
    }

    fn write(
        store: &Store,
        id: SessionId,
        expected: u64,
        transaction: Option<&str>,
        payload: &str,
    ) -> Result<u64, SequenceError> {
        let write = Sequenced {
            expected: Some(Revision::new(expected)),
            transaction,
        };
        store
            .write_in_sequence(id, write, text(payload), at(1))
            .map(Revision::number)
    }

    #[test]
    fn msc4388_the_sequence_counts_successful_writes() {
        let store = store(2);
        let id = sequenced(&store);
        assert_eq!(write(&store, id, 0, None, "b"), Ok(1));
        assert_eq!(
            write(&store, id, 0, None, "c"),
            Err(SequenceError::Conflict)
        );
        assert_eq!(write(&store, id, 1, None, "c"), Ok(2));
        let session = store.read(id, Family::Sequenced, at(1)).unwrap();
        assert_eq!(session.content(), text("c"));
    }

    #[test]
    fn msc4388_a_repeated_write_without_a_transaction_is_known_by_its_payload() {
        let store = store(2);
        let id = sequenced(&store);
        assert_eq!(write(&store, id, 0, None, "b"), Ok(1));
        assert_eq!(write(&store, id, 0, None, "b"), Ok(1));
        let future = write(&store, id, 9, None, "b");
        assert_eq!(future, Err(SequenceError::Conflict));
        assert_eq!(
            write(&store, id, 0, Some("t"), "b"),
            Err(SequenceError::Conflict)
        );
    }

    #[test]
    fn msc4388_a_transaction_has_one_outcome_for_the_life_of_the_session() {
        let store = store(2);
        let id = sequenced(&store);
        assert_eq!(write(&store, id, 0, Some("one"), "b"), Ok(1));
        assert_eq!(write(&store, id, 1, Some("two"), "c"), Ok(2));
        let late = Err(SequenceError::Conflict);
        assert_eq!(write(&store, id, 1, Some("late"), "d"), late);
        // Each again, with whatever else.
        assert_eq!(write(&store, id, 2, Some("one"), "x"), Ok(1));
        assert_eq!(write(&store, id, 0, Some("two"), "y"), Ok(2));
        assert_eq!(write(&store, id, 2, Some("late"), "z"), late);
        let session = store.read(id, Family::Sequenced, at(1)).unwrap();
        assert_eq!(session.content(), text("c"));
    }

    #[test]
    fn transactions_are_bounded_and_end_with_their_session() {
        let store = store(2);
        let id = sequenced(&store);
        for number in 0..MAX_TRANSACTIONS as u64 {
            let name = number.to_string();
            assert_eq!(write(&store, id, number, Some(&name), "b"), Ok(number + 1));
        }
        let more = write(&store, id, 64, Some("more"), "b");
        assert_eq!(more, Err(SequenceError::TooMany));
        assert_eq!(write(&store, id, 0, Some("0"), "b"), Ok(1));
        assert_eq!(store.lock().transactions.len(), 1);
        assert!(store.delete(id, Family::Sequenced, at(2)));
        assert!(store.lock().transactions.is_empty());
        let gone = write(&store, id, 0, Some("0"), "b");
        assert_eq!(gone, Err(SequenceError::NotFound));
    }

    #[test]
    fn a_session_answers_to_its_own_family_only() {
        let store = store(2);
        let id = sequenced(&store);
        let (tagged, first) = create(&store, "a", TTL, at(0));
        assert!(store.read(id, Family::Tagged, at(1)).is_none());
        assert!(!store.delete(id, Family::Tagged, at(1)));
        let foreign = store.write(id, Some(Revision::new(0)), text("b"), at(1));
        assert!(matches!(foreign, Err(WriteError::NotFound)));
        assert!(store.read(tagged, Family::Sequenced, at(1)).is_none());
        let foreign = write(&store, tagged, first.revision().number(), None, "b");
        assert_eq!(foreign, Err(SequenceError::NotFound));
    }
}
