//! What a reverse proxy in front says of the request it passes on.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::Peer;
use crate::http::{Head, is_host};

/// The peers whose `X-Forwarded-…` and `Forwarded` fields are believed.
/// Anybody can send these; only a proxy of the operator's overwrites them.
///
/// The former come first: nearly every proxy writes them, and passes on a
/// `Forwarded` that it knows nothing of as a client made it up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Networks that the operator named: proxies connect from there, and hops
    /// with such an address are proxies too.
    pub networks: Vec<IpNet>,
    /// Whether whoever connects from a loopback address is one. A hop with
    /// such an address is not: any program on a proxy's machine has one.
    pub loopback: bool,
    /// Whether whoever connects to a Unix socket is one.
    pub local: bool,
}

/// Why it is not known which client sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownClient {
    /// The proxy names no hop.
    Unnamed,
    /// The last hop that is no named proxy has this loopback address.
    Loopback(IpAddr),
    /// That hop is not an IP address that a client can have.
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
            Peer::Ip(address) => (self.loopback && address.is_loopback()) || self.name(address),
        }
    }

    /// Whether the operator named the address as a proxy's.
    fn name(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&address))
    }

    /// Scheme and host by which the client reached us, like
    /// `https://matrix.example.org`; `None` if it named no host.
    #[must_use]
    pub fn origin(&self, head: &Head<'_, '_>, peer: Peer) -> Option<String> {
        let mut scheme = None;
        let mut host = None;
        if self.include(peer) {
            let said = |name| {
                let elements = elements(last(head, "Forwarded")?)?;
                elements.last()?.parameter(name)
            };
            let alone = |name| last(head, name).map(last_of_list).map(str::to_owned);
            scheme = alone("X-Forwarded-Proto").or_else(|| said("proto"));
            host = alone("X-Forwarded-Host").or_else(|| said("host"));
        }
        let scheme = scheme.filter(|scheme| scheme.eq_ignore_ascii_case("https"));
        let scheme = scheme.map_or("http", |_| "https");
        let host = host.filter(|host| !host.is_empty() && is_host(host));
        let host = host.as_deref().or(head.host)?;
        (!host.is_empty()).then(|| [scheme, "://", host].concat())
    }

    /// Who sent the request: the peer, or by the account of a trusted one the
    /// last hop that is no proxy named by the operator. What stands before
    /// that hop anybody may have written.
    ///
    /// # Errors
    /// The account does not tell.
    pub fn client(&self, head: &Head<'_, '_>, peer: Peer) -> Result<Peer, UnknownClient> {
        if !self.include(peer) {
            return Ok(peer);
        }
        let mut unknown = UnknownClient::Unnamed;
        for hop in hops(head) {
            match hop {
                Some(address) if self.name(address) => unknown = UnknownClient::OnlyProxies,
                Some(address) if address.is_loopback() => {
                    return Err(UnknownClient::Loopback(address));
                }
                Some(address) if !address.is_unspecified() => return Ok(Peer::Ip(address)),
                _ => return Err(UnknownClient::Unreadable),
            }
        }
        Err(unknown)
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
                    Peer::Ip(peer) if peer != hop && !self.name(peer) => {
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
pub fn is_forwarded(head: &Head<'_, '_>) -> bool {
    ADDED_BY_PROXIES
        .iter()
        .any(|name| head.values(name).next().is_some())
}

/// The addresses that a request has come by, the nearest first; `None` for
/// what names none.
fn hops(head: &Head<'_, '_>) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    for value in head.values("X-Forwarded-For") {
        let texts = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        let named = texts.filter(|text| !text.is_empty());
        hops.extend(named.map(|text| str::from_utf8(text).ok().and_then(address)));
    }
    if hops.is_empty() {
        for value in head.values("Forwarded") {
            let read = |value| str::from_utf8(value).ok().and_then(elements);
            let elements = read(value).unwrap_or_else(|| {
                // What cannot be read a client has made up, to hide what the
                // nearest proxy added to the same line: that has no comma.
                hops.push(None);
                let added = value.rsplit(|b| *b == b',').next();
                added.and_then(read).unwrap_or_default()
            });
            let named = elements.iter().filter(|element| !element.is_empty());
            hops.extend(named.map(|element| address(&element.parameter("for")?)));
        }
    }
    hops.reverse();
    hops
}

/// An address, with brackets around one of IPv6 and a port or without. One of
/// a zone is a neighbour's of the proxy, and says nothing here.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains('%') {
        return None;
    }
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let address = bare().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

/// The value of the last field of this name: what the nearest proxy added.
fn last<'b>(head: &Head<'b, '_>, name: &str) -> Option<&'b str> {
    head.values(name)
        .last()
        .and_then(|value| str::from_utf8(value).ok())
}

fn last_of_list(value: &str) -> &str {
    value.rsplit(',').next().unwrap_or_default().trim_ascii()
}

/// One hop of a `Forwarded` field: its pairs, unquoted.
#[derive(Debug, Default)]
struct Element(Vec<String>);

impl Element {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|pair| pair.trim_ascii().is_empty())
    }

    fn parameter(&self, name: &str) -> Option<String> {
        self.0.iter().find_map(|pair| {
            let (key, value) = pair.trim_ascii().split_once('=')?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }
}

/// Stands for white space inside quotes, which no address or name has.
const QUOTED_SPACE: char = '\u{a0}';

/// The elements of a `Forwarded` field (RFC 7239, section 4). Commas and
/// semicolons inside quotes separate nothing; `None` if a quote has no end.
fn elements(value: &str) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut element = Element(vec![String::new()]);
    let (mut quoted, mut escaped) = (false, false);
    for c in value.chars() {
        let pair = element.0.last_mut()?;
        // It would be taken for what may stand around a pair.
        let c = if quoted && matches!(c, ' ' | '\t') {
            QUOTED_SPACE
        } else {
            c
        };
        match c {
            _ if escaped => {
                pair.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                elements.push(std::mem::replace(
                    &mut element,
                    Element(vec![String::new()]),
                ));
            }
            ';' if !quoted => element.0.push(String::new()),
            _ => pair.push(c),
        }
    }
    elements.push(element);
    (!quoted).then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Decoder, Status};

    fn network(text: &str) -> IpNet {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        address.or_else(|_| text.parse()).unwrap()
    }

    /// What these values of `--trusted-proxy` come to.
    fn trusted(named: &[&str]) -> TrustedProxies {
        let networks = named.iter().filter(|text| **text != "unix");
        TrustedProxies {
            networks: networks.map(|text| network(text)).collect(),
            loopback: named.is_empty(),
            local: named.is_empty() || named.contains(&"unix"),
        }
    }

    const NAMED: [&str; 3] = ["127.0.0.0/8", "fd00::/8", "unix"];

    /// What `ask` finds in a request with these fields.
    fn found<T>(fields: &str, ask: impl FnOnce(&TrustedProxies, &Head<'_, '_>) -> T) -> T {
        found_by(&trusted(&NAMED), fields, ask)
    }

    fn found_by<T>(
        trusted: &TrustedProxies,
        fields: &str,
        ask: impl FnOnce(&TrustedProxies, &Head<'_, '_>) -> T,
    ) -> T {
        let mut decoder = Decoder::default();
        decoder.push(format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes());
        match decoder.step(|_| 0, |request| ask(trusted, &request.head)) {
            Ok(Status::Complete(found)) => found,
            _ => panic!("no request: {fields:?}"),
        }
    }

    fn origin(peer: Peer, fields: &str) -> Option<String> {
        found(fields, |trusted, head| trusted.origin(head, peer))
    }

    fn ip(text: &str) -> Peer {
        Peer::Ip(text.parse().unwrap())
    }

    #[test]
    fn a_trusted_proxy_says_scheme_and_host() {
        let host = "Host: backend:8090\r\n";
        for (fields, expected) in [
            ("", "http://backend:8090"),
            ("X-Forwarded-Proto: https\r\n", "https://backend:8090"),
            (
                "X-Forwarded-Proto: https\r\nX-Forwarded-Host: a.example\r\n",
                "https://a.example",
            ),
            ("X-Forwarded-Proto: http, https\r\n", "https://backend:8090"),
            ("X-Forwarded-Host: evil, a.example\r\n", "http://a.example"),
            ("X-Forwarded-Host: a/b\r\n", "http://backend:8090"),
            ("X-Forwarded-Proto: gopher\r\n", "http://backend:8090"),
            (
                "Forwarded: proto=https;host=a.example\r\n",
                "https://a.example",
            ),
            (
                "Forwarded: for=1.2.3.4 ; Host=\"a.example:81\";proto=HTTPS\r\n",
                "https://a.example:81",
            ),
            (
                "Forwarded: host=evil, for=\"[::1]\";host=a.example\r\n",
                "http://a.example",
            ),
            (
                "Forwarded: for=\"a,b;host=evil\";host=a.example\r\n",
                "http://a.example",
            ),
            (
                "Forwarded: for=\"\\\"\";host=a.example\r\n",
                "http://a.example",
            ),
            ("Forwarded: host=\"a.example\r\n", "http://backend:8090"),
            (
                "Forwarded: host=evil\r\nForwarded: proto=https\r\n",
                "https://backend:8090",
            ),
            (
                "X-Forwarded-Host: a.example\r\nForwarded: host=evil\r\n",
                "http://a.example",
            ),
        ] {
            let fields = format!("{host}{fields}");
            let proxies = ["127.0.0.1", "127.9.9.9", "fd00::1"];
            for peer in proxies.map(ip) {
                assert_eq!(origin(peer, &fields).as_deref(), Some(expected), "{fields}");
            }
            assert_eq!(origin(Peer::Local, &fields).as_deref(), Some(expected));
        }
    }

    #[test]
    fn anybody_else_says_nothing() {
        let fields = "Host: a.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
                      Forwarded: host=evil;proto=https\r\n";
        for peer in ["10.0.0.1", "128.0.0.1", "::1", "fe80::1"] {
            assert_eq!(
                origin(ip(peer), fields).as_deref(),
                Some("http://a.example")
            );
        }
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_named_proxy() {
        for (values, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            // Whatever stands in front was the client's to write.
            ("198.51.100.7, 192.0.2.1", "192.0.2.1"),
            ("127.0.0.1,192.0.2.1", "192.0.2.1"),
            ("nonsense, 192.0.2.1", "192.0.2.1"),
            (",, ,192.0.2.1,", "192.0.2.1"),
            // Proxies behind each other.
            ("192.0.2.1, fd00::2, 127.0.0.2", "192.0.2.1"),
            ("198.51.100.7,192.0.2.1,127.0.0.2", "192.0.2.1"),
            // HAProxy adds a field and leaves the client's.
            ("198.51.100.7\r\nX-Forwarded-For: 192.0.2.1", "192.0.2.1"),
            ("192.0.2.1\r\nX-Forwarded-For: 127.0.0.2", "192.0.2.1"),
        ] {
            let list = format!("X-Forwarded-For: {values}\r\n");
            let both = format!("Forwarded: for=203.0.113.1\r\n{list}");
            for fields in [list, both] {
                for peer in [ip("127.0.0.1"), Peer::Local] {
                    let found = found(&fields, |trusted, head| trusted.client(head, peer));
                    assert_eq!(found, Ok(ip(client)), "{fields}");
                }
            }
        }
    }

    #[test]
    fn rfc7239_4_the_client_is_found_in_forwarded_too() {
        for (values, client) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"192.0.2.1:4711\"; proto=https", "192.0.2.1"),
            ("proto=https;FOR=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=198.51.100.7, for=192.0.2.1", "192.0.2.1"),
            ("for=192.0.2.1;by=127.0.0.1,for=127.0.0.2", "192.0.2.1"),
            ("for=\"a,for=198.51.100.7\", for=192.0.2.1", "192.0.2.1"),
            ("for=\"\\\"\", for=192.0.2.1", "192.0.2.1"),
            ("for=192.0.2.1,", "192.0.2.1"),
            ("for=\"\r\nForwarded: for=192.0.2.1", "192.0.2.1"),
            // A client leaves a quote open before what the proxy adds.
            ("for=\", for=192.0.2.1", "192.0.2.1"),
            ("for=\"\\, for=192.0.2.1", "192.0.2.1"),
            ("\", for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("\"\\, for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=192.0.2.7, \"\u{ff}, for=192.0.2.1", "192.0.2.1"),
        ] {
            let fields = format!("Forwarded: {values}\r\n");
            let peer = ip("127.0.0.1");
            let found = found(&fields, |trusted, head| trusted.client(head, peer));
            assert_eq!(found, Ok(ip(client)), "{fields}");
        }
    }

    #[test]
    fn loopback_is_passed_over_only_if_it_is_named() {
        use UnknownClient::{Loopback, OnlyProxies, Unreadable};
        let loopback = |text: &str| Err(Loopback(text.parse().unwrap()));
        let client = |text: &str| Ok(ip(text));
        // What is named, the hops, and the client.
        for (named, hops, expected) in [
            // By default nothing in the list is a proxy.
            (&[][..], "192.0.2.1", client("192.0.2.1")),
            (&[], "198.51.100.7, 127.0.0.1", loopback("127.0.0.1")),
            (&[], "198.51.100.7, 127.9.9.9", loopback("127.9.9.9")),
            (&[], "198.51.100.7, ::1", loopback("::1")),
            (&[], "198.51.100.7, [::1]:4711", loopback("::1")),
            (&[], "::ffff:127.0.0.1", loopback("127.0.0.1")),
            (&[], "127.0.0.1", loopback("127.0.0.1")),
            (&[], "127.0.0.1, 192.0.2.1", client("192.0.2.1")),
            (&[], "198.51.100.7, 192.0.2.1", client("192.0.2.1")),
            (&[], "192.0.2.1, 10.0.0.1", client("10.0.0.1")),
            (&["unix"], "192.0.2.1, 127.0.0.1", loopback("127.0.0.1")),
            // What is named is passed over, and that alone.
            (&NAMED, "192.0.2.1, 127.0.0.1", client("192.0.2.1")),
            (&NAMED, "192.0.2.1, ::1", loopback("::1")),
            (
                &NAMED,
                "9.9.9.9, 192.0.2.1, fd00::1, 127.0.0.2",
                client("192.0.2.1"),
            ),
            (
                &["unix", "127.0.0.1"],
                "192.0.2.1, 127.0.0.1",
                client("192.0.2.1"),
            ),
            (
                &["unix", "127.0.0.1"],
                "192.0.2.1, 127.0.0.2",
                loopback("127.0.0.2"),
            ),
            (
                &["unix", "10.0.0.0/8"],
                "192.0.2.1, 10.0.0.1",
                client("192.0.2.1"),
            ),
            (
                &["unix", "10.0.0.0/8"],
                "192.0.2.1, 127.0.0.1",
                loopback("127.0.0.1"),
            ),
            // Nobody but proxies.
            (&NAMED, "127.0.0.1", Err(OnlyProxies)),
            (&NAMED, "127.0.0.3, fd00::1, 127.0.0.2", Err(OnlyProxies)),
            // Behind a named one it may be unreadable just so.
            (&NAMED, "192.0.2.1, unix:, 127.0.0.1", Err(Unreadable)),
            (&NAMED, "192.0.2.1, ::1, 127.0.0.1", loopback("::1")),
        ] {
            let trusted = trusted(named);
            let plain = format!("X-Forwarded-For: {hops}\r\n");
            let lines = plain.replace(", ", "\r\nX-Forwarded-For: ");
            let elements = hops.split(", ").map(|hop| format!("for=\"{hop}\""));
            let elements = elements.collect::<Vec<_>>().join(", ");
            for fields in [plain, lines, format!("Forwarded: {elements}\r\n")] {
                let ask = |trusted: &TrustedProxies, head: &Head<'_, '_>| {
                    trusted.client(head, Peer::Local)
                };
                let found = found_by(&trusted, &fields, ask);
                assert_eq!(found, expected, "{named:?} {fields}");
            }
        }
    }

    #[test]
    fn an_account_that_cannot_be_read_names_no_client() {
        for fields in [
            "X-Forwarded-For: nonsense",
            "X-Forwarded-For: 192.0.2.1, unknown",
            "X-Forwarded-For: 192.0.2.1, nonsense, 127.0.0.2",
            "X-Forwarded-For: 192.0.2.256",
            "X-Forwarded-For: 192.0.2.1:x",
            "X-Forwarded-For: \u{ff}",
            "X-Forwarded-For: unix:",
            "X-Forwarded-For: 192.0.2.1, unix:",
            "X-Forwarded-For: fe80::1%eth0",
            "X-Forwarded-For: fe80::1%1",
            "X-Forwarded-For: [fe80::1%1]:4711",
            "X-Forwarded-For: 0.0.0.0",
            "X-Forwarded-For: 192.0.2.1, ::",
            "Forwarded: for=unknown",
            "Forwarded: for=_hidden",
            "Forwarded: proto=https",
            "Forwarded: for=192.0.2.1, proto=https",
            "Forwarded: for=\"192.0.2.1",
            "Forwarded: for=\"",
            "Forwarded: for=192.0.2.1, for=\"",
            "Forwarded: for=192.0.2.1, \u{ff}",
            "Forwarded: for=2001:db8::1:x",
            "Forwarded: for=\"192.0.2.1 \"",
            "Forwarded: for=\" 192.0.2.1\"",
            "Forwarded: for=\"192.0.2.1\\ \"",
        ] {
            let fields = format!("{fields}\r\n");
            for peer in [ip("127.0.0.1"), Peer::Local] {
                let found = found(&fields, |trusted, head| trusted.client(head, peer));
                assert_eq!(found, Err(UnknownClient::Unreadable), "{fields}");
            }
        }
    }

    #[test]
    fn a_trusted_proxy_may_say_nothing_and_others_are_not_asked() {
        for fields in [
            "",
            "X-Forwarded-For:\r\n",
            "X-Forwarded-For: ,\r\n",
            "Forwarded:\r\n",
        ] {
            let ask = |peer| found(fields, |trusted, head| trusted.client(head, peer));
            assert_eq!(ask(ip("127.0.0.1")), Err(UnknownClient::Unnamed));
            assert_eq!(ask(Peer::Local), Err(UnknownClient::Unnamed));
        }
        let fields = "X-Forwarded-For: 203.0.113.1\r\nForwarded: for=203.0.113.1\r\n";
        let other = ip("192.0.2.1");
        let found = found(fields, |trusted, head| trusted.client(head, other));
        assert_eq!(found, Ok(other));
    }

    #[test]
    fn the_flags_that_are_told_keep_the_peer_trusted() {
        let hop = |text: &str| UnknownClient::Loopback(text.parse().unwrap());
        for (named, peer, unknown, flags) in [
            (
                &[][..],
                ip("127.0.0.1"),
                hop("127.0.0.1"),
                "--trusted-proxy 127.0.0.1",
            ),
            (
                &[],
                ip("127.0.0.1"),
                hop("::1"),
                "--trusted-proxy 127.0.0.1 --trusted-proxy ::1",
            ),
            (
                &[],
                Peer::Local,
                hop("127.0.0.1"),
                "--trusted-proxy unix --trusted-proxy 127.0.0.1",
            ),
            (
                &["unix"],
                Peer::Local,
                hop("127.0.0.1"),
                "--trusted-proxy 127.0.0.1",
            ),
            (
                &["10.0.0.0/8"],
                ip("10.0.0.1"),
                hop("::1"),
                "--trusted-proxy ::1",
            ),
        ] {
            let text = trusted(named).explain(unknown, peer);
            let told = text.split_once(", add ").map(|(_, told)| told);
            assert_eq!(told, Some(flags), "{named:?}");
        }
    }

    #[test]
    fn without_a_host_there_is_no_origin() {
        assert_eq!(origin(Peer::Local, ""), None);
        assert_eq!(origin(Peer::Local, "Host:\r\n"), None);
    }
}
