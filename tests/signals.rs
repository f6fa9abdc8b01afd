//! The end.

mod common;

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use common::{Daemon, program};
use rustix::process::Signal;

#[test]
fn signals_that_end_programs_stop_it_with_exit_0_and_a_summary() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let daemon = Daemon::start(&[]);
        let address = daemon.address;
        let mut idle = daemon.connect();
        let made = idle.request("POST", "/rendezvous", &[], "x");
        assert_eq!(made.status, 201);
        let mut partial = daemon.connect();
        partial.send(b"GET /rendezvous HTTP/1.1\r\n");
        daemon.signal(signal);
        let (lines, status) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        let summary = lines.iter().find(|line| line.contains("stopped"));
        assert!(summary.unwrap().contains("1 created"), "{lines:?}");
        assert!(idle.is_closed());
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn sighup_stays_ignored_if_it_was_ignored_at_the_start() {
    let mut command = Command::new("sh");
    let line = "trap '' HUP; exec \"$0\" --listen 127.0.0.1:0";
    command.args(["-c", line, &program()]);
    let daemon = Daemon::spawn(command);
    daemon.signal(Signal::HUP);
    // A handler would run some time later: that there is none says it all.
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let signals = |name| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(mask.unwrap().trim(), 16).unwrap()
    };
    let hup = 1 << (Signal::HUP.as_raw() - 1);
    assert_eq!(signals("SigIgn:") & hup, hup);
    assert_eq!(signals("SigCgt:") & hup, 0);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().1.code(), Some(0));
}

#[test]
fn a_request_in_progress_at_the_stop_is_answered() {
    let daemon = Daemon::start(&["--workers", "1"]);
    let mut client = daemon.connect();
    client.send(b"POST /rendezvous HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
    // Another request's answer shows that the first part has arrived.
    assert_eq!(daemon.request("GET", "/rendezvous/x", &[], "").status, 404);
    daemon.signal(Signal::TERM);
    // Refused connections show that the stop has begun.
    while TcpStream::connect(daemon.address).is_ok() {}
    client.send(b"cd");
    let answer = client.answer(false).expect("an answer");
    assert_eq!(answer.status, 201);
    assert_eq!(answer.field("Connection"), Some("close"));
    let (_, status) = daemon.wait();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_summary_counts_the_ended_refused_and_evicted() {
    let daemon = Daemon::start(&["--ttl", "1s"]);
    let mut client = daemon.connect();
    let made = client.request("POST", "/rendezvous", &[], "x");
    while client.request("GET", made.location(), &[], "").status == 200 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // The reaper comes within a second, and a little more on a busy machine.
    std::thread::sleep(std::time::Duration::from_secs(2));
    client.send(b"nonsense\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().status, 400);
    daemon.signal(Signal::TERM);
    let (lines, _) = daemon.wait();
    let summary = lines.join("\n");
    assert!(
        summary.contains("0 left, 1 created, 0 completed, 1 aborted, 0 never joined, 0 evicted"),
        "{summary}"
    );
    assert!(
        summary.contains(" answered, 1 refused, 0 late, "),
        "{summary}"
    );
}

#[test]
fn the_summary_counts_what_an_operator_wants_to_know() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let json = ("Content-Type", "application/json");
    let made = client.request("POST", "/rendezvous", &[json], "x");
    let weak = format!("W/{}", made.etag());
    for (method, fields, status) in [
        ("GET", vec![("If-None-Match", weak.as_str())], 304),
        ("GET", vec![("Sec-Fetch-Mode", "navigate")], 403),
        ("PUT", vec![json, ("If-Match", weak.as_str())], 202),
        // Once more: that is no conflict.
        ("PUT", vec![json, ("If-Match", weak.as_str())], 202),
        ("PUT", vec![("If-Match", weak.as_str())], 412),
        ("DELETE", vec![], 204),
    ] {
        let answer = client.request(method, made.location(), &fields, "");
        assert_eq!(answer.status, status);
    }
    daemon.signal(Signal::TERM);
    let (lines, _) = daemon.wait();
    let summary = lines.join("\n");
    for part in [
        "0 left, 1 created, 0 completed, 1 aborted, 0 never joined, 0 evicted",
        "7 answered, 0 refused, 0 late, 1 write conflicts, 3 ETags normalized, \
         1 navigations refused",
        "connections: 1 accepted, 0 evicted; defects: 0 panics",
    ] {
        assert!(summary.contains(part), "{part:?} is missing:\n{summary}");
    }
}
