//! Requests for sessions of other nodes: how often they come, and the log line
//! about them.

use std::sync::atomic::{AtomicU64, Ordering};

use log::warn;

use super::context::Context;
use crate::clock::{Timestamp, millis};
use crate::metrics::PERIOD;
use crate::session::{NodeName, PublicId};

/// Notes requests for sessions of other nodes. Anyone can make up such an id, so
/// a request costs a count, and all of them a line a minute.
#[derive(Debug, Default)]
pub(super) struct ForeignSessions {
    /// The time of the next line, in milliseconds on the monotonic clock.
    next_line: AtomicU64,
}

impl ForeignSessions {
    /// Notes a request that has found no session of this name, and returns true,
    /// if the name is an id of another node, or of a server without a name.
    pub(super) fn note(&self, context: &Context, name: &str) -> bool {
        let Some(ours) = context.settings.node else {
            return false;
        };
        let Some(id) = PublicId::parse(name).filter(|id| id.node != Some(ours)) else {
            return false;
        };
        let count = &context.counters.foreign_sessions;
        count.increment();
        if self.is_line_due(context.clock.now()) {
            warn!("{}", line(ours, id.node, count.get()));
        }
        true
    }

    /// Whether a minute has passed since this was true.
    fn is_line_due(&self, now: Timestamp) -> bool {
        let (now, order) = (now.monotonic_ms, Ordering::Relaxed);
        let due = |next| (now >= next).then(|| now + millis(PERIOD));
        self.next_line.fetch_update(order, order, due).is_ok()
    }
}

/// What the operator is told.
fn line(ours: NodeName, theirs: Option<NodeName>, count: u64) -> String {
    let theirs = theirs.map_or_else(
        || "a server without --node".into(),
        |node| format!("node {node}"),
    );
    format!(
        "node {ours} was asked for a session of {theirs}: the load balancer does not route by \
         the first part of the id, or somebody made the id up ({count} such requests so far)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_line_a_minute_however_many_requests_come() {
        let foreign = ForeignSessions::default();
        let at = |monotonic_ms| Timestamp {
            monotonic_ms,
            unix_ms: 0,
        };
        let start = 5_000;
        let due = (start..start + 600_000).filter(|ms| foreign.is_line_due(at(*ms)));
        assert_eq!(due.count(), 10);
        // A clock that was read before, by another thread.
        assert!(!foreign.is_line_due(at(start)));
    }

    #[test]
    fn the_line_names_the_node_that_was_asked_for() {
        let [a, b] = ["a", "b"].map(|name| name.parse().unwrap());
        let said = line(a, Some(b), 7);
        assert!(said.starts_with("node a was asked for a session of node b: "));
        assert!(said.ends_with(" (7 such requests so far)"));
        let said = line(a, None, 1);
        assert!(said.starts_with("node a was asked for a session of a server without --node: "));
    }
}
