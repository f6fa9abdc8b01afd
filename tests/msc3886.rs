//! MSC3886, clause by clause, against the real binary.

mod common;

use std::time::{Duration, Instant, SystemTime};

use common::{Answer, Daemon, PATIENCE};

const MATRIX: &str = "/_matrix/client/unstable/org.matrix.msc3886/rendezvous";
// `text/plain` at the redirect target makes a MSC4108 session.
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn create(daemon: &Daemon, body: &str) -> Answer {
    let answer = daemon.request("POST", "/rendezvous", &[JSON], body);
    assert_eq!(answer.status, 201);
    answer
}

fn date(answer: &Answer, name: &str) -> SystemTime {
    let text = answer.field(name).expect(name);
    let date = httpdate::parse_http_date(text).unwrap();
    assert_eq!(httpdate::fmt_http_date(date), text, "not an IMF-fixdate");
    date
}

/// ETag, Expires, Last-Modified, and nothing for a cache to keep.
#[track_caller]
fn assert_state(answer: &Answer, ttl: Duration) {
    let etag = answer.etag();
    assert!(etag.len() == 18 && etag.starts_with('"') && etag.ends_with('"'));
    let life = date(answer, "Expires").duration_since(date(answer, "Last-Modified"));
    let life = life.unwrap();
    assert!(life >= ttl - Duration::from_secs(1) && life <= ttl + Duration::from_secs(1));
    assert_eq!(
        answer.field("Cache-Control"),
        Some("no-store, no-transform")
    );
    assert_eq!(answer.field("Pragma"), Some("no-cache"));
    let skew = date(answer, "Date").duration_since(SystemTime::now());
    let skew = skew.unwrap_or_else(|before| before.duration());
    assert!(skew < Duration::from_secs(20), "{skew:?}");
    let written = date(answer, "Date").duration_since(date(answer, "Last-Modified"));
    assert!(written.unwrap_or_default() < Duration::from_secs(20));
    let exposed = answer.field("Access-Control-Expose-Headers");
    assert_eq!(exposed, Some("ETag, Location, X-Max-Bytes, Retry-After"));
}

const TTL: Duration = Duration::from_secs(60);

#[test]
fn create_answers_201_with_location_limit_and_state() {
    let daemon = Daemon::start(&[]);
    for path in ["/rendezvous", "/rendezvous/", MATRIX, &format!("{MATRIX}/")] {
        let answer = daemon.request("POST", path, &[JSON], "hello");
        assert_eq!(answer.status, 201, "{path}");
        let base = path.trim_end_matches('/');
        let id = answer.location().strip_prefix(base).unwrap();
        assert_eq!(id.len(), 1 + 22, "{id}");
        assert_eq!(answer.field("X-Max-Bytes"), Some("4096"));
        assert_state(&answer, TTL);
        let read = daemon.request("GET", answer.location(), &[], "");
        assert_eq!((read.status, read.text()), (200, "hello"));
    }
}

#[test]
fn a_session_is_one_under_both_its_paths() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, "x");
    let id = made.location().rsplit('/').next().unwrap();
    let read = daemon.request("GET", &format!("{MATRIX}/{id}"), &[], "");
    assert_eq!((read.status, read.etag()), (200, made.etag()));
}

#[test]
fn location_has_the_public_url_and_the_prefix() {
    let daemon = Daemon::start(&[
        "--public-url",
        "https://matrix.example.org/",
        "--prefix",
        "/_synapse/client/rendezvous",
    ]);
    let answer = daemon.request("POST", "/_synapse/client/rendezvous", &[JSON], "");
    let start = "https://matrix.example.org/_synapse/client/rendezvous/";
    assert!(answer.location().starts_with(start), "{answer:?}");
}

/// Also of `text/plain` at its own path; at the redirect target that is
/// MSC4108.
#[test]
fn create_and_write_without_a_length_miss_a_parameter() {
    let daemon = Daemon::start(&[]);
    let plain = "Content-Type: text/plain\r\n";
    let json = "Content-Type: application/json\r\n";
    let mut client = daemon.connect();
    let mut ask = |line: &str, fields: &str| {
        client.send(format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes());
        client.answer(false).unwrap()
    };
    for (path, fields) in [
        ("/rendezvous", ""),
        ("/rendezvous", json),
        (MATRIX, ""),
        (MATRIX, json),
        (MATRIX, plain),
    ] {
        let answer = ask(&format!("POST {path}"), fields);
        answer.assert_error(400, "M_MISSING_PARAM");
    }
    let made = create(&daemon, "one");
    let id = made.location().rsplit('/').next().unwrap();
    let msc4108 = MATRIX.replace("msc3886", "msc4108");
    for path in ["/rendezvous", MATRIX, &msc4108] {
        let fields = format!("{plain}If-Match: {}\r\n", made.etag());
        let answer = ask(&format!("PUT {path}/{id}"), &fields);
        answer.assert_error(400, "M_MISSING_PARAM");
    }
    let read = daemon.request("GET", made.location(), &[], "");
    assert_eq!(read.text(), "one");
}

#[test]
fn a_chunked_create_is_taken() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.send(
        b"POST /rendezvous HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
          3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    );
    let made = client.answer(false).unwrap();
    assert_eq!(made.status, 201);
    let read = client.request("GET", made.location(), &[], "");
    assert_eq!(read.text(), "abcdef");
}

#[test]
fn payloads_up_to_the_limit_are_taken_and_larger_ones_refused_unread() {
    let daemon = Daemon::start(&["--max-bytes", "100"]);
    let made = create(&daemon, &"x".repeat(100));
    assert_eq!(made.field("X-Max-Bytes"), Some("100"));
    let large = "x".repeat(101);
    daemon
        .request("POST", "/rendezvous", &[JSON], &large)
        .assert_error(413, "M_TOO_LARGE");
    let fields = [JSON, ("If-Match", made.etag())];
    daemon
        .request("PUT", made.location(), &fields, &large)
        .assert_error(413, "M_TOO_LARGE");
    let mut client = daemon.connect();
    client.send(b"POST /rendezvous HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000000\r\n\r\n");
    let answer = client.answer(false).unwrap();
    answer.assert_error(413, "M_TOO_LARGE");
    assert_eq!(answer.field("Connection"), Some("close"));
}

#[test]
fn a_payload_comes_back_byte_for_byte_with_its_type() {
    let daemon = Daemon::start(&[]);
    for (sent, kept) in [
        (None, "application/octet-stream"),
        (Some("application/json"), "application/json"),
        (Some("text/plain"), "text/plain"),
        (Some("text/plain;charset=UTF-8"), "text/plain"),
        (Some("text/html; charset=utf-8"), "text/html; charset=utf-8"),
    ] {
        let fields: Vec<_> = sent
            .map(|sent| ("Content-Type", sent))
            .into_iter()
            .collect();
        let made = daemon.request("POST", MATRIX, &fields, "{\"a\": \"é\0\"}\r\n");
        let read = daemon.request("GET", made.location(), &[], "");
        assert_eq!(read.text(), "{\"a\": \"é\0\"}\r\n");
        assert_eq!(read.field("Content-Type"), Some(kept), "{sent:?}");
    }
}

#[test]
fn a_type_that_cannot_be_kept_is_an_invalid_parameter() {
    let daemon = Daemon::start(&[]);
    for bad in ["text/é", &format!("text/{}", "x".repeat(200))] {
        daemon
            .request("POST", "/rendezvous", &[("Content-Type", bad)], "x")
            .assert_error(400, "M_INVALID_PARAM");
    }
}

#[test]
fn a_poll_is_304_with_state_until_something_is_written() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, "x");
    let poll = |etag: &str| daemon.request("GET", made.location(), &[("If-None-Match", etag)], "");
    let quiet = poll(made.etag());
    assert_eq!((quiet.status, quiet.etag()), (304, made.etag()));
    assert_eq!(quiet.field("Content-Length"), None);
    assert_state(&quiet, TTL);
    for listed in [
        "*",
        &format!("\"a\", {}", made.etag()),
        &format!("W/{}", made.etag()),
    ] {
        assert_eq!(poll(listed).status, 304, "{listed}");
    }

    let fields = [JSON, ("If-Match", made.etag())];
    let written = daemon.request("PUT", made.location(), &fields, "x");
    let news = poll(made.etag());
    assert_eq!(
        news.status, 200,
        "the same payload is news when it was written again"
    );
    assert_eq!(news.etag(), written.etag());
    assert_state(&news, TTL);
}

#[test]
fn a_write_answers_202_with_state_and_the_next_one_needs_its_etag() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, "one");
    let write = |etag: &str, body: &str| {
        daemon.request("PUT", made.location(), &[JSON, ("If-Match", etag)], body)
    };
    let second = write(made.etag(), "two");
    assert_eq!(second.status, 202);
    assert_eq!(second.field("Content-Type"), Some("text/plain"));
    assert_eq!(second.field("Content-Length"), Some("0"));
    assert_state(&second, TTL);
    assert_ne!(second.etag(), made.etag());

    let stale = write(made.etag(), "three");
    stale.assert_error(412, "M_CONCURRENT_WRITE");
    assert!(!stale.text().contains("msc4108"));
    assert_eq!(stale.etag(), second.etag());
    assert_state(&stale, TTL);
    write("\"0000000000000000\"", "three").assert_error(412, "M_CONCURRENT_WRITE");
    assert_eq!(
        daemon.request("GET", made.location(), &[], "").text(),
        "two"
    );
    assert_eq!(write(second.etag(), "three").status, 202);
}

/// "a repeated PUT is forgiven": its answer is that of the first.
#[test]
fn a_repeated_write_is_told_the_same_and_changes_nothing() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, "one");
    let write = |etag: &str, kind: &str, body: &str| {
        let fields = [("Content-Type", kind), ("If-Match", etag)];
        daemon.request("PUT", made.location(), &fields, body)
    };
    let first = write(made.etag(), "application/json", "two");
    assert_eq!(first.status, 202);
    let weakened = format!("W/{}", made.etag());
    for etag in [made.etag(), &weakened] {
        let again = write(etag, "application/json", "two");
        assert_eq!((again.status, again.etag()), (202, first.etag()));
        assert_eq!(again.field("Content-Length"), Some("0"));
        assert_eq!(again.field("Content-Type"), Some("text/plain"));
        assert_state(&again, TTL);
    }
    for (kind, body) in [
        ("application/json", "twO"),
        ("application/json", ""),
        ("application/json ;", "two"),
        ("text/plain", "two"),
    ] {
        let other = write(made.etag(), kind, body);
        other.assert_error(412, "M_CONCURRENT_WRITE");
        assert_eq!(other.etag(), first.etag());
    }
    // Two writes ago is too long ago.
    let second = write(first.etag(), "application/json", "two");
    assert_ne!(second.etag(), first.etag());
    write(made.etag(), "application/json", "two").assert_error(412, "M_CONCURRENT_WRITE");
    let again = write(first.etag(), "application/json", "two");
    assert_eq!((again.status, again.etag()), (202, second.etag()));
}

/// What a session was created with is no write that could come again.
#[test]
fn a_write_over_what_was_before_the_creation_is_refused() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, "one");
    let first = u64::from_str_radix(made.etag().trim_matches('"'), 16).unwrap();
    let before = format!("\"{:016x}\"", first.wrapping_sub(1));
    daemon
        .request(
            "PUT",
            made.location(),
            &[JSON, ("If-Match", &before)],
            "one",
        )
        .assert_error(412, "M_CONCURRENT_WRITE");
}

#[test]
fn a_write_needs_one_readable_if_match() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, "one");
    let put = |fields: &[(&str, &str)]| daemon.request("PUT", made.location(), fields, "two");
    put(&[JSON]).assert_error(400, "M_MISSING_PARAM");
    let list = format!("{0}, {0}", made.etag());
    for bad in ["*", "\"", "", &list] {
        put(&[JSON, ("If-Match", bad)]).assert_error(400, "M_INVALID_PARAM");
    }
    let twice = [JSON, ("If-Match", made.etag()), ("If-Match", made.etag())];
    put(&twice).assert_error(400, "M_INVALID_PARAM");
    let mut client = daemon.connect();
    let head = format!("PUT {} HTTP/1.1\r\nHost: x\r\n\r\n", made.location());
    client.send(head.as_bytes());
    client
        .answer(false)
        .unwrap()
        .assert_error(400, "M_MISSING_PARAM");
    assert_eq!(
        daemon.request("GET", made.location(), &[], "").text(),
        "one"
    );
}

#[test]
fn what_proxies_do_to_an_etag_fails_no_write_and_no_poll() {
    let daemon = Daemon::start(&[]);
    let mut etag = create(&daemon, "x");
    let location = etag.location().to_owned();
    for change in [
        |tag: &str| format!("W/\"{tag}\""),
        |tag: &str| format!("\"{tag}-gzip\""),
        |tag: &str| format!("W/\"{tag}-br\""),
        |tag: &str| format!("\"{tag};gzip\""),
        |tag: &str| format!("\"{tag}--gzip\""),
        |tag: &str| tag.to_owned(),
    ] {
        let changed = change(etag.etag().trim_matches('"'));
        let poll = daemon.request("GET", &location, &[("If-None-Match", &changed)], "");
        assert_eq!(poll.status, 304, "{changed}");
        etag = daemon.request("PUT", &location, &[JSON, ("If-Match", &changed)], "y");
        assert_eq!(etag.status, 202, "{changed}");
    }
}

#[test]
fn a_delete_is_204_once_and_final() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, "x");
    let mut client = daemon.connect();
    let gone = client.request("DELETE", made.location(), &[], "");
    assert_eq!((gone.status, gone.field("Content-Length")), (204, None));
    let etag = made.etag();
    for (method, fields) in [
        ("DELETE", vec![]),
        ("GET", vec![]),
        ("GET", vec![("If-None-Match", etag)]),
        ("PUT", vec![JSON, ("If-Match", etag)]),
    ] {
        client
            .request(method, made.location(), &fields, "")
            .assert_error(404, "M_NOT_FOUND");
    }
}

#[test]
fn a_session_ends_its_ttl_after_the_last_write() {
    let daemon = Daemon::start(&["--ttl", "1s"]);
    let made = create(&daemon, "x");
    assert_state(&made, Duration::from_secs(1));
    let started = Instant::now();
    let mut client = daemon.connect();
    while client.request("GET", made.location(), &[], "").status == 200 {
        assert!(started.elapsed() < PATIENCE);
    }
    assert!(started.elapsed() > Duration::from_millis(900));
    client
        .request("GET", made.location(), &[], "")
        .assert_error(404, "M_NOT_FOUND");
}

#[test]
fn a_write_moves_the_end() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, "x");
    std::thread::sleep(Duration::from_millis(2_100));
    let fields = [JSON, ("If-Match", made.etag())];
    let written = daemon.request("PUT", made.location(), &fields, "y");
    let moved = date(&written, "Expires").duration_since(date(&made, "Expires"));
    assert!(moved.unwrap() >= Duration::from_secs(2));
}

#[test]
fn head_is_get_without_the_body() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, "hello");
    let mut client = daemon.connect();
    let head = client.request("HEAD", made.location(), &[], "");
    assert_eq!(
        (head.status, head.field("Content-Length")),
        (200, Some("5"))
    );
    assert_state(&head, TTL);
    let get = client.request("GET", made.location(), &[], "");
    assert_eq!(get.text(), "hello");
}

#[test]
fn unknown_sessions_paths_and_methods_have_their_own_errors() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    for path in ["/rendezvous/AAAAAAAAAAAAAAAAAAAAAA", "/rendezvous/x"] {
        client
            .request("GET", path, &[], "")
            .assert_error(404, "M_NOT_FOUND");
    }
    for path in [
        "/",
        "/rendezvousx",
        "/rendezvous/a/b",
        "/_matrix/client/versions",
    ] {
        client
            .request("GET", path, &[], "")
            .assert_error(404, "M_UNRECOGNIZED");
    }
    let made = create(&daemon, "x");
    for (path, method, allow) in [
        ("/rendezvous", "GET", "POST, OPTIONS"),
        ("/rendezvous", "BREW", "POST, OPTIONS"),
        (made.location(), "POST", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ] {
        let answer = client.request(method, path, &[], "");
        answer.assert_error(405, "M_UNRECOGNIZED");
        assert_eq!(answer.field("Allow"), Some(allow));
    }
}
