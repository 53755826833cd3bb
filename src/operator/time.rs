//! Points in time, and records that have one.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A point in time, in whole milliseconds since the beginning of 1970, negative before it. Its
/// place of use says whether it is *event time*, when something happened, or *processing time*,
/// what the clock on the wall shows. Arithmetic saturates, and drops fractions of a millisecond.
///
/// ```
/// use std::time::Duration;
/// use snapline::Timestamp;
///
/// let at = Timestamp::from_millis(1_500);
/// assert_eq!(at + Duration::from_secs(2), Timestamp::from_millis(3_500));
/// assert_eq!(at - Timestamp::from_millis(500), Duration::from_secs(1));
/// assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
/// ```
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Before everything.
    pub const MIN: Self = Self(i64::MIN);
    /// After everything: the watermark at the end of the input (SPEC 16.5).
    pub const MAX: Self = Self(i64::MAX);

    /// This many milliseconds after the beginning of 1970.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the beginning of 1970.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// As the clock on the wall shows it; `None` before 1970.
    pub(crate) fn date(self) -> Option<SystemTime> {
        let since = Duration::from_millis(u64::try_from(self.0).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(since)
    }
}

/// The whole milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Self(millis(since)),
            Err(before) => Self(-millis(before.duration())),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MIN => f.write_str("the beginning"),
            Self::MAX => f.write_str("the end"),
            Self(millis) => write!(f, "{millis} ms"),
        }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

/// How much later it is; zero if it is earlier.
impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A record with its time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Timed<T> {
    /// When it happened.
    pub at: Timestamp,
    /// The record.
    pub value: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let (second, most) = (Duration::from_secs(1), Duration::MAX);
        assert_eq!(Timestamp::MIN - second, Timestamp::MIN);
        assert_eq!(Timestamp::from_millis(5) + most, Timestamp::MAX);
        assert_eq!(Timestamp::MAX - Timestamp::MIN, Duration::from_millis(i64::MAX as u64));
        assert_eq!(Timestamp::MIN - Timestamp::MAX, Duration::ZERO);
    }

    #[test]
    fn dates_before_1970_are_negative() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(1_500);
        assert_eq!(Timestamp::from(before), Timestamp::from_millis(-1_500));
    }
}
