//! The interface between the server and the handler of its requests.

use std::fmt::Debug;
use std::task::Waker;
use std::time::Duration;

use super::rejection::Rejection;
use super::request::{BodyLimit, Request};
use super::response::Response;
use crate::client::Peer;

/// Handles requests. The server calls it from all its workers at once.
pub trait Handler: Send + Sync + 'static {
    /// The answer to a request from this peer. It may be held if `waker` gives a
    /// waker, which is to be woken when there is a response.
    ///
    /// A request whose body has not come with its head comes without it. If its
    /// head alone decides, that is the answer, and the body is never read; else
    /// it is [`Answer::ReadBody`], and the request comes again with its body.
    fn respond(&self, request: &Request<'_, '_>, peer: Peer, waker: WakerSource<'_>) -> Answer;

    /// The response to a request that was rejected, or whose handling failed.
    fn reject(&self, rejection: Rejection) -> Response;
}

/// Makes the waker of the connection that a request came by; `None` if the
/// request must be answered at once.
pub type WakerSource<'a> = &'a dyn Fn() -> Option<Waker>;

/// The answer to a request: now or later.
#[derive(Debug)]
pub enum Answer {
    /// The response.
    Response(Response),
    /// The body has to be read first.
    ReadBody(BodyLimit),
    /// The request is held (long polling, RFC 6202, section 2). Only a request
    /// for which there was a waker can be.
    Hold {
        /// What waits for the response.
        request: Box<dyn HeldRequest>,
        /// How long at most.
        at_most: Duration,
    },
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

/// A response, or an answer instead of it.
impl<E: Into<Answer>> From<Result<Response, E>> for Answer {
    fn from(response: Result<Response, E>) -> Self {
        response.map_or_else(E::into, Self::from)
    }
}

impl From<BodyLimit> for Answer {
    fn from(limit: BodyLimit) -> Self {
        Self::ReadBody(limit)
    }
}

/// A request that waits for its response. Dropping it gives that up.
pub trait HeldRequest: Debug + Send {
    /// The response, if there is one. To be called after a wake-up; an early
    /// call does no harm.
    fn try_respond(&mut self) -> Option<Response>;

    /// The response as of now, because the wait has to end.
    fn release(self: Box<Self>, reason: ReleaseReason) -> Response;
}

/// Why a held request is answered before there is something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseReason {
    /// Its time is over.
    Timeout,
    /// Its client has closed the connection, or the sending side of it.
    Gone,
    /// The server closes the connection, because it stops or needs the place.
    Closing,
}
