//! The server with handlers of the tests' own, over real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use super::*;
use crate::http::{Body, Head, Peer, Refusal, Request, Response};

/// Echoes bodies, and does as paths say.
struct Echo;

impl Handler for Echo {
    fn body_limit(&self, _: &Head<'_, '_>) -> usize {
        1_000
    }

    fn answer(&self, request: &Request<'_, '_>, _: Peer) -> Response {
        let text = match request.head.path {
            "/panic" => panic!("as told"),
            "/4k" => "x".repeat(4096),
            "/32m" => "x".repeat(32 << 20),
            _ => String::from_utf8_lossy(request.body).into_owned(),
        };
        Response::new(200, "").with(Body::Text(text))
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        Response::new(refusal.status.0, "").with(Body::Text(refusal.reason.into()))
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

const SHORT: Deadlines = Deadlines {
    request: Duration::from_millis(300),
    answer: Duration::from_millis(300),
    idle: Duration::from_millis(300),
    linger: Duration::from_millis(300),
    stop: Duration::from_millis(300),
};

fn start(workers: usize, max_connections: usize, deadlines: Deadlines) -> (Server, SocketAddr) {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(address) = *listener.address() else {
        panic!("no TCP");
    };
    let settings = Settings {
        workers,
        max_connections,
        deadlines,
    };
    let server = Server::start(vec![listener], &settings, &Arc::new(Echo)).unwrap();
    (server, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One answer: its head and its body.
fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn post(body: &str) -> String {
    let length = body.len();
    format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Whether the server closes the connection, whatever it still sends.
fn closes(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn three_hundred_pipelined_requests_get_all_their_answers() {
    let (server, address) = start(1, 16, Deadlines::default());
    let mut stream = connect(address);
    let mut sender = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        sender.write_all(get("/4k").repeat(300).as_bytes()).unwrap();
    });
    for _ in 0..300 {
        assert_eq!(answer(&mut stream).1.len(), 4096);
    }
    writer.join().unwrap();
    stream.write_all(post("in step").as_bytes()).unwrap();
    assert_eq!(answer(&mut stream).1, "in step");
    server.stop();
}

#[test]
fn three_hundred_requests_sent_before_the_first_read_get_all_their_answers() {
    let (server, address) = start(1, 16, Deadlines::default());
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
    let (server, address) = start(1, 16, Deadlines::default());
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
    let (server, address) = start(2, 16, Deadlines::default());
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
fn a_peer_that_never_reads_is_cut_off_and_harms_nobody() {
    let deadlines = Deadlines {
        answer: Duration::from_millis(300),
        ..Deadlines::default()
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
    other.write_all(post("fine").as_bytes()).unwrap();
    assert_eq!(answer(&mut other).1, "fine");
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
fn a_half_closed_peer_still_gets_its_answer() {
    let (server, address) = start(1, 16, Deadlines::default());
    let mut stream = connect(address);
    stream.write_all(post("last words").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut stream).1, "last words");
    assert!(closes(&mut stream));
    server.stop();
}

#[test]
fn half_a_request_and_an_end_are_just_closed() {
    let (server, address) = start(1, 16, Deadlines::default());
    let mut stream = connect(address);
    stream.write_all(b"GET / HT").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    server.stop();
}

#[test]
fn a_panic_is_answered_500_and_the_connection_stays_in_step() {
    let (server, address) = start(1, 16, Deadlines::default());
    let mut stream = connect(address);
    for _ in 0..3 {
        stream.write_all(get("/panic").as_bytes()).unwrap();
        let (head, _) = answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
    }
    stream.write_all(post("on").as_bytes()).unwrap();
    assert_eq!(answer(&mut stream).1, "on");
    assert_eq!(server.counters().panics.load(Ordering::Relaxed), 3);
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
    assert_eq!(server.counters().late.load(Ordering::Relaxed), 2);
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
fn a_refused_peer_that_goes_on_sending_still_finds_the_answer() {
    let (server, address) = start(1, 16, Deadlines::default());
    let mut stream = connect(address);
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b'x'; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (head, _) = answer(&mut stream);
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    assert!(closes(&mut stream));
    server.stop();
}

#[test]
fn rfc9110_10_1_1_continue_is_sent_before_the_body_is_awaited() {
    let (server, address) = start(1, 16, Deadlines::default());
    let mut stream = connect(address);
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(answer(&mut stream).0, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    assert_eq!(answer(&mut stream).1, "ok");
    server.stop();
}

#[test]
fn connection_close_and_http_1_0_are_honoured() {
    let (server, address) = start(1, 16, Deadlines::default());
    for (request, option) in [
        ("GET / HTTP/1.0\r\n\r\n", "close"),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "close",
        ),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "keep-alive",
        ),
    ] {
        let mut stream = connect(address);
        stream.write_all(request.as_bytes()).unwrap();
        let (head, _) = answer(&mut stream);
        let announced = format!("\r\nConnection: {option}\r\n");
        assert!(head.contains(&announced), "{request:?}: {head}");
        if option == "close" {
            assert!(closes(&mut stream));
        } else {
            stream.write_all(post("again").as_bytes()).unwrap();
            assert_eq!(answer(&mut stream).1, "again");
        }
    }
    server.stop();
}

#[test]
fn a_full_house_closes_the_connection_idle_for_longest() {
    let (server, address) = start(1, 3, Deadlines::default());
    let mut streams: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    // The second was idle for longest once the others are used again.
    for index in [0, 1, 2, 2, 0] {
        streams[index].write_all(post("x").as_bytes()).unwrap();
        answer(&mut streams[index]);
    }
    let mut newcomer = connect(address);
    newcomer.write_all(post("new").as_bytes()).unwrap();
    assert_eq!(answer(&mut newcomer).1, "new");
    assert!(closes(&mut streams[1]));
    for index in [0, 2] {
        streams[index].write_all(post("still").as_bytes()).unwrap();
        assert_eq!(answer(&mut streams[index]).1, "still");
    }
    assert_eq!(server.counters().evicted.load(Ordering::Relaxed), 1);
    server.stop();
}

#[test]
fn slow_requests_do_not_keep_newcomers_out() {
    let (server, address) = start(2, 8, Deadlines::default());
    let slow: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = connect(address);
            stream
                .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nConte")
                .unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        let mut stream = connect(address);
        stream.write_all(post("in").as_bytes()).unwrap();
        assert_eq!(answer(&mut stream).1, "in");
    }
    drop(slow);
    server.stop();
}

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
    busy.write_all(get("/32m").as_bytes()).unwrap();
    let mut first = [0];
    busy.read_exact(&mut first).unwrap();
    let stopper = thread::spawn(move || server.stop());
    assert!(closes(&mut idle));
    while TcpStream::connect(address).is_ok() {}
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).unwrap();
    let head = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    assert_eq!(rest.len() - head - 4, 32 << 20);
    stopper.join().unwrap();
}

#[test]
fn a_stop_does_not_wait_for_those_who_do_not_read() {
    let (server, address) = start(2, 16, SHORT);
    let mut deaf = connect(address);
    deaf.write_all(get("/32m").as_bytes()).unwrap();
    let mut first = [0];
    deaf.read_exact(&mut first).unwrap();
    server.stop();
    assert!(closes(&mut deaf));
}

#[test]
fn an_answer_is_whole_although_input_was_left_at_the_close() {
    let (server, address) = start(1, 16, Deadlines::default());
    let mut stream = connect(address);
    let request = get("/32m").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    stream.write_all(b"\r\n").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 32 << 20, "{}", rest.len());
    server.stop();
}

#[test]
fn a_busy_connection_leaves_turns_to_the_others() {
    let (server, address) = start(1, 64, Deadlines::default());
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
        other.write_all(post("me too").as_bytes()).unwrap();
        assert_eq!(answer(&mut other).1, "me too");
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
fn all_places_can_be_taken_whoever_of_the_workers_accepts() {
    let (server, address) = start(4, 60, Deadlines::default());
    let mut streams: Vec<TcpStream> = (0..60).map(|_| connect(address)).collect();
    for stream in &mut streams {
        stream.write_all(post("in").as_bytes()).unwrap();
        assert_eq!(answer(stream).1, "in");
    }
    assert_eq!(server.counters().evicted.load(Ordering::Relaxed), 0);
    let mut newcomers: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
    for stream in &mut newcomers {
        stream.write_all(post("new").as_bytes()).unwrap();
        assert_eq!(answer(stream).1, "new");
    }
    let evicted = server.counters().evicted.load(Ordering::Relaxed);
    assert!((10..=14).contains(&evicted), "{evicted}");
    server.stop();
}

#[test]
fn a_unix_socket_is_served_replaced_when_stale_and_removed() {
    use std::os::unix::net::{UnixListener, UnixStream};
    let path = std::env::temp_dir().join(format!("rendezvousd-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let address = Address::Unix(path.clone());
    let listener = Listener::bind(&address).unwrap();
    assert!(Listener::bind(&address).is_err(), "taken");
    let settings = Settings {
        workers: 1,
        max_connections: 4,
        deadlines: Deadlines::default(),
    };
    let server = Server::start(vec![listener], &settings, &Arc::new(Echo)).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(post("by path").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("by path"), "{answer}");
    server.stop();
    assert!(!path.exists());
}
