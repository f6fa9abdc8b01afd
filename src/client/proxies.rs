//! Trusted reverse proxies, and what they say of the requests they pass on.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::str;

use ipnet::IpNet;

use super::forwarded::{LastElements, MAX_HOPS, address, last_element};
use super::host::{MAX_HOST, is_host};
use super::peer::Peer;

#[cfg(test)]
mod tests;

/// Names and values of a request's header fields, in order.
pub trait Fields<'b>: DoubleEndedIterator<Item = (&'b str, &'b [u8])> + Clone {}

impl<'b, T: DoubleEndedIterator<Item = (&'b str, &'b [u8])> + Clone> Fields<'b> for T {}

/// The peers whose `X-Forwarded-…` and `Forwarded` fields are believed.
/// Anybody can send these; only a proxy of the operator's overwrites them.
///
/// The former come first: nearly every proxy writes them, and passes on a
/// `Forwarded` that it does not know unchanged from the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Networks that the operator named: proxies connect from there, and hops
    /// with such an address are proxies too.
    pub networks: Vec<IpNet>,
    /// Whether peers with a loopback address are proxies. Hops with such an
    /// address are not: any program on a proxy's machine has one.
    pub loopback: bool,
    /// Whether peers on a Unix socket are proxies.
    pub local: bool,
}

/// Why the client that sent a request is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownClient {
    /// The proxy names no hop.
    Unnamed,
    /// The last hop that is no named proxy has this loopback address.
    Loopback(IpAddr),
    /// That hop is not an IP address that a client can have, or there are too
    /// many hops behind it.
    Unreadable,
    /// All hops are named proxies.
    OnlyProxies,
}

impl TrustedProxies {
    /// Whether a peer is one of them.
    #[must_use]
    pub fn include(&self, peer: Peer) -> bool {
        match peer {
            Peer::Local => self.local,
            Peer::Ip(address) => {
                (self.loopback && address.is_loopback()) || self.is_named_proxy(address)
            }
        }
    }

    /// Whether the operator named the address as a proxy's.
    fn is_named_proxy(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&address))
    }

    /// Scheme and host by which the client reached us, like
    /// `https://matrix.example.org`; `None` if it named no host. `host` is the
    /// one that the request names itself.
    #[must_use]
    pub fn origin<'b>(
        &self,
        fields: impl Fields<'b>,
        host: Option<&str>,
        peer: Peer,
    ) -> Option<String> {
        let (mut scheme_space, mut host_space) = ([0; "https".len()], [0; MAX_HOST]);
        let (mut scheme, mut named) = (None, None);
        if self.include(peer) {
            scheme = last_of_list(fields.clone(), "X-Forwarded-Proto");
            named = last_of_list(fields.clone(), "X-Forwarded-Host");
            if scheme.is_none() || named.is_none() {
                if let Some(element) = last_value(fields, "Forwarded").and_then(last_element) {
                    scheme = scheme.or_else(|| element.parameter("proto", &mut scheme_space));
                    named = named.or_else(|| element.parameter("host", &mut host_space));
                }
            }
        }
        let secure = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let scheme = if secure { "https" } else { "http" };
        let named = named.filter(|host| !host.is_empty() && is_host(host));
        let host = named.or(host)?;
        (!host.is_empty()).then(|| [scheme, "://", host].concat())
    }

    /// The client that sent the request: the peer, or if that is trusted, the
    /// last hop that is no proxy named by the operator. The client may have
    /// made up all hops before that.
    ///
    /// # Errors
    /// The hops do not tell.
    pub fn client<'b>(&self, fields: impl Fields<'b>, peer: Peer) -> Result<Peer, UnknownClient> {
        if !self.include(peer) {
            return Ok(peer);
        }
        let mut search = Search {
            trusted: self,
            passed: 0,
        };
        match search.run(fields) {
            ControlFlow::Break(found) => found,
            ControlFlow::Continue(()) if search.passed == 0 => Err(UnknownClient::Unnamed),
            ControlFlow::Continue(()) => Err(UnknownClient::OnlyProxies),
        }
    }

    /// Why the clients of this peer are not known, and what makes them known.
    #[must_use]
    pub fn explain(&self, unknown: UnknownClient, peer: Peer) -> String {
        let text = match unknown {
            UnknownClient::Unnamed => {
                "it sends no X-Forwarded-For; if there is no proxy, say --trusted-proxy none"
            }
            UnknownClient::Unreadable => {
                "the last hop that it names is no client's IP address; have the proxy that \
                 clients connect to send theirs in X-Forwarded-For"
            }
            UnknownClient::OnlyProxies => {
                "all hops that it names are --trusted-proxy; name the proxies' own addresses \
                 only, and have the one that clients connect to send theirs in X-Forwarded-For"
            }
            UnknownClient::Loopback(hop) => {
                // Once the flag is given, no peer is trusted by default.
                let peer = match peer {
                    Peer::Local if self.loopback => "--trusted-proxy unix ".into(),
                    Peer::Ip(peer) if peer != hop && !self.is_named_proxy(peer) => {
                        format!("--trusted-proxy {peer} ")
                    }
                    _ => String::new(),
                };
                return format!(
                    "the last hop that it names is {hop}; if that is a proxy too, add \
                     {peer}--trusted-proxy {hop}"
                );
            }
        };
        text.into()
    }
}

/// A search for the client among the hops of a request, from the last
/// backwards. It ends at the first hop that is no named proxy, so that the
/// rest, which a client can make as long as it likes, costs next to nothing.
struct Search<'p> {
    trusted: &'p TrustedProxies,
    /// How many named proxies it has passed.
    passed: usize,
}

type Step = ControlFlow<Result<Peer, UnknownClient>>;

impl Search<'_> {
    fn run<'b>(&mut self, fields: impl Fields<'b>) -> Step {
        for value in values(fields.clone(), "X-Forwarded-For").rev() {
            let texts = value.rsplit(|b| *b == b',').map(<[u8]>::trim_ascii);
            for text in texts.filter(|text| !text.is_empty()) {
                self.hop(str::from_utf8(text).ok().and_then(address))?;
            }
        }
        if self.passed > 0 {
            return Step::Continue(());
        }
        for value in values(fields, "Forwarded").rev() {
            if let Some(elements) = LastElements::read(value) {
                self.elements(&elements)?;
                continue;
            }
            // An unreadable value is made up by a client, to hide what the
            // nearest proxy appends to the same line: that has no comma.
            let appended = value.rsplit(|b| *b == b',').next();
            if let Some(elements) = appended.and_then(LastElements::read) {
                self.elements(&elements)?;
            }
            self.hop(None)?;
        }
        Step::Continue(())
    }

    fn elements(&mut self, elements: &LastElements<'_>) -> Step {
        for element in elements.backwards() {
            self.hop(element.address())?;
        }
        Step::Continue(())
    }

    fn hop(&mut self, hop: Option<IpAddr>) -> Step {
        if self.passed == MAX_HOPS {
            return Step::Break(Err(UnknownClient::Unreadable));
        }
        Step::Break(match hop {
            Some(address) if self.trusted.is_named_proxy(address) => {
                self.passed += 1;
                return Step::Continue(());
            }
            Some(address) if address.is_loopback() => Err(UnknownClient::Loopback(address)),
            Some(address) if !address.is_unspecified() => Ok(Peer::Ip(address)),
            _ => Err(UnknownClient::Unreadable),
        })
    }
}

/// Fields that proxies add to what they pass on.
const ADDED_BY_PROXIES: [&str; 6] = [
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "Forwarded",
    "Via",
];

/// Whether a request looks as if it had come through a proxy.
#[must_use]
pub fn is_forwarded<'b>(mut fields: impl Fields<'b>) -> bool {
    let added = |name: &str| {
        ADDED_BY_PROXIES
            .iter()
            .any(|added| name.eq_ignore_ascii_case(added))
    };
    fields.any(|(name, _)| added(name))
}

/// The values of all fields of this name, in order.
fn values<'b>(fields: impl Fields<'b>, name: &str) -> impl DoubleEndedIterator<Item = &'b [u8]> {
    fields
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The value of the last field of this name: what the nearest proxy added.
fn last_value<'b>(fields: impl Fields<'b>, name: &str) -> Option<&'b [u8]> {
    values(fields, name).next_back()
}

/// The last item in the last field of this name.
fn last_of_list<'b>(fields: impl Fields<'b>, name: &str) -> Option<&'b str> {
    let value = str::from_utf8(last_value(fields, name)?).ok()?;
    value.rsplit(',').next().map(str::trim_ascii)
}
