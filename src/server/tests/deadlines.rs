//! Each wait has a deadline of its own. The others are long in these tests,
//! so that none can stand in for another.

use super::*;

const LONG: Deadlines = Deadlines {
    request: PATIENCE,
    answer: PATIENCE,
    idle: PATIENCE,
    linger: PATIENCE,
    stop: Duration::from_secs(1),
    stop_silent: Duration::from_secs(1),
};

#[test]
fn a_peer_that_never_reads_is_cut_off_and_harms_no_other() {
    let deadlines = Deadlines {
        answer: Duration::from_millis(300),
        ..calm()
    };
    let (server, address) = start(1, 16, deadlines);
    let mut deaf = connect(address);
    deaf.set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    // Write until neither side takes any more.
    let mut asked = 0;
    while deaf.write_all(get("/4k").as_bytes()).is_ok() {
        asked += 1;
    }
    let mut other = connect(address);
    ask(&mut other, "fine");
    thread::sleep(deadlines.answer * 3);
    // Only what the kernel had taken comes, and then the end.
    let mut taken = 0;
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = deaf.read(&mut buffer) {
        taken += count;
    }
    assert!(taken < asked * 4096, "{asked} answers in {taken} bytes");
    server.stop();
}

#[test]
fn a_late_request_is_told_408_and_a_close() {
    let (server, address) = start(1, 16, SHORT);
    let body_missing = post("abc").replace("abc", "a");
    for part in ["GET / HTTP/1.1\r\nHo", &body_missing] {
        let mut stream = connect(address);
        stream.write_all(part.as_bytes()).unwrap();
        let (head, _) = answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        assert!(closes(&mut stream));
    }
    assert_eq!(server.counters().rejections.of(408), 2);
    server.stop();
}

#[test]
fn all_that_are_late_at_once_are_told_so() {
    let (server, address) = start(1, 400, SHORT);
    let mut late: Vec<_> = (0..300).map(|_| connect(address)).collect();
    for stream in &mut late {
        stream.write_all(b"G").unwrap();
    }
    for stream in &mut late {
        let (head, _) = answer(stream);
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        assert!(closes(stream));
    }
    assert_eq!(server.counters().rejections.of(408), 300);
    server.stop();
}

#[test]
fn dripping_bytes_do_not_extend_the_deadline_of_a_request() {
    let (server, address) = start(1, 16, SHORT);
    let mut stream = connect(address);
    let mut drip = stream.try_clone().unwrap();
    let dripper = thread::spawn(move || {
        let mut sent = 0;
        while drip.write_all(b"a").is_ok() && sent < 400 {
            sent += 1;
            thread::sleep(Duration::from_millis(50));
        }
        sent
    });
    let (head, _) = answer(&mut stream);
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    drop(stream);
    assert!(dripper.join().unwrap() < 400);
    server.stop();
}

#[test]
fn an_idle_connection_is_closed_in_silence() {
    let (server, address) = start(1, 16, SHORT);
    let mut fresh = connect(address);
    let mut used = connect(address);
    used.write_all(post("x").as_bytes()).unwrap();
    answer(&mut used);
    for stream in [&mut fresh, &mut used] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
    server.stop();
}

#[test]
fn a_late_second_request_is_refused_long_before_an_idle_connection() {
    let deadlines = Deadlines {
        request: Duration::from_millis(300),
        ..LONG
    };
    let (server, address) = start(1, 16, deadlines);
    let mut stream = connect(address);
    stream.write_all(post("x").as_bytes()).unwrap();
    answer(&mut stream);
    stream.write_all(b"GET / HT").unwrap();
    let (head, _) = answer(&mut stream);
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    server.stop();
}

#[test]
fn a_connection_in_use_is_not_idle() {
    let deadlines = Deadlines {
        idle: Duration::from_secs(1),
        ..LONG
    };
    let (server, address) = start(1, 16, deadlines);
    let mut stream = connect(address);
    for _ in 0..8 {
        thread::sleep(deadlines.idle / 4);
        ask(&mut stream, "x");
    }
    server.stop();
}

#[test]
fn a_refused_peer_that_stays_is_cut_off() {
    let deadlines = Deadlines {
        linger: Duration::from_millis(300),
        ..LONG
    };
    let (server, address) = start(1, 16, deadlines);
    let mut stream = refused(address);
    thread::sleep(deadlines.linger * 3);
    // The first write meets the closed socket, the second its reset.
    let _ = stream.write_all(b"x");
    thread::sleep(Duration::from_millis(200));
    assert!(stream.write_all(b"x").is_err());
    server.stop();
}

#[test]
fn a_refused_peer_that_never_stops_is_cut_off() {
    let deadlines = Deadlines {
        linger: Duration::from_millis(300),
        ..LONG
    };
    let (server, address) = start(1, 16, deadlines);
    let mut stream = refused(address);
    let patience = Instant::now() + PATIENCE;
    while stream.write_all(&[b'x'; 16_384]).is_ok() {
        assert!(Instant::now() < patience, "it is still read");
    }
    let mut other = connect(address);
    ask(&mut other, "fine");
    server.stop();
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let manual = include_str!("../../../systemd/rendezvousd.8");
    let deadlines = Deadlines::default();
    for (what, deadline) in [
        ("a request, first byte to last", deadlines.request),
        ("an answer that the peer does not take", deadlines.answer),
        ("a connection between requests", deadlines.idle),
    ] {
        let entry = format!("\n.TP\n{what}\n{} s", deadline.as_secs());
        let after = manual.split(&entry).nth(1).expect(what);
        assert!(after.starts_with(['.', ',']), "{what}");
    }
}
