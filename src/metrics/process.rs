//! The standard process metrics of Prometheus.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::row::{Emit, Row, Value};

/// When a process started, in seconds since 1970 (Unix time).
type Start = u64;

/// The process metrics.
pub(super) static TABLE: &[Row<Start>] = &[
    Row {
        name: "process_cpu_seconds_total",
        help: "CPU time that the process has used, in seconds: user and system",
        value: Value::Series(|_, emit| cpu_time(emit)),
        ..Row::EMPTY
    },
    Row {
        name: "process_start_time_seconds",
        kind: "gauge",
        help: "When the process started, in seconds since 1970 (Unix time)",
        value: Value::Number(|started| *started),
        ..Row::EMPTY
    },
    Row {
        name: "process_resident_memory_bytes",
        kind: "gauge",
        help: "Memory of the process that is in RAM, in bytes",
        value: Value::Series(|_, emit| resident_memory(emit)),
        ..Row::EMPTY
    },
    Row {
        name: "process_open_fds",
        kind: "gauge",
        help: "File descriptors that the process has open",
        value: Value::Series(|_, emit| open_fds(emit)),
        ..Row::EMPTY
    },
];

fn cpu_time(emit: Emit<'_>) {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let spent = Duration::try_from(time).unwrap_or_default();
    emit("", &[], &spent.as_secs_f64());
}

fn resident_memory(emit: Emit<'_>) {
    let status = fs::read_to_string("/proc/self/status");
    if let Some(bytes) = status.ok().and_then(|status| resident(&status)) {
        emit("", &[], &bytes);
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

fn open_fds(emit: Emit<'_>) {
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is there for the reading.
        emit("", &[], &entries.count().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t    2436 kB\nThreads:\t4\n";
        assert_eq!(resident(status), Some(2436 * 1024));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
