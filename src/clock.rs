//! Time, read in one place and handed to the parts that need it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A point in time as seen by both clocks.
///
/// Lifetimes are counted on the monotonic clock, so that a machine whose wall
/// clock jumps (a Raspberry Pi has none until NTP answers) neither drops nor
/// prolongs a session. The wall clock is used for what is shown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Milliseconds on the monotonic clock, `CLOCK_MONOTONIC`: every program
    /// sees the same since the machine started, so that an end can outlive
    /// the program that set it.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch on the wall clock.
    pub unix_ms: u64,
}

impl Timestamp {
    /// What the wall clock shows, or showed, at `monotonic_ms`, as far as a
    /// [date](system_time) can say it.
    #[must_use]
    pub fn system_time_at(self, monotonic_ms: u64) -> SystemTime {
        let wall = self.unix_ms.saturating_add(monotonic_ms);
        let wall = Duration::from_millis(wall.saturating_sub(self.monotonic_ms));
        UNIX_EPOCH + wall.min(LAST)
    }
}

/// The last second of the year 9999.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// What the wall clock shows, as far as dates can say it: those of HTTP and of
/// RFC 3339 have four digits for the year, and what writes them for us panics
/// before 1970. To be used in place of [`SystemTime::now`].
#[must_use]
pub fn system_time() -> SystemTime {
    clamp_to_dates(SystemTime::now())
}

fn clamp_to_dates(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST)
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock;

impl Clock {
    /// Reads both clocks.
    #[must_use]
    pub fn now(self) -> Timestamp {
        Timestamp {
            monotonic_ms: read(ClockId::Monotonic),
            unix_ms: read(ClockId::Realtime),
        }
    }
}

/// What a clock shows, in milliseconds; 0 while it shows a time before its
/// beginning.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds
        .saturating_mul(1_000)
        .saturating_add(nanos / 1_000_000)
}

/// A duration in whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use httpdate::HttpDate;

    use super::*;

    #[test]
    fn the_clocks_are_those_of_the_standard_library() {
        let wall = || millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let (before, now, after) = (wall(), Clock.now(), wall());
        assert!((before..=after).contains(&now.unix_ms));
        std::thread::sleep(Duration::from_millis(20));
        assert!(Clock.now().monotonic_ms >= now.monotonic_ms + 20);
    }

    #[test]
    fn the_wall_time_of_past_and_future_points_follows_the_wall_clock() {
        let now = Timestamp {
            monotonic_ms: 5_000,
            unix_ms: 1_000_000,
        };
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(now.system_time_at(5_000), at(1_000_000));
        assert_eq!(now.system_time_at(65_000), at(1_060_000));
        assert_eq!(now.system_time_at(1_000), at(996_000));
    }

    #[test]
    fn every_time_can_be_written_as_a_date() {
        let written = |time| {
            let http = HttpDate::from(time).to_string();
            (http, humantime::format_rfc3339_seconds(time).to_string())
        };
        let texts = |http: &str, log: &str| (http.to_owned(), log.to_owned());
        let first = texts("Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00Z");
        let last = texts("Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59Z");
        let second = Duration::from_secs(1);
        let end = UNIX_EPOCH + LAST;
        let century = Duration::from_secs(100 * 365 * 86_400);
        for early in [UNIX_EPOCH, UNIX_EPOCH - second, UNIX_EPOCH - century] {
            assert_eq!(written(clamp_to_dates(early)), first);
        }
        for late in [end, end + second, end + century] {
            assert_eq!(written(clamp_to_dates(late)), last);
        }
        assert_eq!(clamp_to_dates(end - second), end - second);

        let at = |unix_ms, monotonic_ms| Timestamp {
            monotonic_ms,
            unix_ms,
        };
        for early in [at(0, 5_000), at(0, 0), at(4_999, 5_000)] {
            assert_eq!(written(early.system_time_at(0)), first);
        }
        let end = millis(LAST);
        for late in [at(end, 0), at(end + 1_000, 0), at(u64::MAX, 5_000)] {
            assert_eq!(written(late.system_time_at(0)), last);
            assert_eq!(written(late.system_time_at(u64::MAX)), last);
        }
        assert_eq!(written(at(end, 0).system_time_at(1_000)), last);
    }
}
