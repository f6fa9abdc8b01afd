//! Who may create how many sessions, by whose word.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use common::{Answer, Client, Daemon};
use rendezvousd::api::{MSC3886_PATH, MSC4108_PATH, MSC4388_PATH, STABLE_PATH};

const TEXT: [(&str, &str); 1] = [("Content-Type", "text/plain")];

fn create(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    let fields = [&TEXT[..], fields].concat();
    client.request("POST", path, &fields, r#"{"data":"x"}"#)
}

/// How many of so many creates succeed.
fn created(client: &mut Client, attempts: usize, fields: &[(&str, &str)]) -> usize {
    (0..attempts)
        .filter(|_| create(client, "/rendezvous", fields).status == 201)
        .count()
}

/// Checks that a client is asked, in both ways, to come again later.
fn assert_again_later(answer: &Answer, status: u16, code: &str, seconds: u64) {
    answer.assert_error(status, code);
    let after: u64 = answer.field("Retry-After").unwrap().parse().unwrap();
    let body: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
    let millis = body["retry_after_ms"].as_u64().unwrap();
    assert!((1..=seconds).contains(&after), "{after}");
    assert_eq!(after, millis.div_ceil(1_000));
}

#[test]
fn a_client_creates_a_burst_and_then_waits_on_every_path() {
    let daemon = Daemon::start(&["--trusted-proxy", "none"]);
    let mut client = daemon.connect();
    let first = create(&mut client, "/rendezvous", &[]);
    assert_eq!(created(&mut client, 29, &[]), 29);
    for (path, code) in [
        ("/rendezvous", "M_UNKNOWN"),
        (MSC3886_PATH, "M_UNKNOWN"),
        (MSC4108_PATH, "M_UNKNOWN"),
        (MSC4388_PATH, "M_LIMIT_EXCEEDED"),
        (STABLE_PATH, "M_LIMIT_EXCEEDED"),
    ] {
        let refused = create(&mut client, path, &[]);
        assert_again_later(&refused, 429, code, 3);
    }
    // A new connection is no new client, and what it says is not believed.
    let spoofed = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.2"),
    ];
    let refused = create(&mut daemon.connect(), "/rendezvous", &spoofed);
    assert_again_later(&refused, 429, "M_UNKNOWN", 3);
    // Only creation is refused.
    for _ in 0..200 {
        let read = client.request("GET", first.location(), &[], "");
        assert_eq!(read.status, 200);
        let fields = [TEXT[0], ("If-Match", read.etag())];
        let written = client.request("PUT", first.location(), &fields, "y");
        assert_eq!(written.status, 202);
    }
    let deleted = client.request("DELETE", first.location(), &[], "");
    assert_eq!(deleted.status, 204);
}

#[test]
fn the_clients_of_a_proxy_are_told_apart() {
    let daemon = Daemon::start(&["--create-burst", "3", "--create-rate", "1"]);
    let mut proxy = daemon.connect();
    for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        let said = [("X-Forwarded-For", client)];
        assert_eq!(created(&mut proxy, 6, &said), 3, "{client}");
    }
    // What the client itself wrote in front changes nothing.
    let spoofed = [("X-Forwarded-For", "198.51.100.1, 192.0.2.1")];
    assert_eq!(created(&mut proxy, 3, &spoofed), 0);
    let network = [("Forwarded", "for=\"[2001:db8::2]:4711\"")];
    assert_eq!(created(&mut proxy, 3, &network), 0);
    assert_eq!(daemon.start.len(), 4, "{:?}", daemon.start);
}

#[test]
fn transition_mechanisms_are_no_way_to_a_second_quota() {
    let daemon = Daemon::start(&["--create-burst", "3", "--create-rate", "1"]);
    let mut proxy = daemon.connect();
    for (client, expected) in [
        ("192.0.2.1", 3),
        ("2002:c000:201::1", 0),
        ("2002:c000:201:ffff::2", 0),
        ("2001:0:4136:e378:8000:63bf:3fff:fdfe", 0),
        ("64:ff9b::192.0.2.1", 0),
        ("64:ff9b:1::192.0.2.1", 0),
        ("64:ff9b:1:7:1:2:192.0.2.1", 0),
        // Others by the same ways.
        ("2002:c000:202::1", 3),
        ("192.0.2.2", 0),
        ("64:ff9b:1::192.0.2.3", 3),
    ] {
        let said = [("X-Forwarded-For", client)];
        assert_eq!(created(&mut proxy, 6, &said), expected, "{client}");
    }
}

#[test]
fn the_networks_of_one_ipv6_customer_share_what_is_above_them() {
    let daemon = Daemon::start(&["--create-burst", "2", "--create-rate", "1"]);
    let mut proxy = daemon.connect();
    let mut from = |network: String| {
        let address = format!("{network}::1");
        created(&mut proxy, 3, &[("X-Forwarded-For", &address)])
    };
    let first_56: usize = (0..20).map(|n| from(format!("2001:db8:1:{n:x}"))).sum();
    assert_eq!(first_56, 4 * 2);
    // What was refused there took nothing from the /48.
    let rest: usize = (1..0x100)
        .map(|n| from(format!("2001:db8:1:{n:x}00")))
        .sum();
    assert_eq!(first_56 + rest, 16 * 2);
    assert_eq!(from("2001:db8:2:1".into()), 2, "another /48");
    let said = [("X-Forwarded-For", "2001:db8:1:8000::1")];
    let refused = create(&mut proxy, "/rendezvous", &said);
    // A sixteenth of the minute that one address would wait.
    assert_again_later(&refused, 429, "M_UNKNOWN", 4);
}

/// What was logged after the start.
fn logged(daemon: Daemon) -> Vec<String> {
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait().0
}

/// The lines of this level.
fn lines<'a>(lines: &'a [String], level: &str) -> Vec<&'a String> {
    let of_level = |line: &&String| line.split_whitespace().nth(1) == Some(level);
    lines.iter().filter(of_level).collect()
}

#[test]
fn what_names_no_client_is_not_throttled_and_warned_of_once() {
    let named = &["--trusted-proxy", "127.0.0.1"][..];
    for (flags, field, values, said) in [
        (
            &[][..],
            "X-Forwarded-For",
            &["198.51.100.7, 127.0.0.1", "127.0.0.1"][..],
            "is 127.0.0.1; if that is a proxy too, add --trusted-proxy 127.0.0.1",
        ),
        (
            &[],
            "X-Forwarded-For",
            &["198.51.100.7, [::1]:4711", "::1"],
            "is ::1; if that is a proxy too, add --trusted-proxy 127.0.0.1 --trusted-proxy ::1",
        ),
        (
            named,
            "Forwarded",
            &["for=198.51.100.7, for=127.0.0.2, for=127.0.0.1"],
            "is 127.0.0.2; if that is a proxy too, add --trusted-proxy 127.0.0.2",
        ),
        (
            &[],
            "X-Forwarded-For",
            &[
                "unknown",
                "192.0.2.1, unix:",
                "192.0.2.1, fe80::1%eth0",
                "[fe80::1%1]:80",
                "_a",
            ],
            "is no client's IP address; have the proxy that clients connect to send theirs",
        ),
        (
            named,
            "X-Forwarded-For",
            &["127.0.0.1", "127.0.0.1, 127.0.0.1"],
            "all hops that it names are --trusted-proxy; name the proxies' own addresses only",
        ),
        (
            &[],
            "X-Forwarded-For",
            &["", " ,"],
            "it sends no X-Forwarded-For;",
        ),
        (
            &[],
            "X-Forwarded-Proto",
            &["https"],
            "it sends no X-Forwarded-For;",
        ),
        (
            &[],
            "X-Real-IP",
            &["192.0.2.1"],
            "it sends no X-Forwarded-For;",
        ),
        (&[], "Via", &["1.1 proxy"], "it sends no X-Forwarded-For;"),
    ] {
        let daemon = Daemon::start(&[&["--create-burst", "3"], flags].concat());
        let mut proxy = daemon.connect();
        for value in values {
            let made = created(&mut proxy, 10, &[(field, value)]);
            assert_eq!(made, 10, "{field}: {value}");
        }
        drop(proxy);
        let logged = logged(daemon);
        let warned = lines(&logged, "WARN");
        assert!(warned.len() == 1 && warned[0].contains(said), "{warned:?}");
        let counted = format!("{} from unknown clients", values.len() * 10);
        assert!(
            logged.iter().any(|line| line.contains(&counted)),
            "{logged:?}"
        );
    }
}

#[test]
fn no_client_chooses_whose_quota_it_uses_up() {
    fn list(hops: &str) -> [(&str, &str); 1] {
        [("X-Forwarded-For", hops)]
    }
    let limits = ["--create-burst", "3", "--create-rate", "1"];
    // A second proxy on the machine, named or not.
    let unnamed = Daemon::start(&limits);
    let mut proxy = unnamed.connect();
    assert_eq!(created(&mut proxy, 9, &list("192.0.2.1, 127.0.0.1")), 9);
    // What the client wrote in front was not counted.
    assert_eq!(created(&mut proxy, 9, &list("192.0.2.1")), 3);
    let named = Daemon::start(&[&limits[..], &["--trusted-proxy", "127.0.0.1"]].concat());
    let mut proxy = named.connect();
    for spoofed in [
        "",
        "192.0.2.9, ",
        "127.0.0.1, ",
        "unknown, ",
        "192.0.2.9, 127.0.0.1, ",
    ] {
        let hops = format!("{spoofed}192.0.2.1, 127.0.0.1");
        let expected = if spoofed.is_empty() { 3 } else { 0 };
        assert_eq!(created(&mut proxy, 4, &list(&hops)), expected, "{hops}");
    }
    assert_eq!(created(&mut proxy, 4, &list("192.0.2.2, 127.0.0.1")), 3);
    // A quote that a client leaves open hides nobody.
    for spoofed in ["for=\"", "\"\\"] {
        let hops = format!("{spoofed}, for=192.0.2.2");
        assert_eq!(created(&mut proxy, 4, &[("Forwarded", &hops)]), 0);
    }
}

#[test]
fn a_program_without_a_proxy_is_told_of_in_one_line_and_not_warned_of() {
    let daemon = Daemon::start(&["--create-burst", "3"]);
    assert_eq!(created(&mut daemon.connect(), 100, &[]), 100);
    let logged = logged(daemon);
    let mut told = lines(&logged, "INFO");
    told.retain(|line| line.contains("--trusted-proxy none"));
    assert_eq!(told.len(), 1, "{logged:?}");
    assert_eq!(lines(&logged, "WARN"), [""; 0]);
    let counted = "100 from unknown clients";
    assert!(logged.iter().any(|line| line.contains(counted)));
}

/// One that a program of the proxy's machine provokes does not hide another.
#[test]
fn each_reason_why_no_quota_applies_is_told_once() {
    let flags = [
        "--trusted-proxy",
        "127.0.0.1",
        "--trusted-proxy",
        "10.0.0.0/8",
    ];
    let daemon = Daemon::start(&[&["--create-burst", "3"], &flags[..]].concat());
    let mut proxy = daemon.connect();
    for _ in 0..3 {
        for value in ["", "unknown", "::1", "10.0.0.1", "127.0.0.2"] {
            let fields = [("X-Forwarded-For", value)];
            assert_eq!(create(&mut proxy, "/rendezvous", &fields).status, 201);
        }
    }
    drop(proxy);
    let logged = logged(daemon);
    let warned = lines(&logged, "WARN");
    for (line, said) in warned.iter().zip([
        "it sends no X-Forwarded-For;",
        "is no client's IP address;",
        "add --trusted-proxy ::1",
        "all hops that it names are --trusted-proxy;",
    ]) {
        assert!(line.contains(said), "{warned:?}");
    }
    assert_eq!(warned.len(), 4, "{warned:?}");
}

/// The status of a creation over a Unix socket.
fn created_over(path: &Path, fields: &str) -> u16 {
    let mut stream = UnixStream::connect(path).unwrap();
    let head = format!("POST /rendezvous HTTP/1.0\r\n{fields}Content-Length: 1\r\n\r\nx");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_proxy_on_a_unix_socket_is_warned_of_even_if_it_says_nothing() {
    for (fields, said) in [
        ("", "it sends no X-Forwarded-For;"),
        (
            "X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n",
            "is 127.0.0.1; if that is a proxy too, add --trusted-proxy unix --trusted-proxy \
             127.0.0.1",
        ),
    ] {
        let name = format!("rendezvousd-quota-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let socket = format!("unix:{}", path.display());
        let daemon = Daemon::start(&["--create-burst", "1", "--listen", &socket]);
        for _ in 0..10 {
            assert_eq!(created_over(&path, fields), 201);
        }
        let logged = logged(daemon);
        let warned = lines(&logged, "WARN");
        assert!(warned.len() == 1 && warned[0].contains(said), "{warned:?}");
    }
}

#[test]
fn a_flood_of_creates_is_refused_when_all_sessions_are_in_use() {
    let daemon = Daemon::start(&["--max-entries", "1000"]);
    let mut flood = daemon.connect();
    let polled = create(&mut flood, "/rendezvous", &[]);
    let mut poller = daemon.connect();
    let mut made = vec![polled.location().to_owned()];
    for round in 1..3_000 {
        let answer = create(&mut flood, "/rendezvous", &[]);
        if round < 1_000 {
            made.push(answer.location().to_owned());
        } else {
            assert_again_later(&answer, 503, "M_UNKNOWN", 19);
        }
        if round % 100 == 0 {
            let fields = [("If-None-Match", polled.etag())];
            let poll = poller.request("GET", polled.location(), &fields, "");
            assert_eq!(poll.status, 304, "after {round}");
        }
    }
    let refused = create(&mut flood, STABLE_PATH, &[]);
    assert_again_later(&refused, 503, "M_UNKNOWN", 19);
    // A session that ends makes room at once.
    let deleted = flood.request("DELETE", &made.pop().unwrap(), &[], "");
    assert_eq!(deleted.status, 204);
    made.push(create(&mut flood, "/rendezvous", &[]).location().to_owned());
    for location in &made {
        assert_eq!(flood.request("HEAD", location, &[], "").status, 200);
    }
    daemon.signal(rustix::process::Signal::TERM);
    let (lines, _) = daemon.wait();
    let summary = "1000 left, 1001 created, 0 completed, 0 aborted, 1 never joined, 0 evicted";
    assert!(lines.iter().any(|line| line.contains(summary)), "{lines:?}");
}
