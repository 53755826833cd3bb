//! A checked dataflow with its configuration, and why one is refused.

use std::collections::BTreeMap;
use std::fmt;

use snapline_protocol::coordinator;
use snapline_protocol::fence::Claimant;
use snapline_protocol::ids::Term;
use snapline_protocol::recovery::Policy;
use snapline_protocol::topology::{
    Edge, MAX_SUBTASKS, Operator, Plan, Topology, TopologyError, Wiring,
};

use crate::plan::config::{JobConfig, Restart, Resume, Storage, cores};
use crate::plan::graph::{BufferSizes, EdgeSpec, Graph, OperatorNode};
use crate::plan::guarantee::{Guarantee, GuaranteeFacts, Level};
use crate::plan::warnings::SettingWarning;
use crate::state::MAX_KEY_GROUPS;
use crate::store::{Manifest, Store, StoreError};
use crate::trace::format::{self as trace, Header};
use snapline_core::connect::Delivery;

/// Everything that stays the same while a job runs.
pub(crate) struct JobSpec {
    pub(crate) name: String,
    pub(crate) nodes: Vec<OperatorNode>,
    pub(crate) edges: Vec<EdgeSpec>,
    pub(crate) topology: Topology,
    pub(crate) config: JobConfig,
    pub(crate) guarantee: Guarantee,
    pub(crate) workers: usize,
    pub(crate) sizing: BufferSizes,
}

impl JobSpec {
    /// Checks a dataflow and its configuration.
    ///
    /// # Errors
    /// [`BuildError`]: what does not fit, and where.
    pub(crate) fn new(name: String, graph: Graph, config: JobConfig) -> Result<Self, BuildError> {
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
        let guarantee = Guarantee::compute(&GuaranteeFacts {
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
        let sizing = BufferSizes::default();
        Ok(Self { name, nodes, edges, topology, config, guarantee, workers, sizing })
    }

    /// The first line of a run's trace (SPEC 11.6).
    pub(crate) fn trace_header(
        &self,
        config: &coordinator::Config,
        term: Term,
        claimant: Claimant,
        policy: Policy,
    ) -> Header {
        let two_phase = |node: &&OperatorNode| node.delivery == Some(Delivery::TwoPhase);
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

    /// The subtasks of sinks that write in transactions, each with its operator.
    #[cfg(feature = "sim")]
    pub(crate) fn transactional(
        &self,
    ) -> BTreeMap<snapline_protocol::ids::SubtaskId, (String, usize)> {
        use snapline_protocol::ids::SubtaskId;
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

    /// Doubtful settings.
    pub(crate) fn warnings(&self) -> Vec<SettingWarning> {
        let timeouts = self.nodes.iter();
        let timeouts = timeouts.filter(|node| node.delivery == Some(Delivery::TwoPhase));
        let timeouts =
            timeouts.filter_map(|node| Some((node.name.clone(), node.transaction_timeout?)));
        self.config.warnings_with(&self.guarantee, timeouts)
    }

    /// Why a checkpoint cannot be restored into this job; `None` if it can.
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
            "its operators are {}, this job's are {}; give the operators their former names and \
             parallelism, or use another directory",
            show(&theirs),
            show(&mine)
        ))
    }
}

/// An error in a dataflow or its configuration.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The operators do not make a topology.
    Topology(TopologyError),
    /// A setting is invalid.
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it, and how to correct it.
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
    /// Impossible windows, or a trigger that cannot fire.
    Window {
        /// What is wrong, and how to correct it.
        what: String,
    },
    /// An operator was given an impossible number.
    Operator {
        /// The operator.
        operator: String,
        /// What is wrong, and how to correct it.
        what: String,
    },
    /// The stream of a source, or of an operator, has no consumer: what it reads would be dropped.
    GoesNowhere {
        /// The source, or the last operator that is the name of a task.
        operator: String,
    },
    /// A branch of a fork has no consumer.
    LooseBranch {
        /// The operator whose output is forked.
        operator: String,
    },
    /// The required guarantee cannot be given.
    Guarantee {
        /// The required guarantee.
        asked: Level,
        /// The possible guarantee, and why it is not higher.
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
                "the stream of `{operator}` has no sink; end it with `sink`, or remove it"
            ),
            Self::LooseBranch { operator } => write!(
                f,
                "a branch of the fork downstream of operator `{operator}` has no sink; end it with \
                 `sink`, or do not fork"
            ),
            Self::Guarantee { asked, given } => {
                write!(f, "the job requires {asked}, but guarantees only {given}")
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
    /// Whether it is valid in any job.
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
            return wrong("checkpoint_timeout", "it must be greater than zero");
        }
        if self.interval.is_some_and(|interval| interval.is_zero()) {
            return wrong(
                "checkpoint_interval",
                "it must be greater than zero; `None` takes no periodic checkpoints",
            );
        }
        #[cfg(feature = "metrics")]
        if self.metrics_interval.is_some_and(|interval| interval.is_zero()) {
            return wrong(
                "metrics_interval",
                "it must be greater than zero; `None` publishes nothing",
            );
        }
        if self.hang_timeout.is_zero() {
            return wrong("hang_timeout", "it must be greater than zero");
        }
        if self.upload_threads == 0 {
            return wrong("upload_threads", "at least one thread must write snapshots");
        }
        Ok(())
    }
}

/// The subtasks and channels of a job. An operator without a number of subtasks of its own has that
/// of `found`, or the configuration's. Otherwise it has as many as there are cores, if the job can
/// have so many.
fn topology(
    nodes: &[OperatorNode],
    edges: &[EdgeSpec],
    config: &JobConfig,
    found: &BTreeMap<String, usize>,
) -> Result<Topology, BuildError> {
    let given = nodes.iter().filter_map(|node| node.parallelism).fold(0, usize::saturating_add);
    let others = nodes.iter().filter(|node| node.parallelism.is_none()).count().max(1);
    let fits = usize::from(config.key_groups).min(MAX_SUBTASKS.saturating_sub(given) / others);
    let default = config.parallelism.unwrap_or_else(|| cores().min(fits).max(1));
    let parallelism = |node: &OperatorNode| {
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

/// The number of threads that host subtasks.
fn workers(topology: &Topology, config: &JobConfig) -> usize {
    let widest = topology.operators().iter().map(|op| op.parallelism).max().unwrap_or(1);
    config.workers.unwrap_or_else(cores).min(widest).max(1)
}

impl JobSpec {
    /// Gives operators without a number of subtasks as many as they have in the checkpoint that the
    /// job resumes from. A manifest that is missing or damaged is ignored here: the restore reports
    /// it.
    ///
    /// # Errors
    /// If the store cannot be read now: with other numbers the checkpoint would not fit the job.
    pub(crate) fn take_over_parallelism(&mut self, store: &dyn Store) -> Result<(), StoreError> {
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
