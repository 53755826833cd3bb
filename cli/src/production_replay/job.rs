//! The job of a scenario, built with the production builder, and the source that it reads.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use snapline::connect::{Collect, OpenContext, Progress, Source, SourceReader};
use snapline::sim::Env;
use snapline::{BoxError, BuildError, Dataflow, Job, JobConfig};
use snapline_models::scenario::Scenario;
use snapline_protocol::ids::{Attempt, SubtaskId};
use snapline_protocol::topology::{Role, Topology};

/// A record, by the model's name for it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ModelRecord(String);

impl fmt::Debug for ModelRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was read from outside: by which attempt, from which source, the how-manieth record.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadLog(Arc<Mutex<Vec<(Attempt, String, u64)>>>);

impl ReadLog {
    fn with<R>(&self, act: impl FnOnce(&mut Vec<(Attempt, String, u64)>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn clear(&self) {
        self.with(Vec::clear);
    }

    /// How far a source was read by this attempt and later ones.
    pub(super) fn read_since(&self, attempt: Attempt, source: &str) -> u64 {
        self.with(|log| {
            let mine = log.iter().filter(|(by, of, _)| *by >= attempt && of == source);
            mine.map(|(_, _, seq)| seq + 1).max().unwrap_or(0)
        })
    }
}

/// The external source: a log of `records` records, read one at a time. A further read finds its
/// end.
#[derive(Clone, Debug)]
struct Scripted {
    name: String,
    records: u64,
    log: ReadLog,
}

struct ScriptedReader {
    script: Scripted,
    attempt: Attempt,
    next: u64,
}

impl Source for Scripted {
    type Record = ModelRecord;
    type Position = u64;
    type Reader = ScriptedReader;

    fn open(
        &self,
        context: &OpenContext,
        position: Option<u64>,
    ) -> Result<ScriptedReader, BoxError> {
        let next = position.unwrap_or(0);
        Ok(ScriptedReader { script: self.clone(), attempt: context.attempt, next })
    }
}

impl SourceReader for ScriptedReader {
    type Record = ModelRecord;
    type Position = u64;

    fn read<C: Collect<ModelRecord>>(
        &mut self,
        _: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError> {
        if self.next >= self.script.records {
            return Ok(Progress::End);
        }
        let (name, seq) = (&self.script.name, self.next);
        self.next += 1;
        self.script.log.with(|log| log.push((self.attempt, name.clone(), seq)));
        out.push(ModelRecord(format!("{name}/{seq}")));
        Ok(Progress::More)
    }

    fn position(&self) -> u64 {
        self.next
    }
}

/// The names of the operators of one role.
fn of_role(topology: &Topology, role: Role) -> Vec<String> {
    let all = topology.operators().iter().filter(|operator| operator.role == role);
    all.map(|operator| operator.name.clone()).collect()
}

/// Whether the production builder makes a topology whose subtasks are these, in this order; else
/// why not.
pub(super) fn fits(topology: &Topology) -> Result<(), String> {
    let roles: Vec<Role> = (0..topology.subtasks().len())
        .map(|subtask| topology.role(SubtaskId::new(subtask as u16)))
        .collect();
    match roles.as_slice() {
        [Role::Source, Role::Sink] | [Role::Source, Role::Source, Role::Transform, Role::Sink] => {
            Ok(())
        }
        _ => Err("the production builder fuses or splits operators where this topology does not; \
            supported are a source and a sink, or two sources joined upstream of a sink"
            .into()),
    }
}

/// Builds the job.
pub(super) fn build(
    scenario: &Scenario,
    topology: &Topology,
    log: &ReadLog,
    env: &Env,
) -> Result<Job, BuildError> {
    let flow = Dataflow::new(&scenario.name);
    let source = |name: &String| {
        let records = u64::from(scenario.records);
        flow.source(name, Scripted { name: name.clone(), records, log: log.clone() })
    };
    let (sources, sinks) = (of_role(topology, Role::Source), of_role(topology, Role::Sink));
    let sink = sinks.first().map_or("out", String::as_str);
    match (sources.as_slice(), of_role(topology, Role::Transform).as_slice()) {
        ([a, b], [join]) => {
            source(a).union(source(b)).named(join).sink(sink, env.sink(sink));
        }
        ([one, ..], _) => source(one).sink(sink, env.sink(sink)),
        ([], _) => {}
    }
    flow.build(JobConfig::new().parallelism(1).mode(scenario.mode))
}
