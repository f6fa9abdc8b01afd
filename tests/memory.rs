//! What a session costs beside its payload.

use std::alloc::System;
use std::num::NonZeroUsize;

use rendezvousd::clock::Moment;
use rendezvousd::session::{Content, Protocol, Session};
use rendezvousd::store::{
    MAX_TRANSACTIONS, SESSION_OVERHEAD, Saved, SequenceError, Sequenced, Store, TRANSACTIONS_SIZE,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What an allocator adds to a block of the store's own, whose sizes leave no
/// rounding to 16: a header of 8 bytes.
const PER_BLOCK: usize = 8;

/// What it adds to a payload's block beyond that: rounding up to 16, which
/// over many sizes is 8 on average.
const PER_PAYLOAD: usize = 8;

/// A full store of this size, and how many bytes its payloads are. Sessions
/// are created `step` milliseconds apart: in order, the index fills its nodes
/// less than in any other way.
fn full(sessions: usize, payload: usize, step: u64) -> (Store, usize) {
    // Over a run of sizes, so that rounding shows as its average.
    let bytes = vec![b'x'; payload + 16];
    let store = Store::new(NonZeroUsize::new(sessions).unwrap());
    let mut payloads = 0;
    for number in 0..sessions {
        let payload = &bytes[..payload + number % 16];
        payloads += payload.len();
        let content = Content::new(payload, "text/plain").unwrap();
        let (protocol, lifetime) = (Protocol::Msc3886, Session::MAX_LIFETIME);
        let created = now(number as u64 * step);
        store.create(content, protocol, lifetime, created).unwrap();
    }
    (store, payloads)
}

/// What a full store of `payloads` bytes takes beside them a session, the
/// empty store's table included.
fn overhead(region: &Region<'_, System>, store: &Store, payloads: usize) -> usize {
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    let blocks = change.allocations - change.deallocations;
    // A reallocation changes the size of a block that is counted already.
    let resized = usize::try_from(change.bytes_reallocated).unwrap_or(0);
    assert_eq!(resized, 0, "nothing in the store grows in place");
    let sessions = store.capacity().get();
    assert_eq!(store.counts().live, sessions as u64);
    (held + blocks * PER_BLOCK + sessions * PER_PAYLOAD - payloads) / sessions
}

/// A store that holds what another does, as it is read back after a restart.
fn copied(store: &Store, now: Moment) -> Store {
    let mut copy = Store::with_keys(store.capacity(), store.keys());
    let add = |saved: &Saved| {
        let mut saved = saved.clone();
        let content = saved.session.content;
        let content = Content::new(content.payload(), content.media_type());
        saved.session.content = content.unwrap();
        copy.add(saved)
    };
    store.show_all(now, add).unwrap();
    copy
}

fn now(steady: u64) -> Moment {
    Moment { steady, wall: 0 }
}

/// Bytes that full records of transactions add to a session.
fn transactions(sessions: usize) -> usize {
    let capacity = NonZeroUsize::new(sessions).unwrap();
    let store = Store::new(capacity);
    let lifetime = Session::MAX_LIFETIME;
    let content = || Content::new(b"", "").unwrap();
    let create = |_| store.create(content(), Protocol::Msc4388, lifetime, now(0));
    let made: Vec<_> = (0..sessions).map(|n| create(n).unwrap().0).collect();
    let region = Region::new(ALLOCATOR);
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
    let change = region.change();
    assert_eq!(change.reallocations, 0, "a record grows in place");
    let held = change.bytes_allocated - change.bytes_deallocated;
    let blocks = change.allocations - change.deallocations;
    (held + blocks * PER_BLOCK) / sessions
}

/// One test, because the allocator counts for the whole process.
#[test]
fn a_session_costs_what_the_ceiling_says() {
    println!("sessions  payload  overhead a session");
    for (sessions, payload) in [
        (1_000, 0),
        (10_000, 0),
        (10_000, 4_000),
        (100_000, 100),
        // Just over a power of two of map slots: the emptiest table.
        (14_337, 100),
        (300_000, 0),
    ] {
        for step in [0, 300] {
            let region = Region::new(ALLOCATOR);
            let (store, payloads) = full(sessions, payload, step);
            let created = overhead(&region, &store, payloads);
            let region = Region::new(ALLOCATOR);
            let copy = copied(&store, now(0));
            let restored = overhead(&region, &copy, payloads);
            println!("{sessions:>8}  {payload:>7}  {created:>4} bytes, restored {restored:>4}");
            let most = created.max(restored) as u64;
            assert!(most <= SESSION_OVERHEAD, "{most} bytes");
        }
    }
    let records = transactions(10_000);
    println!("{MAX_TRANSACTIONS} transactions a session: {records} bytes");
    assert!(records as u64 <= TRANSACTIONS_SIZE, "{records} bytes");
}
