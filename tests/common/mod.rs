//! The real binary, and a client that shows every byte of an answer.

// Each test file uses its part of this.
#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rendezvousd::api::{MSC3886_PATH, MSC4108_PATH, MSC4388_PATH, STABLE_PATH};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// Longer than anything takes on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Every way to create a session: path, type and body.
pub const CREATIONS: [(&str, (&str, &str), &str); 6] = [
    ("/rendezvous", TEXT, "first"),
    ("/rendezvous", JSON, "first"),
    (MSC3886_PATH, JSON, "first"),
    (MSC4108_PATH, TEXT, "first"),
    (MSC4388_PATH, JSON, r#"{"data":"first"}"#),
    (STABLE_PATH, JSON, r#"{"data":"first"}"#),
];

/// Longer than a daemon takes to stop that can; one that is paused cannot.
const STOP: Duration = Duration::from_secs(5);

/// The binary that is tested: this build's, or the one that `RENDEZVOUSD`
/// names, which may be one for another machine with its emulator before it.
pub fn program() -> String {
    std::env::var("RENDEZVOUSD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_rendezvousd").into())
}

/// Raises the limit of open files as far as allowed; returns it.
pub fn raise_fd_limit() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit is free up to the hard one");
    maximum.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// A running rendezvousd on a port of its own.
pub struct Daemon {
    child: Child,
    /// In a mutex for the tests that share a daemon among threads.
    lines: Mutex<Receiver<String>>,
    /// What it logged before it was ready, the ready line included.
    pub start: Vec<String>,
    /// Its first TCP address.
    pub address: SocketAddr,
}

impl Daemon {
    /// Starts the binary on port 0 and waits until it is ready. Unless the flags
    /// say otherwise it holds no polls, so that no test waits for a 304.
    pub fn start(flags: &[&str]) -> Self {
        // The tests themselves may run under nohup.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP", &program()]);
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        if !flags.contains(&"--long-poll") {
            command.args(["--long-poll", "0s"]);
        }
        command.stdin(Stdio::null());
        Self::spawn(command)
    }

    /// Runs a command that becomes the daemon.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .env_remove("JOURNAL_STREAM")
            .spawn()
            .expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut start = Vec::new();
        let address = loop {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("no ready line, only {start:?}");
            });
            let ready = line
                .split_once(" ready on http://")
                .map(|(_, rest)| rest.split(' ').next().unwrap().parse().unwrap());
            start.push(line);
            if let Some(address) = ready {
                break address;
            }
        };
        Self {
            child,
            lines: Mutex::new(lines),
            start,
            address,
        }
    }

    /// The address of its admin port, which the flags must ask for.
    pub fn admin(&self) -> SocketAddr {
        let said = " admin port on http://";
        let mut lines = self.start.iter();
        let address = lines.find_map(|line| Some(line.split_once(said)?.1.parse().unwrap()));
        address.unwrap_or_else(|| panic!("no admin port: {:?}", self.start))
    }

    /// One request to the admin port, on a connection of its own.
    pub fn ask_admin(&self, method: &str, path: &str) -> Answer {
        let stream = TcpStream::connect(self.admin()).expect("a connection");
        Client::new(stream).request(method, path, &[], "")
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).expect("a connection"))
    }

    /// One request on a connection of its own.
    pub fn request(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        self.connect().request(method, path, fields, body)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).unwrap();
    }

    /// Waits for the end; what was logged since the start, and how it ended.
    pub fn wait(mut self) -> (Vec<String>, ExitStatus) {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        (self.lines.get_mut().unwrap().iter().collect(), status)
    }
}

/// Has it end by itself, so that a coverage build writes what it has counted.
impl Drop for Daemon {
    fn drop(&mut self) {
        let end = Instant::now() + STOP;
        let mut asked = false;
        // Only as long as it runs is the process id its own.
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() >= end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            if !asked {
                let _ = kill_process(self.process(), Signal::TERM);
                asked = true;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A section of the manual page: its entries, each without its `.TP`.
pub fn manual_entries(section: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/rendezvousd.8");
    let manual = std::fs::read_to_string(path).unwrap();
    let rest = manual.split(&format!("\n.SH {section}\n")).nth(1).unwrap();
    let section = rest.split("\n.SH ").next().unwrap();
    let entries = section.split("\n.TP\n").skip(1);
    entries.map(str::to_owned).collect()
}

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends a request with a `Content-Length` where there is a body or the
    /// method has one, and reads the answer.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" || method == "PUT" {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.send(text.as_bytes());
        self.answer(method == "HEAD").expect("an answer")
    }

    /// Sends bytes as they are; a peer that has closed is no error yet.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// Reads one answer; `None` when the connection ends instead.
    pub fn answer(&mut self, to_head: bool) -> Option<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match self.stream.read_line(&mut head) {
                Ok(count) if count > 0 => {}
                _ => return None,
            }
        }
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            fields,
            body: Vec::new(),
        };
        if !to_head && status != 204 && status != 304 {
            let length = answer.field("Content-Length").unwrap_or("0");
            answer.body = vec![0; length.parse().ok()?];
            self.stream.read_exact(&mut answer.body).ok()?;
        }
        Some(answer)
    }

    /// Whether the server closes, with nothing more to say.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// An answer, its names and values as they came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a field that must not stand twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} stands twice");
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn etag(&self) -> &str {
        self.field("ETag").expect("an ETag")
    }

    pub fn location(&self) -> &str {
        self.field("Location").expect("a Location")
    }

    /// Checks status and errcode, and that a browser gets to see them.
    #[track_caller]
    pub fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.field("Content-Type"), Some("application/json"));
        assert_eq!(self.field("Access-Control-Allow-Origin"), Some("*"));
        let errcode = format!(r#"{{"errcode":"{code}","#);
        assert!(self.text().starts_with(&errcode), "{}", self.text());
        assert!(self.text().contains(r#""error":""#), "{}", self.text());
    }
}
