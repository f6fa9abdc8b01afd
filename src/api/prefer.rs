//! The preference for how long a poll is held.

use std::str;
use std::time::Duration;

use super::etag::members;
use crate::http::Head;

/// The value of the `wait` preference (RFC 7240, section 4.3), if a request has
/// one: how long its client is willing to wait for the response. Of several the
/// first counts (section 2).
pub(super) fn wait(head: &Head<'_, '_>) -> Option<Duration> {
    let values = head.values("Prefer").filter_map(|v| str::from_utf8(v).ok());
    let mut preferences = values.flat_map(members);
    preferences.find_map(|preference| {
        // Parameters may follow.
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=')?;
        if !name.trim_ascii().eq_ignore_ascii_case("wait") {
            return None;
        }
        Some(seconds(value.trim_ascii().trim_matches('"')))
    })?
}

/// Digits only; a number beyond 64 bits is as good as the largest.
fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}
