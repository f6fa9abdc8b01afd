//! The network: listeners, workers, connections, deadlines. It knows HTTP and
//! one [`Handler`], and no protocol above.

mod accept;
mod admission;
mod connection;
mod context;
mod exchange;
mod fds;
mod handle;
mod heartbeat;
mod listener;
mod memory;
mod probe;
mod settings;
mod stream;
mod table;
mod worker;

pub use connection::{Connection, Next};
pub use context::Context;
pub use fds::{FdBudget, reserve_fds};
pub use heartbeat::Heartbeat;
pub use listener::{Address, Listener, Socket};
pub use probe::Probe;
pub use settings::{Deadlines, Settings};
pub use stream::{Readiness, Transport};

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::error;
use mio::{Poll, Waker};

use crate::http::Handler;
use crate::metrics::Counters;
use admission::{Admission, WAKER};
use handle::{Command, WorkerHandle};
use worker::Worker;

/// Worker threads started so far, over all servers, for their names.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// A running server.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    threads: Vec<JoinHandle<()>>,
    admission: Arc<Admission>,
    workers: Arc<[WorkerHandle]>,
    counters: Arc<Counters>,
}

impl Server {
    /// Starts the workers, which count in `counters`; when this returns they
    /// accept.
    ///
    /// # Errors
    /// When a poll, a file descriptor or a thread cannot be had.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "so that an Arc of any handler will do"
    )]
    pub fn start(
        listeners: Vec<Listener>,
        settings: &Settings,
        handler: Arc<dyn Handler>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let polls = (0..settings.workers)
            .map(|_| Poll::new())
            .collect::<io::Result<Vec<_>>>()?;
        let workers = polls
            .iter()
            .map(|poll| Waker::new(poll.registry(), WAKER).map(WorkerHandle::new))
            .collect::<io::Result<Vec<_>>>()?;
        let mut server = Self {
            admission: Arc::new(Admission::new(settings, listeners.len())),
            listeners,
            threads: Vec::new(),
            workers: workers.into(),
            counters,
        };
        for (index, poll) in polls.into_iter().enumerate() {
            let worker = Worker::new(
                index,
                poll,
                &server.listeners,
                settings,
                Context::new(
                    Arc::clone(&handler),
                    Arc::clone(&server.counters),
                    settings.deadlines,
                ),
                Arc::clone(&server.admission),
                Arc::clone(&server.workers),
            )?;
            let counters = Arc::clone(&server.counters);
            let number = THREADS.fetch_add(1, Ordering::Relaxed);
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || run(worker, &counters))?;
            server.threads.push(thread);
        }
        Ok(server)
    }

    /// The server's counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// A probe that sends each worker a request for `path`.
    #[must_use]
    pub fn probe(&self, path: &str) -> Probe {
        Probe::new(Arc::clone(&self.workers), path)
    }

    /// The heartbeat of the workers' loops.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat::new(Arc::clone(&self.workers))
    }

    /// Stops accepting, lets the responses in progress finish for
    /// [`Deadlines::stop`], and returns when all workers have ended.
    pub fn stop(mut self) {
        self.listeners.clear();
        for worker in self.workers.iter() {
            // One that has ended needs no telling.
            let _ = worker.send(Command::Stop);
        }
        for thread in self.threads.drain(..) {
            // A worker's panics are caught on its own thread.
            let _ = thread.join();
        }
    }
}

/// Runs a worker. A panic outside a handler is a defect; it costs the worker
/// its connections and has no further effect.
fn run(mut worker: Worker, counters: &Counters) {
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
