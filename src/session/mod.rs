//! One rendezvous session: an opaque payload with a media type, a revision
//! and a rule for its end.

mod content;
mod id;
mod node;

#[cfg(test)]
mod tests;

pub use content::Content;
pub use id::{Revision, SessionId};
pub use node::{NodeName, PublicId};

use std::time::Duration;

use crate::clock::{Timestamp, millis};
use crate::protocol::Protocol;

/// How long a session is not evicted after a use. Clients poll once a second,
/// so one that has been silent for so long is likely gone.
pub const EVICTION_GRACE: Duration = Duration::from_secs(15);

/// One session at one revision. Times are milliseconds on the monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What was last written.
    pub content: Content,
    /// Which write that was.
    pub revision: Revision,
    /// The protocol it was created over.
    pub protocol: Protocol,
    /// When it was created or last written.
    pub modified_at: u64,
    /// From when on it is gone.
    pub expires_at: u64,
    /// When it was last created, read or written.
    pub last_used: u64,
    /// Whether the first payload was fetched.
    pub first_fetched: bool,
    /// Writes after the creation, 255 if there were more.
    pub writes: u8,
}

impl Session {
    /// The longest lifetime a session can have.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

    /// A session as it is created at `now`, which is its first use. Its
    /// lifetime counts from there or, if the protocol renews it, from the
    /// last write. Lifetimes over [`Self::MAX_LIFETIME`] count as that.
    #[must_use]
    pub fn new(
        content: Content,
        first: Revision,
        protocol: Protocol,
        lifetime: Duration,
        now: Timestamp,
    ) -> Self {
        Self {
            content,
            revision: first,
            protocol,
            modified_at: now.monotonic_ms,
            expires_at: now.monotonic_ms + millis(lifetime.min(Self::MAX_LIFETIME)),
            last_used: now.monotonic_ms,
            first_fetched: false,
            writes: 0,
        }
    }

    /// Whether its times are those that a session can have.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let remaining = self.expires_at.checked_sub(self.modified_at);
        remaining.is_some_and(|remaining| remaining <= millis(Self::MAX_LIFETIME))
    }

    /// Whether the first payload is still there and was not fetched.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.writes == 0 && !self.first_fetched
    }

    /// Whether a write over `expected` that brings `content` has been done: it
    /// made the present revision. At its creation a session has no revision
    /// before.
    #[must_use]
    pub fn has_written(&self, expected: Revision, content: &Content) -> bool {
        self.writes > 0 && expected.next() == self.revision && self.content == *content
    }

    /// How long, in milliseconds, it may not be evicted: until
    /// [`EVICTION_GRACE`] after its last use.
    #[must_use]
    pub fn protected_for(&self, now: Timestamp) -> u64 {
        let until = self.last_used.saturating_add(millis(EVICTION_GRACE));
        until.saturating_sub(now.monotonic_ms)
    }

    /// Whether the session still answers.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now.monotonic_ms < self.expires_at
    }

    /// Puts new content in place and returns the old, for the caller to drop
    /// outside its lock.
    #[must_use]
    pub fn replace(&mut self, content: Content, now: Timestamp) -> Content {
        if self.protocol.renews() {
            let lifetime = self.expires_at - self.modified_at;
            self.expires_at = now.monotonic_ms + lifetime;
        }
        self.modified_at = now.monotonic_ms;
        self.revision = self.revision.next();
        self.writes = self.writes.saturating_add(1);
        std::mem::replace(&mut self.content, content)
    }
}
