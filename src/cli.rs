//! Command-line flags, their units and their checks.

// What documents the flags is printed by --help as it stands.
#![allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links)]

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use argh::FromArgs;
use bytesize::ByteSize;
use ipnet::IpNet;
use log::LevelFilter;

use crate::api::SIGN_IN_MAX_BYTES;
use crate::client::TrustedProxies;
use crate::server::Address;
use crate::session::{Content, Session};

/// A rendezvous server for Matrix sign-in with QR code (MSC3886, MSC4108,
/// MSC4388).
#[derive(Debug, FromArgs)]
#[argh(help_triggers("--help", "-h"))]
pub struct Flags {
    /// where to listen: 127.0.0.1:8090 (the default), [::]:8090 or
    /// unix:/path; may be given several times
    #[argh(option, arg_name = "address")]
    pub listen: Vec<Address>,

    /// path of the rendezvous, default /rendezvous
    #[argh(
        option,
        arg_name = "path",
        default = "String::from(\"/rendezvous\")",
        from_str_fn(prefix)
    )]
    pub prefix: String,

    /// URL in front of our paths as clients see it, like
    /// https://matrix.example.org; default: what the request and trusted
    /// proxies say
    #[argh(option, arg_name = "url", from_str_fn(public_url))]
    pub public_url: Option<String>,

    /// proxy to believe about scheme, host and client: an address, a network like
    /// 10.0.0.0/8, unix (whoever uses a Unix socket), or none; may be given
    /// several times, once for each proxy of a chain; default: connections
    /// from loopback and unix
    #[argh(option, arg_name = "network")]
    pub trusted_proxy: Vec<TrustedProxy>,

    /// life of a MSC3886 session after its last write, 1s to 1day, default
    /// 60s
    #[argh(
        option,
        arg_name = "time",
        default = "Duration::from_secs(60)",
        from_str_fn(ttl)
    )]
    pub ttl: Duration,

    /// life of a MSC4108 or MSC4388 session, 2m to 5m, default 5m
    #[argh(
        option,
        arg_name = "time",
        default = "SIGN_IN_TTL.end().to_owned()",
        from_str_fn(sign_in_ttl)
    )]
    pub sign_in_ttl: Duration,

    /// largest MSC3886 payload, up to 1MiB, default 4KiB (4KB is 4000 bytes)
    #[argh(option, arg_name = "size", default = "4096", from_str_fn(max_bytes))]
    pub max_bytes: usize,

    /// most sessions held; a newer one takes the place of the least recently
    /// used; default 10000
    #[argh(
        option,
        arg_name = "number",
        default = "NonZeroUsize::MIN.saturating_add(9_999)",
        from_str_fn(max_entries)
    )]
    pub max_entries: NonZeroUsize,

    /// most connections held; a newer one takes the place of the one idle
    /// for longest; default 4096
    #[argh(
        option,
        arg_name = "number",
        default = "4096",
        from_str_fn(max_connections)
    )]
    pub max_connections: usize,

    /// sessions that one client address, or IPv6 network of 64 bits, may
    /// create a minute; a /56 may four times and a /48 sixteen times as many;
    /// default 20
    #[argh(option, arg_name = "number", default = "20", from_str_fn(creations))]
    pub create_rate: u32,

    /// sessions that one may create at once, with the same factors for a /56
    /// and a /48; default 30
    #[argh(option, arg_name = "number", default = "30", from_str_fn(creations))]
    pub create_burst: u32,

    /// threads that answer requests, up to 256, default one a core
    #[argh(option, arg_name = "number", default = "cores()", from_str_fn(workers))]
    pub workers: usize,

    /// where the operator finds /health and /metrics: 127.0.0.1:8091, another
    /// loopback address or unix:/path; default: nowhere
    #[argh(option, arg_name = "address", from_str_fn(admin))]
    pub admin: Option<Address>,

    /// let --admin be an address that others can reach; it asks for no
    /// password
    #[argh(switch)]
    pub admin_allow_remote: bool,

    /// file that keeps the sessions from a stop to the next start
    #[argh(option, arg_name = "path")]
    pub state_file: Option<PathBuf>,

    /// have no page that checks the rendezvous, at /check below --prefix
    #[argh(switch)]
    pub no_check_page: bool,

    /// what to log: off, error, warn, info (the default), debug or trace
    #[argh(
        option,
        arg_name = "level",
        default = "LevelFilter::Info",
        from_str_fn(log_level)
    )]
    pub log_level: LevelFilter,

    /// print the version
    #[argh(switch)]
    pub version: bool,
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

impl Flags {
    /// Where to listen if nothing is said and no sockets are inherited.
    #[must_use]
    pub fn default_address() -> Address {
        Address::Tcp(([127, 0, 0, 1], 8090).into())
    }

    /// The largest payload of any protocol, in bytes.
    #[must_use]
    pub fn largest_payload(&self) -> usize {
        self.max_bytes.max(SIGN_IN_MAX_BYTES)
    }

    fn admin_is_remote(&self) -> bool {
        matches!(&self.admin, Some(Address::Tcp(address)) if !address.ip().is_loopback())
    }

    fn names_the_prefix_twice(&self) -> bool {
        let url = self.public_url.as_deref().unwrap_or_default();
        let path = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('/'))
            .map_or_else(String::new, |(_, path)| format!("/{path}"));
        !self.prefix.is_empty() && path.ends_with(&self.prefix)
    }

    /// Whom to believe: peers on the loopback and on Unix sockets, or just
    /// those named.
    #[must_use]
    pub fn trusted_proxies(&self) -> TrustedProxies {
        let named = self.trusted_proxy.iter();
        let networks = named.filter_map(|proxy| match proxy {
            TrustedProxy::Network(network) => Some(*network),
            TrustedProxy::None | TrustedProxy::Unix => None,
        });
        let by_default = self.trusted_proxy.is_empty();
        TrustedProxies {
            networks: networks.collect(),
            loopback: by_default,
            local: by_default || self.trusted_proxy.contains(&TrustedProxy::Unix),
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// To serve.
    Serve(Box<Flags>),
    /// To print this text.
    Print(String),
}

/// The lives of sign-in sessions that MSC4108 and MSC4388 allow: a user needs
/// minutes, a server need not keep them longer.
const SIGN_IN_TTL: RangeInclusive<Duration> = Duration::from_secs(120)..=Duration::from_secs(300);

/// The largest `--max-bytes`. Payloads are some hundred bytes of key
/// exchange; every connection may hold one while it arrives.
const MAX_BYTES_LIMIT: usize = Content::MAX_PAYLOAD;

/// The largest `--max-entries`: ten million sign-ins a minute.
const MAX_ENTRIES_LIMIT: usize = 10_000_000;

/// The largest `--max-connections`: the kernel's usual ceiling of
/// descriptors a process (`fs.nr_open`).
const MAX_CONNECTIONS_LIMIT: usize = 1024 * 1024;

/// The largest `--create-rate` and `--create-burst`: a thousand a second is
/// no limit any more.
const CREATIONS_LIMIT: usize = 60_000;

/// The largest `--workers`: beyond, they only wait for the store's lock.
const WORKERS_LIMIT: usize = 256;

/// Reads the command line, the program's name first.
///
/// # Errors
/// One line that names the flag, the value and what would be right.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut words = Vec::new();
    for argument in arguments.into_iter().skip(1) {
        let word = argument
            .into_string()
            .map_err(|word| format!("{} is not UTF-8", word.display()))?;
        // argh wants a flag and its value as two words.
        match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => {
                words.extend([flag.to_owned(), value.to_owned()]);
            }
            _ => words.push(word),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match Flags::from_args(&["rendezvousd"], &words) {
        Ok(flags) if flags.version => Ok(Command::Print(version())),
        Ok(flags)
            if flags.trusted_proxy.len() > 1
                && flags.trusted_proxy.contains(&TrustedProxy::None) =>
        {
            Err("--trusted-proxy none stands alone".into())
        }
        Ok(flags) if flags.admin_is_remote() && !flags.admin_allow_remote => Err(
            "--admin asks for no password: write a loopback address, or say --admin-allow-remote"
                .into(),
        ),
        Ok(flags) if flags.names_the_prefix_twice() => Err(format!(
            "--public-url is what stands in front of our paths: write it without {}",
            flags.prefix
        )),
        Ok(flags) => Ok(Command::Serve(Box::new(flags))),
        Err(exit) if exit.status.is_ok() => Ok(Command::Print(exit.output)),
        Err(exit) => Err(complaint(exit.output.lines().next().unwrap_or_default())),
    }
}

/// argh's error, with a flag that is given twice in words of our own.
fn complaint(line: &str) -> String {
    let twice = line.ends_with(": duplicate values provided");
    match line.split('\'').nth(1) {
        Some("--state-file") if twice => {
            "--state-file is given twice (the systemd units give it already)".into()
        }
        Some(flag) if twice => format!("{flag} is given twice"),
        _ => line.to_owned(),
    }
}

fn version() -> String {
    format!("rendezvousd {}\n", env!("CARGO_PKG_VERSION"))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_LIMIT))
}

fn prefix(text: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let dots = |part| matches!(part, "." | "..");
    let legal = text.bytes().all(legal) && !text.contains("//") && !text.split('/').any(dots);
    if !text.starts_with('/') || !legal {
        return Err("write a path that begins with a slash, like /rendezvous".into());
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    if text == "/_matrix" || text.starts_with("/_matrix/") {
        return Err("the paths below /_matrix are the protocols' own; choose another".into());
    }
    Ok(text.into())
}

fn public_url(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .unwrap_or_default();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]/%".contains(&b);
    if rest.is_empty() || rest.starts_with(['/', ':']) || !rest.bytes().all(legal) {
        return Err("write scheme and host, like https://matrix.example.org".into());
    }
    Ok(url.into())
}

fn ttl(text: &str) -> Result<Duration, String> {
    let range = Duration::from_secs(1)..=Session::MAX_LIFETIME;
    humantime::parse_duration(text)
        .ok()
        .filter(|ttl| range.contains(ttl))
        .ok_or_else(|| "write a number and a unit, from 1s to 1day, like 90s or 5m".into())
}

fn sign_in_ttl(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|ttl| SIGN_IN_TTL.contains(ttl))
        .ok_or_else(|| "MSC4108 and MSC4388 allow 2m to 5m".into())
}

fn max_bytes(text: &str) -> Result<usize, String> {
    ByteSize::from_str(text)
        .ok()
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .filter(|size| (1..=MAX_BYTES_LIMIT).contains(size))
        .ok_or_else(|| "write a size from 1 to 1MiB, like 4096 or 4KiB".into())
}

fn number(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("write a number from {} to {}", range.start(), range.end()))
}

fn max_entries(text: &str) -> Result<NonZeroUsize, String> {
    let entries = number(text, 1..=MAX_ENTRIES_LIMIT)?;
    Ok(NonZeroUsize::new(entries).unwrap_or(NonZeroUsize::MIN))
}

fn max_connections(text: &str) -> Result<usize, String> {
    number(text, 1..=MAX_CONNECTIONS_LIMIT)
}

fn creations(text: &str) -> Result<u32, String> {
    let creations = number(text, 1..=CREATIONS_LIMIT)?;
    u32::try_from(creations).map_err(|error| error.to_string())
}

fn workers(text: &str) -> Result<usize, String> {
    number(text, 1..=WORKERS_LIMIT)
}

fn admin(text: &str) -> Result<Address, String> {
    text.parse()
        .map_err(|_| "write 127.0.0.1:8091 or unix:/path".into())
}

fn log_level(text: &str) -> Result<LevelFilter, String> {
    text.parse()
        .map_err(|_| "write off, error, warn, info, debug or trace".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &[&str]) -> Result<Flags, String> {
        let words = ["rendezvousd"].iter().chain(words).map(OsString::from);
        match parse(words)? {
            Command::Serve(flags) => Ok(*flags),
            Command::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_module_we_supersede() {
        let flags = flags(&[]).unwrap();
        assert_eq!(flags.prefix, "/rendezvous");
        assert_eq!(flags.ttl, Duration::from_secs(60));
        assert_eq!((flags.max_bytes, flags.max_entries.get()), (4096, 10_000));
        assert!(flags.listen.is_empty());
        let default: Address = "127.0.0.1:8090".parse().unwrap();
        assert_eq!(Flags::default_address(), default);
    }

    #[test]
    fn units_are_those_people_write() {
        let flags = flags(&["--ttl", "2m 5s", "--max-bytes=10KiB"]).unwrap();
        assert_eq!(flags.ttl, Duration::from_secs(125));
        assert_eq!(flags.max_bytes, 10_240);
    }

    #[test]
    fn loopback_and_unix_sockets_are_trusted_unless_said_otherwise() {
        let both = ["10.0.0.0/8", "fd00::1"];
        // What is named; trusted networks, then loopback and Unix sockets.
        for (named, networks, loopback, local) in [
            (&[][..], &[][..], true, true),
            (&both, &["10.0.0.0/8", "fd00::1/128"], false, false),
            (&["unix"], &[], false, true),
            (&["unix", "::1"], &["::1/128"], false, true),
            (&["127.0.0.1"], &["127.0.0.1/32"], false, false),
            (&["none"], &[], false, false),
        ] {
            let words = named.iter().flat_map(|name| ["--trusted-proxy", *name]);
            let expected = TrustedProxies {
                networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
                loopback,
                local,
            };
            let flags = flags(&words.collect::<Vec<_>>()).unwrap();
            assert_eq!(flags.trusted_proxies(), expected, "{named:?}");
        }
    }

    #[test]
    fn a_prefix_is_kept_without_the_slash_at_its_end() {
        for (text, kept) in [("/", ""), ("/a/", "/a"), ("/_synapse/r", "/_synapse/r")] {
            assert_eq!(prefix(text), Ok(kept.into()));
        }
    }

    #[test]
    fn a_public_url_is_kept_without_the_slash_at_its_end() {
        for (text, kept) in [
            ("https://a.example", "https://a.example"),
            ("http://[::1]:8090/x/", "http://[::1]:8090/x"),
        ] {
            assert_eq!(public_url(text), Ok(kept.into()));
        }
    }
}
