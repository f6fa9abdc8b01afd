//! Letting connections in, and out when there are too many.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use log::warn;
use mio::Token;
use rustix::io::Errno;

use super::{WAKER, Worker};
use crate::client::Peer;
use crate::http::Handler;
use crate::server::connection::Connection;
use crate::server::crowd::Errand;
use crate::server::fds::reserve_fd;
use crate::server::listener::{Acceptor, Stream};

/// How many connections more than its share a worker may have and still
/// accept.
const SLACK: usize = 16;

/// The rest from accepting when the system has no descriptor to give and we
/// have none to give up; also how long a connection is left alone then, for
/// its request to arrive.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a worker with more than its share of the connections leaves a
/// newcomer to the others, who were woken too.
const COURTESY: Duration = Duration::from_millis(2);

/// How long newcomers are let in before those at hand have turns again. Under
/// a flood of connections the kernel's queue is what a phone waits in longest.
const ADMISSION: Duration = Duration::from_millis(4);

/// A listener as one worker sees it.
pub(super) struct Door {
    pub(super) acceptor: Acceptor,
    /// There may be connections to accept: edges come only once.
    pub(super) ready: bool,
    pub(super) paused_until: Option<Instant>,
}

impl<H: Handler> Worker<H> {
    /// Lets in those who wait at a door, for a while.
    pub(super) fn accept(&mut self, index: usize) {
        if !self.doors[index].ready {
            return;
        }
        let start = Instant::now();
        loop {
            let crowded =
                !self.context.stopping && self.crowd.is_share_exceeded(self.pool.len(), SLACK);
            let door = &mut self.doors[index];
            if !door.ready || door.paused_until.is_some_and(|at| self.context.now < at) {
                return;
            }
            let rested = door.paused_until.take().is_some();
            if crowded && !rested {
                door.paused_until = Some(self.context.now + COURTESY);
                return;
            }
            match door.acceptor.accept() {
                Ok((stream, peer)) => {
                    self.admit(stream, peer, false);
                    self.run_errands();
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => door.ready = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => self.accept_failed(index, &error),
                },
            }
            if start.elapsed() >= ADMISSION {
                return;
            }
        }
    }

    /// Out of descriptors, the kernel fails before it looks whether anybody
    /// waits. With the spare one we see, and only for a newcomer is the
    /// connection closed that is idle longest.
    fn accept_failed(&mut self, index: usize, error: &io::Error) {
        self.warn(error);
        let full = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        let full = full.map(|errno| Some(errno.raw_os_error()));
        let full = full.contains(&error.raw_os_error());
        if !full || (self.spare.take().or_else(reserve_fd).is_none() && !self.evict_idle()) {
            self.doors[index].paused_until = Some(self.context.now + PAUSE);
            return;
        }
        match self.doors[index].acceptor.accept() {
            Ok((stream, peer)) => {
                self.evict_idle();
                self.admit(stream, peer, false);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.doors[index].ready = false;
            }
            Err(_) => self.doors[index].paused_until = Some(self.context.now + PAUSE),
        }
        self.spare = reserve_fd();
    }

    fn warn(&self, error: &io::Error) {
        if self.crowd.may_warn(self.context.now) {
            warn!("cannot accept a connection: {error} (without descriptors idle ones make room)");
        }
    }

    /// Takes a connection in, and has others go for it unless it is a probe,
    /// which costs nobody a place.
    fn admit(&mut self, mut stream: Stream, peer: Peer, probe: bool) {
        let token = self.unused_token();
        // Taken before it is counted: two workers may see the last place.
        let now = self.context.now;
        let place = self.crowd.take_place(self.number, token, peer, now);
        if !probe {
            while self.crowd.is_too_large() && self.make_room() {}
        }
        if stream.register(self.poll.registry(), token).is_err() {
            return;
        }
        let counters = self.context.counters();
        counters.accepted.increment();
        let connection = Connection::new(stream, peer, &self.context);
        self.pool.insert(token, connection, place);
        self.drive(token, None);
    }

    /// Has the connection closed that has been idle for longest of all.
    fn make_room(&mut self) -> bool {
        let since = self.pool.longest_idle().map(|(_, since)| since);
        self.crowd.close_longest(self.number, since) || self.evict_longest()
    }

    fn evict_longest(&mut self) -> bool {
        let longest = self.pool.longest_idle();
        longest.is_some_and(|(token, _)| self.evict(token))
    }

    /// The same, if it has been waiting for a moment.
    fn evict_idle(&mut self) -> bool {
        let before = self.context.now.checked_sub(PAUSE);
        let longest = self.pool.longest_idle();
        let idle = longest.filter(|(_, since)| before.is_some_and(|before| *since <= before));
        idle.is_some_and(|(token, _)| self.evict(token))
    }

    /// Closes a connection in favour of others.
    pub(super) fn evict(&mut self, token: Token) -> bool {
        let evicted = self.pool.remove(token);
        if evicted {
            let counters = self.context.counters();
            counters.evicted.increment();
        }
        evicted
    }

    /// Does what other workers have asked this one to.
    pub(super) fn run_errands(&mut self) {
        while let Some(errand) = self.crowd.take_errand(self.number) {
            match errand {
                Errand::CloseLongest(eviction) => {
                    self.evict_longest();
                    drop(eviction);
                }
                Errand::Close(token) => {
                    self.evict(token);
                }
                Errand::Serve(stream) => self.admit(stream, Peer::Local, true),
            }
        }
    }

    /// Tokens are not used twice, lest an event of a closed connection reach
    /// another; on a 32-bit machine they wrap.
    fn unused_token(&mut self) -> Token {
        loop {
            self.last_token = self.last_token.wrapping_add(1);
            let token = Token(self.last_token);
            let taken = token == WAKER || token.0 < self.doors.len();
            if !taken && !self.pool.contains(token) {
                return token;
            }
        }
    }
}
