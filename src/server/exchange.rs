//! The requests of one connection, and the responses to them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use tiny_http::Method;

use super::context::Context;
use super::settings::TURN_SIZE;
use crate::client::Peer;
use crate::http::{
    Answer, Decoder, Handler, HeldRequest, Persistence, Rejection, ReleaseReason, Request,
    Response, Status,
};
use crate::metrics::Counters;

/// How a batch of responses ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// More input is needed.
    Partial,
    /// More requests may be buffered.
    Full,
    /// A request is held.
    Held,
    /// The last response of the connection was made; the connection closes.
    Last,
    /// The same, but the peer may still be sending the request: it was rejected,
    /// or its body is not read.
    Rejected,
}

/// A request that is held, and how to respond to it.
#[derive(Debug)]
struct Held {
    request: Box<dyn HeldRequest>,
    until: Instant,
    persistence: Persistence,
}

/// What became of a request.
enum Completed {
    Answered(Persistence),
    Held(Box<Held>),
}

/// The requests of one connection. Responses go to [`Context::output`].
#[derive(Debug)]
pub(super) struct Exchange {
    peer: Peer,
    decoder: Decoder,
    held: Option<Box<Held>>,
    answered_at: Option<Instant>,
}

impl Exchange {
    pub(super) fn new(peer: Peer) -> Self {
        Self {
            peer,
            decoder: Decoder::default(),
            held: None,
            answered_at: None,
        }
    }

    /// When a request was last answered or held.
    pub(super) fn answered_at(&self) -> Option<Instant> {
        self.answered_at
    }

    /// When the wait of a held request is over, if there is one.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.until)
    }

    /// Whether nothing is buffered.
    pub(super) fn is_empty(&self) -> bool {
        self.decoder.is_empty()
    }

    /// Memory of what is buffered in the block pool, in bytes.
    pub(super) fn kept(&self) -> usize {
        self.decoder.kept()
    }

    /// Lends the decoder the worker's buffer while `work` needs it.
    pub(super) fn decode<T>(
        &mut self,
        context: &mut Context,
        work: impl FnOnce(&mut Self, &mut Context) -> T,
    ) -> T {
        self.decoder.resume(std::mem::take(&mut context.buffer));
        let result = work(self, context);
        context.buffer = self.decoder.suspend();
        result
    }

    /// Takes bytes from [`Context::input`].
    pub(super) fn push(&mut self, count: usize, context: &Context) {
        self.decoder.push(&context.input[..count]);
    }

    /// Responds to requests that are complete, up to a batch of output. They
    /// arrived at `begin`; `at_once` says that none may be held.
    pub(super) fn respond(
        &mut self,
        begin: Instant,
        at_once: bool,
        context: &mut Context,
    ) -> Batch {
        let mut answered = 0;
        let batch = loop {
            if context.output.len() >= TURN_SIZE && !self.decoder.is_empty() {
                break Batch::Full;
            }
            match self.respond_once(at_once, context) {
                Ok(Status::Partial) => break Batch::Partial,
                Ok(Status::Continue) => {
                    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
                    context.output.extend_from_slice(interim);
                }
                Ok(Status::Complete(Completed::Answered(persistence))) => {
                    answered += 1;
                    if persistence == Persistence::Close {
                        break Batch::Last;
                    }
                }
                Ok(Status::Unread(_)) => {
                    answered += 1;
                    break Batch::Rejected;
                }
                Ok(Status::Complete(Completed::Held(held))) => {
                    self.held = Some(held);
                    self.answered_at = Some(context.now);
                    break Batch::Held;
                }
                Err(rejection) => break self.reject(rejection, context),
            }
        };
        if answered > 0 {
            self.answered_at = Some(context.now);
            // All as if they had come at once.
            context.counters.answered.count(begin.elapsed(), answered);
        }
        batch
    }

    fn respond_once(
        &mut self,
        at_once: bool,
        context: &mut Context,
    ) -> Result<Status<Completed>, Rejection> {
        let Context {
            handler,
            counters,
            now,
            date,
            stopping_since,
            holding,
            output,
            ..
        } = context;
        let peer = self.peer;
        // Behind other output a request would wait for the peer to take that.
        let stopping = stopping_since.is_some();
        let at_once = at_once || stopping || !output.is_empty();
        self.decoder.step(|request| {
            let persistence = persistence(request, stopping);
            let waker = || holding.waker(&counters.connections);
            let head = request.head.method == Method::Head;
            let at_once = at_once || head || !request.is_read();
            let answer = caught(&**handler, counters, || {
                handler.respond(request, peer, &|| (!at_once).then(waker).flatten())
            });
            match answer {
                Answer::Response(response) => {
                    response.write(head, persistence, date, output);
                    Ok(Completed::Answered(persistence))
                }
                Answer::ReadBody(limit) => Err(limit),
                Answer::Hold { request, at_most } => Ok(Completed::Held(Box::new(Held {
                    request,
                    until: now.checked_add(at_most).unwrap_or(*now),
                    persistence,
                }))),
            }
        })
    }

    /// Rejects what has arrived of a request; nothing that follows is read.
    pub(super) fn reject(&mut self, rejection: Rejection, context: &mut Context) -> Batch {
        let head = self.decoder.is_head();
        context.counters.rejections.count(rejection.status.0);
        let response = context.handler.reject(rejection);
        response.write(head, Persistence::Close, &context.date, &mut context.output);
        Batch::Rejected
    }

    /// Responds to the held request if there is something to tell, or if there
    /// is a reason to release it.
    pub(super) fn poll_held(
        &mut self,
        reason: Option<ReleaseReason>,
        context: &mut Context,
    ) -> Batch {
        // There is one whenever the connection waits with it.
        let Some(mut held) = self.held.take() else {
            return Batch::Full;
        };
        let persistence = match reason {
            Some(ReleaseReason::Closing) => Persistence::Close,
            _ => held.persistence,
        };
        let (handler, counters) = (&*context.handler, &context.counters);
        let response = if let Some(reason) = reason {
            caught(handler, counters, || held.request.release(reason))
        } else if let Some(response) = caught(handler, counters, || held.request.try_respond()) {
            response
        } else {
            self.held = Some(held);
            return Batch::Held;
        };
        response.write(false, persistence, &context.date, &mut context.output);
        self.answered_at = Some(context.now);
        counters.answered.count(context.now.elapsed(), 1);
        match persistence {
            Persistence::Close => Batch::Last,
            _ if self.is_empty() => Batch::Partial,
            _ => Batch::Full,
        }
    }
}

/// What a handler makes of a request, or the response to one that it panicked
/// over.
fn caught<T: From<Response>>(
    handler: &dyn Handler,
    counters: &Counters,
    work: impl FnOnce() -> T,
) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        counters.panics.increment();
        let failed = Rejection::FAILED;
        counters.rejections.count(failed.status.0);
        handler.reject(failed).into()
    })
}

fn persistence(request: &Request<'_, '_>, stopping: bool) -> Persistence {
    if stopping || !request.head.keep_alive || !request.is_read() {
        Persistence::Close
    } else if request.head.version.1 == 0 {
        Persistence::KeepAliveExplicit
    } else {
        Persistence::KeepAlive
    }
}
