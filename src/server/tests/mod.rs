//! The server with a handler of the tests' own, over real sockets.

mod accounting;
mod admission;
mod deadlines;
mod hold;
mod panics;
mod pressure;
mod probe;
mod reads;
mod stop;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::*;
use crate::client::{Peer, TrustedProxies};
use crate::http::{Answer, Body, Rejection, Request, Response, WakerSource};

/// Echoes bodies, and does as paths say.
struct Echo;

impl Handler for Echo {
    fn respond(&self, request: &Request<'_, '_>, _: Peer, _: WakerSource<'_>) -> Answer {
        let limit = match request.head.path {
            "/large" => 1_000_000,
            _ => 1_000,
        };
        let body = match request.body(limit) {
            Ok(body) => body,
            Err(limit) => return limit.into(),
        };
        let text = match request.head.path {
            "/panic" => panic!("as told"),
            "/4k" => "x".repeat(4096),
            "/work" => {
                thread::sleep(Duration::from_micros(200));
                "x".repeat(4096)
            }
            "/slow" => {
                thread::sleep(SLOW);
                String::new()
            }
            "/stuck" => {
                while STUCK.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                String::new()
            }
            "/thread" => thread::current().name().unwrap().into(),
            "/8m" => "x".repeat(8 << 20),
            _ => String::from_utf8_lossy(body).into_owned(),
        };
        Response::new(200, "").with(Body::Text(text)).into()
    }

    fn reject(&self, rejection: Rejection) -> Response {
        // Not caught for a handler, as its answers are.
        assert_ne!(rejection, Rejection::EXPECTATION, "as told");
        Response::new(rejection.status.0, "").with(Body::Text(rejection.reason.into()))
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Whether `/stuck` goes on.
static STUCK: AtomicBool = AtomicBool::new(true);

/// How long `/slow` keeps a worker.
const SLOW: Duration = Duration::from_millis(400);

const SHORT: Deadlines = Deadlines {
    request: Duration::from_millis(300),
    answer: Duration::from_millis(300),
    idle: Duration::from_millis(300),
    linger: Duration::from_millis(300),
    stop: Duration::from_millis(300),
    stop_silent: Duration::from_millis(100),
};

/// The deadlines in force, but for a quick stop.
fn calm() -> Deadlines {
    Deadlines {
        stop: Duration::from_millis(100),
        ..Deadlines::default()
    }
}

/// Loopback addresses but for 127.1.0.0/16.
fn proxies() -> TrustedProxies {
    let networks = ["127.0.0.0/16".parse().unwrap()];
    TrustedProxies {
        networks: networks.into(),
        loopback: false,
        local: true,
    }
}

fn start(workers: usize, max_connections: usize, deadlines: Deadlines) -> (Server, SocketAddr) {
    start_with(&Settings {
        workers,
        max_connections,
        trusted_proxies: proxies(),
        largest_body: 8 << 20,
        deadlines,
    })
}

fn start_with(settings: &Settings) -> (Server, SocketAddr) {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(address) = *listener.address() else {
        panic!("no TCP");
    };
    let server = Server::start(vec![listener], settings, Arc::new(Echo), Arc::default()).unwrap();
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

/// Sends a body and gets it back.
#[track_caller]
fn ask(stream: &mut TcpStream, body: &str) {
    stream.write_all(post(body).as_bytes()).unwrap();
    assert_eq!(answer(stream).1, body);
}

/// How many connections were closed in favour of others, once it is so many:
/// a worker counts after it has closed, and when others ask it to.
fn evicted(server: &Server, expected: u64) -> u64 {
    let evicted = || server.counters().evicted.get();
    let patience = Instant::now() + PATIENCE;
    while evicted() < expected && Instant::now() < patience {
        thread::yield_now();
    }
    evicted()
}

/// Whether the server closes the connection, whatever it still sends.
fn closes(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// Keeps the only worker busy while `meanwhile` runs, so that it finds at
/// once whatever that did.
fn while_busy(address: SocketAddr, meanwhile: impl FnOnce()) {
    let mut busy = connect(address);
    busy.write_all(get("/slow").as_bytes()).unwrap();
    thread::sleep(SLOW / 4);
    meanwhile();
    answer(&mut busy);
}

/// A connection whose request was refused.
fn refused(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    assert!(answer(&mut stream).0.starts_with("HTTP/1.1 400 "));
    stream
}

#[test]
fn a_half_closed_peer_still_gets_its_answer() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    stream.write_all(post("last words").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut stream).1, "last words");
    assert!(closes(&mut stream));
    server.stop();
}

#[test]
fn half_a_request_and_an_end_are_just_closed() {
    let (server, address) = start(1, 16, calm());
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
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    for _ in 0..3 {
        stream.write_all(get("/panic").as_bytes()).unwrap();
        let (head, _) = answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
    }
    ask(&mut stream, "on");
    assert_eq!(server.counters().panics.get(), 3);
    server.stop();
}

#[test]
fn a_refused_peer_that_goes_on_sending_still_finds_the_answer() {
    let (server, address) = start(1, 16, calm());
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
    let (server, address) = start(1, 16, calm());
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
    let (server, address) = start(1, 16, calm());
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
            ask(&mut stream, "again");
        }
    }
    server.stop();
}

#[test]
fn a_full_house_closes_the_connection_idle_for_longest() {
    let (server, address) = start(1, 3, calm());
    let mut streams: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    // The second was idle for longest once the others are used again.
    for index in [0, 1, 2, 2, 0] {
        streams[index].write_all(post("x").as_bytes()).unwrap();
        answer(&mut streams[index]);
    }
    let mut newest = connect(address);
    ask(&mut newest, "new");
    assert!(closes(&mut streams[1]));
    for index in [0, 2] {
        ask(&mut streams[index], "still");
    }
    assert_eq!(evicted(&server, 1), 1);
    server.stop();
}

#[test]
fn slow_requests_do_not_keep_new_connections_out() {
    let (server, address) = start(2, 8, calm());
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
        ask(&mut stream, "in");
    }
    drop(slow);
    server.stop();
}

#[test]
fn all_places_can_be_taken_whoever_of_the_workers_accepts() {
    let (server, address) = start(4, 60, calm());
    let mut streams: Vec<TcpStream> = (0..60).map(|_| connect(address)).collect();
    for stream in &mut streams {
        ask(stream, "in");
    }
    assert_eq!(evicted(&server, 0), 0);
    // One by one: those that have not asked yet may have to go themselves.
    let _others: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = connect(address);
            ask(&mut stream, "new");
            stream
        })
        .collect();
    assert!((10..=14).contains(&evicted(&server, 10)));
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
        trusted_proxies: proxies(),
        largest_body: 4096,
        deadlines: calm(),
    };
    let server = Server::start(vec![listener], &settings, Arc::new(Echo), Arc::default()).unwrap();
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

#[test]
fn a_unix_socket_is_open_to_all_and_replaces_no_file() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("rendezvousd-file-{}", std::process::id()));
    std::fs::write(&path, "precious").unwrap();
    assert!(Listener::bind(&Address::Unix(path.clone())).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    drop(listener);
}

#[test]
fn the_date_is_the_present_one() {
    let (server, address) = start(1, 16, calm());
    let mut stream = connect(address);
    let mut date = || {
        stream.write_all(post("x").as_bytes()).unwrap();
        let head = answer(&mut stream).0;
        let date = head.lines().find_map(|line| line.strip_prefix("Date: "));
        httpdate::parse_http_date(date.unwrap()).unwrap()
    };
    let first = date();
    thread::sleep(Duration::from_millis(1_100));
    assert!(date() > first);
    server.stop();
}

#[test]
fn refused_peers_that_have_gone_hold_no_places() {
    let deadlines = Deadlines {
        linger: PATIENCE,
        ..Deadlines::default()
    };
    let (server, address) = start(1, 2, deadlines);
    for _ in 0..2 {
        drop(refused(address));
    }
    // The ends come in order, and before the next connections.
    thread::sleep(Duration::from_millis(200));
    for _ in 0..2 {
        let mut stream = connect(address);
        ask(&mut stream, "x");
        drop(stream);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(evicted(&server, 0), 0);
    server.stop();
}
