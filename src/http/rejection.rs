//! Requests that are rejected before they reach a handler.

use tiny_http::StatusCode;

/// Status and reason of a request that no handler answers. The connection
/// closes after it, because its framing is lost or its body unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The status to answer with.
    pub status: StatusCode,
    /// One sentence for those who debug the client.
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
    /// 431: the head is over [`HEAD_LIMIT`](super::HEAD_LIMIT) or
    /// [`FIELD_LIMIT`](super::FIELD_LIMIT).
    pub const HEAD_TOO_LARGE: Self = Self::new(431, "The request head is too large");
    /// 500: the handler failed.
    pub const FAILED: Self = Self::new(500, "Internal error");
    /// 501: a transfer coding other than `chunked`.
    pub const CODING: Self = Self::new(501, "The only transfer coding is chunked");
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    pub const VERSION: Self = Self::new(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here");
}
