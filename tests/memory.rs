//! What a session costs beside its payload.

use std::alloc::System;
use std::num::NonZeroUsize;

use rendezvousd::block_pool::{self, SLAB};
use rendezvousd::clock::Timestamp;
use rendezvousd::protocol::Protocol;
use rendezvousd::session::{Content, Session};
use rendezvousd::store::{
    MAX_TRANSACTIONS, SESSION_OVERHEAD, SequenceError, Sequenced, Snapshot, Store,
    TRANSACTIONS_SIZE,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The most that glibc adds to an allocation: a header of 8 bytes, and up to 8
/// more to a multiple of 16. Its least of 32 is no more than that, for none of
/// the store's is under 16. musl's size classes are coarser, and it gives back
/// what glibc keeps.
const PER_ALLOCATION: usize = 16;

/// A full store of this size. Sessions are created `step` milliseconds apart:
/// in order, the index fills its nodes less than in any other way.
fn full(sessions: usize, payload: usize, step: u64) -> Store {
    let bytes = vec![b'x'; payload];
    let store = Store::new(NonZeroUsize::new(sessions).unwrap());
    for number in 0..sessions {
        let content = Content::new(&bytes, "text/plain").unwrap();
        let (protocol, lifetime) = (Protocol::Msc3886, Session::MAX_LIFETIME);
        let created = now(number as u64 * step);
        store.create(content, protocol, lifetime, created).unwrap();
    }
    store
}

/// What was allocated since, beside the block pool, a session.
fn allocated(region: &Region<'_, System>, sessions: usize) -> usize {
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    let count = change.allocations - change.deallocations;
    (held + count * PER_ALLOCATION) / sessions
}

/// What a full store takes a session, the empty store's table included, and
/// not in the block pool.
fn overhead(region: &Region<'_, System>, store: &Store) -> usize {
    let sessions = store.capacity().get();
    assert_eq!(store.counts().live, sessions as u64);
    allocated(region, sessions)
}

/// A store that holds what another does, as it is read back after a restart.
fn copied(store: &Store, now: Timestamp) -> Store {
    let mut copy = Store::with_hasher(store.capacity(), store.txn_hasher());
    let add = |saved: &Snapshot| {
        let mut saved = saved.clone();
        let content = saved.session.content;
        let content = Content::new(&content.payload(), &content.media_type());
        saved.session.content = content.unwrap();
        copy.restore(saved)
    };
    store.for_each_live(now, add).unwrap();
    copy
}

fn now(monotonic_ms: u64) -> Timestamp {
    Timestamp {
        monotonic_ms,
        unix_ms: 0,
    }
}

/// Bytes that full records of transactions add to a session, not in the block
/// pool and in it.
fn transactions(sessions: usize) -> (usize, usize) {
    let capacity = NonZeroUsize::new(sessions).unwrap();
    let store = Store::new(capacity);
    let lifetime = Session::MAX_LIFETIME;
    let content = || Content::new(b"", "").unwrap();
    let create = |_| store.create(content(), Protocol::Msc4388, lifetime, now(0));
    let made: Vec<_> = (0..sessions).map(|n| create(n).unwrap().0).collect();
    let region = Region::new(ALLOCATOR);
    let mapped = block_pool::mapped();
    for number in 0..MAX_TRANSACTIONS {
        let name = number.to_string();
        for id in &made {
            let write = Sequenced {
                expected: None,
                transaction: Some(&name),
            };
            let conflict = store.write_in_sequence(*id, write, content(), now(1));
            assert_eq!(conflict.err(), Some(SequenceError::Conflict));
        }
    }
    let records = block_pool::mapped() - mapped;
    (allocated(&region, sessions), records / sessions)
}

/// One test, because the allocator and the pool count for the whole process.
#[test]
fn a_session_costs_what_the_ceiling_says() {
    println!("sessions  payload  overhead a session");
    let (indices, records) = transactions(10_000);
    println!("{MAX_TRANSACTIONS} transactions a session: {records} bytes and {indices}");
    assert!(
        records <= TRANSACTIONS_SIZE + SLAB / 10_000,
        "{records} bytes"
    );
    for (sessions, payload) in [
        (1_000, 0),
        (10_000, 0),
        (10_000, 4_096),
        (100_000, 100),
        // Just over a power of two of map slots: the emptiest table.
        (14_337, 100),
    ] {
        for step in [0, 300] {
            let pool = sessions * Content::ceiling(payload) + SLAB;
            let region = Region::new(ALLOCATOR);
            let store = full(sessions, payload, step);
            let created = overhead(&region, &store);
            assert!(block_pool::mapped() <= pool);
            let region = Region::new(ALLOCATOR);
            let copy = copied(&store, now(0));
            let restored = overhead(&region, &copy);
            assert!(block_pool::mapped() <= 2 * pool);
            println!("{sessions:>8}  {payload:>7}  {created:>4} bytes, restored {restored:>4}");
            let most = created.max(restored) + indices;
            assert!(most <= SESSION_OVERHEAD, "{most} bytes");
            drop((store, copy));
            assert!(block_pool::mapped() <= SLAB);
        }
    }
}
