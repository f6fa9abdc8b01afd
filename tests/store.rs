//! The store against a naive one: random operations under a moving clock
//! must have the same results.

use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use rendezvousd::clock::Timestamp;
use rendezvousd::outcome::{Outcome, Stage};
use rendezvousd::protocol::{Concurrency, Protocol};
use rendezvousd::session::{Content, Revision, SessionId};
use rendezvousd::store::{CreateError, InvalidSnapshot, Owner, Store, WriteError};

const CAPACITY: usize = 5;

#[derive(Clone, Debug)]
enum Operation {
    Create {
        payload: Vec<u8>,
        fixed: bool,
        seconds: u64,
    },
    Read {
        session: Index,
        /// Whether the reader has the payload already.
        has: bool,
    },
    Write {
        session: Index,
        stale: bool,
        payload: Vec<u8>,
    },
    /// The last write again, or another over the same revision.
    Repeat {
        session: Index,
        other: bool,
    },
    Delete {
        session: Index,
    },
    Sweep {
        limit: usize,
    },
    Wait {
        millis: u64,
    },
    /// All that the store shows is moved to a new one.
    Move,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let payload = || {
        prop_oneof![
            3 => proptest::collection::vec(any::<u8>(), 0..8),
            1 => any::<u8>().prop_map(|byte| vec![byte; 300]),
        ]
    };
    let operation = prop_oneof![
        3 => (payload(), any::<bool>(), 1..60_u64).prop_map(|(payload, fixed, seconds)| {
            Operation::Create { payload, fixed, seconds }
        }),
        4 => any::<(Index, bool)>().prop_map(|(session, has)| Operation::Read { session, has }),
        6 => (any::<Index>(), proptest::bool::weighted(0.2), payload()).prop_map(
            |(session, stale, payload)| Operation::Write { session, stale, payload }
        ),
        2 => (any::<Index>(), any::<bool>()).prop_map(
            |(session, other)| Operation::Repeat { session, other }
        ),
        1 => any::<Index>().prop_map(|session| Operation::Delete { session }),
        1 => (0..4_usize).prop_map(|limit| Operation::Sweep { limit }),
        3 => (0..8_000_u64).prop_map(|millis| Operation::Wait { millis }),
        1 => Just(Operation::Move),
    ];
    proptest::collection::vec(operation, 0..120)
}

/// One session as the naive store has it: a list in order of use, scanned.
#[derive(Clone, Debug)]
struct Row {
    id: SessionId,
    payload: Vec<u8>,
    revision: Revision,
    renewal: Option<u64>,
    expires: u64,
    used: u64,
    protocol: Protocol,
    fetched: bool,
    writes: u8,
}

impl Row {
    /// What it ends as unless it is evicted.
    fn outcome(&self) -> Outcome {
        let least = match self.protocol {
            Protocol::Msc3886 => 200,
            _ => 300,
        };
        match self.writes {
            6.. if self.payload.len() >= least => Outcome::Completed,
            0 if !self.fetched => Outcome::NeverJoined,
            writes => Outcome::Aborted(match (writes, self.protocol) {
                (4.., _) => Stage::AfterCheckCode,
                (2.., _) | (1, Protocol::Msc3886) => Stage::CheckCode,
                _ => Stage::BeforeCheckCode,
            }),
        }
    }
}

#[derive(Debug, Default)]
struct Naive {
    rows: Vec<Row>,
    now: u64,
    /// Of the sessions that have ended.
    outcomes: Vec<(Protocol, Outcome)>,
}

impl Naive {
    /// The live session, moved to the end, where the recently used are.
    fn used(&mut self, id: SessionId) -> Option<&mut Row> {
        let live = |row: &Row| row.id == id && row.expires > self.now;
        let place = self.rows.iter().position(live)?;
        let mut row = self.rows.remove(place);
        row.used = self.now;
        self.rows.push(row);
        self.rows.last_mut()
    }

    /// False when all are in use: within 15 seconds.
    fn evict_for_new(&mut self) -> bool {
        if self.rows.len() < CAPACITY {
            return true;
        }
        let soonest = (0..self.rows.len())
            .filter(|place| self.rows[*place].expires <= self.now)
            .min_by_key(|place| (self.rows[*place].expires, self.rows[*place].id));
        let idle = self.rows[0].used + 15_000 <= self.now;
        if soonest.is_none() && !idle {
            return false;
        }
        let row = self.rows.remove(soonest.unwrap_or(0));
        let outcome = soonest.map_or(Outcome::Evicted, |_| row.outcome());
        self.outcomes.push((row.protocol, outcome));
        true
    }

    fn sweep(&mut self, limit: usize) -> usize {
        let mut expired: Vec<(u64, SessionId)> = self
            .rows
            .iter()
            .filter(|row| row.expires <= self.now)
            .map(|row| (row.expires, row.id))
            .collect();
        expired.sort_unstable();
        expired.truncate(limit);
        self.rows.retain(|row| {
            let swept = expired.contains(&(row.expires, row.id));
            if swept {
                self.outcomes.push((row.protocol, row.outcome()));
            }
            !swept
        });
        expired.len()
    }
}

fn moved(store: &Store, now: Timestamp) -> Result<Store, InvalidSnapshot> {
    let mut new = Store::with_hasher(store.capacity(), store.txn_hasher());
    store.for_each_live(now, |saved| new.restore(saved.clone()))?;
    Ok(new)
}

fn text(payload: &[u8]) -> Content {
    Content::new(payload, "text/plain").unwrap()
}

fn run(operations: &[Operation]) -> Result<(), TestCaseError> {
    let mut store = Store::new(NonZeroUsize::new(CAPACITY).unwrap());
    let mut naive = Naive::default();
    // Every id there ever was, with the first revision it had.
    let mut ids: Vec<(SessionId, Revision)> = Vec::new();
    for operation in operations {
        let now = Timestamp {
            monotonic_ms: naive.now,
            unix_ms: 0,
        };
        let pick = |session: &Index| (!ids.is_empty()).then(|| ids[session.index(ids.len())]);
        match operation {
            Operation::Create {
                payload,
                fixed,
                seconds,
            } => {
                let lifetime = Duration::from_secs(*seconds);
                let protocol = if *fixed {
                    Protocol::Msc4108
                } else {
                    Protocol::Msc3886
                };
                let made = store.create(text(payload), protocol, lifetime, Owner::UNKNOWN, now);
                if !naive.evict_for_new() {
                    prop_assert!(matches!(made, Err(CreateError::Full(1..=15_000))));
                    continue;
                }
                let (id, session) = made.unwrap();
                naive.rows.push(Row {
                    id,
                    payload: payload.clone(),
                    revision: session.revision,
                    renewal: (!fixed).then_some(seconds * 1_000),
                    expires: naive.now + seconds * 1_000,
                    used: naive.now,
                    protocol,
                    fetched: false,
                    writes: 0,
                });
                ids.push((id, session.revision));
            }
            Operation::Read { session, has } => {
                let Some((id, _)) = pick(session) else {
                    continue;
                };
                let seen = store.read(id, Concurrency::ETag, now);
                let expected = naive.used(id);
                prop_assert_eq!(seen.is_some(), expected.is_some());
                if let (Some(seen), Some(expected)) = (seen, expected) {
                    let noted = (seen.first_fetched, seen.writes);
                    prop_assert_eq!(noted, (expected.fetched, expected.writes));
                    if !has && seen.is_untouched() {
                        store.note_fetch(id);
                        expected.fetched = true;
                    }
                    prop_assert_eq!(seen.content, text(&expected.payload));
                    prop_assert_eq!(seen.revision, expected.revision);
                    prop_assert_eq!(seen.expires_at, expected.expires);
                }
            }
            Operation::Write {
                session,
                stale,
                payload,
            } => {
                let Some((id, first)) = pick(session) else {
                    continue;
                };
                let monotonic_ms = naive.now;
                let expected = naive.used(id);
                let revision = match &expected {
                    Some(row) if !stale => row.revision,
                    _ => first,
                };
                match (
                    store.write(id, Some(revision), text(payload), now),
                    expected,
                ) {
                    (Err(WriteError::NotFound), None) => {}
                    // By chance it was the last write, again.
                    (Ok(present), Some(row))
                        if revision.next() == row.revision && *payload == row.payload =>
                    {
                        prop_assert!(row.writes > 0);
                        prop_assert_eq!(present.revision, row.revision);
                    }
                    (Ok(written), Some(row)) => {
                        prop_assert_eq!(revision, row.revision);
                        prop_assert_ne!(written.revision, row.revision);
                        row.revision = written.revision;
                        row.writes += 1;
                        row.payload.clone_from(payload);
                        if let Some(renewal) = row.renewal {
                            row.expires = monotonic_ms + renewal;
                        }
                        prop_assert_eq!(written.expires_at, row.expires);
                    }
                    (Err(WriteError::Conflict(now)), Some(row)) => {
                        prop_assert_ne!(revision, row.revision);
                        let repeated = revision.next() == row.revision && *payload == row.payload;
                        prop_assert!(!repeated);
                        prop_assert_eq!(now.revision, row.revision);
                    }
                    (store, naive) => prop_assert!(false, "{:?} but {:?}", store, naive),
                }
            }
            Operation::Repeat { session, other } => {
                let Some((id, _)) = pick(session) else {
                    continue;
                };
                let Some(row) = naive.used(id) else {
                    continue;
                };
                let before = Revision::new(row.revision.number().wrapping_sub(1));
                let kind = if *other { "text/html" } else { "text/plain" };
                let content = Content::new(&row.payload, kind).unwrap();
                let present = match store.write(id, Some(before), content, now) {
                    Ok(present) => {
                        prop_assert!(!other && row.writes > 0);
                        present
                    }
                    Err(WriteError::Conflict(present)) => {
                        prop_assert!(*other || row.writes == 0);
                        present
                    }
                    Err(WriteError::NotFound) => return Err(TestCaseError::fail("gone")),
                };
                prop_assert_eq!(present.revision, row.revision);
                prop_assert_eq!(present.expires_at, row.expires);
                prop_assert_eq!(present.content, text(&row.payload));
            }
            Operation::Delete { session } => {
                let Some((id, _)) = pick(session) else {
                    continue;
                };
                let expected = naive.used(id).is_some();
                if expected {
                    let row = naive.rows.pop().unwrap();
                    naive.outcomes.push((row.protocol, row.outcome()));
                }
                prop_assert_eq!(store.delete(id, Concurrency::ETag, now).is_some(), expected);
            }
            Operation::Sweep { limit } => {
                let mut gone = Vec::new();
                let more = store.sweep(now, *limit, &mut gone);
                prop_assert_eq!(gone.len(), naive.sweep(*limit));
                prop_assert_eq!(more, gone.len() == *limit);
            }
            Operation::Wait { millis } => naive.now += millis,
            Operation::Move => {
                store = moved(&store, now).unwrap();
                naive.rows.retain(|row| row.expires > naive.now);
                naive.outcomes.clear();
            }
        }
        let counts = store.counts();
        prop_assert_eq!(counts.live, naive.rows.len() as u64);
        for protocol in Protocol::ALL {
            for outcome in Outcome::ALL {
                let ended = naive.outcomes.iter();
                let ended = ended.filter(|one| **one == (protocol, outcome)).count();
                prop_assert_eq!(counts.ended.of(protocol, outcome), ended as u64);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_does_what_a_naive_one_does(operations in operations()) {
        run(&operations)?;
    }
}
