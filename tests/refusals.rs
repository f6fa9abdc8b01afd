//! Everything a peer can get wrong: the stated status with a body, and a
//! connection that is closed or in step. The server goes on.

mod common;
mod malformed;

use std::fs;
use std::process::Command;

use common::{Client, Daemon, program};
use malformed::malformed;
use rustix::process::{Resource, Rlimit, Signal, prlimit};

fn head(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

/// Each costs the connection: its framing is lost or its body unread.
#[test]
fn what_is_not_http_is_refused_and_closed() {
    let daemon = Daemon::start(&[]);
    for (bytes, status) in malformed() {
        let shown = &bytes[..bytes.len().min(80)].escape_ascii().to_string();
        let mut client = daemon.connect();
        client.send(&bytes);
        let answer = client.answer(false).expect(shown);
        let code = if status == 413 {
            "M_TOO_LARGE"
        } else {
            "M_UNKNOWN"
        };
        assert_eq!(answer.status, status, "{shown:?}");
        answer.assert_error(status, code);
        assert_eq!(answer.field("Connection"), Some("close"), "{shown:?}");
        drop(client);
        assert_eq!(daemon.request("GET", "/rendezvous/x", &[], "").status, 404);
    }
}

/// "heads up to 16 KiB and 100 fields": cookies of other programs on the host
/// name come with the requests of web clients.
#[test]
fn heads_up_to_the_limits_are_taken() {
    let daemon = Daemon::start(&[]);
    let ask = |bytes: &str| {
        let mut client = daemon.connect();
        client.send(bytes.as_bytes());
        client.answer(false).unwrap().status
    };
    let path = "GET /rendezvous/x";
    let cookies = |size: usize| {
        let rest = size - head(path, "Cookie: \r\n").len();
        head(
            path,
            &format!("Cookie: {}\r\n", "c=1; ".repeat(4_000).split_at(rest).0),
        )
    };
    assert_eq!(cookies(16 * 1024).len(), 16 * 1024);
    for size in [8 * 1024 + 1, 16 * 1024 - 1, 16 * 1024] {
        assert_eq!(ask(&cookies(size)), 404, "{size}");
    }
    assert_eq!(ask(&cookies(16 * 1024 + 1)), 431);
    // Host is one of the fields.
    for (others, status) in [(64, 404), (99, 404), (100, 431)] {
        assert_eq!(
            ask(&head(path, &"A: b\r\n".repeat(others))),
            status,
            "{others}"
        );
    }
    // The body of a large head is read as well.
    let line = format!("A: {}\r\nContent-Length: 4096\r\n", "x".repeat(16_000));
    let create = head("POST /rendezvous", &line) + &"x".repeat(4096);
    assert_eq!(ask(&create), 201);
}

#[test]
fn rfc9110_9_3_2_a_refused_head_has_no_body() {
    let daemon = Daemon::start(&[]);
    for (fields, status) in [
        ("Content-Length: 99999\r\n", 404),
        ("Expect: more\r\n", 417),
        ("Transfer-Encoding: gzip\r\n", 501),
    ] {
        let mut client = daemon.connect();
        client.send(head("HEAD /rendezvous/x", fields).as_bytes());
        assert_eq!(client.answer(true).unwrap().status, status);
        assert!(client.is_closed());
    }
}

#[test]
fn a_refused_peer_sees_the_close() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.send(b"nonsense\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().status, 400);
    assert!(client.is_closed());
}

#[test]
fn what_a_protocol_refuses_leaves_the_connection_in_step() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let made = client.request("POST", "/rendezvous", &[], "x");
    for _ in 0..3 {
        for (method, path, fields, status) in [
            ("PUT", made.location(), vec![], 400),
            ("PUT", made.location(), vec![("If-Match", "*")], 400),
            ("PUT", made.location(), vec![("If-Match", "\"stale\"")], 412),
            ("PUT", "/rendezvous/x", vec![("If-Match", "\"stale\"")], 404),
            ("PUT", "/unknown", vec![], 404),
            ("PATCH", made.location(), vec![], 405),
            ("GET", made.location(), vec![], 200),
        ] {
            let answer = client.request(method, path, &fields, "some body");
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.field("Connection"), None);
        }
    }
}

/// What a head alone decides costs no body: nothing of it is waited for, nor
/// asked for by a `100 Continue`, and the connection is closed (RFC 9112,
/// section 9.3).
#[test]
fn what_the_head_decides_is_answered_before_the_body() {
    const MSC4388: &str = "/_matrix/client/v1/rendezvous";
    let daemon = Daemon::start(&[]);
    let made = daemon.request("POST", "/rendezvous", &[], "x");
    let ended = daemon.request("POST", "/rendezvous", &[], "x");
    let ended = ended.location();
    assert_eq!(daemon.request("DELETE", ended, &[], "").status, 204);
    let unknown = ended.strip_prefix("/rendezvous").unwrap();
    for (method, path, status) in [
        ("POST", "/unknown", 404),
        ("PUT", ended, 404),
        ("PUT", "/rendezvous/x", 404),
        ("PUT", &format!("{MSC4388}{unknown}"), 404),
        ("PUT", &format!("{MSC4388}{unknown}/t"), 404),
        ("PUT", "/rendezvous", 405),
        ("PATCH", made.location(), 405),
        ("GET", made.location(), 200),
    ] {
        for framing in [
            "Content-Length: 9",
            "Content-Length: 9\r\nExpect: 100-continue",
            "Content-Length: 9999999",
            "Transfer-Encoding: chunked",
        ] {
            let fields = format!("If-Match: \"0\"\r\n{framing}\r\n");
            let mut client = daemon.connect();
            client.send(head(&format!("{method} {path}"), &fields).as_bytes());
            let answer = client.answer(false).unwrap();
            assert_eq!(answer.status, status, "{method} {path} {framing}");
            assert_eq!(answer.field("Connection"), Some("close"));
            assert!(client.is_closed());
        }
    }
}

/// "`Content-Encoding` other than `identity` on a body is 415": of all
/// protocols, whether they create or write, at every path.
#[test]
fn a_content_coding_is_an_unsupported_media_type() {
    const UNSTABLE: &str = "/_matrix/client/unstable/";
    let daemon = Daemon::start(&["--trusted-proxy", "none", "--create-burst", "6"]);
    let mut client = daemon.connect();
    let mut ask = |method: &str, path: &str, codings: &[&str], etag: &str, body: &str| {
        let mut fields = vec![("Content-Type", "text/plain"), ("If-Match", etag)];
        fields.extend(codings.iter().map(|coding| ("Content-Encoding", *coding)));
        let answer = client.request(method, path, &fields, body);
        if answer.status == 415 {
            answer.assert_error(415, "M_UNKNOWN");
            assert_eq!(answer.field("Accept-Encoding"), Some("identity"));
        }
        assert_eq!(answer.field("Connection"), None, "it stays in step");
        answer
    };
    let refused: [&[&str]; 7] = [
        &["gzip"],
        &["br"],
        &["identity, gzip"],
        &["identity", "gzip"],
        &["identity, identity"],
        &["x"],
        &[""],
    ];
    let data = r#"{"data":"one","sequence_token":"0"}"#;
    for (create, transactions, made) in [
        ("/rendezvous".to_owned(), &[""][..], 201),
        (
            format!("{UNSTABLE}org.matrix.msc3886/rendezvous"),
            &[""],
            201,
        ),
        (
            format!("{UNSTABLE}org.matrix.msc4108/rendezvous"),
            &[""],
            201,
        ),
        (
            format!("{UNSTABLE}io.element.msc4388/rendezvous"),
            &["", "/t"],
            200,
        ),
        ("/_matrix/client/v1/rendezvous".into(), &["", "/t"], 200),
    ] {
        // More than may be created: a refused one is not counted.
        for codings in refused {
            for body in [data, ""] {
                let answer = ask("POST", &create, codings, "", body);
                assert_eq!(answer.status, 415, "{create} {codings:?}");
            }
        }
        let session = ask("POST", &create, &["Identity"], "", data);
        assert_eq!(session.status, made, "{create}");
        let (path, etag) = match session.field("Location") {
            Some(path) => (path.to_owned(), session.etag()),
            None => {
                let json: serde_json::Value = serde_json::from_slice(&session.body).unwrap();
                (format!("{create}/{}", json["id"].as_str().unwrap()), "")
            }
        };
        for transaction in transactions {
            let target = format!("{path}{transaction}");
            for codings in refused {
                for body in [data, ""] {
                    let answer = ask("PUT", &target, codings, etag, body);
                    assert_eq!(answer.status, 415, "{target} {codings:?}");
                }
            }
        }
        // Nothing was written, and what keeps no body has no say in this.
        let read = ask("GET", &path, &["gzip"], "", "");
        assert_eq!(read.status, 200);
        assert_eq!(read.field("ETag").unwrap_or_default(), etag);
        let target = format!("{path}{}", transactions[transactions.len() - 1]);
        let written = ask("PUT", &target, &["identity"], etag, data);
        assert!(matches!(written.status, 200 | 202), "{target}");
        assert!(matches!(
            ask("DELETE", &path, &["gzip"], "", "").status,
            200 | 204
        ));
    }
}

/// Starts the binary through a shell that limits its open files first.
fn limited(ulimit: &str, flags: &str) -> Daemon {
    let mut command = Command::new("sh");
    let line = format!("{ulimit} && exec \"$0\" --listen 127.0.0.1:0 {flags}");
    command.args(["-c", &line]);
    command.arg(program());
    Daemon::spawn(command)
}

fn soft_limit(daemon: &Daemon) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    soft.parse().unwrap()
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_what_connections_need() {
    let daemon = limited("ulimit -Sn 64", "--max-connections 1000");
    assert!((1_000..1_200).contains(&soft_limit(&daemon)));
    assert!(!daemon.start.join("\n").contains("WARN"));
}

/// Grown with the connections, it would stop a worker for many milliseconds.
#[test]
fn the_table_of_descriptors_has_room_for_all_connections_from_the_start() {
    let daemon = Daemon::start(&["--max-connections", "1500"]);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    let size: u64 = size.unwrap().trim().parse().unwrap();
    assert!((1_500..4_096).contains(&size), "{size}");
}

/// The warnings, but for the report of what has made room for others.
fn warnings(lines: &[String]) -> usize {
    let warnings = lines.iter().filter(|line| line.contains("WARN"));
    warnings
        .filter(|line| !line.contains("refused in the last minute"))
        .count()
}

#[test]
fn a_hard_limit_that_is_too_low_is_said_at_the_start_and_kept_to() {
    let daemon = limited("ulimit -n 60", "--workers 2");
    let start = daemon.start.join("\n");
    assert!(start.contains("--max-connections 4096 needs"), "{start}");
    assert!(start.contains("only 60 are allowed"), "{start}");
    let mut hoard: Vec<Client> = Vec::new();
    for _ in 0..200 {
        hoard.push(daemon.connect());
        assert_eq!(daemon.request("GET", "/rendezvous/x", &[], "").status, 404);
    }
    daemon.signal(Signal::TERM);
    let (lines, status) = daemon.wait();
    assert!(status.success());
    assert_eq!(warnings(&lines), 0, "{lines:?}");
}

/// The limit falls under the running server, as when the whole system has no
/// more: newcomers get in at the cost of the idle, and one line says so.
#[test]
fn a_server_out_of_descriptors_serves_newcomers_and_says_so_once() {
    let daemon = Daemon::start(&["--workers", "2"]);
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let soft = open.count() as u64 + 6;
    let limit = Rlimit {
        current: Some(soft),
        maximum: Some(4_096),
    };
    prlimit(Some(daemon.process()), Resource::Nofile, limit).unwrap();
    let mut hoard: Vec<Client> = Vec::new();
    for _ in 0..50 {
        hoard.push(daemon.connect());
        assert_eq!(daemon.request("GET", "/rendezvous/x", &[], "").status, 404);
    }
    daemon.signal(Signal::TERM);
    let (lines, status) = daemon.wait();
    assert!(status.success());
    assert_eq!(warnings(&lines), 1, "{lines:?}");
}
