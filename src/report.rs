//! What is said of refusals: counts, once a minute at most, because who makes
//! the server refuse a million requests must not make it log a million lines.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::api::Api;
use crate::outcome::Outcome;
use crate::server;
use crate::store::{Counts, Store};

/// Time between two reports.
pub const PERIOD: Duration = Duration::from_secs(60);

/// Everything that has been counted since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    sessions: Counts,
    answered: u64,
    malformed: u64,
    late: u64,
    rate_limited: u64,
    unknown_client: u64,
    conflicts: u64,
    etags_normalized: u64,
    navigations: u64,
    panics: u64,
    accepted: u64,
    evicted: u64,
}

impl Totals {
    /// Reads all counters.
    #[must_use]
    pub fn read(store: &Store, api: &Api, server: &server::Counters) -> Self {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let api = api.counters();
        Self {
            sessions: store.counts(),
            answered: server.answered.total(),
            malformed: get(&server.refused),
            late: get(&server.late),
            rate_limited: get(&api.rate_limited),
            unknown_client: get(&api.unknown_client),
            conflicts: get(&api.conflicts),
            etags_normalized: get(&api.etags_normalized),
            navigations: get(&api.navigations_refused),
            panics: get(&server.panics),
            accepted: get(&server.accepted),
            evicted: get(&server.evicted),
        }
    }

    /// How it goes, in one short line.
    #[must_use]
    pub fn status(&self) -> String {
        let refused = self.rate_limited + self.sessions.full;
        format!(
            "{} sessions; {} created, {} completed, {refused} refused; {} requests answered",
            self.sessions.live,
            self.sessions.created,
            self.sessions.ended.total(Outcome::Completed),
            self.answered
        )
    }

    /// What was refused, or closed in favour of others, since an earlier
    /// reading; `None` if nothing was.
    #[must_use]
    pub fn refused_since(&self, before: &Self) -> Option<String> {
        let counts = [
            (
                self.rate_limited - before.rate_limited,
                "creations over a client's quota",
            ),
            (
                self.sessions.full - before.sessions.full,
                "creations because all sessions are in use",
            ),
            (
                self.malformed - before.malformed,
                "malformed or oversized requests",
            ),
            (self.late - before.late, "requests that took too long"),
            (
                self.evicted - before.evicted,
                "connections in favour of newer ones",
            ),
        ];
        let parts: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!parts.is_empty()).then(|| format!("refused in the last minute: {}", parts.join(", ")))
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = &self.sessions;
        let ended = |outcome| sessions.ended.total(outcome);
        write!(
            f,
            "sessions: {} created, {} completed, {} aborted, {} never joined, {} evicted, {} left; \
             creations refused: {} over quota, {} for want of room, {} had no known client; \
             requests: {} answered, {} refused, {} late, {} write conflicts, {} entity tags \
             repaired, {} navigations refused, {} panics; connections: {} accepted, {} evicted",
            sessions.created,
            ended(Outcome::Completed),
            ended(Outcome::Aborted),
            ended(Outcome::NeverJoined),
            ended(Outcome::Evicted),
            sessions.live,
            self.rate_limited,
            sessions.full,
            self.unknown_client,
            self.answered,
            self.malformed,
            self.late,
            self.conflicts,
            self.etags_normalized,
            self.navigations,
            self.panics,
            self.accepted,
            self.evicted,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_was_refused_since_the_last_and_nothing_else() {
        let before = Totals {
            malformed: 7,
            answered: 100,
            ..Totals::default()
        };
        let quiet = Totals {
            answered: 200,
            ..before
        };
        assert_eq!(quiet.refused_since(&before), None);
        let attacked = Totals {
            malformed: 1_007,
            rate_limited: 3,
            evicted: 1,
            ..before
        };
        let said = "refused in the last minute: 3 creations over a client's quota, \
                    1000 malformed or oversized requests, \
                    1 connections in favour of newer ones";
        assert_eq!(attacked.refused_since(&before).as_deref(), Some(said));
    }
}
