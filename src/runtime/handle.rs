//! A running job, from outside.

use std::fmt;

use crossbeam_channel::RecvTimeoutError;
use snapline_protocol::coordinator::Stop;
use snapline_protocol::ids::CheckpointId;

use crate::base::sync::thread;
use crate::plan::guarantee::Guarantee;
use crate::plan::warnings::SettingWarning;
use crate::runtime::events::{DriverEvent, UserCommand};
use crate::runtime::failure::{FailedAt, TaskFailure};
use crate::runtime::status::{JobStatus, StatusBoard};
use crate::store::StoreError;
use snapline_protocol::recovery::RecoveryError;

/// How often a caller that waits for a checkpoint checks whether the job is over.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// How a job ended that did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Its input had ended, and all of its output is committed.
    Finished,
    /// It was stopped with [`JobHandle::drain`]: what had been read is processed and committed.
    Drained,
    /// It was suspended: everything up to a checkpoint is committed, and the next run resumes from
    /// it. A job whose input had ended by then has finished instead.
    Suspended,
    /// It was cancelled while healthy: nothing after the last complete checkpoint counts. A job
    /// that is cancelled while it fails ends with [`JobError::Interrupted`].
    Cancelled,
}

/// The outcome of a job.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// What it promised about its output.
    pub guarantee: Guarantee,
    /// Its last state.
    pub status: JobStatus,
    /// The checkpoint with which the job had ended before this run began: this run only finished
    /// pending commits, and read and wrote nothing else. `None` if it ran.
    pub over_before: Option<CheckpointId>,
}

/// Why a job failed.
#[non_exhaustive]
pub enum JobError {
    /// A task failed, and the restart strategy allows no (further) restart.
    Failed(Box<TaskFailure>),
    /// A task panicked twice with the same message at the same record: a restart would panic again.
    Repeated(Box<TaskFailure>),
    /// Checkpoints failed in a row, and the restart strategy allows no (further) restart, or the
    /// cause is known to be permanent.
    Checkpoints {
        /// What was missing from the last of them.
        missing: Vec<String>,
        /// Why the last of them was aborted, if a reason is known.
        cause: Option<String>,
    },
    /// The job was stopped or cancelled while it was failing: it had failed, and no checkpoint has
    /// completed since. Everything up to the last complete checkpoint counts, and the next run
    /// resumes from it.
    Interrupted {
        /// The failure, in words.
        failure: String,
        /// The last complete checkpoint.
        checkpoint: Option<CheckpointId>,
    },
    /// The job was stopped, and its sinks have not committed in time
    /// ([`crate::JobConfig::stop_timeout`]), or it was cancelled meanwhile. The checkpoint is
    /// complete and holds their output: the next run commits it.
    Uncommitted {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The sinks' subtasks that have not committed, each with its reason if known.
        sinks: Vec<(String, Option<String>)>,
    },
    /// Nothing can be restored without the user's permission.
    Recovery {
        /// What was decided.
        error: RecoveryError,
        /// What was found: each checkpoint that cannot be read, and why.
        found: Vec<(CheckpointId, StoreError)>,
    },
    /// An external system dropped output that was to be committed: it is lost (SPEC 6.5).
    DataLoss {
        /// The checkpoint up to which output is affected.
        checkpoint: Option<CheckpointId>,
    },
    /// Another process took the store over: this one has ended and changed nothing since.
    Deposed,
    /// The checkpoint was taken by an incompatible job.
    Mismatch {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What differs, and how to proceed.
        what: String,
    },
    /// The store cannot be used.
    Store(StoreError),
    /// The operating system could not start a thread.
    Thread(std::io::Error),
    /// An operation did not end within [`crate::JobConfig::hang_timeout`]. The job has ended
    /// without it. A thread cannot be ended from outside: the one that hangs is left until the
    /// process ends.
    Hung {
        /// The thread that hangs, and what it was doing.
        waiting_for: String,
        /// How long the job waited for it.
        time: std::time::Duration,
    },
    /// The coordinator's thread panicked: a defect of snapline.
    Panicked(String),
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => write!(f, "the job failed and is not restarted: {failure}"),
            Self::Repeated(failure) => {
                write!(f, "the job failed and is not restarted, because it panicked twice with the \
                    same message on the same records: {failure}")?;
                if let Some(FailedAt { input, after, among, .. }) = failure.at {
                    let (first, last) = (after + 1, after + among.max(1));
                    f.write_str(" (")?;
                    match first == last {
                        true => write!(f, "record {first}")?,
                        false => write!(f, "one of records {first} to {last}")?,
                    }
                    input.map_or(Ok(()), |input| write!(f, " of input {input}"))?;
                    f.write_str(" since the job was restored)")?;
                }
                f.write_str(". Fix: correct the code, or let it skip such records; `retry_anyway` \
                    restarts anyway")
            }
            Self::Checkpoints { missing, cause } => {
                write!(
                    f,
                    "too many checkpoints in a row failed and the job is not restarted; the last was missing {}",
                    missing.join(", ")
                )?;
                cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Self::Interrupted { failure, checkpoint } => {
                write!(f, "the job was stopped while it was failing: {failure}")?;
                match checkpoint {
                    Some(checkpoint) => {
                        write!(f, ". Nothing up to checkpoint {checkpoint} is lost; run it again \
                            to resume from there")
                    }
                    None => f.write_str(". No checkpoint was complete; run it again to start from \
                        the beginning"),
                }
            }
            Self::Uncommitted { checkpoint, sinks } => {
                write!(f, "checkpoint {checkpoint} is complete, and its output is not committed by ")?;
                for (number, (sink, why)) in sinks.iter().enumerate() {
                    f.write_str(if number == 0 { "" } else { "; " })?;
                    write!(f, "{sink}")?;
                    why.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))?;
                }
                f.write_str(". Nothing is lost; run the job again to commit it (`stop_timeout` \
                    limits how long a stop waits)")
            }
            Self::Recovery { error, found } => {
                write!(f, "the job cannot be restored: {error}")?;
                for (checkpoint, error) in found {
                    write!(f, "; checkpoint {checkpoint}: {error}")?;
                }
                Ok(())
            }
            Self::DataLoss { checkpoint } => {
                f.write_str("output that a completed checkpoint holds is lost: the external system dropped its transaction")?;
                match checkpoint {
                    Some(checkpoint) => write!(f, " (up to checkpoint {checkpoint})"),
                    None => Ok(()),
                }
            }
            Self::Deposed => f.write_str(
                "another process took over the job's store; this one has stopped and changes nothing any more",
            ),
            Self::Mismatch { checkpoint, what } => {
                write!(f, "checkpoint {checkpoint} was taken by an incompatible job: {what}")
            }
            Self::Store(error) => write!(f, "{error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Hung { waiting_for, time } => write!(
                f,
                "waited {time:.1?} for {waiting_for}: the job has ended without it and left its \
                 thread running; find out what it waits for (`hang_timeout` limits the wait)"
            ),
            Self::Panicked(what) => write!(f, "the coordinator {what}; this is a defect of snapline"),
        }
    }
}

snapline_protocol::error_in_words!(JobError);

/// Why a requested checkpoint did not complete.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointFailed {
    /// It was aborted, or superseded by a newer one.
    GivenUp {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The subtasks that had not acknowledged it.
        missing: Vec<String>,
        /// The reason, in words, if one is known.
        cause: Option<String>,
    },
    /// The job ended first.
    JobEnded,
}

impl fmt::Display for CheckpointFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivenUp { checkpoint, missing, cause } => {
                write!(f, "checkpoint {checkpoint} was given up")?;
                if !missing.is_empty() {
                    write!(f, ", missing {}", missing.join(", "))?;
                }
                cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Self::JobEnded => f.write_str("the job ended before the checkpoint was complete"),
        }
    }
}

snapline_protocol::error_in_words!(CheckpointFailed);

/// A job that runs on threads of its own. Dropping the handle lets the job run on.
///
/// [`Self::wait`] and [`Self::checkpoint`] block the thread that calls them. In async code call
/// them where blocking is allowed: with tokio `tokio::task::spawn_blocking(move || handle.wait())`,
/// and for checkpoints the handle in an `Arc`, a clone of which is moved into `spawn_blocking`.
/// Everything else returns at once: [`Self::status`], [`Self::is_over`], [`Self::suspend`],
/// [`Self::drain`] and [`Self::cancel`] may be called on a thread of the async runtime.
///
/// ```
/// # use snapline::connect::{Generator, MemorySink};
/// # use snapline::{Dataflow, Ended, JobConfig};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (flow, sink) = (Dataflow::new("for-ever"), MemorySink::new());
/// flow.source("numbers", Generator::new(None, |number| number).rate(1_000)).sink("out", sink.clone());
/// let handle = flow.build(JobConfig::new())?.spawn()?;
///
/// let checkpoint = handle.checkpoint()?;
/// assert!(handle.status().newest_checkpoint >= Some(checkpoint));
/// handle.suspend();
/// assert_eq!(handle.wait()?.ended, Ended::Suspended);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JobHandle {
    #[cfg(any(feature = "dashboard", feature = "prometheus"))]
    pub(crate) name: String,
    pub(crate) wishes: crossbeam_channel::Sender<DriverEvent>,
    pub(crate) board: StatusBoard,
    pub(crate) guarantee: Guarantee,
    pub(crate) warnings: Vec<SettingWarning>,
    pub(crate) driver: thread::JoinHandle<Result<Outcome, JobError>>,
}

impl fmt::Debug for DriverEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DriverEvent")
    }
}

impl JobHandle {
    /// The job's status now.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        self.board.read()
    }

    /// The guarantee of the job's output.
    #[must_use]
    pub const fn guarantee(&self) -> &Guarantee {
        &self.guarantee
    }

    /// Doubtful settings of the job ([`crate::Job::warnings`]).
    #[must_use]
    pub fn warnings(&self) -> &[SettingWarning] {
        &self.warnings
    }

    /// Whether the job is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.driver.is_finished()
    }

    /// Takes a checkpoint now, and waits until it is complete. Blocks: see [`JobHandle`] for async
    /// code.
    ///
    /// # Errors
    /// [`CheckpointFailed`]: it was aborted, or the job ended first.
    pub fn checkpoint(&self) -> Result<CheckpointId, CheckpointFailed> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.command(UserCommand::Checkpoint(reply));
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                // A coordinator that hangs keeps the sender of the reply.
                Err(RecvTimeoutError::Timeout) if !self.is_over() => {}
                Err(_) => return answer.try_recv().unwrap_or(Err(CheckpointFailed::JobEnded)),
            }
        }
    }

    /// Ends the input, processes what was read, commits everything, and ends the job. Returns at
    /// once; [`Self::wait`] waits.
    pub fn drain(&self) {
        self.command(UserCommand::Stop(Stop::Drain));
    }

    /// Commits everything up to one last checkpoint and ends the job; the next run resumes from it.
    /// Returns at once.
    pub fn suspend(&self) {
        self.command(UserCommand::Stop(Stop::Suspend));
    }

    /// Ends the job as a crash would: nothing after the last complete checkpoint counts. Returns at
    /// once. If the job was failing it ends with [`JobError::Interrupted`].
    pub fn cancel(&self) {
        self.command(UserCommand::Cancel);
    }

    fn command(&self, command: UserCommand) {
        // A job that is over ignores commands.
        let _ = self.wishes.send(DriverEvent::UserCommand(command));
    }

    /// Waits for the end of the job. Blocks: see [`JobHandle`] for async code.
    ///
    /// # Errors
    /// [`JobError`]: why it failed.
    pub fn wait(self) -> Result<Outcome, JobError> {
        self.driver.join().unwrap_or_else(|payload| {
            Err(JobError::Panicked(crate::base::panic::panicked(&*payload).to_string()))
        })
    }
}
