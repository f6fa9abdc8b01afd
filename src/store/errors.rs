//! Why a store did not do what it was asked for.

use std::convert::Infallible;

use crate::session::Session;

/// Why a session was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// All sessions are in use; one may not be in so many milliseconds, and
    /// can be evicted then.
    Full(u64),
    /// The operating system has no random numbers to give.
    NoRandomness,
}

/// Why a write was not done.
#[derive(Debug)]
pub enum WriteError<E = Infallible> {
    /// No such session, or none any more.
    NotFound,
    /// The session is at another revision than the writer thinks; this is
    /// its present state.
    Conflict(Session),
    /// The content was not made, for this reason.
    Refused(E),
}

/// Why a write in sequence was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceError {
    /// No such session, or none any more.
    NotFound,
    /// The session is, or was when this transaction came first, at another
    /// revision.
    Conflict,
    /// [`MAX_TRANSACTIONS`](super::MAX_TRANSACTIONS) are recorded already.
    TooMany,
}
