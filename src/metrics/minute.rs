//! Minute reports: log lines of what has happened since the last ones. A million
//! sign-ins or refused requests must not become a million lines.

use std::time::{Duration, Instant};

use log::Level;

use super::table::Snapshot;

/// Time between two reports.
const PERIOD: Duration = Duration::from_secs(60);

/// A line, and how serious it is.
type Line = (Level, String);

/// What was reported last, and when.
#[derive(Debug)]
pub struct MinuteReports {
    last: Snapshot,
    at: Instant,
}

impl MinuteReports {
    /// Reports of what happens from now on.
    #[must_use]
    pub fn new(now: Snapshot, at: Instant) -> Self {
        Self { last: now, at }
    }

    /// The lines to log, if a minute has passed since the last ones.
    pub fn due(&mut self, now: &Snapshot, at: Instant) -> Vec<Line> {
        if at.saturating_duration_since(self.at) < PERIOD {
            return Vec::new();
        }
        self.at = at;
        let lines = self.rest(now);
        self.last = now.clone();
        lines
    }

    /// The lines of what was not reported yet: how sign-ins ended, and what was
    /// refused. Without either there are none.
    #[must_use]
    pub fn rest(&self, now: &Snapshot) -> Vec<Line> {
        let ended = now.list_since(&self.last, |row| row.ended);
        let refused = now.list_since(&self.last, |row| row.refused);
        let lines = [
            (Level::Info, "sign-ins that ended in the last minute", ended),
            (Level::Warn, "refused in the last minute", refused),
        ];
        let lines = lines.into_iter().filter(|(.., list)| !list.is_empty());
        lines
            .map(|(level, title, list)| (level, format!("{title}: {list}")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::Counters;
    use crate::outcome::Outcome;
    use crate::protocol::Protocol;

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn a_report_names_what_was_refused_since_the_last_and_nothing_else() {
        let counters = Counters::default();
        let snapshot = || Snapshot {
            counters: counters.clone(),
            ..Snapshot::default()
        };
        let start = Instant::now();
        counters.answered.count(Duration::ZERO, 100);
        counters.rejections.count(400);
        let reports = MinuteReports::new(snapshot(), start);
        counters.answered.count(Duration::ZERO, 100);
        // A handler's failure is no fault of the client's.
        counters.rejections.count(500);
        assert_eq!(reports.rest(&snapshot()), []);
        (0..1_000).for_each(|_| counters.rejections.count(431));
        counters.rejections.count(408);
        counters.rate_limited.add(3);
        counters.evicted.increment();
        let said = "refused in the last minute: 3 creations over a client's quota, \
                    1000 malformed or oversized requests, 1 requests that took too long, \
                    1 connections in favour of newer ones";
        assert_eq!(reports.rest(&snapshot()), [(Level::Warn, said.to_owned())]);
    }

    #[test]
    fn a_report_says_how_sign_ins_ended_and_nothing_of_checks() {
        let mut now = Snapshot::default();
        let reports = MinuteReports::new(now.clone(), Instant::now());
        for _ in 0..9 {
            now.sessions.ended.count(Protocol::Msc4388, Outcome::Check);
        }
        assert_eq!(reports.rest(&now), []);
        for (times, outcome) in (1..).zip(Outcome::ALL) {
            for _ in 0..times {
                now.sessions.ended.count(Protocol::Msc3886, outcome);
                now.sessions.ended.count(Protocol::Msc4108, outcome);
            }
        }
        let said = "sign-ins that ended in the last minute: 2 completed, \
                    4 stopped before the check code, \
                    6 stopped at the check code (wrong, or not confirmed), \
                    8 stopped after the check code (declined, or the homeserver refused), \
                    10 never joined (the second device did not come), \
                    12 pushed out by newer ones";
        assert_eq!(reports.rest(&now), [(Level::Info, said.to_owned())]);
    }

    #[test]
    fn there_is_one_line_a_minute_however_much_happens_and_none_of_nothing() {
        let mut now = Snapshot::default();
        let start = Instant::now();
        let mut reports = MinuteReports::new(now.clone(), start);
        let mut lines = Vec::new();
        for second in 1..=600 {
            // A flood in the second minute, one sign-in in the fourth.
            let ended = match second {
                61..=120 => 1_000,
                200 => 1,
                _ => 0,
            };
            for _ in 0..ended {
                now.sessions
                    .ended
                    .count(Protocol::Msc4108, Outcome::Completed);
            }
            let due = reports.due(&now, start + Duration::from_secs(second));
            lines.extend(texts(due).into_iter().map(|line| (second, line)));
        }
        let said = |number| format!("sign-ins that ended in the last minute: {number} completed");
        assert_eq!(lines, [(120, said(60_000)), (240, said(1))]);
        assert_eq!(reports.rest(&now), []);
    }
}
