//! The outcome of a check, with a message that explains a failing test where it fails.

use std::fmt::{self, Write};
use std::path::PathBuf;

use snapline_protocol::aligner::Mode;

use super::Check;
use crate::explore::{MarkSet, StopReason};
use crate::laws::Law;
use crate::run::{ExplorationReport, Judgement};
use crate::scenario::{Faults, Scenario, Setup};
use crate::story::{ending, render, story};
use crate::trace::Trace;
use crate::world::{Action, Situation, World};

/// The finding of a check.
#[derive(Clone, PartialEq, Debug)]
pub enum Finding {
    /// Every law holds in every state within the bounds, and no data that readers should get is
    /// ever dropped.
    Holds,
    /// Every law holds, but these situations were not reached: the result proves too little.
    Vacuous(Vec<Situation>),
    /// The exploration was stopped; nothing is known of the states that it did not reach.
    Stopped(StopReason),
    /// A law is broken.
    Violated {
        /// The law.
        law: Law,
        /// A shortest path to the broken law, from the first state.
        path: Vec<Action>,
    },
    /// Every law holds, but the external system may drop data that was to be committed: loss,
    /// reported loudly.
    Loss {
        /// A shortest path to the loss, from the first state.
        path: Vec<Action>,
    },
}

/// A check that was run. Judge it by one of its assertions, or look at its
/// [finding](CheckOutcome::finding).
#[derive(Clone, Debug)]
#[must_use = "a result is not checked until one of its assertions is called"]
pub struct CheckOutcome {
    check: Check,
    report: ExplorationReport,
    finding: Finding,
    /// The result of writing the trace file, if one was asked for and there was a path to write.
    written: Option<Result<PathBuf, String>>,
}

impl CheckOutcome {
    pub(super) fn new(check: Check, report: ExplorationReport, finding: Finding) -> Self {
        let mut checked = Self { check, report, finding, written: None };
        if let (Some(file), Some(trace)) = (&checked.check.trace, checked.trace()) {
            let result = std::fs::write(file, trace.write());
            checked.written = Some(result.map(|()| file.clone()).map_err(|error| {
                format!("the trace could not be written to {}: {error}", file.display())
            }));
        }
        checked
    }

    /// The exploration's figures, and its judgement under the laws alone.
    #[must_use]
    pub fn report(&self) -> &ExplorationReport {
        &self.report
    }

    /// The finding.
    #[must_use]
    pub fn finding(&self) -> &Finding {
        &self.finding
    }

    /// True if the check was complete and found no failure.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.finding == Finding::Holds
    }

    /// The path to the bad state, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&[Action]> {
        match &self.finding {
            Finding::Violated { path, .. } | Finding::Loss { path } => Some(path),
            Finding::Holds | Finding::Vacuous(_) | Finding::Stopped(_) => None,
        }
    }

    /// The path as a trace, to be written to a file. The trace of a loss claims no law: the laws
    /// excuse a reported loss.
    #[must_use]
    pub fn trace(&self) -> Option<Trace> {
        let law = match self.finding {
            Finding::Violated { law, .. } => Some(law),
            _ => None,
        };
        let steps = self.path()?.to_vec();
        Some(Trace { scenario: self.report.scenario.clone(), mutant: None, law, steps })
    }

    /// Asserts exactly once, within the bounds and under every failure: readers see every record
    /// once, and a finished job has shown them all.
    ///
    /// # Panics
    /// If that does not hold, or is not known because the check was stopped, vacuous, or made in
    /// at-least-once mode. The message describes the path, step by step.
    #[track_caller]
    pub fn assert_exactly_once(&self) {
        let mode = self.report.scenario.mode;
        assert!(
            mode == Mode::ExactlyOnce,
            "the check was made in at-least-once mode, which cannot show exactly once; leave out \
             .mode(..)"
        );
        assert!(self.is_ok(), "the check does not prove exactly once\n{self}");
    }

    /// Asserts at least once, within the bounds and under every failure: readers see every record,
    /// some perhaps twice.
    ///
    /// The laws of exactly once imply these. `.mode(Mode::AtLeastOnce)` makes a check that asks for
    /// no more.
    ///
    /// # Panics
    /// As [`CheckOutcome::assert_exactly_once`].
    #[track_caller]
    pub fn assert_at_least_once(&self) {
        let hint = match self.report.scenario.mode {
            Mode::ExactlyOnce => {
                "\n(the check asked for exactly once; .mode(Mode::AtLeastOnce) asks for less)"
            }
            _ => "",
        };
        assert!(self.is_ok(), "the check does not prove at least once\n{self}{hint}");
    }

    /// Asserts that the sink or the topology is unsafe: this law can be broken. [`Law::NoLoss`]
    /// stands for a [loss](Finding::Loss), too.
    ///
    /// If the check found another law broken first, it runs again under this one alone.
    ///
    /// # Panics
    /// If the law holds within the bounds, or the check was stopped.
    #[track_caller]
    pub fn assert_violates(&self, law: Law) {
        match &self.finding {
            Finding::Violated { law: found, .. } if *found == law => {}
            Finding::Loss { .. } if law == Law::NoLoss => {}
            Finding::Violated { .. } => {
                let mut alone = self.check.clone();
                alone.bounds.laws = law.bit();
                let again = alone.run();
                let found = match again.report.judgement {
                    Judgement::Violated { law, .. } => Some(law),
                    _ => None,
                };
                assert!(found == Some(law), "no violation of {} was found\n{again}", law.name());
            }
            _ => panic!("no violation of {} was found\n{self}", law.name()),
        }
    }

    fn tell(&self, path: &[Action], law: Option<Law>, text: &mut String) -> fmt::Result {
        // The exploration has laid the same scenario out.
        let Ok(setup) = Setup::new(self.report.scenario.clone(), None) else { return Ok(()) };
        let mut last = World::new(&setup);
        for action in path {
            last = last.apply(&setup, action, &mut MarkSet::new());
        }
        writeln!(text, "{} steps lead to this state:\n", path.len())?;
        text.push_str(&render(&story(&setup, path)));
        writeln!(text, "\nthe state after them:\n{}", ending(&setup, &last, law).trim_end())
    }
}

impl fmt::Display for CheckOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let outcome = &self.report.outcome;
        match &self.finding {
            Finding::Holds => writeln!(text, "every law holds")?,
            Finding::Vacuous(missed) => writeln!(
                text,
                "every law holds, but the bounds never reached {missed:?}; raise them"
            )?,
            Finding::Stopped(reason) => {
                writeln!(
                    text,
                    "the check was stopped without a result: {}",
                    describe_stop(*reason)
                )?;
            }
            Finding::Violated { law, path } => {
                writeln!(text, "{} is broken: {}", law.name(), law.broken())?;
                self.tell(path, Some(*law), &mut text)?;
            }
            Finding::Loss { path } => {
                writeln!(
                    text,
                    "the external system may drop data that has to be committed; the job reports \
                     this loss"
                )?;
                self.tell(path, None, &mut text)?;
            }
        }
        writeln!(text, "bounds: {}", describe_bounds(&self.report.scenario))?;
        write!(text, "{} states, {} steps deep", outcome.unique, outcome.depth)?;
        match (&self.written, self.path()) {
            (Some(Ok(file)), _) => write!(text, "\ntrace: snapline trace {}", file.display())?,
            (Some(Err(error)), _) => write!(text, "\n{error}")?,
            (None, Some(_)) => {
                write!(
                    text,
                    "\n.trace_file(\"bad.json\") writes the trace, for `snapline trace bad.json`"
                )?;
            }
            (None, None) => {}
        }
        f.write_str(&text)
    }
}

/// The reason for which an exploration was stopped, and the remedy.
#[must_use]
pub const fn describe_stop(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Timeout => "the time ran out; raise the time limit, or lower the bounds",
        StopReason::States => {
            "there are more states than allowed; raise the limit of states, or lower the bounds"
        }
        StopReason::Memory => {
            "more memory was needed than allowed; raise the memory limit, or lower the bounds"
        }
        StopReason::MemoryUnknown => {
            "the memory in use cannot be read on this system; remove the memory limit"
        }
        StopReason::Interrupted => "it was interrupted",
        StopReason::Collision => "two states have the same fingerprint; use the exact engine",
    }
}

/// The bounds of a scenario for people: the length of a run and the failures it may see.
#[must_use]
pub fn describe_bounds(scenario: &Scenario) -> String {
    let Scenario { records, checkpoints, capacity, max_concurrent, faults, .. } = scenario;
    let count = |number: u8, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let mut parts = vec![
        format!("{} per source", count(*records, "record")),
        format!("{} and those needed to finish", count(*checkpoints, "checkpoint")),
        format!("channels of {capacity}"),
    ];
    if *max_concurrent > 1 {
        parts.push(format!("{max_concurrent} checkpoints at once"));
    }
    let Faults {
        crashes,
        coordinator_crashes,
        zombie_tasks,
        zombie_coordinators,
        losses,
        duplicates,
        delays,
        unknown_writes,
        refused_writes,
        failed_snapshots,
        unknown_commits,
        refused_commits,
        drops,
        timeouts,
        lost_manifests,
    } = *faults;
    let before = parts.len();
    for (number, what) in [
        (crashes, "task crash"),
        (coordinator_crashes, "coordinator crash"),
        (zombie_tasks, "zombie task"),
        (zombie_coordinators, "zombie coordinator"),
        (losses, "lost message"),
        (duplicates, "repeated message"),
        (delays, "delayed message"),
        (unknown_writes, "write of unknown outcome"),
        (refused_writes, "refused write"),
        (failed_snapshots, "failed snapshot"),
        (unknown_commits, "commit of unknown outcome"),
        (refused_commits, "refused commit"),
        (drops, "dropped transaction"),
        (timeouts, "early timer"),
        (lost_manifests, "lost manifest"),
    ] {
        match number {
            0 => {}
            1 => parts.push(format!("1 {what}")),
            _ => parts.push(format!("{number} x {what}")),
        }
    }
    if parts.len() == before {
        parts.push("no failures".into());
    }
    parts.join(", ")
}
