//! One recorded run: the coordinator, its store, and the attempts it deployed (SPEC 11.8, 11.9).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::coordinator::{
    Config, Coordinator, Effect, Event, StoreOp, StoreResult, Timer,
};
use snapline_protocol::fence::Host;
use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId};
use snapline_protocol::recovery::{Decision, Facts, RecoveryError, decide};
use snapline_protocol::retention::{Inventory, Plan, Roots, plan};
use snapline_protocol::{Out, Verdict};

use super::history::History;
use super::rule::{Checked, Rule, breach, ensure};
use super::tasks::{Around, Channels, ReplayedTask};
use super::{Mail, Tally, run, same_effects};
use crate::trace::event::{LineEvent, OfCoordinator};
use crate::trace::format::{Header, Line, What, spell};
use crate::trace::read::Run;

/// An attempt that is, or was, hosted.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Hosted {
    decision: Decision,
    /// No task of it runs any more.
    ended: bool,
    /// No work that its tasks handed over is in flight.
    concluded: bool,
    tasks: BTreeMap<SubtaskId, ReplayedTask>,
    channels: Channels,
}

/// The state of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Life {
    config: Config,
    coordinator: Option<Coordinator>,
    host: Host,
    /// Writes requested and not answered.
    asked: Vec<StoreOp>,
    /// Answers that the coordinator has not taken in.
    answers: Vec<(StoreOp, StoreResult, Option<CheckpointId>)>,
    /// The number of requests for facts that are not answered.
    recoveries: usize,
    /// Decisions that the coordinator has not taken in.
    decisions: Vec<Result<Decision, RecoveryError>>,
    to_deploy: Option<(Attempt, Decision)>,
    to_conclude: BTreeSet<Attempt>,
    /// The running attempt was to be ended, and no line has said that it was.
    to_end: bool,
    /// Tasks were ended although the coordinator did not request it: the run is over.
    over: bool,
    armed: BTreeSet<Timer>,
    /// What the requested deletion must spare.
    roots: Option<Roots>,
    /// What the deletion that is not answered yet is to delete.
    planned: Option<Plan>,
    mail: Mail,
    attempts: BTreeMap<Attempt, Hosted>,
}

impl Life {
    pub(super) fn new(run: &Run) -> Self {
        let (header, topology) = (&run.header, &run.topology);
        let config = Config {
            subtasks: topology.subtasks().len(),
            sources: topology.sources(),
            sinks: topology.sinks(),
            max_concurrent: header.max_concurrent,
            tolerable_failures: header.tolerable_failures,
            retained: header.retained,
            id_block: header.id_block,
        };
        Self {
            config,
            coordinator: None,
            host: Host::default(),
            asked: Vec::new(),
            answers: Vec::new(),
            recoveries: 0,
            decisions: Vec::new(),
            to_deploy: None,
            to_conclude: BTreeSet::new(),
            to_end: false,
            over: false,
            armed: BTreeSet::new(),
            roots: None,
            planned: None,
            mail: Mail::default(),
            attempts: BTreeMap::new(),
        }
    }

    /// Handles a line.
    pub(super) fn line(
        &mut self,
        run: &Run,
        line: &Line,
        event: &LineEvent,
        history: &mut History,
        tally: &mut Tally,
    ) -> Checked {
        tally.lines += 1;
        match (&line.what, line.attempt, line.task) {
            (What::Started { effects }, Some(_), None) => {
                self.start(&run.header, effects, history)?;
                self.is_of(line.attempt)
            }
            (_, _, None) if self.coordinator.is_none() => {
                Err(breach(Rule::Possible, "a run begins with its coordinator"))
            }
            (What::Coordinator { verdict, effects, .. }, Some(_), None) => {
                let LineEvent::Coordinator(event) = event else {
                    return Err(breach(Rule::Possible, "this is not an event of a coordinator"));
                };
                tally.events += 1;
                self.coordinate(event, *verdict, effects, &run.header, history)?;
                self.is_of(line.attempt)
            }
            (What::Store { op, result, first }, None, None) => {
                self.answered(*op, *result, *first, &run.header, history, tally)
            }
            (What::Facts { facts, decision }, None, None) => {
                self.facts(facts, decision, &run.header, history, tally)
            }
            (What::Collect { roots, inventory, plan }, None, None) => {
                self.collect(roots, inventory, plan, history, tally)
            }
            (What::Host { verdict }, Some(attempt), None) => {
                self.host(attempt, *verdict, run, tally)
            }
            (What::Ended {}, Some(attempt), None) => {
                let hosted = self.hosted(attempt)?;
                ensure(!std::mem::replace(&mut hosted.ended, true), Rule::Attempts, || {
                    "it had already ended".into()
                })?;
                self.over = !std::mem::take(&mut self.to_end);
                Ok(())
            }
            (_, Some(attempt), Some(subtask)) => {
                self.task(run, line, event, (attempt, subtask), history, tally)
            }
            _ => Err(breach(
                Rule::Possible,
                format!(
                    "a line of kind `{}` names the wrong combination of attempt and task",
                    line.what.kind()
                ),
            )),
        }
    }

    pub(super) const fn coordinator(&self) -> Option<&Coordinator> {
        self.coordinator.as_ref()
    }

    pub(super) const fn armed(&self) -> &BTreeSet<Timer> {
        &self.armed
    }

    pub(super) fn asked(&self) -> &[StoreOp] {
        &self.asked
    }

    /// The tasks of an attempt.
    pub(super) fn tasks_of(&self, attempt: Attempt) -> Option<&BTreeMap<SubtaskId, ReplayedTask>> {
        self.attempts.get(&attempt).map(|hosted| &hosted.tasks)
    }

    /// Whether there is an attempt that has not ended.
    fn runs(&self) -> bool {
        self.attempts.values().any(|hosted| !hosted.ended)
    }

    fn is_of(&self, attempt: Option<Attempt>) -> Checked {
        let own = self.coordinator.as_ref().map(Coordinator::attempt);
        ensure(own == attempt, Rule::Machine, || format!("the coordinator's attempt is {own:?}"))
    }

    fn hosted(&mut self, attempt: Attempt) -> Checked<&mut Hosted> {
        let hosted = self.attempts.get_mut(&attempt);
        hosted.ok_or_else(|| breach(Rule::Attempts, format!("attempt {attempt} was not begun")))
    }

    fn start(&mut self, header: &Header, effects: &[Value], history: &mut History) -> Checked {
        ensure(self.coordinator.is_none(), Rule::Possible, || "it has already begun".into())?;
        let mut out = Out::new();
        let machine = Coordinator::start(&self.config, header.term, header.claimant, &mut out);
        same_effects(out.as_slice(), effects)?;
        self.coordinator = Some(machine);
        self.carry_out(&Vec::from_iter(out.drain()), history)
    }

    fn coordinate(
        &mut self,
        event: &OfCoordinator,
        verdict: Verdict,
        effects: &[Value],
        header: &Header,
        history: &mut History,
    ) -> Checked {
        // SPEC 15.9: the effects of an event are carried out before the next event is taken.
        ensure(!self.over, Rule::CarriedOut, || {
            "the run was over when its tasks were ended".into()
        })?;
        ensure(!self.to_end, Rule::CarriedOut, || "the tasks were to be ended first".into())?;
        ensure(self.to_deploy.is_none(), Rule::CarriedOut, || {
            "the new attempt was to be hosted first".into()
        })?;
        let event = self.event(event, header)?;
        let Some(machine) = &mut self.coordinator else { return Ok(()) };
        let out = run(machine, &self.config, event, verdict, effects)?;
        self.carry_out(&out, history)
    }

    /// The event that the line stands for, if it is possible now.
    fn event(&mut self, event: &OfCoordinator, header: &Header) -> Checked<Event> {
        let mut heard = |op: StoreOp, result: StoreResult, first: Option<CheckpointId>| {
            let answer = self.answers.iter().position(|answer| *answer == (op, result, first));
            let answer = answer.ok_or_else(|| {
                breach(Rule::Asked, "no line holds this answer, or it was already handled")
            })?;
            self.answers.remove(answer);
            Ok(())
        };
        Ok(match *event {
            OfCoordinator::Fired(timer) => {
                // SPEC 4.3: the interval may also be over early.
                let armed = self.armed.remove(&timer) || timer == Timer::Interval;
                ensure(armed, Rule::Timers, || format!("{timer:?} was not armed"))?;
                Event::Fired(timer)
            }
            OfCoordinator::Stored { op, result } => {
                heard(op, result, None)?;
                Event::Stored { op, result }
            }
            OfCoordinator::Claimed { first, until } => {
                let Header { term, claimant, id_block: block, .. } = *header;
                heard(StoreOp::Claim { term, claimant, block }, StoreResult::Applied, Some(first))?;
                ensure(until == first.plus(block), Rule::Names, || {
                    format!("{block} ids were reserved")
                })?;
                Event::Claimed { first, until }
            }
            OfCoordinator::Recovered(ref decision) => {
                let place = self.decisions.iter().position(|known| spell(known) == *decision);
                let place = place.ok_or_else(|| {
                    breach(Rule::Asked, "no line holds this decision, or it was already handled")
                })?;
                Event::Recovered(self.decisions.remove(place))
            }
            OfCoordinator::Report(ref message) => Event::Report(self.mail.report(message)?),
            OfCoordinator::Concluded { attempt } => {
                let asked = self.to_conclude.remove(&attempt);
                ensure(asked, Rule::Asked, || "no line asks for this".into())?;
                let hosted = self.hosted(attempt)?;
                // SPEC 8.6
                ensure(hosted.ended, Rule::Attempts, || {
                    "tasks are ended first, and no line says that these are".into()
                })?;
                hosted.concluded = true;
                Event::Concluded { attempt }
            }
            OfCoordinator::TaskFailed { attempt } => Event::TaskFailed { attempt },
            OfCoordinator::Stop(stop) => Event::Stop(stop),
        })
    }

    fn carry_out(&mut self, effects: &[Effect], history: &mut History) -> Checked {
        for &effect in effects {
            match effect {
                Effect::Store(op) => {
                    self.asked.push(op);
                    history.manifest_asked(op, self.config.subtasks)?;
                    if let (StoreOp::Collect { .. }, Some(machine)) = (op, &self.coordinator) {
                        self.roots = Some(machine.roots(&self.config));
                    }
                }
                Effect::Recover => {
                    self.recoveries += 1;
                    self.to_end = self.runs();
                }
                Effect::Deploy { attempt, decision } => self.to_deploy = Some((attempt, decision)),
                Effect::Conclude { attempt } => {
                    self.to_conclude.insert(attempt);
                    self.to_end = self.runs();
                }
                Effect::Send(subtask, message) => self.mail.ordered(subtask, message),
                Effect::Arm(timer) => _ = self.armed.insert(timer),
                Effect::Disarm(timer) => _ = self.armed.remove(&timer),
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        op: StoreOp,
        result: StoreResult,
        first: Option<CheckpointId>,
        header: &Header,
        history: &mut History,
        tally: &mut Tally,
    ) -> Checked {
        let place = self.asked.iter().position(|asked| *asked == op);
        let place = place.ok_or_else(|| {
            breach(Rule::Asked, "no line asks for this write, or it was already answered")
        })?;
        self.asked.remove(place);
        let applied = result == StoreResult::Applied;
        let claims = matches!(op, StoreOp::Claim { .. });
        ensure(first.is_some() == (claims && applied), Rule::Names, || {
            "a claim that is let through, and no other answer, says from where it reserves ids"
                .into()
        })?;
        if let Some(first) = first {
            history.claimed(header, first)?;
        }
        match op {
            StoreOp::Reserve { until, .. } if applied => history.reserved(until),
            StoreOp::Manifest { checkpoint, .. } if applied => {
                tally.checkpoints += u64::from(history.completed(checkpoint)?);
            }
            StoreOp::Collect { .. } => {
                let planned = self.roots.take().is_none();
                ensure(planned || !applied, Rule::Retention, || {
                    "no line says what was deleted".into()
                })?;
                if let Some(planned) = self.planned.take().filter(|_| applied) {
                    history.deleted(&planned);
                }
            }
            _ => {}
        }
        self.answers.push((op, result, first));
        Ok(())
    }

    fn facts(
        &mut self,
        facts: &Facts,
        decision: &Value,
        header: &Header,
        history: &mut History,
        tally: &mut Tally,
    ) -> Checked {
        let Some(left) = self.recoveries.checked_sub(1) else {
            return Err(breach(Rule::Asked, "no line asks for the facts"));
        };
        self.recoveries = left;
        ensure(facts.mine == header.term && facts.policy == header.policy, Rule::Facts, || {
            format!("they are read for term {} with the policy {:?}", header.term, header.policy)
        })?;
        history.found(facts)?;
        let decided = decide(facts);
        ensure(spell(&decided) == *decision, Rule::Machine, || {
            format!("from these facts it is decided: {}", spell(&decided))
        })?;
        tally.recoveries += 1;
        self.decisions.push(decided);
        Ok(())
    }

    fn collect(
        &mut self,
        roots: &Roots,
        inventory: &Inventory,
        planned: &Plan,
        history: &mut History,
        tally: &mut Tally,
    ) -> Checked {
        let Some(must) = self.roots.take() else {
            return Err(breach(Rule::Asked, "no line asks for a deletion"));
        };
        ensure(must == *roots, Rule::Retention, || format!("the roots are {}", spell(&must)))?;
        history.listed(inventory, &roots.unresolved)?;
        let right = plan(roots, inventory);
        ensure(right == *planned, Rule::Retention, || {
            format!("what these roots do not reach is {}", spell(&right))
        })?;
        history.planned(planned);
        self.planned = Some(planned.clone());
        tally.deletions += 1;
        Ok(())
    }

    /// SPEC 3.2: an attempt begins when all earlier ones have ended.
    fn host(
        &mut self,
        attempt: Attempt,
        verdict: Verdict,
        run: &Run,
        tally: &mut Tally,
    ) -> Checked {
        let Some((_, decision)) = self.to_deploy.take_if(|(asked, _)| *asked == attempt) else {
            return Err(breach(Rule::Asked, "the coordinator did not deploy this attempt"));
        };
        let right = self.host.admit(attempt);
        ensure(right == verdict, Rule::Machine, || format!("the host's verdict is {right:?}"))?;
        if !right.is_applied() {
            return Ok(());
        }
        if let Some((running, _)) = self.attempts.iter().find(|(_, hosted)| !hosted.ended) {
            return Err(breach(
                Rule::Attempts,
                format!("no line says that attempt {running} has ended"),
            ));
        }
        let hosted = Hosted {
            decision,
            ended: false,
            concluded: false,
            tasks: BTreeMap::new(),
            channels: Channels::new(&run.topology),
        };
        self.attempts.insert(attempt, hosted);
        tally.attempts += 1;
        Ok(())
    }

    fn task(
        &mut self,
        run: &Run,
        line: &Line,
        event: &LineEvent,
        (attempt, subtask): (Attempt, SubtaskId),
        history: &mut History,
        tally: &mut Tally,
    ) -> Checked {
        ensure(subtask.index() < self.config.subtasks, Rule::Possible, || {
            format!("there are {} subtasks", self.config.subtasks)
        })?;
        let Self { attempts, mail, .. } = self;
        let Some(Hosted { decision, ended, concluded, tasks, channels }) =
            attempts.get_mut(&attempt)
        else {
            return Err(breach(Rule::Attempts, format!("attempt {attempt} was not begun")));
        };
        let (topology, mode) = (&run.topology, run.header.mode);
        let mut around = Around { topology, mode, history, mail, tally };
        let runs =
            |ended: bool| ensure(!ended, Rule::Attempts, || format!("attempt {attempt} has ended"));
        // SPEC 8.6: work that was handed over may be done after the tasks have ended, but not after
        // it was waited for.
        runs(*concluded)?;
        if let What::Begun { at_rest, pending, effects } = &line.what {
            runs(*ended)?;
            ensure(!tasks.contains_key(&subtask), Rule::Attempts, || "it already began".into())?;
            let operator = topology.subtasks()[subtask.index()].operator;
            let two_phase = run.header.two_phase.contains(&topology.operators()[operator].name);
            let begins = (*at_rest, pending.as_ref(), effects.as_slice());
            let task =
                ReplayedTask::begin((attempt, subtask), decision, begins, two_phase, &mut around)?;
            around.tally.tasks += 1;
            tasks.insert(subtask, task);
            return Ok(());
        }
        let Some(task) = tasks.get_mut(&subtask) else {
            return Err(breach(Rule::Attempts, "this task has not begun"));
        };
        match (&line.what, event) {
            (What::Aligner { verdict, effects, received, .. }, LineEvent::Aligner(event)) => {
                runs(*ended)?;
                around.tally.events += 1;
                task.align(event, (*verdict, effects, *received), channels, &mut around)
            }
            (What::Committer { verdict, effects, records, .. }, LineEvent::Committer(event)) => {
                runs(*ended)?;
                around.tally.events += 1;
                task.commit(event, (*verdict, effects, *records), &mut around)
            }
            (What::Sent { marker, counts }, _) => {
                runs(*ended)?;
                task.send(*marker, counts, channels, &around)
            }
            (What::Blob { id, needs, durable }, _) => task.blob(*id, needs, *durable, &mut around),
            (What::Prepared { txn }, _) => task.prepared(*txn, &mut around),
            (What::Found { txn, orphan }, _) => task.found(*txn, *orphan, &mut around),
            (What::Fenced {}, _) => task.fenced(&mut around),
            (What::CommitCall { txn }, _) => task.commit_call(*txn, &mut around),
            (What::CommitReturned { txn, outcome }, _) => {
                let outcome: CommitOutcome = *outcome;
                task.commit_returned(*txn, outcome, &mut around)
            }
            _ => Err(breach(
                Rule::Possible,
                format!("a line of kind `{}` is not about a task", line.what.kind()),
            )),
        }
    }
}
