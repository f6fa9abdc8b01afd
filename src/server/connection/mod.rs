//! One connection: what to read, answer and send next.
//!
//! The poll is edge-triggered: an event says once that something can be read
//! or written. So a connection remembers that it may read until a read has
//! come back short, or empty if there is more behind a short one, and is
//! driven until nothing is left to do. The stream is
//! whatever a [`Transport`] is, so that tests need no sockets.

mod context;

pub use context::Context;

use std::io::{self, ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiny_http::Method;

use super::Deadlines;
use crate::block_pool::PooledBytes;
use crate::client::Peer;
use crate::http::{Decoder, Handler, Persistence, Rejection, Request, Status};
use crate::metrics::{Counted, Phase};
pub(in crate::server) use context::INPUT;

/// Answers to pipelined requests are collected up to this many bytes and
/// sent before more are made: a peer that does not read cannot make us hold
/// more than this and one answer.
pub(in crate::server) const OUTPUT_BATCH: usize = 8 * 1024;

/// Bytes of kept output that are sent at a time: more than a socket that was
/// full has room for.
const OUTPUT: usize = 64 * 1024;

/// Batches that one connection is sent before the others get a turn. With
/// many connections pipelining, a turn's length is everybody's delay.
const TURN: usize = 2;

/// Bytes read and dropped from a peer that was refused, so that it finds our
/// answer before the connection is gone (RFC 9112, section 9.6).
const LINGER_BYTES: usize = 256 * 1024;

/// A stream that never blocks.
pub trait Transport: Read + Write {
    /// Tells the peer that nothing more will come.
    ///
    /// # Errors
    /// When the peer is gone.
    fn finish(&self) -> io::Result<()>;
}

/// What a connection needs after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event.
    Wait,
    /// Another turn, without one.
    Again,
    /// Its end.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Close when everything is sent.
    Closing,
    /// Finish when everything is sent, and linger.
    Refusing,
    /// Finished; this many more bytes are read and dropped.
    Lingering(usize),
}

/// One connection.
#[derive(Debug)]
pub struct Connection<T> {
    stream: T,
    peer: Peer,
    decoder: Decoder,
    /// What the peer has not taken yet, from `sent` on: a part of a block.
    unsent: PooledBytes,
    sent: usize,
    /// The socket may have something to read.
    readable: bool,
    /// The peer's end, or urgent data, has been in the socket, so a short read
    /// may not be the last: a read stops at urgent data.
    read_on: bool,
    ended: bool,
    /// Answered since it was last asked whether it was.
    answered: bool,
    /// Answered at all.
    served: bool,
    queued: bool,
    /// Bytes read so far.
    received: usize,
    stage: Stage,
    phase: Counted,
    since: Instant,
}

impl<T: Transport> Connection<T> {
    /// A connection that has just been accepted.
    pub fn new<H>(stream: T, peer: Peer, context: &Context<H>) -> Self {
        Self {
            stream,
            peer,
            decoder: Decoder::default(),
            unsent: PooledBytes::default(),
            sent: 0,
            readable: true,
            read_on: false,
            ended: false,
            answered: false,
            served: false,
            queued: false,
            received: 0,
            stage: Stage::Open,
            phase: Counted::new(Arc::clone(&context.counters), Phase::Idle),
            since: context.now,
        }
    }

    /// Takes note of what the poll saw: something to read, and an end or
    /// urgent data, which hide behind a short read.
    pub fn note(&mut self, readable: bool, hidden: bool) {
        self.read_on |= hidden;
        self.readable |= readable || self.read_on;
    }

    /// Takes note that there may be something to read.
    pub fn suspect(&mut self) {
        self.readable = true;
    }

    /// Whether nothing has arrived that is not answered, and sent.
    pub fn is_idle(&self) -> bool {
        self.phase.get() == Phase::Idle
    }

    /// When the present wait began.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Bytes read so far.
    pub fn received(&self) -> usize {
        self.received
    }

    /// What it keeps in the block pool takes so many bytes.
    pub fn buffered(&self) -> usize {
        self.decoder.kept() + self.unsent.size()
    }

    /// The stream.
    pub fn stream(&mut self) -> &mut T {
        &mut self.stream
    }

    /// When the present wait has lasted too long.
    pub fn deadline(&self, deadlines: &Deadlines) -> Instant {
        self.since + self.patience(deadlines)
    }

    fn patience(&self, deadlines: &Deadlines) -> Duration {
        match self.phase.get() {
            Phase::Idle => deadlines.idle,
            Phase::Receiving => deadlines.request,
            Phase::Sending => deadlines.answer,
            Phase::Lingering => deadlines.linger,
        }
    }

    /// Puts it in the queue for another turn; false if it is there already.
    pub fn queue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Takes it out of the queue.
    pub fn unqueue(&mut self) {
        self.queued = false;
    }

    /// Whether a request has been answered since this was last asked.
    pub fn take_answered(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }

    /// Does all that can be done without waiting.
    pub fn drive<H: Handler>(&mut self, context: &mut Context<H>) -> Next {
        let before = self.answered;
        self.decoder.resume(std::mem::take(&mut context.buffer));
        let next = self.turn(context).unwrap_or(Next::Close);
        context.buffer = self.decoder.suspend();
        context.shrink();
        let phase = self.present_phase();
        if phase != self.phase.get() || self.answered != before {
            self.phase.set(phase);
            self.since = context.now;
        }
        next
    }

    /// Ends the present wait: a late request is told so, anything else ends.
    pub fn expire<H: Handler>(&mut self, context: &mut Context<H>) -> Next {
        if self.phase.get() != Phase::Receiving {
            return Next::Close;
        }
        context.output.clear();
        self.decoder.resume(std::mem::take(&mut context.buffer));
        self.reject(Rejection::LATE, context);
        context.buffer = self.decoder.suspend();
        match self.send(&context.output) {
            Ok(()) => self.drive(context),
            Err(_) => Next::Close,
        }
    }

    fn present_phase(&self) -> Phase {
        if !self.unsent.is_empty() {
            Phase::Sending
        } else if matches!(self.stage, Stage::Lingering(_)) {
            Phase::Lingering
        } else if self.decoder.is_empty() {
            Phase::Idle
        } else {
            Phase::Receiving
        }
    }

    /// A connection that was never answered has its turns before others, so
    /// they are short: one read or one answer.
    fn turn<H: Handler>(&mut self, context: &mut Context<H>) -> io::Result<Next> {
        let turn = if self.served { TURN } else { 1 };
        let (mut batches, mut reads) = (0, 0);
        loop {
            if !self.flush(&mut context.output)? {
                return Ok(Next::Wait);
            }
            match self.stage {
                Stage::Open => {}
                // Closing a socket with unread input resets the connection,
                // and the peer may lose the answer.
                Stage::Closing if self.decoder.is_empty() && !self.readable => {
                    return Ok(Next::Close);
                }
                Stage::Closing | Stage::Refusing if self.ended => return Ok(Next::Close),
                Stage::Closing | Stage::Refusing => {
                    self.stream.finish()?;
                    self.stage = Stage::Lingering(LINGER_BYTES);
                    continue;
                }
                Stage::Lingering(_) => return self.linger(&mut context.input),
            }
            if batches == turn && (self.readable || !self.decoder.is_empty()) {
                return Ok(Next::Again);
            }
            if self.answer(context)? {
                batches += 1;
            } else if self.readable && reads == turn && !self.served {
                return Ok(Next::Again);
            } else if self.readable {
                self.receive(&mut context.input)?;
                reads += 1;
            } else if self.ended {
                return Ok(Next::Close);
            } else {
                return Ok(Next::Wait);
            }
        }
    }

    /// Answers what is complete, up to a batch; false if nothing was.
    fn answer<H: Handler>(&mut self, context: &mut Context<H>) -> io::Result<bool> {
        context.output.clear();
        let mut answered = 0;
        let batch = if self.served { OUTPUT_BATCH } else { 1 };
        while self.stage == Stage::Open && context.output.len() < batch {
            let output = &mut context.output;
            let handler = &*context.handler;
            let peer = self.peer;
            let step = self.decoder.step(
                |head| handler.body_limit(head),
                |request| {
                    let persistence = persistence(request, context.stopping);
                    let response =
                        catch_unwind(AssertUnwindSafe(|| handler.respond(request, peer)));
                    let response = response.unwrap_or_else(|_| {
                        context.counters.panics.increment();
                        let failed = Rejection::FAILED;
                        context.counters.rejections.count(failed.status.0);
                        handler.reject(failed)
                    });
                    let head = request.head.method == Method::Head;
                    response.write(head, persistence, &context.date, output);
                    persistence
                },
            );
            match step {
                Ok(Status::Partial) => break,
                Ok(Status::Continue) => output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"),
                Ok(Status::Complete(persistence)) => {
                    answered += 1;
                    if persistence == Persistence::Close {
                        self.stage = Stage::Closing;
                    }
                }
                Err(rejection) => {
                    self.reject(rejection, context);
                }
            }
        }
        if context.output.is_empty() {
            return Ok(false);
        }
        let sent = self.send(&context.output);
        if answered > 0 {
            self.answered = true;
            self.served = true;
            self.count(answered, context);
        }
        sent.map(|()| true)
    }

    /// Counts the requests of one batch, all as if they had come at once:
    /// with the wake-up that brought the end of the first, or before it.
    fn count<H: Handler>(&self, answered: u64, context: &Context<H>) {
        let begin = match self.phase.get() {
            Phase::Receiving => self.since,
            _ => context.now,
        };
        context.counters.answered.count(begin.elapsed(), answered);
    }

    fn reject<H: Handler>(&mut self, rejection: Rejection, context: &mut Context<H>) {
        let head = self.decoder.is_head();
        context.counters.rejections.count(rejection.status.0);
        let response = context.handler.reject(rejection);
        response.write(head, Persistence::Close, &context.date, &mut context.output);
        self.stage = Stage::Refusing;
    }

    /// Reads once. A short read has emptied the socket, but for what an event
    /// has said, and what comes after it makes a new event.
    fn receive(&mut self, input: &mut [u8]) -> io::Result<()> {
        match self.read(input)? {
            Some(0) => self.ended = true,
            Some(count) => {
                self.received = self.received.saturating_add(count);
                self.decoder.push(&input[..count]);
            }
            None => {}
        }
        Ok(())
    }

    fn read(&mut self, input: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(input) {
                Ok(count) => {
                    self.readable = count > 0 && (self.read_on || count == input.len());
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn linger(&mut self, input: &mut [u8]) -> io::Result<Next> {
        while self.readable {
            let Stage::Lingering(left) = self.stage else {
                break;
            };
            match self.read(input)? {
                Some(count) if count > 0 && count < left => {
                    self.stage = Stage::Lingering(left - count);
                }
                Some(_) => return Ok(Next::Close),
                None => {}
            }
        }
        Ok(Next::Wait)
    }

    /// Sends new output; what the socket does not take is kept.
    fn send(&mut self, output: &[u8]) -> io::Result<()> {
        let taken = self.write(output)?;
        if taken < output.len() {
            self.unsent = PooledBytes::new(&[&output[taken..]]);
            self.sent = 0;
        }
        Ok(())
    }

    /// Sends kept output, by way of a buffer; true if none is left.
    fn flush(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        while self.sent < self.unsent.len() {
            buffer.clear();
            let end = self.unsent.len().min(self.sent + OUTPUT);
            self.unsent.copy_to(self.sent, end, buffer);
            match self.write(buffer)? {
                0 => return Ok(false),
                count => self.sent = self.unsent.drop_front(self.sent + count),
            }
        }
        self.unsent = PooledBytes::default();
        self.sent = 0;
        Ok(true)
    }

    /// Writes once; 0 when the socket is full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

fn persistence(request: &Request<'_, '_>, stopping: bool) -> Persistence {
    if stopping || !request.head.keep_alive {
        Persistence::Close
    } else if request.head.version.1 == 0 {
        Persistence::KeepAliveExplicit
    } else {
        Persistence::KeepAlive
    }
}
