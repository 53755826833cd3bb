//! One attempt of a job: its channels, its threads, and what its tasks start from.

use std::time::{Duration, Instant};

use snapline_protocol::Out;
use snapline_protocol::aligner::{self, Aligner};
use snapline_protocol::committer::{self, Committer};
use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId};
use snapline_protocol::message::{CommitPermit, ToTask};
use snapline_protocol::recovery::{Decision, Policy};
use snapline_protocol::topology::Role;

use crate::base::error::{BoxError, Permanent};
use crate::base::fault::Mutation;
use crate::base::panic::guarded;
use crate::base::sync::{Arc, AtomicBool, Mutex, Parker, Unparker, thread};
use crate::base::watch::Watch;
use crate::executor::call_pool;
use crate::executor::call_pool::CallHost;
use crate::executor::io_pool::IoPool;
use crate::executor::platform::Platform;
use crate::executor::run_loop;
use crate::operator::chain::TaskContext;
use crate::plan::graph::OpenOperator;
use crate::plan::spec::JobSpec;
use crate::runtime::events::DriverEvent;
use crate::runtime::failure::{OPENING, TaskFailure};
use crate::runtime::task::{Links, Start, TASK_STATE, Task, TaskEvent, TaskIdentity};
use crate::runtime::task_metrics::Gauges;
use crate::runtime::worker::{Address, OpenTask, Worker, WorkerBuilder};
use crate::state::{Checks, HashSeed, Keys, Restored, SegmentLocations};
use crate::store::{Manifest, SnapshotRef, Store};
use crate::trace::Recorder;
use snapline_core::connect::OpenContext;
use snapline_core::connect::{Classify, ConnectError, classify_as};

/// What every task of an attempt starts from.
#[derive(Clone, Copy)]
struct RestoreSpec {
    restored: Option<CommitPermit>,
    /// The job is over but for its commits (SPEC 7.4).
    at_rest: bool,
}

/// The tasks of an attempt, running.
pub(crate) struct RunningAttempt {
    over: Arc<AtomicBool>,
    workers: Vec<(thread::JoinHandle<()>, Watch)>,
    wakers: Vec<Unparker>,
    /// By subtask.
    pub(crate) addresses: Vec<Address>,
    /// By subtask.
    pub(crate) gauges: Vec<Arc<Gauges>>,
}

/// What tasks share across attempts.
#[derive(Clone)]
pub(crate) struct AttemptContext {
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) io_pool: Arc<IoPool>,
    pub(crate) coordinator: crossbeam_channel::Sender<DriverEvent>,
    pub(crate) platform: Platform,
    pub(crate) stage: Option<Arc<dyn SimStage>>,
    pub(crate) recorder: Recorder,
}

/// A simulator, which replaces the workers' threads and the delivery of messages to a task.
pub(crate) trait SimStage: Send + Sync {
    /// Takes the workers of an attempt and lets them step itself until this is raised.
    fn seated(&self, attempt: Attempt, over: Arc<AtomicBool>, workers: Vec<Worker>);

    /// Takes a message of the coordinator in flight to a task.
    fn post(&self, subtask: SubtaskId, address: Address, message: ToTask);
}

/// Starts the tasks of an attempt on threads of their own.
///
/// # Errors
/// If the operating system cannot start a thread.
pub(crate) fn deploy(
    hosting: &AttemptContext,
    attempt: Attempt,
    decision: Decision,
    manifest: Option<&Manifest>,
    seed: HashSeed,
) -> std::io::Result<RunningAttempt> {
    let (mut running, workers) = build_workers(hosting, attempt, decision, manifest, seed);
    if let Some(stage) = &hosting.stage {
        stage.seated(attempt, Arc::clone(&running.over), workers);
        return Ok(running);
    }
    for (number, worker) in workers.into_iter().enumerate() {
        let (over, coordinator) = (Arc::clone(&running.over), hosting.coordinator.clone());
        let (platform, watch) = (hosting.platform.clone(), Watch::default());
        let watched = watch.clone();
        let run = move || {
            // Users' code is guarded where it is called. This guards snapline's own code, which
            // must not leave a job without a worker.
            let worked = watched.over(|| guarded(|| Ok(worker.run(&over))));
            let failed = worked.unwrap_or_else(|cause| {
                let (operator, doing) = ("(a worker)".to_owned(), "running tasks");
                let (subtask, classify) = (number, classify_as::<ConnectError> as Classify);
                Err(TaskFailure { operator, subtask, attempt, doing, cause, at: None, classify })
            });
            if let Err(failure) = failed {
                report(&platform, &coordinator, failure);
            }
        };
        let name = format!("snapline-{number}");
        running.workers.push((thread::Builder::new().name(name).spawn(run)?, watch));
    }
    Ok(running)
}

/// Reports to the coordinator that a worker has ended, and why (SPEC 2.11).
pub(crate) fn report(
    platform: &Platform,
    coordinator: &crossbeam_channel::Sender<DriverEvent>,
    failure: TaskFailure,
) {
    if platform.faults.is_active(Mutation::FailureSwallowed) {
        return;
    }
    // A coordinator that is gone needs no report.
    let _ = coordinator.send(DriverEvent::Failed(Box::new(failure)));
}

/// The workers of an attempt, connected, with their tasks to open, their addresses, and the flag
/// that ends them.
fn build_workers(
    hosting: &AttemptContext,
    attempt: Attempt,
    decision: Decision,
    manifest: Option<&Manifest>,
    seed: HashSeed,
) -> (RunningAttempt, Vec<Worker>) {
    let spec = &hosting.spec;
    let keys = Keys { groups: spec.config.key_groups, seed };
    let from = match decision {
        Decision::Fresh => RestoreSpec { restored: None, at_rest: false },
        Decision::Restore { permit, terminal } => {
            RestoreSpec { restored: Some(permit), at_rest: terminal.is_some() }
        }
    };
    let mut builders: Vec<WorkerBuilder> =
        (0..spec.workers).map(|_| WorkerBuilder::new()).collect();
    let wakers: Vec<Unparker> = builders.iter().map(WorkerBuilder::unparker).collect();
    connect(spec, &wakers, &hosting.platform);
    let over = Arc::new(AtomicBool::new(false));
    let mut running = RunningAttempt {
        over: Arc::clone(&over),
        workers: Vec::new(),
        wakers,
        addresses: Vec::new(),
        gauges: Vec::new(),
    };
    // A planted fault must be found by its effect.
    let forgets = hosting.platform.faults.is_active(Mutation::StartsFromNothing)
        || hosting.platform.faults.is_active(Mutation::OlderRestored)
        || hosting.platform.faults.is_active(Mutation::StopsIgnored);
    let mut opens: Vec<Vec<OpenTask>> = builders.iter().map(|_| Vec::new()).collect();
    for (number, subtask) in spec.topology.subtasks().iter().enumerate() {
        let worker = subtask.index % builders.len();
        let me = builders[worker].next_task();
        let me = match hosting.platform.faults.is_active(Mutation::NewsWithoutWaking) {
            true => me.silenced(),
            false => me,
        };
        running.addresses.push(me.clone());
        // The topology's limit of 256 subtasks fits a u16.
        let id = SubtaskId::new(number as u16);
        let channels = spec.topology.channels();
        let feeders = subtask.inputs.iter().map(|&channel| channels[channel].from.index());
        let operator = spec.nodes[subtask.operator].name.clone();
        let name = spec.topology.name(id);
        let now = hosting.platform.clock.now();
        let mut gauges = Gauges::new(name, operator, worker, feeders.collect(), now);
        gauges.sink = spec.topology.role(id) == Role::Sink;
        let gauges = Arc::new(gauges);
        running.gauges.push(Arc::clone(&gauges));
        let parallelism = spec.topology.operators()[subtask.operator].parallelism;
        let node = &spec.nodes[subtask.operator];
        let mut place =
            OpenContext::new(&spec.name, &node.name, subtask.index, parallelism, attempt);
        (place.clock, place.verify) = (hosting.platform.clock.clone(), spec.config.verify_state);
        let opening = TaskOpening {
            identity: TaskIdentity {
                job: spec.name.clone(),
                subtask: id,
                attempt,
                operator: node.name.clone(),
                index: subtask.index,
                classify: node.make.classify(),
            },
            context: TaskContext {
                place,
                key_groups: spec.config.key_groups,
                seed,
                retained: spec.config.retained,
                host: CallHost {
                    io_pool: Arc::clone(&hosting.io_pool),
                    wake: {
                        let me = me.clone();
                        Arc::new(move || me.send(TaskEvent::Answered))
                    },
                    over: Arc::clone(&over),
                    subtask: number,
                    begin: call_pool::begin,
                },
                clocks: std::cell::Cell::default(),
                faults: spec.sizing.faults,
            },
            aligner: aligner::Config {
                subtask: id,
                mode: spec.config.mode,
                inputs: subtask.inputs.len(),
            },
            is_sink: spec.topology.role(id) == Role::Sink,
            from,
            // By name and index (SPEC 8.7). Invariant: the manifest has every part, since it was
            // checked, and its operators are this job's.
            snapshot: manifest.and_then(|it| it.part(&node.name, subtask.index).cloned()),
            open: spec.nodes[subtask.operator].make.make(subtask.index, keys),
            links: Links {
                io_pool: Arc::clone(&hosting.io_pool),
                store: Arc::clone(&hosting.store),
                coordinator: hosting.coordinator.clone(),
                recorder: hosting.recorder.clone(),
                me,
                over: Arc::clone(&over),
                platform: hosting.platform.clone(),
                sizing: spec.sizing,
                policy: Policy {
                    allow_older: spec.config.allow_older || forgets,
                    resume_from: None,
                },
                checks: Arc::new(Mutex::new(Checks::new(spec.config.verify_state))),
            },
            gauges,
        };
        opens[worker].push(Box::new(move || opening.start()));
    }
    let workers = builders
        .into_iter()
        .zip(opens)
        .map(|(build_workers, opens)| build_workers.take(opens))
        .collect();
    (running, workers)
}

/// Makes all channels anew: nothing of an earlier attempt is ever read (SPEC 2.2).
fn connect(spec: &JobSpec, wakers: &[Unparker], platform: &Platform) {
    for (place, edge) in spec.edges.iter().enumerate() {
        let hosts = |node: usize| -> Vec<Unparker> {
            let subtasks = spec.topology.operators()[node].parallelism;
            (0..subtasks).map(|index| wakers[index % wakers.len()].clone()).collect()
        };
        let wiring = spec.topology.edges()[place].wiring;
        let (mut producers, mut consumers) = (hosts(edge.from), hosts(edge.to));
        if platform.faults.is_active(Mutation::RoomWithoutWaking) {
            producers.fill(Parker::new().unparker().clone());
        }
        if platform.faults.is_active(Mutation::RecordsWithoutWaking) {
            consumers.fill(Parker::new().unparker().clone());
        }
        edge.edge.connect(place, wiring, spec.sizing, &producers, &consumers);
    }
}

/// What opens a task on its worker's thread.
struct TaskOpening {
    identity: TaskIdentity,
    context: TaskContext,
    aligner: aligner::Config,
    is_sink: bool,
    from: RestoreSpec,
    snapshot: Option<SnapshotRef>,
    open: OpenOperator,
    links: Links,
    gauges: Arc<Gauges>,
}

impl TaskOpening {
    fn start(self) -> Result<Task, TaskFailure> {
        let TaskIdentity { operator, index, attempt, classify, .. } = self.identity.clone();
        let failure = |doing, cause| TaskFailure {
            operator,
            subtask: index,
            attempt,
            doing,
            cause,
            at: None,
            classify,
        };
        let gauges = Arc::clone(&self.gauges);
        gauges.step();
        let started = match guarded(|| self.open()) {
            Ok(start) => Task::start(start),
            Err(cause) => Err(failure(OPENING, cause)),
        };
        gauges.step();
        started
    }

    fn open(self) -> Result<Start, BoxError> {
        let Self { identity, context, aligner, is_sink, from, snapshot, open, links, gauges } =
            self;
        let store = Arc::clone(&links.store);
        let mut restored = match &snapshot {
            Some(snapshot) => Some(Restored::read(&*store, snapshot)?),
            None => None,
        };
        let flushed = match &mut restored {
            Some(restored) => restored.single(&identity.operator, TASK_STATE)?.unwrap_or(false),
            None => false,
        };
        let opened = open(&context, restored.as_mut())?;
        let restored = claimed(restored, from.restored)?;
        let machine = match from.at_rest {
            true => Aligner::at_rest(&aligner, identity.attempt),
            false => Aligner::new(&aligner, identity.attempt),
        };
        let committer = is_sink.then(|| {
            let config = committer::Config { subtask: identity.subtask };
            let pending = match links.platform.faults.is_active(Mutation::InDoubtForgotten) {
                true => Vec::new(),
                false => opened.pending,
            };
            let restored = from.restored.map(|permit| (pending, permit));
            let mut out = Out::new();
            let machine = Committer::start(&config, identity.attempt, restored, &mut out);
            (config, machine, out)
        });
        // A restored source reads its end again; an operator does not emit its last results again
        // (SPEC 5.7).
        let flushed = flushed && aligner.inputs > 0;
        let (body, aligner) = (opened.body, (aligner, machine));
        Ok(Start { identity, aligner, committer, body, flushed, restored, links, gauges })
    }
}

/// Where the restored segments are; every part of the snapshot must have been claimed by an
/// operator.
fn claimed(
    restored: Option<Restored<'_>>,
    permit: Option<CommitPermit>,
) -> Result<Option<(CheckpointId, SegmentLocations)>, BoxError> {
    let (Some(restored), Some(permit)) = (restored, permit) else { return Ok(None) };
    if let Some((operator, state)) = restored.unclaimed().into_iter().next() {
        return Err(Permanent::new(format!(
            "checkpoint {} holds state `{state}` of operator `{operator}`, which the operator no \
             longer uses: restoring would drop it; run the job that wrote it, or use another \
             directory",
            permit.checkpoint()
        ))
        .into());
    }
    Ok(Some((permit.checkpoint(), restored.into_locations())))
}

impl RunningAttempt {
    /// Ends the tasks: nothing they have not begun is begun any more. Returns when their threads
    /// have ended.
    ///
    /// # Errors
    /// The hanging thread, if one has not ended in this time: it is left, since it cannot be ended
    /// from outside.
    pub(crate) fn end(mut self, limit: Duration) -> Result<(), String> {
        run_loop::end(&self.over, &self.wakers);
        let begun = Instant::now();
        for (number, (worker, watch)) in self.workers.drain(..).enumerate() {
            if !watch.gone_by(begun, limit) {
                return Err(busy_on(&self.gauges, number));
            }
            // A worker's panic is a defect of snapline's own code; users' panics are caught and
            // reported. The attempt is over either way.
            if let Err(payload) = worker.join() {
                let what = crate::base::panic::panicked(&*payload);
                tracing::error!(target: "snapline::job", %what, "a worker panicked");
            }
        }
        Ok(())
    }
}

/// Dropping it, by a panic too, ends the tasks.
impl Drop for RunningAttempt {
    fn drop(&mut self) {
        run_loop::end(&self.over, &self.wakers);
    }
}

/// What a worker is doing, in words: the task in the middle of a step, or all its tasks.
fn busy_on(gauges: &[Arc<Gauges>], worker: usize) -> String {
    let mine = || gauges.iter().filter(|gauges| gauges.worker == worker);
    let names = |of: Vec<&Arc<Gauges>>| {
        of.iter().map(|gauges| format!("`{}`", gauges.name)).collect::<Vec<_>>().join(", ")
    };
    let busy: Vec<_> = mine().filter(|gauges| gauges.is_stepping()).collect();
    match busy.is_empty() {
        true => format!("a worker of {}", names(mine().collect())),
        false => format!("code of {}, called by a worker", names(busy)),
    }
}
