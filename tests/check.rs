//! The page with which an operator checks the rendezvous. What it finds is
//! tried in a browser by tests/browser/run.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};
use std::str;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Answer, Daemon, manual_entries};

/// What a browser sends that goes to an address.
const NAVIGATION: [(&str, &str); 4] = [
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-User", "?1"),
];

/// The page, its body decompressed.
fn page(daemon: &Daemon, path: &str) -> Answer {
    let mut answer = daemon.request("GET", path, &NAVIGATION, "");
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert_eq!(answer.field("Content-Encoding"), Some("gzip"));
    answer.body = piped("gzip", "-dc", &answer.body);
    answer
}

/// The texts of the elements of that name.
fn texts<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let (opening, closing) = (format!("\n<{name}>"), format!("</{name}>"));
    let parts = html.split(&opening).skip(1);
    parts
        .map(|part| part.split(&closing).next().unwrap())
        .collect()
}

/// The hash of a text as a policy names it, by coreutils.
fn hash(text: &str) -> String {
    let mut command = Command::new("sha256sum");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap().stdout;
    let digits = str::from_utf8(&output[..64]).unwrap();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..64).step_by(2).map(byte).collect();
    format!("'sha256-{}'", STANDARD.encode(bytes))
}

#[test]
fn the_page_is_for_people_and_for_nobody_else() {
    let daemon = Daemon::start(&[]);
    let answer = page(&daemon, "/rendezvous/check");
    for (name, value) in [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "no-store, no-transform"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    ] {
        assert_eq!(answer.field(name), Some(value));
    }
    let shared = |(name, _): &(String, String)| name.starts_with("Access-Control");
    assert!(!answer.fields.iter().any(shared), "{:?}", answer.fields);
    assert!(answer.text().starts_with("<!doctype html>"));
}

#[test]
fn the_policy_lets_through_what_is_in_the_page_and_no_more() {
    let daemon = Daemon::start(&[]);
    let answer = page(&daemon, "/rendezvous/check");
    let html = answer.text();
    let policy = answer.field("Content-Security-Policy").unwrap();
    let [style] = texts(html, "style")[..] else {
        panic!("styles");
    };
    let [script] = texts(html, "script")[..] else {
        panic!("scripts");
    };
    let expected = [
        "default-src 'none'".to_owned(),
        format!("style-src {}", hash(style)),
        format!("script-src {}", hash(script)),
        "img-src data:".to_owned(),
        "connect-src http: https:".to_owned(),
        "base-uri 'none'".to_owned(),
        "form-action 'none'".to_owned(),
        "frame-ancestors 'none'".to_owned(),
    ];
    assert_eq!(policy.split("; ").collect::<Vec<_>>(), expected);
    // Nothing that would be fetched, or stay: the icon is part of the page.
    assert_eq!(html.matches("href=").count(), 1);
    assert!(html.contains(r#"<link rel="icon" href="data:image/svg+xml,"#));
    for word in [" src=", "url(", "@import", "localStorage", "cookie"] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn the_page_says_which_version_it_checks() {
    let daemon = Daemon::start(&[]);
    let version = concat!(">rendezvousd ", env!("CARGO_PKG_VERSION"), "<");
    assert!(page(&daemon, "/rendezvous/check").text().contains(version));
}

#[test]
fn the_page_is_at_the_prefix_only() {
    for (prefix, path) in [("/meet/here", "/meet/here/check"), ("/", "/check")] {
        let daemon = Daemon::start(&["--prefix", prefix]);
        let whole = page(&daemon, path);
        // Some proxies add a slash.
        let slash = page(&daemon, &format!("{path}/"));
        assert_eq!(slash.text(), whole.text());
        let policy = "Content-Security-Policy";
        assert_eq!(slash.field(policy), whole.field(policy));
        for other in [
            "/rendezvous/check",
            "/rendezvous/check/",
            "/_matrix/client/v1/rendezvous/check",
        ] {
            let answer = daemon.request("GET", other, &[], "");
            assert_eq!(answer.status, 404, "{other}");
        }
    }
}

#[test]
fn head_and_other_methods_are_answered_as_everywhere() {
    let daemon = Daemon::start(&[]);
    for path in ["/rendezvous/check", "/rendezvous/check/"] {
        let whole = page(&daemon, path);
        let head = daemon.request("HEAD", path, &NAVIGATION, "");
        assert_eq!(head.status, 200);
        for name in ["Content-Length", "Content-Type", "Content-Security-Policy"] {
            assert_eq!(head.field(name), whole.field(name), "{name}");
        }
    }
    for path in [
        "/rendezvous/check",
        "/rendezvous/check/",
        "/rendezvous/check/server",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = daemon.request(method, path, &[], "");
            answer.assert_error(405, "M_UNRECOGNIZED");
            assert_eq!(answer.field("Allow"), Some("GET, HEAD, OPTIONS"));
        }
        assert_eq!(daemon.request("OPTIONS", path, &[], "").status, 204);
    }
    for below in [
        "/rendezvous/check//",
        "/rendezvous/check/x",
        "/rendezvous/check/server/",
    ] {
        assert_eq!(daemon.request("GET", below, &[], "").status, 404);
    }
}

#[test]
fn it_can_be_turned_off() {
    let daemon = Daemon::start(&["--no-check-page"]);
    for (path, code) in [
        ("/rendezvous/check", "M_NOT_FOUND"),
        ("/rendezvous/check/", "M_UNRECOGNIZED"),
        ("/rendezvous/check/server", "M_UNRECOGNIZED"),
    ] {
        daemon.request("GET", path, &[], "").assert_error(404, code);
    }
    let browser = [("Accept", "text/html")];
    let root = daemon.request("GET", "/", &browser, "");
    root.assert_error(404, "M_UNRECOGNIZED");
    let create = daemon.request("GET", "/rendezvous", &browser, "");
    create.assert_error(405, "M_UNRECOGNIZED");
}

/// What a command makes of bytes.
fn piped(program: &str, flag: &str, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command
        .arg(flag)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || pipe.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn the_page_is_compressed_and_payloads_never_are() {
    let daemon = Daemon::start(&[]);
    let html = page(&daemon, "/rendezvous/check");
    let command = "gzip -9n <src/api/check.html >src/api/check.html.gz";
    let same = html.text() == include_str!("../src/api/check.html");
    assert!(same, "after a change run: {command}");
    let head = daemon.request("HEAD", "/rendezvous/check", &[], "");
    assert_eq!(head.field("Content-Encoding"), Some("gzip"));
    let compressed: usize = head.field("Content-Length").unwrap().parse().unwrap();
    assert!(2 * compressed < html.body.len());
    // Their ETags would name something else.
    let made = daemon.request("POST", "/rendezvous", &[], &"x".repeat(4000));
    let fields = [("Accept-Encoding", "gzip")];
    let read = daemon.request("GET", made.location(), &fields, "");
    assert_eq!(read.field("Content-Encoding"), None);
    assert_eq!(read.body.len(), 4000);
}

#[test]
fn browsers_are_sent_to_the_page_from_where_programs_create_sessions() {
    let accept = "text/html,application/xhtml+xml,*/*;q=0.8";
    for (flags, paths, location) in [
        (
            &[][..],
            &["/", "/rendezvous", "/rendezvous/"][..],
            "/rendezvous/check",
        ),
        (&["--prefix", "/"], &["/"], "/check"),
        (
            &["--public-url", "https://m.example/x"],
            &["/"],
            "https://m.example/x/rendezvous/check",
        ),
    ] {
        let daemon = Daemon::start(flags);
        for path in paths {
            for method in ["GET", "HEAD"] {
                let answer = daemon.request(method, path, &[("Accept", accept)], "");
                assert_eq!(answer.status, 302, "{path}");
                assert_eq!(answer.field("Location"), Some(location));
                assert_eq!(
                    answer.field("Cache-Control"),
                    Some("no-store, no-transform")
                );
            }
            for accept in ["*/*", "application/json"] {
                let answer = daemon.request("GET", path, &[("Accept", accept)], "");
                assert!([404, 405].contains(&answer.status), "{path}");
                answer.assert_error(answer.status, "M_UNRECOGNIZED");
            }
        }
    }
    let daemon = Daemon::start(&[]);
    let root = daemon.request("GET", "/", &[], "");
    root.assert_error(404, "M_UNRECOGNIZED");
    assert!(root.text().contains("rendezvousd(8)"), "{}", root.text());
    let posted = daemon.request("POST", "/", &[("Accept", accept)], "x");
    posted.assert_error(404, "M_UNRECOGNIZED");
    // Nobody opens these by hand.
    let path = "/_matrix/client/v1/rendezvous";
    let answer = daemon.request("GET", path, &[("Accept", accept)], "");
    assert_eq!(answer.status, 200);
    // The root as the path of programs.
    let daemon = Daemon::start(&["--prefix", "/"]);
    let made = daemon.request("POST", "/", &[("Accept", accept)], "x");
    assert_eq!(made.status, 201);
    assert_eq!(daemon.request("GET", made.location(), &[], "").text(), "x");
}

#[test]
fn the_server_says_whom_it_takes_a_client_for() {
    let forwarded = ("X-Forwarded-For", "203.0.113.5");
    let two = ("X-Forwarded-For", "203.0.113.5, 127.0.0.1");
    for (flags, fields, address, advice) in [
        (&[][..], &[forwarded][..], Some("203.0.113.5"), None),
        (&[], &[], None, Some("it sends no X-Forwarded-For")),
        (
            &[],
            &[two],
            Some("127.0.0.1"),
            Some("add --trusted-proxy 127.0.0.1"),
        ),
        (
            &["--trusted-proxy", "127.0.0.1"],
            &[two],
            Some("203.0.113.5"),
            None,
        ),
        (
            &["--trusted-proxy", "10.0.0.1"],
            &[forwarded],
            Some("127.0.0.1"),
            Some("if 127.0.0.1 is that proxy, add --trusted-proxy 127.0.0.1"),
        ),
        (&["--trusted-proxy", "none"], &[], Some("127.0.0.1"), None),
        (
            &["--trusted-proxy", "127.0.0.1"],
            &[("X-Forwarded-For", "\"<script>\"")],
            None,
            Some("no client's IP address"),
        ),
    ] {
        let daemon = Daemon::start(&[flags, &["--log-level", "trace"]].concat());
        let answer = daemon.request("GET", "/rendezvous/check/server", fields, "");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("Content-Type"), Some("application/json"));
        assert_eq!(
            answer.field("Cache-Control"),
            Some("no-store, no-transform")
        );
        // What it says of a visitor is for no other site.
        assert_eq!(answer.field("Access-Control-Allow-Origin"), None);
        let facts: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(facts["address"].as_str(), address, "{facts}");
        match advice {
            Some(part) => assert!(facts["advice"].as_str().unwrap().contains(part), "{facts}"),
            None => assert!(facts["advice"].is_null(), "{facts}"),
        }
        assert_eq!(facts["long_poll_ms"], 0);
        // Addresses are never logged.
        daemon.signal(rustix::process::Signal::TERM);
        let (lines, _) = daemon.wait();
        let log = lines.join("\n");
        assert!(!log.contains("203.0.113.5"), "{log}");
    }
}

#[test]
fn many_pages_that_are_asked_for_at_once_all_come() {
    let daemon = Daemon::start(&["--workers", "1"]);
    let whole = daemon.request("GET", "/rendezvous/check", &[], "");
    let mut client = daemon.connect();
    let request = "GET /rendezvous/check HTTP/1.1\r\nHost: x\r\n\r\n";
    client.send(request.repeat(100).as_bytes());
    for _ in 0..100 {
        assert_eq!(client.answer(false).unwrap().body, whole.body);
    }
}

/// What stands in quotes behind each of the calls.
fn quoted<'a>(text: &'a str, call: &str) -> Vec<&'a str> {
    let calls = text.split(call).skip(1);
    calls.map(|rest| rest.split('\'').next().unwrap()).collect()
}

#[test]
fn the_manual_explains_every_line() {
    let daemon = Daemon::start(&[]);
    let answer = page(&daemon, "/rendezvous/check");
    let mut titles = quoted(answer.text(), " line('");
    titles.extend(quoted(answer.text(), " step('"));
    assert!(titles.len() > 18, "{titles:?}");
    let entries = manual_entries("\"CHECK PAGE\"");
    let mut explained: Vec<&str> = entries
        .iter()
        .flat_map(|entry| entry.lines().next().unwrap().split(", "))
        .collect();
    titles.sort_unstable();
    titles.dedup();
    explained.sort_unstable();
    assert_eq!(explained, titles);
}
