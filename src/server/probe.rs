//! Whether the workers work: a real request through each of them.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, Errand};
use super::listener::Stream;

/// Asks all workers for something.
#[derive(Clone, Debug)]
pub struct Probe {
    crowd: Arc<Crowd>,
    request: String,
}

impl Probe {
    pub(super) fn new(crowd: Arc<Crowd>, path: &str) -> Self {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        Self { crowd, request }
    }

    /// Whether every worker answers within a time.
    ///
    /// Each is given a connection as if it had accepted it. The service's own
    /// listeners may be out of its reach, in another network namespace.
    #[must_use]
    pub fn is_answered(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let asked: io::Result<Vec<UnixStream>> = (0..self.crowd.workers())
            .map(|worker| self.ask(worker))
            .collect();
        asked.is_ok_and(|asked| asked.into_iter().all(|stream| hears(stream, end)))
    }

    fn ask(&self, worker: usize) -> io::Result<UnixStream> {
        if self.crowd.is_asked(worker) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.write_all(self.request.as_bytes())?;
        theirs.set_nonblocking(true)?;
        let stream = Stream::Unix(mio::net::UnixStream::from_std(theirs));
        self.crowd.send(worker, Errand::Serve(stream), None);
        Ok(ours)
    }
}

/// Whether an answer comes, to its end.
fn hears(mut stream: UnixStream, end: Instant) -> bool {
    let mut answer = Vec::new();
    let mut part = [0; 512];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        match stream.read(&mut part) {
            Ok(0) => return answer.starts_with(b"HTTP/1.1 "),
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
