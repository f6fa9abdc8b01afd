//! The Prometheus text format of a snapshot: outcomes and no contents, and
//! labels with few values, none of which a client can choose.

use std::fmt::{Display, Write};

use super::process;
use super::row::{Labels, Row, Value};
use super::table::{Snapshot, TABLE};

/// The most bytes of a page: one that has every series.
pub const PAGE_LIMIT: usize = 88 * 1024;

impl Snapshot {
    /// All metrics.
    #[must_use]
    pub fn prometheus(&self) -> String {
        render(self, TABLE) + &render(&self.started, process::TABLE)
    }
}

fn render<S>(now: &S, table: &[Row<S>]) -> String {
    let mut page = String::new();
    let mut last = "";
    for row in table.iter().filter(|row| !row.name.is_empty()) {
        let Row {
            name, kind, help, ..
        } = row;
        if *name != last {
            let _ = write!(page, "# HELP {name} {help}.\n# TYPE {name} {kind}\n");
            last = name;
        }
        let mut emit = |suffix: &str, labels: Labels<'_>, value: &dyn Display| {
            series(&mut page, name, suffix, labels, value);
        };
        match row.value {
            Value::Number(read) => emit("", row.labels, &read(now)),
            Value::Series(write) => write(now, &mut emit),
        }
    }
    page
}

fn series(page: &mut String, name: &str, suffix: &str, labels: Labels<'_>, value: &dyn Display) {
    page.push_str(name);
    page.push_str(suffix);
    for (index, (label, text)) in labels.iter().enumerate() {
        let before = if index == 0 { '{' } else { ',' };
        let _ = write!(page, "{before}{label}=\"{text}\"");
    }
    if !labels.is_empty() {
        page.push('}');
    }
    let _ = writeln!(page, " {value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tiny_http::Method;

    use super::*;
    use crate::metrics::counters::{Durations, Purpose};
    use crate::metrics::table::Counters;
    use crate::protocol::Protocol;

    #[test]
    fn a_metric_has_a_head_and_its_series() {
        let counters = Counters::default();
        counters.rate_limited.add(3);
        counters.rejections.count(413);
        counters.rejections.count(299);
        let now = Snapshot {
            counters,
            uptime: Duration::from_millis(1_500),
            ..Snapshot::default()
        };
        let page = now.prometheus();
        for part in [
            "rendezvousd_uptime_seconds 1.5\n",
            "# TYPE rendezvousd_creations_refused_total counter\n\
             rendezvousd_creations_refused_total{reason=\"quota\"} 3\n\
             rendezvousd_creations_refused_total{reason=\"full\"} 0\n\
             rendezvousd_creations_refused_total{reason=\"draining\"} 0\n\
            rendezvousd_creations_refused_total{reason=\"randomness\"} 0\n\
             # HELP ",
            ".\n# TYPE rendezvousd_requests_refused_total counter\n\
             rendezvousd_requests_refused_total{status=\"413\"} 1\n\
             rendezvousd_requests_refused_total{status=\"other\"} 1\n",
            "rendezvousd_connections{state=\"idle\"} 0\n",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_its_total() {
        let durations = Durations::default();
        durations.count(Duration::from_micros(60), 2);
        durations.count(Duration::from_millis(3), 1);
        durations.count(Duration::from_secs(60), 1);
        let counters = Counters {
            answered: durations,
            ..Counters::default()
        };
        let now = Snapshot {
            counters,
            ..Snapshot::default()
        };
        let page = now.prometheus();
        let name = "rendezvousd_request_duration_seconds_";
        let lines: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix(name)).collect();
        assert_eq!(lines[0], "bucket{le=\"0.0001\"} 2");
        assert_eq!(lines[4], "bucket{le=\"0.0025\"} 2");
        assert_eq!(lines[5], "bucket{le=\"0.005\"} 3");
        let end = [
            "bucket{le=\"10\"} 3",
            "bucket{le=\"+Inf\"} 4",
            "sum 60.00312",
            "count 4",
        ];
        assert_eq!(lines[15..], end);
    }

    #[test]
    fn no_page_is_over_the_limit() {
        let counters = Counters::default();
        let protocols = Protocol::ALL.map(Purpose::Protocol);
        for purpose in [Purpose::Unknown, Purpose::Check]
            .into_iter()
            .chain(protocols)
        {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "X"] {
                let method: Method = method.parse().unwrap();
                for status in 200..600 {
                    counters.requests.count(purpose, &method, status);
                    counters.rejections.count(status);
                }
            }
        }
        let now = Snapshot {
            counters,
            ..Snapshot::default()
        };
        let page = now.prometheus();
        assert!(page.contains("method=\"OPTIONS\",status=\"other\""));
        // Each number may grow to 20 digits.
        let longest = page.len() + 20 * page.lines().count();
        assert!(longest < PAGE_LIMIT, "{longest}");
    }
}
