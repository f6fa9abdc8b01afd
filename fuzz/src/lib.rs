//! What has to hold whatever comes from outside, one module a property. Each
//! has a function `check` that panics when the property fails.
//!
//! The fuzz targets feed it inputs that libFuzzer invents; the server's own
//! tests replay the inputs that are kept.

pub mod connection;
pub mod flags;
pub mod forwarded;
pub mod json;
pub mod request;

mod framing;
mod hops;
mod object;
mod plan;
mod transport;
