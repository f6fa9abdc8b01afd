//! The interface between the server and what answers its requests.

use super::head::{Head, Request};
use super::rejection::Rejection;
use super::response::Response;
use crate::client::Peer;

/// Answers requests. The server calls it from all its workers at once.
pub trait Handler: Send + Sync + 'static {
    /// The largest body, in bytes, that a request with this head may have.
    fn body_limit(&self, head: &Head<'_, '_>) -> usize;

    /// The answer to a complete request from this peer.
    fn respond(&self, request: &Request<'_, '_>, peer: Peer) -> Response;

    /// The answer to what could not become a request, or whose answer failed.
    fn reject(&self, rejection: Rejection) -> Response;
}
