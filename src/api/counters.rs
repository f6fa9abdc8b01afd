//! What the protocols have seen since the start, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use tiny_http::Method;

use crate::protocol::Protocol;

/// The statuses that are told apart, the usual ones first.
const STATUSES: [u16; 21] = [
    200, 304, 201, 202, 204, 400, 403, 404, 405, 408, 409, 412, 413, 415, 417, 429, 431, 500, 501,
    503, 505,
];

/// The methods, by their place in the table.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "other"];

/// The protocols, by their place in the table.
const PROTOCOLS: [&str; 4] = ["none", "msc3886", "msc4108", "msc4388"];

/// What the protocols have seen since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests answered.
    pub requests: Requests,
    /// Requests that were refused before they came to a protocol, or whose
    /// answer failed.
    pub refused: ByStatus,
    /// Entity tags that a proxy had changed and that were read regardless.
    pub etags_normalized: AtomicU64,
    /// Reads refused because a browser would have shown the payload.
    pub navigations_refused: AtomicU64,
    /// Writes refused because another came first.
    pub conflicts: AtomicU64,
    /// Creates refused because the client had created enough.
    pub rate_limited: AtomicU64,
    /// Creates refused because the system had no random numbers.
    pub rng_failures: AtomicU64,
    /// Creates whose client a trusted proxy did not name, and that no quota
    /// applied to.
    pub unknown_client: AtomicU64,
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// One counter a status.
#[derive(Debug, Default)]
pub struct ByStatus([AtomicU64; STATUSES.len() + 1]);

impl ByStatus {
    #[inline]
    pub(super) fn count(&self, status: u16) {
        let known = STATUSES.iter().position(|known| *known == status);
        Counters::count(&self.0[known.unwrap_or(STATUSES.len())]);
    }

    /// Those that are not zero. Zero stands for any other status.
    pub fn seen(&self) -> impl Iterator<Item = (u16, u64)> {
        STATUSES
            .into_iter()
            .chain([0])
            .zip(&self.0)
            .map(|(status, counter)| (status, counter.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}

/// One counter a protocol, method and status.
#[derive(Debug, Default)]
pub struct Requests([[ByStatus; METHODS.len()]; PROTOCOLS.len()]);

impl Requests {
    pub(super) fn count(&self, protocol: Option<Protocol>, method: &Method, status: u16) {
        let protocol = match protocol {
            None => 0,
            Some(Protocol::Msc3886) => 1,
            Some(Protocol::Msc4108) => 2,
            Some(Protocol::Msc4388) => 3,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_and_what_is_unknown_is_counted_too() {
        let requests = Requests::default();
        assert_eq!(requests.seen().count(), 0);
        let strange: Method = "STRANGE".parse().unwrap();
        for _ in 0..3 {
            requests.count(Some(Protocol::Msc4108), &Method::Get, 304);
        }
        requests.count(Some(Protocol::Msc4388), &Method::Put, 409);
        requests.count(None, &Method::Patch, 405);
        requests.count(None, &strange, 405);
        requests.count(Some(Protocol::Msc3886), &Method::Options, 299);
        let seen: Vec<_> = requests.seen().collect();
        let expected = [
            ("none", "other", 405, 2),
            ("msc3886", "OPTIONS", 0, 1),
            ("msc4108", "GET", 304, 3),
            ("msc4388", "PUT", 409, 1),
        ];
        assert_eq!(seen, expected);
    }
}
