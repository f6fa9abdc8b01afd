//! Fairness within one worker, by counts: how many requests of others are
//! answered while a client waits for its own.
//!
//! The worker is held inside the handler until everything has arrived that is
//! to compete, and the handler records the order in which requests reach it.
//! A slow machine changes no count for the worse: whatever in the server is
//! limited by time answers less in it then. How long bystanders wait is
//! measured by `cargo bench --bench attack -- --fairness`.

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use common::raise_fd_limit;
use rendezvousd::client::{Peer, TrustedProxies};
use rendezvousd::http::{Answer, Body, Handler, Rejection, Request, Response, WakerSource};
use rendezvousd::server::{Address, Deadlines, Listener, Server, Settings};

/// Connections that compete with the bystanders.
const BUSY: usize = 400;

/// Requests that each of them has pipelined.
const PIPELINED: usize = 120;

/// Competitors that may be served before a bystander at the front of a line of
/// its own: one that is new where others are known, or the other way round.
const AHEAD: usize = BUSY / 4;

/// Answers that one competitor may have before a bystander in the same line
/// has its turn: what a few turns bring.
const EACH_AHEAD: usize = PIPELINED / 2;

/// Answers that one competitor may have in a row: what one turn brings.
const IN_A_ROW: usize = PIPELINED / 4;

/// Bytes of a response: a few fill what a server may hold back for a peer.
const RESPONSE: usize = 2 * 1024;

/// Least time that a response takes while clients compete.
const WORK: Duration = Duration::from_micros(100);

/// Longer than anything takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Handler that records the order of requests and can be held.
#[derive(Default)]
struct Recorder {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Paths without their slash, in the order of arrival.
    order: Vec<String>,
    /// Requests for [`GATE`] so far, and how many of them may go on.
    held: usize,
    released: usize,
    /// Whether clients compete, so that responses take [`WORK`].
    slow: bool,
}

/// Path whose request holds the worker until it is released.
const GATE: &str = "gate";

impl Recorder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until so many requests in all have held the worker.
    fn wait_held(&self, count: usize) {
        let state = self.state();
        let waiting = |state: &mut State| state.held < count;
        let (_state, timeout) = self
            .changed
            .wait_timeout_while(state, PATIENCE, waiting)
            .unwrap();
        assert!(!timeout.timed_out(), "the worker does not get to the gate");
    }

    fn release(&self) {
        self.state().released += 1;
        self.changed.notify_all();
    }

    /// From now on the order counts.
    fn compete(&self) {
        let mut state = self.state();
        state.order.clear();
        state.slow = true;
    }

    /// The order so far; nothing counts any more.
    fn finish(&self) -> Vec<String> {
        let mut state = self.state();
        state.slow = false;
        state.order.clone()
    }
}

impl Handler for Recorder {
    fn respond(&self, request: &Request<'_, '_>, _: Peer, _: WakerSource<'_>) -> Answer {
        let name = request.head.path.trim_start_matches('/');
        let mut state = self.state();
        state.order.push(name.to_owned());
        if name == GATE {
            state.held += 1;
            let number = state.held;
            self.changed.notify_all();
            let waiting = |state: &mut State| state.released < number;
            drop(self.changed.wait_while(state, waiting).unwrap());
        } else if state.slow {
            drop(state);
            thread::sleep(WORK);
        }
        let body = Body::Text("x".repeat(RESPONSE));
        Response::new(200, "").with(body).into()
    }

    fn reject(&self, rejection: Rejection) -> Response {
        Response::new(rejection.status.0, "").with(Body::Text(rejection.reason.into()))
    }
}

/// Server with one worker.
struct Fixture {
    server: Server,
    address: SocketAddr,
    recorder: Arc<Recorder>,
}

impl Fixture {
    fn start() -> Self {
        raise_fd_limit(); // Both ends are in this process.
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Address::Tcp(address) = *listener.address() else {
            panic!("no TCP");
        };
        let settings = Settings {
            workers: 1,
            max_connections: 4 * BUSY,
            trusted_proxies: TrustedProxies {
                networks: Vec::new(),
                loopback: true,
                local: true,
            },
            largest_body: 4096,
            deadlines: Deadlines {
                stop: Duration::from_millis(100),
                ..Deadlines::default()
            },
        };
        let recorder = Arc::new(Recorder::default());
        let server =
            Server::start(vec![listener], &settings, recorder.clone(), Arc::default()).unwrap();
        Self {
            server,
            address,
            recorder,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Connections that were used before.
    fn known(&self, count: usize) -> Vec<TcpStream> {
        let connect = |_| {
            let mut stream = self.connect();
            send(&mut stream, "hello");
            receive(&mut stream);
            stream
        };
        (0..count).map(connect).collect()
    }
}

fn send(stream: &mut TcpStream, name: &str) {
    send_repeatedly(stream, name, 1);
}

fn send_repeatedly(stream: &mut TcpStream, name: &str, times: usize) {
    let request = format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.repeat(times).as_bytes()).unwrap();
}

/// Reads one response.
fn receive(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a response");
        head.push(byte[0]);
    }
    stream.read_exact(&mut [0; RESPONSE]).unwrap();
}

/// What was answered before a request of this name.
fn before<'o>(order: &'o [String], name: &str) -> &'o [String] {
    let place = order.iter().position(|other| other == name);
    &order[..place.expect("a request that was answered")]
}

/// How many competitors were answered.
fn competitors(order: &[String]) -> usize {
    let numbers = order.iter().filter_map(|name| name.parse().ok());
    numbers.collect::<HashSet<usize>>().len()
}

/// The most answers that one competitor had.
fn most_answers(order: &[String]) -> usize {
    let mut names = order.to_vec();
    names.sort_unstable();
    longest_run(&names)
}

/// The most answers that one competitor had in a row.
fn longest_run(order: &[String]) -> usize {
    let runs = order.chunk_by(|one, other| one == other);
    runs.map(<[String]>::len).max().unwrap_or(0)
}

/// Has used connections compete with a used one and a new one, with so many
/// requests each; the order in which the worker took them.
fn against_known(requests: usize) -> Vec<String> {
    let fixture = Fixture::start();
    let mut busy = fixture.known(BUSY);
    let mut bystander = fixture.known(1).remove(0);
    let mut gate = fixture.known(1).remove(0);
    fixture.recorder.compete();
    send(&mut gate, GATE);
    fixture.recorder.wait_held(1);
    for (number, stream) in busy.iter_mut().enumerate() {
        send_repeatedly(stream, &number.to_string(), requests);
    }
    send(&mut bystander, "known");
    let mut new = fixture.connect();
    send(&mut new, "new");
    fixture.recorder.release();
    receive(&mut new);
    receive(&mut bystander);
    let order = fixture.recorder.finish();
    drop(busy);
    fixture.server.stop();
    order
}

#[test]
fn busy_connections_do_not_keep_a_new_one_waiting() {
    let order = against_known(1);
    let ahead = competitors(before(&order, "new"));
    println!("{ahead} of {BUSY} busy connections were served before a new one");
    assert!(ahead <= AHEAD, "{ahead} of {BUSY} came before a new one");
}

/// The peers read nothing meanwhile, but the sockets take some of it.
#[test]
fn pipelines_keep_neither_a_new_connection_nor_a_known_one_waiting() {
    let order = against_known(PIPELINED);
    let ahead = competitors(before(&order, "new"));
    let each = most_answers(before(&order, "known"));
    let row = longest_run(&order);
    println!("{ahead} of {BUSY} pipelines were served before a new connection");
    println!("{each} of {PIPELINED} responses to one pipeline before a known connection");
    println!("{row} of {PIPELINED} responses to one pipeline in a row");
    assert!(ahead <= AHEAD, "{ahead} of {BUSY} came before a new one");
    assert!(each <= EACH_AHEAD, "{each} of {PIPELINED} came first");
    assert!(row <= IN_A_ROW, "{row} of {PIPELINED} in a row");
}

/// A first new connection holds the worker while it accepts; the others wait
/// behind it, and a known connection asks something.
#[test]
fn new_connections_do_not_keep_a_known_one_waiting() {
    let fixture = Fixture::start();
    let mut bystander = fixture.known(1).remove(0);
    let mut gate = fixture.known(1).remove(0);
    send(&mut gate, GATE);
    fixture.recorder.wait_held(1);
    let mut first = fixture.connect();
    send(&mut first, GATE);
    fixture.recorder.compete();
    fixture.recorder.release();
    fixture.recorder.wait_held(2);
    let connect = |number: usize| {
        let mut stream = fixture.connect();
        send(&mut stream, &number.to_string());
        stream
    };
    let busy: Vec<TcpStream> = (0..BUSY).map(connect).collect();
    send(&mut bystander, "known");
    fixture.recorder.release();
    receive(&mut bystander);
    let order = fixture.recorder.finish();
    drop(busy);
    fixture.server.stop();
    let ahead = competitors(before(&order, "known"));
    println!("{ahead} of {BUSY} new connections were served before a known one");
    assert!(ahead <= AHEAD, "{ahead} of {BUSY} came before a known one");
}
