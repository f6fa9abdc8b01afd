//! The client that must notice nothing: it polls and writes its session as
//! the SDKs do, only faster, and keeps account. Only a poll during a write may
//! be held; the others ask to be answered at once.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Where both servers create sessions.
pub(crate) const CREATE: &str = "/rendezvous";

/// The longest that a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Every so many polls it writes, and another device reads what it wrote.
const WRITE_EVERY: u32 = 10;

/// What bystanders saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) ok: usize,
    pub(crate) failed: usize,
    /// Kept connections found closed; that is anybody's right.
    pub(crate) reopened: usize,
    /// Why the first request failed.
    pub(crate) reason: Option<String>,
    /// From connecting to the answer's last byte, of what went well.
    pub(crate) latencies: Vec<Duration>,
}

impl Tally {
    pub(crate) fn note(&mut self, result: &Result<(), String>, latency: Duration) {
        match result {
            Ok(()) => {
                self.ok += 1;
                self.latencies.push(latency);
            }
            Err(reason) => {
                self.failed += 1;
                self.reason.get_or_insert_with(|| reason.clone());
            }
        }
    }

    /// The latency that so many of a hundred requests did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        let rank = (latencies.len() * percent).div_ceil(100);
        latencies.get(rank.checked_sub(1)?).copied()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.reopened += other.reopened;
        self.reason = self.reason.take().or(other.reason);
        self.latencies.extend(other.latencies);
    }
}

/// How an bystander uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientKind {
    /// A new one for every request, a hundred times a second.
    Visits,
    /// One, once a second.
    Keeps,
    /// One, a hundred times a second, as a proxy with many clients.
    Reuses,
}

/// A client with a session of its own.
pub(crate) struct Bystander {
    server: SocketAddr,
    kind: ClientKind,
    kept: Option<Line>,
    session: String,
    etag: String,
    writes: u64,
    tally: Tally,
}

impl Bystander {
    /// Creates the session.
    pub(crate) fn new(server: SocketAddrV4, kind: ClientKind) -> Result<Self, String> {
        let mut bystander = Self {
            server: server.into(),
            kind,
            kept: None,
            session: String::new(),
            etag: String::new(),
            writes: 0,
            tally: Tally::default(),
        };
        let text = request("POST", CREATE, "", &bystander.payload());
        let answer = bystander.exchange(&text)?.expect(201)?;
        bystander.session = match answer.location.as_deref() {
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(id) => format!("{CREATE}/{id}"),
            None => return Err("no Location".into()),
        };
        bystander.etag = answer.etag;
        Ok(bystander)
    }

    /// Polls until told to stop.
    pub(crate) fn work(&mut self, stop: &AtomicBool) {
        let pause = match self.kind {
            ClientKind::Visits | ClientKind::Reuses => Duration::from_millis(10),
            ClientKind::Keeps => Duration::from_secs(1),
        };
        for round in 1.. {
            self.step(Self::poll);
            if round % WRITE_EVERY == 0 {
                self.step(Self::write_and_receive);
            }
            let until = Instant::now() + pause;
            while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                thread::sleep(pause.min(Duration::from_millis(10)));
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// One request more; whether it went well.
    pub(crate) fn still_served(&mut self) -> bool {
        self.step(Self::poll)
    }

    /// What it saw since this was last asked.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn step(&mut self, act: fn(&mut Self) -> Result<(), String>) -> bool {
        let start = Instant::now();
        let mut result = act(self);
        let latency = start.elapsed();
        if result.is_ok() && latency > TIMEOUT {
            result = Err(format!("an answer after {latency:?}"));
        }
        self.tally.note(&result, latency);
        result.is_ok()
    }

    fn poll(&mut self) -> Result<(), String> {
        let field = format!("If-None-Match: {}\r\nPrefer: wait=0\r\n", self.etag);
        let text = request("GET", &self.session, &field, "");
        self.exchange(&text)?.expect(304).map(drop)
    }

    /// A message to another device, which polls meanwhile and may be held. One
    /// that is answered too early asks again.
    fn write_and_receive(&mut self) -> Result<(), String> {
        let field = format!("If-None-Match: {}\r\n", self.etag);
        let poll = request("GET", &self.session, &field, "");
        let mut other = Line::connect(self.server)?;
        other.send(&poll);
        self.write()?;
        match other.receive().map_err(Fault::on_a_new_line)? {
            answer if answer.status == 304 => self.read(),
            answer => self.check(&answer.expect(200)?),
        }
    }

    fn write(&mut self) -> Result<(), String> {
        self.writes += 1;
        let field = format!("If-Match: {}\r\n", self.etag);
        let text = request("PUT", &self.session, &field, &self.payload());
        self.etag = self.exchange(&text)?.expect(202)?.etag;
        Ok(())
    }

    fn read(&mut self) -> Result<(), String> {
        let text = request("GET", &self.session, "", "");
        let answer = self.exchange(&text)?.expect(200)?;
        self.check(&answer)
    }

    fn check(&self, answer: &Answer) -> Result<(), String> {
        if answer.body != self.payload().as_bytes() {
            return Err("another payload than was written".into());
        }
        Ok(())
    }

    /// Never the same twice: the predecessor's tags are hashes.
    fn payload(&self) -> String {
        format!("message {} of {:?}, {:700}", self.writes, self.kind, "")
    }

    /// A kept connection that turns out to be closed is replaced.
    fn exchange(&mut self, text: &str) -> Result<Answer, String> {
        if let Some(mut line) = self.kept.take() {
            match line.exchange(text) {
                Err(Fault::Closed) => self.tally.reopened += 1,
                Err(Fault::Bad(reason)) => return Err(reason),
                Ok(answer) => {
                    self.kept = Some(line);
                    return Ok(answer);
                }
            }
        }
        let mut line = Line::connect(self.server)?;
        let answer = line.exchange(text).map_err(Fault::on_a_new_line)?;
        if self.kind != ClientKind::Visits {
            self.kept = Some(line);
        }
        Ok(answer)
    }
}

pub(crate) fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let length = match method {
        "GET" => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}{length}\r\n{body}")
}

/// Why there is no answer.
pub(crate) enum Fault {
    /// Closed or reset before its first byte.
    Closed,
    Bad(String),
}

impl Fault {
    /// What is wrong with it where nobody may close.
    fn on_a_new_line(self) -> String {
        match self {
            Self::Closed => "closed before an answer".into(),
            Self::Bad(reason) => reason,
        }
    }
}

/// A connection that waits for its answers.
pub(crate) struct Line(BufReader<TcpStream>);

impl Line {
    fn connect(server: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&server, TIMEOUT);
        Self::new(stream.map_err(|error| format!("no connection: {error}"))?)
    }

    pub(crate) fn new(stream: TcpStream) -> Result<Self, String> {
        let options = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(TIMEOUT)))
            .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)));
        options.map_err(|error| error.to_string())?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn exchange(&mut self, text: &str) -> Result<Answer, Fault> {
        self.send(text);
        self.receive()
    }

    fn send(&mut self, text: &str) {
        // The server may have closed and answered why; reading tells.
        let _ = self.0.get_mut().write_all(text.as_bytes());
    }

    fn receive(&mut self) -> Result<Answer, Fault> {
        match self.0.fill_buf() {
            Ok([]) => return Err(Fault::Closed),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(Fault::Closed),
            Err(error) => return Err(Fault::Bad(format!("no answer: {error}"))),
            Ok(_) => {}
        }
        self.answer().map_err(Fault::Bad)
    }

    fn answer(&mut self) -> Result<Answer, String> {
        let broken = |error| format!("half an answer: {error}");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).map_err(broken)? == 0 {
                return Err("half an answer".into());
            }
        }
        let field = |name: &str| {
            let fields = head.lines().filter_map(|line| line.split_once(": "));
            let mut values = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
            values.next().map(|(_, value)| value.trim().to_owned())
        };
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| format!("no status: {head:?}"))?;
        let length = field("Content-Length").filter(|_| status != 304);
        let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).map_err(broken)?;
        Ok(Answer {
            status,
            etag: field("ETag").unwrap_or_default(),
            location: field("Location"),
            body,
        })
    }
}

/// What bystanders look at.
pub(crate) struct Answer {
    status: u16,
    pub(crate) etag: String,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn expect(self, status: u16) -> Result<Self, String> {
        if self.status == status {
            return Ok(self);
        }
        let body = String::from_utf8_lossy(&self.body).into_owned();
        Err(format!("{} for {status}: {body:.80}", self.status))
    }
}
