//! Probes and heartbeats of workers that are idle, busy or stuck.

use super::*;

const SETTLE_TIME: Duration = Duration::from_millis(200);

#[test]
fn workers_that_work_answer() {
    let (server, address) = start(3, 4, calm());
    let hoard: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    for _ in 0..50 {
        assert!(server.probe("/").is_answered(PATIENCE));
    }
    drop(hoard);
    server.stop();
}

#[test]
fn one_worker_that_is_stuck_is_noticed_and_so_is_its_recovery() {
    let (server, address) = start(2, 16, calm());
    let probe = server.probe("/");
    let mut heartbeat = server.heartbeat();
    assert!(probe.is_answered(PATIENCE));
    let mut stuck = connect(address);
    stuck.write_all(get("/stuck").as_bytes()).unwrap();
    while probe.is_answered(SETTLE_TIME) {}
    // Its loop may have run since the start, and does not any more.
    let _ = heartbeat.is_steady();
    thread::sleep(SETTLE_TIME);
    assert!(!heartbeat.is_steady());
    // However often it is asked, what waits for it is bounded.
    for _ in 0..100 {
        assert!(!probe.is_answered(Duration::from_millis(1)));
    }
    STUCK.store(false, Ordering::Relaxed);
    answer(&mut stuck);
    while !probe.is_answered(PATIENCE) {}
    beats(&mut heartbeat);
    server.stop();
}

/// Asks until every worker has a heartbeat again.
fn beats(heartbeat: &mut Heartbeat) {
    let end = Instant::now() + PATIENCE;
    while !heartbeat.is_steady() {
        assert!(Instant::now() < end, "no heartbeat");
        thread::sleep(SETTLE_TIME / 20);
    }
}

#[test]
fn idle_workers_have_a_heartbeat() {
    let (server, _) = start(3, 4, calm());
    let mut heartbeat = server.heartbeat();
    for _ in 0..5 {
        beats(&mut heartbeat);
    }
    server.stop();
}

#[test]
fn a_busy_worker_has_a_heartbeat() {
    let (server, address) = start(1, 16, calm());
    let mut heartbeat = server.heartbeat();
    let mut busy: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
    for stream in &mut busy {
        stream.write_all(get("/slow").as_bytes()).unwrap();
    }
    beats(&mut heartbeat);
    beats(&mut heartbeat);
    drop(busy);
    server.stop();
}
