//! One connection: what to read, respond and send next.
//!
//! It is driven by a [`Context`], and its stream is whatever a [`Transport`] is,
//! so that tests need no sockets.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tiny_http::Method;

use super::context::Context;
use super::settings::{Deadlines, OUTPUT_BATCH};
use super::stream::{BufferedStream, Readiness, Transport};
use crate::client::Peer;
use crate::http::{Decoder, Handler, Persistence, Rejection, Request, Status};
use crate::metrics::{Counted, Phase};

/// Bytes discarded from a peer whose request was rejected, so that it reads
/// the response before the connection is gone (RFC 9112, section 9.6).
const LINGER_BYTES: usize = 256 * 1024;

/// What a connection needs after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event.
    AwaitIo,
    /// Another turn, without one.
    Reschedule,
    /// Its end.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between requests.
    Idle,
    /// A part of a request has arrived.
    Receiving,
    /// More may be buffered than was answered in the last turn.
    Pipelined,
    /// The peer has not taken all output.
    Sending(Afterwards),
    /// The sending side is shut down; so many more bytes are discarded.
    Lingering(usize),
}

/// What to do once all output is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    /// Decode what is buffered.
    Decode,
    /// Close if there is no further input, else linger.
    Close,
    /// Linger.
    Linger,
}

/// How decoding a batch of requests ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    /// More input is needed.
    Partial,
    /// More requests may be buffered.
    Full,
    /// The last response of the connection was made.
    Last(Afterwards),
}

/// One connection.
#[derive(Debug)]
pub struct Connection<T> {
    stream: BufferedStream<T>,
    peer: Peer,
    decoder: Decoder,
    /// The peer's end was read.
    ended: bool,
    /// Bytes read so far.
    received: usize,
    answered_at: Option<Instant>,
    state: State,
    phase: Counted,
    since: Instant,
}

impl<T: Transport> Connection<T> {
    /// A connection that has just been accepted.
    pub fn new<H>(stream: T, peer: Peer, context: &Context<H>) -> Self {
        Self {
            stream: BufferedStream::new(stream),
            peer,
            decoder: Decoder::default(),
            ended: false,
            received: 0,
            answered_at: None,
            state: State::Idle,
            phase: Counted::new(Arc::clone(&context.counters), Phase::Idle),
            since: context.now,
        }
    }

    /// Records what an event says.
    pub fn set_readiness(&mut self, event: Readiness) {
        self.stream.set_readiness(event);
    }

    /// Records that there may be something to read.
    pub fn mark_readable(&mut self) {
        self.stream.mark_readable();
    }

    /// Whether it is between requests.
    pub fn is_idle(&self) -> bool {
        self.phase.get() == Phase::Idle
    }

    /// When the present wait began.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// When it was last answered.
    pub fn answered_at(&self) -> Option<Instant> {
        self.answered_at
    }

    /// Bytes read so far.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Memory of its buffers in the block pool, in bytes.
    pub fn buffered(&self) -> usize {
        self.decoder.kept() + self.stream.unsent_size()
    }

    /// The stream.
    pub fn stream(&mut self) -> &mut T {
        self.stream.get_mut()
    }

    /// When the present wait times out.
    pub fn deadline(&self, deadlines: &Deadlines) -> Instant {
        let timeout = match self.phase.get() {
            Phase::Idle => deadlines.idle,
            Phase::Receiving => deadlines.request,
            Phase::Sending => deadlines.answer,
            Phase::Lingering => deadlines.linger,
        };
        self.since + timeout
    }

    /// Takes a turn: one read and one batch of output at most.
    pub fn drive<H: Handler>(&mut self, context: &mut Context<H>) -> Next {
        let before = self.answered_at;
        let next = self.advance(context);
        self.after_turn(before, next, context)
    }

    /// Ends the present wait: a late request is rejected with 408, any other
    /// connection is closed.
    pub fn expire<H: Handler>(&mut self, context: &mut Context<H>) -> Next {
        if self.phase.get() != Phase::Receiving {
            return Next::Close;
        }
        context.output.clear();
        let batch = self.decode(context, |connection, context| {
            Ok(connection.reject(Rejection::LATE, context))
        });
        let next = batch.and_then(|batch| self.deliver(batch, context));
        self.after_turn(self.answered_at, next, context)
    }

    fn after_turn<H: Handler>(
        &mut self,
        answered_before: Option<Instant>,
        next: io::Result<Next>,
        context: &mut Context<H>,
    ) -> Next {
        context.shrink();
        let phase = match self.state {
            State::Idle => Phase::Idle,
            State::Receiving | State::Pipelined => Phase::Receiving,
            State::Sending(_) => Phase::Sending,
            State::Lingering(_) => Phase::Lingering,
        };
        if phase != self.phase.get() || self.answered_at != answered_before {
            self.phase.set(phase);
            self.since = context.now;
        }
        next.unwrap_or(Next::Close)
    }

    fn advance<H: Handler>(&mut self, context: &mut Context<H>) -> io::Result<Next> {
        match self.state {
            State::Lingering(left) => return self.linger(left, &mut context.input),
            State::Sending(afterwards) => {
                if !self.stream.flush(&mut context.output)? {
                    return Ok(Next::AwaitIo);
                }
                if afterwards != Afterwards::Decode {
                    return self.finish(afterwards, context);
                }
                self.state = State::Pipelined;
            }
            State::Idle | State::Receiving | State::Pipelined => {}
        }
        context.output.clear();
        let mut batch = Batch::Partial;
        if self.state == State::Pipelined || self.stream.is_readable() {
            batch = self.decode(context, Self::exchange)?;
        }
        self.deliver(batch, context)
    }

    /// Lends the decoder the worker's buffer while `work` needs it.
    fn decode<H: Handler>(
        &mut self,
        context: &mut Context<H>,
        work: impl FnOnce(&mut Self, &mut Context<H>) -> io::Result<Batch>,
    ) -> io::Result<Batch> {
        self.decoder.resume(std::mem::take(&mut context.buffer));
        let batch = work(self, context);
        context.buffer = self.decoder.suspend();
        batch
    }

    /// Makes a batch of output, from what is buffered or else from one read.
    fn exchange<H: Handler>(&mut self, context: &mut Context<H>) -> io::Result<Batch> {
        if self.state == State::Pipelined {
            let batch = self.respond(context);
            if batch != Batch::Partial || !context.output.is_empty() || !self.stream.is_readable() {
                return Ok(batch);
            }
        }
        let count = self.stream.read(&mut context.input)?;
        self.ended |= count == Some(0);
        let Some(count @ 1..) = count else {
            return Ok(Batch::Partial);
        };
        self.received = self.received.saturating_add(count);
        self.decoder.push(&context.input[..count]);
        Ok(self.respond(context))
    }

    /// Responds to requests that are complete, up to a batch of output.
    fn respond<H: Handler>(&mut self, context: &mut Context<H>) -> Batch {
        let mut answered = 0;
        let batch = loop {
            if context.output.len() >= OUTPUT_BATCH && !self.decoder.is_empty() {
                break Batch::Full;
            }
            match self.respond_once(context) {
                Ok(Status::Partial) => break Batch::Partial,
                Ok(Status::Continue) => {
                    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
                    context.output.extend_from_slice(interim);
                }
                Ok(Status::Complete(persistence)) => {
                    answered += 1;
                    if persistence == Persistence::Close {
                        break Batch::Last(Afterwards::Close);
                    }
                }
                Err(rejection) => break self.reject(rejection, context),
            }
        };
        if answered > 0 {
            self.answered_at = Some(context.now);
            self.count(answered, context);
        }
        batch
    }

    fn respond_once<H: Handler>(
        &mut self,
        context: &mut Context<H>,
    ) -> Result<Status<Persistence>, Rejection> {
        let output = &mut context.output;
        let handler = &*context.handler;
        let peer = self.peer;
        self.decoder.step(
            |head| handler.body_limit(head),
            |request| {
                let persistence = persistence(request, context.stopping);
                let response = catch_unwind(AssertUnwindSafe(|| handler.respond(request, peer)));
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
        )
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

    fn reject<H: Handler>(&mut self, rejection: Rejection, context: &mut Context<H>) -> Batch {
        let head = self.decoder.is_head();
        context.counters.rejections.count(rejection.status.0);
        let response = context.handler.reject(rejection);
        response.write(head, Persistence::Close, &context.date, &mut context.output);
        Batch::Last(Afterwards::Linger)
    }

    /// Sends a batch of output, and decides what comes next.
    fn deliver<H: Handler>(&mut self, batch: Batch, context: &mut Context<H>) -> io::Result<Next> {
        let sent = self.stream.send(&mut context.output)?;
        match batch {
            Batch::Last(afterwards) if sent => return self.finish(afterwards, context),
            Batch::Last(afterwards) => self.state = State::Sending(afterwards),
            _ if !sent => self.state = State::Sending(Afterwards::Decode),
            Batch::Full => self.state = State::Pipelined,
            Batch::Partial if self.decoder.is_empty() => self.state = State::Idle,
            Batch::Partial => self.state = State::Receiving,
        }
        Ok(if !sent {
            Next::AwaitIo
        } else if batch == Batch::Full || self.stream.is_readable() {
            Next::Reschedule
        } else if self.ended {
            Next::Close
        } else {
            Next::AwaitIo
        })
    }

    /// Closes or lingers: closing a socket with unread input resets the
    /// connection, and the peer may lose the response.
    fn finish<H>(&mut self, afterwards: Afterwards, context: &mut Context<H>) -> io::Result<Next> {
        let is_drained = self.decoder.is_empty() && !self.stream.is_readable();
        if self.ended || (afterwards == Afterwards::Close && is_drained) {
            return Ok(Next::Close);
        }
        self.stream.finish()?;
        self.state = State::Lingering(LINGER_BYTES);
        self.linger(LINGER_BYTES, &mut context.input)
    }

    fn linger(&mut self, left: usize, input: &mut [u8]) -> io::Result<Next> {
        if self.stream.is_readable() {
            if let Some(count) = self.stream.read(input)? {
                if count == 0 || count >= left {
                    return Ok(Next::Close);
                }
                self.state = State::Lingering(left - count);
            }
        }
        Ok(if self.stream.is_readable() {
            Next::Reschedule
        } else {
            Next::AwaitIo
        })
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
