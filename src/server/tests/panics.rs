//! What is left of a worker's panic: nothing.

use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mio::Token;

use super::crowd::connect_from;
use super::*;
use crate::metrics::Phase;
use crate::server::crowd::{CLIENT_CONNECTIONS, Place};

const DEFECT: &str = "POST /defect HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n";

/// An address whose connections are limited.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

fn crowd(max_connections: usize) -> (Arc<Crowd>, Vec<Poll>) {
    let settings = Settings {
        workers: 2,
        max_connections,
        trusted_proxies: proxies(),
        largest_body: 1_000,
        deadlines: calm(),
    };
    let polls: Vec<Poll> = (0..2).map(|_| Poll::new().unwrap()).collect();
    let wakers = polls
        .iter()
        .map(|poll| Waker::new(poll.registry(), WAKER).unwrap());
    (Arc::new(Crowd::new(&settings, wakers.collect())), polls)
}

/// Runs something that panics.
fn panicking<T>(run: impl FnOnce() -> T) {
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
}

#[test]
fn a_worker_that_fails_to_evict_leaves_no_eviction_to_come() {
    let (crowd, _polls) = crowd(1);
    let now = Instant::now();
    let _places: Vec<Place> = (1..=2)
        .map(|number| crowd.take_place(0, Token(number), Peer::Local, now))
        .collect();
    crowd.publish(1, Some(now));
    assert!(crowd.is_too_large());
    assert!(crowd.close_longest(0, None));
    assert_eq!(crowd.counts(), [2, 1, 0]);
    assert!(!crowd.is_too_large());
    panicking(|| {
        let _errand = crowd.take_errand(1);
        panic!("as told");
    });
    assert_eq!(crowd.counts(), [2, 0, 0]);
    assert!(crowd.is_too_large());
}

#[test]
fn a_place_that_cannot_be_taken_is_not_counted() {
    let (crowd, _polls) = crowd(1_000);
    let now = Instant::now();
    // There is no such worker to be asked to close one.
    let take = |number| crowd.take_place(7, Token(number), Peer::Ip(CLIENT.into()), now);
    let places: Vec<Place> = (0..CLIENT_CONNECTIONS).map(take).collect();
    panicking(|| take(CLIENT_CONNECTIONS));
    let [open, _, seats] = crowd.counts();
    assert_eq!(open, CLIENT_CONNECTIONS);
    // The one that was to be closed is not its client's any more.
    assert_eq!(seats, CLIENT_CONNECTIONS - 1);
    drop(places);
    assert_eq!(crowd.counts(), [0; 3]);
}

#[test]
fn panics_leave_every_count_as_it_was() {
    let (server, address) = start(2, 6, calm());
    let panics = || server.counters().panics.get();
    for round in 0..10 {
        // Used, half a request, an answer that is not taken, silent, and
        // more of them than there is room for.
        let mut streams: Vec<TcpStream> = (0..8)
            .map(|number| match number % 2 {
                0 => connect(address),
                _ => connect_from(CLIENT, address),
            })
            .collect();
        let _ = streams[0].write_all(post("x").as_bytes());
        let _ = streams[1].write_all(&post("x").as_bytes()[..20]);
        let _ = streams[2].write_all(get("/32m").as_bytes());
        // One that had to make room first is no panic.
        while panics() <= round {
            let mut last = connect(address);
            last.write_all(DEFECT.as_bytes()).unwrap();
            assert!(closes(&mut last));
        }
    }
    let counts = || {
        let phase = |phase| server.counters().held.in_phase(phase);
        (server.crowd.counts(), Phase::ALL.map(phase))
    };
    let patience = Instant::now() + PATIENCE;
    while counts() != ([0; 3], [0; 4]) {
        assert!(Instant::now() < patience, "{:?}", counts());
        thread::yield_now();
    }
    let before = evicted(&server, 0);
    let mut streams: Vec<TcpStream> = (0..6).map(|_| connect(address)).collect();
    for stream in &mut streams {
        ask(stream, "in");
    }
    assert_eq!(evicted(&server, before), before);
    server.stop();
}
