//! Worker handles: how other threads reach a worker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker as TaskWaker};

use log::error;
use mio::{Token, Waker};

use super::admission::ConnectionPermit;
use super::listener::Stream;
use crate::client::Peer;

/// A command to a worker.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve a connection. A probe's has no permit, as it is in addition to
    /// the connections of clients.
    Serve {
        stream: Stream,
        peer: Peer,
        permit: Option<ConnectionPermit>,
    },
    /// Close a connection that is evicted.
    Close(Token),
    /// See whether a held request can be answered.
    Resume(Token),
    /// Stop accepting, finish and end.
    Stop,
}

/// A worker as seen by other threads.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    waker: Waker,
    /// Iterations of the event loop, see [`Heartbeat`](super::Heartbeat).
    iterations: AtomicU64,
    /// None once the worker has ended.
    commands: Mutex<Option<VecDeque<Command>>>,
}

impl WorkerHandle {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            waker,
            iterations: AtomicU64::new(0),
            commands: Mutex::new(Some(VecDeque::new())),
        }
    }

    /// Sends a command, or gives it back if the worker has ended.
    pub(super) fn send(&self, command: Command) -> Result<(), Command> {
        match &mut *self.commands() {
            Some(commands) => commands.push_back(command),
            None => return Err(command),
        }
        self.wake();
        Ok(())
    }

    /// The next command, if there is one.
    pub(super) fn try_recv(&self) -> Option<Command> {
        self.commands().as_mut()?.pop_front()
    }

    /// Closes the queue unless there are commands in it.
    pub(super) fn close(&self) -> bool {
        let mut commands = self.commands();
        let empty = commands.as_ref().is_none_or(VecDeque::is_empty);
        if empty {
            *commands = None;
        }
        empty
    }

    /// Whether a probe waits to be served.
    pub(super) fn is_probe_pending(&self) -> bool {
        let commands = self.commands();
        let mut commands = commands.iter().flatten();
        commands.any(|command| matches!(command, Command::Serve { permit: None, .. }))
    }

    /// Makes the worker's loop iterate.
    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            error!("cannot wake a worker: {error}");
        }
    }

    /// Counts an iteration of the worker's loop.
    pub(super) fn count_iteration(&self) {
        self.iterations.fetch_add(1, Ordering::Relaxed);
    }

    /// Iterations of the worker's loop so far.
    pub(super) fn iterations(&self) -> u64 {
        self.iterations.load(Ordering::Relaxed)
    }

    fn commands(&self) -> MutexGuard<'_, Option<VecDeque<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes wakers for the connections of one worker.
#[derive(Clone, Debug)]
pub(super) struct ConnectionWakers {
    workers: Arc<[WorkerHandle]>,
    worker: usize,
}

impl ConnectionWakers {
    pub(super) fn new(workers: Arc<[WorkerHandle]>, worker: usize) -> Self {
        Self { workers, worker }
    }

    /// The waker of a connection.
    pub(super) fn waker(&self, token: Token) -> TaskWaker {
        let wakers = self.clone();
        Arc::new(ConnectionWaker { wakers, token }).into()
    }
}

/// Wakes a connection by a [`Command::Resume`].
struct ConnectionWaker {
    wakers: ConnectionWakers,
    token: Token,
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        let worker = &self.wakers.workers[self.wakers.worker];
        // One that has ended holds nothing.
        let _ = worker.send(Command::Resume(self.token));
    }
}
