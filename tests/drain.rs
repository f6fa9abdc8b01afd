//! A stop that a load balancer has time to notice: `--drain`.

mod common;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Answer, CREATIONS, Client, Daemon, PATIENCE, program};
use rendezvousd::api::{MSC4388_PATH, STABLE_PATH};
use rustix::process::Signal;

const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Longer than any test takes.
const LONG: [&str; 4] = ["--drain", "5m", "--admin", "127.0.0.1:0"];

fn health(daemon: &Daemon) -> Answer {
    daemon.ask_admin("GET", "/health")
}

fn check(daemon: &Daemon) -> Answer {
    daemon.request("OPTIONS", "*", &[], "")
}

/// Tells it to stop and waits until it has heard that.
fn begin(daemon: &Daemon) {
    assert_eq!(check(daemon).status, 204);
    assert_eq!(health(daemon).status, 200);
    daemon.signal(Signal::TERM);
    let end = Instant::now() + PATIENCE;
    while check(daemon).status == 204 {
        assert!(Instant::now() < end, "it does not drain");
        sleep(Duration::from_millis(5));
    }
}

fn metrics(daemon: &Daemon) -> String {
    daemon.ask_admin("GET", "/metrics").text().to_owned()
}

fn wait_until_held(daemon: &Daemon, polls: usize) {
    let line = format!("rendezvousd_connections{{state=\"held\"}} {polls}\n");
    let end = Instant::now() + PATIENCE;
    while !metrics(daemon).contains(&line) {
        assert!(Instant::now() < end, "not held");
        sleep(Duration::from_millis(5));
    }
}

/// A second signal ends it; what it has logged.
fn end(daemon: Daemon) -> Vec<String> {
    daemon.signal(Signal::TERM);
    let (lines, status) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{lines:?}");
    lines
}

#[test]
fn a_draining_server_fails_health_checks_and_creates_sessions_at_first() {
    let daemon = Daemon::start(&LONG);
    begin(&daemon);
    check(&daemon).assert_error(503, "M_UNKNOWN");
    let health = health(&daemon);
    assert_eq!(health.status, 503);
    assert_eq!(health.text(), "This server is about to stop\n");
    for path in [MSC4388_PATH, STABLE_PATH] {
        let asked = daemon.request("GET", path, &[], "");
        asked.assert_error(503, "M_UNKNOWN");
        let head = daemon.request("HEAD", path, &[], "");
        assert_eq!(head.status, 503);
    }
    for (path, field, body) in CREATIONS {
        let made = daemon.request("POST", path, &[field], body);
        assert!([200, 201].contains(&made.status), "{made:?}");
    }
    let lines = end(daemon);
    let said = "health checks fail from now on; stopping in 5m, or at another signal";
    assert!(lines[0].contains(said), "{lines:?}");
}

#[test]
fn in_the_second_half_no_session_is_created() {
    let daemon = Daemon::start(&["--drain", "6s", "--admin", "127.0.0.1:0"]);
    begin(&daemon);
    let refused = loop {
        let answer = daemon.request("POST", "/rendezvous", &[TEXT], "x");
        if answer.status != 201 {
            break answer;
        }
        sleep(Duration::from_millis(100));
    };
    refused.assert_error(503, "M_UNKNOWN");
    let lines = end(daemon);
    let said = "creations because the server was about to stop";
    assert!(lines.iter().any(|line| line.contains(said)), "{lines:?}");
}

#[test]
fn sessions_are_served_and_polls_held_until_the_end() {
    let daemon = Daemon::start(&[&LONG[..], &["--long-poll", "25s"]].concat());
    let mut clients = [daemon.connect(), daemon.connect()];
    let made = daemon.request("POST", "/rendezvous", &[TEXT], "first");
    let token = daemon.request("POST", STABLE_PATH, &[JSON], r#"{"data":"first"}"#);
    let poll = |client: &mut Client, tag: &str| {
        let path = made.location();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n");
        client.send(head.as_bytes());
    };
    // Held before.
    poll(&mut clients[0], made.etag());
    begin(&daemon);
    // Held since.
    poll(&mut clients[1], made.etag());
    wait_until_held(&daemon, 2);
    let fields = [TEXT, ("If-Match", made.etag())];
    let written = daemon.request("PUT", made.location(), &fields, "second");
    assert_eq!(written.status, 202);
    for client in &mut clients {
        let news = client.answer(false).unwrap();
        assert_eq!((news.status, news.text()), (200, "second"));
    }
    let body: serde_json::Value = serde_json::from_slice(&token.body).unwrap();
    let path = format!("{STABLE_PATH}/{}", body["id"].as_str().unwrap());
    assert_eq!(daemon.request("GET", &path, &[], "").status, 200);
    let write = r#"{"sequence_token":"0","data":"second"}"#;
    let transaction = format!("{path}/t1");
    assert_eq!(
        daemon.request("PUT", &transaction, &[JSON], write).status,
        200
    );
    assert_eq!(daemon.request("DELETE", &path, &[], "").status, 200);
    // The end answers what is held.
    poll(&mut clients[0], written.etag());
    wait_until_held(&daemon, 1);
    end(daemon);
    let news = clients[0].answer(false).unwrap();
    assert_eq!(news.status, 304);
    assert_eq!(news.field("Connection"), Some("close"));
}

#[test]
fn a_drain_ends_by_itself_and_without_one_a_stop_is_at_once() {
    let daemon = Daemon::start(&["--drain", "1s"]);
    daemon.signal(Signal::TERM);
    let (lines, status) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{lines:?}");
    assert!(lines[0].contains("stopping in 1s"), "{lines:?}");

    let daemon = Daemon::start(&["--drain", "0s"]);
    let lines = end(daemon);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("stopped; "), "{lines:?}");
}

#[test]
fn sessions_of_a_drained_server_are_kept() {
    let path = std::env::temp_dir().join(format!("rendezvousd-drained-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let state = ["--state-file", path.to_str().unwrap(), "--node", "a"];
    let flags = [&LONG[..], &state].concat();
    let daemon = Daemon::start(&flags);
    let made = daemon.request("POST", "/rendezvous", &[TEXT], "first");
    begin(&daemon);
    let fields = [TEXT, ("If-Match", made.etag())];
    let written = daemon.request("PUT", made.location(), &fields, "in the meantime");
    assert_eq!(written.status, 202);
    assert!(!path.exists());
    end(daemon);
    let daemon = Daemon::start(&flags);
    let read = daemon.request("GET", made.location(), &[], "");
    assert_eq!((read.status, read.text()), (200, "in the meantime"));
    assert_eq!(
        daemon.request("POST", "/rendezvous", &[TEXT], "x").status,
        201
    );
    begin(&daemon);
    end(daemon);
    fs::remove_file(&path).unwrap();
}

#[test]
fn systemd_is_asked_for_time_while_the_workers_answer() {
    let path = std::env::temp_dir().join(format!("rendezvousd-extend-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(program());
    command
        .args(["--listen", "127.0.0.1:0", "--drain", "5m"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "10000000");
    let daemon = Daemon::spawn(command);
    let hear = || {
        let mut message = [0; 512];
        let count = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..count])
            .trim_end()
            .to_owned()
    };
    daemon.signal(Signal::TERM);
    while hear() != "STOPPING=1" {}
    for _ in 0..2 {
        while hear() != "WATCHDOG=1" {}
        assert_eq!(hear(), "EXTEND_TIMEOUT_USEC=10000000");
        assert!(hear().starts_with("STATUS="));
    }
    end(daemon);
    fs::remove_file(&path).unwrap();
}
