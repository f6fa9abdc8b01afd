//! HTTP/1.1 as pure functions: bytes to request, response to bytes, every
//! limit in between. No sockets, no clock, no protocol on top.

mod chunked;
mod decoder;
mod head;
mod response;

pub use decoder::{Decoder, Status};
pub use head::{Framing, Head, Request, is_host};
pub use response::{Body, Persistence, Response};

use tiny_http::StatusCode;

use crate::client::Peer;

/// The longest request head, in bytes. A phone behind a proxy sends some
/// 600, a browser up to 2 KiB, and then come the cookies of all other programs
/// on the homeserver's host name, up to 4 KiB each (RFC 6265, section 6.1).
/// HAProxy passes on heads of 16 KiB.
pub const HEAD_LIMIT: usize = 16 * 1024;

/// The most header fields in a request. Proxies add up to ten to a browser's
/// twenty; Apache and HAProxy pass on about 100.
pub const FIELD_LIMIT: usize = 100;

/// What answers requests. The server calls it from all its workers at once.
pub trait Handler: Send + Sync + 'static {
    /// The largest body, in bytes, that a request with this head may have.
    fn body_limit(&self, head: &Head<'_, '_>) -> usize;

    /// The answer to a complete request from this peer.
    fn respond(&self, request: &Request<'_, '_>, peer: Peer) -> Response;

    /// The answer to what could not become a request, or whose answer failed.
    fn reject(&self, rejection: Rejection) -> Response;
}

/// A request that is not answered by a handler: why, and the status.
/// The connection closes after it, because its framing is lost or its body
/// unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The status to answer with.
    pub status: StatusCode,
    /// One sentence for whoever debugs the client.
    pub reason: &'static str,
}

impl Rejection {
    const fn new(status: u16, reason: &'static str) -> Self {
        Self {
            status: StatusCode(status),
            reason,
        }
    }

    /// 400: what arrived is not HTTP/1.1 as RFC 9112 has it.
    #[must_use]
    pub const fn malformed(reason: &'static str) -> Self {
        Self::new(400, reason)
    }

    /// 408: the request was not complete in time.
    pub const LATE: Self = Self::new(408, "The request took too long to arrive");
    /// 413: the body is larger than the route takes.
    pub const BODY_TOO_LARGE: Self = Self::new(413, "The body is too large");
    /// 417: an expectation other than `100-continue`.
    pub const EXPECTATION: Self = Self::new(417, "Only 100-continue can be expected");
    /// 431: the head is over [`HEAD_LIMIT`] or [`FIELD_LIMIT`].
    pub const HEAD_TOO_LARGE: Self = Self::new(431, "The request head is too large");
    /// 500: the handler failed.
    pub const FAILED: Self = Self::new(500, "Internal error");
    /// 501: a transfer coding other than `chunked`.
    pub const CODING: Self = Self::new(501, "The only transfer coding is chunked");
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    pub const VERSION: Self = Self::new(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here");
}
