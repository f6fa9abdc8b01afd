//! The network: listeners, a pool of workers, connections, deadlines. It
//! knows HTTP and one [`Handler`], and no protocol above.

mod connection;
mod descriptors;
mod listener;
mod worker;

pub use descriptors::{Room, make_room};
pub use listener::{Address, Listener};

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::error;
use mio::Waker;

use crate::http::{HEAD_LIMIT, Handler};
use connection::OUTPUT_BATCH;
use worker::{INPUT, Shared, Worker};

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// A whole request, from its first byte to its last.
    pub request: Duration,
    /// The peer's taking of an answer; no request is read meanwhile.
    pub answer: Duration,
    /// The wait for a request. Longer than the 60 to 120 s after which
    /// proxies close, or a proxy's request meets our close.
    pub idle: Duration,
    /// The peer's own close after it was refused.
    pub linger: Duration,
    /// The work in progress when the server stops.
    pub stop: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            idle: Duration::from_secs(150),
            linger: Duration::from_secs(2),
            stop: Duration::from_secs(1),
        }
    }
}

/// What the operator decides about the network.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threads that answer requests.
    pub workers: usize,
    /// Connections held at once, over all workers.
    pub max_connections: usize,
    /// How long things may take.
    pub deadlines: Deadlines,
}

impl Settings {
    /// The most memory that the connections can take, in bytes, when bodies
    /// and answers are at most so large: what a request may fill before it is
    /// complete, the read that completes it, and answers not taken.
    #[must_use]
    pub fn ceiling(&self, body: usize, answer: usize) -> u64 {
        let input = HEAD_LIMIT + body + INPUT;
        let output = OUTPUT_BATCH + answer;
        ((input + output) as u64).saturating_mul(self.max_connections as u64)
    }
}

/// What the server has seen since its start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections closed to make room for newer ones.
    pub evicted: AtomicU64,
    /// Requests answered by the handler.
    pub answered: AtomicU64,
    /// Requests refused for their framing or size.
    pub refused: AtomicU64,
    /// Requests that did not arrive in time.
    pub late: AtomicU64,
    /// Panics caught.
    pub panics: AtomicU64,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
}

impl Server {
    /// Starts the workers; when this returns they accept.
    ///
    /// # Errors
    /// When a poll, a descriptor or a thread cannot be had.
    pub fn start<H: Handler>(
        listeners: Vec<Listener>,
        settings: &Settings,
        handler: &Arc<H>,
    ) -> io::Result<Self> {
        let mut server = Self {
            listeners,
            wakers: Vec::new(),
            threads: Vec::new(),
            shared: Arc::default(),
            counters: Arc::default(),
        };
        for number in 0..settings.workers {
            let (worker, waker) = Worker::new(
                &server.listeners,
                settings,
                Arc::clone(handler),
                Arc::clone(&server.counters),
                Arc::clone(&server.shared),
            )?;
            let counters = Arc::clone(&server.counters);
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || work(worker, &counters))?;
            server.wakers.push(waker);
            server.threads.push(thread);
        }
        Ok(server)
    }

    /// What has been counted so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Stops accepting, lets the answers in progress finish for
    /// [`Deadlines::stop`], and returns when all workers have ended.
    pub fn stop(mut self) {
        self.listeners.clear();
        self.shared.stop.store(true, Ordering::Release);
        for waker in &self.wakers {
            if let Err(error) = waker.wake() {
                error!("cannot wake a worker to stop it: {error}");
                return;
            }
        }
        for thread in self.threads.drain(..) {
            // A worker's panics are caught on its own thread.
            let _ = thread.join();
        }
    }
}

/// A panic outside a handler is a defect of ours; it costs the worker its
/// connections and nobody else anything.
fn work<H: Handler>(mut worker: Worker<H>, counters: &Counters) {
    loop {
        match catch_unwind(AssertUnwindSafe(|| worker.run())) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                error!("a worker cannot poll: {error}");
                thread::sleep(Duration::from_secs(1));
            }
            Err(_) => {
                counters.panics.fetch_add(1, Ordering::Relaxed);
            }
        }
        worker.recover();
    }
}

#[cfg(test)]
mod tests;
