//! The protocols: a request and the store in, a response out, no I/O. One file
//! a family of protocols, over shared routes, errors and limits.

mod check;
mod context;
mod creation_limit;
mod etag;
mod etag_api;
mod held_poll;
mod prefer;
mod responses;
mod route;
mod service;
mod settings;
mod token_api;

pub use held_poll::HELD_POLL_SIZE;
pub use route::{MSC3886_PATH, MSC4108_PATH, MSC4388_PATH, STABLE_PATH};
pub use service::Api;
pub use settings::{BODY_LIMIT, SIGN_IN_MAX_BYTES, Settings};
