//! The contracts of sources, sinks and look-ups, and what connectors share.
//!
//! | module | what |
//! |---|---|
//! | [`error`] | the errors of files, lines and memory |
//! | [`json`] | JSON as a stream of records reads and writes it (feature `json`) |
//! | [`lookup`] | look-ups in another system |
//! | [`testing`] | permission to commit, for tests of committers |
//! | [`text`] | marks at the beginning of a text |

mod classify;
pub mod error;
#[cfg(feature = "json")]
pub mod json;
pub mod lookup;
pub mod testing;
pub mod text;

pub use classify::{Classify, ConnectorError, classify_as};
pub use error::ConnectError;
pub use snapline_protocol::committer::CommitOutcome;
pub use snapline_protocol::ids::{Attempt, TxnId};
pub use snapline_protocol::message::CommitGrant;

use std::error::Error;

use crate::base::clock::Clock;
use crate::base::error::BoxError;
use crate::state::VerifyState;

/// Takes records. Sources and operators emit into it; a loop over it is compiled as one.
pub trait Collect<T> {
    /// Takes one record.
    fn push(&mut self, record: T);

    /// Reports an error of users' code: the task fails after its current batch, and nothing of the
    /// batch counts.
    fn fail(&mut self, error: BoxError);
}

impl<T> Collect<T> for Vec<T> {
    fn push(&mut self, record: T) {
        Self::push(self, record);
    }

    /// # Panics
    /// Always, with the error: a vector cannot report it.
    fn fail(&mut self, error: BoxError) {
        panic!("{error}");
    }
}

/// The subtask for which something is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OpenContext {
    /// The job's name.
    pub job: String,
    /// The operator's name.
    pub operator: String,
    /// The index of the operator's subtask, from 0.
    pub index: usize,
    /// The number of the operator's subtasks.
    pub parallelism: usize,
    /// The attempt that opens it.
    pub attempt: Attempt,
    /// The job's clock: a simulation may decide the time.
    pub clock: Clock,
    /// The staged values that are read back.
    pub verify: VerifyState,
}

impl OpenContext {
    /// The context of subtask `index` of `parallelism`.
    ///
    /// # Panics
    /// If `index` is not below `parallelism`: there is no such subtask.
    #[must_use]
    pub fn new(
        job: impl Into<String>,
        operator: impl Into<String>,
        index: usize,
        parallelism: usize,
        attempt: Attempt,
    ) -> Self {
        assert!(index < parallelism, "subtask {index} must be below the parallelism {parallelism}");
        let (job, operator, clock) = (job.into(), operator.into(), Clock::default());
        Self { job, operator, index, parallelism, attempt, clock, verify: VerifyState::default() }
    }
}

/// A replayable source: from any position it gives the same records in the same order (SPEC 2.12).
/// A value of this trait describes the source; each subtask opens a reader of its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source",
    note = "`snapline::connect` has sources (`FileSource`, `MemorySource`, `Generator`, ...); your own source implements `Source` and `Clone`"
)]
pub trait Source: Clone + Send + 'static {
    /// The record type.
    type Record: Send + 'static;
    /// The position of a reader: its state. Written into every checkpoint.
    type Position: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + 'static;
    /// The reader type.
    type Reader: SourceReader<Record = Self::Record, Position = Self::Position>;

    /// Opens a reader after `position`, or at the beginning.
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn open(
        &self,
        context: &OpenContext,
        position: Option<Self::Position>,
    ) -> Result<Self::Reader, BoxError>;

    /// Its own errors among others, which say whether a retry can help (SPEC 15.4). The default
    /// knows none: a job is restarted after any of its errors, unless it is
    /// [`Permanent`](crate::base::error::Permanent). A source that wraps another asks that one.
    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        let _ = error;
        None
    }

    /// True if the same position always gives the same records again; the job's guarantee is
    /// computed from it. A source that returns `false` makes the job at most once.
    fn is_replayable(&self) -> bool {
        true
    }
}

/// Reads for one subtask.
pub trait SourceReader: Send + 'static {
    /// The record type.
    type Record;
    /// The position type.
    type Position;

    /// Reads about `limit` records (never many more) and pushes them. Must not block: if nothing is
    /// there now it says so, and is called again.
    ///
    /// The operators after the source in its task run inside `push`: users' code may take its time
    /// there, and may panic. So hold no shared lock during `push`. A panic would poison it, and the
    /// next attempt's reader, which shares it, would fail with that instead of the real failure.
    /// Take out the records, release the lock, then push.
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn read<C: Collect<Self::Record>>(
        &mut self,
        limit: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError>;

    /// The position after the last record that was pushed.
    fn position(&self) -> Self::Position;

    /// The number of records that it could not read and has skipped: all up to its position. For
    /// the status of the task.
    fn malformed(&self) -> u64 {
        0
    }

    /// The number of bytes this reader has read, for the job's status; asked after each read.
    /// `None`, the default, if it does not count.
    fn bytes_read(&self) -> Option<u64> {
        None
    }

    /// Notifies the reader of one of its positions in a complete checkpoint: no checkpoint that the
    /// job keeps begins before it. Earlier input need not be kept for this reader (SPEC 15.11).
    /// Called now and then, or never.
    fn kept_from(&mut self, position: &Self::Position) {
        let _ = position;
    }
}

/// The result of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There may be more.
    More,
    /// Nothing is there now; read again after this long.
    Wait(std::time::Duration),
    /// There will never be more.
    End,
}

/// How a sink makes its records visible, and the effect on the job's guarantee.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Delivery {
    /// In transactions: pre-committed with the checkpoint, committed when it is complete.
    TwoPhase,
    /// By idempotent writes: writing a record twice has the effect of once. Readers may see it
    /// early.
    Idempotent,
    /// As records come: after a failure they appear again.
    AtLeastOnce,
}

/// A sink that writes in transactions (SPEC 6). A value of this trait describes the sink; each
/// subtask opens a writer and a committer.
///
/// The writer lives on the worker thread and never waits for the outside. The committer does all
/// that may take time, on another thread, one call at a time and in the order of the requests.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a sink",
    note = "`snapline::connect` has sinks (`FileSink`, `Stdout`, `ForEach`, ...); your own sink implements `TwoPhaseSink`, or `Upsert` in `Idempotent`"
)]
pub trait TwoPhaseSink: Clone + Send + 'static {
    /// The record type.
    type Record: Send + 'static;
    /// The name of a closed transaction. It suffices to prepare, commit or roll back the
    /// transaction, in any process (SPEC 6.4). It is written into checkpoints.
    type Committable: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + 'static;
    /// The writer type.
    type Writer: SinkWriter<Record = Self::Record, Committable = Self::Committable>;
    /// The committer type.
    type Committer: SinkCommitter<Committable = Self::Committable>;

    /// Opens one subtask's writer and committer. The committer is asked to fence off earlier
    /// attempts before the writer writes.
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn open(&self, context: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError>;

    /// Its own errors among others: as [`Source::classify`].
    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        let _ = error;
        None
    }

    /// Its effect on the job's guarantee.
    fn delivery(&self) -> Delivery {
        Delivery::TwoPhase
    }

    /// How long the external system keeps a transaction, from its begin, before it drops it on its
    /// own (SPEC 2.10), like Kafka's `transaction.timeout.ms`. A transaction that is dropped
    /// between the completion of its checkpoint and its commit is lost. So a job whose checkpoints
    /// and restarts may take longer gets a warning (`snapline::Job::warnings`). `None`, the default:
    /// it keeps them forever, as the targets of all sinks of this crate do.
    ///
    /// ```
    /// use std::time::Duration;
    /// use snapline::connect::{FileSink, Generator, OpenContext, TwoPhaseSink};
    /// use snapline::{BoxError, Dataflow, JobConfig};
    ///
    /// /// Files on a volume from which everything is removed that is an hour old.
    /// #[derive(Clone)]
    /// struct Scratch(FileSink<u64>);
    ///
    /// impl TwoPhaseSink for Scratch {
    ///     type Record = u64;
    ///     type Committable = <FileSink<u64> as TwoPhaseSink>::Committable;
    ///     type Writer = <FileSink<u64> as TwoPhaseSink>::Writer;
    ///     type Committer = <FileSink<u64> as TwoPhaseSink>::Committer;
    ///
    ///     fn open(&self, context: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
    ///         self.0.open(context)
    ///     }
    ///
    ///     fn transaction_timeout(&self) -> Option<Duration> {
    ///         Some(Duration::from_secs(3600))
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = |minutes: u64| {
    ///     let flow = Dataflow::new("numbers");
    ///     let sink = Scratch(FileSink::new("/scratch/numbers"));
    ///     flow.source("numbers", Generator::new(9, |number| number)).sink("scratch", sink);
    ///     flow.build(JobConfig::new().checkpoint_interval(Duration::from_secs(60 * minutes)))
    /// };
    /// assert!(job(5)?.warnings().is_empty());
    /// let warning = job(55)?.warnings()[0].to_string();
    /// assert!(warning.contains("sink `scratch` drops transactions after 3600s, but one may have to live for"), "{warning}");
    /// # Ok(())
    /// # }
    /// ```
    fn transaction_timeout(&self) -> Option<std::time::Duration> {
        None
    }
}

/// Writes one subtask's records into its open transaction.
pub trait SinkWriter: Send + 'static {
    /// The record type.
    type Record;
    /// The name of a closed transaction.
    type Committable;

    /// Takes the records of a batch into the open transaction, leaving the batch empty.
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn write(&mut self, records: &mut Vec<Self::Record>) -> Result<(), BoxError>;

    /// Ends the open transaction under this name and begins the next. Must be cheap:
    /// [`SinkCommitter::prepare`] does the slow work. Called at every barrier, also when nothing
    /// was written (SPEC 6.2).
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn close(&mut self, txn: TxnId) -> Result<Self::Committable, BoxError>;

    /// The number of bytes this writer has taken, in their external form, for the job's status;
    /// asked after each batch. `None`, the default, if it does not count.
    fn bytes_written(&self) -> Option<u64> {
        None
    }
}

/// Prepares, commits and rolls back one subtask's transactions. Every method may block, and may be
/// called again.
pub trait SinkCommitter: Send + 'static {
    /// The name of a closed transaction.
    type Committable;

    /// Fences off the writers of earlier attempts, so that they prepare and commit nothing more.
    /// Lists the transactions that they prepared for this subtask and did not commit (SPEC 2.8,
    /// 6.4).
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, Self::Committable)>, BoxError>;

    /// The newest transaction that this subtask is known to have committed, in any attempt; `None`
    /// if there is none, or none is recorded. Asked once, after the fence. If it is newer than the
    /// restored checkpoint, newer checkpoints are lost, and the job fails rather than write their
    /// output twice (SPEC 7.7).
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn committed(&mut self) -> Result<Option<TxnId>, BoxError> {
        Ok(None)
    }

    /// Why the last commit returned [`CommitOutcome::Retry`] or [`CommitOutcome::Unknown`], in
    /// words. It is for the job's status, and for the error of a stop that waits for the commit in
    /// vain. `None`, the default: no reason is given.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Flushes and prepares a closed transaction: when it returns, the transaction can be committed
    /// by any process, whatever crashes (SPEC 6.2).
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn prepare(&mut self, txn: TxnId, committable: &Self::Committable) -> Result<(), BoxError>;

    /// Commits the prepared transaction that `grant` names: its records become visible. The grant
    /// shows that its checkpoint is complete, and is good for this call. Idempotent; must report
    /// honestly if the outcome is unknown (SPEC 6.6). An error is a failure of the sink itself and fails the
    /// task.
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn commit(
        &mut self,
        grant: CommitGrant,
        committable: &Self::Committable,
    ) -> Result<CommitOutcome, BoxError>;

    /// Rolls back a transaction that may have been prepared: one that is not there counts as rolled
    /// back.
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn roll_back(&mut self, txn: TxnId, committable: &Self::Committable) -> Result<(), BoxError>;
}
