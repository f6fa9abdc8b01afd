//! The network: listeners, a pool of workers, connections, deadlines. It
//! knows HTTP and one [`Handler`], and no protocol above.

mod connection;
mod crowd;
mod fds;
mod heartbeat;
mod listener;
mod pool;
mod probe;
mod worker;

pub use connection::{Connection, Context, Next, Transport};
pub use fds::{FdBudget, reserve_fds};
pub use heartbeat::Heartbeat;
pub use listener::{Address, Listener, Socket};
pub use probe::Probe;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::error;
use mio::{Poll, Waker};

use crate::block_pool::size_of_blocks;
use crate::client::TrustedProxies;
use crate::http::{HEAD_LIMIT, Handler};
use crate::metrics::Counters;
use connection::{INPUT, OUTPUT_BATCH};
use crowd::Crowd;
use worker::{WAKER, Worker};

/// What the buffers of all connections may take together, in bytes, if that
/// is enough for some requests of the largest kind on each worker. Past it
/// the connections with the largest buffers are closed.
const BUFFERS: usize = 32 * 1024 * 1024;

/// The requests of the largest kind that a worker has room for in any case.
const LARGE_REQUESTS: usize = 16;

/// What a worker takes beside its connections and what it works in, in bytes:
/// the part of its stack and of its heap that is in use at some time.
const WORKER_SIZE: usize = 256 * 1024;

/// What a connection takes beside its buffers, in bytes: its state, a place
/// in its worker's lists and one among its client's.
const CONNECTION_SIZE: usize = 768;

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
    /// The work in progress when the server stops, and the next request on
    /// connections that were used: clients poll once a second.
    pub stop: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            idle: Duration::from_secs(150),
            linger: Duration::from_secs(2),
            stop: Duration::from_millis(1_500),
        }
    }
}

/// What the operator decides about the network.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that answer requests.
    pub workers: usize,
    /// Connections held at once, over all workers.
    pub max_connections: usize,
    /// Those who may have any number of connections.
    pub trusted_proxies: TrustedProxies,
    /// The largest body of a request or an answer, in bytes.
    pub largest_body: usize,
    /// How long things may take.
    pub deadlines: Deadlines,
}

impl Settings {
    /// What the buffers of one worker's connections may take, in bytes.
    fn buffers(&self) -> usize {
        let large = self.connection_buffers().saturating_mul(LARGE_REQUESTS);
        large.max(BUFFERS / self.workers)
    }

    /// The most that the buffers of one connection take, in bytes.
    fn connection_buffers(&self) -> usize {
        size_of_blocks(self.largest_request()) + size_of_blocks(self.largest_output())
    }

    /// A head, a body, and what one more read brings.
    fn largest_request(&self) -> usize {
        HEAD_LIMIT + self.largest_body + INPUT
    }

    /// Answers that are not a full batch, and one more.
    fn largest_output(&self) -> usize {
        OUTPUT_BATCH + HEAD_LIMIT + self.largest_body
    }

    /// What a worker works in, in bytes: a request, its answer twice, as text
    /// and as it is sent, each in a vector that doubles; a payload that it
    /// writes before the old one goes.
    fn working_memory(&self) -> usize {
        let vectors = self.largest_request() + 2 * self.largest_output();
        WORKER_SIZE + INPUT + 2 * vectors + 2 * size_of_blocks(self.largest_body)
    }

    /// The most memory that connections and workers can take, in bytes, with an
    /// allocator that has so many heaps.
    #[must_use]
    pub fn ceiling(&self, heaps: usize) -> u64 {
        // Buffers are over the limit by those of one connection, and not for
        // long.
        let worker = self.buffers() + self.connection_buffers() + self.working_memory();
        let workers = worker.saturating_mul(self.workers);
        let connection = CONNECTION_SIZE * heaps;
        let beside = connection.saturating_mul(self.max_connections);
        workers.saturating_add(beside) as u64
    }

    /// The same for one worker that has few connections, each of which holds
    /// as much as it may, and one more that is about to close.
    #[must_use]
    pub fn small_ceiling(&self) -> u64 {
        let connection = CONNECTION_SIZE + self.connection_buffers();
        let all = connection.saturating_mul(self.max_connections + 1);
        all.saturating_add(self.working_memory()) as u64
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    threads: Vec<JoinHandle<()>>,
    crowd: Arc<Crowd>,
    counters: Arc<Counters>,
}

impl Server {
    /// Starts the workers, which count in `counters`; when this returns they
    /// accept.
    ///
    /// # Errors
    /// When a poll, a descriptor or a thread cannot be had.
    pub fn start<H: Handler>(
        listeners: Vec<Listener>,
        settings: &Settings,
        handler: &Arc<H>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let polls = (0..settings.workers)
            .map(|_| Poll::new())
            .collect::<io::Result<Vec<_>>>()?;
        let wakers = polls
            .iter()
            .map(|poll| Waker::new(poll.registry(), WAKER))
            .collect::<io::Result<Vec<_>>>()?;
        let mut server = Self {
            listeners,
            threads: Vec::new(),
            crowd: Arc::new(Crowd::new(settings, wakers)),
            counters,
        };
        for (number, poll) in polls.into_iter().enumerate() {
            let worker = Worker::new(
                number,
                poll,
                &server.listeners,
                settings,
                Context::new(
                    Arc::clone(handler),
                    Arc::clone(&server.counters),
                    settings.deadlines,
                ),
                Arc::clone(&server.crowd),
            )?;
            let counters = Arc::clone(&server.counters);
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || work(worker, &counters))?;
            server.threads.push(thread);
        }
        Ok(server)
    }

    /// What has been counted so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What asks each worker for something at `path`.
    #[must_use]
    pub fn probe(&self, path: &str) -> Probe {
        Probe::new(Arc::clone(&self.crowd), path)
    }

    /// What tells whether the workers' loops run.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat::new(Arc::clone(&self.crowd))
    }

    /// Stops accepting, lets the answers in progress finish for
    /// [`Deadlines::stop`], and returns when all workers have ended.
    pub fn stop(mut self) {
        self.listeners.clear();
        self.crowd.stop();
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
        let run = || {
            worker.recover();
            worker.run()
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                error!("a worker cannot poll: {error}");
                thread::sleep(Duration::from_secs(1));
            }
            Err(_) => {
                counters.panics.increment();
            }
        }
    }
}

#[cfg(test)]
mod tests;
