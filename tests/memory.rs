//! What a session costs beside its payload.

use std::alloc::System;
use std::num::NonZeroUsize;

use rendezvousd::clock::Moment;
use rendezvousd::session::{Content, Protocol, Session};
use rendezvousd::store::{
    MAX_TRANSACTIONS, SESSION_OVERHEAD, SequenceError, Sequenced, Store, TRANSACTIONS_SIZE,
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

/// Bytes a session takes beside its payload in a full store of this size,
/// the empty store's table included. Sessions are created `step` milliseconds
/// apart: in order, the index fills its nodes less than in any other way.
fn overhead(sessions: usize, payload: usize, step: u64) -> usize {
    // Over a run of sizes, so that rounding shows as its average.
    let bytes = vec![b'x'; payload + 16];
    let region = Region::new(ALLOCATOR);
    let store = Store::new(NonZeroUsize::new(sessions).unwrap());
    let lifetime = Session::MAX_LIFETIME;
    let mut payloads = 0;
    for number in 0..sessions {
        let payload = &bytes[..payload + number % 16];
        payloads += payload.len();
        let content = Content::new(payload, "text/plain").unwrap();
        store
            .create(
                content,
                Protocol::Msc3886,
                lifetime,
                now(number as u64 * step),
            )
            .unwrap();
    }
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    let blocks = change.allocations - change.deallocations;
    // A reallocation changes the size of a block that is counted already.
    let resized = usize::try_from(change.bytes_reallocated).unwrap_or(0);
    assert_eq!(resized, 0, "nothing in the store grows in place");
    assert_eq!(store.counts().live, sessions as u64);
    (held + blocks * PER_BLOCK + sessions * PER_PAYLOAD - payloads) / sessions
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
            let overhead = overhead(sessions, payload, step);
            println!("{sessions:>8}  {payload:>7}  {overhead:>4} bytes");
            assert!(overhead as u64 <= SESSION_OVERHEAD, "{overhead} bytes");
        }
    }
    let records = transactions(10_000);
    println!("{MAX_TRANSACTIONS} transactions a session: {records} bytes");
    assert!(records as u64 <= TRANSACTIONS_SIZE, "{records} bytes");
}
