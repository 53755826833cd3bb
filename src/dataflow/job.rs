//! A job: a checked dataflow with its configuration, ready to run.
//!
//! Longer than 500 lines: all that a dataflow is checked for, each with its error, and what a job is given to run by.

use std::collections::BTreeMap;
use std::fmt;

use snapline_protocol::coordinator;
use snapline_protocol::fence::Claimant;
#[cfg(feature = "sim")]
use snapline_protocol::ids::SubtaskId;
use snapline_protocol::ids::Term;
use snapline_protocol::recovery::Policy;
use snapline_protocol::topology::{
    Edge, MAX_SUBTASKS, Operator, Plan, Topology, TopologyError, Wiring,
};

use super::config::{JobConfig, Restart, Resume, Storage, cores};
use super::graph::{EdgeSpec, Graph, Node, Sizing};
use super::guarantee::{Facts, Guarantee, Level};
use super::warnings::SettingWarning;
use crate::connect::Delivery;
use crate::engine::driver::Driver;
use crate::engine::handle::{JobError, JobHandle, Outcome};
use crate::engine::peer::asked;
use crate::engine::platform::Platform;
use crate::engine::status::StatusBoard;
use crate::engine::{watch, watchdog};
#[cfg(feature = "metrics")]
use crate::metrics::Publishing;
use crate::state::MAX_KEY_GROUPS;
use crate::store::{Manifest, Store, StoreError};
use crate::sync::Arc;
use crate::trace::format::{self as trace, Header};

/// Everything that stays as it is while a job runs.
pub(crate) struct JobSpec {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<EdgeSpec>,
    pub(crate) topology: Topology,
    pub(crate) config: JobConfig,
    pub(crate) guarantee: Guarantee,
    pub(crate) workers: usize,
    pub(crate) sizing: Sizing,
}

impl JobSpec {
    /// The first line of a run's trace (SPEC 11.6).
    pub(crate) fn trace_header(
        &self,
        config: &coordinator::Config,
        term: Term,
        claimant: Claimant,
        policy: Policy,
    ) -> Header {
        let two_phase = |node: &&Node| node.delivery == Some(Delivery::TwoPhase);
        Header {
            format: trace::FORMAT.to_owned(),
            version: trace::VERSION,
            job: self.name.clone(),
            process: std::process::id(),
            term,
            claimant,
            plan: Plan {
                operators: self.topology.operators().to_vec(),
                edges: self.topology.edges().to_vec(),
            },
            mode: self.config.mode,
            two_phase: self.nodes.iter().filter(two_phase).map(|node| node.name.clone()).collect(),
            max_concurrent: config.max_concurrent,
            tolerable_failures: config.tolerable_failures,
            retained: config.retained,
            id_block: config.id_block,
            policy,
        }
    }

    /// The subtasks of sinks that write in transactions: of which operator, and which of its subtasks.
    #[cfg(feature = "sim")]
    pub(crate) fn transactional(&self) -> BTreeMap<SubtaskId, (String, usize)> {
        let mut found = BTreeMap::new();
        for (number, subtask) in (0..).zip(self.topology.subtasks()) {
            let name = &self.topology.operators()[subtask.operator].name;
            let node = self.nodes.iter().find(|node| node.name == *name);
            if node.is_some_and(|node| node.delivery == Some(Delivery::TwoPhase)) {
                found.insert(SubtaskId::new(number), (name.clone(), subtask.index));
            }
        }
        found
    }

    /// Settings to think about.
    fn warnings(&self) -> Vec<SettingWarning> {
        let timeouts = self.nodes.iter();
        let timeouts = timeouts.filter(|node| node.delivery == Some(Delivery::TwoPhase));
        let timeouts =
            timeouts.filter_map(|node| Some((node.name.clone(), node.transaction_timeout?)));
        self.config.warnings_with(&self.guarantee, timeouts)
    }

    /// What keeps a checkpoint from being restored into this job; `None` if nothing does.
    pub(crate) fn differs_from(&self, manifest: &Manifest) -> Option<String> {
        if manifest.job != self.name {
            return Some(format!(
                "it was taken by job `{}`, this is `{}`",
                manifest.job, self.name
            ));
        }
        let key_groups = self.config.key_groups;
        if manifest.key_groups != key_groups {
            return Some(format!(
                "it has {} key groups, this job is configured for {key_groups}; the number is fixed by the first checkpoint",
                manifest.key_groups
            ));
        }
        let mine = self.topology.operators().iter().map(|op| (op.name.as_str(), op.parallelism));
        let theirs = manifest.operators.iter().map(|op| (op.name.as_str(), op.parallelism));
        let (mine, theirs): (Vec<_>, Vec<_>) = (mine.collect(), theirs.collect());
        if mine == theirs {
            return None;
        }
        let show = |operators: &[(&str, usize)]| {
            let one = |(name, parallelism): &(&str, usize)| format!("`{name}` x{parallelism}");
            operators.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        Some(format!(
            "its operators are {}, this job's are {}; name operators as they were and give them the parallelism they had, or begin in \
             another directory",
            show(&theirs),
            show(&mine)
        ))
    }
}

/// What is wrong with a dataflow or its configuration.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The operators do not make a topology.
    Topology(TopologyError),
    /// A setting has no meaning.
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong with it, and what is right.
        what: String,
    },
    /// An operator has more subtasks than there are key groups.
    TooParallel {
        /// The operator.
        operator: String,
        /// Its subtasks.
        parallelism: usize,
        /// The key groups.
        key_groups: u16,
    },
    /// Windows that cannot be, or a trigger that cannot fire.
    Window {
        /// What is wrong, and what is right.
        what: String,
    },
    /// A number that an operator was given cannot be.
    Operator {
        /// The operator.
        operator: String,
        /// What is wrong, and what is right.
        what: String,
    },
    /// The stream of a source, or of an operator, goes nowhere: what it reads would be dropped.
    GoesNowhere {
        /// The source, or the last operator that is the name of a task.
        operator: String,
    },
    /// A branch of a fork goes nowhere.
    LooseBranch {
        /// The operator whose output is forked.
        operator: String,
    },
    /// The guarantee asked for cannot be given.
    Guarantee {
        /// What was asked for.
        asked: Level,
        /// What can be given, and why no more.
        given: Guarantee,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topology(error) => write!(f, "{error}"),
            Self::Setting { setting, what } => write!(f, "setting `{setting}`: {what}"),
            Self::TooParallel { operator, parallelism, key_groups } => write!(
                f,
                "operator `{operator}` has {parallelism} subtasks but there are only {key_groups} key groups to divide among them; \
                 configure more key groups or fewer subtasks"
            ),
            Self::Window { what } => write!(f, "{what}"),
            Self::Operator { operator, what } => write!(f, "operator `{operator}`: {what}"),
            Self::GoesNowhere { operator } => write!(
                f,
                "the stream of `{operator}` goes nowhere: end it with `sink`, or leave it out"
            ),
            Self::LooseBranch { operator } => write!(
                f,
                "a branch of the fork behind operator `{operator}` goes nowhere; end it in a sink, or do not fork"
            ),
            Self::Guarantee { asked, given } => {
                write!(
                    f,
                    "the job was asked to deliver {asked} but can promise no more than {given}"
                )
            }
        }
    }
}

snapline_protocol::error_in_words!(BuildError);

impl From<TopologyError> for BuildError {
    fn from(error: TopologyError) -> Self {
        Self::Topology(error)
    }
}

impl JobConfig {
    /// Whether it has a meaning, whatever the job.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let wrong = |setting, what: &str| Err(BuildError::Setting { setting, what: what.into() });
        match self.parallelism {
            Some(0) => return wrong("parallelism", "an operator needs at least one subtask"),
            Some(subtasks) if subtasks > MAX_SUBTASKS => {
                let what = format!("a job has {MAX_SUBTASKS} subtasks at most, not {subtasks}");
                return wrong("parallelism", &what);
            }
            _ => {}
        }
        if self.workers == Some(0) {
            return wrong("workers", "a job needs at least one worker thread");
        }
        if self.key_groups == 0 || self.key_groups > MAX_KEY_GROUPS {
            return wrong("key_groups", &format!("it must be from 1 to {MAX_KEY_GROUPS}"));
        }
        if self.max_concurrent == 0 {
            return wrong("max_concurrent_checkpoints", "at least one must be allowed");
        }
        let most = |setting, is: u64, most: u64| match is <= most {
            true => Ok(()),
            false => wrong(setting, &format!("it is {is}, and must be {most} at most")),
        };
        most("max_concurrent_checkpoints", self.max_concurrent as u64, 1_000)?;
        most("retained_checkpoints", self.retained as u64, 100_000)?;
        most("upload_threads", self.upload_threads as u64, 1_024)?;
        // Ids are counted on from there for as long as the job lives (SPEC 13.10).
        most("id_block", self.id_block, 1 << 32)?;
        if let Restart::Exponential { factor, .. } = self.restart
            && !(factor.is_finite() && factor >= 1.0)
        {
            let what = format!("it is {factor}, and must be 1 or more: pauses do not shrink");
            return wrong("restart_factor", &what);
        }
        if self.id_block == 0 {
            return wrong("id_block", "at least one id must be reserved at a time");
        }
        if self.retained == 0 {
            return wrong("retained_checkpoints", "at least one must be kept");
        }
        if self.timeout.is_zero() {
            return wrong("checkpoint_timeout", "it must be longer than nothing");
        }
        if self.interval.is_some_and(|interval| interval.is_zero()) {
            return wrong(
                "checkpoint_interval",
                "it must be longer than nothing; `None` takes no periodic checkpoints",
            );
        }
        #[cfg(feature = "metrics")]
        if self.metrics_interval.is_some_and(|interval| interval.is_zero()) {
            return wrong(
                "metrics_interval",
                "it must be longer than nothing; `None` publishes nothing",
            );
        }
        if self.hang_timeout.is_zero() {
            return wrong("hang_timeout", "it must be longer than nothing");
        }
        if self.upload_threads == 0 {
            return wrong("upload_threads", "snapshots need at least one thread to be written by");
        }
        Ok(())
    }
}

/// The subtasks and channels of a job. An operator that was given no number of subtasks has that of `found`, or the configuration's; or as many
/// as there are cores, if the job can have so many.
fn topology(
    nodes: &[Node],
    edges: &[EdgeSpec],
    config: &JobConfig,
    found: &BTreeMap<String, usize>,
) -> Result<Topology, BuildError> {
    let given = nodes.iter().filter_map(|node| node.parallelism).fold(0, usize::saturating_add);
    let others = nodes.iter().filter(|node| node.parallelism.is_none()).count().max(1);
    let fits = usize::from(config.key_groups).min(MAX_SUBTASKS.saturating_sub(given) / others);
    let default = config.parallelism.unwrap_or_else(|| cores().min(fits).max(1));
    let parallelism = |node: &Node| {
        node.parallelism.unwrap_or_else(|| found.get(&node.name).copied().unwrap_or(default))
    };
    let mut plan = Plan::new();
    for node in nodes {
        let (name, role, parallelism) = (node.name.clone(), node.role, parallelism(node));
        plan.operators.push(Operator { name, role, parallelism });
    }
    for EdgeSpec { from, to, keyed, .. } in edges {
        let (from, to) = (&nodes[*from], &nodes[*to]);
        let equal = parallelism(from) == parallelism(to);
        let wiring = if equal && !keyed { Wiring::Forward } else { Wiring::AllToAll };
        plan.edges.push(Edge { from: from.name.clone(), to: to.name.clone(), wiring });
        if *keyed && parallelism(to) > usize::from(config.key_groups) {
            return Err(BuildError::TooParallel {
                operator: to.name.clone(),
                parallelism: parallelism(to),
                key_groups: config.key_groups,
            });
        }
    }
    Ok(plan.build()?)
}

/// How many threads host subtasks.
fn workers(topology: &Topology, config: &JobConfig) -> usize {
    let widest = topology.operators().iter().map(|op| op.parallelism).max().unwrap_or(1);
    config.workers.unwrap_or_else(cores).min(widest).max(1)
}

impl JobSpec {
    /// Gives operators that were given no number of subtasks as many as they have in the checkpoint that the job goes on with. A manifest
    /// that is gone or wrong is passed over: restoring says so.
    ///
    /// # Errors
    /// If the store cannot be read now: with other numbers the job would not be the one that the checkpoint is of.
    fn take_over_parallelism(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        if self.config.parallelism.is_some() {
            return Ok(());
        }
        let resumed = match self.config.resume {
            Resume::From(checkpoint) => Some(checkpoint),
            Resume::Suspended | Resume::Never => None,
        };
        let mut readable = None;
        for checkpoint in resumed.into_iter().chain(store.manifests()?.into_iter().rev()) {
            match store.manifest(checkpoint) {
                Ok(manifest) => {
                    readable = Some(manifest);
                    break;
                }
                Err(error) if error.is_verdict() => {}
                Err(error) => return Err(error),
            }
        }
        let Some(manifest) = readable.filter(|manifest| manifest.job == self.name) else {
            return Ok(());
        };
        let found = manifest.operators.iter().map(|op| (op.name.clone(), op.parallelism)).collect();
        if let Ok(topology) = topology(&self.nodes, &self.edges, &self.config, &found) {
            self.workers = workers(&topology, &self.config);
            self.topology = topology;
        }
        Ok(())
    }
}

/// A dataflow that was checked, with its configuration: it can be looked at, and run.
#[must_use = "a job does nothing until it is run"]
pub struct Job(Arc<JobSpec>);

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({}, {})", self.0.name, self.0.guarantee)
    }
}

impl Job {
    pub(super) fn new(name: String, graph: Graph, config: JobConfig) -> Result<Self, BuildError> {
        config.check()?;
        let Graph { nodes, edges, sources, wrong } = graph;
        if let Some(error) = wrong.into_iter().next() {
            return Err(error);
        }
        if let Some((source, _)) = sources.into_iter().find(|(_, goes_on)| !goes_on) {
            return Err(BuildError::GoesNowhere { operator: source });
        }
        for (place, node) in nodes.iter().enumerate() {
            let operator = || node.name.clone();
            match edges.iter().filter(|edge| edge.from == place).count() {
                edges if edges >= node.outputs => {}
                _ if node.outputs == 1 => {
                    return Err(BuildError::GoesNowhere { operator: operator() });
                }
                _ => return Err(BuildError::LooseBranch { operator: operator() }),
            }
        }
        let topology = topology(&nodes, &edges, &config, &BTreeMap::new())?;
        let workers = workers(&topology, &config);
        let guarantee = Guarantee::compute(&Facts {
            mode: config.mode,
            in_memory: matches!(config.storage, Storage::Memory(_)),
            sources: nodes.iter().filter_map(|n| Some((n.name.as_str(), n.replayable?))).collect(),
            sinks: nodes.iter().filter_map(|n| Some((n.name.as_str(), n.delivery?))).collect(),
        });
        match config.require {
            Some(asked) if guarantee.level < asked => {
                return Err(BuildError::Guarantee { asked, given: guarantee });
            }
            _ => {}
        }
        let sizing = Sizing::default();
        let spec = JobSpec { name, nodes, edges, topology, config, guarantee, workers, sizing };
        Ok(Self(Arc::new(spec)))
    }

    /// What it is made of, while nobody else has it.
    #[cfg(feature = "sim")]
    pub(crate) fn spec_mut(&mut self) -> Option<&mut JobSpec> {
        Arc::get_mut(&mut self.0)
    }

    /// What it is made of.
    #[cfg(feature = "sim")]
    pub(crate) fn into_spec(self) -> Arc<JobSpec> {
        self.0
    }

    /// The job's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the job promises about its output, and why no more.
    #[must_use]
    pub fn guarantee(&self) -> &Guarantee {
        &self.0.guarantee
    }

    /// Settings that can break what the job promises, or do not do what they seem to. They are told to `tracing` when the job starts.
    #[must_use]
    pub fn warnings(&self) -> Vec<SettingWarning> {
        self.0.warnings()
    }

    /// The job's subtasks and channels: what the model checker explores (`snapline_models::check::Check::new`). Operators that were given no
    /// number of subtasks have as many as at a first start; [`Self::spawn`] gives them those of the checkpoint that it goes on with.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.0.topology
    }

    /// Runs the job to its end. Ctrl-C and SIGTERM suspend it (feature `signals`): a last checkpoint is taken, its output committed, and the
    /// next run goes on behind it; a second signal cancels. In a process without a `tracing` subscriber it says on standard error which restarts
    /// there are and what a stop waits for, unless it is to be [`JobConfig::quiet`].
    ///
    /// # Errors
    /// [`JobError`]: why it failed.
    pub fn run(self) -> Result<Outcome, JobError> {
        let aloud = !self.0.config.quiet;
        let handle = self.start(aloud)?;
        #[cfg(feature = "signals")]
        let _listening = crate::engine::signals::listen(handle.wishes.clone());
        handle.wait()
    }

    /// Runs the job on threads of its own.
    ///
    /// # Errors
    /// [`JobError`] if its store cannot be opened, or a thread not be started.
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
        // A lower guarantee was told above.
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
        // On the coordinator's thread, where it is watched: whatever calls the store can hang.
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
            let driver = Driver::start(spec, store, told.clone(), notices, platform, aloud)?;
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
