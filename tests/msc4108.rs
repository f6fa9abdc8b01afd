//! MSC4108 in its text of 2024, as shipped clients speak it. Each test names
//! the constraint of the clients' source that it guards.

mod common;

use common::{Answer, Daemon};

const MATRIX: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

fn url_of(answer: &Answer) -> String {
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    json["url"].as_str().unwrap().to_owned()
}

/// The path of an absolute URL.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").unwrap().1;
    &rest[rest.find('/').unwrap()..]
}

fn create(daemon: &Daemon, path: &str) -> Answer {
    let answer = daemon.request("POST", path, &[TEXT], "");
    assert_eq!(answer.status, 201, "{answer:?}");
    answer
}

/// Both dates are cut to seconds, so it may be one more than the lifetime.
fn seconds_left(answer: &Answer) -> u64 {
    let date = |name| httpdate::parse_http_date(answer.field(name).unwrap()).unwrap();
    let left = date("Expires").duration_since(date("Date"));
    left.unwrap().as_secs()
}

/// "creates with an empty `text/plain` body and `Content-Length: 0`" and
/// "reads `url` from the JSON": both SDKs.
#[test]
fn create_answers_201_with_an_absolute_url_in_json() {
    let daemon = Daemon::start(&[]);
    for base in [MATRIX, "/rendezvous"] {
        let made = create(&daemon, base);
        assert_eq!(made.field("Content-Type"), Some("application/json"));
        let url = url_of(&made);
        let start = format!("http://localhost{base}/");
        assert!(url.starts_with(&start), "{url}");
        assert_eq!(path_of(&url), made.location());
        assert_eq!(made.field("X-Max-Bytes"), Some("4096"));
        let read = daemon.request("GET", path_of(&url), &[], "");
        assert_eq!((read.status, read.text()), (200, ""));
        assert_eq!(read.field("Content-Type"), Some("text/plain"));
    }
}

/// "a create or write of MSC4108 with neither `Content-Length` nor
/// `Transfer-Encoding` has an empty body": some proxies drop the length of 0.
#[test]
fn a_create_or_write_without_a_length_is_empty() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    for (path, kind, version) in [
        (MATRIX, "text/plain", "1.1"),
        (MATRIX, "text/plain", "1.0"),
        ("/rendezvous", "text/plain", "1.1"),
        ("/rendezvous", "Text/Plain; charset=utf-8", "1.1"),
    ] {
        let fields = format!(
            "HTTP/{version}\r\nHost: x\r\nConnection: keep-alive\r\nContent-Type: {kind}\r\n"
        );
        client.send(format!("POST {path} {fields}\r\n").as_bytes());
        let made = client.answer(false).unwrap();
        assert_eq!(made.status, 201, "{made:?}");
        let put = |client: &mut common::Client, etag: &str| {
            let over = format!("If-Match: {etag}\r\n\r\n");
            client.send(format!("PUT {} {fields}{over}", made.location()).as_bytes());
            client.answer(false).unwrap()
        };
        let other = [TEXT, ("If-Match", made.etag())];
        let written = client.request("PUT", made.location(), &other, "other");
        let emptied = put(&mut client, written.etag());
        assert_eq!(emptied.status, 202, "{emptied:?}");
        let read = client.request("GET", made.location(), &[], "");
        assert_eq!((read.status, read.text()), (200, ""));
        assert_eq!(read.etag(), emptied.etag());
    }
    // The type is missing, not the length.
    client.send(format!("POST {MATRIX} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    let untyped = client.answer(false).unwrap();
    untyped.assert_error(400, "M_MISSING_PARAM");
    assert!(untyped.text().contains("Content-Type"));
}

#[test]
fn url_is_made_of_public_url_or_of_what_a_trusted_proxy_says() {
    let public = Daemon::start(&["--public-url", "https://m.example"]);
    assert!(url_of(&create(&public, MATRIX)).starts_with("https://m.example/_matrix/"));

    let proxied = [
        TEXT,
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "m.example"),
    ];
    let trusting = Daemon::start(&[]);
    let made = trusting.request("POST", MATRIX, &proxied, "");
    assert!(url_of(&made).starts_with("https://m.example/_matrix/"));
    let nobody = Daemon::start(&["--trusted-proxy", "none"]);
    let made = nobody.request("POST", MATRIX, &proxied, "");
    assert!(url_of(&made).starts_with("http://localhost/_matrix/"));
}

/// "`url`: absolute", so a host must be known.
#[test]
fn a_create_that_names_no_host_is_refused() {
    let daemon = Daemon::start(&[]);
    for path in [MATRIX, "/rendezvous"] {
        let mut client = daemon.connect();
        let head = format!(
            "POST {path} HTTP/1.0\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
        );
        client.send(head.as_bytes());
        let answer = client.answer(false).unwrap();
        answer.assert_error(400, "M_MISSING_PARAM");
    }
}

/// "the msc4108 path itself is strict about `text/plain`".
#[test]
fn the_matrix_path_takes_text_plain_only() {
    let daemon = Daemon::start(&[]);
    daemon
        .request("POST", MATRIX, &[], "x")
        .assert_error(400, "M_MISSING_PARAM");
    for other in ["application/json", "text/html", "text/plainer"] {
        daemon
            .request("POST", MATRIX, &[("Content-Type", other)], "x")
            .assert_error(400, "M_INVALID_PARAM");
    }
    let charset = [("Content-Type", "text/plain;charset=UTF-8")];
    let made = daemon.request("POST", MATRIX, &charset, "x");
    assert_eq!(made.status, 201);
    let etag = made.etag().to_owned();
    let put = |kind: &[(&str, &str)]| {
        let fields = [kind, &[("If-Match", &etag)]].concat();
        daemon.request("PUT", made.location(), &fields, "y")
    };
    put(&[]).assert_error(400, "M_MISSING_PARAM");
    put(&[("Content-Type", "application/json")]).assert_error(400, "M_INVALID_PARAM");
    assert_eq!(put(&charset).status, 202);
}

/// "a `text/plain` create [at the prefix] is a sign-in session"; anything else
/// there is MSC3886's.
#[test]
fn the_redirect_target_serves_both_protocols() {
    let daemon = Daemon::start(&["--max-bytes", "100", "--ttl", "30s"]);
    let sign_in = daemon.request("POST", "/rendezvous", &[TEXT], &"x".repeat(4096));
    assert_eq!(sign_in.status, 201);
    assert!((298..=301).contains(&seconds_left(&sign_in)));
    daemon
        .request("POST", "/rendezvous", &[TEXT], &"x".repeat(4097))
        .assert_error(413, "M_TOO_LARGE");
    let json = [("Content-Type", "application/json")];
    let other = daemon.request("POST", "/rendezvous", &json, "{}");
    assert!((28..=31).contains(&seconds_left(&other)));
    assert_eq!(other.field("X-Max-Bytes"), Some("100"));
    assert!(url_of(&other).ends_with(other.location()));
    let fields = [json[0], ("If-Match", other.etag())];
    daemon
        .request("PUT", other.location(), &fields, &"x".repeat(101))
        .assert_error(413, "M_TOO_LARGE");
}

/// "fixed at creation: clients read the expiry once, at creation".
#[test]
fn a_write_does_not_move_the_end() {
    let daemon = Daemon::start(&["--sign-in-ttl", "2m"]);
    let made = create(&daemon, MATRIX);
    assert!((118..=121).contains(&seconds_left(&made)));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let fields = [TEXT, ("If-Match", made.etag())];
    let written = daemon.request("PUT", made.location(), &fields, "x");
    let end = |answer: &Answer| {
        let text = answer.field("Expires").unwrap();
        httpdate::parse_http_date(text).unwrap()
    };
    // The same instant; rounding to seconds may show the next one.
    let moved = end(&written).duration_since(end(&made)).unwrap_or_default();
    assert!(moved.as_secs() <= 1, "{made:?} {written:?}");
}

/// "matrix-rust-sdk parses all three on every non-4xx answer, 304 too, and
/// fails without them"; matrix-js-sdk stores the ETag of any.
#[test]
fn etag_expires_and_last_modified_are_on_201_200_202_304_and_412() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, MATRIX);
    let get = |etag: &str| {
        let fields = [("If-None-Match", etag)];
        daemon.request("GET", made.location(), &fields, "")
    };
    let put = |body: &str| {
        let fields = [TEXT, ("If-Match", made.etag())];
        daemon.request("PUT", made.location(), &fields, body)
    };
    let (read, poll) = (get("\"other\""), get(made.etag()));
    let (written, repeated, stale) = (put("one"), put("one"), put("two"));
    let answers = [
        (&made, 201),
        (&read, 200),
        (&poll, 304),
        (&written, 202),
        (&repeated, 202),
        (&stale, 412),
    ];
    for (answer, status) in answers {
        assert_eq!(answer.status, status);
        for name in [
            "ETag",
            "Expires",
            "Last-Modified",
            "Access-Control-Allow-Origin",
        ] {
            assert!(answer.field(name).is_some(), "{name} on {status}");
        }
        assert_eq!(
            answer.field("Cache-Control"),
            Some("no-store, no-transform")
        );
    }
    assert_eq!(written.field("Content-Type"), Some("text/plain"));
}

/// "`M_UNKNOWN` plus `"org.matrix.msc4108.errcode":"M_CONCURRENT_WRITE"`":
/// what a session is decides, not the path it is written by.
#[test]
fn a_concurrent_write_has_the_errcode_of_the_unstable_text() {
    let daemon = Daemon::start(&[]);
    for base in [MATRIX, "/rendezvous"] {
        let made = create(&daemon, base);
        let id = made.location().rsplit('/').next().unwrap();
        for path in [made.location(), &format!("/rendezvous/{id}")] {
            let fields = [TEXT, ("If-Match", "\"0000000000000000\"")];
            let stale = daemon.request("PUT", path, &fields, "x");
            stale.assert_error(412, "M_UNKNOWN");
            let json: serde_json::Value = serde_json::from_slice(&stale.body).unwrap();
            assert_eq!(json["org.matrix.msc4108.errcode"], "M_CONCURRENT_WRITE");
            assert_eq!(stale.etag(), made.etag());
        }
    }
}

/// "404 must have the JSON body: matrix-rust-sdk reports "not found" only
/// from its errcode."
#[test]
fn a_session_that_is_gone_is_a_json_404() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, MATRIX);
    assert_eq!(
        daemon.request("DELETE", made.location(), &[], "").status,
        204
    );
    let poll = [("If-None-Match", made.etag())];
    let gone = daemon.request("GET", made.location(), &poll, "");
    gone.assert_error(404, "M_NOT_FOUND");
}

/// "a session made by one family answers 404 to the other".
#[test]
fn a_tagged_session_is_not_found_by_msc4388() {
    let daemon = Daemon::start(&[]);
    let made = create(&daemon, MATRIX);
    let id = made.location().rsplit('/').next().unwrap();
    let other = format!("/_matrix/client/v1/rendezvous/{id}");
    let body = r#"{"sequence_token":"0","data":"x"}"#;
    for (method, body) in [("GET", ""), ("DELETE", ""), ("PUT", body)] {
        let answer = daemon.request(method, &other, &[], body);
        answer.assert_error(404, "M_NOT_FOUND");
    }
    assert_eq!(daemon.request("GET", made.location(), &[], "").status, 200);
}
