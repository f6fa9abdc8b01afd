//! The memory line at the start is a bound: what leaves a general allocator
//! with holes that nothing fits in stays below it.
//!
//! `SESSIONS` makes the store larger, as `tests/ceiling/run` does.

mod common;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use bytesize::ByteSize;
use common::{Daemon, PATIENCE, program};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

const CREATE: &str = "/rendezvous";
const CREATE_JSON: &str = "/_matrix/client/v1/rendezvous";

/// Requests sent before their answers are read.
const PIPELINED: usize = 40;

/// Connections that never finish their request.
const UNFINISHED: usize = 2_000;

/// What a request changes or reads of a session: path and the tag of the last
/// write.
#[derive(Clone, Debug)]
struct Known {
    path: String,
    tag: String,
}

/// A server with sessions, all of which it could hold.
struct Store {
    daemon: Daemon,
    /// Each on a worker of its own, if they are spread well.
    clients: Vec<BufReader<TcpStream>>,
    sessions: usize,
}

impl Store {
    fn start() -> Self {
        let sessions = env::var("SESSIONS").map_or(1_000, |text| text.parse().unwrap());
        let mut command = Command::new(program());
        command.args(["--listen", "127.0.0.1:0", "--ttl", "1h", "--workers", "4"]);
        command.args(["--create-rate", "60000", "--create-burst", "60000"]);
        command.args(["--max-entries", &sessions.to_string()]);
        let daemon = Daemon::spawn(command);
        let connect = |_| {
            let stream = TcpStream::connect(daemon.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            BufReader::new(stream)
        };
        Self {
            clients: (0..8).map(connect).collect(),
            daemon,
            sessions,
        }
    }

    /// Sends requests, over all connections in turns, and returns the answers.
    fn ask(&mut self, requests: impl Iterator<Item = String>) -> Vec<Answer> {
        let requests: Vec<String> = requests.collect();
        let mut answers = Vec::new();
        for (number, batch) in requests.chunks(PIPELINED).enumerate() {
            let place = number % self.clients.len();
            let client = &mut self.clients[place];
            client
                .get_mut()
                .write_all(batch.concat().as_bytes())
                .unwrap();
            answers.extend(batch.iter().map(|_| Answer::read(client)));
        }
        answers
    }

    /// Fills the store with payloads of this many bytes.
    fn create(&mut self, length: usize) -> Vec<Known> {
        let answers =
            self.ask((0..self.sessions).map(|_| request("POST", CREATE, "", &"x".repeat(length))));
        let known = |answer: Answer| Known {
            path: answer.field("Location"),
            tag: answer.field("ETag"),
        };
        answers.into_iter().map(known).collect()
    }

    /// Writes payloads of this many bytes to the sessions, in this order.
    fn write(&mut self, known: &mut [Known], order: &[usize], length: usize) {
        let puts: Vec<String> = order
            .iter()
            .map(|&index| {
                let known = &known[index];
                let tag = format!("If-Match: {}\r\n", known.tag);
                request("PUT", &known.path, &tag, &"y".repeat(length))
            })
            .collect();
        let answers = self.ask(puts.into_iter());
        for (&index, answer) in order.iter().zip(answers) {
            assert_eq!(answer.status, 202);
            known[index].tag = answer.field("ETag");
        }
    }

    fn delete(&mut self, known: &[Known]) {
        let deletes = known
            .iter()
            .map(|known| request("DELETE", &known.path, "", ""));
        let answers = self.ask(deletes);
        assert!(answers.iter().all(|answer| answer.status == 204));
    }

    /// Connections with requests of 16 KiB that are never complete.
    fn leave_unfinished(&self) -> Vec<TcpStream> {
        raise_limit();
        let head = "POST /_matrix/client/v1/rendezvous HTTP/1.1\r\nHost: x\r\n";
        let part = format!("{head}Content-Length: 26000\r\n\r\n{}", "x".repeat(16_000));
        let open = |_| {
            let mut stream = TcpStream::connect(self.daemon.address).unwrap();
            stream.write_all(part.as_bytes()).unwrap();
            stream
        };
        (0..UNFINISHED).map(open).collect()
    }

    /// Compares the most memory it had with the most it said.
    fn check(mut self, recipe: &str) {
        // All that was sent before has been read when this is answered.
        let answers = self.ask((0..8 * PIPELINED).map(|_| request("GET", "/", "", "")));
        assert!(answers.iter().all(|answer| answer.status == 404));
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = line.unwrap().trim().strip_suffix(" kB").unwrap();
        let peak = ByteSize::kib(peak.parse().unwrap());
        let start = &self.daemon.start;
        let said = start.iter().find_map(|line| line.split_once("at most "));
        let words: Vec<&str> = said.unwrap().1.split([' ', ',']).take(2).collect();
        let ceiling: ByteSize = words.join(" ").parse().unwrap();
        let percent = 100 * peak.as_u64() / ceiling.as_u64();
        println!("{recipe:<44} {peak:>9} of {ceiling} {percent:>3} %");
        assert!(peak <= ceiling, "{recipe}: {peak}, said at most {ceiling}");
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(stream: &mut impl Read) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut answer = Self {
            status: head[9..12].parse().unwrap(),
            head,
            body: Vec::new(),
        };
        let length = answer.find("Content-Length").unwrap_or_default();
        answer.body = vec![0; length.parse().unwrap_or(0)];
        stream.read_exact(&mut answer.body).expect("a body");
        answer
    }

    fn find(&self, name: &str) -> Option<String> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut named = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.to_owned())
    }

    fn field(&self, name: &str) -> String {
        self.find(name)
            .unwrap_or_else(|| panic!("no {name}: {}", self.head))
    }
}

fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}");
    if method != "GET" {
        write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    text + "\r\n" + body
}

fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// The lengths that grow, each past the holes that the last has left.
const GROWING: [usize; 5] = [150, 400, 900, 2_000, 4_096];

#[test]
fn growth_in_lockstep_in_three_orders() {
    let mut store = Store::start();
    let count = store.sessions;
    let backwards: Vec<usize> = (0..count).rev().collect();
    // Every other one first.
    let alternating: Vec<usize> = (0..count).step_by(2).chain((1..count).step_by(2)).collect();
    let mut known = Vec::new();
    for order in [(0..count).collect(), backwards, alternating] {
        store.delete(&known);
        known = store.create(GROWING[0]);
        for length in GROWING {
            store.write(&mut known, &order, length);
        }
    }
    let unfinished = store.leave_unfinished();
    store.check("growth in lockstep, three orders");
    drop(unfinished);
}

#[test]
fn shrinking_and_growing() {
    let mut store = Store::start();
    let count = store.sessions;
    let mut known = store.create(4_096);
    for stride in [2, 3, 5] {
        for offset in 0..stride {
            let part: Vec<usize> = (offset..count).step_by(stride).collect();
            for length in [10, 700, 4_096 - 100 * stride] {
                store.write(&mut known, &part, length);
            }
        }
    }
    let all: Vec<usize> = (0..count).collect();
    store.write(&mut known, &all, 4_096);
    let unfinished = store.leave_unfinished();
    store.check("shrinking and growing");
    drop(unfinished);
}

#[test]
fn transactions_between_payloads_that_grow() {
    let mut store = Store::start();
    let data = |length: usize| "x".repeat(length);
    let body = json!({ "data": data(900) }).to_string();
    let answers = store.ask((0..store.sessions).map(|_| request("POST", CREATE_JSON, "", &body)));
    let id = |answer: &Answer| {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        body["id"].as_str().unwrap().to_owned()
    };
    let ids: Vec<String> = answers.iter().map(id).collect();
    for (write, length) in [(0, 2_000), (1, 4_096)] {
        let puts = ids.iter().map(|id| {
            let body = json!({ "sequence_token": write.to_string(), "data": data(length) });
            let path = format!("{CREATE_JSON}/{id}/{write}");
            request("PUT", &path, "", &body.to_string())
        });
        let answers = store.ask(puts.collect::<Vec<_>>().into_iter());
        assert!(answers.iter().all(|answer| answer.status == 200));
    }
    let unfinished = store.leave_unfinished();
    store.check("transactions between payloads that grow");
    drop(unfinished);
}
