//! The one table of what is counted, and the types made of it.

use std::time::Duration;

use super::connections::Connections;
use super::counters::{ByStatus, Counter, Durations, Requests};
use super::row::{Row, Section, Value};
use super::series;
use crate::outcome::{Outcome, Stage};
use crate::store::Counts;

/// Makes [`Counters`] and the table of its entries, in the order of the
/// Prometheus text. An entry that begins with `count NAME` is a counter of
/// that name; the others say where their value comes from.
macro_rules! metrics {
    ($($($(#[$doc:meta])* count $counter:ident)? { $($key:ident: $value:expr),+ $(,)? })+) => {
        /// Everything that is counted since the start. A clone is a copy of
        /// the values.
        #[derive(Clone, Debug, Default)]
        pub struct Counters {
            $($($(#[$doc])* pub $counter: Counter,)?)+
            /// Requests answered, by protocol, method and status.
            pub requests: Requests,
            /// Requests that were rejected before they came to a handler, or
            /// whose handler failed.
            pub rejections: ByStatus,
            /// Requests answered by the handler, by how long that took.
            pub answered: Durations,
            /// Connections held, by what they wait for.
            pub connections: Connections,
        }

        pub(super) static TABLE: &[Row<Snapshot>] = &[$(Row {
            $(value: Value::Number(|now| now.counters.$counter.get()),)?
            $($key: $value,)+
            ..Row::EMPTY
        }),+];
    };
}

metrics! {
    {
        name: "rendezvousd_build_info",
        kind: "gauge",
        help: "The version of rendezvousd that runs, as a label; the value is always 1",
        labels: &[("version", env!("CARGO_PKG_VERSION"))],
        value: Value::Number(|_| 1),
    }
    {
        name: "rendezvousd_uptime_seconds",
        kind: "gauge",
        help: "Seconds since rendezvousd started",
        value: Value::Series(|now, emit| emit("", &[], &now.uptime.as_secs_f64())),
    }
    /// Panics caught.
    count panics {
        name: "rendezvousd_panics_total",
        help: "Panics that were caught: each is a bug in rendezvousd, please report it",
        summary: (Section::Defects, "panics"),
    }
    {
        name: "rendezvousd_sessions",
        kind: "gauge",
        help: "Sessions in memory now. A session is one attempt to sign in with a QR code, and \
               lasts some minutes",
        value: Value::Number(|now| now.sessions.live),
        status: "sessions",
        summary: (Section::Sessions, "left"),
    }
    {
        kind: "gauge",
        value: Value::Number(|now| now.counters.connections.total()),
        status: "connections",
    }
    {
        name: "rendezvousd_sessions_limit",
        kind: "gauge",
        help: "The most sessions that there can be at once (--max-entries). When they are all \
               taken, new ones push out others or are refused",
        value: Value::Number(|now| now.limits.sessions),
    }
    {
        name: "rendezvousd_sessions_payload_bytes",
        kind: "gauge",
        help: "Bytes of the encrypted messages in all sessions now",
        value: Value::Number(|now| now.sessions.bytes),
    }
    {
        name: "rendezvousd_sessions_created_total",
        help: "Sessions created, those of the check page included",
        value: Value::Number(|now| now.sessions.created),
        summary: (Section::Sessions, "created"),
    }
    {
        name: "rendezvousd_sessions_ended_total",
        help: "Sessions ended, by outcome: completed (signed in), aborted (the second device came, \
               but the sign-in stopped before, at or after its check code: see stage), \
               never_joined (the second device did not come), evicted (pushed out by newer \
               sessions), check (the check page, no sign-in). A success is counted when its \
               session is deleted or expires, up to five minutes later",
        value: Value::Series(|now, emit| series::ended(&now.sessions.ended, emit)),
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::Completed)),
        status: "completed",
        ended: "completed",
        summary: (Section::Sessions, "completed"),
    }
    {
        value: Value::Number(Snapshot::aborted),
        status: "aborted",
        summary: (Section::Sessions, "aborted"),
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::Aborted(Stage::BeforeCheckCode))),
        ended: "stopped before the check code",
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::Aborted(Stage::CheckCode))),
        ended: "stopped at the check code (wrong, or not confirmed)",
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::Aborted(Stage::AfterCheckCode))),
        ended: "stopped after the check code (declined, or the homeserver refused)",
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::NeverJoined)),
        status: "never joined",
        ended: "never joined (the second device did not come)",
        summary: (Section::Sessions, "never joined"),
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::Evicted)),
        status: "evicted",
        ended: "pushed out by newer ones",
        summary: (Section::Sessions, "evicted"),
    }
    /// Creations refused because the client had created enough.
    count rate_limited {
        name: REFUSED,
        help: "Sessions that were not created, by reason: quota (that address or network had \
               created enough: --create-rate, --create-burst), full (all sessions were in use: \
               --max-entries), draining (the server was about to stop: --drain) or randomness \
               (the system had no random numbers)",
        labels: &[("reason", "quota")],
        status: "refused",
        refused: "creations over a client's quota",
        summary: (Section::Creations, "refused over quota"),
    }
    {
        name: REFUSED,
        labels: &[("reason", "full")],
        value: Value::Number(|now| now.sessions.full),
        status: "refused",
        refused: "creations because all sessions are in use",
        summary: (Section::Creations, "refused because all sessions were in use"),
    }
    /// Creations refused because the server was about to stop.
    count draining {
        name: REFUSED,
        labels: &[("reason", "draining")],
        refused: "creations because the server was about to stop",
    }
    /// Creations refused because the system had no random numbers.
    count rng_failures {
        name: REFUSED,
        labels: &[("reason", "randomness")],
        refused: "creations without random numbers",
        summary: (Section::Creations, "refused without random numbers"),
    }
    /// Creations whose client a trusted proxy did not name, and that no quota
    /// applied to.
    count unknown_client {
        name: "rendezvousd_creations_unattributed_total",
        help: "Sessions created without a check of the client's quota, because the reverse proxy \
               did not say which client it was (X-Forwarded-For, Forwarded)",
        summary: (Section::Creations, "from unknown clients"),
    }
    {
        name: "rendezvousd_requests_total",
        help: "HTTP requests answered, by method, status and protocol: that of the client (the \
               Matrix proposals msc3886, msc4108 and msc4388), check (health checks and the check \
               page itself) or none (CORS preflights, sessions that are gone, unknown paths)",
        value: Value::Series(|now, emit| series::requests(&now.counters.requests, emit)),
    }
    {
        name: "rendezvousd_requests_refused_total",
        help: "HTTP requests refused before they were looked at, by status: malformed (400, 501, \
               505), too large (413, 431) or too slow (408); and those that a bug broke (500)",
        value: Value::Series(|now, emit| series::rejections(&now.counters.rejections, emit)),
    }
    {
        value: Value::Number(|now| now.counters.answered.total()),
        summary: (Section::Requests, "answered"),
    }
    {
        value: Value::Number(|now| series::malformed(&now.counters.rejections)),
        refused: "malformed or oversized requests",
        summary: (Section::Requests, "refused"),
    }
    {
        value: Value::Number(|now| series::late(&now.counters.rejections)),
        refused: "requests that took too long",
        summary: (Section::Requests, "late"),
    }
    {
        name: "rendezvousd_request_duration_seconds",
        kind: "histogram",
        help: "Seconds that rendezvousd took to answer an HTTP request, from its first byte to \
               the first byte of the answer. The time that a poll was held does not count",
        value: Value::Series(|now, emit| series::durations(&now.counters.answered, emit)),
    }
    /// Requests for sessions of other nodes.
    count foreign_sessions {
        name: "rendezvousd_foreign_sessions_total",
        help: "Requests for sessions of other nodes, or of a server without --node: a node is \
               down, the load balancer does not route by the id, or somebody made the ids up",
        refused: "requests for sessions of other nodes (a node is down, the load balancer does \
                  not route by the id, or the ids are made up)",
    }
    /// Writes refused because another came first.
    count conflicts {
        name: "rendezvousd_write_conflicts_total",
        help: "Messages that were not written because the other device had written first (status \
               409 or 412): normal now and then",
        summary: (Section::Requests, "write conflicts"),
    }
    /// ETags that a proxy had changed and that were read regardless.
    count etags_normalized {
        name: "rendezvousd_etag_repairs_total",
        help: "Requests whose ETag a reverse proxy had changed, as it does when it compresses, and \
               that were understood all the same",
        summary: (Section::Requests, "ETags normalized"),
    }
    /// Held polls that ended because of a write, or because the session did.
    count polls_changed {
        name: HELD_POLLS,
        help: "Polls that were held until there was news, and are over, by reason: changed (a \
               message came, or the session ended), timeout (no message came within --long-poll), \
               gone (the client or a proxy closed the connection) or released (answered early, as \
               the server stopped, ran out of connections, or the session had too many)",
        labels: &[("reason", "changed")],
    }
    /// Held polls that ended because their time was over.
    count polls_timed_out {
        name: HELD_POLLS,
        labels: &[("reason", "timeout")],
    }
    /// Held polls that ended because their client had left.
    count polls_gone {
        name: HELD_POLLS,
        labels: &[("reason", "gone")],
    }
    /// Held polls that ended for want of room, or because the server stopped.
    count polls_released {
        name: HELD_POLLS,
        labels: &[("reason", "released")],
    }
    /// Requests for paths that nothing is at.
    count unknown_paths {
        name: "rendezvousd_unknown_paths_total",
        help: "Requests for paths that rendezvousd does not serve: the reverse proxy passes on too \
               much, or changes the path on its way, or somebody tries paths. Health checks at / do \
               not count",
    }
    /// Reads refused because a browser would have shown the payload.
    count navigations_refused {
        name: "rendezvousd_navigations_refused_total",
        help: "Requests refused because somebody opened a session's address in a browser: messages \
               are for programs, and are not shown",
        summary: (Section::Requests, "navigations refused"),
    }
    {
        name: "rendezvousd_connections",
        kind: "gauge",
        help: "Open connections now, by state: idle (between requests), receiving (a request), \
               sending (an answer), lingering (refused, about to close) or held (with a poll that \
               waits for news)",
        value: Value::Series(|now, emit| series::connections(&now.counters.connections, emit)),
    }
    {
        name: "rendezvousd_connections_limit",
        kind: "gauge",
        help: "The most connections that there can be at once (--max-connections, or what the \
               limit of open files allows). Beyond that the one that was idle for longest is closed",
        value: Value::Number(|now| now.limits.connections),
    }
    /// Connections accepted.
    count accepted {
        name: "rendezvousd_connections_accepted_total",
        help: "Connections accepted",
        summary: (Section::Connections, "accepted"),
    }
    /// Connections closed to make room for newer ones.
    count evicted {
        name: "rendezvousd_connections_evicted_total",
        help: "Connections closed to make room: there were too many at once, too many from one \
               client, or their buffers took too much memory",
        refused: "connections in favour of newer ones",
        summary: (Section::Connections, "evicted"),
    }
}

const REFUSED: &str = "rendezvousd_creations_refused_total";

const HELD_POLLS: &str = "rendezvousd_held_polls_total";

/// The most that there can be of what is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) sessions: u64,
    pub(super) connections: u64,
}

/// The values of all counters at one time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) counters: Counters,
    pub(super) sessions: Counts,
    pub(super) limits: Limits,
    /// When counting began, in seconds since the Unix epoch.
    pub(super) started: u64,
    pub(super) uptime: Duration,
}

impl Snapshot {
    /// How many sessions were aborted, at any stage.
    fn aborted(&self) -> u64 {
        let outcomes = Outcome::ALL.into_iter();
        let aborted = outcomes.filter(|outcome| outcome.stage().is_some());
        aborted
            .map(|outcome| self.sessions.ended.total(outcome))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_shown_somewhere_and_every_metric_explained() {
        let mut last = "";
        for row in TABLE {
            let shown = [row.name, row.status, row.ended, row.refused, row.summary.1];
            assert!(shown.iter().any(|text| !text.is_empty()));
            // The first row of a metric explains it, the others do not.
            let explained = !row.name.is_empty() && row.name != last;
            assert_eq!(!row.help.is_empty(), explained, "{}", row.name);
            assert!(row.name.ends_with("_total") || row.kind != "counter" || row.name.is_empty());
            last = row.name;
        }
    }
}
