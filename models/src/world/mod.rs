//! The environment of the protocol, once: machines, channels, control network, storage, external
//! systems, and their faults.
//!
//! The exhaustive checker, the seeded walk and trace replay all drive this one [`World`].
//! [`World::enabled`] lists the possible actions in a fixed order; [`World::apply`] carries one
//! out. A step hands its effects to the queues of their destinations at once. A crash loses what
//! these queues hold, so a crash may fall between any two effects.

mod action;
mod control;
mod coverage;
mod data;
mod deploy;
mod enabled;
mod external;
pub mod rule;
mod store;

use std::sync::Arc;

use snapline_protocol::aligner::{self, Aligner};
use snapline_protocol::committer::{self, Committer};
use snapline_protocol::coordinator::{self, Coordinator, StoreOp, Timer};
use snapline_protocol::fence::Host;
use snapline_protocol::ids::{CheckpointId, SubtaskId, TxnId};
use snapline_protocol::message::{Barrier, ToCoordinator, ToTask};
use snapline_protocol::recovery::Decision;
use snapline_protocol::retention::ReplayPositions;
use snapline_protocol::{Machine, Out, Verdict};

pub use action::{Action, KINDS};
pub use coverage::{ARMS, Situation, arm_exists, arm_name};
pub use external::{ExternalSystem, Transaction};
pub use store::{Blob, ManifestState, StoreState};

use crate::explore::MarkSet;
use crate::scenario::{Faults, Setup};
use crate::tally::RecordTally;
use rule::WrongRule;

/// An item of a channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Item {
    /// A record, by its identity.
    Record(u8),
    /// A barrier.
    Barrier(Barrier),
    /// The end of the channel's records.
    End,
}

/// A snapshot on its way to storage.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Write {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The blob to store.
    pub blob: Blob,
}

/// A snapshot this task may build on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Past {
    /// Its checkpoint.
    pub checkpoint: CheckpointId,
    /// Its blob.
    pub blob: snapline_protocol::ids::BlobId,
    /// The state that the blob holds, its own bases included.
    pub tally: RecordTally,
}

/// A subtask with its machines and its volatile state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TaskState {
    /// True while the task lives. A dead task stays until its attempt is replaced.
    pub alive: bool,
    /// True if the task will live on, unnoticed, when its attempt is replaced.
    pub stranded: bool,
    /// Its aligner.
    pub aligner: Aligner,
    /// A sink's committer.
    pub committer: Option<Committer>,
    /// Of a source: the number of records read.
    pub position: u8,
    /// Records applied to its state.
    pub tally: RecordTally,
    /// Of a sink: the records of the open transaction.
    pub open: RecordTally,
    /// Snapshots on their way to storage, ascending.
    pub writes: Vec<Write>,
    /// Of a sink: the commit call in flight.
    pub call: Option<TxnId>,
    /// Snapshots that the task may build on; only where blobs are shared.
    pub past: Vec<Past>,
    /// Of a source: its positions at its barriers; only where unneeded input is dropped.
    pub replay_positions: Option<ReplayPositions<u8>>,
}

/// A task of an ended attempt that does not know it, with the items left in its input channels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Zombie {
    /// The subtask.
    pub subtask: usize,
    /// Its state.
    pub task: TaskState,
    /// Its input channels, by input.
    pub inputs: Vec<Vec<Item>>,
}

/// A coordinator with the state of its driver.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CoordinatorState {
    /// The coordinator's number, in the order of their starts.
    pub number: u32,
    /// The machine.
    pub machine: Coordinator,
    /// Timers that are armed, ascending.
    pub timers: Vec<Timer>,
    /// Writes in flight, in the order of the requests.
    pub writes: Vec<StoreOp>,
    /// Garbage whose manifests are deleted and whose blobs are not yet.
    pub sweeping: Vec<snapline_protocol::ids::BlobId>,
    /// True while the facts are to be read.
    pub reads: bool,
    /// True while the tasks are to be ended.
    pub concludes: bool,
    /// A decision read before the fence was raised; only a wrong rule has one.
    pub too_early: Option<Decision>,
}

/// A control message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ControlMessage {
    /// To a task.
    Order(SubtaskId, ToTask),
    /// To a coordinator.
    Report(ToCoordinator),
}

/// The ghost state: events that must never have happened, and that no other part of a state shows.
/// All false in a correct protocol, so they cost no states.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct GhostState {
    /// A transaction was committed that no completed checkpoint held.
    pub early_commit: bool,
    /// A checkpoint id was given out twice, or the fence fell.
    pub reused: bool,
    /// A fenced party's write took effect.
    pub unfenced: bool,
    /// A blob name was written with other content.
    pub overwritten: bool,
    /// Checkpoint ids in use so far, as bits.
    pub issued: u64,
}

/// The whole state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    /// The faults that may still strike.
    pub faults: Faults,
    /// The checkpoints the interval timer may still start.
    pub checkpoints: u8,
    /// The attempt that runs.
    pub host: Host,
    /// Its tasks, by subtask; empty before the first attempt. The states before and after a step
    /// share most tasks: a step changes one or two.
    pub tasks: Vec<Arc<TaskState>>,
    /// Its channels.
    pub channels: Vec<Vec<Item>>,
    /// Living coordinators, the newest last; more than one only with a zombie.
    pub coordinators: Vec<CoordinatorState>,
    /// The number of terms so far.
    pub terms: u32,
    /// Messages that arrive at any time, sorted.
    pub network: Vec<ControlMessage>,
    /// Messages just sent, whose fate is decided before anything else happens; in order.
    pub sent: Vec<ControlMessage>,
    /// Storage.
    pub store: StoreState,
    /// External systems, one per sink subtask, in the order of subtasks.
    pub external: Vec<ExternalSystem>,
    /// Tasks of ended attempts.
    pub zombies: Vec<Zombie>,
    /// The number of each source subtask's records that can be read no more; empty where nothing is
    /// dropped.
    pub dropped: Vec<u8>,
    /// Events that must not have happened.
    pub ghost: GhostState,
}

/// Carries out one step.
pub(crate) struct Transition<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) world: &'a mut World,
    pub(crate) marks: &'a mut MarkSet,
}

/// A task: in the running attempt, or among the zombies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TaskRef {
    Running(usize),
    Zombie(usize),
}

impl World {
    /// The first state: storage empty, one coordinator started.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        let mut world = Self {
            faults: setup.scenario.faults,
            checkpoints: setup.scenario.checkpoints,
            host: Host::default(),
            tasks: Vec::new(),
            channels: Vec::new(),
            coordinators: Vec::new(),
            terms: 0,
            network: Vec::new(),
            sent: Vec::new(),
            store: StoreState::default(),
            external: setup.topology.sinks().iter().map(|_| ExternalSystem::default()).collect(),
            zombies: Vec::new(),
            dropped: match setup.scenario.forgets {
                true => vec![0; setup.topology.subtasks().len()],
                false => Vec::new(),
            },
            ghost: GhostState::default(),
        };
        let mut marks = MarkSet::default();
        Transition { setup, world: &mut world, marks: &mut marks }.elect();
        world
    }

    /// The state after an enabled action. `marks` collects arms and situations.
    #[must_use]
    pub fn apply(&self, setup: &Setup, action: &Action, marks: &mut MarkSet) -> Self {
        let mut world = self.clone();
        let mut step = Transition { setup, world: &mut world, marks };
        step.act(*action);
        step.settle();
        world
    }

    /// The newest coordinator, if it lives.
    #[must_use]
    pub fn coordinator(&self) -> Option<&Coordinator> {
        self.newest().map(|coordinator| &coordinator.machine)
    }

    /// The coordinator that was started last, if it lives.
    fn newest(&self) -> Option<&CoordinatorState> {
        self.coordinators.last().filter(|coordinator| coordinator.number == self.terms)
    }

    /// A coordinator that was replaced and lives on.
    fn replaced(&self) -> Option<&CoordinatorState> {
        self.coordinators.first().filter(|coordinator| coordinator.number != self.terms)
    }

    /// True if the newest coordinator says that the job has finished.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.coordinator().is_some_and(|c| matches!(c.phase(), coordinator::Phase::Finished(_)))
    }

    /// True if the newest coordinator says that an external system dropped data.
    #[must_use]
    pub fn data_loss(&self) -> bool {
        self.coordinator().is_some_and(|c| c.phase() == coordinator::Phase::FailedDataLoss)
    }

    /// True if the newest coordinator says that it cannot continue from the facts it found.
    #[must_use]
    pub fn unrecoverable(&self) -> bool {
        let phase = self.coordinator().map(Coordinator::phase);
        matches!(phase, Some(coordinator::Phase::FailedRecovery(_)))
    }

    /// True if it says so because a manifest is gone, and one is.
    #[must_use]
    pub fn missing_reported(&self, setup: &Setup) -> bool {
        self.faults.lost_manifests < setup.scenario.faults.lost_manifests && self.unrecoverable()
    }

    /// True while the fate of a message just sent must be decided before anything else.
    fn deciding(&self) -> bool {
        !self.sent.is_empty()
    }
}

impl Transition<'_> {
    pub(crate) fn wrong(&self, rule: WrongRule) -> bool {
        self.setup.mutant == Some(rule)
    }

    pub(crate) fn reached(&mut self, situation: Situation) {
        self.marks.insert(situation.mark());
    }

    pub(crate) fn task(&mut self, place: TaskRef) -> &mut TaskState {
        match place {
            TaskRef::Running(index) => Arc::make_mut(&mut self.world.tasks[index]),
            TaskRef::Zombie(index) => &mut self.world.zombies[index].task,
        }
    }

    pub(crate) fn subtask(&self, place: TaskRef) -> usize {
        match place {
            TaskRef::Running(index) => index,
            TaskRef::Zombie(index) => self.world.zombies[index].subtask,
        }
    }

    /// Drives a task's aligner and carries out its effects.
    pub(crate) fn align(&mut self, place: TaskRef, event: aligner::Event) -> Verdict {
        let config = self.setup.aligners[self.subtask(place)];
        let mut out = Out::new();
        let verdict = self.task(place).aligner.handle(&config, event, &mut out);
        self.marks.insert(coverage::aligner_arm(&event, verdict));
        for effect in out.drain() {
            match effect {
                aligner::Effect::EndOutput => self.end_output(place),
                aligner::Effect::Snapshot { barrier } => self.snapshot(place, barrier),
                aligner::Effect::Forward(barrier) => self.forward(place, barrier),
                aligner::Effect::Send(report) => self.send(ControlMessage::Report(report)),
            }
        }
        verdict
    }

    /// Drives a sink's committer and carries out its effects.
    pub(crate) fn drive_committer(&mut self, place: TaskRef, event: committer::Event) {
        let config = self.setup.committers[self.subtask(place)];
        let mut out = Out::new();
        let Some(committer) = &mut self.task(place).committer else { return };
        let verdict = committer.handle(&config, event, &mut out);
        self.marks.insert(coverage::committer_arm(&event, verdict));
        self.committer_effects(place, out);
    }

    pub(crate) fn committer_effects(&mut self, place: TaskRef, mut out: Out<committer::Effect>) {
        for effect in out.drain() {
            match effect {
                committer::Effect::PreCommit(txn) => self.pre_commit(place, txn),
                committer::Effect::RollBackOrphans => self.roll_back_orphans(place),
                committer::Effect::Commit(txn, _permit) => self.task(place).call = Some(txn),
                committer::Effect::Send(report) => self.send(ControlMessage::Report(report)),
            }
        }
    }
}
