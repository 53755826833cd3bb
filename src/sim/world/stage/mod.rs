//! A stage: the simulated world without a random choice of steps. The caller replays a run of
//! something else (the model of the protocol) and names each step by its subject. The stage finds
//! the matching choice, or reports that production does not offer it.
//!
//! Steps that follow of themselves in production, and are no steps of their own elsewhere, are made
//! by the stage. A worker that was called wakes, for example, and takes in its messages. Looking
//! ([`Stage::observe`]) uses no machine: it reads the durable image of the disk, and the external
//! systems.
//!
//! Longer than 500 lines: a method for each thing that may happen on a stage, all on one type.

mod seen;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use snapline_protocol::coordinator::{Stop, Timer};
use snapline_protocol::ids::{Attempt, CheckpointId, IndexSet, SubtaskId, TxnId};
use snapline_protocol::message::{ToCoordinator, ToTask};

use self::seen::kept;
pub use self::seen::{ExternalTransaction, KeptCheckpoint, Observation};
use super::{Breach, Letter, Posted, STORE, SUSPENDED, Setup, Tuning, World};
use crate::base::fault::Faults;
use crate::base::fault::Mutation;
use crate::base::panic::panicked;
use crate::dataflow::Job;
use crate::executor::io_pool::IoKind;
use crate::fs::simulated::{Host, Random, Trouble};
use crate::plan::graph::BufferSizes;
use crate::plan::spec::BuildError;
use crate::runtime::events::DriverEvent;
use crate::sim::choice::{Choice, LaneOwner};
use crate::sim::oracle::Reference;
use crate::sim::{Env, run};
use crate::store::{LocalStore, Store};

/// Steps after which a job that runs undisturbed is taken to never finish.
const LONGEST: u64 = 60_000;

/// I/O lanes of the tasks: more than a scenario has subtasks, so that each has one of its own.
const LANES: usize = 32;

/// The number of the disk change that names a manifest. In order: its file is made, written, synced
/// and named, the name is synced.
const NAMED: u64 = 3;
const NAME_SYNCED: u64 = 4;

/// The limits that a job runs under on a stage.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Checkpoints in flight at once.
    pub concurrent: usize,
    /// Checkpoints that may fail in a row.
    pub tolerable: u32,
    /// Checkpoints kept.
    pub retained: usize,
}

/// Builds the job, for each process that runs it.
type Builds<'a> = dyn Fn(&Env) -> Result<Job, BuildError> + 'a;

/// A job that can be put on stages.
pub struct Script<'a> {
    build: Box<Builds<'a>>,
    limits: Limits,
    reference: Reference,
}

impl fmt::Debug for Script<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<'a> Script<'a> {
    /// Runs the job once without any failure, to know the output it should commit.
    ///
    /// # Errors
    /// The fault of the job, in words.
    pub fn new(
        build: impl Fn(&Env) -> Result<Job, BuildError> + 'a,
        limits: Limits,
    ) -> Result<Self, String> {
        let reference = run::reference(&build, 1).map_err(|violation| violation.0)?;
        Ok(Self { build: Box::new(build), limits, reference })
    }

    /// Starts the job, with or without a planted fault. A job without one is also watched by the
    /// simulator's own oracle.
    ///
    /// # Errors
    /// [`Refusal::Broken`] if it cannot be started.
    pub fn begin(&self, mutant: Option<Mutation>) -> Result<Stage<'_>, Refusal> {
        let setup = Setup { mutant, ..Setup::calm(1) };
        let mut world = World::new(&*self.build, setup, Some(&self.reference));
        world.watched = mutant.is_none();
        // Batches of one record, read one by one, so that each is a step. There is room for all,
        // since waiting for room belongs to the model.
        let sizing = BufferSizes {
            channel: 64,
            batch: Some(1),
            read: 1,
            flush_every: 1,
            faults: Faults::plant(mutant),
        };
        world.tuning = Tuning {
            sizing,
            workers: 1,
            lanes: LANES,
            concurrent: self.limits.concurrent,
            tolerable: self.limits.tolerable,
            retained: self.limits.retained,
            interval: Duration::from_millis(10),
            attention: 1,
        };
        let mut stage = Stage { world };
        stage.apply(Choice::Start)?;
        Ok(stage)
    }
}

/// Why something did not happen on the stage.
#[derive(Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Production does not offer it. Holds what it offers.
    NotOffered(String),
    /// The simulator found something wrong after it, or production panicked. Holds the description.
    Broken(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOffered(what) => write!(f, "production offers {what}"),
            Self::Broken(what) => write!(f, "production failed: {what}"),
        }
    }
}

snapline_protocol::error_in_words!(Refusal);

/// A message of the control network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StageMessage {
    /// To a task.
    Order(SubtaskId, ToTask),
    /// To the coordinator.
    Report(ToCoordinator),
}

/// The owner of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LanePlace {
    /// The coordinator's, to the store.
    Store,
    /// A subtask's.
    Task(SubtaskId),
}

pub use crate::executor::io_pool::IoKind as SimIo;

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It succeeds.
    Done,
    /// It is refused, and changes nothing.
    Refused,
    /// The outcome is unknown; it was done, or not.
    Unknown {
        /// Which of the two.
        applied: bool,
    },
}

/// The oldest event of its own process that the coordinator has not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// A task failed.
    Failed,
    /// A source has ended.
    SourceEnded,
    /// An answer of the store.
    Answer,
}

/// A job, stopped at each choice.
pub struct Stage<'a> {
    world: World<'a>,
}

impl fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("choices", &self.world.steps).finish_non_exhaustive()
    }
}

impl Stage<'_> {
    /// The number of choices made.
    #[must_use]
    pub const fn choices(&self) -> u64 {
        self.world.steps
    }

    /// What production offers, in words.
    #[must_use]
    pub fn offers(&self) -> String {
        self.world.waiting().trim_start().to_owned()
    }

    fn refuse<T>(&self, why: &str) -> Result<T, Refusal> {
        Err(Refusal::NotOffered(format!("{why}: {}", self.offers())))
    }

    fn apply(&mut self, choice: Choice) -> Result<(), Refusal> {
        match catch_unwind(AssertUnwindSafe(|| self.world.apply(choice))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(violation)) => Err(Refusal::Broken(violation.0)),
            Err(payload) => Err(Refusal::Broken(panicked(&*payload).to_string())),
        }
    }

    /// The process that runs the job.
    fn process(&self) -> Result<usize, Refusal> {
        match self.world.processes.len().checked_sub(1) {
            Some(process) => Ok(process),
            None => Err(Refusal::NotOffered("nothing: no process runs the job".into())),
        }
    }

    /// Lets workers open their tasks, wake when they were called, and take in their messages.
    fn hear_news(&mut self) -> Result<(), Refusal> {
        loop {
            let mut next = None;
            for (process, it) in self.world.processes.iter().enumerate() {
                for (worker, hand) in it.hands.iter().enumerate() {
                    let mailbox = hand.worker.mailbox();
                    if hand.worker.unopened() > 0 {
                        next = Some(Choice::Open { process, worker });
                    } else if hand.asleep && mailbox.parker().is_called() {
                        next = Some(Choice::Wake { process, worker });
                    } else if !hand.asleep && mailbox.has_any() {
                        next = Some(Choice::Hear { process, worker });
                    }
                }
            }
            match next {
                Some(choice) => self.apply(choice)?,
                None => return Ok(()),
            }
        }
    }

    /// Where a subtask of the running attempt is: its worker, and its place there.
    fn find(&self, subtask: SubtaskId) -> Option<(usize, usize)> {
        let it = self.world.processes.last()?;
        let newest = it.hands.iter().map(|hand| hand.attempt).max()?;
        it.hands.iter().enumerate().filter(|(_, hand)| hand.attempt == newest).find_map(
            |(worker, hand)| {
                let tasks = hand.worker.open_tasks();
                let task = tasks.iter().position(|task| task.identity().subtask == subtask)?;
                Some((worker, task))
            },
        )
    }

    /// A task steps, and looks at this input first.
    ///
    /// # Errors
    /// [`Refusal`]; also if it found nothing to do.
    pub fn step(&mut self, subtask: SubtaskId, input: usize) -> Result<(), Refusal> {
        let process = self.process()?;
        let Some((worker, task)) = self.find(subtask) else {
            return self.refuse("no such task is alive");
        };
        if self.world.processes[process].hands[worker].asleep {
            return self.refuse("the task's worker sleeps, and nothing has woken it");
        }
        self.apply(Choice::Step { process, worker, task, input })?;
        match self.find(subtask) {
            None => return self.refuse("the task failed"),
            Some((worker, task)) if self.world.processes[process].hands[worker].idle[task] => {
                return self.refuse("the task found nothing to do");
            }
            Some(_) => {}
        }
        self.hear_news()
    }

    /// Whether a task still has to emit the output of its end.
    #[must_use]
    pub fn is_finishing(&self, subtask: SubtaskId) -> bool {
        let (Some(it), Some((worker, task))) = (self.world.processes.last(), self.find(subtask))
        else {
            return false;
        };
        it.hands[worker].worker.open_tasks()[task].is_finishing()
    }

    /// The messages in flight.
    #[must_use]
    pub fn letters(&self) -> Vec<StageMessage> {
        let letters = self.world.processes.last().map(|it| it.letters.iter());
        let message = |letter: &Letter| match letter {
            Letter::Order(Posted { subtask, message, .. }) => {
                StageMessage::Order(*subtask, *message)
            }
            Letter::Report(message, _) => StageMessage::Report(*message),
        };
        letters.into_iter().flatten().map(message).collect()
    }

    fn letter(&self, message: StageMessage) -> Result<(usize, usize), Refusal> {
        let process = self.process()?;
        match self.letters().into_iter().position(|letter| letter == message) {
            Some(letter) => Ok((process, letter)),
            None => {
                let letters = self.letters();
                Err(Refusal::NotOffered(format!("no such message, but {letters:?}")))
            }
        }
    }

    /// A message arrives.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn deliver(&mut self, message: StageMessage) -> Result<(), Refusal> {
        let (process, letter) = self.letter(message)?;
        self.apply(Choice::Deliver { process, letter })?;
        self.hear_news()
    }

    /// A message is lost.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn lose(&mut self, message: StageMessage) -> Result<(), Refusal> {
        let (process, letter) = self.letter(message)?;
        self.apply(Choice::Lose { process, letter })
    }

    /// A message arrives, and will arrive once more.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn duplicate(&mut self, message: StageMessage) -> Result<(), Refusal> {
        let (process, letter) = self.letter(message)?;
        self.apply(Choice::Duplicate { process, letter })?;
        self.hear_news()
    }

    fn lane(place: LanePlace) -> LaneOwner {
        match place {
            LanePlace::Store => LaneOwner::Store,
            LanePlace::Task(subtask) => LaneOwner::Task(subtask.index() % LANES),
        }
    }

    /// The next request of a lane.
    #[must_use]
    pub fn errand(&self, place: LanePlace) -> Option<SimIo> {
        let it = self.world.processes.last()?;
        let (queues, lane) = it.queues(Self::lane(place));
        queues.fronts()[lane].map(|front| front.work)
    }

    /// Whether the next request of a lane is cancelled: it will be dropped.
    #[must_use]
    pub fn is_stale(&self, place: LanePlace) -> bool {
        let Some(it) = self.world.processes.last() else { return false };
        let (queues, lane) = it.queues(Self::lane(place));
        queues.fronts()[lane].is_some_and(|front| front.over)
    }

    /// A lane does its next request; the time advances until it may. A cancelled request is dropped
    /// instead.
    ///
    /// # Errors
    /// [`Refusal`]; also if no disk operation can end like this.
    pub fn run(&mut self, place: LanePlace, fate: Fate) -> Result<(), Refusal> {
        let process = self.process()?;
        let lane = Self::lane(place);
        let (queues, number) = self.world.processes[process].queues(lane);
        let Some(front) = queues.fronts()[number] else { return self.refuse("an idle lane") };
        let now = self.world.clock.now();
        self.world.clock.advance(front.due.saturating_duration_since(now));
        let refused = Trouble { kind: ErrorKind::StorageFull, late: false };
        let unknown = |late| Trouble { kind: ErrorKind::Other, late };
        let trouble = match (fate, front.work) {
            (Fate::Done, _) => None,
            (Fate::Refused, _) => Some((0, refused)),
            (Fate::Unknown { applied }, IoKind::Commit) => Some((0, unknown(applied))),
            (Fate::Unknown { applied: false }, IoKind::Manifest) => Some((NAMED, unknown(false))),
            (Fate::Unknown { applied: true }, IoKind::Manifest) => {
                Some((NAME_SYNCED, unknown(true)))
            }
            (Fate::Unknown { .. }, work) => {
                let why = format!("no unknown outcome of {}", work.doing());
                return self.refuse(&why);
            }
        };
        let troubles = self.world.processes[process].host.changes().1;
        self.apply(Choice::Finish { process, lane, trouble })?;
        let struck = self.world.processes.get(process).map(|it| it.host.changes().1 > troubles);
        if trouble.is_some() && struck == Some(false) {
            return self.refuse("the disk has fewer changes than must precede the fault");
        }
        self.hear_news()
    }

    /// The coordinator's next event of its own process.
    #[must_use]
    pub fn told(&self) -> Option<Told> {
        self.world.processes.last()?.notices.front().map(|notice| match notice {
            DriverEvent::Failed(_) => Told::Failed,
            DriverEvent::SourceEnded { .. } => Told::SourceEnded,
            _ => Told::Answer,
        })
    }

    /// The coordinator takes in that event.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn on_event(&mut self) -> Result<(), Refusal> {
        let process = self.process()?;
        self.apply(Choice::Notice { process })?;
        self.hear_news()
    }

    /// Whether a timer of the coordinator is armed.
    #[must_use]
    pub fn is_armed(&self, timer: Timer) -> bool {
        let driver = self.world.processes.last().and_then(|it| it.driver.as_ref());
        driver.is_some_and(|driver| driver.armed().any(|(armed, _)| armed == timer))
    }

    /// A timer of the coordinator fires.
    ///
    /// # Errors
    /// [`Refusal`]; also if it is not armed.
    pub fn fire(&mut self, timer: Timer) -> Result<(), Refusal> {
        let process = self.process()?;
        if !self.is_armed(timer) {
            return self.refuse("no such timer");
        }
        self.apply(Choice::Fire { process, timer })?;
        self.hear_news()
    }

    /// The worker that hosts a subtask dies, and all its tasks with it.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn crash(&mut self, subtask: SubtaskId) -> Result<(), Refusal> {
        let process = self.process()?;
        match self.find(subtask) {
            Some((worker, _)) => self.apply(Choice::CrashTask { process, worker }),
            None => self.refuse("no such task is alive"),
        }
    }

    /// The user stops the job.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn stop(&mut self, stop: Stop) -> Result<(), Refusal> {
        let process = self.process()?;
        self.apply(Choice::Stop { process, stop })?;
        self.hear_news()
    }

    /// An external system drops a prepared transaction.
    ///
    /// # Errors
    /// [`Refusal`] if it has not prepared it.
    pub fn drop_prepared(&mut self, system: &str, txn: TxnId) -> Result<(), Refusal> {
        match self.world.systems.drop_prepared(system, txn) {
            true => {
                self.world.dropped = true;
                Ok(())
            }
            false => self.refuse("no such transaction"),
        }
    }

    /// The checkpoints in flight, and the subtasks that have acknowledged each.
    #[must_use]
    pub fn under_way(&self) -> BTreeMap<CheckpointId, IndexSet> {
        let driver = self.world.processes.last().and_then(|it| it.driver.as_ref());
        driver.map_or_else(BTreeMap::new, |driver| driver.machine().under_way().collect())
    }

    /// The attempt that runs.
    #[must_use]
    pub fn attempt(&self) -> Option<Attempt> {
        self.world.processes.last()?.hands.iter().map(|hand| hand.attempt).max()
    }

    /// Looks at the durable image of the disk, and at the external systems.
    ///
    /// # Errors
    /// [`Refusal::Broken`] if the store cannot be read at all.
    pub fn observe(&self) -> Result<Observation, Refusal> {
        let systems = &self.world.systems;
        let mut observation = Observation {
            visible: (systems.committed_since(&BTreeMap::new()).into_iter())
                .map(|(name, txn, batch)| (name, txn, batch.records))
                .collect(),
            prepared: systems.prepared_records(),
            ended: self.world.over,
            data_loss: self.world.lossy,
            ..Observation::default()
        };
        let files = Box::new(self.world.disk.worst().files(&Host::default()));
        let broken = |error: &dyn fmt::Display| Refusal::Broken(format!("the store: {error}"));
        let store = LocalStore::inspect_on(files, Path::new(STORE)).map_err(|e| broken(&e))?;
        for checkpoint in store.manifests().map_err(|error| broken(&error))? {
            let kept = kept(&store, checkpoint).map_err(|error| broken(&error))?;
            observation.checkpoints.push(kept);
        }
        let blobs = store.blobs().map_err(|error| broken(&error))?;
        observation.blobs = blobs.into_iter().map(|blob| blob.id).collect();
        Ok(observation)
    }

    /// Runs the job without further faults, until it has ended or was suspended. Returns whether it
    /// was suspended, and will resume.
    ///
    /// # Errors
    /// What is wrong, in words: the job never ends, or the oracle of the simulator found a
    /// violation.
    pub fn rest(&mut self) -> Result<bool, String> {
        let suspended = |world: &World<'_>| world.marks.contains_key(SUSPENDED);
        self.leave_alone(|world| world.is_over() || world.lossy || suspended(world))?;
        Ok(suspended(&self.world) && !self.world.is_over())
    }

    /// Runs the job without further faults until it has ended. A job without a planted fault is
    /// then checked, and run once more.
    ///
    /// # Errors
    /// As [`Self::rest`].
    pub fn finish(&mut self) -> Result<(), String> {
        self.leave_alone(|world| world.is_over() || world.lossy)?;
        if !self.world.watched || self.world.lossy {
            return Ok(());
        }
        let limit = self.world.steps + LONGEST;
        self.guarded(|world| world.close(limit))
    }

    fn leave_alone(&mut self, done: impl Fn(&World<'_>) -> bool) -> Result<(), String> {
        let mut random = Random::new(1);
        let limit = self.world.steps + LONGEST;
        self.guarded(|world| {
            let mut choices = Vec::new();
            while !done(world) {
                world.enabled(&mut choices);
                if choices.is_empty() || world.steps >= limit {
                    let waiting = world.waiting();
                    return Err(Breach(format!("left alone, the job never ends: {waiting}")));
                }
                world.apply(choices[random.below(choices.len())])?;
            }
            Ok(())
        })
    }

    fn guarded(
        &mut self,
        act: impl FnOnce(&mut World<'_>) -> Result<(), Breach>,
    ) -> Result<(), String> {
        match catch_unwind(AssertUnwindSafe(|| act(&mut self.world))) {
            Ok(result) => result.map_err(|violation| violation.0),
            Err(payload) => Err(panicked(&*payload).to_string()),
        }
    }
}
