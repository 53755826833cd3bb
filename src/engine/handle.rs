//! A running job, from outside.

use std::fmt;

use crossbeam_channel::RecvTimeoutError;
use snapline_protocol::coordinator::Stop;
use snapline_protocol::ids::CheckpointId;

use super::status::{JobStatus, StatusBoard};
use super::{Notice, Wish};
use crate::dataflow::{Guarantee, SettingWarning};
use crate::engine::failure::TaskFailure;
use crate::store::StoreError;
use crate::sync::thread;
use snapline_protocol::recovery::RecoveryError;

/// How often one who waits for a checkpoint looks whether the job is over.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// How a job ended that did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Its input had ended, and all of its output is committed.
    Finished,
    /// It was stopped with [`JobHandle::drain`]: what had been read is processed and committed.
    Drained,
    /// It was suspended: everything up to a checkpoint is committed, and the next run goes on behind it. A job whose input had ended by then
    /// has finished instead.
    Suspended,
    /// It was cancelled: nothing behind the last complete checkpoint counts.
    Cancelled,
}

/// What became of a job.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// What it promised about its output.
    pub guarantee: Guarantee,
    /// Its last state.
    pub status: JobStatus,
}

/// Why a job failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum JobError {
    /// A task failed, and the restart strategy allows no (further) restart.
    Failed(Box<TaskFailure>),
    /// Checkpoints failed, one after the other, and the restart strategy allows no (further) restart.
    Checkpoints {
        /// What the last of them was missing.
        missing: Vec<String>,
    },
    /// Nothing can be restored without your word.
    Recovery {
        /// What was decided.
        error: RecoveryError,
        /// What was found: each checkpoint that cannot be read, and why.
        found: Vec<(CheckpointId, StoreError)>,
    },
    /// An external system dropped output that was to be committed: it is lost (SPEC 6.5).
    DataLoss {
        /// Up to which checkpoint output is concerned.
        checkpoint: Option<CheckpointId>,
    },
    /// Another process took the store over: this one has ended and changed nothing since.
    Deposed,
    /// The checkpoint is of a job of another shape.
    Mismatch {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What differs, and what to do.
        what: String,
    },
    /// The store cannot be used.
    Store(StoreError),
    /// The operating system gave no thread.
    Thread(std::io::Error),
    /// Something did not come to an end for as long as [`crate::JobConfig::hang_timeout`] says. The job has ended without it. A thread
    /// cannot be ended from outside: the one that hangs is left as it is, until the process ends.
    Hung {
        /// Who hangs, and what was being done.
        waiting_for: String,
        /// For how long it was waited.
        time: std::time::Duration,
    },
    /// The coordinator's thread panicked: a defect of snapline.
    Panicked(String),
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => write!(f, "the job failed and is not restarted: {failure}"),
            Self::Checkpoints { missing } => write!(
                f,
                "too many checkpoints in a row failed and the job is not restarted; the last was missing {}",
                missing.join(", ")
            ),
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
                write!(f, "checkpoint {checkpoint} is of a job of another shape: {what}")
            }
            Self::Store(error) => write!(f, "{error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Hung { waiting_for, time } => write!(
                f,
                "waited {time:.1?} for {waiting_for}, in vain: the job has ended without it, and left its thread as it is. Find out what \
                 it waits for; `hang_timeout` says how long anything may take"
            ),
            Self::Panicked(what) => write!(f, "the coordinator {what}; this is a defect of snapline"),
        }
    }
}

impl std::error::Error for JobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Recovery { error, .. } => Some(error),
            Self::Store(error) => Some(error),
            Self::Thread(error) => Some(error),
            Self::Checkpoints { .. }
            | Self::DataLoss { .. }
            | Self::Deposed
            | Self::Mismatch { .. }
            | Self::Hung { .. }
            | Self::Panicked(_) => None,
        }
    }
}

/// Why a checkpoint that was asked for did not come to be.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CheckpointFailed {
    /// It was given up, or a newer one made it superfluous.
    GivenUp(CheckpointId),
    /// The job ended first.
    JobEnded,
}

impl fmt::Display for CheckpointFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivenUp(checkpoint) => write!(
                f,
                "checkpoint {checkpoint} was given up; the job's status says who had not acknowledged it"
            ),
            Self::JobEnded => f.write_str("the job ended before the checkpoint was complete"),
        }
    }
}

impl std::error::Error for CheckpointFailed {}

/// A job that runs on threads of its own. Dropping the handle lets the job run on.
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
    pub(crate) wishes: crossbeam_channel::Sender<Notice>,
    pub(crate) board: StatusBoard,
    pub(crate) guarantee: Guarantee,
    pub(crate) warnings: Vec<SettingWarning>,
    pub(crate) driver: thread::JoinHandle<Result<Outcome, JobError>>,
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notice")
    }
}

impl JobHandle {
    /// What the job is doing now.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        self.board.read()
    }

    /// What the job promises about its output.
    #[must_use]
    pub const fn guarantee(&self) -> &Guarantee {
        &self.guarantee
    }

    /// What there is to think about in the job's settings ([`crate::Job::warnings`]).
    #[must_use]
    pub fn warnings(&self) -> &[SettingWarning] {
        &self.warnings
    }

    /// Whether the job is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.driver.is_finished()
    }

    /// Serves a page about the job, until what this gives is dropped: what is late and why, checkpoints, records a second, restarts. It only
    /// shows; nobody can do anything to the job with it. The job does not wait for it, and does not notice if it falls over.
    ///
    /// It is a method of the handle, no setting of the job, because the address is only known when it is bound, and because a job that runs
    /// must not fail, or stop, over a port that is taken: that is for you to decide.
    ///
    /// ```
    /// # use snapline::connect::{Generator, MemorySink};
    /// # use snapline::{Dashboard, Dataflow, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (flow, sink) = (Dataflow::new("for-ever"), MemorySink::new());
    /// # flow.source("numbers", Generator::new(None, |number| number).rate(1_000)).sink("out", sink.clone());
    /// # let job = flow.build(JobConfig::new())?;
    /// let handle = job.spawn()?;
    /// let dashboard = handle.dashboard(Dashboard::new())?;
    /// println!("{}", dashboard.url()); // http://127.0.0.1:49152/ec3c0a.../
    /// # handle.cancel();
    /// # handle.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the address cannot be bound, or the operating system gives no thread or no randomness. The job runs on.
    #[cfg(feature = "dashboard")]
    pub fn dashboard(
        &self,
        dashboard: crate::Dashboard,
    ) -> std::io::Result<crate::DashboardServer> {
        dashboard.serve(&self.name, &self.guarantee, &self.warnings, self.board.clone())
    }

    /// Takes a checkpoint now, and waits until it is complete.
    ///
    /// # Errors
    /// [`CheckpointFailed`]: it was given up, or the job ended first.
    pub fn checkpoint(&self) -> Result<CheckpointId, CheckpointFailed> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.wish(Wish::Checkpoint(reply));
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                // A coordinator that hangs keeps what it would answer with.
                Err(RecvTimeoutError::Timeout) if !self.is_over() => {}
                Err(_) => return answer.try_recv().unwrap_or(Err(CheckpointFailed::JobEnded)),
            }
        }
    }

    /// Ends the input, processes what was read, commits everything, and ends the job. Returns at once; [`Self::wait`] waits.
    pub fn drain(&self) {
        self.wish(Wish::Stop(Stop::Drain));
    }

    /// Commits everything up to one last checkpoint and ends the job; the next run goes on behind it. Returns at once.
    pub fn suspend(&self) {
        self.wish(Wish::Stop(Stop::Suspend));
    }

    /// Ends the job as a crash would: nothing behind the last complete checkpoint counts. Returns at once.
    pub fn cancel(&self) {
        self.wish(Wish::Cancel);
    }

    fn wish(&self, wish: Wish) {
        // A job that is over grants no wish.
        let _ = self.wishes.send(Notice::Wish(wish));
    }

    /// Waits for the end of the job.
    ///
    /// # Errors
    /// [`JobError`]: why it failed.
    pub fn wait(self) -> Result<Outcome, JobError> {
        self.driver.join().unwrap_or_else(|payload| {
            Err(JobError::Panicked(super::failure::panicked(&*payload).to_string()))
        })
    }
}
