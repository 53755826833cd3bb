//! A sink's database: how it is opened, and the sink's own tables beside the user's.
//!
//! ```text
//!   snapline_sinks     an operator: the job that it belongs to, and the latest attempt: earlier
//!                      ones are refused
//!   snapline_staged    a prepared transaction's records, in pieces
//!   snapline_ledger    a subtask: the newest transaction that it committed
//!   snapline_identity  a random name, by which committables know the database
//!   snapline_refused   records that could not be applied, and why, if they are to be set aside
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};
use snapline_protocol::ids::{Attempt, TxnId};

use crate::SqliteError;
use snapline_core::base::error::BoxError;
use snapline_core::connect::{ConnectError, OpenContext};
use snapline_core::fs::random_identity;

/// The version of the tables below.
const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS snapline_sinks (
        operator TEXT PRIMARY KEY, job TEXT NOT NULL, version INTEGER NOT NULL, fence TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS snapline_staged (
        operator TEXT NOT NULL, subtask INTEGER NOT NULL, txn TEXT NOT NULL, piece INTEGER NOT NULL,
        records INTEGER NOT NULL, sum INTEGER NOT NULL, bytes BLOB NOT NULL,
        PRIMARY KEY (operator, subtask, txn, piece));
    CREATE TABLE IF NOT EXISTS snapline_ledger (
        operator TEXT NOT NULL, subtask INTEGER NOT NULL, txn TEXT NOT NULL, checkpoint INTEGER NOT NULL,
        PRIMARY KEY (operator, subtask));
    CREATE TABLE IF NOT EXISTS snapline_identity (place TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS snapline_refused (
        operator TEXT NOT NULL, subtask INTEGER NOT NULL, checkpoint INTEGER NOT NULL, record INTEGER NOT NULL,
        why TEXT NOT NULL, bytes BLOB NOT NULL);";

/// How long SQLite retries a database that another connection holds, by default.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Opens a connection to the file.
pub(super) fn connect(
    path: &Path,
    flags: OpenFlags,
    patience: Duration,
) -> Result<Connection, SqliteError> {
    let name = path.to_string_lossy();
    if name.is_empty() || name.starts_with(":memory:") || name.starts_with("file:") {
        return Err(SqliteError::NoFile { path: path.to_owned() });
    }
    // Reading a pipe would wait for a writer, perhaps forever.
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        return Err(SqliteError::NotADatabase { path: path.to_owned() });
    }
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = SqliteError::of("open the database", path);
    let connection = Connection::open_with_flags(path, flags).map_err(&open)?;
    // SQLite counts milliseconds in 32 bits: 24 days are as good as forever.
    let patience = patience.min(Duration::from_millis(i32::MAX as u64));
    connection.busy_timeout(patience).map_err(&open)?;
    // This is the first read of the file: it fails now if the file is not a database.
    connection.query_row("PRAGMA schema_version", [], |_| Ok(())).map_err(&open)?;
    Ok(connection)
}

/// One subtask's connection.
pub(super) struct Database {
    pub(super) path: PathBuf,
    pub(super) context: OpenContext,
    /// The identity by which it differs from another put in its place.
    pub(super) place: String,
    connection: Connection,
}

/// A piece of a transaction's records.
#[derive(Clone, Default, Debug)]
pub(super) struct Piece {
    pub(super) records: u64,
    /// Each record with its length before it, four bytes, the lowest first.
    pub(super) bytes: Vec<u8>,
    /// Places of records that are to be read back, for their shape.
    pub(super) notable: Vec<usize>,
}

impl Database {
    /// Opens the database, makes the sink's own tables if missing, and claims the operator's name
    /// for the job.
    pub(super) fn open(
        path: &Path,
        context: &OpenContext,
        patience: Duration,
        wal: bool,
    ) -> Result<Self, SqliteError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = connect(path, flags, patience)?;
        let set = SqliteError::of("set up the database", path);
        if wal {
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(&set)?;
        }
        // Commits survive the loss of power: with a lower setting they would only survive the
        // process.
        connection.execute_batch("PRAGMA synchronous = EXTRA").map_err(&set)?;
        let place = String::new();
        let mut database =
            Self { path: path.to_owned(), context: context.clone(), place, connection };
        let txn = database.begin("make the sink's tables")?;
        txn.execute_batch(TABLES).map_err(&set)?;
        let place = "SELECT place FROM snapline_identity";
        let place = txn.query_row(place, [], |row| row.get::<_, String>(0)).optional();
        let place = match place.map_err(&set)? {
            Some(place) => place,
            None => {
                let place = random_identity();
                txn.execute("INSERT INTO snapline_identity VALUES (?1)", [&place]).map_err(&set)?;
                place
            }
        };
        let OpenContext { operator, job, .. } = context;
        let mine = "SELECT job, version FROM snapline_sinks WHERE operator = ?1";
        let found: Option<(String, i64)> = txn
            .query_row(mine, [operator], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(&set)?;
        match found {
            Some((_, found)) if found != VERSION => {
                return Err(SqliteError::Version { path: path.to_owned(), found });
            }
            Some((owner, _)) if owner != *job => {
                let (operator, wanted) = (operator.clone(), job.clone());
                return Err(SqliteError::Owned { path: path.to_owned(), operator, owner, wanted });
            }
            Some(_) => {}
            None => {
                let insert = "INSERT INTO snapline_sinks VALUES (?1, ?2, ?3, 'null')";
                txn.execute(insert, params![operator, job, VERSION]).map_err(&set)?;
            }
        }
        txn.commit().map_err(&set)?;
        database.place = place;
        Ok(database)
    }

    /// Runs the user's statements.
    pub(super) fn set_up(&mut self, setup: &str) -> Result<(), SqliteError> {
        let path = self.path.clone();
        let txn = self.begin("run the statements of `setup`")?;
        let schema = |source| SqliteError::Schema { path: path.clone(), sql: setup.into(), source };
        txn.execute_batch(setup).map_err(schema)?;
        txn.commit().map_err(SqliteError::of("run the statements of `setup`", &path))
    }

    /// The newest transaction that the subtask committed.
    pub(super) fn newest(&mut self) -> Result<Option<TxnId>, SqliteError> {
        let (path, context) = (self.path.clone(), self.context.clone());
        let txn = self.begin("read the sink's ledger")?;
        Within { txn, path: &path, operator: &context.operator }.newest(context.index)
    }

    /// Checks that a statement fits the existing tables.
    pub(super) fn check(&self, sql: &str) -> Result<(), SqliteError> {
        let schema =
            |source| SqliteError::Schema { path: self.path.clone(), sql: sql.into(), source };
        self.connection.prepare(sql).map(drop).map_err(schema)
    }

    /// Begins a transaction that writes: no other connection writes before it ends.
    pub(super) fn begin(&mut self, doing: &'static str) -> Result<Transaction<'_>, SqliteError> {
        let immediate = TransactionBehavior::Immediate;
        let failed = SqliteError::of(doing, &self.path);
        self.connection.transaction_with_behavior(immediate).map_err(failed)
    }
}

/// The operations within a transaction of one subtask.
pub(super) struct Within<'a> {
    pub(super) txn: Transaction<'a>,
    pub(super) path: &'a Path,
    pub(super) operator: &'a str,
}

impl Within<'_> {
    pub(super) fn failed(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> SqliteError {
        SqliteError::of(doing, self.path)
    }

    fn damaged(&self, why: impl Into<String>) -> SqliteError {
        SqliteError::Damaged { path: self.path.to_owned(), why: why.into() }
    }

    /// The latest attempt that fenced.
    fn fence(&self) -> Result<Option<Attempt>, SqliteError> {
        let sql = "SELECT fence FROM snapline_sinks WHERE operator = ?1";
        let text: String = self
            .txn
            .query_row(sql, [self.operator], |row| row.get(0))
            .map_err(self.failed("read the sink's fence"))?;
        serde_json::from_str(&text)
            .map_err(|_| self.damaged(format!("its fence for `{}` is `{text}`", self.operator)))
    }

    /// Refuses an attempt that a later one has fenced off (SPEC 2.8). The rest of this transaction
    /// comes before any later fence.
    pub(super) fn check_fence(&self, attempt: Attempt) -> Result<(), BoxError> {
        match self.fence()? {
            Some(fence) if fence > attempt => {
                let operator = self.operator.to_owned();
                let place = self.path.display().to_string();
                Err(ConnectError::Fenced { operator, attempt, fence, place }.into())
            }
            _ => Ok(()),
        }
    }

    /// Raises the fence.
    pub(super) fn raise_fence(&self, attempt: Attempt) -> Result<(), BoxError> {
        self.check_fence(attempt)?;
        let sql = "UPDATE snapline_sinks SET fence = ?2 WHERE operator = ?1";
        self.txn
            .execute(sql, params![self.operator, json(&attempt)])
            .map_err(self.failed("raise the sink's fence"))?;
        Ok(())
    }

    /// The newest transaction that this subtask committed.
    pub(super) fn newest(&self, subtask: usize) -> Result<Option<TxnId>, SqliteError> {
        let sql = "SELECT txn FROM snapline_ledger WHERE operator = ?1 AND subtask = ?2";
        let text: Option<String> = self
            .txn
            .query_row(sql, params![self.operator, subtask as i64], |row| row.get(0))
            .optional()
            .map_err(self.failed("read the sink's ledger"))?;
        text.map(|text| self.parse(&text)).transpose()
    }

    /// Records a transaction as committed, also if it is recorded already: the write is synced, and
    /// the found record with it.
    pub(super) fn note(&self, subtask: usize, txn: TxnId) -> Result<(), SqliteError> {
        let sql = "INSERT OR REPLACE INTO snapline_ledger VALUES (?1, ?2, ?3, ?4)";
        let checkpoint = txn.checkpoint.get() as i64;
        self.txn
            .execute(sql, params![self.operator, subtask as i64, json(&txn), checkpoint])
            .map_err(self.failed("write the sink's ledger"))?;
        Ok(())
    }

    /// The transactions that a subtask has staged, with the number of records in each.
    pub(super) fn staged(&self, subtask: usize) -> Result<Vec<(TxnId, u64)>, SqliteError> {
        let failed = self.failed("list what is staged");
        let sql = "SELECT txn, SUM(records) FROM snapline_staged WHERE operator = ?1 AND subtask = ?2 GROUP BY txn";
        let mut query = self.txn.prepare_cached(sql).map_err(&failed)?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
        let rows = query.query_map(params![self.operator, subtask as i64], row).map_err(&failed)?;
        let mut staged = Vec::new();
        for row in rows {
            let (txn, records) = row.map_err(&failed)?;
            staged.push((self.parse(&txn)?, records as u64));
        }
        staged.sort_unstable();
        Ok(staged)
    }

    /// Stages a transaction's records.
    pub(super) fn stage(
        &self,
        subtask: usize,
        txn: TxnId,
        pieces: &[Piece],
    ) -> Result<(), SqliteError> {
        self.unstage(subtask, txn)?;
        let failed = self.failed("stage records");
        let sql = "INSERT INTO snapline_staged VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let mut insert = self.txn.prepare_cached(sql).map_err(&failed)?;
        for (number, piece) in pieces.iter().enumerate() {
            let (subtask, number, records) = (subtask as i64, number as i64, piece.records as i64);
            let sum = crc32fast::hash(&piece.bytes);
            let row =
                params![self.operator, subtask, json(&txn), number, records, sum, piece.bytes];
            insert.execute(row).map_err(&failed)?;
        }
        Ok(())
    }

    /// Removes the staged records of a transaction.
    pub(super) fn unstage(&self, subtask: usize, txn: TxnId) -> Result<(), SqliteError> {
        let sql = "DELETE FROM snapline_staged WHERE operator = ?1 AND subtask = ?2 AND txn = ?3";
        let failed = self.failed("remove what is staged");
        let mut delete = self.txn.prepare_cached(sql).map_err(&failed)?;
        delete.execute(params![self.operator, subtask as i64, json(&txn)]).map_err(&failed)?;
        Ok(())
    }

    /// A piece of a staged transaction; `None` after the last.
    pub(super) fn piece(
        &self,
        subtask: usize,
        txn: TxnId,
        number: usize,
    ) -> Result<Option<Piece>, SqliteError> {
        let sql = "SELECT records, sum, bytes FROM snapline_staged
            WHERE operator = ?1 AND subtask = ?2 AND txn = ?3 AND piece = ?4";
        let failed = self.failed("read what is staged");
        let mut query = self.txn.prepare_cached(sql).map_err(&failed)?;
        let row = |row: &rusqlite::Row<'_>| {
            let piece = Piece {
                records: row.get::<_, i64>(0)? as u64,
                bytes: row.get(2)?,
                notable: Vec::new(),
            };
            Ok((piece, row.get::<_, u32>(1)?))
        };
        let key = params![self.operator, subtask as i64, json(&txn), number as i64];
        match query.query_row(key, row).optional().map_err(&failed)? {
            Some((piece, sum)) if sum != crc32fast::hash(&piece.bytes) => {
                let text = json(&txn);
                Err(self.damaged(format!(
                    "piece {number} of staged transaction {text} is not what was written"
                )))
            }
            found => Ok(found.map(|(piece, _)| piece)),
        }
    }

    /// Sets aside a record that could not be applied.
    pub(super) fn set_aside(
        &self,
        subtask: usize,
        txn: TxnId,
        record: u64,
        why: &str,
        bytes: &[u8],
    ) -> Result<(), SqliteError> {
        let sql = "INSERT INTO snapline_refused VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let checkpoint = txn.checkpoint.get() as i64;
        let row = params![self.operator, subtask as i64, checkpoint, record as i64, why, bytes];
        self.txn.execute(sql, row).map_err(self.failed("set a record aside"))?;
        Ok(())
    }

    fn parse(&self, text: &str) -> Result<TxnId, SqliteError> {
        serde_json::from_str(text)
            .map_err(|_| self.damaged(format!("`{text}` is not a transaction name")))
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("numbers can be written as JSON")
}
