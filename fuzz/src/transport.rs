//! A stream without a socket, which gives and takes bytes when a plan says
//! so and tells of it as an edge-triggered poll would: once.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use rendezvousd::server::{Readiness, Transport};

/// The bit of an act by which the peer takes bytes rather than sends some.
const TAKES: u8 = 0x80;

/// The bit of an act that happens while the connection is at work, as soon
/// as it has read or written.
const MEANWHILE: u8 = 0x40;

/// The size of an act by which the peer sends [`AROUND`] bytes, an urgent one
/// that is not of the stream, and as many bytes again.
const URGENT: usize = 1;

const AROUND: usize = 8;

/// More than any stream of a fuzzer's makes: answers without end are found
/// before they have taken the memory.
const ENDLESS: usize = 64 * 1024 * 1024;

/// The server's end of a connection with a peer that follows a plan.
#[derive(Debug)]
pub(crate) struct Scripted {
    acts: VecDeque<u8>,
    /// What the peer will send.
    to_send: VecDeque<u8>,
    /// What it has sent and nobody has read.
    arrived: VecDeque<u8>,
    /// How many of these come before an urgent byte.
    urgent: Option<usize>,
    /// What we have sent.
    pub(crate) taken: Vec<u8>,
    /// How much more it takes.
    room: usize,
    /// A write has found no room.
    blocked: bool,
    /// The peer sends no more.
    ended: bool,
    /// We send no more.
    finished: Cell<bool>,
    /// There is something to tell.
    edge: bool,
}

impl Scripted {
    pub(crate) fn new(plan: &[u8], stream: &[u8]) -> Self {
        Self {
            acts: plan.iter().copied().collect(),
            to_send: stream.iter().copied().collect(),
            arrived: VecDeque::new(),
            urgent: None,
            taken: Vec::new(),
            room: 0,
            blocked: false,
            ended: false,
            finished: Cell::new(false),
            edge: false,
        }
    }

    /// What the poll says, if there is anything new: all that the stream is
    /// ready for.
    pub(crate) fn event(&mut self) -> Option<Readiness> {
        let urgent = self.urgent.is_some();
        let readiness = Readiness {
            readable: !self.arrived.is_empty() || self.ended || urgent,
            writable: !self.blocked,
            hidden: self.ended || urgent,
            closed: self.ended,
        };
        std::mem::take(&mut self.edge).then_some(readiness)
    }

    /// The peer does the next thing planned; false if that was all.
    pub(crate) fn act(&mut self) -> bool {
        let Some(act) = self.acts.pop_front() else {
            return false;
        };
        let size = usize::from(act % MEANWHILE);
        // From single bytes to more than one read brings.
        let count = 1 + size * size * size / 8;
        if act & TAKES != 0 {
            self.take(count);
        } else if size == URGENT && self.urgent.is_none() {
            self.send(AROUND);
            self.urgent = Some(self.arrived.len());
            self.edge = true;
            self.send(AROUND);
        } else {
            self.send(count);
        }
        true
    }

    fn send(&mut self, count: usize) {
        let count = count.min(self.to_send.len());
        self.arrived.extend(self.to_send.drain(..count));
        self.edge |= count > 0;
    }

    fn take(&mut self, count: usize) {
        self.room = self.room.saturating_add(count);
        self.edge |= std::mem::take(&mut self.blocked);
    }

    /// The peer takes all, sends all it has and perhaps ends its side.
    pub(crate) fn let_go(&mut self, ends: bool) {
        self.take(usize::MAX);
        self.send(usize::MAX);
        self.ended = ends;
        self.edge |= ends;
    }

    /// Whether closing now would make the kernel reset the connection, and
    /// the peer lose what it has not taken, though we could have known.
    pub(crate) fn would_reset(&self) -> bool {
        !self.arrived.is_empty() && !self.edge
    }

    /// What happens while a read or a write returns.
    fn meanwhile(&mut self) {
        if self.acts.front().is_some_and(|act| act & MEANWHILE != 0) {
            self.act();
        }
    }
}

impl Read for Scripted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // All that has arrived, so that a short read says that nothing is
        // left, unless it stops at an urgent byte; the next one passes over
        // that.
        let before = self.urgent.take().filter(|before| *before > 0);
        let there = before.unwrap_or(self.arrived.len());
        let count = into.len().min(there);
        self.urgent = before.map(|before| before - count);
        for (to, byte) in into.iter_mut().zip(self.arrived.drain(..count)) {
            *to = byte;
        }
        let more = count > 0 || self.ended;
        self.meanwhile();
        more.then_some(count).ok_or(ErrorKind::WouldBlock.into())
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.finished.get(), "written after the end");
        assert!(self.taken.len() < ENDLESS, "written without end");
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.taken.extend_from_slice(&bytes[..count]);
        self.blocked |= count < bytes.len();
        self.meanwhile();
        match count {
            0 => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Scripted {
    fn finish(&self) -> io::Result<()> {
        self.finished.set(true);
        Ok(())
    }
}
