//! What the table of clients takes, however many come.

use std::alloc::System;

use rendezvousd::client::Client;
use rendezvousd::rate_limit::{RateLimit, RateLimiter, SIZE};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What an allocator adds to a block: a header of 8 bytes.
const PER_BLOCK: usize = 8;

/// One test, because the allocator counts for the whole process.
#[test]
fn any_number_of_clients_takes_no_more_than_is_said() {
    let region = Region::new(ALLOCATOR);
    let quota = RateLimiter::new(RateLimit {
        rate: 60_000,
        burst: 60_000,
    });
    let mut most = 0;
    // Each of a /48 of its own, with three buckets.
    for number in 0..300_000_u64 {
        let network = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        quota.try_acquire(Client::V6(network), 0).unwrap();
        let change = region.change();
        let held = change.bytes_allocated - change.bytes_deallocated;
        let blocks = change.allocations - change.deallocations;
        most = most.max(held + blocks * PER_BLOCK);
    }
    println!("{most} bytes of {SIZE}");
    assert!(most as u64 <= SIZE, "{most} bytes");
}
