//! Operators, subtasks and the channels between them: any acyclic graph of operators with parallel
//! subtasks.
//!
//! A [`Topology`] is checked when it is built and immutable after. Its users need not look again
//! for cycles, dangling edges or missing sinks (SPEC 1.3).
//!
//! Longer than 500 lines: a fifth is the table of errors with their texts, a fifth the tests that
//! show each.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::ids::{IndexSet, SubtaskId};

/// The largest number of subtasks in a job: one ack set holds them all.
pub const MAX_SUBTASKS: usize = IndexSet::CAPACITY;

/// The role of an operator in the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Role {
    /// Reads from outside; its position is its state. Injects barriers.
    Source,
    /// Has inputs and outputs.
    Transform,
    /// Writes to the outside in transactions.
    Sink,
}

/// The wiring between the subtasks of two operators.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Wiring {
    /// The i-th subtask to the i-th; both operators have the same parallelism.
    Forward,
    /// Every subtask to every subtask; records go by key.
    AllToAll,
}

/// An operator as the user names it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Operator {
    /// The operator's name, unique in the topology.
    pub name: String,
    /// The operator's role.
    pub role: Role,
    /// The number of its subtasks, from 1.
    #[cfg_attr(feature = "serde", serde(default = "one"))]
    pub parallelism: usize,
}

#[cfg(feature = "serde")]
fn one() -> usize {
    1
}

/// An edge between two operators, by name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Edge {
    /// The producer's name.
    pub from: String,
    /// The consumer's name.
    pub to: String,
    /// The wiring of their subtasks.
    pub wiring: Wiring,
}

/// A topology as it is written down, not yet checked.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Plan {
    /// The operators, in any order.
    #[cfg_attr(feature = "serde", serde(default, rename = "operator"))]
    pub operators: Vec<Operator>,
    /// The edges, in any order.
    #[cfg_attr(feature = "serde", serde(default, rename = "edge"))]
    pub edges: Vec<Edge>,
}

impl Plan {
    /// An empty plan.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source.
    #[must_use]
    pub fn source(self, name: &str, parallelism: usize) -> Self {
        self.operator(name, Role::Source, parallelism)
    }

    /// Adds a transform.
    #[must_use]
    pub fn transform(self, name: &str, parallelism: usize) -> Self {
        self.operator(name, Role::Transform, parallelism)
    }

    /// Adds a sink.
    #[must_use]
    pub fn sink(self, name: &str, parallelism: usize) -> Self {
        self.operator(name, Role::Sink, parallelism)
    }

    fn operator(mut self, name: &str, role: Role, parallelism: usize) -> Self {
        self.operators.push(Operator { name: name.into(), role, parallelism });
        self
    }

    /// Wires the i-th subtask of `from` to the i-th of `to`.
    #[must_use]
    pub fn forward(self, from: &str, to: &str) -> Self {
        self.edge(from, to, Wiring::Forward)
    }

    /// Wires every subtask of `from` to every subtask of `to`.
    #[must_use]
    pub fn all_to_all(self, from: &str, to: &str) -> Self {
        self.edge(from, to, Wiring::AllToAll)
    }

    fn edge(mut self, from: &str, to: &str, wiring: Wiring) -> Self {
        self.edges.push(Edge { from: from.into(), to: to.into(), wiring });
        self
    }

    /// Checks the plan and lays out its subtasks and channels.
    ///
    /// # Errors
    /// The first [`TopologyError`] found; each names the place.
    pub fn build(self) -> Result<Topology, TopologyError> {
        Topology::new(self)
    }
}

/// A mistake in a plan, and its place.
#[derive(Clone, PartialEq, Eq)]
pub enum TopologyError {
    /// There is no source: nothing would inject a barrier.
    NoSource,
    /// There is no sink: nothing would be committed.
    NoSink,
    /// Two operators have this name.
    DuplicateOperator(String),
    /// The operator has parallelism 0.
    NoSubtasks(String),
    /// The job would have this many subtasks; the limit is [`MAX_SUBTASKS`].
    TooManySubtasks(usize),
    /// The edge names an operator that does not exist.
    DanglingEdge {
        /// The edge's producer.
        from: String,
        /// The edge's consumer.
        to: String,
        /// The missing one of the two.
        missing: String,
    },
    /// The same edge appears twice.
    DuplicateEdge(String, String),
    /// A forward edge joins operators of different parallelism.
    ForwardMismatch {
        /// The producer and its parallelism.
        from: (String, usize),
        /// The consumer and its parallelism.
        to: (String, usize),
    },
    /// An edge goes into a source.
    InputToSource(String, String),
    /// An edge goes out of a sink.
    OutputFromSink(String, String),
    /// A transform or sink has no input.
    NoInput(String),
    /// A source or transform has no output: its records would have no destination.
    NoOutput(String),
    /// The operators on a cycle, in order.
    Cycle(Vec<String>),
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSource => {
                f.write_str("the topology has no source; add an operator of role `source`")
            }
            Self::NoSink => f.write_str("the topology has no sink; add an operator of role `sink`"),
            Self::DuplicateOperator(name) => {
                write!(f, "two operators are named `{name}`; names must be unique")
            }
            Self::NoSubtasks(name) => {
                write!(f, "operator `{name}` has parallelism 0; it needs at least 1")
            }
            Self::TooManySubtasks(count) => {
                write!(f, "the topology has {count} subtasks; the limit is {MAX_SUBTASKS}")
            }
            Self::DanglingEdge { from, to, missing } => {
                write!(f, "edge `{from}` -> `{to}`: there is no operator `{missing}`")
            }
            Self::DuplicateEdge(from, to) => write!(f, "edge `{from}` -> `{to}` is declared twice"),
            Self::ForwardMismatch { from, to } => write!(
                f,
                "forward edge `{}` -> `{}` joins parallelism {} to {}; \
                 make them equal or wire all-to-all",
                from.0, to.0, from.1, to.1
            ),
            Self::InputToSource(from, to) => {
                write!(f, "edge `{from}` -> `{to}` goes into a source")
            }
            Self::OutputFromSink(from, to) => {
                write!(f, "edge `{from}` -> `{to}` goes out of a sink")
            }
            Self::NoInput(name) => write!(f, "operator `{name}` has no input and is not a source"),
            Self::NoOutput(name) => write!(f, "operator `{name}` has no output and is not a sink"),
            Self::Cycle(names) => {
                f.write_str("the operators form a cycle: ")?;
                for name in names {
                    write!(f, "`{name}` -> ")?;
                }
                write!(f, "`{}`", names.first().map_or("", String::as_str))
            }
        }
    }
}

crate::error_in_words!(TopologyError);

/// One parallel instance of an operator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Subtask {
    /// Index of its operator in [`Topology::operators`].
    pub operator: usize,
    /// The subtask's number in its operator, from 0.
    pub index: usize,
    /// Its input channels, as indices into [`Topology::channels`], in input order.
    pub inputs: Vec<usize>,
    /// Its output channels, as indices into [`Topology::channels`], by edge and then by consumer.
    pub outputs: Vec<usize>,
}

/// A FIFO channel between two subtasks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Channel {
    /// The producer.
    pub from: SubtaskId,
    /// The consumer.
    pub to: SubtaskId,
    /// The channel's number among the consumer's inputs.
    pub input: usize,
    /// Index of the edge in [`Topology::edges`].
    pub edge: usize,
}

/// A checked topology, with its subtasks and channels laid out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Topology {
    plan: Plan,
    subtasks: Vec<Subtask>,
    channels: Vec<Channel>,
    sources: IndexSet,
    sinks: IndexSet,
}

impl Topology {
    fn new(plan: Plan) -> Result<Self, TopologyError> {
        check_operators(&plan)?;
        let ends = check_edges(&plan)?;
        check_ends(&plan, &ends)?;
        check_acyclic(&plan, &ends)?;
        let mut topology = Self {
            subtasks: Vec::new(),
            channels: Vec::new(),
            sources: IndexSet::EMPTY,
            sinks: IndexSet::EMPTY,
            plan,
        };
        topology.lay_out(&ends);
        Ok(topology)
    }

    /// A subtask has at most one channel from each other, so that [`MAX_SUBTASKS`] bounds its
    /// inputs too.
    fn lay_out(&mut self, ends: &[(usize, usize)]) {
        let mut first = Vec::with_capacity(self.plan.operators.len());
        for (place, operator) in self.plan.operators.iter().enumerate() {
            first.push(self.subtasks.len());
            for index in 0..operator.parallelism {
                match operator.role {
                    Role::Source => _ = self.sources.insert(self.subtasks.len()),
                    Role::Sink => _ = self.sinks.insert(self.subtasks.len()),
                    Role::Transform => {}
                }
                let (inputs, outputs) = (Vec::new(), Vec::new());
                self.subtasks.push(Subtask { operator: place, index, inputs, outputs });
            }
        }
        for (edge, &(from, to)) in ends.iter().enumerate() {
            let wiring = self.plan.edges[edge].wiring;
            for producer in 0..self.plan.operators[from].parallelism {
                for consumer in 0..self.plan.operators[to].parallelism {
                    if wiring == Wiring::AllToAll || producer == consumer {
                        self.connect(edge, first[from] + producer, first[to] + consumer);
                    }
                }
            }
        }
    }

    fn connect(&mut self, edge: usize, from: usize, to: usize) {
        let channel = self.channels.len();
        let input = self.subtasks[to].inputs.len();
        self.subtasks[from].outputs.push(channel);
        self.subtasks[to].inputs.push(channel);
        self.channels.push(Channel { from: subtask_id(from), to: subtask_id(to), input, edge });
    }

    /// The operators, in the order of the plan.
    #[must_use]
    pub fn operators(&self) -> &[Operator] {
        &self.plan.operators
    }

    /// The edges, in the order of the plan.
    #[must_use]
    pub fn edges(&self) -> &[Edge] {
        &self.plan.edges
    }

    /// The subtasks; a [`SubtaskId`] is an index into them. Those of one operator are neighbours.
    #[must_use]
    pub fn subtasks(&self) -> &[Subtask] {
        &self.subtasks
    }

    /// The channels.
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// The subtasks of all sources.
    #[must_use]
    pub const fn sources(&self) -> IndexSet {
        self.sources
    }

    /// The subtasks of all sinks.
    #[must_use]
    pub const fn sinks(&self) -> IndexSet {
        self.sinks
    }

    /// The role of a subtask's operator.
    #[must_use]
    pub fn role(&self, subtask: SubtaskId) -> Role {
        self.plan.operators[self.subtasks[subtask.index()].operator].role
    }

    /// A subtask's name for people: the operator's, with an index if there is more than one
    /// subtask.
    #[must_use]
    pub fn name(&self, subtask: SubtaskId) -> String {
        let place = &self.subtasks[subtask.index()];
        let operator = &self.plan.operators[place.operator];
        if operator.parallelism == 1 {
            operator.name.clone()
        } else {
            alloc::format!("{}.{}", operator.name, place.index)
        }
    }
}

/// `index` is below [`MAX_SUBTASKS`], which fits a u16.
fn subtask_id(index: usize) -> SubtaskId {
    debug_assert!(index < MAX_SUBTASKS);
    SubtaskId::new(index as u16)
}

fn check_operators(plan: &Plan) -> Result<(), TopologyError> {
    let mut names = BTreeSet::new();
    let mut subtasks = 0_usize;
    for operator in &plan.operators {
        if !names.insert(&operator.name) {
            return Err(TopologyError::DuplicateOperator(operator.name.clone()));
        }
        if operator.parallelism == 0 {
            return Err(TopologyError::NoSubtasks(operator.name.clone()));
        }
        subtasks = subtasks.saturating_add(operator.parallelism);
    }
    if subtasks > MAX_SUBTASKS {
        return Err(TopologyError::TooManySubtasks(subtasks));
    }
    let has = |role| plan.operators.iter().any(|operator| operator.role == role);
    if !has(Role::Source) {
        return Err(TopologyError::NoSource);
    }
    if !has(Role::Sink) {
        return Err(TopologyError::NoSink);
    }
    Ok(())
}

/// Each edge's operators by index.
fn check_edges(plan: &Plan) -> Result<Vec<(usize, usize)>, TopologyError> {
    let mut ends = Vec::with_capacity(plan.edges.len());
    for edge in &plan.edges {
        let find = |name: &String| {
            plan.operators.iter().position(|operator| operator.name == *name).ok_or_else(|| {
                TopologyError::DanglingEdge {
                    from: edge.from.clone(),
                    to: edge.to.clone(),
                    missing: name.clone(),
                }
            })
        };
        let pair = (find(&edge.from)?, find(&edge.to)?);
        let (from, to) = (&plan.operators[pair.0], &plan.operators[pair.1]);
        if ends.contains(&pair) {
            return Err(TopologyError::DuplicateEdge(edge.from.clone(), edge.to.clone()));
        }
        if to.role == Role::Source {
            return Err(TopologyError::InputToSource(edge.from.clone(), edge.to.clone()));
        }
        if from.role == Role::Sink {
            return Err(TopologyError::OutputFromSink(edge.from.clone(), edge.to.clone()));
        }
        if edge.wiring == Wiring::Forward && from.parallelism != to.parallelism {
            return Err(TopologyError::ForwardMismatch {
                from: (from.name.clone(), from.parallelism),
                to: (to.name.clone(), to.parallelism),
            });
        }
        ends.push(pair);
    }
    Ok(ends)
}

fn check_ends(plan: &Plan, ends: &[(usize, usize)]) -> Result<(), TopologyError> {
    for (place, operator) in plan.operators.iter().enumerate() {
        if operator.role != Role::Source && !ends.iter().any(|&(_, to)| to == place) {
            return Err(TopologyError::NoInput(operator.name.clone()));
        }
        if operator.role != Role::Sink && !ends.iter().any(|&(from, _)| from == place) {
            return Err(TopologyError::NoOutput(operator.name.clone()));
        }
    }
    Ok(())
}

/// Removes operators without remaining inputs until none is left. Those that stay are on a cycle or
/// downstream of one.
fn check_acyclic(plan: &Plan, ends: &[(usize, usize)]) -> Result<(), TopologyError> {
    let mut left: BTreeSet<usize> = (0..plan.operators.len()).collect();
    let has_input_in = |left: &BTreeSet<usize>, place: usize| {
        ends.iter().find(|&&(from, to)| to == place && left.contains(&from)).map(|&(from, _)| from)
    };
    while let Some(place) = left.iter().copied().find(|&place| has_input_in(&left, place).is_none())
    {
        left.remove(&place);
    }
    let Some(&start) = left.first() else { return Ok(()) };
    // Every operator left has an input from one left: walking backwards must return to a visited
    // one.
    let mut walk = alloc::vec![start];
    loop {
        let last = walk[walk.len() - 1];
        let Some(before) = has_input_in(&left, last) else { return Ok(()) };
        if let Some(seen) = walk.iter().position(|&place| place == before) {
            let names = walk[seen..].iter().rev();
            return Err(TopologyError::Cycle(
                names.map(|&place| plan.operators[place].name.clone()).collect(),
            ));
        }
        walk.push(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn chain() -> Plan {
        Plan::new().source("in", 1).transform("map", 1).sink("out", 1)
    }

    #[test]
    fn a_shuffle_is_laid_out_by_edge_and_consumer() {
        let topology = Plan::new()
            .source("in", 2)
            .transform("sum", 2)
            .sink("out", 2)
            .all_to_all("in", "sum")
            .forward("sum", "out")
            .build()
            .expect("valid");
        assert_eq!(topology.channels().len(), 6);
        assert_eq!(topology.subtasks()[3].inputs, [1, 3]);
        assert_eq!(topology.sources().iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(topology.sinks().iter().collect::<Vec<_>>(), [4, 5]);
        assert_eq!(topology.name(SubtaskId::new(3)), "sum.1");
    }

    #[test]
    fn every_mistake_names_its_place() {
        let says = |plan: Plan| plan.build().expect_err("invalid").to_string();
        assert!(says(Plan::new().sink("out", 1)).contains("no source"));
        assert!(says(Plan::new().source("in", 1)).contains("no sink"));
        assert!(says(chain()).contains("`map` has no input") || says(chain()).contains("`in`"));
        assert!(says(chain().forward("in", "map").forward("map", "nowhere")).contains("`nowhere`"));
        assert!(says(chain().source("in", 1)).contains("two operators are named `in`"));
        assert!(says(chain().transform("idle", 0)).contains("`idle` has parallelism 0"));
        assert!(says(chain().transform("wide", 400)).contains("403 subtasks"));
        assert!(says(chain().forward("map", "in")).contains("goes into a source"));
        assert!(says(chain().forward("out", "map")).contains("goes out of a sink"));
        let wide = Plan::new().source("in", 2).sink("out", 3).forward("in", "out");
        assert!(says(wide).contains("parallelism 2 to 3"));
        let twice = chain().forward("in", "map").forward("in", "map");
        assert!(says(twice).contains("is declared twice"));
        let cycle = chain()
            .transform("back", 1)
            .forward("in", "map")
            .forward("map", "back")
            .forward("back", "map")
            .forward("map", "out");
        assert!(says(cycle).contains("`back` -> `map` -> `back`"), "the cycle is spelled out");
    }
}
