//! The coordinator's thread: passes events to the coordinator and carries out its effects. It
//! decides nothing (SPEC 4). It adds time, threads, messages for people, and the decision whether
//! to restart.
//!
//! Longer than 500 lines: one struct with shared fields; reporting and store operations have files
//! of their own.

mod failing;
mod reporting;
pub(crate) mod store_client;
mod store_ops;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use snapline_protocol::coordinator::{Config, Coordinator, Effect, Event, Phase, Stop, Timer};
use snapline_protocol::fence::Host;
use snapline_protocol::ids::{Attempt, CheckpointId, IndexSet, SubtaskId};
use snapline_protocol::message::{CheckpointKind, Report};
use snapline_protocol::recovery::{Decision, Policy, RecoveryError};
use snapline_protocol::{Machine, Out, Verdict};

use crate::base::clock;
use crate::base::fault::Aside;
use crate::base::fault::Mutation;
use crate::base::sync::Arc;
use crate::base::watch;
use crate::base::watch::Hung;
use crate::executor::platform::Platform;
use crate::plan::spec::JobSpec;
use crate::runtime::attempt::SimStage;
use crate::runtime::attempt::{AttemptContext, RunningAttempt, deploy};
use crate::runtime::coordinator::failing::Failing;
use crate::runtime::coordinator::reporting::Spans;
use crate::runtime::coordinator::store_client::StoreClient;
use crate::runtime::coordinator::store_client::asked;
use crate::runtime::coordinator::store_ops::policy;
use crate::runtime::events::{AckDetails, Beside, Cause, DriverEvent, UserCommand};
use crate::runtime::failure::TaskFailure;
use crate::runtime::handle::{CheckpointFailed, Ended, JobError, Outcome};
use crate::runtime::restart::Restarts;
use crate::runtime::status::{CheckpointStats, JobPhase, StatusBoard};
use crate::runtime::task::TaskEvent;
use crate::runtime::worker::Address;
use crate::state::HashSeed;
use crate::store::{Manifest, Store, StoreError};
use crate::trace::{Recorder, What};
use snapline_protocol::retention::Roots;

/// How long sinks have to report before they are notified again that a checkpoint is complete.
const RESEND: Duration = Duration::from_secs(1);

/// The parts of a checkpoint that have arrived.
pub(crate) struct PendingCheckpoint {
    pub(crate) parts: BTreeMap<SubtaskId, AckDetails>,
    pub(crate) triggered: Option<Instant>,
    pub(crate) acked: IndexSet,
    pub(crate) kind: Option<CheckpointKind>,
    /// From its trigger to its end.
    pub(crate) span: tracing::Span,
    /// Why it is aborted, if a reason is known.
    pub(crate) cause: Option<Cause>,
}

impl Default for PendingCheckpoint {
    fn default() -> Self {
        let (parts, acked, span) = (BTreeMap::new(), IndexSet::EMPTY, tracing::Span::none());
        Self { parts, triggered: None, acked, kind: None, span, cause: None }
    }
}

/// The outcome of a requested checkpoint, and who requested it.
type CheckpointAnswer = (
    crossbeam_channel::Sender<Result<CheckpointId, CheckpointFailed>>,
    Result<CheckpointId, CheckpointFailed>,
);

/// The user that waits for a requested checkpoint.
struct Waiter {
    /// `None` until it is triggered.
    checkpoint: Option<CheckpointId>,
    reply: crossbeam_channel::Sender<Result<CheckpointId, CheckpointFailed>>,
}

pub(crate) struct Driver {
    pub(crate) hosting: AttemptContext,
    pub(crate) config: Config,
    pub(crate) machine: Coordinator,
    pub(crate) host: Host,
    pub(crate) policy: Policy,
    notices: crossbeam_channel::Receiver<DriverEvent>,
    pub(crate) store_client: StoreClient,
    timers: BTreeMap<Timer, Instant>,
    running: Option<RunningAttempt>,
    /// The span of the attempt, and before it that of the recovery that leads to it.
    pub(crate) spans: Spans,
    pub(crate) restarts: Restarts,
    /// The last failure, until it is reported as the reason why the job failed.
    pub(crate) failure: Option<Box<TaskFailure>>,
    /// What failed, and what follows from it.
    pub(crate) failing: Failing,
    /// The checkpoint that the attempt was restored from.
    pub(crate) restored: Option<CheckpointId>,
    /// The checkpoint with which the job had ended before this run began.
    pub(crate) over_before: Option<CheckpointId>,
    /// What was missing from the last aborted checkpoint.
    pub(crate) missing: Vec<String>,
    /// Checkpoints in flight.
    pub(crate) gathered: BTreeMap<CheckpointId, PendingCheckpoint>,
    pub(crate) manifests: BTreeMap<CheckpointId, Manifest>,
    /// Sources of this attempt that have ended.
    ended: IndexSet,
    /// The seed of hashes of a job that begins here, and that of the attempt.
    drawn: u64,
    pub(crate) hash_seed: Option<u64>,
    /// What the store says about its contents.
    place: String,
    /// When a stop was requested, and the steps of each task by then.
    stopped: Option<(Instant, Vec<u64>)>,
    waiters: Vec<Waiter>,
    /// Replies to send when the status shows what they report.
    answers: Vec<CheckpointAnswer>,
    /// When the last checkpoint ended.
    pub(crate) last_end: Option<Instant>,
    /// Failed tries of store operations, in a row.
    pub(crate) store_tries: u32,
    unreadable: Vec<(CheckpointId, StoreError)>,
    /// Whether the newest complete checkpoint is after the end of all input.
    pub(crate) input_ended: bool,
    pub(crate) board: StatusBoard,
    /// A planted fault: the roots, kept from the first time.
    pub(crate) stale_roots: Aside<Option<Roots>>,
    /// A planted fault: the tasks of the first attempt, and timers that were armed before.
    stale: Aside<(Vec<Address>, Vec<Timer>)>,
    pub(crate) end: Option<Result<Ended, JobError>>,
}

impl Driver {
    /// Claims the store; the rest follows from events.
    pub(crate) fn start(
        spec: Arc<JobSpec>,
        store: Arc<dyn Store>,
        board: StatusBoard,
        (sender, notices): (
            crossbeam_channel::Sender<DriverEvent>,
            crossbeam_channel::Receiver<DriverEvent>,
        ),
        platform: Platform,
        stage: Option<Arc<dyn SimStage>>,
        aloud: bool,
    ) -> Result<Self, JobError> {
        let settings = &spec.config;
        let config = Config {
            subtasks: spec.topology.subtasks().len(),
            sources: spec.topology.sources(),
            sinks: spec.topology.sinks(),
            max_concurrent: settings.max_concurrent,
            tolerable_failures: settings.tolerable_failures,
            retained: Some(settings.retained),
            id_block: settings.id_block,
        };
        board.tells_time_by(platform.clock.clone());
        let policy = policy(&*store, settings.allow_older, settings.resume)?;
        let limit = settings.hang_timeout;
        let io_pool = |count| platform.io_pool(count, limit).map_err(JobError::Thread);
        let fence = asked("reading the fence", || store.fence()).map_err(JobError::Store)?;
        let place = asked("describing the store", || Ok(store.describe()));
        let place = place.map_err(JobError::Store)?;
        let term = fence.term.next();
        let (claimant, drawn) = (platform.claimant(), platform.hash_seed());
        let recorder = Recorder::begin(settings.recording.as_ref(), || {
            spec.trace_header(&config, term, claimant, policy)
        });
        let (lane, told) = (io_pool(1)?, sender.clone());
        let shared = (recorder.clone(), platform.clone(), board.clone());
        let store_client =
            StoreClient::new(Arc::clone(&store), lane, told, shared.0, shared.1, shared.2);
        let io_pool = Arc::new(io_pool(settings.upload_threads)?);
        let restarts = Restarts::new(settings.restart);
        let mut out = Out::new();
        let machine = Coordinator::start(&config, term, claimant, &mut out);
        recorder.coordinator(machine.attempt(), || What::started(out.as_slice()));
        let coordinator = sender;
        let hosting =
            AttemptContext { spec, store, io_pool, coordinator, platform, stage, recorder };
        let mut driver = Self {
            hosting,
            config,
            machine,
            host: Host::default(),
            policy,
            notices,
            store_client,
            timers: BTreeMap::new(),
            running: None,
            spans: Spans::default(),
            restarts,
            failure: None,
            failing: Failing::new(aloud),
            restored: None,
            over_before: None,
            missing: Vec::new(),
            gathered: BTreeMap::new(),
            manifests: BTreeMap::new(),
            ended: IndexSet::EMPTY,
            place,
            drawn,
            hash_seed: None,
            stopped: None,
            waiters: Vec::new(),
            answers: Vec::new(),
            last_end: None,
            store_tries: 0,
            unreadable: Vec::new(),
            input_ended: false,
            board,
            stale_roots: Aside::default(),
            stale: Aside::default(),
            end: None,
        };
        driver.carry_out(out);
        Ok(driver)
    }

    /// Runs the job to its end.
    pub(crate) fn run(mut self) -> Result<Outcome, JobError> {
        let every = watch::every(self.hosting.spec.config.hang_timeout);
        let mut look = Instant::now() + every;
        loop {
            if let Some(end) = self.end.take() {
                return self.finish(end);
            }
            let timer = self.next_timer();
            let until = timer.map_or(look, |(_, at)| at.min(look));
            watch::wait();
            // The driver holds a sender itself, so the queue is never closed.
            let notice = self.notices.recv_deadline(until);
            watch::begin("coordinating the job", None);
            match (notice, timer) {
                (Ok(notice), _) => self.take(notice),
                (Err(_), Some((timer, at))) if at <= until => self.fire(timer),
                (Err(_), _) => {}
            }
            if Instant::now() >= look && self.end.is_none() {
                match watch::stood_still(look, every) {
                    // Checked with the other timers: the process, or its machine, may have been
                    // suspended.
                    true => self.thaw(),
                    false => self.end = self.hangs().map(Err),
                }
                look = Instant::now() + every;
            }
        }
    }

    /// An operation that hangs and must be abandoned (SPEC 15.13). It may be a store call, work on
    /// a lane for a task, or a step that a task has been in since the job was asked to stop.
    fn hangs(&self) -> Option<JobError> {
        let limit = self.hosting.spec.config.hang_timeout;
        let lane = self.hosting.io_pool.hung().map(|hung| self.on_a_lane(hung));
        let lane = lane.or_else(|| self.store_client.hung().map(|hung| self.in_the_store(hung)));
        lane.or_else(|| {
            let (since, steps) = self.stopped.as_ref().filter(|(at, _)| at.elapsed() > limit)?;
            let mut tasks = self.running.as_ref()?.gauges.iter().zip(steps);
            let (task, _) = tasks.find(|(task, before)| task.is_still_in(**before))?;
            let waiting_for = format!("code of `{}`, called by a worker", task.name);
            Some(JobError::Hung { waiting_for, time: since.elapsed() })
        })
    }

    /// Restarts the time limit of every long operation.
    fn thaw(&mut self) {
        self.hosting.io_pool.thaw();
        self.store_client.thaw();
        let gauges = self.running.iter().flat_map(|running| &running.gauges);
        let steps = gauges.map(|task| task.steps()).collect();
        self.stopped = self.stopped.take().map(|_| (Instant::now(), steps));
    }

    fn on_a_lane(&self, hung: Hung) -> JobError {
        let task = hung.subtask.filter(|&subtask| subtask < self.subtasks());
        let name =
            task.map_or_else(|| "a task".to_owned(), |task| format!("`{}`", self.name(task)));
        JobError::Hung { waiting_for: format!("{name}, {}", hung.doing), time: hung.time }
    }

    fn in_the_store(&self, hung: Hung) -> JobError {
        let waiting_for = format!("the {}, {}", self.place, hung.doing);
        JobError::Hung { waiting_for, time: hung.time }
    }

    /// The timer to fire next, and when.
    pub(crate) fn next_timer(&self) -> Option<(Timer, Instant)> {
        self.timers.iter().min_by_key(|&(_, &at)| at).map(|(&timer, &at)| (timer, at))
    }

    /// Handles an event, and everything that follows from it at once.
    pub(crate) fn take(&mut self, notice: DriverEvent) {
        self.on_event(notice);
        self.after_event();
    }

    /// Fires a timer, and handles everything that follows from it at once.
    pub(crate) fn fire(&mut self, timer: Timer) {
        self.timers.remove(&timer);
        match self.postponed() {
            Some(later) if timer == Timer::Interval => _ = self.timers.insert(timer, later),
            _ => self.handle(Event::Fired(timer)),
        }
        self.after_event();
    }

    /// Follows every event: checkpoints that need no timer, the status, and replies to users.
    fn after_event(&mut self) {
        self.trigger_if_due();
        self.mind_the_end();
        self.publish();
        for (reply, answer) in self.answers.drain(..) {
            // The user may have gone.
            let _ = reply.send(answer);
        }
    }

    /// Ends what is left of the job, and reports its end to all.
    fn finish(mut self, end: Result<Ended, JobError>) -> Result<Outcome, JobError> {
        let limit = self.hosting.spec.config.hang_timeout;
        let tasks = self.end_tasks();
        let mut left = tasks.err();
        if let Some(hung) = self.hosting.io_pool.close(limit) {
            left = left.or_else(|| Some(self.on_a_lane(hung)));
        }
        // Work queued on a lane that hangs need not be waited for.
        let limit = if left.is_none() { limit } else { Duration::ZERO };
        if let Some(hung) = self.store_client.close(limit) {
            left = left.or_else(|| Some(self.in_the_store(hung)));
        }
        let end = match (end, left) {
            (Ok(_), Some(hung)) => Err(hung),
            (end, _) => end,
        };
        for waiter in self.waiters.drain(..) {
            // The user may have gone.
            let _ = waiter.reply.send(Err(CheckpointFailed::JobEnded));
        }
        self.board.over(end.as_ref().err().map(ToString::to_string));
        match &end {
            Ok(ended) => {
                tracing::info!(target: "snapline::job", job = self.job(), ?ended, "the job has ended");
            }
            Err(error) => {
                tracing::error!(target: "snapline::job", job = self.job(), %error, "the job has failed");
            }
        }
        let guarantee = self.hosting.spec.guarantee.clone();
        let over_before = self.over_before;
        Ok(Outcome { ended: end?, guarantee, status: self.board.read(), over_before })
    }

    /// Until when the next checkpoint has to wait although its interval has passed.
    fn postponed(&self) -> Option<Instant> {
        let (settings, now) = (&self.hosting.spec.config, self.hosting.platform.clock.now());
        // With one checkpoint after another, none would be the last (SPEC 4.9). When none is in
        // flight the next begins at once.
        if self.exhausted() && !self.gathered.is_empty() {
            return settings.interval.map(|interval| clock::after(now, interval));
        }
        self.last_end
            .map(|end| clock::after(end, settings.min_pause))
            .filter(|&earliest| earliest > now)
    }

    /// Whether every source of this attempt has ended.
    fn exhausted(&self) -> bool {
        self.ended == self.config.sources
    }

    /// Checkpoints that need no timer: to stop, to end a job whose input has ended, and on request.
    fn trigger_if_due(&mut self) {
        if self.machine.phase() != Phase::Running || self.machine.is_over() || self.end.is_some() {
            return;
        }
        let asked = self.waiters.iter().any(|waiter| waiter.checkpoint.is_none());
        if (self.machine.stopping().is_some() || self.exhausted() || asked)
            && self.gathered.is_empty()
        {
            self.handle(Event::Fired(Timer::Interval));
        }
    }

    fn on_event(&mut self, notice: DriverEvent) {
        match notice {
            DriverEvent::Report(message, beside) => {
                if message.attempt == self.machine.attempt() {
                    self.gather(message.report, beside);
                }
                self.handle(Event::Report(message));
            }
            DriverEvent::Failed(failure) => {
                let TaskFailure { attempt, operator, subtask, .. } = &*failure;
                self.spans.attempt.in_scope(|| {
                    tracing::warn!(
                        target: "snapline::job",
                        job = self.job(), operator, subtask, %attempt, %failure, "a task failed"
                    );
                });
                let attempt = failure.attempt;
                let text = failure.to_string();
                self.board.update(|status| status.last_failure = Some(text));
                if attempt == self.machine.attempt() {
                    self.failure = Some(failure);
                }
                self.handle(Event::TaskFailed { attempt });
            }
            DriverEvent::SourceEnded { attempt, subtask } => {
                if attempt == self.machine.attempt() {
                    self.ended.insert(subtask.index());
                }
            }
            DriverEvent::Stored { op, result, error } => self.stored(op, result, error),
            DriverEvent::Claimed(first, until) => self.handle(Event::Claimed { first, until }),
            DriverEvent::Recovered(decision, unreadable) => {
                self.store_tries = 0;
                for (checkpoint, error) in &unreadable {
                    tracing::error!(
                        target: "snapline::store",
                        job = self.job(), checkpoint = checkpoint.get(), %error, "a checkpoint cannot be read"
                    );
                }
                self.unreadable = unreadable;
                self.handle(Event::Recovered(decision));
            }
            DriverEvent::Unread(error) => {
                match self.retry_pause().filter(|_| !self.is_stopping()) {
                    Some(pause) => {
                        tracing::warn!(
                            target: "snapline::store",
                            job = self.job(), %error, "the store cannot be read; trying again"
                        );
                        self.store_client.recover(self.machine.term(), self.policy, pause);
                    }
                    None => self.end = Some(Err(JobError::Store(error))),
                }
            }
            DriverEvent::Concluded(attempt) => self.handle(Event::Concluded { attempt }),
            DriverEvent::UserCommand(command) => self.on_command(command),
        }
    }

    /// Keeps what arrived with a task's message.
    fn gather(&mut self, report: Report, beside: Beside) {
        match (report, beside) {
            (Report::Ack(ack), Beside::AckDetails(part)) => {
                if let Some(gathered) = self.gathered.get_mut(&ack.checkpoint()) {
                    gathered.parts.insert(ack.subtask(), *part);
                }
            }
            (Report::Decline { checkpoint, .. }, Beside::Cause(cause)) => {
                if let Some(gathered) = self.gathered.get_mut(&checkpoint) {
                    gathered.cause.get_or_insert(cause);
                }
            }
            _ => {}
        }
    }

    fn on_command(&mut self, command: UserCommand) {
        match command {
            UserCommand::Checkpoint(reply) => self.waiters.push(Waiter { checkpoint: None, reply }),
            UserCommand::Stop(stop) => {
                let gauges = self.running.iter().flat_map(|running| &running.gauges);
                self.stopped = Some((Instant::now(), gauges.map(|task| task.steps()).collect()));
                self.asked_to_stop(stop);
                self.handle(Event::Stop(stop));
            }
            UserCommand::Cancel => self.end = Some(self.cancelled()),
        }
    }

    pub(crate) fn handle(&mut self, event: Event) {
        if let Event::Fired(Timer::Timeout(checkpoint)) = event {
            self.timed_out(checkpoint);
        }
        let mut out = Out::new();
        let newest = self.machine.newest();
        let verdict = self.machine.handle(&self.config, event, &mut out);
        tracing::trace!(target: "snapline::machine", ?event, ?verdict, effects = ?out.as_slice());
        self.hosting.recorder.coordinator(self.machine.attempt(), || {
            What::coordinator(&event, verdict, out.as_slice())
        });
        if let (Event::Fired(Timer::Interval), Verdict::Ignored(why)) = (event, verdict) {
            tracing::debug!(
                target: "snapline::checkpoint",
                job = self.job(), ?why, "no checkpoint is triggered"
            );
        }
        self.note_progress(newest);
        self.carry_out(out);
        self.note_end();
    }

    /// Compares the checkpoints in flight with those before: which have begun, completed, or were
    /// aborted.
    fn note_progress(&mut self, newest: Option<CheckpointId>) {
        let under_way: BTreeMap<CheckpointId, IndexSet> = self.machine.under_way().collect();
        let completed = (self.machine.newest() != newest).then(|| self.machine.newest()).flatten();
        let ended: Vec<CheckpointId> =
            self.gathered.keys().copied().filter(|known| !under_way.contains_key(known)).collect();
        for checkpoint in ended {
            let result = match self.checkpoint_ended(checkpoint, completed == Some(checkpoint)) {
                Some(stats) if !stats.completed => {
                    let CheckpointStats { missing, cause, .. } = stats;
                    Err(CheckpointFailed::GivenUp { checkpoint, missing, cause })
                }
                _ => Ok(checkpoint),
            };
            let answered = |waiter: &mut Waiter| waiter.checkpoint == Some(checkpoint);
            let answers = self.waiters.extract_if(.., answered);
            self.answers.extend(answers.map(|waiter| (waiter.reply, result.clone())));
        }
        for (checkpoint, acked) in under_way {
            let begun = !self.gathered.contains_key(&checkpoint);
            let gathered = self.gathered.entry(checkpoint).or_default();
            gathered.acked = acked;
            if begun {
                gathered.triggered = Some(self.hosting.platform.clock.now());
                gathered.kind = Some(match self.machine.stopping() {
                    None => CheckpointKind::Periodic,
                    Some(Stop::Drain) => CheckpointKind::Drain,
                    Some(Stop::Suspend) => CheckpointKind::Suspend,
                });
                let attempt = self.machine.attempt();
                let (job, kind) = (&self.hosting.spec.name, gathered.kind);
                gathered.span = self.spans.checkpoint(job, checkpoint, attempt, kind);
                gathered.span.in_scope(|| {
                    let checkpoint = checkpoint.get();
                    tracing::debug!(
                        target: "snapline::checkpoint",
                        job, checkpoint, %attempt, ?kind, "triggered"
                    );
                });
                for waiter in self.waiters.iter_mut().filter(|waiter| waiter.checkpoint.is_none()) {
                    waiter.checkpoint = Some(checkpoint);
                }
            }
        }
    }

    fn note_end(&mut self) {
        if self.end.is_some() {
            return;
        }
        self.end = match self.machine.phase() {
            Phase::Claiming | Phase::Recovering | Phase::Running | Phase::Closing => None,
            Phase::Finished(kind) => Some(Ok(match kind {
                CheckpointKind::Periodic => Ended::Finished,
                CheckpointKind::Drain => Ended::Drained,
                // The input's end came first: there is nothing to resume (SPEC 7.4).
                CheckpointKind::Suspend if self.input_ended => Ended::Finished,
                CheckpointKind::Suspend => Ended::Suspended,
            })),
            Phase::FailedDataLoss => {
                Some(Err(JobError::DataLoss { checkpoint: self.machine.newest() }))
            }
            Phase::FailedRecovery(RecoveryError::Deposed { .. }) | Phase::Deposed => {
                Some(Err(JobError::Deposed))
            }
            Phase::FailedRecovery(error) => {
                let found = std::mem::take(&mut self.unreadable);
                Some(Err(JobError::Recovery { error, found }))
            }
        };
    }

    fn carry_out(&mut self, mut out: Out<Effect>) {
        for effect in out.drain() {
            match effect {
                Effect::Store(op) => self.store(op),
                Effect::Recover => self.recover(),
                Effect::Deploy { attempt, decision } => self.deploy(attempt, decision),
                Effect::Conclude { attempt } => match self.end_tasks() {
                    Ok(()) => {
                        self.store_client.conclude(attempt, Arc::clone(&self.hosting.io_pool))
                    }
                    Err(hung) => self.end = Some(Err(hung)),
                },
                Effect::Send(subtask, message) => {
                    if let Some(running) = &self.running {
                        let address = &running.addresses[subtask.index()];
                        let faults = self.hosting.platform.faults;
                        let address = match self.stale.get() {
                            Some((first, _)) if faults.is_active(Mutation::StaleHandle) => {
                                &first[subtask.index()]
                            }
                            _ => address,
                        };
                        match &self.hosting.stage {
                            Some(stage) => stage.post(subtask, address.clone(), message),
                            None => address.send(TaskEvent::Control(message)),
                        }
                    }
                }
                Effect::Arm(timer) => self.arm(timer),
                Effect::Disarm(timer) => _ = self.timers.remove(&timer),
            }
        }
    }

    fn arm(&mut self, timer: Timer) {
        if let Some((_, armed)) = self.stale.get() {
            let faults = self.hosting.platform.faults;
            let once = timer == Timer::Resend && faults.is_active(Mutation::TimerNotRearmed);
            let never = match timer {
                Timer::Timeout(_) => faults.is_active(Mutation::TimeoutForgotten),
                Timer::Resend => faults.is_active(Mutation::ResendForgotten),
                Timer::Interval => false,
            };
            if never || (once && armed.contains(&timer)) {
                return;
            }
            if once {
                armed.push(timer);
            }
        }
        let settings = &self.hosting.spec.config;
        let after = match timer {
            Timer::Interval => settings.interval,
            Timer::Timeout(_) => Some(settings.timeout),
            Timer::Resend => Some(RESEND),
        };
        match after.map(|after| clock::after(self.hosting.platform.clock.now(), after)) {
            Some(at) => _ = self.timers.insert(timer, at),
            None => _ = self.timers.remove(&timer),
        }
    }

    /// The job's name.
    pub(crate) fn job(&self) -> &str {
        &self.hosting.spec.name
    }

    /// Why the job is restarted, in words.
    pub(crate) fn cause(&self) -> String {
        match (&self.failure, &self.failing.checkpoint) {
            (Some(failure), _) => failure.to_string(),
            (None, cause) => {
                let missing = self.missing.join(", ");
                let cause = cause.as_ref().map(|cause| format!(": {}", cause.text));
                format!(
                    "too many checkpoints in a row failed; the last was missing {missing}{}",
                    cause.unwrap_or_default()
                )
            }
        }
    }

    /// Whether the user has requested the job's end.
    fn is_stopping(&self) -> bool {
        self.machine.stopping().is_some()
    }

    /// Ends the tasks.
    ///
    /// # Errors
    /// [`JobError::Hung`] if one does not end.
    pub(crate) fn end_tasks(&mut self) -> Result<(), JobError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let limit = self.hosting.spec.config.hang_timeout;
        let ended = running.end(limit);
        self.board.tasks_ended();
        self.spans.attempt = tracing::Span::none();
        ended.map_err(|waiting_for| JobError::Hung { waiting_for, time: limit })?;
        self.hosting.recorder.coordinator(self.machine.attempt(), || What::Ended {});
        self.stopped = None;
        Ok(())
    }

    fn deploy(&mut self, attempt: Attempt, decision: Decision) {
        let verdict = self.host.admit(attempt);
        self.hosting.recorder.coordinator(attempt, || What::Host { verdict });
        if !verdict.is_applied() {
            return;
        }
        self.ended = IndexSet::EMPTY;
        self.begins_again();
        let manifest = match decision {
            Decision::Fresh => None,
            Decision::Restore { permit, .. } => match self.restorable(permit.checkpoint()) {
                Ok(manifest) => Some(manifest),
                Err(error) => {
                    // A successor may have deleted it since the facts were read.
                    self.end = Some(Err(match self.is_deposed() {
                        true => JobError::Deposed,
                        false => error,
                    }));
                    return;
                }
            },
        };
        let restored = manifest.as_ref().map(|manifest| manifest.checkpoint);
        self.restored = restored;
        if let (1, Some(manifest), Decision::Restore { terminal: Some(_), .. }) =
            (attempt.number, &manifest, decision)
        {
            let suspended = manifest.kind == CheckpointKind::Suspend && !manifest.ended;
            self.was_over(manifest.checkpoint, suspended);
        }
        self.input_ended = manifest.as_ref().is_some_and(|manifest| manifest.ended);
        self.spans.deploys(&self.hosting.spec.name, attempt, restored);
        self.spans.attempt.in_scope(|| {
            let restored = restored.map(CheckpointId::get);
            tracing::info!(
                target: "snapline::job",
                job = self.job(), %attempt, restored, "starting the tasks"
            );
        });
        // A restored job keeps the key placement of its checkpoint; a new job has no keys yet (SPEC
        // 14.1).
        self.hash_seed = match &manifest {
            Some(manifest) => manifest.hash_seed,
            None => Some(self.drawn),
        };
        let seed = HashSeed::new(self.hash_seed);
        match deploy(&self.hosting, attempt, decision, manifest.as_ref(), seed) {
            Ok(running) => {
                self.board.hosts(running.gauges.clone());
                self.board.update(|status| {
                    status.attempt = Some(attempt);
                    status.restored_from = restored;
                    status.phase = JobPhase::Running;
                });
                if let Some((first, _)) = self.stale.get()
                    && first.is_empty()
                {
                    first.clone_from(&running.addresses);
                }
                self.running = Some(running);
            }
            Err(error) => self.end = Some(Err(JobError::Thread(error))),
        }
    }

    /// Whether the store has a later owner.
    pub(crate) fn is_deposed(&self) -> bool {
        let fence = asked("reading the fence", || self.hosting.store.fence());
        fence.is_ok_and(|fence| fence.admit(self.machine.term()).is_err())
    }

    /// The manifest of the checkpoint to restore, if it is of a job of this shape.
    fn restorable(&self, checkpoint: CheckpointId) -> Result<Manifest, JobError> {
        let read = asked("reading a manifest", || self.hosting.store.manifest(checkpoint));
        // Checked here too: this is a read of its own, and a store may check nothing (SPEC 8.7).
        let whole = read.and_then(|manifest| manifest.check_parts().map(|()| manifest));
        let manifest = whole.map_err(JobError::Store)?;
        match self.hosting.spec.differs_from(&manifest) {
            Some(what) => Err(JobError::Mismatch { checkpoint, what }),
            None => Ok(manifest),
        }
    }

    /// A subtask's name for people.
    pub(crate) fn name(&self, subtask: usize) -> String {
        // The topology's limit of 256 subtasks fits a u16.
        self.hosting.spec.topology.name(SubtaskId::new(subtask as u16))
    }

    /// The number of subtasks.
    pub(crate) const fn subtasks(&self) -> usize {
        self.config.subtasks
    }
}

/// The simulator's access to a driver that it runs itself.
#[cfg(feature = "sim")]
impl Driver {
    /// The next event that has arrived.
    pub(crate) fn next_notice(&self) -> Option<DriverEvent> {
        self.notices.try_recv().ok()
    }

    /// How the job ended, once it has; then the only step left is to finish.
    pub(crate) const fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Ends what is left of a job that has ended.
    pub(crate) fn conclude(mut self) -> Option<Result<Outcome, JobError>> {
        let end = self.end.take()?;
        Some(self.finish(end))
    }

    /// The machine, to inspect.
    pub(crate) const fn machine(&self) -> &Coordinator {
        &self.machine
    }

    /// The timers that are armed.
    pub(crate) fn armed(&self) -> impl Iterator<Item = (Timer, Instant)> + '_ {
        self.timers.iter().map(|(&timer, &at)| (timer, at))
    }
}
