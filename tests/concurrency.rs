//! Many devices at once.

mod common;

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::Daemon;

const WRITERS: usize = 16;
const ROUNDS: usize = 1_000;

#[test]
fn of_sixteen_writers_at_one_revision_one_wins() {
    let daemon = Daemon::start(&["--workers", "4", "--ttl", "10m"]);
    let made = daemon.request("POST", "/rendezvous", &[], "start");
    let start = Barrier::new(WRITERS);
    let writer = |number: usize| {
        let mut client = daemon.connect();
        let mut won = Vec::new();
        for round in 0..ROUNDS {
            // Nobody writes between the two barriers: all see one revision.
            start.wait();
            let read = client.request("GET", made.location(), &[], "");
            start.wait();
            let body = format!("{round} by {number}");
            let fields = [("If-Match", read.etag())];
            let written = client.request("PUT", made.location(), &fields, &body);
            match written.status {
                202 => won.push(round),
                412 => assert_ne!(written.etag(), read.etag()),
                other => panic!("{other}"),
            }
        }
        won
    };
    let wins: Vec<usize> = thread::scope(|scope| {
        let writer = &writer;
        let threads: Vec<_> = (0..WRITERS)
            .map(|number| scope.spawn(move || writer(number)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(wins.len(), ROUNDS);
    assert_eq!(wins.iter().collect::<HashSet<_>>().len(), ROUNDS);
}

#[test]
fn readers_never_see_a_torn_payload() {
    let daemon = Daemon::start(&["--workers", "4", "--ttl", "10m"]);
    let payload = |number: usize| format!("{number:04}").repeat(1_000 - number % 500);
    let made = daemon.request("POST", "/rendezvous", &[], &payload(0));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = daemon.connect();
                let mut seen = HashSet::new();
                while !done.load(Ordering::Relaxed) {
                    let read = client.request("GET", made.location(), &[], "");
                    let number: usize = read.text()[..4].parse().unwrap();
                    assert_eq!(read.text(), payload(number));
                    seen.insert(number);
                }
                assert!(seen.len() > 10, "only {} payloads were seen", seen.len());
            });
        }
        let mut client = daemon.connect();
        let mut etag = made.etag().to_owned();
        for number in 1..2_000 {
            let fields = [("If-Match", etag.as_str())];
            let written = client.request("PUT", made.location(), &fields, &payload(number));
            assert_eq!(written.status, 202);
            etag = written.etag().to_owned();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_flood_of_creates_evicts_itself_and_not_a_polled_session() {
    let daemon = Daemon::start(&["--max-entries", "1000", "--ttl", "10m"]);
    let polled = daemon.request("POST", "/rendezvous", &[], "innocent");
    let mut poller = daemon.connect();
    let mut flood = daemon.connect();
    let mut flooded = Vec::new();
    for round in 0..20_000 {
        let made = flood.request("POST", "/rendezvous", &[], "flood");
        flooded.push(made.location().to_owned());
        if round % 100 == 0 {
            let fields = [("If-None-Match", polled.etag())];
            let poll = poller.request("GET", polled.location(), &fields, "");
            assert_eq!(poll.status, 304, "after {round}");
        }
    }
    let mut live = |location: &String| flood.request("HEAD", location, &[], "").status == 200;
    let kept: Vec<bool> = flooded.iter().map(&mut live).collect();
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 999);
    assert!(
        kept[20_000 - 999..].iter().all(|kept| *kept),
        "the newest stay"
    );
    assert!(live(&polled.location().to_owned()));
    daemon.signal(rustix::process::Signal::TERM);
    let (lines, _) = daemon.wait();
    let summary = "20001 created, 0 deleted, 0 expired, 19001 evicted, 1000 left";
    assert!(lines.iter().any(|line| line.contains(summary)), "{lines:?}");
}
