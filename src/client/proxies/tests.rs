use super::*;

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

/// Names and values of these lines.
fn fields(lines: &str) -> Vec<(&str, &[u8])> {
    let fields = lines.lines().map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name, value.trim_ascii().as_bytes())
    });
    fields.collect()
}

/// The client of a request with these fields.
fn client_by(trusted: &TrustedProxies, lines: &str, peer: Peer) -> Result<Peer, UnknownClient> {
    trusted.client(fields(lines).into_iter(), peer)
}

fn client(lines: &str, peer: Peer) -> Result<Peer, UnknownClient> {
    client_by(&trusted(&NAMED), lines, peer)
}

fn origin(peer: Peer, lines: &str) -> Option<String> {
    let fields = fields(lines);
    let host = fields.iter().find(|(name, _)| *name == "Host");
    let host = host.map(|(_, value)| str::from_utf8(value).unwrap());
    trusted(&NAMED).origin(fields.iter().copied(), host, peer)
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
    for (values, expected) in [
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
                let found = client(&fields, peer);
                assert_eq!(found, Ok(ip(expected)), "{fields}");
            }
        }
    }
}

#[test]
fn rfc7239_4_the_client_is_found_in_forwarded_too() {
    for (values, expected) in [
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
        let found = client(&fields, peer);
        assert_eq!(found, Ok(ip(expected)), "{fields}");
    }
}

#[test]
fn loopback_is_passed_over_only_if_it_is_named() {
    use UnknownClient::{Loopback, OnlyProxies, Unreadable};
    let loopback = |text: &str| Err(Loopback(text.parse().unwrap()));
    let known = |text: &str| Ok(ip(text));
    // What is named, the hops, and the client.
    for (named, hops, expected) in [
        // By default nothing in the list is a proxy.
        (&[][..], "192.0.2.1", known("192.0.2.1")),
        (&[], "198.51.100.7, 127.0.0.1", loopback("127.0.0.1")),
        (&[], "198.51.100.7, 127.9.9.9", loopback("127.9.9.9")),
        (&[], "198.51.100.7, ::1", loopback("::1")),
        (&[], "198.51.100.7, [::1]:4711", loopback("::1")),
        (&[], "::ffff:127.0.0.1", loopback("127.0.0.1")),
        (&[], "127.0.0.1", loopback("127.0.0.1")),
        (&[], "127.0.0.1, 192.0.2.1", known("192.0.2.1")),
        (&[], "198.51.100.7, 192.0.2.1", known("192.0.2.1")),
        (&[], "192.0.2.1, 10.0.0.1", known("10.0.0.1")),
        (&["unix"], "192.0.2.1, 127.0.0.1", loopback("127.0.0.1")),
        // What is named is passed over, and that alone.
        (&NAMED, "192.0.2.1, 127.0.0.1", known("192.0.2.1")),
        (&NAMED, "192.0.2.1, ::1", loopback("::1")),
        (
            &NAMED,
            "9.9.9.9, 192.0.2.1, fd00::1, 127.0.0.2",
            known("192.0.2.1"),
        ),
        (
            &["unix", "127.0.0.1"],
            "192.0.2.1, 127.0.0.1",
            known("192.0.2.1"),
        ),
        (
            &["unix", "127.0.0.1"],
            "192.0.2.1, 127.0.0.2",
            loopback("127.0.0.2"),
        ),
        (
            &["unix", "10.0.0.0/8"],
            "192.0.2.1, 10.0.0.1",
            known("192.0.2.1"),
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
            let found = client_by(&trusted, &fields, Peer::Local);
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
            let found = client(&fields, peer);
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
        let ask = |peer| client(fields, peer);
        assert_eq!(ask(ip("127.0.0.1")), Err(UnknownClient::Unnamed));
        assert_eq!(ask(Peer::Local), Err(UnknownClient::Unnamed));
    }
    let fields = "X-Forwarded-For: 203.0.113.1\r\nForwarded: for=203.0.113.1\r\n";
    let other = ip("192.0.2.1");
    let found = client(fields, other);
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

#[test]
fn more_hops_than_operators_have_name_no_client() {
    for (proxies, expected) in [
        (0, Ok(ip("192.0.2.1"))),
        (MAX_HOPS - 1, Ok(ip("192.0.2.1"))),
        (MAX_HOPS, Err(UnknownClient::Unreadable)),
        (2 * MAX_HOPS + 1, Err(UnknownClient::Unreadable)),
    ] {
        let plain = format!(
            "X-Forwarded-For: 192.0.2.1{}\r\n",
            ",fd00::1".repeat(proxies)
        );
        let lines = plain.replace(',', "\r\nX-Forwarded-For: ");
        let elements = ",for=\"[fd00::1]\"".repeat(proxies);
        let elements = format!("Forwarded: for=192.0.2.1{elements}\r\n");
        let element_lines = elements.replace(',', "\r\nForwarded: ");
        for fields in [plain, lines, elements, element_lines] {
            assert_eq!(client(&fields, Peer::Local), expected, "{fields}");
        }
    }
    let only = |count: usize| format!("X-Forwarded-For: {}\r\n", "fd00::1,".repeat(count));
    let found = client(&only(MAX_HOPS), Peer::Local);
    assert_eq!(found, Err(UnknownClient::OnlyProxies));
}

#[test]
fn rfc7239_4_quotes_and_blanks_are_taken_off_wherever_they_stand() {
    for values in [
        "for=\"192.0.2.1\"",
        "for=\"\\1\\9\\2.0.2.1\"",
        "fo\"r\"=192.0.2.1",
        "\"\"for=192.0.2\".1\"",
        " ; \t for=192.0.2.1 \t ;",
        "format=1;for=192.0.2.1;for=203.0.113.1",
        "for;for=192.0.2.1",
        "for=192.0.2.1, \"\";\"\" ;, ,\t,",
    ] {
        let fields = format!("Forwarded: {values}\r\n");
        assert_eq!(
            client(&fields, Peer::Local),
            Ok(ip("192.0.2.1")),
            "{values}"
        );
    }
    for values in [
        "for =192.0.2.1",
        "for= 192.0.2.1",
        "\" for\"=192.0.2.1",
        "for=192.0.2.1, \" \"",
        "for=192.0.2.1;0, for=\"192.0.2.1;0\"",
        "for=1.1.1.1, for=192.0.2.1\"",
    ] {
        let fields = format!("Forwarded: {values}\r\n");
        let unreadable = Err(UnknownClient::Unreadable);
        assert_eq!(client(&fields, Peer::Local), unreadable, "{values}");
    }
}
