//! The counters in Prometheus' text format: outcomes and no contents, and
//! labels with few values, none of which a client can choose.

use std::fmt::{Display, Write};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Sources;
use crate::outcome::Outcome;
use crate::protocol::Protocol;
use crate::server::{Durations, Phase};

/// A metrics page in the making.
#[derive(Debug, Default)]
struct Page(String);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// Begins a metric, with what it means in one sentence.
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}\n");
    }

    /// Adds a value. Those of labels are ours and need no escaping.
    fn value(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.begin(name, "counter", help);
        self.value(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.begin(name, "gauge", help);
        self.value(name, &[], value);
    }

    /// A counter with one label, and all of its values.
    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.begin(name, "counter", help);
        for (text, value) in values {
            self.value(name, &[(label, text)], value);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, durations: &Durations) {
        self.begin(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let counts = durations.buckets();
        let bounds = Durations::BOUNDS.map(|bound| seconds(Duration::from_micros(bound)));
        let mut total = 0;
        for (bound, count) in bounds
            .iter()
            .map(String::as_str)
            .chain(["+Inf"])
            .zip(counts)
        {
            total += count;
            self.value(&bucket, &[("le", bound)], total);
        }
        self.value(&format!("{name}_sum"), &[], seconds(durations.sum()));
        // The same as in the last bucket, though others count meanwhile.
        self.value(&format!("{name}_count"), &[], total);
    }
}

fn seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Sources {
    /// All metrics.
    pub(super) fn metrics(&self) -> String {
        let mut page = Page::default();
        self.service(&mut page);
        self.sessions(&mut page);
        self.creations(&mut page);
        self.requests(&mut page);
        self.connections(&mut page);
        process(&mut page);
        page.0
    }

    fn service(&self, page: &mut Page) {
        let build = "rendezvousd_build_info";
        page.begin(build, "gauge", "The program that runs; always 1");
        page.value(build, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.gauge(
            "rendezvousd_uptime_seconds",
            "Time since the start",
            seconds(self.started.elapsed()),
        );
        page.counter(
            "rendezvousd_panics_total",
            "Panics caught; each is a defect",
            get(&self.counters.panics),
        );
    }

    fn sessions(&self, page: &mut Page) {
        let counts = self.store.counts();
        page.gauge(
            "rendezvousd_sessions",
            "Sessions held, those included that have expired and were not swept yet",
            counts.live,
        );
        page.gauge(
            "rendezvousd_sessions_payload_bytes",
            "Bytes of their payloads",
            counts.bytes,
        );
        page.counter(
            "rendezvousd_sessions_created_total",
            "Sessions created",
            counts.created,
        );
        let ended = "rendezvousd_sessions_ended_total";
        let help = "Sessions ended: completed (a sign-in that got to its end), aborted (two devices \
                    met and did not get there), never_joined (no second device came) or evicted (a \
                    newer session took the place)";
        page.begin(ended, "counter", help);
        for protocol in Protocol::ALL {
            let name = format!("msc{}", protocol.number());
            for outcome in Outcome::ALL {
                let labels = [("protocol", &*name), ("outcome", outcome.name())];
                page.value(ended, &labels, counts.ended.of(protocol, outcome));
            }
        }
    }

    fn creations(&self, page: &mut Page) {
        let counters = self.api.counters();
        page.counters(
            "rendezvousd_creations_refused_total",
            "Creations refused: the client over its quota, all sessions in use, or no random \
             numbers to be had",
            "reason",
            &[
                ("quota", get(&counters.rate_limited)),
                ("full", self.store.counts().full),
                ("randomness", get(&counters.rng_failures)),
            ],
        );
        page.counter(
            "rendezvousd_creations_unattributed_total",
            "Creations that no quota applied to, because a trusted proxy did not name the client",
            get(&counters.unknown_client),
        );
    }

    fn requests(&self, page: &mut Page) {
        let counters = self.api.counters();
        let requests = "rendezvousd_requests_total";
        let help = "Requests answered, by the protocol as far as path or session tell";
        page.begin(requests, "counter", help);
        for (protocol, method, status, count) in counters.requests.seen() {
            let status = status_label(status);
            let labels = [
                ("protocol", protocol),
                ("method", method),
                ("status", &status),
            ];
            page.value(requests, &labels, count);
        }
        let refused = "rendezvousd_requests_refused_total";
        let help = "Requests refused before they came to a protocol, or whose answer failed";
        page.begin(refused, "counter", help);
        for (status, count) in counters.refused.seen() {
            page.value(refused, &[("status", &status_label(status))], count);
        }
        page.histogram(
            "rendezvousd_request_duration_seconds",
            "Time from a request's beginning, or the event that brought it, to its answer's way \
             into the socket",
            &self.counters.answered,
        );
        page.counter(
            "rendezvousd_write_conflicts_total",
            "Writes refused because another came first",
            get(&counters.conflicts),
        );
        page.counter(
            "rendezvousd_etag_repairs_total",
            "Entity tags that a proxy had changed and that were read regardless",
            get(&counters.etags_normalized),
        );
        page.counter(
            "rendezvousd_navigations_refused_total",
            "Reads refused because a browser would have shown the payload",
            get(&counters.navigations_refused),
        );
    }

    fn connections(&self, page: &mut Page) {
        let held = "rendezvousd_connections";
        page.begin(held, "gauge", "Connections held, by what they wait for");
        for phase in Phase::ALL {
            let state = match phase {
                Phase::Idle => "idle",
                Phase::Receiving => "receiving",
                Phase::Sending => "sending",
                Phase::Lingering => "lingering",
            };
            let count = self.counters.held.in_phase(phase);
            page.value(held, &[("state", state)], count);
        }
        page.counter(
            "rendezvousd_connections_accepted_total",
            "Connections accepted",
            get(&self.counters.accepted),
        );
        page.counter(
            "rendezvousd_connections_evicted_total",
            "Connections closed in favour of newer ones, or for the room that their buffers take",
            get(&self.counters.evicted),
        );
    }
}

fn status_label(status: u16) -> String {
    match status {
        0 => "other".into(),
        status => status.to_string(),
    }
}

/// What the system says of this process, where it does.
fn process(page: &mut Page) {
    if let Some(resident) = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| resident(&text))
    {
        let name = "process_resident_memory_bytes";
        page.gauge(name, "Memory that the process takes", resident);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is there for the reading.
        let open = entries.count().saturating_sub(1);
        page.gauge("process_open_fds", "Descriptors that are open", open);
    }
}

/// The resident memory, in bytes, from proc_pid_status(5).
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_in_prometheus_text_format() {
        let mut page = Page::default();
        page.counter("a_total", "What a is", 5);
        page.counters("b_total", "What b is", "reason", &[("x", 1), ("y", 0)]);
        page.begin("c", "gauge", "What c is");
        page.value("c", &[("d", "e"), ("f", "g")], 1.5);
        let expected = "# HELP a_total What a is.\n# TYPE a_total counter\na_total 5\n\
            # HELP b_total What b is.\n# TYPE b_total counter\n\
            b_total{reason=\"x\"} 1\nb_total{reason=\"y\"} 0\n\
            # HELP c What c is.\n# TYPE c gauge\nc{d=\"e\",f=\"g\"} 1.5\n";
        assert_eq!(page.0, expected);
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_its_total() {
        let durations = Durations::default();
        durations.count(Duration::from_micros(60), 2);
        durations.count(Duration::from_millis(3), 1);
        durations.count(Duration::from_secs(60), 1);
        let mut page = Page::default();
        page.histogram("h", "What h is", &durations);
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(lines[2], "h_bucket{le=\"0.0001\"} 2");
        assert_eq!(lines[6], "h_bucket{le=\"0.0025\"} 2");
        assert_eq!(lines[7], "h_bucket{le=\"0.005\"} 3");
        let end = [
            "h_bucket{le=\"10\"} 3",
            "h_bucket{le=\"+Inf\"} 4",
            "h_sum 60.00312",
            "h_count 4",
        ];
        assert_eq!(lines[17..], end);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t    2436 kB\nThreads:\t4\n";
        assert_eq!(resident(status), Some(2436 * 1024));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
