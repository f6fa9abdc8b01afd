//! Accepting connections, and what to do when file descriptors run out.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Once;
use std::time::{Duration, Instant};

use log::warn;
use mio::{Registry, Token};
use rustix::io::Errno;

use super::fds::reserve_fd;
use super::listener::{Acceptor, Listener, Stream};
use crate::client::Peer;

/// Accept back-off after EMFILE or ENFILE. Also how long a connection must
/// have been idle to be closed for its file descriptor: long enough for the
/// first request to arrive.
pub(super) const EMFILE_BACKOFF: Duration = Duration::from_millis(20);

/// The result of an accept.
#[derive(Debug)]
pub(super) enum Accepted {
    /// A connection.
    Connection(Stream, Peer),
    /// A connection that took the spare file descriptor.
    LastFd(Stream, Peer),
    /// A connection may be waiting, but there is no file descriptor for it.
    NeedsFd,
    /// No connection is waiting, or this is a back-off.
    Nothing,
}

/// The listeners as one worker sees them.
#[derive(Debug)]
pub(super) struct Acceptors {
    listeners: Vec<ListenerState>,
    /// A file descriptor to accept with when there is no other. Without one,
    /// the kernel fails before it looks whether a connection is waiting.
    spare: Option<File>,
}

#[derive(Debug)]
struct ListenerState {
    acceptor: Acceptor,
    /// There may be connections to accept: edges come only once.
    ready: bool,
    paused_until: Option<Instant>,
}

impl Acceptors {
    /// Registers each listener with its index as the token.
    pub(super) fn new(listeners: &[Listener], registry: &Registry) -> io::Result<Self> {
        let mut states = Vec::with_capacity(listeners.len());
        for (index, listener) in listeners.iter().enumerate() {
            let mut acceptor = listener.share()?;
            acceptor.register(registry, Token(index))?;
            states.push(ListenerState {
                acceptor,
                ready: true,
                paused_until: None,
            });
        }
        Ok(Self {
            listeners: states,
            spare: reserve_fd(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Closes the worker's handles to the listeners.
    pub(super) fn clear(&mut self) {
        self.listeners.clear();
    }

    /// Records that connections may be waiting.
    pub(super) fn set_ready(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.ready = true;
        }
    }

    pub(super) fn set_all_ready(&mut self) {
        (0..self.len()).for_each(|index| self.set_ready(index));
    }

    /// When to accept next without an event.
    pub(super) fn next_accept(&self, now: Instant) -> Option<Instant> {
        let ready = self.listeners.iter().filter(|listener| listener.ready);
        ready
            .map(|listener| listener.paused_until.unwrap_or(now))
            .min()
    }

    /// Accepts a connection if one is waiting.
    pub(super) fn accept(&mut self, index: usize, now: Instant) -> Accepted {
        let listener = &mut self.listeners[index];
        if !listener.ready || listener.paused_until.is_some_and(|at| now < at) {
            return Accepted::Nothing;
        }
        listener.paused_until = None;
        let error = match listener.accept() {
            Ok(Some((stream, peer))) => return Accepted::Connection(stream, peer),
            Ok(None) => return Accepted::Nothing,
            Err(error) => error,
        };
        if !is_exhausted(&error) {
            listener.back_off(now);
            return Accepted::Nothing;
        }
        warn_of(&error);
        if self.spare.take().or_else(reserve_fd).is_none() {
            return Accepted::NeedsFd;
        }
        let accepted = match listener.accept() {
            Ok(Some((stream, peer))) => return Accepted::LastFd(stream, peer),
            Ok(None) => Accepted::Nothing,
            Err(_) => {
                listener.back_off(now);
                Accepted::Nothing
            }
        };
        self.restore_spare();
        accepted
    }

    /// Opens the spare file descriptor anew if it was used.
    pub(super) fn restore_spare(&mut self) {
        self.spare = self.spare.take().or_else(reserve_fd);
    }

    /// Stops accepting for [`EMFILE_BACKOFF`].
    pub(super) fn back_off(&mut self, index: usize, now: Instant) {
        self.listeners[index].back_off(now);
    }
}

impl ListenerState {
    fn back_off(&mut self, now: Instant) {
        self.paused_until = Some(now + EMFILE_BACKOFF);
    }

    /// Accepts; None if no connection is waiting.
    fn accept(&mut self) -> io::Result<Option<(Stream, Peer)>> {
        loop {
            match self.acceptor.accept() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.ready = false;
                        return Ok(None);
                    }
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

/// Whether the system lacks file descriptors or memory.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    let exhausted = exhausted.map(|errno| Some(errno.raw_os_error()));
    exhausted.contains(&error.raw_os_error())
}

/// Logs the first error: others would flood the log.
fn warn_of(error: &io::Error) {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        warn!("cannot accept a connection: {error} (without descriptors idle ones make room)");
    });
}
