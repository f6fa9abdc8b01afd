//! Rate limit of session creation: a token bucket a client network, in a
//! bounded LRU table. Nothing here reads a clock.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use crate::client::{Client, Network};

/// The most buckets held; past that, the least recently used is forgotten. A
/// client with more networks than that gets each one's burst again, and meets
/// the store's own ceiling.
const BUCKETS: NonZeroUsize = NonZeroUsize::new(14 * 1024).unwrap();

/// The most that the buckets take, in bytes: each has a list entry of 48 and
/// its part of the table, which has 17 bytes a slot, and of the one of half as
/// many slots that it grows from.
pub const SIZE: u64 = BUCKETS.get() as u64 * 108;

const _: () = {
    // Slots of the map's table after its only growth. It starts with half as
    // many and holds entries in seven of eight.
    let slots = 32 * 1024;
    // A table with entries in at most half of the slots that it may use frees
    // deleted ones in place; otherwise it would grow again.
    assert!(BUCKETS.get() <= slots / 8 * 7 / 2);
    assert!(SIZE >= BUCKETS.get() as u64 * 48 + (slots + slots / 2) as u64 * 17);
};

/// The networks that have a bucket for a client, the widest last, each with what
/// a creation takes from it: a /56, which a household is commonly given, has
/// four times a client's limit, and a /48, an organization's, sixteen times.
fn buckets_of(client: Client) -> [Option<(Network, u64)>; 3] {
    let [widest, wider, own] = client.networks();
    let is_v6 = matches!(client, Client::V6(_));
    [
        Some((own, 16)),
        is_v6.then_some((wider, 4)),
        is_v6.then_some((widest, 1)),
    ]
}

/// How many sessions a client may create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Sessions a minute, in the long run; not 0.
    pub rate: u32,
    /// Sessions at once, after a while without any; not 0.
    pub burst: u32,
}

/// The buckets of all clients.
///
/// A bucket is one number, the time at which it is full again: creating moves
/// it on by what one session costs, and it may not be further away than what
/// a burst costs (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
pub struct RateLimiter {
    /// What one session costs a /48, in sixteenths of a microsecond.
    cost: u64,
    /// What a burst costs in that unit, the same for all: a wider network's
    /// is of more sessions, each for less.
    burst: u64,
    full_at: Mutex<LruCache<Network, u64>>,
}

/// Sixteenths of a microsecond in a millisecond.
const MILLISECOND: u64 = 16_000;

impl RateLimiter {
    /// A limiter whose buckets are all full.
    #[must_use]
    pub fn new(rate_limit: RateLimit) -> Self {
        let cost = 60_000_000 / u64::from(rate_limit.rate.max(1));
        Self {
            cost,
            burst: 16 * cost * u64::from(rate_limit.burst.max(1)),
            full_at: Mutex::new(LruCache::new(BUCKETS)),
        }
    }

    /// Takes one session's worth from a client's bucket, and from those of
    /// the wider networks that it is in, at `monotonic_ms`.
    ///
    /// # Errors
    /// Nothing is taken from any; in this many milliseconds there is enough in
    /// all of them.
    pub fn try_acquire(&self, client: Client, monotonic_ms: u64) -> Result<(), u64> {
        let now = monotonic_ms * MILLISECOND;
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = buckets_of(client).map(|bucket| {
            let (bucket, share) = bucket?;
            // A refused attempt is no use of a bucket.
            let full_at = full_at.peek(&bucket).copied().unwrap_or(now);
            Some((bucket, now.max(full_at) + share * self.cost))
        });
        let next = next.into_iter().flatten();
        let latest = next.clone().map(|(_, next)| next).max().unwrap_or(now);
        let wait = latest.saturating_sub(now + self.burst);
        if wait > 0 {
            return Err(wait.div_ceil(MILLISECOND));
        }
        for (bucket, next) in next {
            full_at.put(bucket, next);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(text: &str) -> Client {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn rate_limiter(rate: u32, burst: u32) -> RateLimiter {
        RateLimiter::new(RateLimit { rate, burst })
    }

    /// How many of a hundred attempts at one time succeed.
    fn taken(rate_limiter: &RateLimiter, client: Client, monotonic_ms: u64) -> usize {
        (0..100)
            .filter(|_| rate_limiter.try_acquire(client, monotonic_ms).is_ok())
            .count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate_limiter = rate_limiter(20, 30);
        let one = client("192.0.2.1");
        assert_eq!(taken(&rate_limiter, one, 5_000), 30);
        assert_eq!(rate_limiter.try_acquire(one, 5_000), Err(3_000));
        assert_eq!(rate_limiter.try_acquire(one, 7_001), Err(999));
        assert_eq!(taken(&rate_limiter, one, 8_000), 1);
        assert_eq!(taken(&rate_limiter, one, 68_000), 20);
        // A bucket holds no more than a burst.
        assert_eq!(taken(&rate_limiter, one, 86_400_000), 30);
    }

    #[test]
    fn the_wait_that_is_told_is_enough_and_no_more() {
        for (rate, burst) in [(1, 1), (7, 3), (1_000, 1), (60_000, 60_000)] {
            let rate_limiter = rate_limiter(rate, burst);
            let one = client("192.0.2.1");
            while rate_limiter.try_acquire(one, 10).is_ok() {}
            let wait = rate_limiter.try_acquire(one, 10).unwrap_err();
            if wait > 1 {
                assert!(rate_limiter.try_acquire(one, 10 + wait - 1).is_err());
            }
            assert_eq!(rate_limiter.try_acquire(one, 10 + wait), Ok(()));
        }
    }

    #[test]
    fn clients_do_not_share_but_the_addresses_of_one_network_do() {
        let rate_limiter = rate_limiter(20, 30);
        for (address, expected) in [
            ("2001:db8:0:1::1", 30),
            ("2001:db8:0:1:ffff::2", 0),
            ("2001:db8:0:2::1", 30),
            ("192.0.2.1", 30),
            ("::ffff:192.0.2.1", 0),
            ("192.0.2.2", 30),
        ] {
            assert_eq!(
                taken(&rate_limiter, client(address), 0),
                expected,
                "{address}"
            );
        }
        assert_eq!(taken(&rate_limiter, Client::Local, 0), 30);
    }

    #[test]
    fn transition_mechanisms_count_as_the_ipv4_address_inside() {
        for (address, counts_as) in [
            // RFC 3056: 6to4.
            ("2002:c000:201::1", "192.0.2.1"),
            ("2002:c000:201:ffff:a:b:c:d", "192.0.2.1"),
            ("2003:c000:201::1", "2003:c000:201::"),
            // RFC 4380: Teredo, by its example of a client's address.
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"),
            ("2001::3fff:fdfe", "192.0.2.1"),
            ("2001:1::3fff:fdfe", "2001:1::"),
            // RFC 6052 and RFC 8215: NAT64.
            ("64:ff9b::192.0.2.1", "192.0.2.1"),
            ("64:ff9b::1:0:192.0.2.1", "64:ff9b::1:0:0:0"),
            ("64:ff9b:1::192.0.2.1", "192.0.2.1"),
            ("64:ff9b:1:fffe:1:2:192.0.2.1", "192.0.2.1"),
            ("64:ff9b:2::192.0.2.1", "64:ff9b:2::"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            // None of these.
            ("::192.0.2.1", "::"),
            ("2001:db8::192.0.2.1", "2001:db8::"),
        ] {
            assert_eq!(client(address), client(counts_as), "{address}");
        }
    }

    #[test]
    fn wider_networks_have_four_and_sixteen_times_as_much() {
        let address = |site: u16, subnet: u16| client(&format!("2001:db8:{site:x}:{subnet:x}::1"));
        // Where clients are, what all of them get at once, and a minute.
        for (subnets, all) in [
            (vec![0x100], 1),
            (vec![0x100, 0x101], 2),
            ((0x100..0x200).collect(), 4),
            ((0..0x200).collect(), 8),
            ((0..0x1000).step_by(0x80).collect(), 16),
            ((0..0x8000).step_by(0x80).collect(), 16),
        ] {
            // A minute's worth that does not divide by sixteen.
            for (rate, burst) in [(20, 30), (7, 3)] {
                let rate_limiter = rate_limiter(rate, burst);
                let taken_by_all = |monotonic_ms| -> u32 {
                    let clients = subnets.iter().map(|subnet| address(1, *subnet));
                    let taken = clients.map(|client| taken(&rate_limiter, client, monotonic_ms));
                    u32::try_from(taken.sum::<usize>()).unwrap()
                };
                assert_eq!(taken_by_all(0), all * burst, "{subnets:x?}");
                let minute = taken_by_all(60_000);
                assert_eq!(minute, all * rate.min(burst), "{subnets:x?}");
                // The next organization's are its own.
                let others = taken(&rate_limiter, address(2, 0x100), 0);
                assert_eq!(others, burst as usize);
            }
        }
    }

    #[test]
    fn a_creation_takes_from_all_its_buckets_or_from_none() {
        let rate_limiter = rate_limiter(20, 3);
        let address = |subnet: u16| client(&format!("2001:db8:0:{subnet:x}::1"));
        for subnet in 0..4 {
            assert_eq!(taken(&rate_limiter, address(subnet), 0), 3);
        }
        // The /56 is used up. A client of it that has taken nothing waits for
        // that, one that has used up its own for this.
        assert_eq!(rate_limiter.try_acquire(address(4), 0), Err(750));
        assert_eq!(rate_limiter.try_acquire(address(0), 0), Err(3_000));
        assert_eq!(taken(&rate_limiter, address(4), 749), 0);
        // What was refused took nothing and left nothing behind.
        assert_eq!(rate_limiter.full_at.lock().unwrap().len(), 4 + 2);
        assert_eq!(taken(&rate_limiter, address(5), 750), 1);
        assert_eq!(rate_limiter.try_acquire(address(4), 750), Err(750));
        let next_56 = (0x100..0x10f).map(|subnet| taken(&rate_limiter, address(subnet), 750));
        assert_eq!(next_56.sum::<usize>(), 12);
        // The /48 has had 25, and the time since the start gave it back four.
        let others = (0x200..0x1200).step_by(0x80);
        let others = others.map(|subnet| taken(&rate_limiter, address(subnet), 750));
        assert_eq!(others.sum::<usize>(), 48 + 4 - 25);
        assert_eq!(rate_limiter.try_acquire(address(0x1500), 750), Err(188));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_whom_it_has_not_seen_for_longest() {
        let rate_limiter = rate_limiter(20, 1);
        let first = Client::V4(0);
        assert_eq!(rate_limiter.try_acquire(first, 0), Ok(()));
        for number in 1..=u32::try_from(BUCKETS.get()).unwrap() {
            rate_limiter.try_acquire(Client::V4(number), 0).unwrap();
        }
        assert_eq!(rate_limiter.full_at.lock().unwrap().len(), BUCKETS.get());
        assert_eq!(rate_limiter.try_acquire(first, 0), Ok(()), "forgotten");
        let last = Client::V4(u32::try_from(BUCKETS.get()).unwrap());
        assert!(rate_limiter.try_acquire(last, 0).is_err(), "remembered");
    }

    #[test]
    fn a_refused_attempt_is_no_use_of_a_bucket() {
        let rate_limiter = rate_limiter(20, 1);
        let first = Client::V4(0);
        for number in 0..u32::try_from(BUCKETS.get()).unwrap() {
            rate_limiter.try_acquire(Client::V4(number), 0).unwrap();
        }
        assert!(rate_limiter.try_acquire(first, 0).is_err());
        rate_limiter.try_acquire(Client::V4(u32::MAX), 0).unwrap();
        assert_eq!(rate_limiter.try_acquire(first, 0), Ok(()), "forgotten");
    }

    #[test]
    fn an_entry_is_of_the_size_that_is_counted() {
        // And two pointers of the list.
        assert_eq!(size_of::<(Network, u64)>(), 24);
    }
}
