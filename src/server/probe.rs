//! A probe of the workers: a real request through each of them.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handle::{Command, WorkerHandle};
use super::listener::Stream;
use crate::client::Peer;

/// A request that each worker should answer.
#[derive(Clone, Debug)]
pub struct Probe {
    workers: Arc<[WorkerHandle]>,
    request: String,
}

impl Probe {
    pub(super) fn new(workers: Arc<[WorkerHandle]>, path: &str) -> Self {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        Self { workers, request }
    }

    /// Whether every worker answers within a time.
    ///
    /// Each is given a connection as if it had accepted it. The service's own
    /// listeners may be out of its reach, in another network namespace.
    #[must_use]
    pub fn is_answered(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let asked: io::Result<Vec<UnixStream>> =
            self.workers.iter().map(|worker| self.ask(worker)).collect();
        asked.is_ok_and(|asked| asked.into_iter().all(|stream| is_answered(stream, end)))
    }

    fn ask(&self, worker: &WorkerHandle) -> io::Result<UnixStream> {
        if worker.is_probe_pending() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.write_all(self.request.as_bytes())?;
        theirs.set_nonblocking(true)?;
        let command = Command::Serve {
            stream: Stream::Unix(mio::net::UnixStream::from_std(theirs)),
            peer: Peer::Local,
            permit: None,
        };
        match worker.send(command) {
            Ok(()) => Ok(ours),
            Err(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Whether a whole response arrives.
fn is_answered(mut stream: UnixStream, end: Instant) -> bool {
    let mut response = Vec::new();
    let mut part = [0; 512];
    loop {
        let remaining = end.saturating_duration_since(Instant::now());
        if remaining.is_zero() || stream.set_read_timeout(Some(remaining)).is_err() {
            return false;
        }
        match stream.read(&mut part) {
            Ok(0) => return response.starts_with(b"HTTP/1.1 "),
            Ok(count) => response.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
