//! The interface between the server and the handler of its requests.

use super::head::{Head, Request};
use super::rejection::Rejection;
use super::response::Response;
use crate::client::Peer;

/// Handles requests. The server calls it from all its workers at once.
pub trait Handler: Send + Sync + 'static {
    /// The largest body, in bytes, that a request with this head may have.
    fn body_limit(&self, head: &Head<'_, '_>) -> usize;

    /// The response to a complete request from this peer.
    fn respond(&self, request: &Request<'_, '_>, peer: Peer) -> Response;

    /// The response to a request that was rejected, or whose handling failed.
    fn reject(&self, rejection: Rejection) -> Response;
}
