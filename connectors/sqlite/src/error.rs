//! The errors of the SQLite connectors.

use std::fmt;
use std::path::{Path, PathBuf};

use snapline_core::connect::ConnectorError;

use rusqlite::ErrorCode;
use snapline_protocol::ids::TxnId;

/// Why an SQLite connector failed. The message says what failed, on which database, and what can be
/// done.
#[non_exhaustive]
pub enum SqliteError {
    /// The database cannot be opened.
    Open {
        /// The database.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// The path is not a file that other connections could open too: it is empty, a URI, or
    /// `:memory:`.
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is not an SQLite database, or is encrypted.
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The database, or the sink's data in it, is damaged.
    Damaged {
        /// The database.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Another connection held the database for longer than the timeout.
    Busy {
        /// The database.
        path: PathBuf,
        /// The failed operation.
        doing: &'static str,
    },
    /// The disk is full, or the database has reached its limit.
    Full {
        /// The database.
        path: PathBuf,
        /// The failed operation.
        doing: &'static str,
    },
    /// The database cannot be written to.
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// A statement does not fit the database: a table or a column is missing, or it is not valid
    /// SQL.
    Schema {
        /// The database.
        path: PathBuf,
        /// The statement.
        sql: String,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// The user's function failed for a record that is to be committed.
    Refused {
        /// The database.
        path: PathBuf,
        /// The transaction.
        txn: TxnId,
        /// The index of the record, from 0.
        record: u64,
        /// The function's error.
        source: rusqlite::Error,
    },
    /// The user's function ended the transaction in which it was to write.
    Ended {
        /// The database.
        path: PathBuf,
        /// The transaction.
        txn: TxnId,
    },
    /// A constraint that SQLite checks when a transaction is committed does not hold: the record at
    /// fault is unknown.
    Violated {
        /// The database.
        path: PathBuf,
        /// The transaction.
        txn: TxnId,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// Rows cannot be read in the order of a key: the query has no such column, or it is null, or
    /// two rows have the same.
    Key {
        /// The database.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A checkpoint's position is of another database, query or key column than the job reads.
    Other {
        /// The database that the job reads.
        path: PathBuf,
        /// The database, query or key of the position.
        was: String,
        /// The database, query or key of the job.
        now: String,
    },
    /// A row does not make a record: the user's function failed for it.
    Malformed {
        /// The database.
        path: PathBuf,
        /// The row, and the function's error.
        row: Box<super::MalformedRow>,
    },
    /// A record cannot be serialised.
    Encode {
        /// serde's error.
        why: String,
    },
    /// A staged record does not have the sink's record type.
    Decode {
        /// The database.
        path: PathBuf,
        /// The transaction.
        txn: TxnId,
        /// The index of the record, from 0.
        record: u64,
        /// serde's error.
        why: String,
    },
    /// More was written between two checkpoints than may be held in memory.
    TooMuch {
        /// The sink's operator.
        operator: String,
        /// The bound, in bytes.
        limit: usize,
    },
    /// The sink's tables are of a version that this build does not know.
    Version {
        /// The database.
        path: PathBuf,
        /// The version found.
        found: i64,
    },
    /// Another operator, or another job, writes under this name.
    Owned {
        /// The database.
        path: PathBuf,
        /// The operator.
        operator: String,
        /// The job that it belongs to.
        owner: String,
        /// The job that wanted it.
        wanted: String,
    },
    /// SQLite failed for another reason.
    Sql {
        /// The database.
        path: PathBuf,
        /// The failed operation.
        doing: &'static str,
        /// SQLite's error.
        source: rusqlite::Error,
    },
}

impl SqliteError {
    /// For `map_err`: SQLite failed in this operation.
    pub(super) fn of(doing: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    Self::Busy { path, doing }
                }
                Some(ErrorCode::DiskFull) => Self::Full { path, doing },
                Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
                Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
                Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, why: source.to_string() },
                Some(ErrorCode::CannotOpen) => Self::Open { path, source },
                _ => Self::Sql { path, doing, source },
            }
        }
    }
    /// True if the cause may be corrected while the job waits.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Full { .. })
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, source } => write!(
                f,
                "{}: cannot open the database: {source}; its directory must exist, and the process \
                 needs permission to write in it",
                path.display()
            ),
            Self::NoFile { path } => write!(
                f,
                "`{}` does not name a file, and what is committed must outlive the connection; \
                 give the path of a database file",
                path.display()
            ),
            Self::NotADatabase { path } => write!(
                f,
                "{}: is not an SQLite database, or is encrypted; give another path, or restore the \
                 file from a copy",
                path.display()
            ),
            Self::Damaged { path, why } => write!(
                f,
                "{}: is damaged: {why}; check it with `PRAGMA integrity_check`, and restore it \
                 from a copy",
                path.display()
            ),
            Self::Busy { path, doing } => write!(
                f,
                "{}: could not {doing}: another connection holds the database; keep the \
                 transactions of that connection short, or wait longer (`busy_timeout`)",
                path.display()
            ),
            Self::Full { path, doing } => {
                write!(f, "{}: could not {doing}: the disk is full; make room", path.display())
            }
            Self::ReadOnly { path } => write!(
                f,
                "{}: is not writable; give the process permission to write the file and its \
                 directory",
                path.display()
            ),
            Self::Schema { path, sql, source } => write!(
                f,
                "{}: `{sql}` does not fit the database: {source}; create the table first, or in \
                 `setup`",
                path.display()
            ),
            Self::Refused { path, txn, record, source } => write!(
                f,
                "{}: record {record} of the transaction that checkpoint {} closed could not be \
                 applied: {source}; its checkpoint is complete, so the record is neither lost nor \
                 skipped: correct the table or the function and start again, or have such records \
                 set aside (`set_aside`)",
                path.display(),
                txn.checkpoint
            ),
            Self::Ended { path, txn } => write!(
                f,
                "{}: the function that applies records ended the transaction of checkpoint {}: it must neither commit nor roll back",
                path.display(),
                txn.checkpoint
            ),
            Self::Violated { path, txn, source } => write!(
                f,
                "{}: the transaction that checkpoint {} closed cannot be committed: {source}; its \
                 checkpoint is complete, so its records are neither lost nor skipped: correct the \
                 tables or the function, and start again",
                path.display(),
                txn.checkpoint
            ),
            Self::Key { path, why } => write!(
                f,
                "{}: {why}; rows are read in the order of a key, which must be unique and not \
                 null: name such a column, or select one",
                path.display()
            ),
            Self::Other { path, was, now } => write!(
                f,
                "{}: the checkpoint's position is of `{was}`, and the job reads `{now}`; give the \
                 source its old statement and key back, or, to continue after the last key in the \
                 new ones, call `.accept_changed()`",
                path.display()
            ),
            Self::Malformed { path, row } => write!(
                f,
                "{}, the row {row}; repair it, or choose what to do with malformed rows: \
                 `.skip_malformed()`, `.keep_malformed()`",
                path.display()
            ),
            Self::Encode { why } => write!(f, "a record cannot be serialised: {why}"),
            Self::Decode { path, txn, record, why } => write!(
                f,
                "{}: record {record} of the transaction that checkpoint {} closed cannot be read: {why}; commit it with the build \
                 that wrote it, or give its type's new fields `#[serde(default)]`",
                path.display(),
                txn.checkpoint
            ),
            Self::TooMuch { operator, limit } => write!(
                f,
                "sink `{operator}`: more than {limit} bytes were written between two checkpoints; take checkpoints more often, or \
                 raise the limit (`most_bytes`)"
            ),
            Self::Version { path, found } => write!(
                f,
                "{}: the tables of the sink are of version {found}, which this build does not \
                 know; use a later build",
                path.display()
            ),
            Self::Owned { path, operator, owner, wanted } => write!(
                f,
                "{}: operator `{operator}` writes here for job `{owner}`, not for job `{wanted}`; give one of them another database \
                 or another name",
                path.display()
            ),
            Self::Sql { path, doing, source } => {
                write!(f, "{}: could not {doing}: {source}", path.display())
            }
        }
    }
}

snapline_protocol::error_in_words!(SqliteError);

impl ConnectorError for SqliteError {
    fn is_permanent(&self, first: bool) -> bool {
        match self {
            Self::NoFile { .. }
            | Self::NotADatabase { .. }
            | Self::Damaged { .. }
            | Self::Refused { .. }
            | Self::Ended { .. }
            | Self::Violated { .. }
            | Self::Key { .. }
            | Self::Other { .. }
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::Version { .. }
            | Self::Owned { .. } => true,
            Self::Open { .. } | Self::ReadOnly { .. } | Self::Schema { .. } => first,
            _ => false,
        }
    }
}
