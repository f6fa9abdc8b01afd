//! Command-line flags, their units and their checks.

// What documents the flags is printed by --help as it stands.
#![allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links)]

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;

use argh::FromArgs;
use log::LevelFilter;

use crate::api::SIGN_IN_MAX_BYTES;
use crate::client::TrustedProxies;
use crate::config::{
    Drain, LongPoll, MAX_CONNECTIONS, MAX_CREATIONS, MAX_ENTRIES, MAX_WORKERS, PayloadSize, Prefix,
    PublicUrl, SignInTtl, TrustedProxy, Ttl, UpTo,
};
use crate::server::Address;
use crate::session::NodeName;
use crate::usage;

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
    #[argh(option, arg_name = "path", default = "Prefix::default()")]
    pub prefix: Prefix,

    /// URL in front of our paths as clients see it, like
    /// https://matrix.example.org; default: what the request and trusted
    /// proxies say
    #[argh(option, arg_name = "url")]
    pub public_url: Option<PublicUrl>,

    /// name of this node behind a load balancer: 1 to 8 lowercase letters or
    /// digits; its session ids start with it and a dot; default: none
    #[argh(option, arg_name = "name")]
    pub node: Option<NodeName>,

    /// proxy to believe about scheme, host and client: an address, a network like
    /// 10.0.0.0/8, unix (whoever uses a Unix socket), or none; may be given
    /// several times, once for each proxy of a chain; default: connections
    /// from loopback and unix
    #[argh(option, arg_name = "network")]
    pub trusted_proxy: Vec<TrustedProxy>,

    /// life of an MSC3886 session after its last write, 1s to 1day, default
    /// 60s
    #[argh(option, arg_name = "time", default = "Ttl::default()")]
    pub ttl: Ttl,

    /// life of an MSC4108 or MSC4388 session, 2m to 5m, default 5m
    #[argh(option, arg_name = "time", default = "SignInTtl::default()")]
    pub sign_in_ttl: SignInTtl,

    /// how long a poll may wait for a change before it is answered 304
    /// (MSC3886, MSC4108), up to 25s, default 10s; 0s answers at once
    #[argh(option, arg_name = "time", default = "LongPoll::default()")]
    pub long_poll: LongPoll,

    /// largest MSC3886 payload, up to 1MiB, default 4KiB (4KB is 4000 bytes)
    #[argh(option, arg_name = "size", default = "PayloadSize::default()")]
    pub max_bytes: PayloadSize,

    /// most sessions held, up to 100000; a newer one takes the place of one of
    /// the network that holds most; default 10000
    #[argh(option, arg_name = "number", default = "UpTo(10_000)")]
    pub max_entries: UpTo<MAX_ENTRIES>,

    /// most connections held; a newer one takes the place of the one idle
    /// for longest; default 4096
    #[argh(option, arg_name = "number", default = "UpTo(4096)")]
    pub max_connections: UpTo<MAX_CONNECTIONS>,

    /// sessions that one client address, or IPv6 network of 64 bits, may
    /// create a minute; a /56 may four times and a /48 sixteen times as many;
    /// default 20
    #[argh(option, arg_name = "number", default = "UpTo(20)")]
    pub create_rate: UpTo<MAX_CREATIONS>,

    /// sessions that one may create at once, with the same factors for a /56
    /// and a /48; default 30
    #[argh(option, arg_name = "number", default = "UpTo(30)")]
    pub create_burst: UpTo<MAX_CREATIONS>,

    /// threads that answer requests, up to 256, default one a core
    #[argh(option, arg_name = "number", default = "cores()")]
    pub workers: UpTo<MAX_WORKERS>,

    /// admin listen address (/health, /metrics): 127.0.0.1:8091, another
    /// loopback address or unix:/path; default: disabled
    #[argh(option, arg_name = "address", from_str_fn(admin))]
    pub admin: Option<Address>,

    /// let --admin be an address that others can reach; it asks for no
    /// password
    #[argh(switch)]
    pub admin_allow_remote: bool,

    /// file that keeps the sessions from a stop to the next start
    #[argh(option, arg_name = "path")]
    pub state_file: Option<PathBuf>,

    /// time between a signal to stop and the stop; health checks fail meanwhile,
    /// so that a load balancer moves on, and no session is created in the second
    /// half; up to 5m, default 0s; another signal stops at once
    #[argh(option, arg_name = "time", default = "Drain::default()")]
    pub drain: Drain,

    /// do not serve the check page, at /check below --prefix
    #[argh(switch)]
    pub no_check_page: bool,

    /// check the flags, print limits and memory, and exit: with 2 if a flag is
    /// wrong
    #[argh(switch)]
    pub check: bool,

    /// ask the server that runs at --listen whether it answers, and exit: with
    /// 0 if it does, for health checks
    #[argh(switch)]
    pub probe: bool,

    /// what to log: off, error, warn, info (the default), debug or trace
    #[argh(
        option,
        arg_name = "level",
        default = "LevelFilter::Info",
        from_str_fn(log_level)
    )]
    pub log_level: LevelFilter,

    /// print the version
    #[argh(switch, short = 'V')]
    pub version: bool,
}

impl Flags {
    /// Where to listen if nothing is said and no sockets are inherited.
    #[must_use]
    pub fn default_address() -> Address {
        Address::Tcp(([127, 0, 0, 1], 8090).into())
    }

    /// Where a server with these flags listens, if it inherits no sockets.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        match &self.listen[..] {
            [] => vec![Self::default_address()],
            listen => listen.to_vec(),
        }
    }

    /// The value of `--max-entries`.
    #[must_use]
    pub fn max_entries(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.max_entries.0).unwrap_or(NonZeroUsize::MIN)
    }

    /// The largest payload of any protocol, in bytes.
    #[must_use]
    pub fn largest_payload(&self) -> usize {
        self.max_bytes.0.max(SIGN_IN_MAX_BYTES)
    }

    fn admin_is_remote(&self) -> bool {
        matches!(&self.admin, Some(Address::Tcp(address)) if !address.ip().is_loopback())
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
    /// To say what these flags come to.
    Check(Box<Flags>),
    /// To ask the server at these addresses whether it answers.
    Probe(Vec<Address>),
    /// To print this text.
    Print(String),
}

/// Reads the command line, the program's name first.
///
/// # Errors
/// One line that names the flag, the value and what would be right.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut words = Vec::new();
    for argument in arguments.into_iter().skip(1) {
        let word = argument
            .into_string()
            .map_err(|word| format!("{} is not UTF-8", word.to_string_lossy()))?;
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
        Ok(flags) if has_prefix(&flags) => Err(format!(
            "--public-url is what stands in front of our paths: write it without {}",
            &*flags.prefix
        )),
        Ok(flags) if flags.probe => Ok(Command::Probe(flags.addresses())),
        Ok(flags) if flags.check => Ok(Command::Check(Box::new(flags))),
        Ok(flags) => Ok(Command::Serve(Box::new(flags))),
        Err(exit) if exit.status.is_ok() => Ok(Command::Print(exit.output)),
        Err(exit) => Err(usage::explain(&exit.output, &words, &help())),
    }
}

/// What `--help` prints.
fn help() -> String {
    Flags::from_args(&["rendezvousd"], &["--help"])
        .err()
        .map_or_else(String::new, |exit| exit.output)
}

fn version() -> String {
    format!("rendezvousd {}\n", env!("CARGO_PKG_VERSION"))
}

fn has_prefix(flags: &Flags) -> bool {
    let url = flags.public_url.as_ref();
    url.is_some_and(|url| url.has_prefix(&flags.prefix))
}

fn cores() -> UpTo<MAX_WORKERS> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    UpTo(cores.min(MAX_WORKERS))
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
    use std::time::Duration;

    use super::*;

    fn flags(words: &[&str]) -> Result<Flags, String> {
        let words = ["rendezvousd"].iter().chain(words).map(OsString::from);
        match parse(words)? {
            Command::Serve(flags) => Ok(*flags),
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_module_we_supersede() {
        let flags = flags(&[]).unwrap();
        assert_eq!(&*flags.prefix, "/rendezvous");
        assert_eq!(flags.ttl.0, Duration::from_secs(60));
        assert_eq!((flags.max_bytes.0, flags.max_entries.0), (4096, 10_000));
        assert!(flags.listen.is_empty());
        let default: Address = "127.0.0.1:8090".parse().unwrap();
        assert_eq!(Flags::default_address(), default);
    }

    #[test]
    fn units_are_those_people_write() {
        let flags = flags(&["--ttl", "2m 5s", "--max-bytes=10KiB"]).unwrap();
        assert_eq!(flags.ttl.0, Duration::from_secs(125));
        assert_eq!(flags.max_bytes.0, 10_240);
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
}
