//! Values of the command line as types, their limits, and the memory that they
//! add up to.

use std::env;
use std::fmt;
use std::net::IpAddr;
use std::ops::{Deref, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;

use crate::session::{Content, Session};

/// The largest `--max-entries`: a hundred thousand sign-ins a minute.
pub const MAX_ENTRIES: usize = 100_000;

/// The largest `--max-connections`: the kernel's usual limit of file
/// descriptors for a process (`fs.nr_open`).
pub const MAX_CONNECTIONS: usize = 1024 * 1024;

/// The largest `--create-rate` and `--create-burst`: a thousand a second is no
/// limit any more.
pub const MAX_CREATIONS: usize = 60_000;

/// The largest `--workers`: more would only wait for the store's lock.
pub const MAX_WORKERS: usize = 256;

/// What the program takes when it does nothing, in bytes: its code and the
/// libraries' (glibc has some 2 MiB), the heap's first pages, one slab of the
/// block pool.
const PROGRAM_SIZE: u64 = 4 * 1024 * 1024;

/// Lifetimes of sign-in sessions that MSC4108 and MSC4388 allow.
const SIGN_IN_TTL: RangeInclusive<Duration> = Duration::from_secs(120)..=Duration::from_secs(300);

/// A value of `--prefix`: empty, or a path with a slash at its beginning and
/// none at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Default for Prefix {
    fn default() -> Self {
        Self("/rendezvous".into())
    }
}

impl FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
        let dots = |part| matches!(part, "." | "..");
        let legal = text.bytes().all(legal) && !text.contains("//") && !text.split('/').any(dots);
        if !text.starts_with('/') || !legal {
            return Err("write a path that begins with a slash, like /rendezvous");
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        if text == "/_matrix" || text.starts_with("/_matrix/") {
            return Err("the paths below /_matrix are the protocols' own; choose another");
        }
        Ok(Self(text.into()))
    }
}

impl Deref for Prefix {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A value of `--public-url`: scheme, host and maybe a path, without a slash at
/// its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Whether its path ends in the prefix already.
    #[must_use]
    pub fn has_prefix(&self, prefix: &Prefix) -> bool {
        let rest = self.0.split_once("://").map(|(_, rest)| rest);
        let path = rest.and_then(|rest| Some(&rest[rest.find('/')?..]));
        !prefix.is_empty() && path.is_some_and(|path| path.ends_with(&**prefix))
    }
}

impl FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = text.trim_end_matches('/');
        let rest = ["https://", "http://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .unwrap_or_default();
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]/%".contains(&b);
        if rest.is_empty() || rest.starts_with(['/', ':']) || !rest.bytes().all(legal) {
            return Err("write scheme and host, like https://matrix.example.org");
        }
        Ok(Self(url.into()))
    }
}

impl Deref for PublicUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A value of `--ttl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(pub Duration);

impl Default for Ttl {
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

impl FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = Duration::from_secs(1)..=Session::MAX_LIFETIME;
        let rule = "write a number and a unit, from 1s to 1day, like 90s or 5m";
        duration_in(text, &range, rule).map(Self)
    }
}

/// A value of `--sign-in-ttl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignInTtl(pub Duration);

impl Default for SignInTtl {
    fn default() -> Self {
        Self(*SIGN_IN_TTL.end())
    }
}

impl FromStr for SignInTtl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        duration_in(text, &SIGN_IN_TTL, "MSC4108 and MSC4388 allow 2m to 5m").map(Self)
    }
}

/// A value of `--long-poll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongPoll(pub Duration);

impl LongPoll {
    /// Less than the 30 s after which matrix-rust-sdk gives a request up, and
    /// than the 30 to 60 s of proxies.
    const MAX: Duration = Duration::from_secs(25);
}

impl Default for LongPoll {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

impl FromStr for LongPoll {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "write a number and a unit, up to 25s; 0s answers every poll at once";
        duration_in(text, &(Duration::ZERO..=Self::MAX), rule).map(Self)
    }
}

/// A value of `--drain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drain(pub Duration);

impl FromStr for Drain {
    type Err = String;

    /// Up to the longest life of a sign-in: nothing is left to wait for then.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "write a number and a unit, up to 5m; 0s stops at once";
        duration_in(text, &(Duration::ZERO..=*SIGN_IN_TTL.end()), rule).map(Self)
    }
}

/// A time in this range; the error says what the rule is.
fn duration_in(
    text: &str,
    range: &RangeInclusive<Duration>,
    rule: &str,
) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if range.contains(&duration) => Ok(duration),
        Err(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => Err(format!(
            "it has no unit: write {text}s for seconds or {text}m for minutes"
        )),
        _ => Err(rule.into()),
    }
}

/// A value of `--max-bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadSize(pub usize);

impl Default for PayloadSize {
    fn default() -> Self {
        Self(4096)
    }
}

impl FromStr for PayloadSize {
    type Err = &'static str;

    /// Up to [`Content::MAX_PAYLOAD`]: every connection may hold one while it
    /// arrives.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ByteSize::from_str(text)
            .ok()
            .and_then(|size| usize::try_from(size.as_u64()).ok())
            .filter(|size| (1..=Content::MAX_PAYLOAD).contains(size))
            .map(Self)
            .ok_or("write a size from 1 to 1MiB, like 4096 or 4KiB")
    }
}

/// A number from 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpTo<const MAX: usize>(pub usize);

impl<const MAX: usize> FromStr for UpTo<MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .ok()
            .filter(|number| (1..=MAX).contains(number))
            .map(Self)
            .ok_or_else(|| format!("write a number from 1 to {MAX}"))
    }
}

/// A value of `--trusted-proxy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Nobody is trusted.
    None,
    /// Who connects to a Unix socket is.
    Unix,
    /// Who connects from there is.
    Network(IpNet),
}

impl FromStr for TrustedProxy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => return Ok(Self::None),
            "unix" => return Ok(Self::Unix),
            _ => {}
        }
        let network = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| "write an address, a network like 10.0.0.0/8, unix or none")?;
        match network {
            // Peers over IPv4 are known by their IPv4 addresses.
            IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => {
                Err("write IPv4 networks as such")
            }
            _ => Ok(Self::Network(network)),
        }
    }
}

/// The most memory that the program can take, in bytes, by what takes it. It is
/// a bound: no sequence of requests exceeds it.
#[derive(Clone, Copy, Debug)]
pub struct MemoryCeiling {
    /// Sessions with the largest payloads and all their transactions.
    pub sessions: u64,
    /// Connections, their buffers and the workers.
    pub connections: u64,
    /// What is known of clients.
    pub clients: u64,
    /// The admin port, 0 without one.
    pub admin: u64,
}

impl MemoryCeiling {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        [
            self.sessions,
            self.connections,
            self.clients,
            self.admin,
            PROGRAM_SIZE,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

impl fmt::Display for MemoryCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at most {} in all: sessions {}, connections {}, client addresses {}, ",
            ByteSize(self.total()),
            ByteSize(self.sessions),
            ByteSize(self.connections),
            ByteSize(self.clients),
        )?;
        if self.admin > 0 {
            write!(f, "admin port {}, ", ByteSize(self.admin))?;
        }
        write!(f, "the program {}", ByteSize(PROGRAM_SIZE))
    }
}

/// The heaps of the allocator: glibc has one for the main thread and one for
/// each worker, unless limited as by our units (mallopt(3)); musl has one.
#[must_use]
pub fn heaps(workers: usize) -> usize {
    if cfg!(not(target_env = "gnu")) {
        return 1;
    }
    let limit = env::var("MALLOC_ARENA_MAX").ok();
    let limit = limit.and_then(|text| text.parse().ok());
    let limit = limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    workers.saturating_add(1).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_kept_without_the_slash_at_its_end() {
        for (text, kept) in [("/", ""), ("/a/", "/a"), ("/_synapse/r", "/_synapse/r")] {
            assert_eq!(&*text.parse::<Prefix>().unwrap(), kept);
        }
    }

    #[test]
    fn a_public_url_is_kept_without_the_slash_at_its_end() {
        for (text, kept) in [
            ("https://a.example", "https://a.example"),
            ("http://[::1]:8090/x/", "http://[::1]:8090/x"),
        ] {
            assert_eq!(&*text.parse::<PublicUrl>().unwrap(), kept);
        }
    }

    #[test]
    fn a_public_url_with_the_prefix_is_known() {
        let has = |url: &str, prefix: &str| {
            let prefix: Prefix = prefix.parse().unwrap();
            url.parse::<PublicUrl>().unwrap().has_prefix(&prefix)
        };
        assert!(has("https://a/rendezvous", "/rendezvous"));
        assert!(has("https://a/x/rendezvous/", "/rendezvous"));
        assert!(!has("https://rendezvous", "/rendezvous"));
        assert!(!has("https://a/x", "/"));
    }
}
