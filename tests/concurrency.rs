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
