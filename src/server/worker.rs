//! One worker: a poll over the shared listeners and its own connections.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;
use log::warn;
use lru::LruCache;
use mio::event::Event;
use mio::{Events, Poll, Token, Waker};
use rustix::io::Errno;

use super::connection::{Connection, Context, Next, Place};
use super::listener::{Acceptor, Listener, Stream};
use super::{Counters, Settings};
use crate::http::{Handler, Peer};

/// Connections accepted before those at hand get a turn, and before another
/// worker has had its chance at the rest.
const ACCEPT_BATCH: usize = 16;

/// Batches that empty a listener's queue when the server stops.
const BACKLOG_BATCHES: usize = 64;

/// Bytes a read can bring: a request with its body in one go.
pub(super) const INPUT: usize = 16 * 1024;

/// The rest from accepting when the system has no descriptor to give and we
/// have none to give up; also how long a connection is left alone then, for
/// its request to arrive.
const PAUSE: Duration = Duration::from_millis(20);

/// Deadlines are looked at no more often than this.
const CHECK_PERIOD: Duration = Duration::from_millis(100);

/// Time between two warnings about the same thing.
const WARNING_PERIOD: Duration = Duration::from_secs(60);

const WAKER: Token = Token(usize::MAX);

pub(super) struct Worker<H> {
    poll: Poll,
    doors: Vec<Door>,
    /// The one whose last answer, or arrival, is longest ago comes first.
    connections: LruCache<Token, Connection>,
    max_connections: usize,
    /// A worker's part of them.
    share: usize,
    shared: Arc<Shared>,
    /// A descriptor to accept with when there is no other.
    spare: Option<File>,
    context: Context<H>,
    /// The second that the context's date is of.
    second: u64,
    again: Vec<Token>,
    last_token: usize,
    next_check: Option<Instant>,
    stop_by: Option<Instant>,
}

/// What all workers know of each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Told to stop.
    pub(super) stop: AtomicBool,
    /// Connections held by all.
    open: Arc<AtomicUsize>,
    /// When the last warning about descriptors was logged.
    warned: Mutex<Option<Instant>>,
}

/// A listener as one worker sees it.
struct Door {
    acceptor: Acceptor,
    /// There may be connections to accept: edges come only once.
    ready: bool,
    paused_until: Option<Instant>,
}

impl<H: Handler> Worker<H> {
    pub(super) fn new(
        listeners: &[Listener],
        settings: &Settings,
        handler: Arc<H>,
        counters: Arc<Counters>,
        shared: Arc<Shared>,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut doors = Vec::with_capacity(listeners.len());
        for (index, listener) in listeners.iter().enumerate() {
            let mut acceptor = listener.share()?;
            acceptor.register(poll.registry(), Token(index))?;
            doors.push(Door {
                acceptor,
                ready: true,
                paused_until: None,
            });
        }
        let worker = Self {
            poll,
            last_token: doors.len(),
            doors,
            connections: LruCache::unbounded(),
            max_connections: settings.max_connections,
            share: (settings.max_connections / settings.workers).max(1),
            shared,
            spare: spare(),
            context: Context {
                handler,
                counters,
                deadlines: settings.deadlines,
                now: Instant::now(),
                date: String::new(),
                stopping: false,
                input: vec![0; INPUT].into(),
                output: Vec::new(),
            },
            second: u64::MAX,
            again: Vec::new(),
            next_check: None,
            stop_by: None,
        };
        Ok((worker, waker))
    }

    /// Works until told to stop.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        self.wake();
        loop {
            for index in 0..self.doors.len() {
                self.accept(index);
            }
            self.check_deadlines();
            if self.shared.stop.load(Ordering::Acquire) && self.retire() {
                return Ok(());
            }
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.wake();
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(index) if index < self.doors.len() => self.doors[index].ready = true,
                    token => self.drive(token, Some(event)),
                }
            }
            for token in std::mem::take(&mut self.again) {
                if let Some(connection) = self.connections.peek_mut(&token) {
                    connection.unqueue();
                }
                self.drive(token, None);
            }
        }
    }

    /// Starts over after a panic: all that may be half-done goes.
    pub(super) fn recover(&mut self) {
        self.connections.clear();
        self.again.clear();
        for door in &mut self.doors {
            door.ready = true;
        }
    }

    fn wake(&mut self) {
        self.context.now = Instant::now();
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if second != self.second {
            self.second = second;
            self.context.date = HttpDate::from(now).to_string();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let now = self.context.now;
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let doors = self.doors.iter().filter(|door| door.ready);
        doors
            .map(|door| door.paused_until.unwrap_or(now))
            .chain(self.next_check)
            .chain(self.stop_by)
            .min()
            .map(|at| at.saturating_duration_since(now))
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPT_BATCH {
            // When all places are taken and not by us, another worker has
            // more than its part; it was woken too and makes room.
            let full = self.open() >= self.max_connections;
            let anothers = full && self.connections.len() < self.share;
            let door = &mut self.doors[index];
            if !door.ready || door.paused_until.is_some_and(|at| self.context.now < at) {
                return;
            }
            door.paused_until = None;
            if anothers {
                door.paused_until = Some(self.context.now + PAUSE);
                return;
            }
            match door.acceptor.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => door.ready = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => self.accept_failed(index, &error),
                },
            }
        }
    }

    /// Connections held by all workers.
    fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Out of descriptors, the kernel fails before it looks whether anybody
    /// waits. With the spare one we see, and only for a newcomer is the
    /// connection closed that is idle longest.
    fn accept_failed(&mut self, index: usize, error: &io::Error) {
        self.warn(error);
        let full = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        let full = full.map(|errno| Some(errno.raw_os_error()));
        let spared = self.spare.take().or_else(spare).is_some() || self.evict_idle();
        if !full.contains(&error.raw_os_error()) || !spared {
            self.doors[index].paused_until = Some(self.context.now + PAUSE);
            return;
        }
        match self.doors[index].acceptor.accept() {
            Ok((stream, peer)) => {
                self.evict_idle();
                self.admit(stream, peer);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.doors[index].ready = false;
            }
            Err(_) => self.doors[index].paused_until = Some(self.context.now + PAUSE),
        }
        self.spare = spare();
    }

    fn warn(&self, error: &io::Error) {
        let now = self.context.now;
        let warned = self.shared.warned.lock();
        let mut warned = warned.unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| now.duration_since(at) > WARNING_PERIOD) {
            *warned = Some(now);
            warn!("cannot accept a connection: {error}; out of descriptors, idle ones make room");
        }
    }

    fn admit(&mut self, mut stream: Stream, peer: Peer) {
        // Taken before it is counted: two workers may see the last place.
        let place = Place::take(&self.shared.open);
        while self.open() > self.max_connections && self.evict() {}
        let token = self.unused_token();
        if stream.register(self.poll.registry(), token).is_err() {
            return;
        }
        let counters = &self.context.counters;
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(stream, peer, place, self.context.now);
        self.connections.put(token, connection);
        self.drive(token, None);
    }

    /// Closes the connection whose last answer is longest ago.
    fn evict(&mut self) -> bool {
        let evicted = self.connections.pop_lru().is_some();
        if evicted {
            let counters = &self.context.counters;
            counters.evicted.fetch_add(1, Ordering::Relaxed);
        }
        evicted
    }

    /// The same, if it has been waiting for a moment.
    fn evict_idle(&mut self) -> bool {
        let before = self.context.now.checked_sub(PAUSE);
        let idle = self.connections.peek_lru();
        idle.is_some_and(|(_, connection)| connection.waits_since(before)) && self.evict()
    }

    /// Tokens are not used twice, lest an event of a closed connection reach
    /// another; on a 32-bit machine they wrap.
    fn unused_token(&mut self) -> Token {
        loop {
            self.last_token = self.last_token.wrapping_add(1);
            let token = Token(self.last_token);
            let taken = token == WAKER || token.0 < self.doors.len();
            if !taken && !self.connections.contains(&token) {
                return token;
            }
        }
    }

    fn drive(&mut self, token: Token, event: Option<&Event>) {
        let Some(connection) = self.connections.peek_mut(&token) else {
            return;
        };
        if let Some(event) = event {
            connection.note(event);
        }
        let next = connection.drive(&mut self.context);
        self.settle(token, &next);
    }

    fn settle(&mut self, token: Token, next: &Next) {
        let Some(connection) = self.connections.peek_mut(&token) else {
            return;
        };
        match next {
            Next::Close => {
                self.connections.pop(&token);
                return;
            }
            Next::Again if connection.queue() => self.again.push(token),
            Next::Again | Next::Wait => {}
        }
        let deadline = connection.deadline(&self.context.deadlines);
        if connection.take_answered() {
            self.connections.promote(&token);
        }
        if self.next_check.is_none_or(|check| deadline < check) {
            self.next_check = Some(deadline);
        }
    }

    fn check_deadlines(&mut self) {
        let now = self.context.now;
        if self.next_check.is_none_or(|check| now < check) {
            return;
        }
        let deadlines = self.context.deadlines;
        let due: Vec<Token> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.deadline(&deadlines) <= now)
            .map(|(token, _)| *token)
            .collect();
        for token in due {
            if let Some(connection) = self.connections.peek_mut(&token) {
                let next = connection.expire(&mut self.context);
                self.settle(token, &next);
            }
        }
        let soonest = self
            .connections
            .iter()
            .map(|(_, connection)| connection.deadline(&deadlines))
            .min();
        self.next_check = soonest.map(|at| at.max(now + CHECK_PERIOD));
    }

    /// Takes no new connections and closes those that owe nothing; true when
    /// none is left or the time is up.
    fn retire(&mut self) -> bool {
        if self.stop_by.is_none() {
            self.stop_by = Some(self.context.now + self.context.deadlines.stop);
            self.context.stopping = true;
            for index in 0..self.doors.len() {
                self.doors[index].ready = true;
                // A door that is paused stays ready, hence the bound.
                for _ in 0..BACKLOG_BATCHES {
                    self.accept(index);
                }
            }
            self.doors.clear();
            let all: Vec<Token> = self.connections.iter().map(|(token, _)| *token).collect();
            for token in all {
                if let Some(connection) = self.connections.peek_mut(&token) {
                    connection.suspect();
                }
                self.drive(token, None);
            }
        }
        let late = self.stop_by.is_some_and(|at| self.context.now >= at);
        late || self.connections.is_empty()
    }
}

/// A descriptor of no other use.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
