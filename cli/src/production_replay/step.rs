//! The model and production, step by step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use snapline::sim::Mutation as Planted;
use snapline::sim::stage::{Fate, LanePlace, Refusal, Script, SimIo, Stage, StageMessage, Told};
use snapline_models::explore::MarkSet;
use snapline_models::laws::Law;
use snapline_models::scenario::Setup;
use snapline_models::world::{Action, ControlMessage, World};
use snapline_protocol::coordinator::{StoreOp, Timer};
use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId};
use snapline_protocol::message::Order;

use super::Unmapped;
use super::compare::compare;
use super::job::ReadLog;
use super::judge::Judge;

/// A run of the model, and the same run of production as far as it has come.
pub(super) struct LockstepReplay<'a> {
    setup: &'a Setup,
    model: World,
    pub(super) stage: Stage<'a>,
    pub(super) judge: Judge,
    /// Whether production has no planted fault.
    sound: bool,
    /// Per task, the snapshots that its lane has still to write, in order.
    writing: BTreeMap<usize, VecDeque<CheckpointId>>,
    /// Snapshots that the lane has written before the model came to it.
    written: BTreeSet<(usize, CheckpointId)>,
    /// Per task, the commit calls that its lane has made before the model came to them.
    called: BTreeMap<usize, usize>,
    attempt: Option<Attempt>,
}

/// Why a step was not made; which step it was is added above.
enum StepFailure {
    NoCounterpart(&'static str),
    Differs(String),
}

impl From<Refusal> for StepFailure {
    fn from(refusal: Refusal) -> Self {
        Self::Differs(refusal.to_string())
    }
}

fn subtask(task: u8) -> SubtaskId {
    SubtaskId::new(u16::from(task))
}

impl<'a> LockstepReplay<'a> {
    pub(super) fn begin(
        script: &'a Script<'_>,
        setup: &'a Setup,
        planted: Option<Planted>,
        log: &ReadLog,
    ) -> Result<Self, Unmapped> {
        log.clear();
        let stage = script.begin(planted).map_err(|error| Unmapped::Job(error.to_string()))?;
        let sources = setup.topology.sources();
        let named = |source: usize| {
            // The topology's limit of 256 subtasks fits a u16.
            let id = SubtaskId::new(source as u16);
            (id, setup.topology.name(id))
        };
        let records = u64::from(setup.scenario.records);
        let retained = setup.scenario.retained;
        let judge = Judge::new(sources.iter().map(named).collect(), records, retained, log.clone());
        Ok(Self {
            setup,
            model: World::new(setup),
            stage,
            judge,
            sound: planted.is_none(),
            writing: BTreeMap::new(),
            written: BTreeSet::new(),
            called: BTreeMap::new(),
            attempt: None,
        })
    }

    /// Makes a step in both; says whether it is possible in the model.
    pub(super) fn step(&mut self, number: usize, action: Action) -> Result<bool, Unmapped> {
        let mut enabled = Vec::new();
        self.model.enabled(self.setup, &mut enabled);
        if !enabled.contains(&action) {
            return Ok(false);
        }
        let after = self.model.apply(self.setup, &action, &mut MarkSet::new());
        let stop = |stop| match stop {
            StepFailure::NoCounterpart(why) => Unmapped::Action { step: number, action, why },
            StepFailure::Differs(what) => Unmapped::Differs { step: number, action, what },
        };
        self.carry(action, &after).map_err(stop)?;
        self.note_writes(&after);
        self.model = after;
        self.follow().map_err(stop)?;
        let seen = self.stage.observe().map_err(|refusal| stop(refusal.into()))?;
        self.judge.look(number, &seen);
        let same = compare(self.setup, &self.model, (&self.stage, self.sound), &seen);
        same.map_err(|what| stop(StepFailure::Differs(what)))?;
        Ok(true)
    }

    /// What the model's tasks have begun to write is on their lanes.
    fn note_writes(&mut self, after: &World) {
        if self.attempt != after.host.attempt() {
            self.attempt = after.host.attempt();
            self.writing.clear();
            self.written.clear();
            self.called.clear();
        }
        for (task, now) in after.tasks.iter().enumerate() {
            let queue = self.writing.entry(task).or_default();
            for write in &now.writes {
                let checkpoint = write.checkpoint;
                if !queue.contains(&checkpoint) && !self.written.contains(&(task, checkpoint)) {
                    queue.push_back(checkpoint);
                }
            }
        }
    }

    /// The choices that a step of the model is.
    fn carry(&mut self, action: Action, after: &World) -> Result<(), StepFailure> {
        const PROCESS: &str =
            "in production a coordinator and its tasks share one process, also as zombies";
        match action {
            Action::Deliver { message } => self.stage.deliver(self.message(message)?)?,
            Action::Lose { message } => self.stage.lose(self.message(message)?)?,
            Action::Duplicate { message } => self.stage.duplicate(self.message(message)?)?,
            // It stays where it is.
            Action::Delay { .. } => {}
            Action::Emit { task } | Action::Exhaust { task } => {
                self.stage.step(subtask(task), 0)?
            }
            Action::Consume { task, input } => {
                self.stage.step(subtask(task), usize::from(input))?;
            }
            Action::Write { task, write } => self.write(task, write, Fate::Done)?,
            Action::WriteFailed { task, write, applied: false } => {
                self.write(task, write, Fate::Refused)?;
            }
            Action::WriteFailed { applied: true, .. } => {
                return Err(StepFailure::NoCounterpart(
                    "a snapshot whose bytes are all durable is not reported as failed",
                ));
            }
            Action::Commit { task } => self.commit(task, Fate::Done)?,
            Action::CommitRefused { task } => self.commit(task, Fate::Refused)?,
            Action::CommitUnknown { task, applied } => {
                self.commit(task, Fate::Unknown { applied })?;
            }
            Action::Store { write } => self.store(self.write_of(write)?, Fate::Done)?,
            Action::StoreRefused { write } => self.store(self.write_of(write)?, Fate::Refused)?,
            Action::StoreUnknown { write, applied } => {
                self.store(self.write_of(write)?, Fate::Unknown { applied })?;
            }
            // Production's deletion was whole when it was done.
            Action::Sweep => {}
            Action::Read => self.on_store(SimIo::Recover, Fate::Done)?,
            Action::Conclude => self.on_store(SimIo::Conclude, Fate::Done)?,
            Action::Fire { timer } | Action::FireEarly { timer } => self.fire(timer, after)?,
            Action::Detect => {
                while self.stage.told().is_some_and(|told| told != Told::Failed) {
                    self.stage.on_event()?;
                }
                self.stage.on_event()?;
            }
            Action::Stop => match self.setup.scenario.stop {
                Some(kind) => self.stage.stop(kind.into())?,
                None => return Err(StepFailure::Differs("the scenario has no stop".into())),
            },
            Action::Crash { task, torn: false } => self.stage.crash(subtask(task))?,
            Action::Crash { torn: true, .. } => {
                return Err(StepFailure::NoCounterpart(
                    "production names a file only when it is complete, so the crash of one task \
                     leaves no torn file",
                ));
            }
            Action::Drop { sink, transaction } => self.drop_prepared(sink, transaction)?,
            Action::Elect
            | Action::ElectBeside
            | Action::CrashCoordinator { .. }
            | Action::LoseManifest
            | Action::Strand { .. }
            | Action::ZombieConsume { .. }
            | Action::ZombieWrite { .. }
            | Action::ZombieCommit { .. }
            | Action::ZombieStore { .. }
            | Action::ZombieSweep
            | Action::ZombieRead
            | Action::ZombieConclude
            | Action::ZombieFire { .. } => return Err(StepFailure::NoCounterpart(PROCESS)),
        }
        Ok(())
    }

    /// The message that an index of the model means.
    fn message(&self, message: u8) -> Result<StageMessage, StepFailure> {
        let (sent, network) = (&self.model.sent, &self.model.network);
        let among = if sent.is_empty() { network } else { sent };
        match among.get(usize::from(message)) {
            Some(message) => Ok(as_letter(message)),
            None => Err(StepFailure::Differs("the model has no such message".into())),
        }
    }

    fn write_of(&self, write: u8) -> Result<StoreOp, StepFailure> {
        let op = self.model.coordinators.last().and_then(|it| it.writes.get(usize::from(write)));
        op.copied().ok_or_else(|| StepFailure::Differs("the model has no such write".into()))
    }

    /// A task's lane works until it has written this snapshot.
    fn write(&mut self, task: u8, write: u8, fate: Fate) -> Result<(), StepFailure> {
        let index = usize::from(task);
        let model = self.model.tasks.get(index);
        let Some(write) = model.and_then(|task| task.writes.get(usize::from(write))) else {
            return Err(StepFailure::Differs("the model has no such write".into()));
        };
        let checkpoint = write.checkpoint;
        if self.written.remove(&(index, checkpoint)) {
            return match fate {
                Fate::Done => Ok(()),
                _ => {
                    Err(StepFailure::Differs("production has already written this snapshot".into()))
                }
            };
        }
        loop {
            let front = self.writing.entry(index).or_default().front().copied();
            let last = front == Some(checkpoint);
            let errand = self.stage.errand(LanePlace::Task(subtask(task)));
            let fate = if last && errand == Some(SimIo::Snapshot) { fate } else { Fate::Done };
            match errand {
                Some(SimIo::Prepare | SimIo::RollBack) => {}
                // Of a checkpoint that is complete; whether it shows anything that the model does
                // not is compared.
                Some(SimIo::Commit) => *self.called.entry(index).or_default() += 1,
                Some(SimIo::Snapshot) => {
                    let queue = self.writing.entry(index).or_default();
                    if let (Some(front), false) = (queue.pop_front(), last) {
                        self.written.insert((index, front));
                    }
                }
                other => {
                    return Err(StepFailure::Differs(format!(
                        "the next operation of the task's I/O lane in production is {other:?}"
                    )));
                }
            }
            self.stage.run(LanePlace::Task(subtask(task)), fate)?;
            if last && errand == Some(SimIo::Snapshot) {
                return Ok(());
            }
        }
    }

    /// A sink's lane works until it has made its commit call.
    fn commit(&mut self, task: u8, fate: Fate) -> Result<(), StepFailure> {
        let (place, index) = (LanePlace::Task(subtask(task)), usize::from(task));
        if let (Some(called), Fate::Done) = (self.called.get_mut(&index), fate)
            && *called > 0
        {
            *called -= 1;
            return Ok(());
        }
        loop {
            match self.stage.errand(place) {
                Some(SimIo::Commit) => return Ok(self.stage.run(place, fate)?),
                Some(SimIo::Prepare | SimIo::RollBack) => {}
                Some(SimIo::Snapshot) => {
                    let front = self.writing.entry(index).or_default().pop_front();
                    self.written.extend(front.map(|front| (index, front)));
                }
                other => {
                    return Err(StepFailure::Differs(format!(
                        "the next operation of the task's I/O lane in production is {other:?}"
                    )));
                }
            }
            self.stage.run(place, Fate::Done)?;
        }
    }

    fn store(&mut self, op: StoreOp, fate: Fate) -> Result<(), StepFailure> {
        let errand = match op {
            StoreOp::Claim { .. } => SimIo::Claim,
            StoreOp::Reserve { .. } => {
                return Err(StepFailure::NoCounterpart(
                    "production reserves ids in blocks larger than any scenario needs",
                ));
            }
            StoreOp::Manifest { .. } => SimIo::Manifest,
            StoreOp::Collect { .. } => SimIo::Collect,
        };
        self.on_store(errand, fate)
    }

    /// The coordinator's lane works until it has done this; deletions in front are done first.
    fn on_store(&mut self, wanted: SimIo, fate: Fate) -> Result<(), StepFailure> {
        loop {
            match self.stage.errand(LanePlace::Store) {
                Some(errand) if errand == wanted => {
                    self.stage.run(LanePlace::Store, fate)?;
                    break;
                }
                Some(SimIo::Collect) => {
                    self.stage.run(LanePlace::Store, Fate::Done)?;
                    self.hear_answers()?;
                }
                // One that was in front was done before the model came to it.
                _ if wanted == SimIo::Collect => break,
                other => {
                    return Err(StepFailure::Differs(format!(
                        "the next operation of the store's I/O lane in production is {other:?}"
                    )));
                }
            }
        }
        // Its answer, and the notifications before it.
        while self.stage.told().is_some() {
            self.stage.on_event()?;
        }
        Ok(())
    }

    fn hear_answers(&mut self) -> Result<(), StepFailure> {
        while self.stage.told() == Some(Told::Answer) {
            self.stage.on_event()?;
        }
        Ok(())
    }

    fn fire(&mut self, timer: Timer, after: &World) -> Result<(), StepFailure> {
        if timer == Timer::Interval {
            // That a source has ended, the driver knows at once; the model learns of it when a
            // checkpoint is due.
            while matches!(self.stage.told(), Some(Told::SourceEnded | Told::Answer)) {
                self.stage.on_event()?;
            }
            let begun = after.coordinator().and_then(|c| c.under_way().map(|(id, _)| id).max());
            if begun.is_some() && begun == self.stage.under_way().keys().max().copied() {
                return Ok(());
            }
        }
        Ok(self.stage.fire(timer)?)
    }

    fn drop_prepared(&mut self, sink: u8, transaction: u8) -> Result<(), StepFailure> {
        let sink = usize::from(sink);
        let gone =
            self.model.external.get(sink).and_then(|x| x.prepared.get(usize::from(transaction)));
        let Some(gone) = gone.map(|gone| gone.txn) else {
            return Err(StepFailure::Differs("the model has no such transaction".into()));
        };
        let seen = self.stage.observe()?;
        let found = seen.prepared.into_iter().find(|(_, txn, _)| *txn == gone);
        let Some((system, txn, records)) = found else {
            return Err(StepFailure::Differs(format!("production has not prepared {gone:?}")));
        };
        self.stage.drop_prepared(&system, txn)?;
        self.judge.dropped(txn, records);
        Ok(())
    }

    /// What follows of a step in production, and is part of it in the model.
    fn follow(&mut self) -> Result<(), StepFailure> {
        while self.follow_once()? {}
        Ok(())
    }

    fn follow_once(&mut self) -> Result<bool, StepFailure> {
        let subtasks =
            (0..self.setup.topology.subtasks().len()).map(|task| SubtaskId::new(task as u16));
        for task in subtasks {
            let place = LanePlace::Task(task);
            let errand = self.stage.errand(place);
            let at_once = matches!(errand, Some(SimIo::Prepare | SimIo::RollBack));
            if at_once || self.stage.is_stale(place) {
                self.stage.run(place, Fate::Done)?;
                return Ok(true);
            }
            if self.stage.is_finishing(task) {
                self.stage.step(task, 0)?;
                return Ok(true);
            }
        }
        if self.stage.told() == Some(Told::Answer) {
            self.stage.on_event()?;
            return Ok(true);
        }
        // The model of a job that keeps all deletes nothing.
        if self.setup.scenario.retained.is_none()
            && self.stage.errand(LanePlace::Store) == Some(SimIo::Collect)
        {
            self.stage.run(LanePlace::Store, Fate::Done)?;
            return Ok(true);
        }
        let waits: Vec<StageMessage> =
            self.model.sent.iter().chain(&self.model.network).map(as_letter).collect();
        let arrived = |letter: &StageMessage| !waits.contains(letter) && self.is_known(letter);
        if let Some(letter) = self.stage.letters().into_iter().find(arrived) {
            self.stage.deliver(letter)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether the model has come to what the message is about: production may begin a checkpoint
    /// before.
    fn is_known(&self, letter: &StageMessage) -> bool {
        match letter {
            StageMessage::Order(_, message) => match message.order {
                Order::Trigger(barrier) => {
                    self.model.ghost.issued >> (barrier.checkpoint.get() % 64) & 1 == 1
                }
                Order::Abort(_) | Order::Complete(_) => true,
            },
            StageMessage::Report(_) => true,
        }
    }

    /// [`Law::Progress`]: left alone, the job never ends.
    pub(super) fn stuck(&mut self, step: usize) {
        if let Err(why) = self.stage.finish() {
            let why = why.lines().next().unwrap_or_default().to_owned();
            self.judge.broken.insert(Law::Progress, (step, why));
        }
    }

    /// Leaves the sound job alone; then all must be right. A job that was suspended is looked at,
    /// and then run again.
    pub(super) fn finish(&mut self, step: usize, wrong: &mut Vec<String>) {
        match self.stage.rest() {
            Ok(true) => {
                self.look(step, wrong);
                self.judge.resume();
            }
            Ok(false) => {}
            Err(why) => wrong.push(why),
        }
        wrong.extend(self.stage.finish().err());
        if self.look(step, wrong) == Some(false) {
            wrong.push("the job has not ended".into());
        }
        for (law, (step, what)) in &self.judge.broken {
            wrong.push(format!("{} after step {step}: {what}", law.name()));
        }
    }

    /// Looks once more; says whether the job has ended, or has failed because data was dropped, as
    /// it must then.
    fn look(&mut self, step: usize, wrong: &mut Vec<String>) -> Option<bool> {
        match self.stage.observe() {
            Ok(seen) => {
                self.judge.look(step, &seen);
                Some(seen.ended.is_some() || seen.data_loss)
            }
            Err(refusal) => {
                wrong.push(refusal.to_string());
                None
            }
        }
    }
}

fn as_letter(message: &ControlMessage) -> StageMessage {
    match message {
        ControlMessage::Order(subtask, order) => StageMessage::Order(*subtask, *order),
        ControlMessage::Report(report) => StageMessage::Report(*report),
    }
}
