//! Coinciding events and full buffers, where edges could get lost.

use super::admission::connect_from;
use super::*;

#[test]
fn three_hundred_pipelined_requests_get_all_their_answers() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    let mut sender = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        sender.write_all(get("/4k").repeat(300).as_bytes()).unwrap();
    });
    for _ in 0..300 {
        assert_eq!(answer(&mut stream).1.len(), 4096);
    }
    writer.join().unwrap();
    ask(&mut stream, "in step");
    server.stop();
}

#[test]
fn three_hundred_requests_sent_before_the_first_read_get_all_their_answers() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    stream.write_all(get("/4k").repeat(300).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..300 {
        assert_eq!(answer(&mut stream).1.len(), 4096);
    }
    assert!(closes(&mut stream));
    server.stop();
}

#[test]
fn requests_that_come_byte_by_byte_are_answered() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    stream.set_nodelay(true).unwrap();
    for text in ["one", "two"] {
        for byte in post(text).bytes() {
            stream.write_all(&[byte]).unwrap();
        }
        assert_eq!(answer(&mut stream).1, text);
    }
    server.stop();
}

#[test]
fn a_segment_that_comes_while_the_last_is_answered_is_not_lost() {
    let (server, address) = start(2, 16, calm());
    let mut stream = connect(address);
    stream.set_nodelay(true).unwrap();
    for round in 0..500 {
        let (one, two) = (format!("a{round}"), format!("b{round}"));
        let (first, second) = (post(&one), post(&two));
        let cut = first.len() + round % second.len();
        let both = format!("{first}{second}");
        stream.write_all(&both.as_bytes()[..cut]).unwrap();
        if round % 3 == 0 {
            thread::yield_now();
        }
        stream.write_all(&both.as_bytes()[cut..]).unwrap();
        assert_eq!(answer(&mut stream).1, one);
        assert_eq!(answer(&mut stream).1, two);
    }
    server.stop();
}

#[test]
fn an_answer_is_whole_although_input_was_left_at_the_close() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    let request = get("/8m").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    stream.write_all(b"\r\n").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 8 << 20, "{}", rest.len());
    server.stop();
}

#[test]
fn a_busy_connection_leaves_turns_to_the_others() {
    let (server, address) = start(1, 64, calm());
    let mut busy = connect(address);
    let mut blast = busy.try_clone().unwrap();
    let blaster = thread::spawn(move || {
        let requests = get("/4k").repeat(1_000);
        while blast.write_all(requests.as_bytes()).is_ok() {}
    });
    let mut sink = busy.try_clone().unwrap();
    let reader = thread::spawn(move || while closes_later(&mut sink) {});
    for _ in 0..200 {
        let mut other = connect(address);
        ask(&mut other, "me too");
    }
    busy.shutdown(Shutdown::Both).unwrap();
    blaster.join().unwrap();
    reader.join().unwrap();
    let _ = busy.flush();
    server.stop();
}

/// Reads something; false at the end.
fn closes_later(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 65_536]), Ok(1..))
}

#[test]
fn input_of_several_reads_that_came_at_once_is_read_to_its_end() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    stream.write_all(post("x").as_bytes()).unwrap();
    answer(&mut stream);
    let mut sender = stream.try_clone().unwrap();
    while_busy(address, || {
        sender.write_all(post("y").repeat(900).as_bytes()).unwrap();
    });
    for _ in 0..900 {
        assert_eq!(answer(&mut stream).1, "y");
    }
    server.stop();
}

#[test]
fn last_words_and_the_end_in_one_event_are_both_heard() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    stream.write_all(post("x").as_bytes()).unwrap();
    answer(&mut stream);
    let mut sender = stream.try_clone().unwrap();
    while_busy(address, || {
        sender.write_all(post("last").as_bytes()).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(answer(&mut stream).1, "last");
    assert!(closes(&mut stream));
    server.stop();
}

#[test]
fn more_answers_than_the_sockets_hold_all_come_when_they_are_read() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    let mut sender = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        sender
            .write_all(get("/4k").repeat(5_000).as_bytes())
            .unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    thread::sleep(Duration::from_millis(500));
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    writer.join().unwrap();
    let all = String::from_utf8(all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 ").count(), 5_000);
    server.stop();
}

#[test]
fn a_refused_peer_that_goes_on_for_a_while_meets_an_end_and_no_reset() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..10 {
        stream.write_all(&[b'x'; 10_000]).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.starts_with(b"HTTP/1.1 413 "));
    server.stop();
}

#[test]
fn requests_after_one_that_closes_cost_no_reset() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    let close = get("/4k").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let text = close + &get("/4k").repeat(900);
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let all = String::from_utf8(all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 ").count(), 1);
    server.stop();
}

/// Each new connection evicts one that has a turn coming. Were that turn given to
/// nobody, hundreds would be accepted before a connection that is known is
/// answered.
#[test]
fn connections_that_are_evicted_in_the_queue_take_no_turns() {
    const FLOOD: u64 = 600;
    let (server, address) = start(1, 1_000, calm());
    let accepted = || server.counters().accepted.get();
    let mut busy = connect(address);
    busy.write_all(get("/slow").as_bytes()).unwrap();
    let many = [127, 1, 0, 1].into();
    let flood: Vec<TcpStream> = (0..FLOOD)
        .map(|_| {
            let mut stream = connect_from(many, address);
            stream.write_all(get("/work").repeat(5).as_bytes()).unwrap();
            stream
        })
        .collect();
    while accepted() < FLOOD / 2 {
        thread::yield_now();
    }
    let before = accepted();
    busy.write_all(post("late").as_bytes()).unwrap();
    answer(&mut busy);
    assert_eq!(answer(&mut busy).1, "late");
    let between = accepted() - before;
    assert!(between < FLOOD / 4, "{between} of {FLOOD}");
    drop(flood);
    server.stop();
}
