//! How the driver handles failures: which are restarted, what a stop waits for, and who is
//! notified.

use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant};

use snapline_protocol::coordinator::{Phase, Stop};
use snapline_protocol::ids::CheckpointId;

use crate::base::error::plain;
use crate::runtime::coordinator::Driver;
use crate::runtime::events::Cause;
use crate::runtime::failure::TaskFailure;
use crate::runtime::handle::{Ended, JobError};
use crate::runtime::status::{NextTry, RestartStats};

/// How often a finished job repeats what it waits for.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// What the driver remembers of failures.
#[derive(Default)]
pub(crate) struct Failing {
    /// The failure before the last, and the checkpoint that its attempt began with.
    before: Option<(Box<TaskFailure>, Option<CheckpointId>)>,
    /// Why the last aborted checkpoint was aborted, if a reason is known.
    pub(crate) checkpoint: Option<Cause>,
    /// Why the job was restarted last, in words; `None` once a checkpoint has completed since.
    unmended: Option<String>,
    /// Whether the job waits to be restarted.
    pausing: bool,
    /// Whether a restart was hurried since a stop was requested: the next failure ends the job.
    hurried: bool,
    /// When a stop was requested.
    asked: Option<Instant>,
    /// When only commits were left, and when that was last reported.
    closing: Option<(Instant, Instant)>,
    /// Whether the process reports on standard error.
    aloud: bool,
}

impl Failing {
    pub(crate) fn new(aloud: bool) -> Self {
        Self { aloud, ..Self::default() }
    }
}

/// Why a failed job is not restarted.
enum Hopeless {
    Permanent,
    Repeated,
}

impl Driver {
    /// Writes to standard error, in a process without a subscriber, whose user sees nothing else.
    pub(crate) fn say(&self, what: fmt::Arguments<'_>) {
        if self.failing.aloud && !tracing::dispatcher::has_been_set() {
            // On one line and without control characters: a cause may contain pieces of records and
            // file names.
            let plain = plain(&format!("job `{}`: {what}", self.job()));
            // A closed standard error cannot be helped.
            let _ = writeln!(std::io::stderr(), "snapline: {plain}");
        }
    }

    /// The first time because the job starts, later because it failed; then the restart strategy
    /// decides (SPEC 7, 15.4).
    pub(crate) fn recover(&mut self) {
        let now = self.hosting.platform.clock.now();
        if let Err(hung) = self.end_tasks() {
            // What its thread still does must not meet another attempt (SPEC 3.2).
            self.end = Some(Err(hung));
            return;
        }
        if self.host.attempt().is_none() {
            return self.restore_after(Duration::ZERO);
        }
        let cause = self.cause();
        let hopeless = self.hopeless().filter(|_| !self.hosting.spec.config.retry_anyway);
        let pause = self.restarts.next(now).filter(|_| hopeless.is_none());
        // A stop does not wait: it allows one immediate retry, and if that fails too the job ends
        // (SPEC 15.5).
        let stopping = self.machine.stopping().is_some() && !self.is_simulated();
        let (pause, tried) = match pause {
            Some(_) if stopping => {
                (Some(Duration::ZERO), std::mem::replace(&mut self.failing.hurried, true))
            }
            pause => (pause, false),
        };
        let Some(pause) = pause.filter(|_| !tried) else {
            // A sink may learn of a successor before the store does.
            let deposed = self.is_deposed();
            let failure = self.failure.take();
            self.end = Some(Err(match (failure, hopeless) {
                _ if deposed => JobError::Deposed,
                _ if tried => self.interrupted(cause),
                (Some(failure), Some(Hopeless::Repeated)) => JobError::Repeated(failure),
                (Some(failure), _) => JobError::Failed(failure),
                (None, _) => JobError::Checkpoints {
                    missing: std::mem::take(&mut self.missing),
                    cause: self.failing.checkpoint.take().map(|cause| cause.text),
                },
            }));
            return;
        };
        let (number, of) = self.restarts.number();
        let attempt = self.machine.attempt();
        tracing::warn!(
            target: "snapline::job",
            job = self.job(), %attempt, ?pause, number, of, cause, "restarting"
        );
        let date = self.hosting.platform.clock.date();
        let at = date.checked_add(pause).unwrap_or(date);
        let next = NextTry { at, pause, number, of, cause: cause.clone() };
        self.say(format_args!("{next}"));
        self.board.restarts(RestartStats { attempt, cause: cause.clone(), at: date, pause });
        self.board.update(|status| status.next_try = Some(next));
        self.failing.unmended = Some(cause);
        self.failing.pausing = true;
        self.restore_after(pause);
    }

    fn restore_after(&mut self, pause: Duration) {
        self.spans.recovers(&self.hosting.spec.name, pause);
        self.store_client.recover(self.machine.term(), self.policy, pause);
    }

    /// Whether no restart helps: the error is known to be permanent, or the same panic occurred at
    /// the same record before.
    fn hopeless(&mut self) -> Option<Hopeless> {
        let Some(failure) = &self.failure else {
            let permanent = self.failing.checkpoint.as_ref().is_some_and(|cause| cause.permanent);
            return permanent.then_some(Hopeless::Permanent);
        };
        let before = &self.failing.before;
        let repeated = before.as_ref().is_some_and(|(before, restored)| {
            *restored == self.restored && failure.is_that_of(before)
        });
        match () {
            () if failure.is_permanent() => Some(Hopeless::Permanent),
            () if repeated => Some(Hopeless::Repeated),
            () => None,
        }
    }

    /// The tasks of another attempt begin: the failure that ended the previous one is kept for
    /// comparison.
    pub(crate) fn begins_again(&mut self) {
        let failure = self.failure.take();
        self.failing.before = failure.map(|failure| (failure, self.restored));
        self.failing.pausing = false;
        self.board.update(|status| status.next_try = None);
    }

    /// A checkpoint has completed: earlier failures are resolved.
    pub(crate) fn completed(&mut self) {
        (self.failing.unmended, self.failing.checkpoint) = (None, None);
    }

    /// A checkpoint was aborted; the job continues, or is restarted because of it.
    pub(crate) fn given_up(&mut self, text: String, cause: Option<Cause>) {
        self.say(format_args!("{text}"));
        self.failing.checkpoint = cause;
        self.board.update(|status| status.last_failure = Some(text));
    }

    /// A checkpoint has timed out: the reason, as far as its tasks have reported.
    pub(crate) fn timed_out(&mut self, checkpoint: CheckpointId) {
        let timeout = self.hosting.spec.config.timeout;
        if let Some(gathered) = self.gathered.get_mut(&checkpoint) {
            let text = format!("it was not complete within {timeout:?} (`checkpoint_timeout`)");
            gathered.cause.get_or_insert(Cause::passing(text));
        }
    }

    /// A user stops the job.
    pub(crate) fn asked_to_stop(&mut self, stop: Stop) {
        let now = self.hosting.platform.clock.now();
        tracing::info!(target: "snapline::job", job = self.job(), ?stop, "asked to stop");
        self.failing.asked.get_or_insert(now);
        if self.failing.pausing && !self.failing.hurried && !self.is_simulated() {
            self.failing.hurried = true;
            self.say(format_args!("asked to stop: the job is restored at once, for the last time"));
            self.board.update(|status| {
                let date = self.hosting.platform.clock.date();
                status.next_try.iter_mut().for_each(|next| {
                    (next.at, next.pause) = (date, Duration::ZERO);
                });
            });
            self.store_client.hurry(self.machine.term(), self.policy);
        }
    }

    /// A user cancels the job. It ends without an error only if it is healthy.
    pub(crate) fn cancelled(&mut self) -> Result<Ended, JobError> {
        if let Some(cause) = self.failing.unmended.take() {
            return Err(self.interrupted(cause));
        }
        match self.unfinished() {
            Some(error) if self.failing.asked.is_some() => Err(error),
            _ => Ok(Ended::Cancelled),
        }
    }

    fn interrupted(&self, failure: String) -> JobError {
        JobError::Interrupted { failure, checkpoint: self.machine.newest() }
    }

    /// What a job whose last checkpoint is complete waits for: sinks that have not committed.
    fn unfinished(&self) -> Option<JobError> {
        let over = self.machine.is_over() && self.machine.phase() == Phase::Running;
        let (Some(checkpoint), true) = (self.machine.newest(), over) else { return None };
        let awaited = self.machine.awaited();
        let status = self.board.read();
        let sink = |place: usize| {
            let why = status.tasks.get(place).and_then(|task| task.commit_failure.clone());
            (self.name(place), why)
        };
        let sinks: Vec<_> = awaited.iter().map(sink).collect();
        (!sinks.is_empty()).then_some(JobError::Uncommitted { checkpoint, sinks })
    }

    /// Limits how long a stopped job waits for its sinks, and reports what it waits for.
    pub(crate) fn mind_the_end(&mut self) {
        if self.end.is_some() || self.is_simulated() {
            return;
        }
        if !self.machine.is_over() || self.machine.phase() != Phase::Running {
            self.failing.closing = None;
            return;
        }
        let now = self.hosting.platform.clock.now();
        let (since, said) = *self.failing.closing.get_or_insert((now, now));
        let since = self.failing.asked.map(|asked| since.max(asked));
        let late = |limit: Duration| since.is_some_and(|since| now.duration_since(since) >= limit);
        let late = self.hosting.spec.config.stop_timeout.is_some_and(late);
        if !late && now.duration_since(said) < SAY_AGAIN {
            return;
        }
        let Some(error) = self.unfinished() else { return };
        self.failing.closing.iter_mut().for_each(|closing| closing.1 = now);
        if late {
            self.end = Some(Err(error));
        } else {
            tracing::warn!(target: "snapline::job", job = self.job(), %error, "waiting for sinks");
            self.say(format_args!("waiting for sinks: {error}"));
        }
    }

    /// The job had ended before this run began; the flag says whether it was suspended.
    pub(crate) fn was_over(&mut self, checkpoint: CheckpointId, suspended: bool) {
        self.over_before = Some(checkpoint);
        let advice = match suspended {
            true => "it is suspended; to resume it, run it with `Resume::Suspended`",
            false => {
                "it has ended; to run it again, delete its checkpoints and its output, or choose other directories"
            }
        };
        tracing::warn!(
            target: "snapline::job",
            job = self.job(), checkpoint = checkpoint.get(), advice, "the job had already ended"
        );
        self.say(format_args!("already ended with checkpoint {checkpoint}: {advice}"));
    }

    fn is_simulated(&self) -> bool {
        self.hosting.stage.is_some()
    }
}
