//! What has happened in a store.

use super::ended::Ended;
use crate::outcome::Outcomes;

/// What has happened in a store since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions created.
    pub created: u64,
    /// Sessions ended: deleted, expired and swept, or evicted.
    pub ended: Outcomes,
    /// Sessions not created because all others were in use.
    pub full: u64,
    /// Sessions held now, those that expired and were not swept included.
    pub live: u64,
    /// The bytes of their payloads.
    pub bytes: u64,
}

impl Counts {
    pub(super) fn end(&mut self, ended: &Ended) {
        self.bytes -= ended.bytes as u64;
        self.ended.count(ended.protocol, ended.outcome);
    }
}
