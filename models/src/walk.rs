//! The seeded random walk: the same World, with topologies and bounds too large for exhaustive
//! search.
//!
//! ```text
//! episode:  draw bounds and faults -> turbulence: anything enabled, faults along the way
//!           -> heal: no more faults -> must finish
//! walk:     episode, episode, episode, ... until the steps are used up, or a law is broken
//! ```
//! Each episode is a run from the first state. It draws its own bounds and its own set of faults,
//! up to the scenario's ("swarm"): a fault that is always switched on hides the behaviour without
//! it. After a random number of steps the episode heals: no fault strikes any more, and the job
//! must finish; if it does not, [`Law::Progress`] is broken. The other laws are evaluated after
//! every step.
//!
//! A walk is a function of its seed, on every machine. Its violations are shrunk, and given as a
//! [`Trace`].

mod by_hand;
mod draw;
mod episode;
mod random;
mod scenarios;
mod shrink;

pub use by_hand::{ByHand, EnabledStep, Hunted};
pub use shrink::{ShrinkError, shorten, under};

pub use scenarios::{eight, variants};

use crate::explore::MarkSet;
use crate::laws::Law;
use crate::model::Model;
use crate::scenario::{Scenario, ScenarioError};
use crate::trace::Trace;
use crate::world::rule::WrongRule;
use crate::world::{Action, KINDS};

use episode::{Episode, EpisodeEnd};
use random::WalkRng;

/// A walk to be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The scenarios; episodes take turns. Bounds and budgets are maxima. See [`variants`].
    pub scenarios: Vec<Scenario>,
    /// The wrong rule that is switched on, if any.
    pub mutant: Option<WrongRule>,
    /// The seed of all its random choices.
    pub seed: u64,
    /// The number of steps, if no law is broken.
    pub steps: u64,
}

/// The report of a walk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalkReport {
    /// Its seed.
    pub seed: u64,
    /// Steps taken.
    pub steps: u64,
    /// Episodes begun.
    pub episodes: u64,
    /// Episodes whose job finished, as each must that is not cut short.
    pub finished: u64,
    /// Episodes whose job failed loudly, because an external system had dropped data.
    pub failed_loudly: u64,
    /// Episodes that ended without a verdict: they used up the steps, or the 64 checkpoint ids that
    /// the model distinguishes.
    pub cut_short: u64,
    /// Steps taken, by kind, see [`KINDS`].
    pub actions: Vec<u64>,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Attempts deployed.
    pub attempts: u64,
    /// The longest path from healing to the end of a job, in steps.
    pub longest_healing: u64,
    /// Arms of the machines that were driven and situations met, see [`crate::world::Situation`].
    pub marks: MarkSet,
    /// The first broken law, if any, with a shrunk path to it.
    pub violation: Option<(Law, Trace)>,
}

impl WalkReport {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: 0,
            episodes: 0,
            finished: 0,
            failed_loudly: 0,
            cut_short: 0,
            actions: vec![0; KINDS.len()],
            checkpoints: 0,
            attempts: 0,
            longest_healing: 0,
            marks: MarkSet::new(),
            violation: None,
        }
    }

    /// Faults, and acts of tasks and coordinators that should have ended, by their names in
    /// [`KINDS`].
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = KINDS.iter().copied().zip(self.actions.iter().copied());
        counts.skip(Action::Lose { message: 0 }.kind())
    }
}

impl Walk {
    /// A walk on one scenario, without wrong rules.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64, steps: u64) -> Self {
        Self { scenarios: vec![scenario], mutant: None, seed, steps }
    }

    /// Takes the walk.
    ///
    /// # Errors
    /// If one of its scenarios is invalid.
    pub fn run(&self) -> Result<WalkReport, ScenarioError> {
        let mut report = WalkReport::new(self.seed);
        for scenario in &self.scenarios {
            Model::new(scenario.clone(), self.mutant)?;
        }
        let mut turns = self.scenarios.iter().cycle();
        while report.steps < self.steps {
            let Some(scenario) = turns.next() else { break };
            // Every episode has its own random stream: draws of one do not change those of another.
            let mut random = WalkRng::new(self.seed).fork(report.episodes);
            let scenario = draw::bounds(scenario, &mut random);
            let model = Model::new(scenario, self.mutant)?;
            report.episodes += 1;
            match Episode::new(&model, &mut random).run(self.steps, &mut report) {
                EpisodeEnd::Finished => report.finished += 1,
                EpisodeEnd::FailedLoudly => report.failed_loudly += 1,
                EpisodeEnd::CutShort => report.cut_short += 1,
                EpisodeEnd::Broken(law, path) => {
                    report.violation = Some((law, shrink::shrink(&model, law, path)));
                    break;
                }
            }
        }
        Ok(report)
    }
}
