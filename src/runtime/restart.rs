//! When a failed job is restarted, and after which pause.

use std::time::{Duration, Instant};

use crate::plan::config::Restart;

/// What a restart strategy remembers.
#[derive(Debug)]
pub(crate) struct Restarts {
    strategy: Restart,
    /// Restarts so far; of the exponential strategy, those in a row.
    count: u32,
    last: Option<Instant>,
}

impl Restarts {
    pub(crate) const fn new(strategy: Restart) -> Self {
        Self { strategy, count: 0, last: None }
    }

    /// The number of the last requested restart, and the limit; `None` for no limit.
    pub(crate) const fn number(&self) -> (u32, Option<u32>) {
        let of = match self.strategy {
            Restart::Never => Some(0),
            Restart::Fixed { attempts, .. } => Some(attempts),
            Restart::Exponential { attempts, .. } => attempts,
        };
        (self.count, of)
    }

    /// The pause before the next restart; `None` if no restart is allowed.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Duration> {
        let since = self.last.replace(now).map(|last| now.duration_since(last));
        match self.strategy {
            Restart::Never => None,
            Restart::Fixed { attempts, pause } => {
                self.count += 1;
                (self.count <= attempts).then_some(pause)
            }
            Restart::Exponential { first, longest, factor, reset_after, attempts } => {
                if since.is_some_and(|since| since >= reset_after) {
                    self.count = 0;
                }
                if attempts.is_some_and(|attempts| self.count >= attempts) {
                    return None;
                }
                let grown = factor.max(1.0).powi(i32::try_from(self.count).unwrap_or(i32::MAX));
                self.count = self.count.saturating_add(1);
                let pause = Duration::try_from_secs_f64(first.as_secs_f64() * grown);
                Some(pause.unwrap_or(longest).min(longest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn never_is_never_and_fixed_is_so_many() {
        let now = Instant::now();
        assert_eq!(Restarts::new(Restart::Never).next(now), None);
        let mut fixed = Restarts::new(Restart::Fixed { attempts: 2, pause: SECOND });
        assert_eq!(
            [fixed.next(now), fixed.next(now), fixed.next(now)],
            [Some(SECOND), Some(SECOND), None]
        );
    }

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew_after_a_calm() {
        let reset_after = 10 * SECOND;
        let strategy = Restart::Exponential {
            first: SECOND,
            longest: 3 * SECOND,
            factor: 2.0,
            reset_after,
            attempts: Some(4),
        };
        let mut restarts = Restarts::new(strategy);
        let mut now = Instant::now();
        let mut next = |after: Duration| {
            now += after;
            restarts.next(now)
        };
        let grown = [next(SECOND), next(SECOND), next(SECOND), next(SECOND), next(SECOND)];
        assert_eq!(
            grown,
            [Some(SECOND), Some(2 * SECOND), Some(3 * SECOND), Some(3 * SECOND), None]
        );
        assert_eq!(next(reset_after), Some(SECOND));
        assert_eq!(restarts.number(), (1, Some(4)));
    }
}
