//! The time: the only place of the crate that reads a clock, except lanes, parking, tests and
//! messages about owners.

use std::time::{Duration, Instant, SystemTime};

use crate::base::sync::{Arc, Mutex, lock};

/// The longest wait, a hundred years of 365.25 days: anything longer is as good as for ever.
pub const FOR_EVER: Duration = Duration::from_secs(100 * 31_557_600);

/// This long after an instant, at most [`FOR_EVER`]: the sum may not be an instant.
pub fn after(then: Instant, by: Duration) -> Instant {
    then + by.min(FOR_EVER)
}

/// The clock of everything that waits or measures. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// `None`: the operating system's.
    simulated: Option<Arc<Simulated>>,
}

/// A clock that moves on demand.
#[derive(Debug)]
struct Simulated {
    /// An instant can only be made from another that the system returned. Only differences from it
    /// count.
    origin: Instant,
    moved: Mutex<Duration>,
}

impl Simulated {
    fn elapsed(&self) -> Duration {
        *lock(&self.moved)
    }
}

impl Clock {
    /// The current instant, to measure and to wait by.
    pub fn now(&self) -> Instant {
        match &self.simulated {
            Some(simulated) => simulated.origin + simulated.elapsed(),
            None => Instant::now(),
        }
    }

    /// The current date, for people.
    pub fn date(&self) -> SystemTime {
        match &self.simulated {
            Some(simulated) => SystemTime::UNIX_EPOCH + simulated.elapsed(),
            None => SystemTime::now(),
        }
    }

    /// The time since then.
    pub fn since(&self, then: Instant) -> Duration {
        self.now().saturating_duration_since(then)
    }
}

#[cfg(feature = "sim")]
impl Clock {
    /// A clock that stands still until it is moved.
    pub fn simulated() -> Self {
        let simulated = Simulated { origin: Instant::now(), moved: Mutex::new(Duration::ZERO) };
        Self { simulated: Some(Arc::new(simulated)) }
    }

    /// How far it was moved.
    pub fn elapsed(&self) -> Duration {
        self.simulated.as_deref().map_or(Duration::ZERO, Simulated::elapsed)
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        if let Some(clock) = &self.simulated {
            *lock(&clock.moved) += by;
        }
    }
}

/// A value is the same whatever its clock.
impl PartialEq for Clock {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Clock {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_for_ever_is_for_ever() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(after(now, Duration::MAX), now + FOR_EVER);
    }
}
