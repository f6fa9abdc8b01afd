//! The one table of what is counted, and the types made of it.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connections::Connections;
use super::counters::{ByStatus, Counter, Durations, Requests};
use super::series;
use crate::outcome::Outcome;
use crate::store::{Counts, Store};

/// A section of the closing summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Sessions,
    Creations,
    Requests,
    Connections,
    Defects,
}

/// Names and values of labels. They are ours and need no escaping.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// What series are given to: a suffix of the metric's name, labels, a value.
pub(super) type Emit<'a> = &'a mut dyn FnMut(&str, Labels<'_>, &dyn Display);

/// Where the value of a row comes from.
pub(super) enum Value {
    /// One number.
    Number(fn(&Snapshot) -> u64),
    /// Series with labels of their own, for Prometheus only.
    Series(fn(&Snapshot, Emit<'_>)),
}

/// One entry of the table: a value, and where it is shown under what name. An
/// empty text stands for nowhere.
pub(super) struct Row {
    /// The metric's name for Prometheus. Rows of one metric follow each other.
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// What the metric means, in one sentence.
    pub(super) help: &'static str,
    pub(super) labels: Labels<'static>,
    pub(super) value: Value,
    /// Its name in systemd's status line. Neighbours of one name are added.
    pub(super) status: &'static str,
    /// Its name in the minute report of what was refused.
    pub(super) refused: &'static str,
    /// Its name in the closing summary.
    pub(super) summary: (Section, &'static str),
}

impl Row {
    const EMPTY: Self = Self {
        name: "",
        kind: "counter",
        help: "",
        labels: &[],
        value: Value::Number(|_| 0),
        status: "",
        refused: "",
        summary: (Section::Sessions, ""),
    };
}

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

        pub(super) static TABLE: &[Row] = &[$(Row {
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
        help: "The program that runs; always 1",
        labels: &[("version", env!("CARGO_PKG_VERSION"))],
        value: Value::Number(|_| 1),
    }
    {
        name: "rendezvousd_uptime_seconds",
        kind: "gauge",
        help: "Time since the start",
        value: Value::Series(|now, emit| emit("", &[], &now.uptime.as_secs_f64())),
    }
    /// Panics caught.
    count panics {
        name: "rendezvousd_panics_total",
        help: "Panics caught; each is a defect",
        summary: (Section::Defects, "panics"),
    }
    {
        name: "rendezvousd_sessions",
        kind: "gauge",
        help: "Sessions held, those included that have expired and were not swept yet",
        value: Value::Number(|now| now.sessions.live),
        status: "sessions",
        summary: (Section::Sessions, "left"),
    }
    {
        name: "rendezvousd_sessions_payload_bytes",
        kind: "gauge",
        help: "Bytes of their payloads",
        value: Value::Number(|now| now.sessions.bytes),
    }
    {
        name: "rendezvousd_sessions_created_total",
        help: "Sessions created",
        value: Value::Number(|now| now.sessions.created),
        status: "created",
        summary: (Section::Sessions, "created"),
    }
    {
        name: "rendezvousd_sessions_ended_total",
        help: "Sessions ended: completed (a sign-in that got to its end), aborted (two devices \
               met and did not get there), never_joined (no second device came) or evicted (a \
               newer session took the place)",
        value: Value::Series(series::ended),
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::Completed)),
        status: "completed",
        summary: (Section::Sessions, "completed"),
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::Aborted)),
        summary: (Section::Sessions, "aborted"),
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::NeverJoined)),
        summary: (Section::Sessions, "never joined"),
    }
    {
        value: Value::Number(|now| now.sessions.ended.total(Outcome::Evicted)),
        summary: (Section::Sessions, "evicted"),
    }
    /// Creations refused because the client had created enough.
    count rate_limited {
        name: REFUSED,
        help: "Creations refused: the client over its quota, all sessions in use, or no random \
               numbers to be had",
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
        help: "Creations that no quota applied to, because a trusted proxy did not name the client",
        summary: (Section::Creations, "from unknown clients"),
    }
    {
        name: "rendezvousd_requests_total",
        help: "Requests answered, by the protocol as far as path or session tell",
        value: Value::Series(series::requests),
    }
    {
        name: "rendezvousd_requests_refused_total",
        help: "Requests refused before they came to a protocol, or whose answer failed",
        value: Value::Series(series::rejections),
    }
    {
        value: Value::Number(|now| now.counters.answered.total()),
        status: "requests answered",
        summary: (Section::Requests, "answered"),
    }
    {
        value: Value::Number(series::malformed),
        refused: "malformed or oversized requests",
        summary: (Section::Requests, "refused"),
    }
    {
        value: Value::Number(series::late),
        refused: "requests that took too long",
        summary: (Section::Requests, "late"),
    }
    {
        name: "rendezvousd_request_duration_seconds",
        kind: "histogram",
        help: "Time from a request's beginning, or the event that brought it, to its answer's way \
               into the socket",
        value: Value::Series(series::durations),
    }
    /// Writes refused because another came first.
    count conflicts {
        name: "rendezvousd_write_conflicts_total",
        help: "Writes refused because another came first",
        summary: (Section::Requests, "write conflicts"),
    }
    /// ETags that a proxy had changed and that were read regardless.
    count etags_normalized {
        name: "rendezvousd_etag_repairs_total",
        help: "ETags that a proxy had changed and that were read regardless",
        summary: (Section::Requests, "ETags normalized"),
    }
    /// Held polls that ended because of a write, or because the session did.
    count polls_changed {
        name: HELD_POLLS,
        help: "Held polls ended: changed (a write came, or the session ended), timeout, gone (the \
               client left) or released (the server stopped, needed the place, or the session had \
               too many)",
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
    /// Reads refused because a browser would have shown the payload.
    count navigations_refused {
        name: "rendezvousd_navigations_refused_total",
        help: "Reads refused because a browser would have shown the payload",
        summary: (Section::Requests, "navigations refused"),
    }
    {
        name: "rendezvousd_connections",
        kind: "gauge",
        help: "Connections held, by what they wait for",
        value: Value::Series(series::connections),
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
        help: "Connections closed in favour of newer ones, or for the room that their buffers take",
        refused: "connections in favour of newer ones",
        summary: (Section::Connections, "evicted"),
    }
    {
        name: "process_resident_memory_bytes",
        kind: "gauge",
        help: "Memory that the process takes",
        value: Value::Series(series::resident_memory),
    }
    {
        name: "process_open_fds",
        kind: "gauge",
        help: "File descriptors that are open",
        value: Value::Series(series::open_fds),
    }
}

const REFUSED: &str = "rendezvousd_creations_refused_total";

const HELD_POLLS: &str = "rendezvousd_held_polls_total";

/// Where snapshots are taken.
#[derive(Clone, Debug)]
pub struct Metrics {
    counters: Arc<Counters>,
    store: Arc<Store>,
    started: Instant,
}

impl Metrics {
    /// The counters and those of a store, from now on.
    #[must_use]
    pub fn new(counters: Arc<Counters>, store: Arc<Store>) -> Self {
        Self {
            counters,
            store,
            started: Instant::now(),
        }
    }

    /// The values of all at present.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            counters: Counters::clone(&self.counters),
            sessions: self.store.counts(),
            uptime: self.started.elapsed(),
        }
    }
}

/// The values of all counters at one time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) counters: Counters,
    pub(super) sessions: Counts,
    pub(super) uptime: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_shown_somewhere_and_every_metric_explained() {
        let mut last = "";
        for row in TABLE {
            let shown = [row.name, row.status, row.refused, row.summary.1];
            assert!(shown.iter().any(|text| !text.is_empty()));
            // The first row of a metric explains it, the others do not.
            let explained = !row.name.is_empty() && row.name != last;
            assert_eq!(!row.help.is_empty(), explained, "{}", row.name);
            assert!(row.name.ends_with("_total") || row.kind != "counter" || row.name.is_empty());
            last = row.name;
        }
    }
}
