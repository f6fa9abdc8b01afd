//! The store under many threads: what they are told must be explained by an
//! order of single steps that agrees with real time.
//!
//! Each operation is one hold of one mutex, so there is nothing to explore in
//! between; this is a long random run whose history is checked afterwards. The
//! clock leaps now and then, and threads come with readings that are up to
//! some seconds old.
//!
//! Threads also watch sessions, as held polls do. A watch that goes on says that
//! its revision is there still; one that has ended, and with it a held poll, sees
//! another.

#[path = "linearizability/history.rs"]
mod history;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use rendezvousd::clock::Timestamp;
use rendezvousd::protocol::{Concurrency, Protocol};
use rendezvousd::session::{Content, Revision, Session, SessionId};
use rendezvousd::store::{
    MAX_WATCHES, Owner, Removed, SequenceError, Sequenced, Store, Watch, WriteError,
};

use history::{Event, Outcome, check};

const CAPACITY: usize = 6;
const THREADS: usize = 4;
const ROUNDS: u64 = 2000;
const OPERATIONS: u64 = 50;

/// Watches of a thread: so few that none ever gives way to another.
const WATCHES: usize = MAX_WATCHES / THREADS;

/// Sessions that operations are about: the latest, and so more than there is
/// room for.
const KNOWN: usize = 10;

/// A session and the number of its first revision.
#[derive(Clone, Copy)]
struct Known {
    id: SessionId,
    family: Concurrency,
    first: u64,
}

/// A watch of a thread, on the revision that it saw.
struct Held {
    known: Known,
    revision: u64,
    watch: Watch,
    flag: Arc<Flag>,
}

/// Whether a watch was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        assert!(!self.0.swap(true, Ordering::SeqCst), "woken twice");
    }
}

/// What the threads share.
struct Stage {
    store: Arc<Store>,
    known: Mutex<Vec<Known>>,
    /// The last write of each session that was tried: the revision expected
    /// and the payload. Any thread may repeat it, even before it has returned.
    tried: Mutex<HashMap<SessionId, (u64, u64)>>,
    clock: AtomicU64,
    /// Numbers beginnings, ends and payloads.
    counter: AtomicU64,
}

impl Stage {
    fn count(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn actor(&self, seed: u64) -> Actor<'_> {
        Actor {
            stage: self,
            random: 0x9e37_79b9_7f4a_7c15 ^ seed,
            seen: HashMap::new(),
            told: Vec::new(),
            held: Vec::new(),
            ended: 0,
        }
    }
}

/// What one thread does: its random numbers, what it last saw, what it was told,
/// its watches and how many have ended.
struct Actor<'a> {
    stage: &'a Stage,
    random: u64,
    seen: HashMap<SessionId, u64>,
    told: Vec<(SessionId, Event)>,
    held: Vec<Held>,
    ended: usize,
}

impl Actor<'_> {
    /// A number below a limit (xorshift).
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    /// A reading of the clock, now and then an old one.
    fn now(&mut self) -> Timestamp {
        let old = match self.below(4) {
            0 => self.below(5_000),
            _ => 0,
        };
        Timestamp {
            monotonic_ms: self.stage.clock.load(Ordering::SeqCst).saturating_sub(old),
            unix_ms: 0,
        }
    }

    fn act(&mut self) {
        let known = {
            let known = self.stage.known.lock().unwrap();
            let recent = known.len().min(KNOWN);
            let back = self.below(recent.max(1) as u64);
            let back = usize::try_from(back).unwrap();
            known.len().checked_sub(1 + back).map(|index| known[index])
        };
        let Some(known) = known else {
            return self.create();
        };
        match self.below(100) {
            0..3 => self.create(),
            3..4 => self.delete(known),
            4..6 => {
                let now = self.now();
                self.sweep(now, 1);
            }
            6..25 if known.family == Concurrency::ETag => self.watch(known),
            6..50 => self.read(known),
            _ if known.family == Concurrency::ETag => self.write(known),
            _ => self.write_in_sequence(known),
        }
    }

    /// Ends so many expired sessions; whether there may be more.
    fn sweep(&self, now: Timestamp, limit: usize) -> bool {
        let mut gone = Vec::new();
        let more = self.stage.store.sweep(now, limit, &mut gone);
        gone.into_iter().for_each(Removed::announce);
        more
    }

    /// Does something to a session and notes what it was told.
    fn note(
        &mut self,
        known: Known,
        transaction: Option<u64>,
        operation: impl FnOnce(&Arc<Store>, Timestamp) -> Outcome,
    ) {
        let invoked = self.stage.count();
        let now = self.now();
        let outcome = operation(&self.stage.store, now);
        let event = Event {
            invoked,
            responded: self.stage.count(),
            transaction,
            outcome,
        };
        if let Outcome::Wrote { to: revision, .. } | Outcome::Saw { revision, .. } = outcome {
            self.seen.insert(known.id, revision);
        }
        self.told.push((known.id, event));
    }

    fn create(&mut self) {
        let protocols = [Protocol::Msc3886, Protocol::Msc4108, Protocol::Msc4388];
        let protocol = protocols[usize::try_from(self.below(3)).unwrap()];
        let lifetime = Duration::from_secs(60);
        let invoked = self.stage.count();
        let payload = self.stage.count();
        let now = self.now();
        let made =
            self.stage
                .store
                .create(content(payload), protocol, lifetime, Owner::UNKNOWN, now);
        // Or all are in use.
        if let Ok((id, session)) = made {
            let outcome = Outcome::Wrote {
                from: None,
                to: 0,
                payload,
            };
            let event = Event {
                invoked,
                responded: self.stage.count(),
                transaction: None,
                outcome,
            };
            self.told.push((id, event));
            self.stage.known.lock().unwrap().push(Known {
                id,
                family: protocol.concurrency(),
                first: session.revision.number(),
            });
        }
    }

    fn delete(&mut self, known: Known) {
        self.note(known, None, |store, now| {
            if store.delete(known.id, known.family, now).is_some() {
                Outcome::Deleted
            } else {
                Outcome::Gone
            }
        });
    }

    fn read(&mut self, known: Known) {
        self.note(known, None, |store, now| {
            let session = store.read(known.id, known.family, now);
            session.map_or(Outcome::Gone, |session| saw(known, &session))
        });
    }

    /// Looks at the oldest watch, or begins another.
    fn watch(&mut self, known: Known) {
        if self.held.len() == WATCHES {
            return self.look();
        }
        let revision = self.seen.get(&known.id).copied().unwrap_or_default();
        let flag = Arc::<Flag>::default();
        let waker = Waker::from(Arc::clone(&flag));
        let mut begun = None;
        self.note(known, None, |store, now| {
            let expected = Revision::new(known.first.wrapping_add(revision));
            match store.watch(known.id, expected, waker, now) {
                Ok(watch) => {
                    begun = Some(watch);
                    Outcome::Watched { revision }
                }
                Err(Some(session)) => {
                    assert_ne!(session.revision, expected);
                    saw(known, &session)
                }
                Err(None) => Outcome::Gone,
            }
        });
        self.held.extend(begun.map(|watch| Held {
            known,
            revision,
            watch,
            flag,
        }));
    }

    /// Looks at a watch as a held poll is answered: with what is there, once it
    /// has ended, or now and then before.
    fn look(&mut self) {
        let held = self.held.remove(0);
        // A watch outlives its session until the reaper comes.
        let now = Timestamp {
            monotonic_ms: self.stage.clock.load(Ordering::SeqCst),
            unix_ms: 0,
        };
        while self.sweep(now, CAPACITY) {}
        let woken = held.flag.0.load(Ordering::SeqCst);
        let mut pending = true;
        self.note(held.known, None, |_, _| {
            pending = held.watch.is_pending();
            Outcome::Watched {
                revision: held.revision,
            }
        });
        if pending {
            assert!(!woken, "woken before it ended");
            if self.below(8) > 0 {
                return self.held.push(held);
            }
        } else {
            // It says nothing but what the read says.
            self.told.pop();
            self.ended += 1;
        }
        self.read(held.known);
        let (_, event) = self.told.last().expect("the read");
        let unchanged = matches!(event.outcome, Outcome::Saw { revision, .. }
            if revision == held.revision);
        assert!(pending || !unchanged, "ended without a cause");
    }

    /// The revision to write over: mostly the last that was seen.
    fn expected(&mut self, known: Known) -> u64 {
        let seen = self.seen.get(&known.id).copied().unwrap_or_default();
        seen.saturating_sub(u64::from(self.below(5) == 0))
    }

    fn write(&mut self, known: Known) {
        let tried = self.stage.tried.lock().unwrap().get(&known.id).copied();
        let repeated = tried.filter(|_| self.below(3) == 0);
        let (expected, payload) =
            repeated.unwrap_or_else(|| (self.expected(known), self.stage.count()));
        let mut tried = self.stage.tried.lock().unwrap();
        tried.insert(known.id, (expected, payload));
        drop(tried);
        self.note(known, None, |store, now| {
            let revision = Revision::new(known.first.wrapping_add(expected));
            match store.write(known.id, Some(revision), content(payload), now) {
                Ok(session) => {
                    let to = session.revision.number().wrapping_sub(known.first);
                    assert_eq!(number(&session.content), payload);
                    Outcome::Wrote {
                        from: Some(expected),
                        to,
                        payload,
                    }
                }
                Err(WriteError::NotFound) => Outcome::Gone,
                Err(WriteError::Conflict(session)) => {
                    assert_ne!(session.revision, revision);
                    let written = session.revision == revision.next();
                    assert!(!written || number(&session.content) != payload);
                    saw(known, &session)
                }
            }
        });
    }

    fn write_in_sequence(&mut self, known: Known) {
        let expected = self.expected(known);
        let payload = self.stage.count();
        let transaction = Some(self.below(60)).filter(|name| *name < 40);
        let name = transaction.map(|name| name.to_string());
        self.note(known, transaction, |store, now| {
            let write = Sequenced {
                expected: Some(Revision::new(expected)),
                transaction: name.as_deref(),
            };
            match store.write_in_sequence(known.id, write, content(payload), now) {
                Ok(revision) => Outcome::Wrote {
                    from: Some(expected),
                    to: revision.number(),
                    payload,
                },
                Err(SequenceError::NotFound) => Outcome::Gone,
                Err(SequenceError::Conflict) => Outcome::Conflict { expected },
                Err(SequenceError::TooMany) => panic!("there are no more than 40"),
            }
        });
    }
}

fn content(payload: u64) -> Content {
    Content::new(payload.to_string().as_bytes(), "").unwrap()
}

fn number(content: &Content) -> u64 {
    String::from_utf8(content.payload())
        .unwrap()
        .parse()
        .unwrap()
}

fn saw(known: Known, session: &Session) -> Outcome {
    Outcome::Saw {
        revision: session.revision.number().wrapping_sub(known.first),
        payload: number(&session.content),
    }
}

/// How many operations repeat another and were told the same.
fn repeats(history: &[Event]) -> usize {
    let written = |event: &Event| match event.outcome {
        Outcome::Wrote { to, .. } if event.transaction.is_none() => Some(to),
        _ => None,
    };
    let mut made: Vec<u64> = history.iter().filter_map(written).collect();
    let all = made.len();
    made.sort_unstable();
    made.dedup();
    all - made.len()
}

#[test]
fn what_threads_are_told_has_an_order() {
    let stage = Stage {
        store: Arc::new(Store::new(NonZeroUsize::new(CAPACITY).unwrap())),
        known: Mutex::default(),
        tried: Mutex::default(),
        clock: AtomicU64::default(),
        counter: AtomicU64::default(),
    };
    let mut actors: Vec<Actor<'_>> = (1..=THREADS as u64).map(|n| stage.actor(n)).collect();
    for _ in 0..ROUNDS {
        let leap = actors[0].below(25_000);
        stage.clock.fetch_add(leap, Ordering::SeqCst);
        thread::scope(|scope| {
            for actor in &mut actors {
                scope.spawn(|| (0..OPERATIONS).for_each(|_| actor.act()));
            }
        });
    }
    // All that had to be woken has been.
    for held in actors.iter().flat_map(|actor| &actor.held) {
        let woken = held.flag.0.load(Ordering::SeqCst);
        assert_ne!(held.watch.is_pending(), woken);
    }
    assert!(actors.iter().map(|actor| actor.ended).sum::<usize>() > 1_000);
    let counts = stage.store.counts();
    let mut histories: HashMap<SessionId, Vec<Event>> = HashMap::new();
    for (id, event) in actors.into_iter().flat_map(|actor| actor.told) {
        histories.entry(id).or_default().push(event);
    }
    assert_eq!(histories.len() as u64, counts.created);
    let repeats = histories.values().map(|history| repeats(history));
    assert!(repeats.sum::<usize>() > 50);
    let deleted = |history: &&Vec<Event>| {
        let mut events = history.iter();
        events.any(|event| event.outcome == Outcome::Deleted)
    };
    let deleted = histories.values().filter(deleted).count() as u64;
    let evicted = counts.ended.total(rendezvousd::outcome::Outcome::Evicted);
    let expired = counts.created - counts.live - evicted - deleted;
    assert!(evicted > 50 && expired > 50 && deleted > 50);
    for history in histories.values() {
        assert_eq!(check(history), Ok(()), "{history:#?}");
    }
}
