//! What counters are made of: one number, and numbers by label or size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tiny_http::Method;

use crate::protocol::Protocol;

/// The statuses that are told apart, the usual ones first.
const STATUSES: [u16; 21] = [
    200, 304, 201, 202, 204, 400, 403, 404, 405, 408, 409, 412, 413, 415, 417, 429, 431, 500, 501,
    503, 505,
];

/// The methods, by their place in the table.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "other"];

/// The values of the label `protocol`, by their place in the table.
const PROTOCOLS: [&str; 5] = ["none", "check", "msc3886", "msc4108", "msc4388"];

/// One number that all threads count in. A clone is a copy of its value.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds so many.
    #[inline]
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Takes one away.
    pub(super) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clone for Counter {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.get()))
    }
}

/// One counter a status.
#[derive(Clone, Debug, Default)]
pub struct ByStatus([Counter; STATUSES.len() + 1]);

impl ByStatus {
    /// Counts one.
    #[inline]
    pub fn count(&self, status: u16) {
        let known = STATUSES.iter().position(|known| *known == status);
        self.0[known.unwrap_or(STATUSES.len())].increment();
    }

    /// Those that are not zero. Status 0 stands for any other.
    pub fn seen(&self) -> impl Iterator<Item = (u16, u64)> {
        STATUSES
            .into_iter()
            .chain([0])
            .zip(&self.0)
            .map(|(status, counter)| (status, counter.get()))
            .filter(|(_, count)| *count > 0)
    }

    /// How many had this status.
    #[must_use]
    pub fn of(&self, status: u16) -> u64 {
        let found = self.seen().find(|(seen, _)| *seen == status);
        found.map_or(0, |(_, count)| count)
    }
}

/// What a request is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// No protocol that could be told.
    Unknown,
    /// A health check, or the check page.
    Check,
    /// A protocol.
    Protocol(Protocol),
}

/// One counter a purpose, method and status.
#[derive(Clone, Debug, Default)]
pub struct Requests([[ByStatus; METHODS.len()]; PROTOCOLS.len()]);

impl Requests {
    /// Counts one.
    pub fn count(&self, purpose: Purpose, method: &Method, status: u16) {
        let protocol = match purpose {
            Purpose::Unknown => 0,
            Purpose::Check => 1,
            Purpose::Protocol(Protocol::Msc3886) => 2,
            Purpose::Protocol(Protocol::Msc4108) => 3,
            Purpose::Protocol(Protocol::Msc4388) => 4,
        };
        let method = match method {
            Method::Get => 0,
            Method::Head => 1,
            Method::Post => 2,
            Method::Put => 3,
            Method::Delete => 4,
            Method::Options => 5,
            _ => 6,
        };
        self.0[protocol][method].count(status);
    }

    /// Those that are not zero: protocol, method, status and count.
    pub fn seen(&self) -> impl Iterator<Item = (&'static str, &'static str, u16, u64)> {
        let protocols = PROTOCOLS.into_iter().zip(&self.0);
        protocols.flat_map(|(protocol, methods)| {
            let methods = METHODS.into_iter().zip(methods);
            methods.flat_map(move |(method, counters)| {
                let seen = counters.seen();
                seen.map(move |(status, count)| (protocol, method, status, count))
            })
        })
    }
}

/// Durations, by size.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    buckets: [Counter; Self::BOUNDS.len() + 1],
    nanoseconds: Counter,
}

impl Durations {
    /// The longest of each bucket but the last, which has the rest, in
    /// microseconds.
    pub const BOUNDS: [u64; 16] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
        1_000_000, 2_500_000, 5_000_000, 10_000_000,
    ];

    /// Counts some that took equally long.
    pub fn count(&self, duration: Duration, number: u64) {
        // Cheaper than the 128 bits that a duration has room for.
        let nanoseconds = duration.as_secs() * 1_000_000_000 + u64::from(duration.subsec_nanos());
        let mut bounds = Self::BOUNDS.iter();
        let bucket = bounds.position(|bound| nanoseconds <= bound * 1_000);
        let bucket = bucket.unwrap_or(Self::BOUNDS.len());
        self.buckets[bucket].add(number);
        self.nanoseconds.add(nanoseconds * number);
    }

    /// How many are in each bucket.
    #[must_use]
    pub fn buckets(&self) -> [u64; Self::BOUNDS.len() + 1] {
        self.buckets.each_ref().map(Counter::get)
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.buckets().iter().sum()
    }

    /// How long all of them took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_and_what_is_unknown_is_counted_too() {
        let requests = Requests::default();
        assert_eq!(requests.seen().count(), 0);
        let strange: Method = "STRANGE".parse().unwrap();
        for _ in 0..3 {
            requests.count(Purpose::Protocol(Protocol::Msc4108), &Method::Get, 304);
        }
        requests.count(Purpose::Protocol(Protocol::Msc4388), &Method::Put, 409);
        requests.count(Purpose::Unknown, &Method::Patch, 405);
        requests.count(Purpose::Unknown, &strange, 405);
        requests.count(Purpose::Check, &Method::Options, 204);
        requests.count(Purpose::Protocol(Protocol::Msc3886), &Method::Options, 299);
        let seen: Vec<_> = requests.seen().collect();
        let expected = [
            ("none", "other", 405, 2),
            ("check", "OPTIONS", 204, 1),
            ("msc3886", "OPTIONS", 0, 1),
            ("msc4108", "GET", 304, 3),
            ("msc4388", "PUT", 409, 1),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn durations_fall_into_the_bucket_that_they_fit() {
        let durations = Durations::default();
        durations.count(Duration::from_micros(100), 2);
        durations.count(Duration::from_nanos(100_001), 1);
        durations.count(Duration::from_secs(10), 1);
        durations.count(Duration::from_secs(11), 1);
        let buckets = durations.buckets();
        assert_eq!(buckets[..2], [2, 1]);
        assert_eq!(buckets[15..], [1, 1]);
        assert_eq!(durations.total(), 5);
        assert_eq!(durations.sum(), Duration::from_nanos(21_000_300_001));
        assert!(Durations::BOUNDS.is_sorted());
    }

    #[test]
    fn a_clone_does_not_follow() {
        let counter = Counter::default();
        counter.add(2);
        let copy = counter.clone();
        counter.increment();
        assert_eq!((copy.get(), counter.get()), (2, 3));
    }
}
