//! What a job promises about its output, and why it does not promise more.

use std::fmt;

use snapline_protocol::aligner::Mode;

use snapline_core::connect::Delivery;

/// How often a record of the input has its effect on the output, whatever fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Once or not at all.
    AtMostOnce,
    /// Once or more.
    AtLeastOnce,
    /// Once in the end: some records are written again with the same effect; but readers may see a
    /// record before it is committed.
    Idempotent,
    /// Once.
    ExactlyOnce,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtMostOnce => "at most once",
            Self::AtLeastOnce => "at least once",
            Self::Idempotent => "effectively once, by idempotent writes",
            Self::ExactlyOnce => "exactly once",
        })
    }
}

/// A job's guarantee.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guarantee {
    /// What is promised.
    pub level: Level,
    /// Why it is not higher; empty for exactly once.
    pub reasons: Vec<String>,
    /// Its conditions that the job cannot check.
    pub conditions: Vec<String>,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level)?;
        for reason in self.reasons.iter().chain(&self.conditions) {
            write!(f, "; {reason}")?;
        }
        Ok(())
    }
}

/// What the guarantee is computed from.
pub(crate) struct GuaranteeFacts<'a> {
    pub(crate) mode: Mode,
    pub(crate) in_memory: bool,
    /// Each source's name and whether it is replayable.
    pub(crate) sources: Vec<(&'a str, bool)>,
    pub(crate) sinks: Vec<(&'a str, Delivery)>,
}

impl Guarantee {
    pub(crate) fn compute(facts: &GuaranteeFacts<'_>) -> Self {
        let mut bounds = Vec::new();
        if facts.mode == Mode::AtLeastOnce {
            bounds.push((
                Level::AtLeastOnce,
                "the mode is at least once: state may hold records twice".into(),
            ));
        }
        for (name, replayable) in &facts.sources {
            if !replayable {
                let reason = format!("source `{name}` cannot be read again from a position");
                bounds.push((Level::AtMostOnce, reason));
            }
        }
        for (name, delivery) in &facts.sinks {
            let bound = match delivery {
                Delivery::TwoPhase => continue,
                Delivery::Idempotent => (
                    Level::Idempotent,
                    format!("sink `{name}` writes idempotently, before checkpoints are complete"),
                ),
                Delivery::AtLeastOnce => (
                    Level::AtLeastOnce,
                    format!("sink `{name}` has no transactions: it writes again after a failure"),
                ),
            };
            bounds.push(bound);
        }
        let level = bounds.iter().map(|&(level, _)| level).min().unwrap_or(Level::ExactlyOnce);
        let reasons = bounds.into_iter().map(|(_, reason)| reason).collect();
        let conditions = if facts.in_memory {
            vec!["as long as the process lives: checkpoints are in its memory".into()]
        } else {
            Vec::new()
        };
        Self { level, reasons, conditions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mode: Mode, replayable: bool, delivery: Delivery) -> Guarantee {
        let (sources, sinks) = (vec![("in", replayable)], vec![("out", delivery)]);
        Guarantee::compute(&GuaranteeFacts { mode, in_memory: false, sources, sinks })
    }

    #[test]
    fn a_chain_is_as_strong_as_its_weakest_part() {
        let level = |mode, replayable, delivery| facts(mode, replayable, delivery).level;
        use Delivery::{AtLeastOnce, Idempotent, TwoPhase};
        assert_eq!(level(Mode::ExactlyOnce, true, TwoPhase), Level::ExactlyOnce);
        assert_eq!(level(Mode::ExactlyOnce, true, Idempotent), Level::Idempotent);
        assert_eq!(level(Mode::ExactlyOnce, true, AtLeastOnce), Level::AtLeastOnce);
        assert_eq!(level(Mode::AtLeastOnce, true, Idempotent), Level::AtLeastOnce);
        assert_eq!(level(Mode::AtLeastOnce, false, TwoPhase), Level::AtMostOnce);
    }

    #[test]
    fn whatever_lowers_it_is_named() {
        let guarantee = facts(Mode::AtLeastOnce, false, Delivery::Idempotent);
        assert_eq!(guarantee.reasons.len(), 3);
        assert!(guarantee.to_string().contains("`in`") && guarantee.to_string().contains("`out`"));
        assert!(facts(Mode::ExactlyOnce, true, Delivery::TwoPhase).reasons.is_empty());
    }
}
