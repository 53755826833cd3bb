//! Scenarios: a topology, bounds and a budget of faults, fixed while they are explored.

use std::fmt;

use serde::{Deserialize, Serialize};
use snapline_protocol::aligner::Mode;
use snapline_protocol::coordinator::Stop;
use snapline_protocol::ids::SubtaskId;
use snapline_protocol::topology::{Plan, Topology, TopologyError, Wiring};
use snapline_protocol::{aligner, committer, coordinator};

use crate::sink::SinkModel;
use crate::world::rule::WrongRule;

/// The number of times that each kind of failure may strike in one run. Zero switches it off.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A task dies: its memory, its input channels and its unfinished writes are gone, the latter
    /// perhaps half written.
    pub crashes: u8,
    /// The coordinator dies; its write in flight may or may not take effect.
    pub coordinator_crashes: u8,
    /// A task of an ended attempt keeps acting on the store and the external system.
    pub zombie_tasks: u8,
    /// A new coordinator starts while the old one lives on.
    pub zombie_coordinators: u8,
    /// A control message is lost.
    pub losses: u8,
    /// A control message is delivered twice, the second time at any later moment.
    pub duplicates: u8,
    /// A control message that is otherwise delivered at once is delayed, across restarts too.
    pub delays: u8,
    /// A write of the coordinator returns "unknown", applied or not.
    pub unknown_writes: u8,
    /// A write of the coordinator is refused.
    pub refused_writes: u8,
    /// A snapshot cannot be written, or its outcome is unknown.
    pub failed_snapshots: u8,
    /// A commit call returns "unknown", applied or not.
    pub unknown_commits: u8,
    /// A commit call is refused for now.
    pub refused_commits: u8,
    /// The external system drops a prepared transaction on its own timeout.
    pub drops: u8,
    /// A timer fires although nothing is stuck.
    pub timeouts: u8,
    /// The newest manifest is gone when a coordinator starts: deleted by hand, or left out of a
    /// copy (SPEC 7.6).
    #[serde(skip_serializing_if = "is_none")]
    pub lost_manifests: u8,
}

/// Files of scenarios without this fault keep their text.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
const fn is_none(count: &u8) -> bool {
    *count == 0
}

impl Faults {
    /// The number of faults that may strike in all.
    #[must_use]
    pub fn total(&self) -> u32 {
        let Self {
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
        } = *self;
        let all = [
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
        ];
        all.into_iter().map(u32::from).sum()
    }
}

/// The control messages that wait in the network for any length of time. The others arrive at once,
/// unless a fault of the budget strikes.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct QueuedMessages {
    /// Triggers to sources.
    pub triggers: bool,
    /// Aborts.
    pub aborts: bool,
    /// Completion notices to sinks.
    pub completes: bool,
    /// Acks and declines.
    pub acks: bool,
    /// Sinks' reports.
    pub reports: bool,
}

impl QueuedMessages {
    /// Everything waits.
    pub const ALL: Self =
        Self { triggers: true, aborts: true, completes: true, acks: true, reports: true };
    /// Only triggers wait, so that each source cuts at its own moment.
    pub const TRIGGERS: Self =
        Self { triggers: true, aborts: false, completes: false, acks: false, reports: false };
}

/// A configuration of the model. All its numbers are bounds of a check's claim.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The scenario's name.
    pub name: String,
    /// The topology.
    pub plan: Plan,
    /// The guarantee asked of the aligners.
    pub mode: Mode,
    /// Records per source subtask; the input ends after them.
    pub records: u8,
    /// Checkpoints that the interval timer may start before the input has ended. Those needed to
    /// finish come on top.
    pub checkpoints: u8,
    /// The number of records and barriers that a channel holds.
    pub capacity: u8,
    /// The user stops the job at any moment.
    pub stop: Option<StopKind>,
    /// The number of completed checkpoints to keep; `None` keeps all and deletes nothing.
    pub retained: Option<usize>,
    /// Snapshots share blobs with the checkpoint they are based on.
    pub shared: bool,
    /// Input is dropped as soon as its source reports that it needs it no longer (SPEC 15.11).
    #[serde(default, skip_serializing_if = "is_false")]
    pub forgets: bool,
    /// The number of checkpoint ids that one durable reservation covers.
    pub id_block: u64,
    /// The number of checkpoints that may be under way at once.
    pub max_concurrent: usize,
    /// The number of checkpoints that may fail in a row before the job restarts.
    pub tolerable_failures: u32,
    /// An operator that gets only each source's first record: its later epochs are empty.
    pub narrow: Option<String>,
    /// True if only sinks write their snapshots in the background, and the others at once.
    pub prompt_writes: bool,
    /// The external system's rules of commit.
    pub sink: SinkModel,
    /// The messages that wait.
    pub queued: QueuedMessages,
    /// The budget of faults.
    pub faults: Faults,
}

/// Files of scenarios without this flag keep their text.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// [`Stop`], for scenario files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopKind {
    /// Stop with drain.
    Drain,
    /// Stop without drain.
    Suspend,
}

impl From<StopKind> for Stop {
    fn from(kind: StopKind) -> Self {
        match kind {
            StopKind::Drain => Self::Drain,
            StopKind::Suspend => Self::Suspend,
        }
    }
}

impl Scenario {
    /// A scenario with small bounds, no faults, and an external system that keeps its promises.
    #[must_use]
    pub fn new(name: &str, plan: Plan) -> Self {
        Self {
            name: name.into(),
            plan,
            mode: Mode::ExactlyOnce,
            records: 2,
            checkpoints: 1,
            capacity: 1,
            stop: None,
            retained: None,
            shared: false,
            forgets: false,
            id_block: 8,
            max_concurrent: 1,
            tolerable_failures: 2,
            narrow: None,
            prompt_writes: true,
            sink: SinkModel::transactional(),
            queued: QueuedMessages::TRIGGERS,
            faults: Faults::default(),
        }
    }
}

/// The reason for which a scenario cannot be explored.
#[derive(Clone, PartialEq, Eq)]
pub enum ScenarioError {
    /// The topology is invalid.
    Topology(TopologyError),
    /// Records times paths exceeds the identities that a tally holds; holds the number needed.
    TooManyRecords(usize),
    /// The named number is 0 and must be at least 1.
    Zero(&'static str),
    /// The named number is larger than any run needs, so that ids counted with it would not fit.
    /// Holds the number and its limit.
    TooLarge(&'static str, u64, u64),
    /// The narrow operator is not in the topology.
    NoSuchOperator(String),
}

/// The largest number that a scenario adds to ids or counts: sums of such numbers fit into an id.
const MAX_NUMBER: u64 = 1 << 32;

/// The number of record identities that fit into a tally.
const MAX_FLOWS: usize = 64;

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topology(error) => error.fmt(f),
            Self::TooManyRecords(count) => write!(
                f,
                "the model would need {count} record identities (records per source times paths \
                 through the topology); \
                 the limit is 64; lower `records`"
            ),
            Self::Zero(what) => write!(f, "{what} must be at least 1"),
            Self::TooLarge(what, value, most) => {
                write!(f, "{what} is {value}; it must be at most {most}")
            }
            Self::NoSuchOperator(name) => {
                write!(f, "`narrow` names the operator `{name}`, which does not exist")
            }
        }
    }
}

snapline_protocol::error_in_words!(ScenarioError);

impl From<TopologyError> for ScenarioError {
    fn from(error: TopologyError) -> Self {
        Self::Topology(error)
    }
}

/// One record at one place: its source, its sequence number and its path. A record that takes two
/// paths has two identities.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RecordPath {
    pub(crate) source: usize,
    pub(crate) seq: u8,
    way: Vec<usize>,
}

/// A scenario, checked and laid out, in which the World looks up all that never changes.
#[derive(Debug)]
pub struct Setup {
    /// The scenario.
    pub scenario: Scenario,
    /// Its topology.
    pub topology: Topology,
    /// The wrong rule that is switched on, if any.
    pub mutant: Option<WrongRule>,
    pub(crate) coordinator: coordinator::Config,
    pub(crate) aligners: Vec<aligner::Config>,
    pub(crate) committers: Vec<committer::Config>,
    pub(crate) flows: Vec<RecordPath>,
    /// Per subtask and flow: the channel and flow that the record continues as.
    pub(crate) routes: Vec<Vec<Vec<(usize, u8)>>>,
    /// Per subtask: the flows that pass it.
    pub(crate) passing: Vec<u64>,
    /// Per sink subtask: its flows, one stream per source and path, in order.
    pub(crate) streams: Vec<Vec<Vec<u8>>>,
    /// Per source subtask: for each number of records read, the flows of those records; and the
    /// flow of each record.
    pub(crate) prefix: Vec<Vec<u64>>,
    pub(crate) roots: Vec<Vec<u8>>,
}

impl Setup {
    /// Checks a scenario and lays it out.
    ///
    /// # Errors
    /// [`ScenarioError`], which names the mistake.
    pub fn new(scenario: Scenario, mutant: Option<WrongRule>) -> Result<Self, ScenarioError> {
        let topology = scenario.plan.clone().build()?;
        // Files and traces supply these numbers: they are bounded before they are computed with.
        for (what, value) in [
            ("the number of records per source", u64::from(scenario.records)),
            ("the channel capacity", u64::from(scenario.capacity)),
            ("the id block", scenario.id_block),
            ("the number of concurrent checkpoints", scenario.max_concurrent as u64),
            ("the number of retained checkpoints", scenario.retained.unwrap_or(1) as u64),
        ] {
            match value {
                0 => return Err(ScenarioError::Zero(what)),
                1..=MAX_NUMBER => {}
                _ => return Err(ScenarioError::TooLarge(what, value, MAX_NUMBER)),
            }
        }
        if let Some(name) = &scenario.narrow
            && !topology.operators().iter().any(|operator| operator.name == *name)
        {
            return Err(ScenarioError::NoSuchOperator(name.clone()));
        }
        let count = topology.subtasks().len();
        // The topology's limit keeps indices within u16.
        let ids = || (0..count).map(|index| SubtaskId::new(index as u16));
        let mut setup = Self {
            coordinator: coordinator::Config {
                subtasks: count,
                sources: topology.sources(),
                sinks: topology.sinks(),
                max_concurrent: scenario.max_concurrent,
                tolerable_failures: scenario.tolerable_failures,
                retained: scenario.retained,
                id_block: scenario.id_block,
            },
            aligners: ids()
                .map(|subtask| aligner::Config {
                    subtask,
                    mode: scenario.mode,
                    inputs: topology.subtasks()[subtask.index()].inputs.len(),
                })
                .collect(),
            committers: ids().map(|subtask| committer::Config { subtask }).collect(),
            flows: Vec::new(),
            routes: vec![Vec::new(); count],
            passing: vec![0; count],
            streams: vec![Vec::new(); count],
            prefix: vec![Vec::new(); count],
            roots: vec![Vec::new(); count],
            scenario,
            topology,
            mutant,
        };
        setup.lay_out_flows()?;
        Ok(setup)
    }

    fn lay_out_flows(&mut self) -> Result<(), ScenarioError> {
        // Each record has an identity, and finding one takes time proportional to their number.
        let records = self.topology.sources().len() * usize::from(self.scenario.records);
        if records > MAX_FLOWS {
            return Err(ScenarioError::TooManyRecords(records));
        }
        let mut places = Vec::new();
        for source in self.topology.sources().iter() {
            for seq in 0..self.scenario.records {
                let root = self.flow(RecordPath { source, seq, way: Vec::new() });
                self.roots[source].push(root as u8);
                places.push((source, root));
            }
        }
        let mut visits = Vec::new();
        while let Some((subtask, flow)) = places.pop() {
            if self.flows.len() > MAX_FLOWS || visits.len() > 4096 {
                return Err(ScenarioError::TooManyRecords(self.flows.len().max(MAX_FLOWS + 1)));
            }
            let next = self.next_places(subtask, flow);
            places.extend(
                next.iter()
                    .map(|&(channel, flow)| (self.topology.channels()[channel].to.index(), flow)),
            );
            visits.push((subtask, flow, next));
        }
        for routes in &mut self.routes {
            routes.resize(self.flows.len(), Vec::new());
        }
        for (subtask, flow, next) in visits {
            self.passing[subtask] |= 1 << flow;
            self.routes[subtask][flow] =
                next.into_iter().map(|(channel, flow)| (channel, flow as u8)).collect();
        }
        self.lay_out_streams();
        Ok(())
    }

    fn flow(&mut self, flow: RecordPath) -> usize {
        let known = self.flows.iter().position(|other| *other == flow);
        known.unwrap_or_else(|| {
            self.flows.push(flow);
            self.flows.len() - 1
        })
    }

    /// The channels that a record takes from a subtask: one of each outgoing edge, by key.
    fn next_places(&mut self, subtask: usize, flow: usize) -> Vec<(usize, usize)> {
        let place = self.topology.subtasks()[subtask].clone();
        let mut edges: Vec<usize> =
            place.outputs.iter().map(|&c| self.topology.channels()[c].edge).collect();
        edges.dedup();
        let mut next = Vec::new();
        let RecordPath { source, seq, way } = self.flows[flow].clone();
        for &edge in &edges {
            let to = &self.topology.edges()[edge].to;
            if self.scenario.narrow.as_ref() == Some(to) && seq > 0 {
                continue;
            }
            let on_edge = |&&channel: &&usize| self.topology.channels()[channel].edge == edge;
            let channels: Vec<usize> = place.outputs.iter().filter(on_edge).copied().collect();
            let key = match self.topology.edges()[edge].wiring {
                Wiring::Forward => 0,
                Wiring::AllToAll => (source + usize::from(seq)) % channels.len(),
            };
            let mut longer = way.clone();
            if edges.len() > 1 {
                longer.push(edge);
            }
            let flow = self.flow(RecordPath { source, seq, way: longer });
            next.push((channels[key], flow));
        }
        next
    }

    fn lay_out_streams(&mut self) {
        for sink in self.topology.sinks().iter() {
            let mut streams: Vec<(usize, Vec<usize>, Vec<u8>)> = Vec::new();
            let mut here: Vec<usize> =
                (0..self.flows.len()).filter(|flow| self.passing[sink] >> flow & 1 == 1).collect();
            here.sort_by_key(|&flow| self.flows[flow].seq);
            for flow in here {
                let RecordPath { source, way, .. } = &self.flows[flow];
                match streams.iter_mut().find(|(s, w, _)| s == source && w == way) {
                    Some((_, _, stream)) => stream.push(flow as u8),
                    None => streams.push((*source, way.clone(), vec![flow as u8])),
                }
            }
            self.streams[sink] = streams.into_iter().map(|(_, _, stream)| stream).collect();
        }
        for source in self.topology.sources().iter() {
            for read in 0..=self.scenario.records {
                let read_of = |flow: &RecordPath| flow.source == source && flow.seq < read;
                let flows = self.flows.iter().enumerate().filter(|(_, flow)| read_of(flow));
                self.prefix[source].push(flows.fold(0, |set, (flow, _)| set | 1 << flow));
            }
        }
    }

    /// A bound on checkpoint ids that no run of a correct protocol reaches: those asked for, the
    /// final one, and two for every fault.
    pub(crate) fn most_checkpoints(&self) -> u32 {
        let Scenario { checkpoints, faults, .. } = &self.scenario;
        (u32::from(*checkpoints) + 4 + 2 * faults.total()).min(60)
    }

    /// The flows that pass a subtask when each source subtask has read the number of records that
    /// `read` returns for it.
    pub(crate) fn expected(&self, subtask: usize, read: impl Fn(usize) -> u8) -> u64 {
        let sources = self.topology.sources();
        let all = sources.iter().fold(0, |set, s| set | self.prefix[s][usize::from(read(s))]);
        all & self.passing[subtask]
    }

    /// A record's name for people: its source subtask and number.
    #[must_use]
    pub fn record_name(&self, flow: u8) -> String {
        let RecordPath { source, seq, way } = &self.flows[usize::from(flow)];
        let name = self.topology.name(SubtaskId::new(*source as u16));
        let way: Vec<&str> = way.iter().map(|&e| self.topology.edges()[e].to.as_str()).collect();
        match way.is_empty() {
            true => format!("{name}/{seq}"),
            false => format!("{name}/{seq} by {}", way.join(", ")),
        }
    }
}
