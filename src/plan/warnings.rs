//! Settings that are each valid, and together break the job's guarantee or mislead.

use std::fmt;
use std::time::Duration;

use crate::plan::config::{JobConfig, Restart};
use crate::plan::guarantee::{Guarantee, Level};
use snapline_protocol::aligner::Mode;

/// A doubtful setting: what it is, with the numbers, and what to change. [`crate::Job::warnings`]
/// returns it, and `tracing` emits it when the job starts. A job with warnings runs.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SettingWarning {
    /// The external system may drop a transaction before it is committed: output that a complete
    /// checkpoint holds is lost, and the job fails with [`crate::JobError::DataLoss`] (SPEC 2.10,
    /// 6.5). Nothing more can be done: the checker shows it in the configuration
    /// `dropped-transaction`, whose fault `drops` is such a timeout. No execution hides the loss,
    /// and none can undo it.
    TransactionTimeout {
        /// The sink.
        sink: String,
        /// How long its transactions live ([`snapline_core::connect::TwoPhaseSink::transaction_timeout`]).
        timeout: Duration,
        /// How long one may have to live: an interval open, then as long as its checkpoint may
        /// take, then the pauses of the restarts in a row. `None`: there are no periodic
        /// checkpoints, and no bound.
        needed: Option<Needed>,
    },
    /// A sink forgets its transactions before the oldest checkpoint that may be restored: restoring
    /// that one would be taken for a loss.
    OldestOutlivesTransactions {
        /// The sink.
        sink: String,
        /// How long its transactions live.
        timeout: Duration,
        /// The least age of the oldest checkpoint that is kept: the intervals between those kept.
        oldest: Duration,
    },
    /// Older checkpoints may be restored, which writes output again that was committed since (SPEC
    /// 7.3).
    OlderAllowed {
        /// How many checkpoints are kept.
        retained: usize,
    },
    /// The mode is exactly-once, the job delivers less, and no setting requires more.
    LowerGuarantee {
        /// What it delivers, and why.
        given: Guarantee,
    },
    /// A checkpoint is aborted before the next would be due.
    TimeoutBelowInterval {
        /// How long a checkpoint may take.
        timeout: Duration,
        /// From one checkpoint to the next.
        interval: Duration,
    },
    /// A length of time is in months or years, with an ambiguous letter.
    #[cfg(feature = "settings")]
    Unit {
        /// The setting.
        setting: &'static str,
        /// The letter: `M` for months, `y` for years.
        unit: char,
        /// The length of time it stands for.
        is: Duration,
    },
    /// Environment variables have the job's prefix, and are not settings.
    #[cfg(feature = "settings")]
    Ignored {
        /// The variables, each with the setting that it may be meant for. In the order of their
        /// names.
        variables: Vec<(String, Option<&'static str>)>,
        /// The prefix, which with two underscores is the job's alone.
        prefix: String,
    },
    /// The pause between checkpoints is as long as the interval or longer, so that the interval has
    /// no effect.
    PauseAboveInterval {
        /// Between the end of a checkpoint and the next.
        pause: Duration,
        /// From one checkpoint to the next.
        interval: Duration,
    },
}

/// How long a transaction may have to live, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Needed {
    /// It is open for as long as the interval.
    pub interval: Duration,
    /// Its checkpoint may take as long as the timeout.
    pub checkpoint: Duration,
    /// The longest pause before the job has restarted: all pauses in a row, or of a strategy
    /// without a limit its longest.
    pub restarts: Duration,
    /// The additional time if as many checkpoints fail as are tolerated.
    pub failures: Duration,
}

impl Needed {
    /// All but the tolerated failures.
    #[must_use]
    pub fn whole(&self) -> Duration {
        self.interval.saturating_add(self.checkpoint).saturating_add(self.restarts)
    }
}

impl SettingWarning {
    /// The setting, by the name of its method and key.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        match self {
            Self::TransactionTimeout { .. } => "checkpoint_timeout",
            Self::OldestOutlivesTransactions { .. } => "retained_checkpoints",
            Self::OlderAllowed { .. } => "allow_older",
            Self::LowerGuarantee { .. } => "require",
            Self::TimeoutBelowInterval { .. } => "checkpoint_interval",
            Self::PauseAboveInterval { .. } => "min_pause",
            #[cfg(feature = "settings")]
            Self::Unit { setting, .. } => setting,
            #[cfg(feature = "settings")]
            Self::Ignored { .. } => "environment",
        }
    }
}

impl fmt::Display for SettingWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: ", self.setting())?;
        match self {
            Self::TransactionTimeout { sink, timeout, needed: None } => write!(
                f,
                "sink `{sink}` drops transactions after {timeout:?}, and without periodic checkpoints (`checkpoint_interval`) they may be open for \
                 longer: output would be lost; take checkpoints, or give the external system more time"
            ),
            Self::TransactionTimeout { sink, timeout, needed: Some(needed) } => {
                let Needed { interval, checkpoint, restarts, failures } = *needed;
                let whole = needed.whole();
                write!(
                    f,
                    "sink `{sink}` drops transactions after {timeout:?}, but one may have to live for {whole:?}: open for `checkpoint_interval` = \
                     {interval:?}, until its checkpoint is complete at most `checkpoint_timeout` = {checkpoint:?}, and while the job restarts \
                     (`restart`) {restarts:?}"
                )?;
                if !failures.is_zero() {
                    write!(
                        f,
                        "; if as many checkpoints fail as `tolerable_failures` allows, {failures:?} more"
                    )?;
                }
                write!(
                    f,
                    ". What is dropped is lost, and the job fails: give the external system more time, or make these shorter"
                )
            }
            Self::OldestOutlivesTransactions { sink, timeout, oldest } => write!(
                f,
                "the oldest checkpoint that is kept is {oldest:?} old or more, and sink `{sink}` \
                 knows its transactions for {timeout:?}: restoring that checkpoint, as \
                 `allow_older` does, may be reported as a loss; keep fewer, or give the external \
                 system more time"
            ),
            Self::OlderAllowed { retained: 1 } => write!(
                f,
                "there will be no older checkpoint to restore, since `retained_checkpoints` = 1; keep more, or do not allow it"
            ),
            Self::OlderAllowed { retained } => write!(
                f,
                "if the newest of {retained} checkpoints cannot be read an older one is restored, and output that was committed since is written \
                 again: not exactly once; allow it for the one run that needs it"
            ),
            Self::LowerGuarantee { given } => write!(
                f,
                "`mode` is exactly-once, but the job delivers {given}; if that is not enough, demand more (`require`) and have it refused"
            ),
            Self::TimeoutBelowInterval { timeout, interval } => write!(
                f,
                "a checkpoint is given up after `checkpoint_timeout` = {timeout:?}, though the next is due after {interval:?} only: it could have \
                 taken that long, and what it has written is written again; allow it more time, or take checkpoints more often"
            ),
            #[cfg(feature = "settings")]
            Self::Unit { unit, is, .. } => {
                let days = is.as_secs() / (24 * 60 * 60);
                match unit {
                    'M' => write!(
                        f,
                        "`M` stands for months: this is {days} days; write `m` for minutes, `ms` for milliseconds, or `months`"
                    ),
                    unit => write!(
                        f,
                        "`{unit}` stands for years: this is {days} days; write `years` if it is meant, or another unit"
                    ),
                }
            }
            #[cfg(feature = "settings")]
            Self::Ignored { variables, prefix } => {
                write!(f, "not settings, and ignored: ")?;
                for (place, (name, near)) in variables.iter().enumerate() {
                    write!(f, "{}{name}", if place == 0 { "" } else { ", " })?;
                    if let Some(near) = near {
                        let key = near.to_ascii_uppercase();
                        write!(f, " (did you mean `{near}`: {prefix}__{key}?)")?;
                    }
                }
                write!(
                    f,
                    ". A variable with two underscores after the prefix, {prefix}__, must be a \
                     setting"
                )
            }
            Self::PauseAboveInterval { pause, interval } => write!(
                f,
                "the pause of {pause:?} between checkpoints is not below `checkpoint_interval` = \
                 {interval:?}, so the interval has no effect: from one trigger to the next it \
                 takes the pause and the checkpoint's duration; lower the pause, or raise the \
                 interval to what you expect"
            ),
        }
    }
}

impl Restart {
    /// How long a job may pause in a row, until it runs again or has failed; of a strategy without
    /// a limit, its longest pause.
    fn pauses(&self) -> Duration {
        match *self {
            Self::Never => Duration::ZERO,
            Self::Fixed { attempts, pause } => pause.saturating_mul(attempts),
            Self::Exponential { longest, attempts: None, .. } => longest,
            Self::Exponential { first, longest, factor, attempts: Some(attempts), .. } => {
                let (mut whole, mut pause) = (Duration::ZERO, first.min(longest));
                for restart in 0..attempts {
                    // From there on all are the same; a pause with a negligible growth counts as
                    // grown.
                    if restart == 10_000 {
                        pause = longest;
                    }
                    if pause >= longest || factor <= 1.0 {
                        return whole.saturating_add(pause.saturating_mul(attempts - restart));
                    }
                    whole = whole.saturating_add(pause);
                    let grown = Duration::try_from_secs_f64(pause.as_secs_f64() * factor);
                    pause = grown.unwrap_or(longest).min(longest);
                }
                whole
            }
        }
    }
}

impl JobConfig {
    /// Doubtful settings of any job: those that depend on its sinks and its guarantee are in
    /// [`crate::Job::warnings`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let config = snapline::JobConfig::new()
    ///     .checkpoint_interval(Duration::from_secs(60))
    ///     .checkpoint_timeout(Duration::from_secs(30));
    /// let warnings = config.warnings();
    /// assert!(warnings[0].to_string().starts_with("`checkpoint_interval`: a checkpoint is given up after `checkpoint_timeout` = 30s"));
    /// ```
    #[must_use]
    pub fn warnings(&self) -> Vec<SettingWarning> {
        #[cfg(feature = "settings")]
        let mut warnings = self.doubts.clone();
        #[cfg(not(feature = "settings"))]
        let mut warnings = Vec::new();
        if self.allow_older {
            warnings.push(SettingWarning::OlderAllowed { retained: self.retained });
        }
        if let Some(interval) = self.interval {
            let (timeout, pause) = (self.timeout, self.min_pause);
            if timeout < interval {
                warnings.push(SettingWarning::TimeoutBelowInterval { timeout, interval });
            }
            if pause >= interval {
                warnings.push(SettingWarning::PauseAboveInterval { pause, interval });
            }
        }
        warnings
    }

    /// The same, with warnings about the sinks' transactions and the job's guarantee.
    pub(crate) fn warnings_with(
        &self,
        guarantee: &Guarantee,
        transactions: impl Iterator<Item = (String, Duration)>,
    ) -> Vec<SettingWarning> {
        let mut warnings = Vec::new();
        for (sink, timeout) in transactions {
            let needed = self.interval.map(|interval| Needed {
                interval,
                checkpoint: self.timeout,
                restarts: self.restart.pauses(),
                failures: interval.max(self.timeout).saturating_mul(self.tolerable_failures),
            });
            if needed.is_none_or(|needed| timeout < needed.whole()) {
                let sink = sink.clone();
                warnings.push(SettingWarning::TransactionTimeout { sink, timeout, needed });
            }
            let older = u32::try_from(self.retained - 1).unwrap_or(u32::MAX);
            let oldest = self.interval.unwrap_or_default().saturating_mul(older);
            if self.allow_older && oldest > timeout {
                warnings.push(SettingWarning::OldestOutlivesTransactions { sink, timeout, oldest });
            }
        }
        let exactly = self.mode == Mode::ExactlyOnce;
        if exactly && self.require.is_none() && guarantee.level < Level::ExactlyOnce {
            warnings.push(SettingWarning::LowerGuarantee { given: guarantee.clone() });
        }
        warnings.extend(self.warnings());
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_in_a_row_add_up() {
        assert_eq!(Restart::Never.pauses(), Duration::ZERO);
        assert_eq!(Restart::Fixed { attempts: 5, pause: 3 * SECOND }.pauses(), 15 * SECOND);
        let growing = |attempts| Restart::Exponential {
            first: SECOND,
            longest: 10 * SECOND,
            factor: 2.0,
            reset_after: SECOND,
            attempts,
        };
        assert_eq!(growing(Some(3)).pauses(), 7 * SECOND);
        assert_eq!(growing(Some(6)).pauses(), (1 + 2 + 4 + 8 + 10 + 10) * SECOND);
        assert_eq!(growing(Some(u32::MAX)).pauses().as_secs(), 15 + 10 * (u64::from(u32::MAX) - 4));
        assert_eq!(growing(None).pauses(), 10 * SECOND);
        assert_eq!(Restart::default().pauses(), Duration::from_millis(102_300));
    }
}
