//! Whether the workers' life is noticed, and its end.

use super::*;

const MOMENT: Duration = Duration::from_millis(200);

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
    assert!(probe.is_answered(PATIENCE));
    let mut stuck = connect(address);
    stuck.write_all(get("/stuck").as_bytes()).unwrap();
    while probe.is_answered(MOMENT) {}
    // However often it is asked, what waits for it is bounded.
    for _ in 0..100 {
        assert!(!probe.is_answered(Duration::from_millis(1)));
    }
    STUCK.store(false, Ordering::Relaxed);
    answer(&mut stuck);
    while !probe.is_answered(PATIENCE) {}
    server.stop();
}
