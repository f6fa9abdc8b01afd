//! What is logged, and that nobody can make it much.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use common::Daemon;
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
