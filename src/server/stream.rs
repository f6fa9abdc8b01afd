//! Non-blocking streams under an edge-triggered poll.
//!
//! An event says once that a stream became readable or writable. So a stream
//! remembers that it may be read until a read has come back short, or empty if
//! there is more behind a short one, and that it may be written until a write
//! would have blocked.

use std::io::{self, ErrorKind, Read, Write};

use mio::event::Event;

use super::settings::SOCKET_BUFFER;
use crate::block_pool::PooledBytes;

/// A stream that never blocks.
pub trait Transport: Read + Write {
    /// Shuts down the sending side.
    ///
    /// # Errors
    /// When the peer is gone.
    fn finish(&self) -> io::Result<()>;
}

/// The readiness of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readiness {
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer's end or urgent data is in the stream, so that a short read
    /// may not be the last: a read stops at urgent data.
    pub hidden: bool,
    /// The peer has closed the connection, or its sending side.
    pub closed: bool,
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Self {
        Self {
            readable: event.is_readable(),
            writable: event.is_writable() || event.is_write_closed() || event.is_error(),
            hidden: event.is_read_closed() || event.is_error() || event.is_priority(),
            closed: event.is_read_closed() || event.is_error(),
        }
    }
}

/// A stream, its readiness, and the output that the peer has not taken.
#[derive(Debug)]
pub(super) struct BufferedStream<T> {
    stream: T,
    /// Output that the peer has not taken, from `sent` on.
    unsent: PooledBytes,
    sent: usize,
    readiness: Readiness,
}

impl<T: Transport> BufferedStream<T> {
    pub(super) fn new(stream: T) -> Self {
        Self {
            stream,
            unsent: PooledBytes::default(),
            sent: 0,
            readiness: Readiness {
                readable: true,
                writable: true,
                ..Readiness::default()
            },
        }
    }

    /// Records what an event says.
    pub(super) fn set_readiness(&mut self, event: Readiness) {
        let readiness = &mut self.readiness;
        readiness.hidden |= event.hidden;
        readiness.readable |= event.readable || readiness.hidden;
        readiness.writable |= event.writable;
        readiness.closed |= event.closed;
    }

    /// Records that there may be something to read.
    pub(super) fn mark_readable(&mut self) {
        self.readiness.readable = true;
    }

    /// Whether there may be something to read.
    pub(super) fn is_readable(&self) -> bool {
        self.readiness.readable
    }

    /// Whether the peer has closed the connection, or its sending side.
    pub(super) fn is_closed(&self) -> bool {
        self.readiness.closed
    }

    /// Whether the peer has closed its side and nothing is left to read.
    pub(super) fn has_ended(&self) -> bool {
        self.readiness.closed && !self.readiness.readable
    }

    /// Memory of the kept output in the block pool, in bytes.
    pub(super) fn unsent_size(&self) -> usize {
        self.unsent.size()
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        &mut self.stream
    }

    /// Shuts down the sending side.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.stream.finish()
    }

    /// Reads once. A short read has emptied the socket, but for what an event
    /// has said, and what comes after it makes a new event.
    pub(super) fn read(&mut self, input: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(input) {
                Ok(count) => {
                    self.readiness.closed |= count == 0;
                    let more = self.readiness.hidden || count == input.len();
                    self.readiness.readable = count > 0 && more;
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readiness.readable = false;
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends new output and keeps what the socket does not take; true if it
    /// took all.
    pub(super) fn send(&mut self, output: &mut Vec<u8>) -> io::Result<bool> {
        let taken = match output.len() {
            0 => 0,
            _ => self.write(output)?,
        };
        if taken == output.len() {
            return Ok(true);
        }
        self.unsent = PooledBytes::new(&[&output[taken..]]);
        self.sent = 0;
        self.flush(output)
    }

    /// Sends kept output, by way of a buffer; true if none is left.
    pub(super) fn flush(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        while self.sent < self.unsent.len() {
            if !self.readiness.writable {
                return Ok(false);
            }
            buffer.clear();
            let end = self.unsent.len().min(self.sent + SOCKET_BUFFER);
            self.unsent.copy_to(self.sent, end, buffer);
            let count = self.write(buffer)?;
            self.sent = self.unsent.drop_front(self.sent + count);
        }
        // Input that came since the last event must not be left in the socket
        // if it is closed now.
        self.readiness.readable = true;
        self.unsent = PooledBytes::default();
        self.sent = 0;
        Ok(true)
    }

    /// Writes once; 0 if the socket is full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readiness.writable = false;
                    return Ok(0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                result => return result,
            }
        }
    }
}
