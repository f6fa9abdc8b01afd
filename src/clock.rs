//! Time, read in one place and handed to the parts that need it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A point in time as seen by both clocks.
///
/// Lifetimes are counted on the steady clock, so that a machine whose wall
/// clock jumps (a Raspberry Pi has none until NTP answers) neither drops nor
/// prolongs a session. The wall clock is used for what is shown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds on the steady clock, `CLOCK_MONOTONIC`: every program
    /// sees the same since the machine started, so that an end can outlive
    /// the program that set it.
    pub steady: u64,
    /// Milliseconds since the Unix epoch on the wall clock.
    pub wall: u64,
}

impl Moment {
    /// What the wall clock shows, or showed, at `steady` milliseconds.
    #[must_use]
    pub fn wall_at(self, steady: u64) -> SystemTime {
        let wall = (self.wall + steady).saturating_sub(self.steady);
        UNIX_EPOCH + Duration::from_millis(wall)
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock;

impl Clock {
    /// Reads both clocks.
    #[must_use]
    pub fn now(self) -> Moment {
        Moment {
            steady: read(ClockId::Monotonic),
            wall: read(ClockId::Realtime),
        }
    }
}

/// What a clock shows, in milliseconds; 0 while it shows a time before its
/// beginning.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds * 1_000 + nanos / 1_000_000
}

/// A duration in whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_are_those_of_the_standard_library() {
        let wall = || millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let (before, now, after) = (wall(), Clock.now(), wall());
        assert!((before..=after).contains(&now.wall));
        std::thread::sleep(Duration::from_millis(20));
        assert!(Clock.now().steady >= now.steady + 20);
    }

    #[test]
    fn the_wall_time_of_past_and_future_points_follows_the_wall_clock() {
        let now = Moment {
            steady: 5_000,
            wall: 1_000_000,
        };
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(now.wall_at(5_000), at(1_000_000));
        assert_eq!(now.wall_at(65_000), at(1_060_000));
        assert_eq!(now.wall_at(1_000), at(996_000));
    }

    #[test]
    fn a_wall_clock_at_the_epoch_does_not_underflow() {
        let now = Moment {
            steady: 5_000,
            wall: 0,
        };
        assert_eq!(now.wall_at(0), UNIX_EPOCH);
    }
}
