//! One connection: what to read, respond and send next.
//!
//! It is driven by a [`Context`], and its stream is whatever a [`Transport`] is,
//! so that tests need no sockets.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::context::Context;
use super::exchange::{Batch, Exchange};
use super::stream::{BufferedStream, Readiness, Transport};
use crate::client::Peer;
use crate::http::{Rejection, ReleaseReason};
use crate::metrics::{Counted, Phase};

/// What a connection needs after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event, a wake-up or its deadline.
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
    /// A request is held. Nothing is read meanwhile.
    Held,
    /// The peer has not taken all output; how the batch ended.
    Sending(Batch),
    /// The sending side is shut down; what still arrives is discarded.
    Lingering,
}

/// One connection.
#[derive(Debug)]
pub struct Connection<T> {
    stream: BufferedStream<T>,
    exchange: Exchange,
    /// Bytes read so far.
    received: usize,
    state: State,
    phase: Counted,
    since: Instant,
}

impl<T: Transport> Connection<T> {
    /// A connection that has just been accepted.
    pub fn new(stream: T, peer: Peer, context: &Context) -> Self {
        Self {
            stream: BufferedStream::new(stream),
            exchange: Exchange::new(peer),
            received: 0,
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

    /// When the present wait began.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// When a request of it was last answered or held.
    pub fn answered_at(&self) -> Option<Instant> {
        self.exchange.answered_at()
    }

    /// Bytes read so far.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Memory of its buffers in the block pool, in bytes.
    pub fn buffered(&self) -> usize {
        self.exchange.kept() + self.stream.unsent_size()
    }

    /// The stream.
    pub fn stream(&mut self) -> &mut T {
        self.stream.get_mut()
    }

    /// When the present wait times out.
    pub fn deadline(&self, context: &Context) -> Instant {
        let deadlines = &context.deadlines;
        let timeout = match self.phase.get() {
            Phase::Idle => match context.stopping_since {
                Some(stop) if self.answered_at().is_none() => {
                    return self.since.max(stop) + deadlines.stop_silent;
                }
                _ => deadlines.idle,
            },
            Phase::Receiving => deadlines.request,
            Phase::Sending => deadlines.answer,
            Phase::Lingering => deadlines.linger,
            Phase::Held => return self.exchange.held_until().unwrap_or(self.since),
        };
        self.since + timeout
    }

    /// Takes a turn: one read and one batch of output at most.
    pub fn drive(&mut self, context: &mut Context) -> Next {
        let before = self.answered_at();
        let next = self.advance(context);
        self.after_turn(before, next, context)
    }

    /// Ends the present wait: a late request is rejected with 408, a held one
    /// answered, any other connection is closed.
    pub fn expire(&mut self, context: &mut Context) -> Next {
        match self.phase.get() {
            Phase::Held => return self.drive(context),
            Phase::Receiving => {}
            Phase::Idle | Phase::Sending | Phase::Lingering => return Next::Close,
        }
        context.output.clear();
        let batch = self.exchange.decode(context, |exchange, context| {
            exchange.reject(Rejection::LATE, context)
        });
        let next = self.deliver(batch, context);
        self.after_turn(self.answered_at(), next, context)
    }

    /// Answers the held request, if there is one, before the connection is
    /// closed in favour of others.
    pub fn release(&mut self, context: &mut Context) {
        if self.state == State::Held {
            self.respond_to_held(Some(ReleaseReason::Closing), context);
            // It is closed whether or not the peer takes it.
            let _ = self.stream.send(&mut context.output);
        }
    }

    fn after_turn(
        &mut self,
        answered_before: Option<Instant>,
        next: io::Result<Next>,
        context: &mut Context,
    ) -> Next {
        context.shrink();
        let phase = match self.state {
            State::Idle => Phase::Idle,
            State::Receiving | State::Pipelined => Phase::Receiving,
            State::Held => Phase::Held,
            State::Sending(_) => Phase::Sending,
            State::Lingering => Phase::Lingering,
        };
        if phase != self.phase.get() || self.answered_at() != answered_before {
            self.phase.set(phase);
            self.since = context.now;
        }
        next.unwrap_or(Next::Close)
    }

    fn advance(&mut self, context: &mut Context) -> io::Result<Next> {
        match self.state {
            State::Lingering => return self.linger(&mut context.input),
            State::Held => return self.poll_held(context),
            State::Sending(batch) => {
                if !self.stream.flush(&mut context.output)? {
                    return Ok(Next::AwaitIo);
                }
                match batch {
                    Batch::Partial | Batch::Full => self.state = State::Pipelined,
                    Batch::Held => return self.poll_held(context),
                    Batch::Last | Batch::Rejected => return self.finish(batch, context),
                }
            }
            State::Idle | State::Receiving | State::Pipelined => {}
        }
        context.output.clear();
        let batch = self.read_and_respond(context)?;
        self.deliver(batch, context)
    }

    /// Makes a batch of output, from what is buffered or else from one read.
    fn read_and_respond(&mut self, context: &mut Context) -> io::Result<Batch> {
        let pipelined = self.state == State::Pipelined;
        if !pipelined && !self.stream.is_readable() {
            return Ok(Batch::Partial);
        }
        // With the wake-up that brought the end of the first, or before it.
        let begin = match self.phase.get() {
            Phase::Receiving => self.since,
            _ => context.now,
        };
        let Self {
            stream,
            exchange,
            received,
            ..
        } = self;
        exchange.decode(context, |exchange, context| {
            if pipelined {
                let batch = exchange.respond(begin, stream.is_closed(), context);
                if batch != Batch::Partial || !context.output.is_empty() || !stream.is_readable() {
                    return Ok(batch);
                }
            }
            let count = stream.read(&mut context.input)?;
            let Some(count @ 1..) = count else {
                return Ok(Batch::Partial);
            };
            *received = received.saturating_add(count);
            exchange.push(count, context);
            Ok(exchange.respond(begin, stream.is_closed(), context))
        })
    }

    /// Answers the held request if there is something to tell, or if its wait
    /// has to end.
    fn poll_held(&mut self, context: &mut Context) -> io::Result<Next> {
        let until = self.exchange.held_until();
        let reason = if context.stopping_since.is_some() {
            Some(ReleaseReason::Closing)
        } else if self.stream.is_closed() {
            Some(ReleaseReason::Gone)
        } else {
            until
                .is_some_and(|until| context.now >= until)
                .then_some(ReleaseReason::Timeout)
        };
        let batch = self.respond_to_held(reason, context);
        self.deliver(batch, context)
    }

    fn respond_to_held(&mut self, reason: Option<ReleaseReason>, context: &mut Context) -> Batch {
        context.output.clear();
        let batch = self.exchange.poll_held(reason, context);
        if batch != Batch::Held {
            // Before the peer has the response: what it then asks or looks at
            // must not find this request still counted.
            self.phase.set(Phase::Sending);
        }
        batch
    }

    /// Sends a batch of output, and decides what comes next.
    fn deliver(&mut self, batch: Batch, context: &mut Context) -> io::Result<Next> {
        if !self.stream.send(&mut context.output)? {
            self.state = State::Sending(batch);
            return Ok(Next::AwaitIo);
        }
        self.state = match batch {
            Batch::Last | Batch::Rejected => return self.finish(batch, context),
            Batch::Held => State::Held,
            Batch::Full => State::Pipelined,
            Batch::Partial if self.exchange.is_empty() => State::Idle,
            Batch::Partial => State::Receiving,
        };
        Ok(match batch {
            Batch::Held => Next::AwaitIo,
            Batch::Full => Next::Reschedule,
            _ if self.stream.is_readable() => Next::Reschedule,
            _ if self.stream.has_ended() => Next::Close,
            _ => Next::AwaitIo,
        })
    }

    /// Closes or lingers: closing a socket with unread input resets the
    /// connection, and the peer may lose the response (RFC 9112, section 9.6).
    fn finish(&mut self, batch: Batch, context: &mut Context) -> io::Result<Next> {
        let is_drained = self.exchange.is_empty() && !self.stream.is_readable();
        if self.stream.has_ended() || (batch == Batch::Last && is_drained) {
            return Ok(Next::Close);
        }
        self.stream.finish()?;
        self.state = State::Lingering;
        self.linger(&mut context.input)
    }

    fn linger(&mut self, input: &mut [u8]) -> io::Result<Next> {
        if self.stream.is_readable() && self.stream.read(input)? == Some(0) {
            return Ok(Next::Close);
        }
        Ok(if self.stream.is_readable() {
            Next::Reschedule
        } else {
            Next::AwaitIo
        })
    }
}
