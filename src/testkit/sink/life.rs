//! One run: the sink's lives, one after the other.

use std::collections::BTreeSet;

use snapline_core::connect::testing::granted;
use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId, Term, TxnId};

use super::SinkUnderTest;
use super::plan::{Broken, Crash, RunPlan, Schedule, Stop, broken};
use crate::base::error::BoxError;
use crate::testkit::laws::{Law, Report, Violation};
use snapline_core::connect::{Delivery, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink};

/// How often a commit may fail or have an unknown outcome.
const TRIES: usize = 100;

type Committable<U> = <<U as SinkUnderTest>::Sink as TwoPhaseSink>::Committable;

/// A checkpoint's content for one subtask.
#[derive(Clone, Default)]
struct SinkSnapshot {
    /// The number of records it had written.
    position: u64,
    /// Its unresolved transactions, as they are in the checkpoint.
    held: Vec<(TxnId, Vec<u8>)>,
}

/// A subtask that is alive.
struct LiveSubtask<U: SinkUnderTest> {
    index: usize,
    writer: <U::Sink as TwoPhaseSink>::Writer,
    committer: <U::Sink as TwoPhaseSink>::Committer,
    attempt: Attempt,
    position: u64,
    /// Closed and unresolved, in order.
    held: Vec<(TxnId, Committable<U>)>,
}

pub(super) struct SinkRun<'a, U: SinkUnderTest> {
    under: &'a U,
    delivery: Delivery,
    subtasks: usize,
    /// The number of records that each subtask writes.
    records: u64,
    plan: RunPlan,
    /// The steps so far, in words.
    story: Vec<String>,
    /// The number of the life, from 0, and of its steps.
    life: usize,
    steps: usize,
    /// For each life: the number of its steps, and of those before it wrote.
    lengths: Vec<(usize, usize)>,
    /// Never used twice, also not by attempts that live on.
    next_checkpoint: u64,
    completed: Vec<SinkSnapshot>,
    /// The records of complete checkpoints: they may be visible.
    complete: BTreeSet<u64>,
    /// The records of committed transactions: they are visible.
    committed: BTreeSet<u64>,
    /// The records that were handed over in any life.
    written: BTreeSet<u64>,
    /// The records of each transaction.
    contents: Vec<(TxnId, Vec<u64>)>,
    rolled_back: BTreeSet<TxnId>,
    /// The transactions of complete checkpoints: any attempt may commit them.
    permitted: BTreeSet<TxnId>,
    living_on: Vec<LiveSubtask<U>>,
    counts: Report,
}

impl<'a, U: SinkUnderTest> SinkRun<'a, U> {
    pub(super) fn new(under: &'a U, subtasks: usize, records: u64, plan: RunPlan) -> Self {
        Self {
            under,
            delivery: under.sink().delivery(),
            subtasks,
            records,
            plan,
            story: Vec::new(),
            life: 0,
            steps: 0,
            lengths: Vec::new(),
            next_checkpoint: 1,
            completed: vec![SinkSnapshot::default(); subtasks],
            complete: BTreeSet::new(),
            committed: BTreeSet::new(),
            written: BTreeSet::new(),
            contents: Vec::new(),
            rolled_back: BTreeSet::new(),
            permitted: BTreeSet::new(),
            living_on: Vec::new(),
            counts: Report::default(),
        }
    }

    /// The number of steps of the first life, and of those of the second before it wrote.
    pub(super) fn lengths(&self) -> (usize, usize) {
        let first = self.lengths.first().map_or(0, |(steps, _)| *steps);
        let second = self.lengths.get(1).map_or(0, |(_, recovery)| *recovery);
        (first, second)
    }

    pub(super) fn report(&self, all: &mut Report) {
        all.runs += 1;
        all.calls += self.counts.calls;
        all.crashes += self.counts.crashes;
        all.committed_again += self.counts.committed_again;
        all.rolled_back += self.counts.rolled_back;
        all.records += self.counts.records;
    }

    pub(super) fn violation(self, Broken(law, seen): Broken) -> Violation {
        Violation { law, seen, steps: self.story }
    }

    /// Runs all lives.
    pub(super) fn go(&mut self) -> Result<(), Broken> {
        loop {
            let mut tasks = Vec::new();
            let ended = self.live(&mut tasks);
            if self.lengths.len() == self.life {
                self.lengths.push((self.steps, self.steps));
            } else {
                self.lengths[self.life].0 = self.steps;
            }
            match ended {
                Ok(()) => break,
                Err(Stop::Broken(broken)) => {
                    // Unfinished work is not dropped: a destructor that fails would hide the
                    // finding.
                    std::mem::forget(tasks);
                    return Err(broken);
                }
                Err(Stop::Crash(crash)) => {
                    self.story.push(format!("-- {crash} --"));
                    self.counts.crashes += 1;
                    match crash {
                        Crash::Failed => drop(tasks),
                        Crash::Killed => std::mem::forget(tasks),
                        Crash::LivesOn => self.living_on.append(&mut tasks),
                    }
                    self.look()?;
                }
            }
            (self.life, self.steps) = (self.life + 1, 0);
        }
        self.story.push("everything is written and committed".to_owned());
        let visible = self.see()?;
        let all: BTreeSet<u64> = (0..self.records * self.subtasks as u64).collect();
        let missing: Vec<&u64> = all.iter().filter(|record| !visible.contains(record)).collect();
        if !missing.is_empty() {
            return Err(broken(Law::NothingLost, format!("records {missing:?} are not visible")));
        }
        let prepared = self.under.prepared();
        match prepared.map_err(|error| broken(Law::CallsReturn, said(&*error)))? {
            None | Some(0) => Ok(()),
            Some(left) => {
                Err(broken(Law::NothingLeft, format!("{left} transactions are still prepared")))
            }
        }
    }

    /// Notes the next step; the life may end before it.
    fn step(&mut self, what: impl FnOnce() -> String) -> Result<(), Stop> {
        if let Some(&(after, crash)) = self.plan.crashes.get(self.life)
            && self.steps == after
        {
            return Err(Stop::Crash(crash));
        }
        self.steps += 1;
        self.story.push(format!("attempt {}: {}", self.life + 1, what()));
        Ok(())
    }

    /// Makes a call, and checks what is visible after it.
    fn call<R>(
        &mut self,
        what: impl FnOnce() -> String,
        call: impl FnOnce() -> Result<R, BoxError>,
    ) -> Result<R, Stop> {
        self.step(what)?;
        self.counts.calls += 1;
        let result = call().map_err(|error| broken(Law::CallsReturn, said(&*error)))?;
        self.look()?;
        Ok(result)
    }

    fn see(&self) -> Result<Vec<u64>, Broken> {
        let visible = self.under.visible();
        visible.map_err(|error| {
            broken(Law::CallsReturn, format!("what is visible cannot be read: {}", said(&*error)))
        })
    }

    /// Compares the visible records with those that may and must be.
    fn look(&self) -> Result<(), Broken> {
        let visible = self.see()?;
        let may = match self.delivery {
            Delivery::TwoPhase => &self.complete,
            Delivery::Idempotent | Delivery::AtLeastOnce => &self.written,
        };
        let early: BTreeSet<&u64> = visible.iter().filter(|record| !may.contains(record)).collect();
        if !early.is_empty() {
            return Err(broken(Law::NothingEarly, format!("records {early:?} are visible")));
        }
        let distinct: BTreeSet<u64> = visible.iter().copied().collect();
        if distinct.len() < visible.len() && self.delivery != Delivery::AtLeastOnce {
            let twice: BTreeSet<&u64> = visible
                .iter()
                .filter(|record| visible.iter().filter(|other| other == record).count() > 1)
                .collect();
            return Err(broken(Law::NothingTwice, format!("records {twice:?} are visible twice")));
        }
        let missing: Vec<&u64> = self.committed.difference(&distinct).collect();
        if !missing.is_empty() {
            let seen = format!("records {missing:?} were committed, but are not visible");
            return Err(broken(Law::NothingLost, seen));
        }
        Ok(())
    }

    fn attempt(&self) -> Attempt {
        let mut attempt = Attempt::first(Term::new(1));
        for _ in 0..self.life {
            attempt = attempt.next();
        }
        attempt
    }

    /// One life, to its end.
    fn live(&mut self, tasks: &mut Vec<LiveSubtask<U>>) -> Result<(), Stop> {
        self.recover(tasks)?;
        self.lengths.push((self.steps, self.steps));
        for epoch in 0.. {
            self.write(tasks, epoch)?;
            self.close(tasks)?;
            let snapshot = self.snapshot(tasks)?;
            let last = tasks.iter().all(|task| task.position == self.records);
            let odd = epoch % 2 == 1;
            if self.plan.schedule == Schedule::GivenUp && odd && !last {
                self.story.push("the checkpoint is given up".to_owned());
                continue;
            }
            self.step(|| "the checkpoint is complete".to_owned())?;
            self.completed = snapshot;
            for task in tasks.iter() {
                self.permitted.extend(task.held.iter().map(|(txn, _)| *txn));
                let numbers = (0..task.position).map(|at| self.number(task.index, at));
                let numbers: Vec<u64> = numbers.collect();
                self.complete.extend(numbers);
            }
            if !(self.plan.schedule == Schedule::HeardLate && !odd && !last) {
                self.commit(tasks)?;
            }
            if last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The number of a subtask's record at a place.
    fn number(&self, index: usize, at: u64) -> u64 {
        at * self.subtasks as u64 + index as u64
    }

    /// Opens, fences, rolls back, and commits again what the checkpoint holds (SPEC 6.4).
    fn recover(&mut self, tasks: &mut Vec<LiveSubtask<U>>) -> Result<(), Stop> {
        let (sink, attempt) = (self.under.sink(), self.attempt());
        for index in 0..self.subtasks {
            let context = OpenContext::new("testkit", "sink", index, self.subtasks, attempt);
            let (writer, committer) =
                self.call(|| format!("open subtask {index}"), || sink.open(&context))?;
            let SinkSnapshot { position, held } = self.completed[index].clone();
            let held = held.iter().map(|(txn, bytes)| Ok((*txn, decode::<U>(bytes)?)));
            let held = held.collect::<Result<_, Broken>>()?;
            tasks.push(LiveSubtask { index, writer, committer, attempt, position, held });
        }
        for task in &mut *tasks {
            let (index, committer) = (task.index, &mut task.committer);
            let found = self.call(
                || format!("fence off earlier attempts, for subtask {index}"),
                || committer.fence(attempt),
            )?;
            for (txn, committable) in found {
                self.is_own(index, txn)?;
                if !task.held.iter().any(|(held, _)| *held == txn) {
                    self.counts.rolled_back += 1;
                    self.call(
                        || format!("roll back {}", name(txn)),
                        || committer.roll_back(txn, &committable),
                    )?;
                    self.rolled_back.insert(txn);
                }
            }
        }
        self.haunt(Self::prepares)?;
        self.commit(tasks)?;
        self.haunt(Self::commits)
    }

    /// Lets attempts that live on act.
    fn haunt(
        &mut self,
        act: impl Fn(&mut Self, &mut LiveSubtask<U>) -> Result<(), Broken>,
    ) -> Result<(), Stop> {
        let mut living_on = std::mem::take(&mut self.living_on);
        let done = living_on.iter_mut().try_for_each(|task| act(self, task));
        self.living_on = living_on;
        Ok(done?)
    }

    /// Lets an attempt that lives on write and prepare, which must fail.
    fn prepares(&mut self, task: &mut LiveSubtask<U>) -> Result<(), Broken> {
        let index = task.index;
        self.story.push(format!(
            "the process that was taken for dead writes and prepares, for \
            subtask {index}"
        ));
        // A record of its own: it must never be seen.
        let number = (self.records + 1) * self.subtasks as u64 + index as u64;
        let txn = self.txn(index, task.attempt);
        self.next_checkpoint += 1;
        let prepared = task
            .writer
            .write(&mut vec![self.under.record(number)])
            .and_then(|()| task.writer.close(txn))
            .and_then(|committable| task.committer.prepare(txn, &committable));
        match prepared {
            Ok(()) => Err(broken(Law::Fenced, format!("it prepared {}", name(txn)))),
            Err(_) => self.look(),
        }
    }

    /// Lets an attempt that lives on commit its permitted transactions; success is optional.
    fn commits(&mut self, task: &mut LiveSubtask<U>) -> Result<(), Broken> {
        for (txn, committable) in &task.held {
            if self.permitted.contains(txn) {
                self.story
                    .push(format!("the process that was taken for dead commits {}", name(*txn)));
                let _ = task.committer.commit(granted(*txn), committable);
                self.look()?;
            }
        }
        Ok(())
    }

    fn is_own(&self, index: usize, txn: TxnId) -> Result<(), Broken> {
        if txn.subtask != subtask(index) || txn.attempt >= self.attempt() {
            return Err(broken(Law::FoundIsOwn, format!("{} was found", name(txn))));
        }
        if self.rolled_back.contains(&txn) {
            return Err(broken(Law::RolledBackIsGone, format!("{} was found", name(txn))));
        }
        Ok(())
    }

    fn txn(&self, index: usize, attempt: Attempt) -> TxnId {
        // Invariant: it counts up from 1.
        let checkpoint = CheckpointId::new(self.next_checkpoint).expect("checkpoints begin with 1");
        TxnId { checkpoint, attempt, subtask: subtask(index) }
    }

    /// Each subtask writes some records. Their number differs by life, since a source that reads
    /// again need not stop where it stopped before.
    fn write(&mut self, tasks: &mut [LiveSubtask<U>], epoch: u64) -> Result<(), Stop> {
        for task in tasks {
            let share = self.records.div_ceil(3) + self.life as u64;
            // The third of a first life is empty for every other subtask: it takes part all the
            // same (SPEC 6.2).
            let share = if epoch == 2 && task.index % 2 == 1 { 0 } else { share };
            let end = (task.position + share).min(self.records);
            let numbers: Vec<u64> =
                (task.position..end).map(|at| self.number(task.index, at)).collect();
            for numbers in numbers.chunks(2) {
                let mut records = numbers.iter().map(|number| self.under.record(*number)).collect();
                self.written.extend(numbers);
                self.counts.records += numbers.len() as u64;
                let (index, writer) = (task.index, &mut task.writer);
                self.call(
                    || format!("subtask {index} writes records {numbers:?}"),
                    || writer.write(&mut records),
                )?;
            }
            let txn = self.txn(task.index, task.attempt);
            self.contents.push((txn, numbers));
            task.position = end;
        }
        Ok(())
    }

    /// The barrier passes: each subtask ends its transaction, and prepares it.
    fn close(&mut self, tasks: &mut [LiveSubtask<U>]) -> Result<(), Stop> {
        for task in &mut *tasks {
            let txn = self.txn(task.index, task.attempt);
            let writer = &mut task.writer;
            let committable = self.call(|| format!("close {}", name(txn)), || writer.close(txn))?;
            task.held.push((txn, committable));
        }
        for task in tasks {
            // Invariant: it was pushed just now.
            let (txn, committable) = task.held.last().expect("a transaction was closed");
            let committer = &mut task.committer;
            self.call(
                || format!("prepare {}", name(*txn)),
                || committer.prepare(*txn, committable),
            )?;
        }
        self.next_checkpoint += 1;
        Ok(())
    }

    fn snapshot(&self, tasks: &[LiveSubtask<U>]) -> Result<Vec<SinkSnapshot>, Broken> {
        let of_one = |task: &LiveSubtask<U>| {
            let held =
                task.held.iter().map(|(txn, committable)| Ok((*txn, encode::<U>(committable)?)));
            Ok(SinkSnapshot { position: task.position, held: held.collect::<Result<_, Broken>>()? })
        };
        tasks.iter().map(of_one).collect()
    }

    /// Commits all that each subtask holds, in order (SPEC 6.1).
    fn commit(&mut self, tasks: &mut [LiveSubtask<U>]) -> Result<(), Stop> {
        for task in tasks {
            for (txn, committable) in &task.held {
                let times = if self.plan.schedule == Schedule::Doubled { 2 } else { 1 };
                for time in 0..times {
                    self.commit_one(*txn, committable, time > 0, &mut task.committer)?;
                }
            }
            task.held.clear();
        }
        Ok(())
    }

    fn commit_one(
        &mut self,
        txn: TxnId,
        committable: &Committable<U>,
        again: bool,
        committer: &mut <U::Sink as TwoPhaseSink>::Committer,
    ) -> Result<(), Stop> {
        let again = again || txn.attempt < self.attempt();
        self.counts.committed_again += u64::from(again);
        for _ in 0..TRIES {
            let what = || format!("commit {}{}", name(txn), if again { ", again" } else { "" });
            let outcome = self.call(what, || committer.commit(granted(txn), committable))?;
            match outcome {
                CommitOutcome::Committed | CommitOutcome::AlreadyCommitted => {
                    let records = self.contents.iter().filter(|(of, _)| *of == txn);
                    self.committed.extend(records.flat_map(|(_, records)| records));
                    self.look()?;
                    return Ok(());
                }
                CommitOutcome::Retry | CommitOutcome::Unknown => {}
                CommitOutcome::Lost => {
                    let seen = format!("the sink says that {} is lost", name(txn));
                    return Err(broken(Law::PreparedIsKept, seen).into());
                }
            }
        }
        let seen = format!(
            "{TRIES} times the sink answered that it does not know, or that it did not \
                commit"
        );
        Err(broken(Law::CallsReturn, seen).into())
    }
}

/// The kit's topology: one operator, whose subtasks are numbered from 0.
fn subtask(index: usize) -> SubtaskId {
    // Invariant: the kit makes no more subtasks than a topology can have.
    SubtaskId::new(u16::try_from(index).expect("a topology has fewer subtasks"))
}

fn name(txn: TxnId) -> String {
    let TxnId { checkpoint, attempt, subtask } = txn;
    format!("checkpoint {checkpoint} of attempt {}, subtask {}", attempt.number, subtask.index())
}

/// An error with its causes.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

// As the runtime writes it into checkpoints.
fn encode<U: SinkUnderTest>(committable: &Committable<U>) -> Result<Vec<u8>, Broken> {
    crate::testkit::written(committable).map_err(|error| broken(Law::StateIsData, error))
}

fn decode<U: SinkUnderTest>(bytes: &[u8]) -> Result<Committable<U>, Broken> {
    crate::testkit::read(bytes).map_err(|error| broken(Law::StateIsData, error))
}
