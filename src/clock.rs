//! Time, read in one place and handed to the parts that need it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time as seen by both clocks.
///
/// Lifetimes are counted on the steady clock, so that a machine whose wall
/// clock jumps (a Raspberry Pi has none until NTP answers) neither drops nor
/// prolongs a session. The wall clock is used for what is shown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds on the steady clock since it was started.
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

/// The process's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts a clock at zero.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Moment {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Moment {
            steady: millis(self.started.elapsed()),
            wall: millis(wall),
        }
    }
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
