//! One worker: a poll over the shared listeners and its own connections.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::accept::{Accepted, Acceptors, EMFILE_BACKOFF};
use super::admission::{Admission, ConnectionPermit, WAKER};
use super::connection::{Connection, Next};
use super::context::{Context, Holding};
use super::handle::{Command, ConnectionWakers, WorkerHandle};
use super::listener::{Listener, Stream};
use super::settings::{ACCEPT_BATCH, Settings};
use super::table::{ConnectionTable, Entry};
use crate::client::Peer;

/// Events taken from the poll at a time, so that those of new connections are
/// not far behind those of thousands of busy ones.
const EVENTS: usize = 1024;

/// Turns given from the run queue before events and new connections are looked
/// at again. A turn of a large JSON body takes half a millisecond, so these
/// take 2 ms at most; a look costs a microsecond.
const RUN_QUEUE_BATCH: usize = 4;

/// Time between two checks of deadlines. They visit all connections, which
/// takes tens of microseconds.
const CHECK_PERIOD: Duration = Duration::from_millis(100);

/// One worker.
pub(super) struct Worker {
    index: usize,
    poll: Poll,
    acceptors: Acceptors,
    table: ConnectionTable,
    /// The most that the buffers of its connections may take, in bytes.
    buffer_limit: usize,
    admission: Arc<Admission>,
    workers: Arc<[WorkerHandle]>,
    context: Context,
    /// Connections that have more to do, in the order of their turns.
    run_queue: VecDeque<Token>,
    next_check: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        index: usize,
        poll: Poll,
        listeners: &[Listener],
        settings: &Settings,
        mut context: Context,
        admission: Arc<Admission>,
        workers: Arc<[WorkerHandle]>,
    ) -> io::Result<Self> {
        let wakers = ConnectionWakers::new(Arc::clone(&workers), index);
        context.holding = Holding::new(wakers, settings);
        Ok(Self {
            index,
            acceptors: Acceptors::new(listeners, poll.registry())?,
            poll,
            table: ConnectionTable::default(),
            buffer_limit: settings.buffer_limit(),
            admission,
            workers,
            context,
            run_queue: VecDeque::new(),
            next_check: None,
        })
    }

    /// Works until told to stop.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        self.context.update_clock();
        self.handle_commands();
        loop {
            self.accept();
            self.check_deadlines();
            if self.is_drained() && self.workers[self.index].close() {
                return Ok(());
            }
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.workers[self.index].count_iteration();
            self.context.update_clock();
            for event in &events {
                self.on_event(event);
            }
            self.drive_queue();
        }
    }

    /// Starts over after a panic: all that may be half-done is dropped.
    pub(super) fn recover(&mut self) {
        self.table.clear();
        self.run_queue.clear();
        self.acceptors.set_all_ready();
        self.acceptors.restore_spare();
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.run_queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.context.now;
        let accept = self.acceptors.next_accept(now);
        let times = [self.next_check, self.stop_by(), accept];
        let first = times.into_iter().flatten().min();
        first.map(|at| at.saturating_duration_since(now))
    }

    /// Serves a new connection at once, and puts any other at the end of the run
    /// queue.
    fn on_event(&mut self, event: &Event) {
        let token = event.token();
        if token == WAKER {
            return self.handle_commands();
        }
        if token.0 < self.acceptors.len() {
            return self.acceptors.set_ready(token.0);
        }
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        entry.connection.set_readiness(event.into());
        if entry.goes_first() {
            self.drive(token);
        } else if entry.set_queued() {
            self.run_queue.push_back(token);
        }
    }

    /// Has a connection with a held request looked at.
    fn resume(&mut self, token: Token) {
        if self.table.get_mut(token).is_some_and(Entry::set_queued) {
            self.run_queue.push_back(token);
        }
    }

    fn drive_queue(&mut self) {
        let mut turns = 0;
        while turns < RUN_QUEUE_BATCH {
            let Some(token) = self.run_queue.pop_front() else {
                return;
            };
            // One that was closed while it was queued takes nobody's turn.
            turns += usize::from(self.drive(token));
        }
    }

    fn drive(&mut self, token: Token) -> bool {
        self.run_connection(token, Connection::drive)
    }

    /// Gives a connection its turn and does what follows from it; false if it is
    /// closed already.
    fn run_connection(
        &mut self,
        token: Token,
        work: impl FnOnce(&mut Connection<Stream>, &mut Context) -> Next,
    ) -> bool {
        let context = &mut self.context;
        context.holding.token = token;
        let now = context.now;
        let mut deadline = now;
        let next = self.table.run(token, now, |connection| {
            let next = work(connection, context);
            deadline = connection.deadline(context);
            next
        });
        match next {
            Some(Next::Reschedule) => self.run_queue.push_back(token),
            Some(Next::AwaitIo) => {}
            Some(Next::Close) => return true,
            None => return false,
        }
        if self.next_check.is_none_or(|check| deadline < check) {
            self.next_check = Some(deadline);
        }
        while self.table.buffered() > self.buffer_limit {
            let Some(largest) = self.table.largest() else {
                break;
            };
            self.evict(largest);
        }
        true
    }

    fn check_deadlines(&mut self) {
        let now = self.context.now;
        if self.next_check.is_none_or(|check| now < check) {
            return;
        }
        let (due, next) = self.table.due(&self.context, ACCEPT_BATCH);
        // Thousands may be due at once; others have turns in between.
        let is_overdue = next.is_some_and(|next| next <= now);
        let earliest = if is_overdue { now } else { now + CHECK_PERIOD };
        self.next_check = next.map(|next| next.max(earliest));
        for token in due {
            self.run_connection(token, Connection::expire);
        }
    }

    /// Accepts a batch of connections from each listener.
    fn accept(&mut self) {
        for index in 0..self.acceptors.len() {
            for _ in 0..ACCEPT_BATCH {
                match self.acceptors.accept(index, self.context.now) {
                    Accepted::Connection(stream, peer) => self.admit(stream, peer),
                    Accepted::LastFd(stream, peer) => {
                        self.evict_idle();
                        self.admit(stream, peer);
                        self.acceptors.restore_spare();
                    }
                    Accepted::NeedsFd if self.evict_idle() => self.acceptors.restore_spare(),
                    Accepted::NeedsFd => self.acceptors.back_off(index, self.context.now),
                    Accepted::Nothing => break,
                }
            }
        }
    }

    /// Admits a connection, here or on a worker that has fewer.
    fn admit(&mut self, stream: Stream, peer: Peer) {
        let now = self.context.now;
        let (permit, evicted) = self.admission.admit(self.index, peer, now);
        match evicted {
            Some(evicted) if evicted.worker == self.index => {
                self.close_evicted(evicted.token);
            }
            // A worker that has ended has closed all.
            Some(evicted) => {
                let command = Command::Close(evicted.token);
                let _ = self.workers[evicted.worker].send(command);
            }
            None => {}
        }
        let worker = permit.worker();
        if worker == self.index {
            return self.register(stream, peer, Some(permit));
        }
        let command = Command::Serve {
            stream,
            peer,
            permit: Some(permit),
        };
        if let Err(Command::Serve {
            stream,
            peer,
            permit,
        }) = self.workers[worker].send(command)
        {
            self.register(stream, peer, permit);
        }
    }

    fn register(&mut self, mut stream: Stream, peer: Peer, permit: Option<ConnectionPermit>) {
        let token = match &permit {
            Some(permit) => permit.token(),
            None => self.admission.unused_token(),
        };
        if stream.register(self.poll.registry(), token).is_err() {
            return;
        }
        self.context.counters.accepted.increment();
        let connection = Connection::new(stream, peer, &self.context);
        self.table.insert(token, Entry::new(connection, permit));
        self.drive(token);
    }

    /// Closes the connection whose last answer, or else whose acceptance, is
    /// longest ago, unless that was a moment ago.
    fn evict_idle(&mut self) -> bool {
        let before = self.context.now.checked_sub(EMFILE_BACKOFF);
        let idle = before.and_then(|before| self.admission.evict_idle(self.index, before));
        idle.is_some_and(|token| self.close_evicted(token))
    }

    /// Closes a connection that the accounting gave up. One that another worker
    /// has handed over and that is not here yet is closed when it comes.
    fn close_evicted(&mut self, token: Token) -> bool {
        let closed = self.evict(token);
        if !closed {
            let _ = self.workers[self.index].send(Command::Close(token));
        }
        closed
    }

    /// Closes a connection in favour of others.
    fn evict(&mut self, token: Token) -> bool {
        if let Some(entry) = self.table.get_mut(token) {
            entry.connection.release(&mut self.context);
        }
        let evicted = self.table.remove(token);
        if evicted {
            self.context.counters.evicted.increment();
        }
        evicted
    }

    fn handle_commands(&mut self) {
        while let Some(command) = self.workers[self.index].try_recv() {
            match command {
                Command::Serve {
                    stream,
                    peer,
                    permit,
                } => self.register(stream, peer, permit),
                Command::Close(token) => {
                    self.evict(token);
                }
                Command::Resume(token) => self.resume(token),
                Command::Stop => self.drain(),
            }
        }
    }

    /// Begins to stop. Keep-alive connections may be used again at any moment
    /// and would lose that request, so each gets one more response, which
    /// announces the close.
    fn drain(&mut self) {
        self.context.stopping_since = Some(self.context.now);
        self.acceptors.set_all_ready();
        for token in self.table.tokens() {
            if let Some(entry) = self.table.get_mut(token) {
                entry.connection.mark_readable();
            }
            self.drive(token);
        }
    }

    /// When, during a stop, all connections are closed.
    fn stop_by(&self) -> Option<Instant> {
        Some(self.context.stopping_since? + self.context.deadlines.stop)
    }

    /// Whether the worker was told to stop, and no connection is left or the
    /// time is up. It closes its handles to the listeners once no connection
    /// waits there, or after the time for first requests.
    fn is_drained(&mut self) -> bool {
        let now = self.context.now;
        let Some(stop) = self.context.stopping_since else {
            return false;
        };
        let none_waits = self.acceptors.next_accept(now).is_none();
        if none_waits || now >= stop + self.context.deadlines.stop_silent {
            self.acceptors.clear();
        }
        let is_idle = self.acceptors.len() == 0 && self.table.is_empty();
        is_idle || self.stop_by().is_some_and(|at| now >= at)
    }
}
