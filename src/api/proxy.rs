//! What a reverse proxy in front says of the request it passes on.

use ipnet::IpNet;

use crate::http::{Head, Peer, is_host};

/// The peers whose `Forwarded` and `X-Forwarded-…` fields are believed.
/// Anybody can send these; only a proxy of the operator's overwrites them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Networks that proxies connect from.
    pub networks: Vec<IpNet>,
    /// Whether whoever connects to a Unix socket is one.
    pub local: bool,
}

impl TrustedProxies {
    fn include(&self, peer: Peer) -> bool {
        match peer {
            Peer::Local => self.local,
            Peer::Ip(address) => self.networks.iter().any(|net| net.contains(&address)),
        }
    }

    /// Scheme and host by which the client reached us, like
    /// `https://matrix.example.org`; `None` if it named no host.
    pub(super) fn origin(&self, head: &Head<'_, '_>, peer: Peer) -> Option<String> {
        let mut scheme = None;
        let mut host = None;
        if self.include(peer) {
            let said = |parameter| last(head, "Forwarded").and_then(|v| parameter_of(v, parameter));
            let alone = |name| last(head, name).map(last_of_list).map(str::to_owned);
            scheme = said("proto").or_else(|| alone("X-Forwarded-Proto"));
            host = said("host").or_else(|| alone("X-Forwarded-Host"));
        }
        let scheme = scheme.filter(|scheme| scheme.eq_ignore_ascii_case("https"));
        let scheme = scheme.map_or("http", |_| "https");
        let host = host.filter(|host| !host.is_empty() && is_host(host));
        let host = host.as_deref().or(head.host)?;
        (!host.is_empty()).then(|| format!("{scheme}://{host}"))
    }
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

/// A parameter in the last element of a `Forwarded` field (RFC 7239, section
/// 4). Commas and semicolons inside quotes separate nothing.
fn parameter_of(value: &str, name: &str) -> Option<String> {
    let mut pairs = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in value.chars() {
        let pair = pairs.last_mut()?;
        match c {
            _ if escaped => {
                pair.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => pairs = vec![String::new()],
            ';' if !quoted => pairs.push(String::new()),
            _ => pair.push(c),
        }
    }
    if quoted {
        return None;
    }
    pairs.iter().find_map(|pair| {
        let (key, value) = pair.trim_ascii().split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Decoder, Step};

    fn origin(peer: Peer, fields: &str) -> Option<String> {
        let trusted = TrustedProxies {
            networks: vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            local: true,
        };
        let mut decoder = Decoder::default();
        decoder.push(format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes());
        match decoder.step(|_| 0, |request| trusted.origin(&request.head, peer)) {
            Step::Done(origin) => origin,
            _ => panic!("no request: {fields:?}"),
        }
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
        ] {
            let fields = format!("{host}{fields}");
            let proxies = ["127.0.0.1", "127.9.9.9", "fd00::1"];
            for peer in proxies.map(|ip| Peer::Ip(ip.parse().unwrap())) {
                assert_eq!(origin(peer, &fields).as_deref(), Some(expected), "{fields}");
            }
            assert_eq!(origin(Peer::Local, &fields).as_deref(), Some(expected));
        }
    }

    #[test]
    fn anybody_else_says_nothing() {
        let fields = "Host: a.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
                      Forwarded: host=evil;proto=https\r\n";
        for ip in ["10.0.0.1", "128.0.0.1", "::1", "fe80::1"] {
            let peer = Peer::Ip(ip.parse().unwrap());
            assert_eq!(origin(peer, fields).as_deref(), Some("http://a.example"));
        }
    }

    #[test]
    fn without_a_host_there_is_no_origin() {
        assert_eq!(origin(Peer::Local, ""), None);
        assert_eq!(origin(Peer::Local, "Host:\r\n"), None);
    }
}
