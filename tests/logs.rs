//! What is logged, and that nobody can make it much. That reports come once a
//! minute is tested beside the code, with time as an argument; here they come
//! when the server stops.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use common::{Client, Daemon};
use rustix::process::Signal;

/// Requests that are answered with an error and leave the connection open,
/// each of another kind and with what would like to be a line of the log.
const BAD: [&str; 8] = [
    "GET /%0aERROR HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /rendezvous/%0aERROR HTTP/1.1\r\nHost: x\r\n\r\n",
    "ERROR /rendezvous HTTP/1.1\r\nHost: x\r\n\r\n",
    "PUT /rendezvous/nobody HTTP/1.1\r\nHost: x\r\nIf-Match: ERROR\r\n\r\n",
    "POST /rendezvous HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ERROR\r\n\r\n",
    "POST /_matrix/client/v1/rendezvous HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{",
    "GET /rendezvous HTTP/1.1\r\nHost: x\r\nSec-Fetch-Dest: ERROR\r\n\r\n",
    "DELETE /rendezvous/ HTTP/1.1\r\nHost: x\r\nReferer: ERROR\r\n\r\n",
];

/// Requests that are refused and close the connection.
const WORSE: [&[u8]; 4] = [
    b"ERROR\r\n\r\n",
    b"GET / HTTP/1.1\nHost: ERROR\n\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Sends all of a text again and again and reads until the server is silent
/// for having closed.
fn send(stream: &TcpStream, text: &[u8], times: usize) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = stream;
            for _ in 0..times {
                stream.write_all(text).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut stream = stream;
        let mut drain = [0; 64 * 1024];
        while stream.read(&mut drain).unwrap() > 0 {}
    });
}

#[test]
fn a_million_bad_requests_are_a_handful_of_lines() {
    let daemon = Daemon::start(&["--log-level", "trace", "--create-burst", "1"]);
    let bad = BAD.concat();
    thread::scope(|scope| {
        for _ in 0..4 {
            let stream = TcpStream::connect(daemon.address).unwrap();
            let bad = bad.as_bytes();
            scope.spawn(move || send(&stream, bad, 1_000_000 / 4 / BAD.len()));
        }
    });
    for round in 0..2_000 {
        let mut stream = TcpStream::connect(daemon.address).unwrap();
        let _ = stream.write_all(WORSE[round % WORSE.len()]);
        let _ = stream.read(&mut [0; 1_024]);
    }
    daemon.signal(Signal::TERM);
    let (lines, _) = daemon.wait();
    assert!(lines.len() <= 5, "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.contains("ERROR")),
        "{lines:?}"
    );
    // Every one of them has been counted.
    let last = lines.last().unwrap();
    let counted = |what: &str| last.contains(what);
    assert!(counted("1000000 answered, 2000 refused"), "{last}");
}

/// A sign-in over MSC4108 with messages of these sizes after the first.
fn sign_in(client: &mut Client, scanned: bool, sizes: &[usize]) {
    let text = ("Content-Type", "text/plain");
    let made = client.request("POST", "/rendezvous", &[text], "");
    let path = made.location();
    if scanned {
        client.request("GET", path, &[], "");
    }
    let mut tag = made.etag().to_owned();
    for size in sizes {
        let over = ("If-Match", tag.as_str());
        let written = client.request("PUT", path, &[text, over], &"x".repeat(*size));
        assert_eq!(written.status, 202);
        tag = written.etag().to_owned();
    }
    client.request("DELETE", path, &[], "");
}

/// The lines that say how sign-ins ended.
fn reports(daemon: Daemon) -> Vec<String> {
    daemon.signal(Signal::TERM);
    let (lines, _) = daemon.wait();
    let parts = lines.iter().filter_map(|line| line.split_once("sign-ins"));
    parts.map(|(_, rest)| rest.to_owned()).collect()
}

#[test]
fn how_sign_ins_ended_is_one_line_at_the_default_level_without_names() {
    const WHOLE: [usize; 7] = [104, 52, 168, 388, 70, 56, 515];
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    for length in [7, 7, 6, 5, 3, 2, 2, 1, 0] {
        sign_in(&mut client, true, &WHOLE[..length]);
    }
    sign_in(&mut client, false, &[]);
    let said = " that ended in the last minute: 2 completed, 2 stopped before the check code, \
                3 stopped at the check code (wrong, or not confirmed), \
                2 stopped after the check code (declined, or the homeserver refused), \
                1 never joined (the second device did not come)";
    assert_eq!(reports(daemon), [said]);
}

#[test]
fn a_flood_of_sign_ins_is_one_line() {
    let daemon = Daemon::start(&["--max-entries", "100"]);
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = daemon.connect();
            scope.spawn(move || (0..2_500).for_each(|_| sign_in(&mut client, false, &[])));
        }
    });
    let said = " that ended in the last minute: \
                10000 never joined (the second device did not come)";
    assert_eq!(reports(daemon), [said]);
}

#[test]
fn where_no_sign_in_ended_nothing_is_said_of_any() {
    let idle = Daemon::start(&[]);
    let checked = Daemon::start(&[]);
    let text = ("Content-Type", "text/plain");
    for _ in 0..20 {
        let message = "Message one of the check page";
        let made = checked.request("POST", "/rendezvous", &[text], message);
        checked.request("DELETE", made.location(), &[], "");
        checked.request("OPTIONS", "*", &[], "");
    }
    for daemon in [idle, checked] {
        assert_eq!(reports(daemon), [] as [&str; 0]);
    }
}
