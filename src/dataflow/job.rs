//! A job: a checked dataflow with its configuration, ready to run.
//!
//! Longer than 500 lines: all that a dataflow is checked for, each with its error, and what a job
//! is given to run by.

use std::fmt;

use snapline_protocol::topology::Topology;

use crate::base::sync::Arc;
use crate::base::watch;
use crate::executor::platform::Platform;
#[cfg(feature = "metrics")]
use crate::metrics::Publishing;
use crate::plan::config::JobConfig;
use crate::plan::graph::Graph;
use crate::plan::guarantee::{Guarantee, Level};
use crate::plan::spec::{BuildError, JobSpec};
use crate::plan::warnings::SettingWarning;
use crate::runtime::coordinator::Driver;
use crate::runtime::coordinator::store_client::asked;
use crate::runtime::handle::{JobError, JobHandle, Outcome};
use crate::runtime::status::StatusBoard;
use crate::runtime::watchdog;

/// A checked dataflow with its configuration: it can be inspected, and run.
#[must_use = "a job does nothing until it is run"]
pub struct Job(Arc<JobSpec>);

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({}, {})", self.0.name, self.0.guarantee)
    }
}

impl Job {
    pub(super) fn new(name: String, graph: Graph, config: JobConfig) -> Result<Self, BuildError> {
        Ok(Self(Arc::new(JobSpec::new(name, graph, config)?)))
    }

    /// The job's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The guarantee of the job's output, and why it is not higher.
    #[must_use]
    pub fn guarantee(&self) -> &Guarantee {
        &self.0.guarantee
    }

    /// Settings that can break the guarantee, or have another effect than they seem to. They are
    /// logged to `tracing` when the job starts.
    #[must_use]
    pub fn warnings(&self) -> Vec<SettingWarning> {
        self.0.warnings()
    }

    /// The job's subtasks and channels: what the model checker explores
    /// (`snapline_models::check::Check::new`). Operators without a set number of subtasks have as
    /// many as at a first start. [`Self::spawn`] gives them those of the checkpoint that it resumes
    /// from.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.0.topology
    }

    /// Runs the job to its end. Ctrl-C and SIGTERM suspend it (feature `signals`): a last
    /// checkpoint is taken, its output committed, and the next run resumes from it. A second signal
    /// cancels. In a process without a `tracing` subscriber, restarts and what a stop waits for are
    /// reported on standard error, unless the job is [`JobConfig::quiet`].
    ///
    /// # Errors
    /// [`JobError`]: why it failed.
    pub fn run(self) -> Result<Outcome, JobError> {
        let aloud = !self.0.config.quiet;
        let handle = self.start(aloud)?;
        #[cfg(feature = "signals")]
        let _listening = crate::runtime::signals::listen(handle.wishes.clone());
        handle.wait()
    }

    /// Runs the job on threads of its own.
    ///
    /// # Errors
    /// [`JobError`] if its store cannot be opened, or a thread cannot be started.
    pub fn spawn(self) -> Result<JobHandle, JobError> {
        self.start(false)
    }

    fn start(self, aloud: bool) -> Result<JobHandle, JobError> {
        let mut spec = self.0;
        let guarantee = spec.guarantee.clone();
        if guarantee.level == Level::ExactlyOnce {
            tracing::info!(target: "snapline::job", job = spec.name, %guarantee, "guarantee");
        } else {
            tracing::warn!(target: "snapline::job", job = spec.name, %guarantee, "guarantee");
        }
        // A lower guarantee was reported above.
        let lower =
            |warning: &SettingWarning| matches!(warning, SettingWarning::LowerGuarantee { .. });
        let warnings = spec.warnings();
        for warning in warnings.iter().filter(|warning| !lower(warning)) {
            let setting = warning.setting();
            tracing::warn!(target: "snapline::job", job = spec.name, setting, %warning, "settings");
        }
        let (wishes, notices) = crossbeam_channel::unbounded();
        let board = StatusBoard::default();
        #[cfg(any(feature = "dashboard", feature = "prometheus"))]
        let name = spec.name.clone();
        let (limit, told, sender) = (spec.config.hang_timeout, board.clone(), wishes.clone());
        // On the coordinator's thread, which is watched: any call of the store can hang.
        let run = move |started: &dyn Fn()| {
            watch::begin("opening the store", None);
            let store = asked("opening the store", || spec.config.storage.open());
            let store = store.map_err(JobError::Store)?;
            // Invariant: the job is started once, and its description is not shared before.
            if let Some(spec) = Arc::get_mut(&mut spec) {
                let taken =
                    asked("reading the newest manifest", || spec.take_over_parallelism(&*store));
                taken.map_err(JobError::Store)?;
            }
            #[cfg(feature = "metrics")]
            let (name, every) = (spec.name.clone(), spec.config.metrics_interval);
            let (notices, platform) = ((sender, notices), Platform::default());
            let driver = Driver::start(spec, store, told.clone(), notices, platform, None, aloud)?;
            #[cfg(feature = "metrics")]
            let publishing = every
                .map(|every| Publishing::start(&name, told, every))
                .transpose()
                .map_err(JobError::Thread)?;
            started();
            let outcome = driver.run();
            // The last figures are those of the end.
            #[cfg(feature = "metrics")]
            drop(publishing);
            outcome
        };
        let driver = watchdog::start(board.clone(), limit, run)?;
        Ok(JobHandle {
            #[cfg(any(feature = "dashboard", feature = "prometheus"))]
            name,
            wishes,
            board,
            guarantee,
            warnings,
            driver,
        })
    }
}

/// Access for the simulator.
#[cfg(feature = "sim")]
impl Job {
    /// The job's specification, while there is one owner.
    pub(crate) fn spec_mut(&mut self) -> Option<&mut JobSpec> {
        Arc::get_mut(&mut self.0)
    }

    /// The job's specification.
    pub(crate) fn into_spec(self) -> Arc<JobSpec> {
        self.0
    }
}
