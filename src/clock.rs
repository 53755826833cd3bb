//! The time: the one place of the crate, beside tests and what is told to people, that asks the operating system for it.

use std::time::{Duration, Instant, SystemTime};

/// Tells the time to everything that waits or measures. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {}

impl Clock {
    /// Now, to measure and to wait by.
    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }

    /// Now, for people.
    pub(crate) fn date(&self) -> SystemTime {
        SystemTime::now()
    }

    /// How long ago that was.
    pub(crate) fn since(&self, then: Instant) -> Duration {
        self.now().saturating_duration_since(then)
    }
}

/// A place is the same whatever clock is on its wall.
impl PartialEq for Clock {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Clock {}
