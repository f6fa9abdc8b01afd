//! Fair shares over real sockets: people sign in while the clients of a proxy
//! keep the store full.

use std::net::{Ipv6Addr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::bystander::{Answer, CREATE, Fault, Line, Tally, request};
use crate::load::{Load, Origin, PROXY, attack};
use crate::target::{Target, Usage};

/// No rate limit: it would keep most of these from filling the store.
const FLAGS: [&str; 4] = ["--create-rate", "60000", "--create-burst", "60000"];

/// The default of `--max-entries`.
const SESSIONS: usize = 10_000;

/// Connections of a flood.
const CONNECTIONS: usize = 50;

/// People whose phones sleep from before the flood until after it.
const ASLEEP: usize = 20;

/// Polls of a sign-in before each of its writes, and these.
const POLLS: usize = 3;
const WRITES: usize = 3;

/// Clients of a proxy who create sessions without end.
pub(crate) struct Flood {
    pub(crate) name: &'static str,
    clients: usize,
    /// The address of the client of this number.
    address: fn(usize) -> String,
}

/// All floods, in the order of the table.
#[rustfmt::skip]
pub(crate) const FLOODS: &[Flood] = &[
    Flood { name: "256 /64s of a /56", clients: 256, address: in_one_48 },
    Flood { name: "1024 /64s of a /48", clients: 1_024, address: in_one_48 },
    Flood { name: "400 scattered IPv4 addresses", clients: 400, address: scattered },
    Flood { name: "2000 scattered IPv4 addresses", clients: 2_000, address: scattered },
    Flood { name: "2560 6to4 networks of 10", clients: 2_560, address: in_6to4 },
];

fn in_one_48(number: usize) -> String {
    format!("2001:db8:1:{number:x}::1")
}

/// No two in one network of 16 bits, up to some thousand.
fn scattered(number: usize) -> String {
    format!("{}.{}.0.1", 11 + number / 250, number % 250)
}

fn in_6to4(number: usize) -> String {
    let [high, low] = [0xc612 + number % 10, 1];
    format!("2002:{high:x}:{low:x}:{:x}::1", number / 10)
}

/// The addresses of bystanders, which no flood has.
fn bystander(number: usize) -> String {
    let segments = [0x2a00, number / 60_000, number % 60_000, 1];
    let [a, b, c, d] = segments.map(|segment| u16::try_from(segment).unwrap_or(u16::MAX));
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, 1).to_string()
}

fn creation(address: &str) -> String {
    let fields = format!("Content-Type: text/plain\r\nX-Forwarded-For: {address}\r\n");
    request("POST", CREATE, &fields, "x")
}

/// What the people who sign in got of the server.
pub(crate) struct Report {
    pub(crate) finished: usize,
    /// Sign-ins that got no session.
    pub(crate) refused: usize,
    /// Those whose session was gone, of sleepers too.
    pub(crate) lost: usize,
    /// All requests of sign-ins.
    pub(crate) tally: Tally,
    pub(crate) usage: Usage,
}

impl Report {
    /// What must not be.
    pub(crate) fn defects(&self) -> Vec<String> {
        let mut defects = Vec::new();
        if self.tally.failed > 0 {
            let (refused, lost) = (self.refused, self.lost);
            let reason = self.tally.reason.as_deref().unwrap_or_default();
            defects.push(format!("{refused} refused, {lost} lost: {reason}"));
        }
        if self.finished == 0 {
            defects.push("no sign-in finished".into());
        }
        defects
    }
}

/// Fills a fresh server and keeps it full for so long, while people sign in
/// and others sleep.
pub(crate) fn run_flood(flood: &Flood, time: Duration) -> Report {
    let target = Target::with_flags(None, &FLAGS);
    let server = target.server;
    let mut people = People::new(server);
    let asleep: Vec<SignIn> = (0..ASLEEP).filter_map(|_| people.create()).collect();
    let creations = (0..flood.clients).map(|number| creation(&(flood.address)(number)));
    let creations: Vec<String> = creations.collect();
    fill(server, &creations);
    let load = Load::new(CONNECTIONS, Origin::Proxy).refrain(creations.concat());
    let stop = AtomicBool::new(false);
    let usage = thread::scope(|scope| {
        let watch = scope.spawn(|| target.watch(&stop));
        scope.spawn(|| attack(&[load], server, &stop));
        let end = Instant::now() + time;
        while Instant::now() < end {
            people.sign_in();
        }
        stop.store(true, Ordering::Relaxed);
        watch.join().expect("no panic")
    });
    for mut sign_in in asleep {
        people.poll(&mut sign_in);
    }
    Report {
        finished: people.finished,
        refused: people.refused,
        lost: people.lost,
        tally: people.tally,
        usage,
    }
}

/// Creates as many sessions as there can be beside those of the sleepers.
fn fill(server: SocketAddrV4, creations: &[String]) {
    let mut proxy = proxy(server);
    for creation in creations.iter().cycle().take(SESSIONS - ASLEEP) {
        let created = proxy.exchange(creation);
        assert!(created.is_ok_and(|answer| answer.expect(201).is_ok()));
    }
}

/// A connection from the proxy.
fn proxy(server: SocketAddrV4) -> Line {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(PROXY, 0)).expect("a loopback address");
    connect(&socket, &server).expect("a server");
    Line::new(TcpStream::from(socket)).expect("a connection")
}

/// People at addresses of their own, who sign in one after the other.
struct People {
    proxy: Line,
    /// How many have begun.
    number: usize,
    finished: usize,
    refused: usize,
    lost: usize,
    tally: Tally,
}

struct SignIn {
    session: String,
    etag: String,
}

impl People {
    fn new(server: SocketAddrV4) -> Self {
        Self {
            proxy: proxy(server),
            number: 0,
            finished: 0,
            refused: 0,
            lost: 0,
            tally: Tally::default(),
        }
    }

    /// One whole sign-in.
    fn sign_in(&mut self) {
        let Some(mut sign_in) = self.create() else {
            return;
        };
        for _ in 0..WRITES {
            let all = (0..POLLS).all(|_| self.poll(&mut sign_in));
            if !all || !self.write(&mut sign_in) {
                return;
            }
        }
        self.finished += 1;
        let _ = self.exchange(&request("DELETE", &sign_in.session, "", ""), 204);
    }

    fn create(&mut self) -> Option<SignIn> {
        let address = bystander(self.number);
        self.number += 1;
        let created = self.exchange(&creation(&address), 201);
        let sign_in = created.and_then(|Answer { location, etag, .. }| {
            let session = location?;
            Some(SignIn { session, etag })
        });
        self.refused += usize::from(sign_in.is_none());
        sign_in
    }

    fn poll(&mut self, sign_in: &mut SignIn) -> bool {
        let fields = format!("If-None-Match: {}\r\nPrefer: wait=0\r\n", sign_in.etag);
        let answer = self.exchange(&request("GET", &sign_in.session, &fields, ""), 304);
        self.lost += usize::from(answer.is_none());
        answer.is_some()
    }

    fn write(&mut self, sign_in: &mut SignIn) -> bool {
        let fields = format!("If-Match: {}\r\nContent-Type: text/plain\r\n", sign_in.etag);
        let answer = self.exchange(&request("PUT", &sign_in.session, &fields, "y"), 202);
        self.lost += usize::from(answer.is_none());
        answer.map(|answer| sign_in.etag = answer.etag).is_some()
    }

    /// The answer, if it has this status.
    fn exchange(&mut self, text: &str, status: u16) -> Option<Answer> {
        let start = Instant::now();
        let answer = match self.proxy.exchange(text) {
            Ok(answer) => answer.expect(status),
            Err(Fault::Closed) => Err("closed before an answer".into()),
            Err(Fault::Bad(reason)) => Err(reason),
        };
        let result = answer.as_ref().map(drop).map_err(String::clone);
        self.tally.note(&result, start.elapsed());
        answer.ok()
    }
}
