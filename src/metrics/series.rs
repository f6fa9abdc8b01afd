//! Values that are more than one counter: series with labels, and sums.

use std::time::Duration;

use super::connections::{Connections, Phase};
use super::counters::{ByStatus, Durations, Requests};
use super::row::Emit;
use crate::outcome::{Outcome, Outcomes};
use crate::protocol::Protocol;

/// The status of a request that did not arrive in time.
const LATE: u16 = 408;

/// The status of a request whose handler failed.
const FAILED: u16 = 500;

/// Requests that did not arrive in time.
pub(super) fn late(rejections: &ByStatus) -> u64 {
    rejections.of(LATE)
}

/// Requests rejected for their framing or size.
pub(super) fn malformed(rejections: &ByStatus) -> u64 {
    let seen = rejections.seen();
    seen.filter(|(status, _)| ![LATE, FAILED].contains(status))
        .map(|(_, count)| count)
        .sum()
}

pub(super) fn ended(ended: &Outcomes, emit: Emit<'_>) {
    for protocol in Protocol::ALL {
        let name = format!("msc{}", protocol.number());
        for outcome in Outcome::ALL {
            let mut labels = vec![("protocol", &*name), ("outcome", outcome.name())];
            labels.extend(outcome.stage().map(|stage| ("stage", stage.name())));
            emit("", &labels, &ended.of(protocol, outcome));
        }
    }
}

pub(super) fn requests(requests: &Requests, emit: Emit<'_>) {
    for (protocol, method, status, count) in requests.seen() {
        let status = status_label(status);
        let labels = [
            ("protocol", protocol),
            ("method", method),
            ("status", &status),
        ];
        emit("", &labels, &count);
    }
}

pub(super) fn rejections(rejections: &ByStatus, emit: Emit<'_>) {
    for (status, count) in rejections.seen() {
        emit("", &[("status", &status_label(status))], &count);
    }
}

fn status_label(status: u16) -> String {
    match status {
        0 => "other".into(),
        status => status.to_string(),
    }
}

pub(super) fn durations(durations: &Durations, emit: Emit<'_>) {
    let seconds = |bound| Duration::from_micros(bound).as_secs_f64().to_string();
    let bounds = Durations::BOUNDS.into_iter().map(seconds);
    let mut total = 0;
    for (bound, count) in bounds.chain(["+Inf".into()]).zip(durations.buckets()) {
        total += count;
        emit("_bucket", &[("le", &bound)], &total);
    }
    emit("_sum", &[], &durations.sum().as_secs_f64());
    emit("_count", &[], &total);
}

pub(super) fn connections(connections: &Connections, emit: Emit<'_>) {
    for phase in Phase::ALL {
        let count = connections.in_phase(phase);
        emit("", &[("state", phase.name())], &count);
    }
}
