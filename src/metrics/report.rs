//! Log and status lines of a snapshot. Refusals are logged as counts, once a
//! minute at most: a million refused requests must not become a million lines.

use std::fmt;
use std::time::Duration;

use super::table::{Row, Section, Snapshot, TABLE, Value};

/// Time between two reports.
pub const PERIOD: Duration = Duration::from_secs(60);

/// The sections of the summary, in their order.
const SECTIONS: [(Section, &str); 5] = [
    (Section::Sessions, "sessions"),
    (Section::Creations, "creations"),
    (Section::Requests, "requests"),
    (Section::Connections, "connections"),
    (Section::Defects, "defects"),
];

impl Snapshot {
    fn number(&self, row: &Row) -> u64 {
        match row.value {
            Value::Number(read) => read(self),
            Value::Series(_) => 0,
        }
    }

    /// The state in one short line, for systemd.
    #[must_use]
    pub fn status(&self) -> String {
        let mut parts: Vec<(u64, &str)> = Vec::new();
        for row in TABLE.iter().filter(|row| !row.status.is_empty()) {
            let number = self.number(row);
            match parts.last_mut() {
                Some((sum, name)) if *name == row.status => *sum += number,
                _ => parts.push((number, row.status)),
            }
        }
        list(parts)
    }

    /// What was refused, or closed in favour of others, since an earlier
    /// snapshot; `None` if nothing was.
    #[must_use]
    pub fn refused_since(&self, before: &Self) -> Option<String> {
        let rows = TABLE.iter().filter(|row| !row.refused.is_empty());
        let parts = rows
            .map(|row| (self.number(row) - before.number(row), row.refused))
            .filter(|(number, _)| *number > 0);
        let list = list(parts);
        (!list.is_empty()).then(|| format!("refused in the last minute: {list}"))
    }
}

/// The closing summary.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (section, name)) in SECTIONS.into_iter().enumerate() {
            let rows = TABLE
                .iter()
                .filter(|row| row.summary.0 == section && !row.summary.1.is_empty());
            let parts = rows.map(|row| (self.number(row), row.summary.1));
            let before = if index == 0 { "" } else { "; " };
            write!(f, "{before}{name}: {}", list(parts))?;
        }
        Ok(())
    }
}

fn list<'a>(parts: impl IntoIterator<Item = (u64, &'a str)>) -> String {
    let parts = parts.into_iter();
    let parts: Vec<String> = parts
        .map(|(number, name)| format!("{number} {name}"))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::Counters;

    #[test]
    fn a_report_names_what_was_refused_since_the_last_and_nothing_else() {
        let counters = Counters::default();
        let snapshot = || Snapshot {
            counters: counters.clone(),
            ..Snapshot::default()
        };
        counters.answered.count(Duration::ZERO, 100);
        counters.rejections.count(400);
        let before = snapshot();
        counters.answered.count(Duration::ZERO, 100);
        // A handler's failure is no fault of the client's.
        counters.rejections.count(500);
        assert_eq!(snapshot().refused_since(&before), None);
        (0..1_000).for_each(|_| counters.rejections.count(431));
        counters.rejections.count(408);
        counters.rate_limited.add(3);
        counters.evicted.increment();
        let said = "refused in the last minute: 3 creations over a client's quota, \
                    1000 malformed or oversized requests, 1 requests that took too long, \
                    1 connections in favour of newer ones";
        assert_eq!(snapshot().refused_since(&before).as_deref(), Some(said));
    }

    #[test]
    fn status_and_summary_are_of_the_same_numbers() {
        let mut now = Snapshot::default();
        now.sessions.live = 2;
        now.sessions.created = 9;
        now.sessions.full = 3;
        now.counters.rate_limited.add(4);
        now.counters.panics.increment();
        now.counters.answered.count(Duration::ZERO, 20);
        let status = "2 sessions, 9 created, 0 completed, 7 refused, 20 requests answered";
        assert_eq!(now.status(), status);
        let summary = "sessions: 2 left, 9 created, 0 completed, 0 aborted, 0 never joined, \
                       0 evicted; creations: 4 refused over quota, 3 refused because all sessions \
                       were in use, 0 refused without random numbers, 0 from unknown clients; requests: 20 answered, 0 refused, 0 late, \
                       0 write conflicts, 0 ETags normalized, 0 navigations refused; \
                       connections: 0 accepted, 0 evicted; defects: 1 panics";
        assert_eq!(now.to_string(), summary);
    }
}
