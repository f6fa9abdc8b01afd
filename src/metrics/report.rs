//! Log and status lines of a snapshot.

use std::fmt;

use super::row::{self, Section, Value};
use super::table::{Snapshot, TABLE};

type Row = row::Row<Snapshot>;

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

    /// The state in one short line, for systemd: what is there now, and what
    /// has happened since the start.
    #[must_use]
    pub fn status(&self) -> String {
        let (now, since): (Vec<&Row>, _) = TABLE
            .iter()
            .filter(|row| !row.status.is_empty())
            .partition(|row| row.kind == "gauge");
        let (now, since) = (self.sums(&now), self.sums(&since));
        format!("{now} now; since the start {since}")
    }

    /// The values of rows by their name in the status line.
    fn sums(&self, rows: &[&Row]) -> String {
        let mut parts: Vec<(u64, &str)> = Vec::new();
        for row in rows {
            let number = self.number(row);
            match parts.last_mut() {
                Some((sum, name)) if *name == row.status => *sum += number,
                _ => parts.push((number, row.status)),
            }
        }
        list(parts)
    }

    /// What has grown since an earlier snapshot, under the names that `name`
    /// finds in the table's rows.
    pub(super) fn list_since(&self, before: &Self, name: fn(&Row) -> &'static str) -> String {
        let rows = TABLE.iter().filter(|row| !name(row).is_empty());
        let parts = rows.map(|row| (self.number(row) - before.number(row), name(row)));
        list(parts.filter(|(number, _)| *number > 0))
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
    use std::time::Duration;

    use super::*;
    use crate::outcome::Outcome;
    use crate::protocol::Protocol;

    #[test]
    fn status_and_summary_are_of_the_same_numbers() {
        let mut now = Snapshot::default();
        now.sessions.live = 2;
        now.sessions.created = 9;
        now.sessions.full = 3;
        now.counters.rate_limited.add(4);
        now.counters.panics.increment();
        now.counters.answered.count(Duration::ZERO, 20);
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            for _ in 0..times {
                now.sessions.ended.count(Protocol::Msc4108, outcome);
            }
        }
        let status = "2 sessions, 0 connections now; since the start 0 completed, \
                      6 aborted, 4 never joined, 5 evicted, 7 refused";
        assert_eq!(now.status(), status);
        let summary = "sessions: 2 left, 9 created, 0 completed, 6 aborted, 4 never joined, \
                       5 evicted; creations: 4 refused over quota, 3 refused because all sessions \
                       were in use, 0 refused without random numbers, 0 from unknown clients; requests: 20 answered, 0 refused, 0 late, \
                       0 write conflicts, 0 ETags normalized, 0 navigations refused; \
                       connections: 0 accepted, 0 evicted; defects: 1 panics";
        assert_eq!(now.to_string(), summary);
    }
}
