//! What is done to the server: one list of loads with their names.

use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use rendezvousd::session::Revision;
use rendezvousd::store::MAX_WATCHES;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::Value;

use crate::bystander::{Answer, CREATE, Line, request};
use crate::load::{Load, Origin, Parting};

/// One attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Its load; may prepare itself at the server.
    pub(crate) load: fn(SocketAddrV4) -> Load,
    /// The open files that the server is allowed, if fewer than usual.
    pub(crate) descriptors: Option<u32>,
    /// It speaks a protocol that the predecessor does not.
    pub(crate) only_ours: bool,
}

/// Where MSC4388 creates sessions.
const CREATE_JSON: &str = "/_matrix/client/v1/rendezvous";

/// Connections of a hoard.
const HOARD: usize = 2_000;

/// Connections with polls that may be held: twice as many as are.
const HELD: usize = 4_000;

/// Connections that send as fast as they can.
const FEW: usize = 8;

/// A session's largest payload.
const PAYLOAD: usize = 4_096;

/// Sessions that get transactions, and how many each: some more than are
/// recorded.
const SESSIONS: usize = 400;
const TRANSACTIONS: usize = 70;

/// Sessions that one address may create in one go.
const BURST: usize = 20;

/// Writes to a session whose polls are held; more than there is time for.
const WRITES: usize = 50_000;

/// All attacks, in the order of the table.
#[rustfmt::skip]
pub(crate) const ATTACKS: &[Attack] = &[
    attack("slow heads, 2000 from 1 address", |_| slow_heads(Origin::Single)),
    attack("slow heads, 2000 from 100", |_| slow_heads(Origin::Many(100))),
    attack("slow bodies, 2000 from 1 address", |_| slow_bodies(Origin::Single)),
    attack("slow bodies, 2000 from 100", |_| slow_bodies(Origin::Many(100))),
    attack("idle, 2000 from 1 address", |_| idle(Origin::Single)),
    attack("idle, 2000 from 100", |_| idle(Origin::Many(100))),
    attack("keep-alive, 2000 from 1 address", |_| keep_alive(HOARD, Origin::Single)),
    attack("keep-alive, 2000 from 100", |_| keep_alive(HOARD, Origin::Many(100))),
    attack("endless request line", |_| endless("GET /", "x")),
    attack("endless header line", |_| endless("GET / HTTP/1.1\r\nHost: x\r\nA: ", "x")),
    attack("endless headers", |_| endless("GET / HTTP/1.1\r\nHost: x\r\n", "A: b\r\n")),
    attack("endless chunks", |_| endless(&post("Transfer-Encoding: chunked\r\n"), "1\r\nx\r\n")),
    attack("endless chunk extension", |_| endless(&(post("Transfer-Encoding: chunked\r\n") + "1;"), "x")),
    attack("absurd Content-Lengths", |_| absurd_lengths()),
    attack("Content-Length of 3 GB, sent", |_| endless(&post("Content-Length: 3221225472\r\n"), "x")),
    attack("bodies of 24 KB, never finished", |_| unfinished()),
    attack("pipelines never read", |_| pipelines().deaf()),
    attack("empty lines without end", |_| endless(&poll(), "\r\n")),
    attack("connections reset at once", |_| resets()),
    attack("creations from 1 address", |_| creations(50, Origin::Single, &octets(""))),
    attack("creations from 1, JSON escapes", |_| creations(50, Origin::Single, &escapes())),
    attack("creations from 1000", |_| creations(1_000, Origin::Many(1_000), &octets(""))),
    attack("creations from 1000, JSON escapes", |_| creations(1_000, Origin::Many(1_000), &escapes())),
    attack("creations, new connections", |_| visits()),
    attack("creations of 1000 through a proxy", |_| proxied()),
    attack("forwarded headers of 16 KB", |_| Load::new(FEW, Origin::Proxy).refrain(octets(&forwarded()))),
    Attack { only_ours: true, ..attack("held polls, 4000 through a proxy", |server| held(server, 100, Origin::Proxy)) },
    Attack { only_ours: true, ..attack("held polls, 4000 from 1000", |server| held(server, 200, Origin::Many(1_000))) },
    Attack { only_ours: true, ..attack("held polls, reset", held_and_reset) },
    Attack { only_ours: true, ..attack("writes to a session with 8 held", writes_to_held) },
    Attack { only_ours: true, ..attack("transactions of one session", one_session) },
    Attack { only_ours: true, ..attack("conflicts of one session", conflicts) },
    Attack { only_ours: true, ..attack("transactions of 400 sessions", many_sessions) },
    Attack { only_ours: true, ..attack("nested JSON, 64 from 1 address", |server| nested(server, 64, Origin::Single)) },
    Attack { only_ours: true, ..attack("nested JSON, 1000 from 100", |server| nested(server, 1_000, Origin::Many(100))) },
    Attack { only_ours: true, ..attack("nested JSON, new connections", nested_visits) },
    Attack { descriptors: Some(64), ..attack("64 descriptors, 500 from 100", |_| keep_alive(500, Origin::Many(100))) },
    Attack { only_ours: true, descriptors: Some(64), ..attack("64 descriptors, held from 1000", |server| held(server, 450, Origin::Many(1_000))) },
    attack("TLS ClientHello", |_| stranger(client_hello())),
    attack("HTTP/2 preface", |_| stranger(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec())),
];

/// Those in which busy clients could keep the others waiting.
#[rustfmt::skip]
pub(crate) const BUSY: &[Attack] = &[
    attack("pipelines never read", |_| pipelines().deaf()),
    attack("pipelines read at once", |_| pipelines()),
    attack("creations from 1000", |_| creations(1_000, Origin::Many(1_000), &octets(""))),
    attack("creations, new connections", |_| visits()),
    attack("keep-alive, 2000 busy", |_| busy()),
];

const fn attack(name: &'static str, load: fn(SocketAddrV4) -> Load) -> Attack {
    Attack {
        name,
        load,
        descriptors: None,
        only_ours: false,
    }
}

/// The head of a creation.
fn post(fields: &str) -> String {
    format!("POST {CREATE} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

fn poll() -> String {
    request("GET", "/rendezvous/AAAAAAAAAAAAAAAAAAAAAA", "", "")
}

fn slow_heads(origin: Origin) -> Load {
    Load::new(HOARD, origin)
        .opening("GET / HTTP/1.1\r\nHost: x\r\n")
        .refrain("A: b\r\n")
        .slowly(1, Duration::from_millis(200))
}

fn slow_bodies(origin: Origin) -> Load {
    Load::new(HOARD, origin)
        .opening(post("Content-Length: 4000\r\n"))
        .refrain("x")
        .slowly(1, Duration::from_millis(200))
}

fn idle(origin: Origin) -> Load {
    Load::new(HOARD, origin).slowly(0, Duration::from_millis(100))
}

/// Each asks something now and then.
fn keep_alive(size: usize, origin: Origin) -> Load {
    let poll = poll();
    let length = poll.len();
    Load::new(size, origin)
        .refrain(poll)
        .slowly(length, Duration::from_millis(200))
}

/// Sent until the server closes, and again.
fn endless(opening: &str, refrain: &str) -> Load {
    Load::new(FEW, Origin::Single)
        .opening(opening)
        .refrain(refrain.repeat(64 * 1024 / refrain.len()))
}

fn absurd_lengths() -> Load {
    let lengths = [
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775807",
        "99999999999999999999999",
        "abc",
        "+5",
        "-1",
        "0x10",
        "5, 5",
        "5\r\nContent-Length: 6",
        "",
    ];
    let openings = lengths.map(|length| post(&format!("Content-Length: {length}\r\n")).into());
    Load::new(openings.len(), Origin::Single)
        .openings(openings.to_vec())
        .refrain(vec![b'x'; 64 * 1024])
}

/// As much as a request may hold of our memory before it is complete.
fn unfinished() -> Load {
    let mut creation = escapes();
    creation.pop();
    Load::new(HOARD, Origin::Many(100))
        .opening(creation)
        .slowly(0, Duration::from_millis(100))
}

fn pipelines() -> Load {
    Load::new(HOARD, Origin::Many(100)).refrain(poll().repeat(500))
}

/// Each asks again when it is answered.
fn busy() -> Load {
    Load::new(HOARD, Origin::Many(100))
        .refrain(poll())
        .patient()
}

/// At every stage of a request.
fn resets() -> Load {
    let openings = [
        String::new(),
        "GET / HT".into(),
        post("Content-Length: 9\r\n") + "x",
        poll(),
        poll().repeat(20),
    ];
    Load::new(100, Origin::Single)
        .openings(openings.map(String::into_bytes).to_vec())
        .parting(Parting::WhenSent)
}

/// The largest payload, as bytes.
fn octets(fields: &str) -> String {
    let fields = format!("Content-Type: application/octet-stream\r\n{fields}");
    request("POST", CREATE, &fields, &"x".repeat(PAYLOAD))
}

/// The largest payload, with every byte of it escaped.
fn escapes() -> String {
    let body = format!(r#"{{"data":"{}"}}"#, r"\u0078".repeat(PAYLOAD));
    request("POST", CREATE_JSON, "", &body)
}

fn creations(size: usize, origin: Origin, creation: &str) -> Load {
    Load::new(size, origin).refrain(creation)
}

/// A new connection and a new address for each.
fn visits() -> Load {
    Load::new(1_000, Origin::Many(1_000))
        .opening(octets(""))
        .parting(Parting::WhenAnswered)
}

/// A flood of many clients that the proxy passes on.
fn proxied() -> Load {
    let client = |number: usize| {
        let (high, low) = (number / 250, number % 250 + 1);
        octets(&format!("X-Forwarded-For: 198.18.{high}.{low}\r\n"))
    };
    Load::new(50, Origin::Proxy).refrain((0..1_000).map(client).collect::<String>())
}

/// Elements without end that name nobody, as a client can send them through a
/// proxy that passes them on.
fn forwarded() -> String {
    format!("Forwarded: {}\r\n", "a,".repeat(7_800))
}

/// As many of each session as may be held, and again when they are answered.
fn held(server: SocketAddrV4, first: usize, origin: Origin) -> Load {
    let polls = held_polls(server, first, HELD / MAX_WATCHES);
    Load::new(HELD, origin)
        .openings(polls)
        .parting(Parting::WhenAnswered)
}

/// Reset as soon as they are held.
fn held_and_reset(server: SocketAddrV4) -> Load {
    Load::new(HOARD, Origin::Many(100))
        .openings(held_polls(server, 300, HOARD / MAX_WATCHES))
        .slowly(1, Duration::from_millis(20))
        .parting(Parting::AfterRest)
}

/// Polls of so many new sessions, each of its own.
fn held_polls(server: SocketAddrV4, first: usize, sessions: usize) -> Vec<Vec<u8>> {
    let poll = |number| {
        let (session, revision) = created_with_tag(server, first + number / BURST);
        held_poll(&session, revision, "").into()
    };
    (0..sessions).map(poll).collect()
}

/// A poll of a client that knows this revision, with further header lines.
fn held_poll(session: &str, revision: Revision, fields: &str) -> String {
    let fields = format!("If-None-Match: \"{revision}\"\r\n{fields}");
    request("GET", session, &fields, "")
}

/// One client writes, each time over what it has just written. Each of the
/// others polls for what it has not seen yet.
fn writes_to_held(server: SocketAddrV4) -> Load {
    let (session, first) = created_with_tag(server, 400);
    let revisions = || std::iter::successors(Some(first), |last| Some(last.next())).take(WRITES);
    let write = |revision| {
        let fields = format!("Content-Type: text/plain\r\nIf-Match: \"{revision}\"\r\n");
        request("PUT", &session, &fields, "x")
    };
    // Of one length, so that each is one step.
    let step = write(first).len();
    let shortest = held_poll(&session, first, "A: \r\n").len();
    let fill = format!("A: {}\r\n", "x".repeat(step - shortest));
    let poll = |revision| held_poll(&session, revision, &fill);
    let writes: String = revisions().map(write).collect();
    let polls: String = revisions().map(poll).collect();
    let mut refrains = vec![polls.into_bytes(); MAX_WATCHES];
    refrains.push(writes.into_bytes());
    Load::new(refrains.len(), Origin::Single)
        .refrains(refrains)
        .slowly(step, Duration::ZERO)
        .patient()
}

/// All of them current: the writes follow each other.
fn one_session(server: SocketAddrV4) -> Load {
    let session = created(server, 0);
    let puts = (0..10_000).map(|number| put(&session, number, number));
    Load::new(1, Origin::Single).refrain(puts.collect::<String>())
}

/// All but the first too late.
fn conflicts(server: SocketAddrV4) -> Load {
    let session = created(server, 0);
    let puts = (0..10_000).map(|number| put(&session, number, 0));
    Load::new(FEW, Origin::Single).refrain(puts.collect::<String>())
}

/// As much of them as is recorded anywhere.
fn many_sessions(server: SocketAddrV4) -> Load {
    let sessions = (0..SESSIONS).map(|number| created(server, number / BURST));
    let puts = sessions.map(|session| {
        let puts = (0..TRANSACTIONS).map(|number| put(&session, number, number));
        puts.collect::<String>()
    });
    Load::new(FEW, Origin::Single).refrain(puts.collect::<String>())
}

/// Writes that are JSON of the largest size and no object with the right keys.
fn nested(server: SocketAddrV4, size: usize, origin: Origin) -> Load {
    Load::new(size, origin).refrain(nested_write(server))
}

/// The same, each over a new connection.
fn nested_visits(server: SocketAddrV4) -> Load {
    Load::new(1_000, Origin::Many(100))
        .opening(nested_write(server))
        .parting(Parting::WhenAnswered)
}

/// One of the shapes in turn: 26 KB of small objects, of objects in objects, of
/// arrays a hundred deep.
fn nested_write(server: SocketAddrV4) -> String {
    let session = created(server, 0);
    let deep = format!("{}0{},", "[".repeat(100), "]".repeat(100));
    let write = |unit: &str| {
        let body = format!(r#"{{"x":[{}0]}}"#, unit.repeat(26_000 / unit.len()));
        request("PUT", &session, "", &body)
    };
    [r#"{"":0},"#, r#"{"":{"":0}},"#, &deep].map(write).concat()
}

/// A write under a name of the greatest length.
fn put(session: &str, number: usize, token: usize) -> String {
    let name = format!("{number:0>255}");
    let body = format!(r#"{{"sequence_token":"{token}","data":"x"}}"#);
    request("PUT", &format!("{session}/{name}"), "", &body)
}

/// The path of a session made from the attackers' address of this number.
fn created(server: SocketAddrV4, number: usize) -> String {
    let answer = answer_to(
        server,
        number,
        &request("POST", CREATE_JSON, "", r#"{"data":""}"#),
    );
    let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let id = answer["id"].as_str().expect("a session for the attacker");
    format!("{CREATE_JSON}/{id}")
}

/// The same for one with ETags, and its revision.
fn created_with_tag(server: SocketAddrV4, number: usize) -> (String, Revision) {
    let Answer { location, etag, .. } = answer_to(server, number, &octets(""));
    let revision = Revision::parse(etag.trim_matches('"'));
    (location.zip(revision)).expect("a session for the attacker")
}

/// The answer to a request from the attackers' address of this number.
fn answer_to(server: SocketAddrV4, number: usize, text: &str) -> Answer {
    let exchange = || -> Option<Answer> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
        let address = Origin::Many(1_000).address(number);
        bind(&socket, &SocketAddrV4::new(address, 0)).ok()?;
        connect(&socket, &server).ok()?;
        let mut line = Line::new(TcpStream::from(socket)).ok()?;
        line.exchange(text).ok()
    };
    exchange().expect("an answer for the attacker")
}

/// Waits to be closed, or leaves when answered.
fn stranger(hello: Vec<u8>) -> Load {
    Load::new(50, Origin::Single)
        .opening(hello)
        .parting(Parting::WhenAnswered)
}

/// A record of a handshake, 517 bytes as browsers send them.
fn client_hello() -> Vec<u8> {
    let mut hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec();
    hello.resize(517, 0xa5);
    hello
}
