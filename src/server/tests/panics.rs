//! Panics of workers leave every count correct.

use std::net::Ipv4Addr;

use super::admission::connect_from;
use super::*;
use crate::metrics::Phase;

const DEFECT: &str = "GET / HTTP/1.1\r\nHost: x\r\nExpect: panic\r\n\r\n";

/// An address whose connections are limited.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

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
        let _ = streams[2].write_all(get("/8m").as_bytes());
        // One that had to make room first is no panic.
        while panics() <= round {
            let mut last = connect(address);
            last.write_all(DEFECT.as_bytes()).unwrap();
            assert!(closes(&mut last));
        }
    }
    let counts = || {
        let phase = |phase| server.counters().connections.in_phase(phase);
        (server.admission.counts(), Phase::ALL.map(phase))
    };
    let patience = Instant::now() + PATIENCE;
    while counts() != ([0; 3], [0; 5]) {
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
