//! The server under attack, ours or the predecessor, and what it takes from
//! the machine.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;

use crate::common::{Daemon, PATIENCE, program};
use crate::load::PROXY;

/// What the predecessor may allocate before it is refused more, in KiB.
const PEER_MEMORY: u32 = 4 << 20;

/// The time between two looks at a process.
const LOOK: Duration = Duration::from_millis(20);

/// A server, killed when dropped.
pub(crate) struct Target {
    process: Process,
    pub(crate) server: SocketAddrV4,
    /// The most memory it says it takes.
    pub(crate) ceiling: Option<ByteSize>,
}

enum Process {
    Ours(Daemon),
    Peer(Child),
}

impl Target {
    /// Starts ours with its defaults, but every peer is judged by its own
    /// address: only [`PROXY`] speaks for others.
    pub(crate) fn ours(descriptors: Option<u32>) -> Self {
        Self::with_flags(descriptors, &[])
    }

    /// The same, but for these flags.
    pub(crate) fn with_flags(descriptors: Option<u32>, flags: &[&str]) -> Self {
        let limit = descriptors.map(|count| format!("ulimit -n {count}"));
        let mut command = limited(limit.as_deref(), Path::new(&program()));
        command.args(["--listen", "127.0.0.1:0"]);
        command.args(["--trusted-proxy", &PROXY.to_string()]);
        command.args(flags);
        let daemon = Daemon::spawn(command);
        let SocketAddr::V4(server) = daemon.address else {
            panic!("{} is none of IPv4", daemon.address);
        };
        Self {
            server,
            ceiling: daemon.start.iter().find_map(|line| ceiling(line)),
            process: Process::Ours(daemon),
        }
    }

    /// Starts the predecessor, kept from taking the whole machine.
    pub(crate) fn predecessor(program: &Path, descriptors: Option<u32>) -> Self {
        let mut limit = format!("ulimit -v {PEER_MEMORY}");
        if let Some(count) = descriptors {
            limit = format!("{limit} && ulimit -n {count}");
        }
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port());
        let mut child = limited(Some(&limit), program)
            .args(["-p", &server.port().to_string()])
            .args(["--ttl", "600s", "--prefix", "/rendezvous"])
            .env("RUST_LOG", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the predecessor starts");
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(server).is_err() {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "the predecessor ended: {ended:?}");
            assert!(Instant::now() < end, "the predecessor does not listen");
            thread::sleep(LOOK);
        }
        Self {
            process: Process::Peer(child),
            server,
            ceiling: None,
        }
    }

    fn id(&self) -> u32 {
        match &self.process {
            Process::Ours(daemon) => daemon.pid(),
            Process::Peer(child) => child.id(),
        }
    }

    /// Looks at the process until told to stop.
    pub(crate) fn watch(&self, stop: &AtomicBool) -> Usage {
        let mut usage = Usage::default();
        loop {
            // Looks once more at the end, when the peak is complete.
            let last = stop.load(Ordering::Relaxed);
            usage.look(self.id());
            if last {
                return usage;
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Ours ends itself.
        if let Process::Peer(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a process took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) peak: ByteSize,
    /// Fewest and most, while it ran.
    pub(crate) threads: Option<(u64, u64)>,
}

impl Usage {
    fn look(&mut self, id: u32) {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let number = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        // Neither is there once the process has ended.
        if let (Some(peak), Some(threads)) = (number("VmHWM:"), number("Threads:")) {
            self.peak = ByteSize::kib(peak);
            let (least, most) = self.threads.unwrap_or((threads, threads));
            self.threads = Some((least.min(threads), most.max(threads)));
        }
    }
}

/// The program, started by a shell that sets limits before.
fn limited(limit: Option<&str>, program: &Path) -> Command {
    let Some(limit) = limit else {
        return Command::new(program);
    };
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"{limit} && exec "$0" "$@""#)]);
    command.arg(program);
    command
}

/// Reads `memory: at most 96.3 MiB in all: …`.
fn ceiling(line: &str) -> Option<ByteSize> {
    let (_, rest) = line.split_once("memory: ")?;
    let (_, rest) = rest.split_once("at most ")?;
    let words: Vec<&str> = rest.split([' ', ',']).take(2).collect();
    words.join(" ").parse().ok()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.expect("a free port").port()
}
