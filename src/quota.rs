//! How many sessions a client may create: a token bucket for each, in a
//! bounded table. Nothing here reads a clock.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

/// Buckets held. Those beyond are forgotten, the least recently used first:
/// who has more addresses than that gets each one's burst again, and meets
/// the store's own ceiling.
const BUCKETS: NonZeroUsize = NonZeroUsize::new(16 * 1024).unwrap();

/// The most that the buckets take, in bytes: each has a list entry of 48 and
/// its part of a table that is half empty.
pub const SIZE: u64 = BUCKETS.get() as u64 * 96;

/// Who counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// Whoever uses a Unix socket.
    Local,
    /// An IPv4 address.
    V4(u32),
    /// An IPv6 network of 64 bits, the least that a customer is given
    /// (RFC 6177, section 2): addresses in it cost nothing.
    V6(u64),
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, high, low] = address.segments();
                // A translator's clients (RFC 6052, section 2.1).
                if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
                    return Self::V4(u32::from(high) << 16 | u32::from(low));
                }
                let network = [a, b, c, d].map(u64::from);
                Self::V6(network.iter().fold(0, |bits, part| bits << 16 | part))
            }
        }
    }
}

/// How much a client may create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Sessions a minute, in the long run; not 0.
    pub rate: u32,
    /// Sessions at once, by who has created none for a while; not 0.
    pub burst: u32,
}

/// The buckets of all clients.
///
/// A bucket is one number, the time at which it is full again: creating moves
/// it on by what one session costs, and it may not be further away than what
/// a burst costs (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
pub struct Quota {
    /// What one session costs, in microseconds.
    cost: u64,
    burst: u64,
    full_at: Mutex<LruCache<Client, u64>>,
}

impl Quota {
    /// A quota that nobody has used yet.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        let cost = 60_000_000 / u64::from(allowance.rate.max(1));
        Self {
            cost,
            burst: cost * u64::from(allowance.burst.max(1)),
            full_at: Mutex::new(LruCache::new(BUCKETS)),
        }
    }

    /// Takes one session's worth from a client's bucket, at `steady`
    /// milliseconds.
    ///
    /// # Errors
    /// Nothing is taken, and there will be enough in so many milliseconds.
    pub fn take(&self, client: Client, steady: u64) -> Result<(), u64> {
        let now = steady * 1_000;
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.get_or_insert_mut(client, || now);
        let next = now.max(*full_at) + self.cost;
        let wait = next.saturating_sub(now + self.burst);
        if wait > 0 {
            return Err(wait.div_ceil(1_000));
        }
        *full_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Client {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn quota(rate: u32, burst: u32) -> Quota {
        Quota::new(Allowance { rate, burst })
    }

    /// How many of a hundred attempts at one time succeed.
    fn taken(quota: &Quota, client: Client, steady: u64) -> usize {
        (0..100)
            .filter(|_| quota.take(client, steady).is_ok())
            .count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let quota = quota(20, 30);
        let one = client("192.0.2.1");
        assert_eq!(taken(&quota, one, 5_000), 30);
        assert_eq!(quota.take(one, 5_000), Err(3_000));
        assert_eq!(quota.take(one, 7_001), Err(999));
        assert_eq!(taken(&quota, one, 8_000), 1);
        assert_eq!(taken(&quota, one, 68_000), 20);
        // A bucket holds no more than a burst.
        assert_eq!(taken(&quota, one, 86_400_000), 30);
    }

    #[test]
    fn the_wait_that_is_told_is_enough_and_no_more() {
        for (rate, burst) in [(1, 1), (7, 3), (1_000, 1), (60_000, 60_000)] {
            let quota = quota(rate, burst);
            let one = client("192.0.2.1");
            while quota.take(one, 10).is_ok() {}
            let wait = quota.take(one, 10).unwrap_err();
            if wait > 1 {
                assert!(quota.take(one, 10 + wait - 1).is_err());
            }
            assert_eq!(quota.take(one, 10 + wait), Ok(()));
        }
    }

    #[test]
    fn clients_do_not_share_but_the_addresses_of_one_network_do() {
        let quota = quota(20, 30);
        assert_eq!(taken(&quota, client("2001:db8:0:1::1"), 0), 30);
        assert_eq!(taken(&quota, client("2001:db8:0:1:ffff::2"), 0), 0);
        assert_eq!(taken(&quota, client("2001:db8:0:2::1"), 0), 30);
        assert_eq!(taken(&quota, client("192.0.2.1"), 0), 30);
        assert_eq!(taken(&quota, client("::ffff:192.0.2.1"), 0), 0);
        assert_eq!(taken(&quota, client("64:ff9b::192.0.2.1"), 0), 0);
        assert_eq!(taken(&quota, client("192.0.2.2"), 0), 30);
        assert_eq!(taken(&quota, Client::Local, 0), 30);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_whom_it_has_not_seen_for_longest() {
        let quota = quota(20, 1);
        let first = Client::V4(0);
        assert_eq!(quota.take(first, 0), Ok(()));
        for number in 1..=u32::try_from(BUCKETS.get()).unwrap() {
            quota.take(Client::V4(number), 0).unwrap();
        }
        assert_eq!(quota.full_at.lock().unwrap().len(), BUCKETS.get());
        assert_eq!(quota.take(first, 0), Ok(()), "forgotten");
        let last = Client::V4(u32::try_from(BUCKETS.get()).unwrap());
        assert!(quota.take(last, 0).is_err(), "remembered");
    }
}
