//! Clients that poll and write while the service is restarted beneath them.
//!
//!     systemd-clients NUMBER TCP-ADDRESS UNIX-PATH
//!
//! works until standard input ends, then reads every session once more, prints
//! counts and fails if anything was not as it should be. A quarter of the
//! clients each: TCP and Unix, a new connection for every request (as nginx
//! does by default) and one kept (as it does with `keepalive`).
//!
//! A kept connection may be closed by the server at any time. A request that
//! gets not one byte of answer over one that has been used before is sent again
//! over a new one, as proxies do (RFC 9112, 9.3.1). That is no failure, unless
//! the first did something after all. Over a new connection every request must
//! be answered.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// No request takes longer, restart or not.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a poll may be held, in seconds: longer than between two restarts.
const HOLD: usize = 3;

/// Between connecting and asking, as over a network, every other time.
const DISTANCE: Duration = Duration::from_millis(5);

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

#[derive(Default)]
struct Counts {
    requests: usize,
    writes: usize,
    sent_again: usize,
    /// Held polls that were answered because the server stopped.
    released: usize,
    longest: Duration,
    failures: Vec<String>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

struct Session {
    path: String,
    tag: String,
    text: String,
}

struct Client {
    number: usize,
    address: String,
    keeps: bool,
    kept: Option<Box<dyn Stream>>,
    counts: Counts,
}

impl Client {
    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        if self.address.starts_with('/') {
            let stream = UnixStream::connect(&self.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            return Ok(Box::new(stream));
        }
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Box::new(stream))
    }

    /// One request and its answer, over the kept connection or a new one; also
    /// whether it was sent twice.
    fn ask(&mut self, start: &str, fields: &str, body: &str) -> Result<(Answer, bool), String> {
        let connection = if self.keeps { "keep-alive" } else { "close" };
        let length = body.len();
        let request = format!(
            "{start} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\
             Content-Length: {length}\r\n{fields}\r\n{body}"
        );
        let began = Instant::now();
        self.counts.requests += 1;
        let mut again = false;
        let result = loop {
            let (stream, used) = match self.kept.take() {
                Some(stream) => (Ok(stream), true),
                None => (self.connect(), false),
            };
            let mut stream = match stream {
                Ok(stream) => stream,
                Err(error) => break Err(format!("cannot connect: {error}")),
            };
            if !used && self.counts.requests % 2 == 0 {
                thread::sleep(DISTANCE);
            }
            match exchange(&mut stream, &request) {
                Ok(answer) => {
                    let closes = answer.field("connection") == Some("close");
                    if self.keeps && !closes {
                        self.kept = Some(stream);
                    }
                    break Ok((answer, again));
                }
                Err((_, 0)) if used => {
                    again = true;
                    self.counts.sent_again += 1;
                }
                Err((error, bytes)) => break Err(format!("after {bytes} bytes: {error}")),
            }
        };
        self.counts.longest = self.counts.longest.max(began.elapsed());
        result.map_err(|error| format!("{start}: {error}"))
    }

    fn open(&mut self, name: &str) -> Result<Session, String> {
        let text = format!("{name} of client {}", self.number);
        // Each has a quota of its own, as behind a proxy.
        let fields = format!(
            "Content-Type: text/plain\r\nX-Forwarded-For: 192.0.2.{}\r\n",
            self.number
        );
        let (answer, _) = self.ask("POST /rendezvous", &fields, &text)?;
        let tag = answer.field("etag").unwrap_or_default().to_owned();
        let location = answer.field("location").unwrap_or_default();
        // A path, or a URL.
        let path = match location.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("", |slash| &rest[slash..]),
            None => location,
        };
        if answer.status != 201 || tag.is_empty() || path.is_empty() {
            return Err(format!("creation: {}", answer.head));
        }
        let path = path.to_owned();
        Ok(Session { path, tag, text })
    }

    fn write(&mut self, session: &mut Session, text: String) -> Result<(), String> {
        let fields = format!("Content-Type: text/plain\r\nIf-Match: {}\r\n", session.tag);
        let (answer, again) = self.ask(&format!("PUT {}", session.path), &fields, &text)?;
        match (answer.status, answer.field("etag")) {
            (202, Some(tag)) => {
                session.tag = tag.to_owned();
                session.text = text;
                self.counts.writes += 1;
                Ok(())
            }
            (status, _) => Err(format!("PUT (sent again: {again}): {status}")),
        }
    }

    /// Polls, and lets the poll be held for so many seconds.
    fn poll(&mut self, session: &Session, wait: usize) -> Result<(), String> {
        let fields = format!("If-None-Match: {}\r\nPrefer: wait={wait}\r\n", session.tag);
        let (answer, _) = self.ask(&format!("GET {}", session.path), &fields, "")?;
        match answer.status {
            304 => {
                let closes = answer.field("connection") == Some("close");
                self.counts.released += usize::from(wait > 0 && closes && self.keeps);
                Ok(())
            }
            status => Err(format!(
                "poll: {status} {:?}, last written {:?}",
                answer.body, session.text
            )),
        }
    }

    fn read(&mut self, session: &Session) -> Result<(), String> {
        let (answer, _) = self.ask(&format!("GET {}", session.path), "", "")?;
        let (tag, text) = (answer.field("etag"), &answer.body);
        if answer.status == 200 && tag == Some(&session.tag) && *text == session.text {
            return Ok(());
        }
        Err(format!(
            "read: {} {tag:?} {text:?}, last written {:?} {:?}",
            answer.status, session.tag, session.text
        ))
    }

    fn note(&mut self, result: Result<(), String>) {
        if let Err(failure) = result {
            let Self {
                number, address, ..
            } = self;
            let keeps = if self.keeps { "kept" } else { "new" };
            let failure = format!("client {number} ({address}, {keeps}): {failure}");
            self.counts.failures.push(failure);
        }
    }

    fn work(mut self, stop: &AtomicBool) -> Counts {
        let sessions = self
            .open("busy")
            .and_then(|busy| Ok((busy, self.open("idle")?)));
        let (mut busy, idle) = match sessions {
            Ok(sessions) => sessions,
            Err(failure) => {
                self.note(Err(failure));
                return self.counts;
            }
        };
        let mut turn = 0_usize;
        while !stop.load(Ordering::Relaxed) && self.counts.failures.len() < 5 {
            let result = match turn % 4 {
                0 => self.write(&mut busy, format!("write {turn} of client {}", self.number)),
                1 => self.read(&busy),
                // One that is held when the server stops, mostly, and one that is not.
                2 => self.poll(&busy, HOLD),
                _ => self.poll(&busy, 0),
            };
            self.note(result);
            turn += 1;
            thread::sleep(Duration::from_millis(10));
        }
        for session in [&busy, &idle] {
            let result = self.read(session);
            self.note(result);
        }
        self.counts
    }
}

/// Sends a request and reads its answer; else what went wrong and how many
/// bytes of an answer there were.
fn exchange(stream: &mut impl Stream, request: &str) -> Result<Answer, (io::Error, usize)> {
    let mut bytes = Vec::new();
    if let Err(error) = stream.write_all(request.as_bytes()) {
        return Err((error, 0));
    }
    loop {
        if let Some(answer) = complete(&bytes) {
            return Ok(answer);
        }
        let mut part = [0; 4096];
        match stream.read(&mut part) {
            Ok(0) => return Err((io::ErrorKind::UnexpectedEof.into(), bytes.len())),
            Ok(read) => bytes.extend_from_slice(&part[..read]),
            Err(error) => return Err((error, bytes.len())),
        }
    }
}

fn complete(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let answer = Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    };
    let length = answer.field("content-length").unwrap_or("0");
    let length: usize = length.parse().ok()?;
    let bodiless = matches!(status, 204 | 304);
    (bodiless || body.len() >= length).then_some(answer)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [clients, tcp, unix] = &arguments[..] else {
        eprintln!("usage: systemd-clients NUMBER TCP-ADDRESS UNIX-PATH");
        return ExitCode::from(2);
    };
    let clients: usize = clients.parse().expect("a number of clients");
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..clients)
        .map(|number| {
            let client = Client {
                number,
                address: if number % 2 == 0 { tcp } else { unix }.clone(),
                keeps: number / 2 % 2 == 1,
                kept: None,
                counts: Counts::default(),
            };
            let stop = Arc::clone(&stop);
            thread::spawn(move || client.work(&stop))
        })
        .collect();
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    stop.store(true, Ordering::Relaxed);
    let mut sum = Counts::default();
    for thread in threads {
        let counts = thread.join().expect("a client panicked");
        sum.requests += counts.requests;
        sum.writes += counts.writes;
        sum.sent_again += counts.sent_again;
        sum.released += counts.released;
        sum.longest = sum.longest.max(counts.longest);
        sum.failures.extend(counts.failures);
    }
    if sum.released == 0 {
        sum.failures.push("no poll was held at a restart".into());
    }
    for failure in sum.failures.iter().take(10) {
        println!("{failure}");
    }
    println!(
        "{clients} clients: {} requests, {} acknowledged writes, {} failures; {} sent again \
         over a new connection; {} polls held at a restart; longest wait {} ms",
        sum.requests,
        sum.writes,
        sum.failures.len(),
        sum.sent_again,
        sum.released,
        sum.longest.as_millis()
    );
    if sum.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
