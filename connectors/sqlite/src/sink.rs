//! The sink. SQLite has no transactions that outlive a process, so a transaction is prepared by
//! staging its records in the database itself.
//!
//! | staged | in the ledger | is |
//! |---|---|---|
//! | yes | no | prepared: the commit applies its records, notes it and removes them, in one SQLite transaction |
//! | no | yes | committed |
//! | no | no | lost, if a checkpoint holds it |
//!
//! Commits of a subtask go in order (SPEC 6.6), so everything up to the newest transaction in the
//! ledger counts as in it. Each SQLite transaction checks the fence first, so that no attempt does
//! anything after a later one's fence.
//!
//! Longer than 500 lines: a third is what users read and can choose.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Transaction;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, TxnId};

use super::database::{Database, PATIENCE, Piece, Within};
use crate::SqliteError;
use snapline_core::base::error::BoxError;
use snapline_core::base::sync::{Arc, Mutex, lock};
use snapline_core::base::watch;
use snapline_core::connect::{
    CommitGrant, ConnectError, ConnectorError, OpenContext, SinkCommitter, SinkWriter,
    TwoPhaseSink, classify_as,
};
use snapline_core::state::codec::{self, read_back};
use snapline_core::state::{Checks, StateError};

/// The approximate length of a piece of a transaction.
const PIECE: usize = 1 << 20;

/// The bytes that may be written between two checkpoints, by default.
const MOST_BYTES: usize = 256 << 20;

/// Writes to an SQLite database, exactly once: the records' effects and the completion of their
/// checkpoint become visible in one SQLite transaction. A function applies each record.
///
/// ```
/// use snapline::connect::SqliteSink;
/// let totals = SqliteSink::new("shop.db", |tx, (customer, total): &(String, i64)| {
///     let sql = "INSERT INTO totals VALUES (?1, ?2)
///         ON CONFLICT (customer) DO UPDATE SET total = excluded.total";
///     tx.prepare_cached(sql)?.execute((customer, total)).map(drop)
/// })
/// .setup("CREATE TABLE IF NOT EXISTS totals (customer TEXT PRIMARY KEY, total INTEGER NOT NULL)")
/// .expects("SELECT customer, total FROM totals");
/// # let _ = totals;
/// ```
///
/// Records are kept in memory as serde writes them ([`Self::most_bytes`]), and staged in the
/// database at a checkpoint. They are applied when it is complete, in the order in which they were
/// written. Those of other subtasks come between whole transactions. `snapline_ledger` records
/// which checkpoint of each subtask the tables hold.
///
/// | failure | effect |
/// |---|---|
/// | process or power, at any time | nothing is lost, nothing is applied twice |
/// | the database is held by another connection, or the disk is full: while staging | the task fails, and its checkpoint is taken again |
/// | the same, while committing | the commit is retried until it succeeds |
/// | the file is not an SQLite database, a table is missing ([`Self::expects`]) | the job's tasks fail to open |
/// | the function fails for a record | the task fails; [`Self::set_aside`] |
/// | a float is NaN | SQLite has none and stores `NULL`; a column that is `NOT NULL` refuses it, and the function can |
/// | a constraint that is checked at the end of a transaction (`DEFERRABLE INITIALLY DEFERRED`) does not hold | the task fails, and meets it again |
/// | the file is removed, or replaced by another or an older copy | the job fails when it is restored, also if no output was lost (SPEC 6.5): [`Self::accept_other_database`] |
///
/// No SQLite transaction is open between two calls. Staged records stay until they are committed or
/// rolled back, however long that takes: the sink has no
/// [`transaction_timeout`](TwoPhaseSink::transaction_timeout). ([`Self::busy_timeout`] bounds how
/// long one call waits for the database.)
///
/// An operator's name belongs to one job in a database. The file must be on a local file system.
pub struct SqliteSink<T, F> {
    path: PathBuf,
    apply: F,
    setup: Option<String>,
    expects: Vec<String>,
    patience: Duration,
    wal: bool,
    set_aside: bool,
    accept_other: bool,
    most_bytes: usize,
    /// Subtasks of this process wait for each other here: SQLite itself would only poll.
    gate: Arc<Mutex<()>>,
    takes: PhantomData<fn(T)>,
}

impl<T, F: Clone> Clone for SqliteSink<T, F> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            apply: self.apply.clone(),
            setup: self.setup.clone(),
            expects: self.expects.clone(),
            gate: Arc::clone(&self.gate),
            ..*self
        }
    }
}

impl<T, F> fmt::Debug for SqliteSink<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSink").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<T, F> SqliteSink<T, F>
where
    F: Fn(&Transaction<'_>, &T) -> rusqlite::Result<()>,
{
    /// A sink that writes to the database at `path`, which is made if missing. `apply` applies a
    /// record; it must neither commit nor roll back.
    pub fn new(path: impl Into<PathBuf>, apply: F) -> Self {
        Self {
            path: path.into(),
            apply,
            setup: None,
            expects: Vec::new(),
            patience: PATIENCE,
            wal: true,
            set_aside: false,
            accept_other: false,
            most_bytes: MOST_BYTES,
            gate: Arc::default(),
            takes: PhantomData,
        }
    }
}

impl<T, F> SqliteSink<T, F> {
    /// Statements that are run, in one transaction, each time a subtask starts, such as `CREATE
    /// TABLE IF NOT EXISTS`.
    #[must_use]
    pub fn setup(self, statements: impl Into<String>) -> Self {
        Self { setup: Some(statements.into()), ..self }
    }

    /// A statement that must fit the database when the job starts; it is not run. So a missing
    /// table is reported before there is a record for it.
    #[must_use]
    pub fn expects(mut self, statement: impl Into<String>) -> Self {
        self.expects.push(statement.into());
        self
    }

    /// How long to wait for a database that another connection holds; 5 s by default.
    #[must_use]
    pub fn busy_timeout(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Leaves the journal as it is. By default the database is set to a write-ahead log, with which
    /// readers and the sink do not wait for each other.
    #[must_use]
    pub fn keep_journal_mode(self) -> Self {
        Self { wal: false, ..self }
    }

    /// Sets aside records for which `apply` fails, in the table `snapline_refused`, with the
    /// reason, and continues. By default the task fails, and meets the same record until the table
    /// or the function has been corrected.
    #[must_use]
    pub fn set_aside(self) -> Self {
        Self { set_aside: true, ..self }
    }

    /// Restores the job though its checkpoint was committed to another database than this one,
    /// which may be new, or an older copy. Output that the checkpoint records as committed to the
    /// other database counts as committed; if it was not, it is lost. It is needed only until the
    /// next checkpoint.
    #[must_use]
    pub fn accept_other_database(self) -> Self {
        Self { accept_other: true, ..self }
    }

    /// The number of bytes a subtask may write between two checkpoints; 256 MiB by default. One
    /// more fails the task.
    #[must_use]
    pub fn most_bytes(self, bytes: usize) -> Self {
        Self { most_bytes: bytes, ..self }
    }
}

impl<T, F> TwoPhaseSink for SqliteSink<T, F>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    F: Fn(&Transaction<'_>, &T) -> rusqlite::Result<()> + Clone + Send + 'static,
{
    type Record = T;
    type Committable = SqliteCommittable;
    type Writer = SqliteWriter<T>;
    type Committer = SqliteCommitter<T, F>;

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        classify_as::<SqliteError>(error)
    }

    fn open(
        &self,
        context: &OpenContext,
    ) -> Result<(SqliteWriter<T>, SqliteCommitter<T, F>), BoxError> {
        let gate = lock(&self.gate);
        let mut database = Database::open(&self.path, context, self.patience, self.wal)?;
        if let Some(setup) = &self.setup {
            database.set_up(setup)?;
        }
        for statement in &self.expects {
            database.check(statement)?;
        }
        let newest = database.newest()?;
        drop(gate);
        let closed = Arc::new(Mutex::new(BTreeMap::new()));
        let writer = SqliteWriter {
            operator: context.operator.clone(),
            index: context.index,
            most_bytes: self.most_bytes,
            pieces: Vec::new(),
            gathered: 0,
            written: 0,
            place: database.place.clone(),
            newest,
            closed: Arc::clone(&closed),
            codec: codec::Writer::default(),
            takes: PhantomData,
        };
        let committer = SqliteCommitter {
            database,
            apply: self.apply.clone(),
            set_aside: self.set_aside,
            accept_other: self.accept_other,
            attempt: context.attempt,
            gate: Arc::clone(&self.gate),
            closed,
            trouble: None,
            checks: Checks::new(context.verify),
            empty: None,
            takes: PhantomData,
        };
        Ok((writer, committer))
    }
}

/// A closed transaction of an [`SqliteSink`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SqliteCommittable {
    /// The subtask that wrote it.
    subtask: usize,
    /// Its number of records. With none, nothing is staged.
    records: u64,
    /// The name of the database that it was written to; the first version did not record it.
    #[serde(default)]
    place: Option<String>,
    /// A transaction of the subtask that is committed before this one.
    #[serde(default)]
    behind: Option<TxnId>,
}

impl SqliteCommittable {
    /// The number of its records.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }
}

/// Closed transactions that are not staged yet.
type ClosedTransactions = Arc<Mutex<BTreeMap<TxnId, Vec<Piece>>>>;

/// Writes one subtask's records for an [`SqliteSink`].
pub struct SqliteWriter<T> {
    operator: String,
    index: usize,
    most_bytes: usize,
    pieces: Vec<Piece>,
    /// The number of bytes in the pieces.
    gathered: usize,
    /// The number of bytes in all records, as they are staged.
    written: u64,
    /// The database's name.
    place: String,
    /// The newest transaction with records that this subtask closed, or committed in an earlier
    /// life.
    newest: Option<TxnId>,
    closed: ClosedTransactions,
    codec: codec::Writer,
    takes: PhantomData<fn(T)>,
}

impl<T: Serialize + Send + 'static> SinkWriter for SqliteWriter<T> {
    type Record = T;
    type Committable = SqliteCommittable;

    fn write(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        for record in records.iter() {
            if self.pieces.last().is_none_or(|piece| piece.bytes.len() >= PIECE) {
                self.pieces.push(Piece::default());
            }
            // Invariant: one was pushed above if there was none.
            let piece = self.pieces.last_mut().expect("there is a piece");
            let begin = piece.bytes.len();
            piece.bytes.extend_from_slice(&[0; 4]);
            let notable = self.codec.write(record, &mut piece.bytes);
            if notable.map_err(|error| SqliteError::Encode { why: error.to_string() })? {
                piece.notable.push(begin);
            }
            let length = piece.bytes.len() - begin - 4;
            let too_much =
                || SqliteError::TooMuch { operator: self.operator.clone(), limit: self.most_bytes };
            let prefix = u32::try_from(length).map_err(|_| too_much())?.to_le_bytes();
            piece.bytes[begin..begin + 4].copy_from_slice(&prefix);
            piece.records += 1;
            self.gathered += length + 4;
            self.written += length as u64 + 4;
            if self.gathered > self.most_bytes {
                return Err(too_much().into());
            }
        }
        records.clear();
        Ok(())
    }

    fn close(&mut self, txn: TxnId) -> Result<SqliteCommittable, BoxError> {
        let pieces = std::mem::take(&mut self.pieces);
        self.gathered = 0;
        let records = pieces.iter().map(|piece| piece.records).sum();
        if records > 0 {
            lock(&self.closed).insert(txn, pieces);
        }
        let (place, behind) = (Some(self.place.clone()), self.newest);
        if records > 0 {
            self.newest = self.newest.max(Some(txn));
        }
        Ok(SqliteCommittable { subtask: self.index, records, place, behind })
    }

    fn bytes_written(&self) -> Option<u64> {
        Some(self.written)
    }
}

/// Prepares and commits one subtask's transactions for an [`SqliteSink`].
pub struct SqliteCommitter<T, F> {
    database: Database,
    apply: F,
    set_aside: bool,
    accept_other: bool,
    /// The attempt it acts for.
    attempt: Attempt,
    gate: Arc<Mutex<()>>,
    closed: ClosedTransactions,
    /// Why the last commit must be retried.
    trouble: Option<String>,
    /// The staged records that are read back.
    checks: Checks,
    /// The newest empty transaction that was committed: empty ones leave nothing in the database.
    empty: Option<TxnId>,
    takes: PhantomData<fn(T)>,
}

impl<T, F> SqliteCommitter<T, F> {
    /// Runs a function in one SQLite transaction, for the attempt.
    fn within<R>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Within<'_>) -> Result<R, BoxError>,
    ) -> Result<R, BoxError> {
        let gate = Arc::clone(&self.gate);
        let _gate = lock(&gate);
        let (path, attempt) = (self.database.path.clone(), self.attempt);
        let operator = self.database.context.operator.clone();
        let within = Within { txn: self.database.begin(doing)?, path: &path, operator: &operator };
        within.check_fence(attempt)?;
        let done = work(&within)?;
        within.txn.commit().map_err(SqliteError::of(doing, &path))?;
        Ok(done)
    }
}

impl<T: Serialize + DeserializeOwned, F> SqliteCommitter<T, F> {
    /// Reads some of a piece's records back, as the commit will (SPEC 14.9).
    fn read_back(&mut self, piece: &Piece) -> Result<(), StateError> {
        /// The name of the staged records in a state error.
        const STAGED: &str = "staged records";
        let operator = &self.database.context.operator;
        let mut check = self.checks.of(operator, STAGED);
        let (mut rest, mut notable) = (piece.bytes.as_slice(), piece.notable.iter().peekable());
        while let Some((length, behind)) = rest.split_first_chunk() {
            // Invariant: the writer put each record's length before it.
            let (record, others) = behind.split_at(u32::from_le_bytes(*length) as usize);
            let begin = piece.bytes.len() - rest.len();
            let is_notable = notable.next_if(|place| **place == begin).is_some();
            if check.is_due(is_notable) {
                read_back::<T>(record).map_err(|refused| refused.of(operator, STAGED))?;
            }
            rest = others;
        }
        Ok(())
    }
}

/// Why a commit was not done, or may have been.
enum Failed {
    /// The transaction was rolled back.
    Before(BoxError),
    /// SQLite's own commit failed.
    Within(SqliteError),
}

impl From<SqliteError> for Failed {
    fn from(error: SqliteError) -> Self {
        Self::Before(error.into())
    }
}

impl From<BoxError> for Failed {
    fn from(error: BoxError) -> Self {
        Self::Before(error)
    }
}

impl<T, F> SqliteCommitter<T, F>
where
    T: DeserializeOwned,
    F: Fn(&Transaction<'_>, &T) -> rusqlite::Result<()>,
{
    fn try_commit(
        &mut self,
        txn: TxnId,
        committable: &SqliteCommittable,
    ) -> Result<CommitOutcome, Failed> {
        let doing = "commit a transaction";
        let SqliteCommittable { subtask, records, .. } = *committable;
        let _gate = lock(&self.gate);
        let (path, operator) = (self.database.path.clone(), self.database.context.operator.clone());
        let inner = self.database.begin(doing)?;
        let within = Within { txn: inner, path: &path, operator: &operator };
        within.check_fence(self.attempt)?;
        let newest = within.newest(subtask)?;
        check_not_set_back(newest, committable, &within, self.accept_other)?;
        let outcome = if newest >= Some(txn) {
            // The process that committed it may have crashed before it was durable: the write now
            // is synced, and the commit with it.
            within.note(subtask, newest.unwrap_or(txn))?;
            CommitOutcome::AlreadyCommitted
        } else if self.accept_other
            && newest < committable.behind
            && within.piece(subtask, txn, 0)?.is_none()
        {
            tracing::warn!(
                database = %path.display(),
                "a transaction that this older copy of the database lacks counts as committed to \
                 the other copy"
            );
            within.note(subtask, txn)?;
            CommitOutcome::AlreadyCommitted
        } else {
            let applied = apply_all(&self.apply, self.set_aside, &within, subtask, txn)?;
            if applied == 0 {
                tracing::error!(
                    database = %path.display(),
                    checkpoint = txn.checkpoint.get(),
                    "staged records that were never committed are missing"
                );
                return Ok(CommitOutcome::Lost);
            }
            if applied != records {
                let why = format!(
                    "{applied} records of a transaction are staged where {records} were written"
                );
                return Err(SqliteError::Damaged { path: path.clone(), why }.into());
            }
            within.unstage(subtask, txn)?;
            within.note(subtask, txn)?;
            CommitOutcome::Committed
        };
        match within.txn.execute_batch("COMMIT") {
            Ok(()) => Ok(outcome),
            // SQLite refused the commit and keeps the transaction open, which is rolled back now:
            // certainly nothing was committed.
            Err(source) if !within.txn.is_autocommit() => Err(violated(&path, txn, source).into()),
            Err(source) => Err(Failed::Within(SqliteError::of(doing, &path)(source))),
        }
    }
}

/// Refuses a database that has no record of a transaction that was committed before: an older copy
/// of it was put back.
fn check_not_set_back(
    newest: Option<TxnId>,
    committable: &SqliteCommittable,
    within: &Within<'_>,
    accept_other: bool,
) -> Result<(), BoxError> {
    match committable.behind {
        Some(txn) if newest < Some(txn) && !accept_other => {
            let place = within.path.display().to_string();
            Err(ConnectError::SetBack { place, txn }.into())
        }
        _ => Ok(()),
    }
}

/// Applies the records of a staged transaction; returns how many there were.
fn apply_all<T: DeserializeOwned>(
    apply: &impl Fn(&Transaction<'_>, &T) -> rusqlite::Result<()>,
    set_aside: bool,
    within: &Within<'_>,
    subtask: usize,
    txn: TxnId,
) -> Result<u64, SqliteError> {
    let path = || within.path.to_owned();
    let mut applied = 0;
    for number in 0.. {
        let Some(piece) = within.piece(subtask, txn, number)? else { break };
        let mut rest = piece.bytes.as_slice();
        while !rest.is_empty() {
            let cut = || SqliteError::Damaged {
                path: path(),
                why: "a staged record is cut short".into(),
            };
            let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            let length = u32::from_le_bytes(*length) as usize;
            let bytes = behind.get(..length).ok_or_else(cut)?;
            rest = &behind[length..];
            let record = codec::read(bytes).map_err(|error| SqliteError::Decode {
                path: path(),
                txn,
                record: applied,
                why: error.to_string(),
            })?;
            let savepoint = |sql: &str| {
                let failed = within.failed("set a record aside");
                if set_aside { within.txn.execute_batch(sql).map_err(failed) } else { Ok(()) }
            };
            savepoint("SAVEPOINT snapline_record")?;
            let result = apply(&within.txn, &record);
            if within.txn.is_autocommit() {
                return Err(SqliteError::Ended { path: path(), txn });
            }
            if let Err(source) = result {
                let error = refused(within.path, txn, applied, source);
                let SqliteError::Refused { source, .. } = &error else { return Err(error) };
                if !set_aside {
                    return Err(error);
                }
                tracing::warn!(database = %within.path.display(), %error, "a record is set aside");
                savepoint("ROLLBACK TO snapline_record")?;
                within.set_aside(subtask, txn, applied, &source.to_string(), bytes)?;
            }
            savepoint("RELEASE snapline_record")?;
            applied += 1;
            // A long commit is progress.
            watch::beat();
        }
    }
    Ok(applied)
}

/// The error for a failure of users' code on a record: if the database could not be used, the
/// record is not at fault.
fn refused(path: &Path, txn: TxnId, record: u64, source: rusqlite::Error) -> SqliteError {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase,
        OutOfMemory, ReadOnly, SystemIoFailure,
    };
    match source.sqlite_error_code() {
        Some(
            CannotOpen | DatabaseBusy | DatabaseCorrupt | DatabaseLocked | DiskFull | NotADatabase
            | OutOfMemory | ReadOnly | SystemIoFailure,
        ) => SqliteError::of("apply a record", path)(source),
        _ => SqliteError::Refused { path: path.to_owned(), txn, record, source },
    }
}

/// The error for a refused commit: a constraint that is checked only at the end does not hold.
fn violated(path: &Path, txn: TxnId, source: rusqlite::Error) -> SqliteError {
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            SqliteError::Violated { path: path.to_owned(), txn, source }
        }
        _ => SqliteError::of("commit a transaction", path)(source),
    }
}

impl<T, F> SinkCommitter for SqliteCommitter<T, F>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    F: Fn(&Transaction<'_>, &T) -> rusqlite::Result<()> + Send + 'static,
{
    type Committable = SqliteCommittable;

    fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, SqliteCommittable)>, BoxError> {
        self.attempt = attempt;
        let subtask = self.database.context.index;
        let staged = self.within("fence off earlier attempts", |within| {
            within.raise_fence(attempt)?;
            Ok(within.staged(subtask)?)
        })?;
        let earlier = staged.into_iter().filter(|(txn, _)| txn.attempt < attempt);
        let place = Some(self.database.place.clone());
        let named = |(txn, records)| {
            let place = place.clone();
            (txn, SqliteCommittable { subtask, records, place, behind: None })
        };
        Ok(earlier.map(named).collect())
    }

    fn committed(&mut self) -> Result<Option<TxnId>, BoxError> {
        let subtask = self.database.context.index;
        self.within("read the sink's ledger", |within| Ok(within.newest(subtask)?))
    }

    fn prepare(&mut self, txn: TxnId, committable: &SqliteCommittable) -> Result<(), BoxError> {
        let SqliteCommittable { subtask, records, .. } = *committable;
        let place = self.database.path.display().to_string();
        // Kept until it is staged: a failed call may be retried.
        let pieces = lock(&self.closed).get(&txn).cloned();
        pieces.iter().flatten().try_for_each(|piece| self.read_back(piece))?;
        self.within("stage a transaction", |within| {
            let committed = within.newest(subtask)? >= Some(txn);
            match &pieces {
                _ if records == 0 => Ok(()),
                Some(_) if committed => Err(ConnectError::NameTaken { txn, place }.into()),
                Some(pieces) => Ok(within.stage(subtask, txn, pieces)?),
                None if committed => Ok(()),
                None if within.piece(subtask, txn, 0)?.is_some() => Ok(()),
                None => Err(ConnectError::NotClosed { txn, place }.into()),
            }
        })?;
        lock(&self.closed).remove(&txn);
        Ok(())
    }

    fn commit(
        &mut self,
        grant: CommitGrant,
        committable: &SqliteCommittable,
    ) -> Result<CommitOutcome, BoxError> {
        let txn = grant.txn();
        if committable.place.as_ref().is_some_and(|place| *place != self.database.place) {
            let place = self.database.path.display().to_string();
            if !self.accept_other {
                return Err(ConnectError::OtherPlace { place }.into());
            }
            tracing::warn!(
                database = place,
                "a transaction of another database counts as committed there"
            );
            return Ok(CommitOutcome::AlreadyCommitted);
        }
        if committable.records == 0 {
            let accept_other = self.accept_other;
            self.within("commit a transaction", |within| {
                let newest = within.newest(committable.subtask)?;
                check_not_set_back(newest, committable, within, accept_other)
            })?;
            let before = self.empty >= Some(txn);
            self.empty = self.empty.max(Some(txn));
            return Ok(match before {
                true => CommitOutcome::AlreadyCommitted,
                false => CommitOutcome::Committed,
            });
        }
        match self.try_commit(txn, committable) {
            Ok(outcome) => Ok(outcome),
            Err(Failed::Before(error)) => match error.downcast_ref::<SqliteError>() {
                Some(passing) if passing.may_pass() => {
                    tracing::warn!(%error, "cannot commit a transaction yet");
                    self.trouble = Some(error.to_string());
                    Ok(CommitOutcome::Retry)
                }
                _ => Err(error),
            },
            Err(Failed::Within(error)) => {
                tracing::warn!(%error, "it is unknown whether a transaction was committed");
                self.trouble = Some(error.to_string());
                Ok(CommitOutcome::Unknown)
            }
        }
    }

    fn roll_back(&mut self, txn: TxnId, committable: &SqliteCommittable) -> Result<(), BoxError> {
        lock(&self.closed).remove(&txn);
        if committable.records == 0 {
            return Ok(());
        }
        self.within("roll a transaction back", |within| {
            Ok(within.unstage(committable.subtask, txn)?)
        })
    }
}
