//! What is left of a session at its end: the content to drop outside the
//! lock, and a line that helps to find out why a login failed.

use std::fmt;

use crate::clock::Moment;
use crate::session::{Parts, Session};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody deleted it.
    Deleted,
    /// Its time was over.
    Expired,
    /// A newer one needed its place.
    Evicted,
}

/// A session that has ended. It shows as a line without its name or content.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub reason: Reason,
    /// What it was.
    pub session: Parts,
    /// When, in milliseconds on the steady clock.
    pub at: u64,
}

impl Ended {
    /// Ends a session.
    pub(super) fn new(session: &mut Session, reason: Reason, now: Moment) -> Self {
        Self {
            reason,
            session: session.end(),
            at: now.steady,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::Deleted => "deleted",
            Reason::Expired => "expired",
            Reason::Evicted => "evicted",
        };
        let session = &self.session;
        let modified = session.expires - session.left;
        let since = match session.writes {
            0 => "creation",
            _ => "last write",
        };
        write!(
            f,
            "a session of MSC{} {reason} {} s after its {since}: {} reads, {} writes, {} bytes",
            session.protocol.number(),
            self.at.saturating_sub(modified) / 1_000,
            session.reads,
            session.writes,
            session.content.len(),
        )
    }
}
