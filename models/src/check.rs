//! Checks a topology and a sink of your own, from a `#[test]`.
//!
//! ```
//! use snapline_models::check::Check;
//! use snapline_models::sink::SinkModel;
//! use snapline_protocol::topology::Plan;
//!
//! let plan = Plan::new().source("orders", 1).sink("files", 1).forward("orders", "files");
//! Check::new(plan).sink(SinkModel::atomic_rename()).crashes(1).run().assert_exactly_once();
//! ```
//!
//! # What the bounds mean
//!
//! A check visits **every** state that the protocol, the topology and the sink can reach, in every
//! order of events, with up to the given number of failures at any moment. It looks for a state
//! that breaks a law (SPEC 9). Nothing is random: the same check gives the same answer every time.
//! The answer holds within its bounds:
//!
//! - [`records`](Check::records), [`checkpoints`](Check::checkpoints): the length of the run.
//!   Records are per source subtask; the input ends after them, so the checkpoints needed to finish
//!   come on top.
//! - [`crashes`](Check::crashes) and the other failures: the number of times that each may strike
//!   in one run. 0 switches a failure off, and then the check proves nothing about it.
//! - the topology is checked as it is; each further subtask multiplies the states. A small topology
//!   of the same shape (two sources instead of eight) is worth more than large bounds that are
//!   never finished.
//! - [`SinkModel`] is a promise: the check trusts it to describe the external system.
//!
//! A defect that needs more than the bounds allow is not found. A check that is stopped before its
//! end ([`max_states`], [`timeout`]) proves nothing, and never counts as a good one. Neither does
//! one that did not reach its situations: a finished job, a completed checkpoint, a restored one.
//!
//! [`max_states`]: Check::max_states
//! [`timeout`]: Check::timeout

mod outcome;
mod strict;

use std::path::PathBuf;
use std::time::Duration;

use snapline_protocol::aligner::Mode;
use snapline_protocol::topology::{Plan, Topology};

use crate::explore::{self, Bounds, SearchProgress, SearchVerdict};
use crate::file::default_faults;
use crate::run::{self, Engine, ExplorationReport, Judgement};
use crate::scenario::{Faults, Scenario, ScenarioError};
use crate::sink::{Prepared, SinkModel};
use crate::world::Situation;

pub use outcome::{CheckOutcome, Finding, describe_bounds, describe_stop};
use strict::Strict;

/// The default limit of states: about two minutes and half a GiB on one thread.
pub const DEFAULT_MAX_STATES: u64 = 5_000_000;

/// A topology in any of its forms.
pub trait IntoPlan {
    /// The topology as a plan.
    fn into_plan(self) -> Plan;
}

impl IntoPlan for Plan {
    fn into_plan(self) -> Plan {
        self
    }
}

impl IntoPlan for &Topology {
    fn into_plan(self) -> Plan {
        Plan { operators: self.operators().to_vec(), edges: self.edges().to_vec() }
    }
}

impl IntoPlan for Topology {
    fn into_plan(self) -> Plan {
        (&self).into_plan()
    }
}

/// A check to be run: a topology, a sink, bounds. See the [module](self).
#[derive(Clone, Debug)]
#[must_use = "a check explores nothing before run()"]
pub struct Check {
    scenario: Scenario,
    /// True if the number of drops was given, and does not follow from the sink.
    drops_given: bool,
    bounds: Bounds,
    engine: Option<Engine>,
    trace: Option<PathBuf>,
}

impl Check {
    /// A check of this topology with 2 records per source subtask, 1 checkpoint, 1 crash, and a
    /// sink that keeps every promise.
    pub fn new(topology: impl IntoPlan) -> Self {
        let mut scenario = Scenario::new("check", topology.into_plan());
        scenario.faults = default_faults(scenario.sink);
        Self { drops_given: false, ..Self::scenario(scenario) }
    }

    /// A check of a complete scenario, for settings that have no method here.
    ///
    /// ```
    /// # use snapline_models::check::Check;
    /// # use snapline_protocol::topology::Plan;
    /// use snapline_models::scenario::Scenario;
    ///
    /// let plan = Plan::new().source("in", 1).sink("out", 1).forward("in", "out");
    /// let scenario = Scenario::new("retention", plan);
    /// let scenario = Scenario { retained: Some(1), shared: true, ..scenario };
    /// Check::scenario(scenario).run().assert_exactly_once();
    /// ```
    pub fn scenario(scenario: Scenario) -> Self {
        let bounds = Bounds { max_states: Some(DEFAULT_MAX_STATES), ..Bounds::default() };
        Self { scenario, drops_given: true, bounds, engine: None, trace: None }
    }

    /// Sets the external system's rules. A sink that drops prepared transactions after a time-out
    /// gets one [drop](Self::drops).
    pub fn sink(mut self, sink: SinkModel) -> Self {
        self.scenario.sink = sink;
        if !self.drops_given {
            self.scenario.faults.drops = default_faults(sink).drops;
        }
        self
    }

    /// Records per source subtask, at least 1.
    pub fn records(mut self, records: u8) -> Self {
        self.scenario.records = records;
        self
    }

    /// Checkpoints that may be taken before the input has ended.
    pub fn checkpoints(mut self, checkpoints: u8) -> Self {
        self.scenario.checkpoints = checkpoints;
        self
    }

    /// The guarantee that the job must give.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.scenario.mode = mode;
        self
    }

    /// The number of task crashes.
    pub fn crashes(mut self, crashes: u8) -> Self {
        self.scenario.faults.crashes = crashes;
        self
    }

    /// The number of coordinator crashes.
    pub fn coordinator_crashes(mut self, crashes: u8) -> Self {
        self.scenario.faults.coordinator_crashes = crashes;
        self
    }

    /// The number of tasks that may live on, unnoticed, after their attempt has ended.
    pub fn zombies(mut self, zombies: u8) -> Self {
        self.scenario.faults.zombie_tasks = zombies;
        self
    }

    /// The number of coordinators that may live on beside their successor.
    pub fn zombie_coordinators(mut self, zombies: u8) -> Self {
        self.scenario.faults.zombie_coordinators = zombies;
        self
    }

    /// The number of commit calls whose outcome stays unknown.
    pub fn unknown_commits(mut self, commits: u8) -> Self {
        self.scenario.faults.unknown_commits = commits;
        self
    }

    /// The number of commit calls that are refused for now.
    pub fn refused_commits(mut self, commits: u8) -> Self {
        self.scenario.faults.refused_commits = commits;
        self
    }

    /// The number of prepared transactions that the external system may drop on its own; only a
    /// sink with a time-out ever does.
    pub fn drops(mut self, drops: u8) -> Self {
        self.scenario.faults.drops = drops;
        self.drops_given = true;
        self
    }

    /// The whole budget of failures at once.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.scenario.faults = faults;
        self.drops_given = true;
        self
    }

    /// Stops, without a verdict, at more states than this; [`DEFAULT_MAX_STATES`] otherwise.
    pub fn max_states(mut self, states: u64) -> Self {
        self.bounds.max_states = Some(states);
        self
    }

    /// Stops, without a verdict, after this time.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.bounds.timeout = Some(time);
        self
    }

    /// Explores on this many threads; with one, the default, it is quickest to start.
    pub fn threads(mut self, threads: usize) -> Self {
        self.bounds.threads = threads.max(1);
        self
    }

    /// All bounds of the exploration at once.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// The explorer. Otherwise it follows from the number of threads.
    pub const fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// The file for the path to a bad state, which `snapline trace` reads. Without one nothing is
    /// written.
    pub fn trace_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.trace = Some(file.into());
        self
    }

    /// Explores. The result is not judged yet: see [`CheckOutcome`].
    ///
    /// # Panics
    /// If the topology or a bound is invalid; the message says why. [`Check::try_run`] returns that
    /// error instead.
    #[must_use = "a result is not checked until one of its assertions is called"]
    pub fn run(self) -> CheckOutcome {
        match self.try_run(&|_| {}) {
            Ok(checked) => checked,
            Err(error) => panic!("this check cannot be run: {error}"),
        }
    }

    /// Explores, and reports progress.
    ///
    /// # Errors
    /// If the topology or a bound is invalid.
    pub fn try_run(self, progress: &dyn Fn(SearchProgress)) -> Result<CheckOutcome, ScenarioError> {
        let engine = self.engine.unwrap_or(match self.bounds.threads {
            0 | 1 => Engine::Hunt,
            _ => Engine::Stateright,
        });
        let situations = situations(&self.scenario);
        let scenario = self.scenario.clone();
        let report =
            run::explore(scenario, None, engine, &self.bounds, &situations, None, progress)?;
        let finding = match &report.judgement {
            Judgement::Violated { law, path } => {
                Finding::Violated { law: *law, path: path.clone() }
            }
            Judgement::Stopped(reason) => Finding::Stopped(*reason),
            Judgement::Vacuous(missed) => Finding::Vacuous(missed.clone()),
            Judgement::Holds | Judgement::CountChanged { .. } if may_drop(&report) => {
                self.search_loss(&report, progress)?
            }
            Judgement::Holds | Judgement::CountChanged { .. } => Finding::Holds,
        };
        Ok(CheckOutcome::new(self, report, finding))
    }

    /// All laws hold, and the external system drops data. Did it drop data that readers should have
    /// got? The laws excuse a job that reports a loss.
    fn search_loss(
        &self,
        report: &ExplorationReport,
        progress: &dyn Fn(SearchProgress),
    ) -> Result<Finding, ScenarioError> {
        let mut bounds = Bounds { laws: u64::MAX, liveness: false, ..self.bounds.clone() };
        let spent = Duration::from_secs_f64(report.outcome.seconds);
        bounds.timeout = bounds.timeout.map(|limit| limit.saturating_sub(spent));
        let system = Strict::new(self.scenario.clone())?;
        Ok(match explore::hunt(&system, &bounds, progress).verdict {
            SearchVerdict::Holds => Finding::Holds,
            SearchVerdict::Violated { path, .. } => Finding::Loss { path },
            SearchVerdict::Stopped(reason) => Finding::Stopped(reason),
        })
    }
}

/// The situations that every check of a user's own topology must reach.
fn situations(scenario: &Scenario) -> Vec<Situation> {
    let mut situations = vec![Situation::Finished, Situation::Completed];
    if scenario.faults.crashes > 0 {
        situations.push(Situation::Restored);
    }
    situations
}

fn may_drop(report: &ExplorationReport) -> bool {
    let seen = [Situation::Dropped, Situation::LossSeen, Situation::LossReported];
    report.scenario.sink.prepared == Prepared::UntilNewAttempt
        || seen.iter().any(|situation| report.outcome.marks.contains(situation.mark()))
}
