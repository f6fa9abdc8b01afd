//! One worker: a poll over the shared listeners and its own connections.

mod doors;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use httpdate::HttpDate;
use mio::event::Event;
use mio::{Events, Poll, Token};

use super::Settings;
use super::connection::{Connection, Context, Next};
use super::crowd::Crowd;
use super::fds::reserve_fd;
use super::listener::{Listener, Stream};
use super::pool::Pool;
use crate::clock;
use crate::http::Handler;
use doors::Door;

/// Batches that empty a listener's queue when the server stops.
const BACKLOG_BATCHES: usize = 64;

/// Deadlines are looked at no more often than this, unless some are overdue.
const CHECK_PERIOD: Duration = Duration::from_millis(100);

/// Connections whose time is up that are seen to before the others have turns
/// again: thousands may have begun a request at once.
const EXPIRIES: usize = 64;

/// How long used connections have turns before newcomers do: what a thousand
/// busy connections can keep a phone waiting.
const SLICE: Duration = Duration::from_millis(1);

/// How long those who wait for a turn have theirs.
const QUEUE: Duration = Duration::from_millis(2);

/// How long a connection that was never answered is served before others; one
/// that sends its request drop by drop loses this.
const NEW: Duration = Duration::from_secs(1);

/// Bytes such a connection may send and still be served before others: a first
/// request is smaller, and larger ones cost more to answer.
const NEW_BYTES: usize = 4 * 1024;

const SECOND: Duration = Duration::from_secs(1);

/// How long a newcomer may be silent when the server stops.
const GREETING: Duration = Duration::from_millis(200);

pub(super) const WAKER: Token = Token(usize::MAX);

pub(super) struct Worker<H> {
    number: usize,
    poll: Poll,
    doors: Vec<Door>,
    pool: Pool,
    /// Bytes that the buffers of its connections may take together.
    buffers: usize,
    crowd: Arc<Crowd>,
    /// A descriptor to accept with when there is no other.
    spare: Option<File>,
    context: Context<H>,
    /// When the context's date is to be read anew.
    next_second: Instant,
    /// Connections that are to have another turn without an event.
    queue: VecDeque<Token>,
    last_token: usize,
    next_check: Option<Instant>,
    stop_by: Option<Instant>,
    /// When, during a stop, those go that have asked for nothing yet.
    silent_by: Option<Instant>,
}

impl<H: Handler> Worker<H> {
    pub(super) fn new(
        number: usize,
        poll: Poll,
        listeners: &[Listener],
        settings: &Settings,
        context: Context<H>,
        crowd: Arc<Crowd>,
    ) -> io::Result<Self> {
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
        Ok(Self {
            number,
            poll,
            last_token: doors.len(),
            doors,
            pool: Pool::new(),
            buffers: settings.buffers(),
            crowd,
            spare: reserve_fd(),
            context,
            next_second: Instant::now(),
            queue: VecDeque::new(),
            next_check: None,
            stop_by: None,
            silent_by: None,
        })
    }

    /// Works until told to stop.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        self.wake();
        loop {
            for index in 0..self.doors.len() {
                // Its event may wait behind those of all that are busy.
                self.doors[index].ready |= !self.queue.is_empty();
                self.accept(index);
            }
            self.run_errands();
            self.check_deadlines();
            if self.crowd.is_stopping() && self.retire() {
                return Ok(());
            }
            let longest = self.pool.longest_idle().map(|(_, since)| since);
            self.crowd.publish(self.number, longest);
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.crowd.beat(self.number);
            self.wake();
            for (place, event) in events.iter().enumerate() {
                match event.token() {
                    WAKER => {}
                    Token(index) if index < self.doors.len() => self.doors[index].ready = true,
                    token => self.hear(token, event, place == 0),
                }
            }
            if !self.queue.is_empty() {
                self.drive_queue();
            }
        }
    }

    /// Gives those who wait their turns: one at least, however slow the
    /// machine; and a time of their own, or a stream of new ones would leave
    /// them none.
    fn drive_queue(&mut self) {
        let start = Instant::now();
        while let Some(token) = self.queue.pop_front() {
            if let Some(connection) = self.pool.get_mut(token) {
                connection.unqueue();
            }
            self.drive(token, None);
            if start.elapsed() >= QUEUE {
                return;
            }
        }
    }

    /// Gives a connection its turn, or a place in the queue if it has had
    /// turns before and others wait. The first event needs no look at the
    /// clock, and mostly it is the only one.
    fn hear(&mut self, token: Token, event: &Event, first: bool) {
        let crowded = !self.queue.is_empty() || (!first && self.is_slice_over());
        if !crowded || self.is_new(token) {
            self.drive(token, Some(event));
        } else if let Some(connection) = self.pool.get_mut(token) {
            note(connection, event);
            if connection.queue() {
                self.queue.push_back(token);
            }
        }
    }

    fn is_new(&self, token: Token) -> bool {
        self.pool.fresh(token).is_some_and(|connection| {
            connection.received() < NEW_BYTES
                && self.context.now.duration_since(connection.since()) < NEW
        })
    }

    fn is_slice_over(&self) -> bool {
        self.context.now.elapsed() >= SLICE
    }

    /// Starts over, as after a panic: all that may be half-done goes.
    pub(super) fn recover(&mut self) {
        self.pool.clear();
        self.queue.clear();
        for door in &mut self.doors {
            door.ready = true;
        }
    }

    fn wake(&mut self) {
        self.context.now = Instant::now();
        // The wall clock is read but once a second.
        if self.context.now >= self.next_second {
            let now = clock::system_time();
            let part = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            let rest = SECOND - Duration::from_nanos(part.subsec_nanos().into());
            self.next_second = self.context.now + rest;
            self.context.date = HttpDate::from(now).to_string();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let now = self.context.now;
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let doors = self.doors.iter().filter(|door| door.ready);
        doors
            .map(|door| door.paused_until.unwrap_or(now))
            .chain(self.next_check)
            .chain(self.stop_by)
            .chain(self.silent_by)
            .min()
            .map(|at| at.saturating_duration_since(now))
    }

    fn drive(&mut self, token: Token, event: Option<&Event>) {
        let Some(connection) = self.pool.get_mut(token) else {
            return;
        };
        if let Some(event) = event {
            note(connection, event);
        }
        let next = connection.drive(&mut self.context);
        let deadline = connection.deadline(&self.context.deadlines);
        self.settle(token, next, deadline);
    }

    fn settle(&mut self, token: Token, next: Next, deadline: Instant) {
        if next == Next::Close {
            self.pool.remove(token);
            return;
        }
        let queued = self.pool.note(token, next, self.context.now);
        if queued {
            self.queue.push_back(token);
        }
        if self.next_check.is_none_or(|check| deadline < check) {
            self.next_check = Some(deadline);
        }
        if self.pool.buffered() > self.buffers {
            // A quarter of it, so that this is not done for each.
            for token in self.pool.largest(self.buffers / 4 * 3) {
                self.evict(token);
            }
        }
    }

    fn check_deadlines(&mut self) {
        let now = self.context.now;
        if self.next_check.is_none_or(|check| now < check) {
            return;
        }
        let deadlines = self.context.deadlines;
        let due: Vec<Token> = self
            .pool
            .iter()
            .filter(|(_, connection)| connection.deadline(&deadlines) <= now)
            .map(|(token, _)| token)
            .take(EXPIRIES)
            .collect();
        let overdue = due.len() == EXPIRIES;
        for token in due {
            if let Some(connection) = self.pool.get_mut(token) {
                let next = connection.expire(&mut self.context);
                let deadline = connection.deadline(&deadlines);
                self.settle(token, next, deadline);
            }
        }
        if overdue {
            self.next_check = Some(now);
            return;
        }
        let soonest = self
            .pool
            .iter()
            .map(|(_, connection)| connection.deadline(&deadlines))
            .min();
        self.next_check = soonest.map(|at| at.max(now + CHECK_PERIOD));
    }

    /// Takes no new connections; true when none is left or the time is up.
    /// Those that were used may be used again any moment, and would lose that
    /// request: each gets one more answer, and hears in it that it is the
    /// last. The request of a newcomer is likely on its way.
    fn retire(&mut self) -> bool {
        if self.stop_by.is_none() {
            self.stop_by = Some(self.context.now + self.context.deadlines.stop);
            self.silent_by = Some(self.context.now + GREETING);
            self.context.stopping = true;
            for index in 0..self.doors.len() {
                self.doors[index].ready = true;
                // A door that is paused stays ready, hence the bound.
                for _ in 0..BACKLOG_BATCHES {
                    self.accept(index);
                }
            }
            self.doors.clear();
            for token in self.pool.tokens() {
                if let Some(connection) = self.pool.get_mut(token) {
                    connection.suspect();
                }
                self.drive(token, None);
            }
        }
        if self.silent_by.is_some_and(|at| self.context.now >= at) {
            self.silent_by = None;
            self.pool.remove_silent();
        }
        let late = self.stop_by.is_some_and(|at| self.context.now >= at);
        late || self.pool.len() == 0
    }
}

fn note(connection: &mut Connection<Stream>, event: &Event) {
    let end = event.is_read_closed() || event.is_error();
    connection.note(event.is_readable(), end || event.is_priority());
}
