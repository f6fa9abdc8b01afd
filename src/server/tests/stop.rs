//! Stopping: which requests are still answered.

use super::*;

#[test]
fn a_stop_finishes_what_is_being_sent_and_closes_the_rest() {
    let deadlines = Deadlines {
        stop: PATIENCE,
        ..Deadlines::default()
    };
    let (server, address) = start(2, 16, deadlines);
    let mut idle = connect(address);
    let mut busy = connect(address);
    // More than the sockets' buffers hold, so that it is not sent before the
    // stop.
    let close = get("/8m").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    busy.write_all(close.as_bytes()).unwrap();
    let mut first = [0];
    busy.read_exact(&mut first).unwrap();
    let stopper = thread::spawn(move || server.stop());
    assert!(closes(&mut idle));
    while TcpStream::connect(address).is_ok() {}
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).unwrap();
    let head = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    assert_eq!(rest.len() - head - 4, 8 << 20);
    stopper.join().unwrap();
}

#[test]
fn a_stop_does_not_wait_for_those_who_do_not_read() {
    let (server, address) = start(2, 16, SHORT);
    let mut deaf = connect(address);
    deaf.write_all(get("/8m").as_bytes()).unwrap();
    let mut first = [0];
    deaf.read_exact(&mut first).unwrap();
    server.stop();
    assert!(closes(&mut deaf));
}

#[test]
fn a_request_in_the_socket_at_the_stop_is_answered() {
    let (server, address) = start(1, 16, Deadlines::default());
    let mut stream = connect(address);
    stream.write_all(post("x").as_bytes()).unwrap();
    answer(&mut stream);
    let mut stopper = None;
    let mut late = stream.try_clone().unwrap();
    while_busy(address, || {
        late.write_all(post("in time").as_bytes()).unwrap();
        stopper = Some(thread::spawn(move || server.stop()));
    });
    let (head, body) = answer(&mut stream);
    assert_eq!(body, "in time");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    stopper.unwrap().join().unwrap();
}

#[test]
fn connections_that_wait_to_be_accepted_at_the_stop_are_answered() {
    // More than the server holds at once.
    let (server, address) = start(1, 8, Deadlines::default());
    let mut stopper = None;
    let mut queue = Vec::new();
    while_busy(address, || {
        queue.extend((0..40).map(|_| connect(address)));
        for stream in &mut queue {
            stream.write_all(post("queued").as_bytes()).unwrap();
        }
        stopper = Some(thread::spawn(move || server.stop()));
    });
    for stream in &mut queue {
        assert_eq!(answer(stream).1, "queued");
    }
    stopper.unwrap().join().unwrap();
}

#[test]
fn a_used_connection_may_ask_once_more_during_the_stop() {
    let deadlines = Deadlines {
        stop: PATIENCE,
        ..Deadlines::default()
    };
    let (server, address) = start(2, 16, deadlines);
    let mut used = connect(address);
    used.write_all(post("x").as_bytes()).unwrap();
    answer(&mut used);
    let stopper = thread::spawn(move || server.stop());
    while TcpStream::connect(address).is_ok() {}
    thread::sleep(Duration::from_millis(50));
    used.write_all(post("once more").as_bytes()).unwrap();
    let (head, body) = answer(&mut used);
    assert_eq!(body, "once more");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    assert!(closes(&mut used));
    stopper.join().unwrap();
}

/// Waits until the server accepts no connection any more. It has one at a time,
/// so that there is no queue for the server to go on with.
fn wait_until_closed(address: SocketAddr) {
    while let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.write_all(get("/").as_bytes());
        let _ = stream.read(&mut [0]);
    }
}

#[test]
fn a_silent_connection_may_ask_during_the_stop_for_a_while() {
    let silent = Duration::from_secs(2);
    let deadlines = Deadlines {
        stop: 2 * PATIENCE,
        stop_silent: silent,
        ..Deadlines::default()
    };
    let (server, address) = start(2, 16, deadlines);
    let (mut asks, mut says_nothing) = (connect(address), connect(address));
    // Older than it may get from the stop on.
    thread::sleep(silent + Duration::from_millis(100));
    let stopper = thread::spawn(move || server.stop());
    wait_until_closed(address);
    asks.write_all(post("at last").as_bytes()).unwrap();
    let (head, body) = answer(&mut asks);
    assert_eq!(body, "at last");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    // Long before all are closed.
    assert!(closes(&mut says_nothing));
    assert!(closes(&mut asks));
    stopper.join().unwrap();
}
