//! What a session costs beside its payload.

use std::alloc::System;
use std::num::NonZeroUsize;
use std::time::Duration;

use rendezvousd::clock::Clock;
use rendezvousd::session::{Content, Lifetime, Protocol};
use rendezvousd::store::{SESSION_OVERHEAD, Store};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What an allocator adds to each block: a header of 8 bytes and rounding up
/// to 16, which over many sizes is 8 on average.
const PER_BLOCK: usize = 16;

/// Bytes a session takes beside its payload in a full store of this size,
/// the empty store's table included.
fn overhead(sessions: usize, payload: usize) -> usize {
    let clock = Clock::start();
    // Over a run of sizes, so that rounding shows as its average.
    let bytes = vec![b'x'; payload + 16];
    let region = Region::new(ALLOCATOR);
    let store = Store::new(NonZeroUsize::new(sessions).unwrap());
    let lifetime = Lifetime::SinceWrite(Duration::from_secs(60));
    let mut payloads = 0;
    for number in 0..sessions {
        let payload = &bytes[..payload + number % 16];
        payloads += payload.len();
        let content = Content::new(payload, "text/plain").unwrap();
        store
            .create(content, Protocol::Msc3886, lifetime, clock.now())
            .unwrap();
    }
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    let blocks = change.allocations - change.deallocations;
    // A reallocation changes the size of a block that is counted already.
    let resized = usize::try_from(change.bytes_reallocated).unwrap_or(0);
    assert_eq!(resized, 0, "nothing in the store grows in place");
    assert_eq!(store.counts().live, sessions as u64);
    (held + blocks * PER_BLOCK - payloads) / sessions
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
        let overhead = overhead(sessions, payload);
        println!("{sessions:>8}  {payload:>7}  {overhead:>4} bytes");
        assert!(overhead as u64 <= SESSION_OVERHEAD, "{overhead} bytes");
    }
}
