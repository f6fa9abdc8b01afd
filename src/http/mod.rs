//! HTTP/1.1 as pure functions: bytes to request, response to bytes, every
//! limit in between. No sockets, no clock, no protocol on top.

mod chunked;
mod decoder;
mod handler;
mod head;
mod limits;
mod rejection;
mod request;
mod response;

pub use decoder::{Decoder, Status};
pub use handler::{Answer, Handler, HeldRequest, ReleaseReason, WakerSource};
pub use head::{Framing, Head};
pub use limits::{FIELD_LIMIT, HEAD_LIMIT};
pub use rejection::Rejection;
pub use request::{BodyLimit, Request};
pub use response::{Body, Persistence, Response};
