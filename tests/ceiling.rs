//! The memory line at the start is a bound: what leaves a general allocator
//! with holes that nothing fits in stays below it.
//!
//! `SESSIONS` makes the store larger, as `tests/ceiling/run` does.

mod common;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use common::{Answer, Client, Daemon, PATIENCE, program, raise_fd_limit};
use serde_json::{Value, json};

const CREATE: &str = "/rendezvous";
const CREATE_JSON: &str = "/_matrix/client/v1/rendezvous";

/// Requests sent before their answers are read.
const PIPELINED: usize = 40;

/// Connections that never finish their request.
const UNFINISHED: usize = 2_000;

/// What the workers take beside the sessions to fill the store, in bytes:
/// buffers of the eight connections, and a heap of each worker's own.
const WORKERS_SIZE: u64 = 1024 * 1024;

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
    /// The admin port, a Unix socket.
    admin: PathBuf,
    /// Memory before the first session, in bytes.
    before: u64,
    /// Each on a worker of its own, if they are spread well.
    clients: Vec<Client>,
    sessions: usize,
}

impl Store {
    fn start() -> Self {
        let sessions = env::var("SESSIONS").map_or(1_000, |text| text.parse().unwrap());
        let mut command = Command::new(program());
        command.args(["--listen", "127.0.0.1:0", "--ttl", "1h", "--workers", "4"]);
        command.args(["--create-rate", "60000", "--create-burst", "60000"]);
        command.args(["--max-entries", &sessions.to_string()]);
        static STORES: AtomicUsize = AtomicUsize::new(0);
        let number = STORES.fetch_add(1, Ordering::Relaxed);
        let name = format!("rendezvousd-ceiling-{}-{number}", process::id());
        let admin = env::temp_dir().join(name);
        command
            .arg("--admin")
            .arg(format!("unix:{}", admin.display()));
        let daemon = Daemon::spawn(command);
        let mut store = Self {
            clients: (0..8).map(|_| daemon.connect()).collect(),
            daemon,
            admin,
            before: 0,
            sessions,
        };
        // Whatever code they need is there then.
        store.ask((0..8 * PIPELINED).map(|_| request("PUT", "/", "", "x")));
        store.before = store.memory("VmRSS");
        store
    }

    /// A line of the process's status, in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let text = line.unwrap().trim_start_matches(':').trim();
        1024 * text.strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
    }

    /// The size that the memory line at the start names behind this word.
    fn said(&self, word: &str) -> ByteSize {
        let start = &self.daemon.start;
        let said = start.iter().find_map(|line| line.split_once(word));
        let words: Vec<&str> = said.unwrap().1.split([' ', ',']).take(2).collect();
        words.join(" ").parse().unwrap()
    }

    /// How many connections have been accepted.
    fn accepted(&self) -> usize {
        const NAME: &str = "\nrendezvousd_connections_accepted_total ";
        let mut admin = UnixStream::connect(&self.admin).unwrap();
        admin.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        admin.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        admin.read_to_string(&mut page).unwrap();
        let (_, rest) = page.split_once(NAME).expect("a metric");
        rest.lines().next().unwrap().parse().unwrap()
    }

    /// Sends requests, over all connections in turns, and returns the answers.
    fn ask(&mut self, requests: impl Iterator<Item = String>) -> Vec<Answer> {
        let requests: Vec<String> = requests.collect();
        let mut answers = Vec::new();
        for (number, batch) in requests.chunks(PIPELINED).enumerate() {
            let place = number % self.clients.len();
            let client = &mut self.clients[place];
            client.send(batch.concat().as_bytes());
            let answer = |_| client.answer(false).expect("an answer");
            answers.extend(batch.iter().map(answer));
        }
        answers
    }

    /// Fills the store with payloads of this many bytes.
    fn create(&mut self, length: usize) -> Vec<Known> {
        let answers =
            self.ask((0..self.sessions).map(|_| request("POST", CREATE, "", &"x".repeat(length))));
        let known = |answer: Answer| Known {
            path: answer.location().to_owned(),
            tag: answer.etag().to_owned(),
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
            known[index].tag = answer.etag().to_owned();
        }
    }

    fn delete(&mut self, known: &[Known]) {
        let deletes = known
            .iter()
            .map(|known| request("DELETE", &known.path, "", ""));
        let answers = self.ask(deletes);
        assert!(answers.iter().all(|answer| answer.status == 204));
    }

    /// Connections with requests of 16 KiB that are never complete, all of
    /// which have been read.
    fn leave_unfinished(&self) -> Vec<TcpStream> {
        raise_fd_limit();
        let head = "POST /_matrix/client/v1/rendezvous HTTP/1.1\r\nHost: x\r\n";
        let part = format!("{head}Content-Length: 26000\r\n\r\n{}", "x".repeat(16_000));
        let open = |_| {
            let mut stream = TcpStream::connect(self.daemon.address).unwrap();
            stream.write_all(part.as_bytes()).unwrap();
            stream
        };
        let unfinished = (0..UNFINISHED).map(open).collect();
        let patience = Instant::now() + PATIENCE;
        let wait = || {
            assert!(Instant::now() < patience, "{} accepted", self.accepted());
            thread::sleep(Duration::from_millis(50));
        };
        while self.accepted() < UNFINISHED + self.clients.len() {
            wait();
        }
        // They are read once the memory has not grown for half a second.
        let (mut peak, mut same) = (0, 0);
        while same < 10 {
            wait();
            let now = self.memory("VmHWM");
            same = if now == peak { same + 1 } else { 0 };
            peak = now;
        }
        unfinished
    }

    /// Compares the most memory it had with the most it said: for the
    /// sessions, and with connections that never finish their requests in all.
    fn check(self, recipe: &str) {
        let grown = ByteSize(self.memory("VmHWM") - self.before);
        let sessions = self.said(" sessions ");
        println!("{recipe:<44} {grown:>9} of {sessions} for sessions");
        let unfinished = self.leave_unfinished();
        let peak = ByteSize(self.memory("VmHWM"));
        let ceiling = self.said("at most ");
        let percent = 100 * peak.as_u64() / ceiling.as_u64();
        println!("{recipe:<44} {peak:>9} of {ceiling} {percent:>3} %");
        assert!(
            grown <= sessions + WORKERS_SIZE,
            "{recipe}: sessions {grown}, said {sessions}"
        );
        assert!(peak <= ceiling, "{recipe}: {peak}, said at most {ceiling}");
        drop(unfinished);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.admin);
    }
}

fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}");
    if method != "GET" {
        write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    text + "\r\n" + body
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
    store.check("growth in lockstep, three orders");
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
    store.check("shrinking and growing");
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
    store.check("transactions between payloads that grow");
}
