//! Replays a run of the model on production code.
//!
//! A counterexample of a mutant, with the same wrong rule in the engine, must break the same law
//! there. Without the rule, the same schedule must be correct as far as it is possible, and so must
//! its continuation without failures.
//!
//! The model and production advance in lockstep. For each [`Action`] the model makes its step, and
//! `LockstepReplay::carry` makes the equivalent choices of the simulator. After each step both must
//! show the same: the newest durable checkpoint, the visible records, the running attempt, and, if
//! production is sound, the acknowledgements. `judge` decides on the production side what correct
//! means, and asks no state machine.
//!
//! # A step of the model in production
//!
//! | model | production |
//! |---|---|
//! | `emit`, `exhaust`, `consume` | the task's step function, on that input; it must find work. A task whose input has ended steps once more to emit the rest |
//! | `deliver`, `lose`, `duplicate` | the same message of the simulated network; `delay` leaves it there. A message that the model delivers in the same step is delivered |
//! | `write`, `write-failed` | the task's lane writes the snapshot. A lane works in order: earlier jobs go first, and are not repeated when the model reaches them |
//! | preparing a transaction, rolling orphans back | part of the model's step; in production errands of the sink's lane, done after the step that requested them |
//! | `commit`, `commit-unknown`, `commit-refused` | the sink's lane calls the simulated external system |
//! | `store`, `store-unknown`, `store-refused` | the coordinator's lane, which also works in order; an earlier deletion is done first |
//! | `sweep` | nothing: production deletes manifests and blobs in one errand, at the `store` before |
//! | `read` | the coordinator's lane reads the facts; the tasks open |
//! | `fire`, `fire-early` | the driver's timer. For an interval, the driver first learns which sources have ended; if that starts the checkpoint, the timer is not needed |
//! | `detect` | the driver learns of the failure |
//! | `crash` | the task's worker dies with all its tasks: in production they share its life |
//! | `stop`, `conclude`, `drop` | the same |
//!
//! A step without a counterpart is an [`Unmapped::Action`], and is never skipped:
//!
//! - a torn write of a task that dies alone: production names a file only when it is complete;
//! - a snapshot that is written and reported as failed;
//! - coordinators and zombies, which are whole processes in production.

mod compare;
mod job;
mod judge;
mod step;
pub mod table;

use std::fmt;

use snapline::sim::stage::{Limits, Script};
use snapline::sim::{Env, Mutation as Planted};
use snapline_models::explore::Bounds;
use snapline_models::laws::Law;
use snapline_models::mutants::kill;
use snapline_models::run::Judgement;
use snapline_models::scenario::Setup;
use snapline_models::trace::Trace;
use snapline_models::world::rule::WrongRule;
use snapline_models::world::{Action, KINDS};

use job::ReadLog;
pub use judge::JUDGED;
use step::LockstepReplay;

/// Kept where the model keeps all: more checkpoints than a scenario has.
const ALL: usize = 1_000;

/// The wrong rules of the model that can be switched on in the engine, with what they are called
/// there.
pub const RULES: &[(WrongRule, Planted)] = &[
    (WrongRule::AckBeforeDurable, Planted::AckBeforeWritten),
    (WrongRule::CollectNothing, Planted::NothingCollected),
    (WrongRule::CommitAtBarrier, Planted::CommitAtBarrier),
    (WrongRule::CommitNewestFirst, Planted::NewestCommittedFirst),
    (WrongRule::CompleteBeforeStored, Planted::CompleteBeforeStored),
    (WrongRule::InDoubtForgotten, Planted::InDoubtForgotten),
    (WrongRule::LossSwallowed, Planted::LossSwallowed),
    (WrongRule::NoResend, Planted::ResendForgotten),
    (WrongRule::NoTimeout, Planted::TimeoutForgotten),
    (WrongRule::OffsetEmpty, Planted::OffsetEmpty),
    (WrongRule::OrphansLeft, Planted::OrphansForgotten),
    (WrongRule::PrepareAfterAck, Planted::PrepareAfterAck),
    (WrongRule::RestoreOlder, Planted::OlderRestored),
    (WrongRule::RetrySwallowed, Planted::CommitSwallowed),
    (WrongRule::RollsBackHeld, Planted::HeldRolledBack),
    (WrongRule::StartsFromNothing, Planted::StartsFromNothing),
    (WrongRule::StopNotInStore, Planted::StopsIgnored),
    (WrongRule::SuspendedReadsOn, Planted::SuspendedReadsOn),
    (WrongRule::UnknownIsApplied, Planted::UnknownTakenForDone),
    (WrongRule::UnknownIsNotApplied, Planted::UnknownTakenForRefused),
];

/// What the engine calls a wrong rule of the model, if it has it.
#[must_use]
pub fn planted(mutant: WrongRule) -> Option<Planted> {
    RULES.iter().find(|(rule, _)| *rule == mutant).map(|(_, planted)| *planted)
}

const SHAPE: &str = "it needs a topology that the production builder does not produce";
const PROCESS: &str = "it needs a second coordinator, which in production is a second process";
const SHARED: &str =
    "it needs snapshots that share blobs, and the scenario's tasks have no state to share";
const CONNECTOR: &str = "the rule is one of the external system, not of the engine";
const TORN: &str =
    "it needs a torn write by a task that crashes alone, which production does not have";
const LATER: &str = "it is not implemented yet";

/// Why the engine has no switch for a wrong rule of the model.
const WHY_NOT: &[(WrongRule, &str)] = &[
    (WrongRule::BarrierOvertakes, SHAPE),
    (WrongRule::BaseUnconfirmed, SHARED),
    (WrongRule::ClaimsAlike, PROCESS),
    (
        WrongRule::CollectBlobsFirst,
        "production deletes manifests and blobs in one operation, and the replay sees only the \
         states before and after it",
    ),
    (WrongRule::CollectByCreator, SHARED),
    (WrongRule::CollectIgnoresBase, SHARED),
    (WrongRule::CommitTwice, CONNECTOR),
    (WrongRule::CountBarriers, SHAPE),
    (WrongRule::EmptyNotWritten, SHAPE),
    (WrongRule::EndedTakesNoPart, SHAPE),
    (WrongRule::FactsBeforeFence, PROCESS),
    (
        WrongRule::FailsOverDuringWrite,
        "production reads the facts on the thread that writes manifests, after the in-flight write",
    ),
    (WrongRule::ForgetsIncomplete, CONNECTOR),
    (WrongRule::ForgetsKept, CONNECTOR),
    (WrongRule::FenceForgotten, "the replay does not check its law, ids-monotone"),
    (WrongRule::IdsFromRestored, PROCESS),
    (WrongRule::LocalNamesKept, TORN),
    (WrongRule::LocalNamesOverwritten, TORN),
    (WrongRule::ManifestTorn, PROCESS),
    (WrongRule::NamesWithoutCheckpoint, CONNECTOR),
    (WrongRule::NoAlignment, SHAPE),
    (WrongRule::NoFence, PROCESS),
    (WrongRule::OldWritersAdmitted, PROCESS),
    (WrongRule::OneEndedIsAll, SHAPE),
    (WrongRule::PartialFanOut, SHAPE),
    (WrongRule::SnapshotNotCopied, SHAPE),
    (WrongRule::StateHole, SHAPE),
    (
        WrongRule::TimerNotRearmed,
        "the driver starts the last checkpoint by itself when all sources have ended, so that a \
         lost interval does not delay the end",
    ),
];

fn why_not(mutant: WrongRule) -> &'static str {
    WHY_NOT.iter().find(|(rule, _)| *rule == mutant).map_or(LATER, |(_, why)| why)
}

/// Why a trace is not replayed on production.
#[derive(Clone, PartialEq, Eq)]
pub enum Unmapped {
    /// It names no wrong rule and no law: there is nothing to compare.
    NoClaim,
    /// The law it breaks cannot be judged from outside.
    Law(Law),
    /// The engine has no switch for its wrong rule.
    Rule(WrongRule, &'static str),
    /// Production does not come in this shape; says why.
    Shape(String),
    /// The model found no counterexample.
    NotKilled(WrongRule),
    /// A step has no counterpart in production.
    Action {
        /// Its number, from 1.
        step: usize,
        /// What it is.
        action: Action,
        /// Why.
        why: &'static str,
    },
    /// The step is not possible in the model: the trace was edited, or is another protocol's.
    NotEnabled {
        /// Its number, from 1.
        step: usize,
        /// What it is.
        action: Action,
    },
    /// Production is not where the model is.
    Differs {
        /// The step after which they differ, from 1.
        step: usize,
        /// What the model did.
        action: Action,
        /// What production offers, or shows.
        what: String,
    },
    /// The job cannot be put on a stage; says why.
    Job(String),
}

impl fmt::Display for Unmapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |action: &Action| KINDS[action.kind()];
        match self {
            Self::NoClaim => f.write_str(
                "the trace names neither a wrong rule nor a law, so there is nothing to compare; \
                 use a trace that `snapline mutants --trace` wrote",
            ),
            Self::Law(law) => write!(f, "{} cannot be judged by what production shows", law.name()),
            Self::Rule(mutant, why) => {
                write!(f, "the engine cannot switch on the wrong rule {}: {why}", mutant.name())
            }
            Self::Shape(why) => write!(f, "production code cannot run this scenario: {why}"),
            Self::NotKilled(mutant) => {
                write!(f, "the model found no counterexample of {}", mutant.name())
            }
            Self::Action { step, action, why } => {
                write!(f, "step {step}, {}, has no counterpart in production: {why}", kind(action))
            }
            Self::NotEnabled { step, action } => {
                write!(f, "step {step}, {}, is not possible in the model", kind(action))
            }
            Self::Differs { step, action, what } => {
                write!(
                    f,
                    "production differs at step {step}: the model takes {}; {what}",
                    kind(action)
                )
            }
            Self::Job(why) => write!(f, "the job failed: {why}"),
        }
    }
}

snapline_protocol::error_in_words!(Unmapped);

impl Unmapped {
    /// The step, from 1, that it is about, if it is about one.
    #[must_use]
    pub fn step(&self) -> Option<usize> {
        match self {
            Self::Action { step, .. }
            | Self::NotEnabled { step, .. }
            | Self::Differs { step, .. } => Some(*step),
            Self::NoClaim
            | Self::Law(_)
            | Self::Rule(..)
            | Self::Shape(_)
            | Self::NotKilled(_)
            | Self::Job(_) => None,
        }
    }
}

/// What a counterexample came to on production.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Played {
    /// The model's wrong rule.
    pub mutant: WrongRule,
    /// What it is called in the engine.
    pub planted: Planted,
    /// The law it breaks in the model.
    pub law: Law,
    /// The model's steps.
    pub steps: usize,
    /// The simulator's choices that they were.
    pub choices: u64,
    /// With the wrong rule: the step after which the law broke, and how. `None`: the law held.
    pub broken: Option<(usize, String)>,
    /// How many of the steps are possible without the wrong rule.
    pub sound_steps: usize,
    /// The choices of that run, to its end.
    pub sound_choices: u64,
    /// What was wrong without the wrong rule; empty, if all is right.
    pub wrong: Vec<String>,
    /// The step at which production without the wrong rule was first not where the correct protocol
    /// is.
    pub differs: Option<usize>,
}

impl Played {
    /// Whether the law is broken with the wrong rule, and every law is kept without it.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.broken.is_some() && self.wrong.is_empty()
    }
}

/// Hunts a mutant where it is at home, and replays the counterexample.
///
/// # Errors
/// [`Unmapped`]
pub fn play(mutant: WrongRule) -> Result<Played, Unmapped> {
    planted(mutant).ok_or(Unmapped::Rule(mutant, why_not(mutant)))?;
    let bounds = Bounds { max_states: Some(3_000_000), ..Bounds::default() };
    let report = kill(mutant, &bounds);
    let Judgement::Violated { law, path } = report.judgement else {
        return Err(Unmapped::NotKilled(mutant));
    };
    replay(&Trace { scenario: report.scenario, mutant: Some(mutant), law: Some(law), steps: path })
}

/// A trace, laid out for its replay.
struct Laid<'a> {
    trace: &'a Trace,
    mutant: WrongRule,
    law: Law,
    wrong: Setup,
    sound: Setup,
    log: ReadLog,
}

impl<'a> Laid<'a> {
    fn out(trace: &'a Trace) -> Result<Self, Unmapped> {
        let (Some(mutant), Some(law)) = (trace.mutant, trace.law) else {
            return Err(Unmapped::NoClaim);
        };
        if !JUDGED.contains(&law) {
            return Err(Unmapped::Law(law));
        }
        let setup = |mutant| {
            let setup = Setup::new(trace.scenario.clone(), mutant);
            setup.map_err(|error| Unmapped::Job(error.to_string()))
        };
        let (wrong, sound) = (setup(Some(mutant))?, setup(None)?);
        job::fits(&wrong.topology).map_err(Unmapped::Shape)?;
        Ok(Self { trace, mutant, law, wrong, sound, log: ReadLog::default() })
    }

    fn script(&self) -> Result<Script<'_>, Unmapped> {
        let scenario = &self.trace.scenario;
        let limits = Limits {
            concurrent: scenario.max_concurrent,
            tolerable: scenario.tolerable_failures,
            retained: scenario.retained.unwrap_or(ALL),
        };
        let build = |env: &Env| job::build(scenario, &self.wrong.topology, &self.log, env);
        Script::new(build, limits).map_err(Unmapped::Job)
    }

    /// All steps, the wrong rule on in the model, and in production as far as it is said: how the
    /// law is broken there, and in how many choices.
    fn act_out(
        &self,
        script: &Script<'_>,
        planted: Option<Planted>,
    ) -> Result<(Option<(usize, String)>, u64), Unmapped> {
        let mut run = LockstepReplay::begin(script, &self.wrong, planted, &self.log)?;
        for (place, action) in self.trace.steps.iter().enumerate() {
            if !run.step(place + 1, *action)? {
                return Err(Unmapped::NotEnabled { step: place + 1, action: *action });
            }
        }
        let choices = run.stage.choices();
        if self.law == Law::Progress {
            run.stuck(self.trace.steps.len());
        }
        Ok((run.judge.broken.get(&self.law).cloned(), choices))
    }
}

/// Replays a trace with its wrong rule in the model, and in production this one or none. Returns
/// the step after which its law is broken, and how.
///
/// # Errors
/// [`Unmapped`]
pub fn replay_under(
    trace: &Trace,
    planted: Option<Planted>,
) -> Result<Option<(usize, String)>, Unmapped> {
    let laid = Laid::out(trace)?;
    let script = laid.script()?;
    Ok(laid.act_out(&script, planted)?.0)
}

/// Replays a trace on production, with its wrong rule and without.
///
/// # Errors
/// [`Unmapped`]; production that differs from the model without a wrong rule is among what is
/// [wrong](Played::wrong), not an error.
pub fn replay(trace: &Trace) -> Result<Played, Unmapped> {
    let laid = Laid::out(trace)?;
    let Laid { mutant, law, .. } = laid;
    let rule = planted(mutant).ok_or(Unmapped::Rule(mutant, why_not(mutant)))?;
    let script = laid.script()?;
    let (broken, choices) = laid.act_out(&script, Some(rule))?;

    let mut run = LockstepReplay::begin(&script, &laid.sound, None, &laid.log)?;
    let mut played = Played {
        mutant,
        planted: rule,
        law,
        steps: trace.steps.len(),
        choices,
        broken,
        sound_steps: 0,
        sound_choices: 0,
        wrong: Vec::new(),
        differs: None,
    };
    for (place, action) in trace.steps.iter().enumerate() {
        match run.step(place + 1, *action) {
            Ok(true) => played.sound_steps = place + 1,
            // Only the wrong rule makes it possible.
            Ok(false) => break,
            Err(differs) => {
                played.differs = differs.step();
                played.wrong.push(differs.to_string());
                break;
            }
        }
    }
    run.finish(trace.steps.len() + 1, &mut played.wrong);
    played.sound_choices = run.stage.choices();
    Ok(played)
}
