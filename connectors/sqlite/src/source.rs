//! A source of the rows of a query.
//!
//! ```text
//!   position    after which key, up to which one, and how many rows were skipped
//!   read        the next rows after the key, as many as are wanted, in one read transaction;
//!               nothing is open between two reads
//! ```

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::database::{PATIENCE, connect};
use super::row::{MalformedRow, RowKey, key, literal};
use crate::SqliteError;
use snapline_core::base::clock::Clock;
use snapline_core::base::either::Either;
use snapline_core::base::error::BoxError;
use snapline_core::base::sync::Arc;
use snapline_core::connect::{
    Collect, ConnectorError, OpenContext, Progress, Source, SourceReader, classify_as,
};
use snapline_core::fs::same_path;

/// How long a reader waits before it tries a locked database again.
const PAUSE: Duration = Duration::from_millis(5);

/// Of the skipped rows, the first ten are logged, then each whose number is a power of ten.
const TOLD: u64 = 10;

/// Reads the rows of a query in the order of a key, each once, and ends after the last. After a
/// failure it resumes after the checkpoint's key.
///
/// ```
/// use snapline::connect::{MemorySink, SqliteSource};
/// use snapline::{Dataflow, JobConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let path = place.path().join("shop.db");
/// # rusqlite::Connection::open(&path)?.execute_batch(
/// #     "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL, cents INTEGER NOT NULL, paid INTEGER NOT NULL);
/// #      INSERT INTO orders VALUES (1, 'pen', 120, 1), (2, 'ink', 80, 0), (7, 'pad', 300, 1)")?;
/// let orders = SqliteSource::new(
///     &path,
///     "SELECT id, item, cents FROM orders WHERE paid",
///     "id",
///     |row| Ok((row.get::<_, String>("item")?, row.get::<_, u32>("cents")?)),
/// );
/// let (flow, out) = (Dataflow::new("paid"), MemorySink::new());
/// flow.source("orders", orders).sink("out", out.clone());
/// flow.build(JobConfig::new().parallelism(1))?.run()?;
/// assert_eq!(out.committed(), [("pen".to_owned(), 120), ("pad".to_owned(), 300)]);
/// # Ok(())
/// # }
/// ```
///
/// *The key* is a column of the query: an integer, a text, a blob or a real, unique and never null.
/// It should have an index, as a primary key has: every read looks up the rows after the last. A
/// key that is null, or that two rows have where one read ends, fails the job.
///
/// *What is read*: the rows whose keys are at most the greatest key at the job's start. Rows added
/// later after that key are not read. The rows should not change while they are read. What a change
/// does:
///
/// | change of a row | effect |
/// |---|---|
/// | it is changed before it is read | it is read as it is then |
/// | it is changed or removed at or before the newest checkpoint's key | what was read stays |
/// | it is changed or removed, was read, and is not in a checkpoint yet | it counts as it was read; after a failure, as it is then, or not at all |
/// | it is inserted before the reader's key | it is not read |
/// | its key is changed | it may be read twice, or not at all |
///
/// A database has no identity of its own: if another takes its place, that one is read on from the
/// key. Another path, query or key column than the checkpoint's fails a restored job
/// ([`Self::accept_changed`]).
///
/// So each row appears in the job's output once, in one state. Two rows may come from two states of
/// the database.
///
/// *A malformed row* is one for which the function fails: it fails the job, unless the source is
/// set to [skip](Self::skip_malformed) or to [keep](Self::keep_malformed) them.
///
/// Only the first subtask reads: add `.parallelism(1)` after the source. Each read is a short
/// transaction of its own; while another connection holds the database it waits
/// ([`Self::busy_timeout`]), then the task fails.
pub struct SqliteSource<R> {
    path: PathBuf,
    sql: String,
    key: String,
    row: Arc<RowRule<R>>,
    malformed: OnMalformed<R>,
    patience: Duration,
    accept_changed: bool,
}

type RowRule<R> = dyn Fn(&Row<'_>) -> rusqlite::Result<R> + Send + Sync;

/// The handling of a row for which the function fails.
enum OnMalformed<R> {
    Fail,
    Skip,
    Keep(fn(MalformedRow) -> R),
}

impl<R> Clone for OnMalformed<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for OnMalformed<R> {}

impl<R> Clone for SqliteSource<R> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            sql: self.sql.clone(),
            key: self.key.clone(),
            row: Arc::clone(&self.row),
            ..*self
        }
    }
}

impl<R> fmt::Debug for SqliteSource<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSource")
            .field("path", &self.path)
            .field("sql", &self.sql)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<R> SqliteSource<R> {
    /// Reads the rows that `sql` selects from the database at `path`, which must exist, in the
    /// order of the column `key`. The function `row` makes a record of a row; it sees only the
    /// query's columns, by name or number.
    pub fn new(
        path: impl Into<PathBuf>,
        sql: impl Into<String>,
        key: impl Into<String>,
        row: impl Fn(&Row<'_>) -> rusqlite::Result<R> + Send + Sync + 'static,
    ) -> Self {
        Self {
            path: path.into(),
            sql: sql.into(),
            key: key.into(),
            row: Arc::new(row),
            malformed: OnMalformed::Fail,
            patience: PATIENCE,
            accept_changed: false,
        }
    }

    /// How long to wait for a database that another connection holds; 5 s by default.
    #[must_use]
    pub fn busy_timeout(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Restores the job though it reads another database, query or key column than its checkpoint:
    /// it resumes at the checkpoint's key. Otherwise that is refused. It is needed only until the
    /// next checkpoint.
    #[must_use]
    pub fn accept_changed(self) -> Self {
        Self { accept_changed: true, ..self }
    }

    /// Skips malformed rows. They are counted (`snapline::TaskStatus::records_malformed`; the count
    /// is in checkpoints). Some are logged with `tracing` as warnings: the first ten, then each
    /// whose number is a power of ten.
    #[must_use]
    pub fn skip_malformed(self) -> Self {
        Self { malformed: OnMalformed::Skip, ..self }
    }
}

impl<R: 'static> SqliteSource<R> {
    /// Emits malformed rows beside the others, as [`Either::Right`]:
    /// `Stream::split` takes them apart.
    ///
    /// ```no_run
    /// # use snapline::Dataflow;
    /// # use snapline::connect::{FileSink, MalformedRow, SqliteSource};
    /// let prices = SqliteSource::new("shop.db", "SELECT id, cents FROM prices", "id", |row| {
    ///     row.get::<_, u32>("cents")
    /// });
    /// let flow = Dataflow::new("prices");
    /// let (good, bad) = flow.source("prices", prices.keep_malformed()).split();
    /// good.sink("good", FileSink::new("prices"));
    /// bad.map(|bad: MalformedRow| bad.to_string()).sink("dead-letters", FileSink::new("dead"));
    /// ```
    #[must_use]
    pub fn keep_malformed(self) -> SqliteSource<Either<R, MalformedRow>> {
        let Self { path, sql, key, row, patience, accept_changed, .. } = self;
        let row = Arc::new(move |it: &Row<'_>| row(it).map(Either::Left));
        let malformed = OnMalformed::Keep(Either::Right);
        SqliteSource { path, sql, key, row, malformed, patience, accept_changed }
    }
}

/// The position of a reader of an [`SqliteSource`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SqlitePosition {
    /// The last row read; `None`: before the first.
    behind: Option<RowKey>,
    /// The last row to read; `None`: there is nothing to read.
    last: Option<RowKey>,
    skipped: u64,
    /// The database, query and key that are read; the first version did not record them.
    #[serde(default)]
    of: Option<[String; 3]>,
}

impl<R: Send + 'static> Source for SqliteSource<R> {
    type Record = R;
    type Position = SqlitePosition;
    type Reader = SqliteReader<R>;

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        classify_as::<SqliteError>(error)
    }

    fn open(
        &self,
        context: &OpenContext,
        position: Option<SqlitePosition>,
    ) -> Result<SqliteReader<R>, BoxError> {
        let reads = context.index == 0;
        let opened = reads.then(|| Rows::open(self)).transpose()?;
        let now = [self.path.to_string_lossy().into_owned(), self.sql.clone(), self.key.clone()];
        let position = match position {
            Some(position) => {
                let differ = |at: usize, was: &str, now: &str| match at {
                    0 => !same_path(was, now),
                    1 => words(was) != words(now),
                    _ => !was.eq_ignore_ascii_case(now),
                };
                if let Some(was) = &position.of
                    && let Some(at) = (0..3).find(|&at| differ(at, &was[at], &now[at]))
                    && let (was, now) = (&was[at], &now[at])
                    && !self.accept_changed
                {
                    let (path, was, now) = (self.path.clone(), was.clone(), now.clone());
                    return Err(SqliteError::Other { path, was, now }.into());
                }
                SqlitePosition { of: Some(now), ..position }
            }
            None => {
                let last = opened.as_ref().map(|rows| rows.last(&self.path)).transpose()?;
                SqlitePosition { behind: None, last: last.flatten(), skipped: 0, of: Some(now) }
            }
        };
        let (operator, clock) = (context.operator.clone(), context.clock.clone());
        Ok(SqliteReader {
            source: self.clone(),
            rows: opened,
            position,
            operator,
            clock,
            held: None,
        })
    }
}

/// A query with all white space outside of quotes reduced to one space, and without its end.
fn words(sql: &str) -> String {
    let (mut words, mut quote) = (String::new(), None);
    for letter in sql.trim().trim_end_matches(';').trim_end().chars() {
        match quote {
            None if letter.is_whitespace() => {
                if !words.ends_with(' ') {
                    words.push(' ');
                }
                continue;
            }
            None if matches!(letter, '\'' | '"' | '`') => quote = Some(letter),
            Some(end) if letter == end => quote = None,
            _ => {}
        }
        words.push(letter);
    }
    words
}

/// The connection and its queries.
struct Rows {
    connection: Connection,
    /// The index of the key column in the query.
    column: usize,
    first: String,
    further: String,
    last: String,
    count: String,
}

impl Rows {
    fn open<R>(source: &SqliteSource<R>) -> Result<Self, SqliteError> {
        let SqliteSource { path, sql, key, patience, .. } = source;
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, *patience)?;
        let sql = sql.trim().trim_end_matches(';');
        let schema = |source| SqliteError::Schema { path: path.clone(), sql: sql.into(), source };
        let query = connection.prepare(sql).map_err(schema)?;
        let column = query.column_names().position(|name| name.eq_ignore_ascii_case(key));
        let Some(column) = column else {
            let columns = query.column_names().collect::<Vec<_>>().join("`, `");
            let why = format!("`{sql}` has no column `{key}`; it has `{columns}`");
            return Err(SqliteError::Key { path: path.clone(), why });
        };
        drop(query);
        let key = format!("\"{}\"", key.replace('"', "\"\""));
        let rows = Self {
            first: format!(
                "SELECT * FROM ({sql}) WHERE {key} IS NULL OR {key} <= ?1 ORDER BY {key} LIMIT ?2"
            ),
            further: format!(
                "SELECT * FROM ({sql}) WHERE {key} > ?3 AND {key} <= ?1 ORDER BY {key} LIMIT ?2"
            ),
            last: format!("SELECT {key} FROM ({sql}) ORDER BY {key} DESC LIMIT 1"),
            count: format!("SELECT COUNT(*) FROM ({sql}) WHERE {key} = ?1"),
            connection,
            column,
        };
        // A query that cannot stand inside these statements fails now; from now on a reader waits
        // itself.
        for sql in [&rows.first, &rows.further, &rows.last, &rows.count] {
            rows.connection.prepare_cached(sql).map(drop).map_err(schema)?;
        }
        Ok(rows)
    }

    /// The greatest key in the database.
    fn last(&self, path: &Path) -> Result<Option<RowKey>, SqliteError> {
        let failed = SqliteError::of("find the last row", path);
        let mut query = self.connection.prepare_cached(&self.last).map_err(&failed)?;
        let last: Option<Value> =
            query.query_row([], |row| row.get(0)).optional().map_err(&failed)?;
        last.map(|last| key((&last).into(), path)).transpose()
    }
}

/// Reads the rows of an [`SqliteSource`].
pub struct SqliteReader<R> {
    source: SqliteSource<R>,
    /// `None`: nothing is read here.
    rows: Option<Rows>,
    position: SqlitePosition,
    operator: String,
    clock: Clock,
    /// Since when another connection holds the database.
    held: Option<Instant>,
}

impl<R> fmt::Debug for SqliteReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteReader").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<R: Send + 'static> SourceReader for SqliteReader<R> {
    type Record = R;
    type Position = SqlitePosition;

    fn read<C: Collect<R>>(&mut self, limit: usize, out: &mut C) -> Result<Progress, BoxError> {
        let Self { source, rows, position, operator, .. } = self;
        let (Some(rows), Some(last)) = (rows, &position.last) else { return Ok(Progress::End) };
        let mut page = Page { source, operator, skipped: position.skipped, behind: None, rows: 0 };
        // No row is emitted before the page is known to be whole: a failed read has emitted
        // nothing.
        let mut records = Vec::new();
        let read = page.read(rows, (position.behind.as_ref(), last), limit, &mut records);
        let Page { skipped, behind, rows: read_rows, .. } = page;
        match read {
            Ok(()) => {}
            Err(error @ SqliteError::Busy { .. }) => {
                let since = *self.held.get_or_insert_with(|| self.clock.now());
                return match self.clock.since(since) < self.source.patience {
                    true => Ok(Progress::Wait(PAUSE)),
                    false => Err(error.into()),
                };
            }
            Err(error) => return Err(error.into()),
        }
        self.held = None;
        records.into_iter().for_each(|record| out.push(record));
        let position = &mut self.position;
        position.skipped = skipped;
        position.behind = behind.or_else(|| position.behind.take());
        let over = read_rows < limit || position.behind == position.last;
        Ok(if over { Progress::End } else { Progress::More })
    }

    fn position(&self) -> SqlitePosition {
        self.position.clone()
    }

    fn malformed(&self) -> u64 {
        self.position.skipped
    }
}

/// The rows of one read.
struct Page<'a, R> {
    source: &'a SqliteSource<R>,
    operator: &'a str,
    skipped: u64,
    /// The last row's key.
    behind: Option<RowKey>,
    /// The number of rows read.
    rows: usize,
}

impl<R> Page<'_, R> {
    fn read(
        &mut self,
        rows: &mut Rows,
        (behind, last): (Option<&RowKey>, &RowKey),
        limit: usize,
        out: &mut Vec<R>,
    ) -> Result<(), SqliteError> {
        let path = &self.source.path;
        let failed = SqliteError::of("read rows", path);
        rows.connection.busy_timeout(Duration::ZERO).map_err(&failed)?;
        let txn = rows.connection.transaction().map_err(&failed)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        {
            let sql = if behind.is_some() { &rows.further } else { &rows.first };
            let mut query = txn.prepare_cached(sql).map_err(&failed)?;
            let mut found = match behind {
                Some(behind) => query.query(params![last, limit, behind]),
                None => query.query(params![last, limit]),
            }
            .map_err(&failed)?;
            while let Some(row) = found.next().map_err(&failed)? {
                self.behind = Some(key(row.get_ref(rows.column).map_err(&failed)?, path)?);
                self.rows += 1;
                match (self.source.row)(row) {
                    Ok(record) => out.push(record),
                    Err(error) => out.extend(self.malformed(row, error)?),
                }
            }
        }
        if let Some(behind) = &self.behind {
            let mut query = txn.prepare_cached(&rows.count).map_err(&failed)?;
            let alike: i64 = query.query_row([behind], |row| row.get(0)).map_err(&failed)?;
            if alike > 1 {
                let why = format!("{alike} rows have the key {}", literal(&behind.clone().into()));
                return Err(SqliteError::Key { path: path.clone(), why });
            }
        }
        Ok(())
    }

    /// The record emitted for a row for which the function failed.
    fn malformed(
        &mut self,
        row: &Row<'_>,
        error: rusqlite::Error,
    ) -> Result<Option<R>, SqliteError> {
        let path = &self.source.path;
        // It asks for a column that no row has: that is not the row's fault.
        if let rusqlite::Error::InvalidColumnName(_) | rusqlite::Error::InvalidColumnIndex(_) =
            error
        {
            let sql = self.source.sql.clone();
            return Err(SqliteError::Schema { path: path.clone(), sql, source: error });
        }
        let names = row.as_ref().column_names().enumerate();
        let column = |(at, name): (usize, &str)| {
            let value = row.get::<_, Value>(at).map_or_else(|_| "?".into(), |it| literal(&it));
            (name.to_owned(), value)
        };
        let row = MalformedRow { columns: names.map(column).collect(), why: error.to_string() };
        match self.source.malformed {
            OnMalformed::Fail => {
                Err(SqliteError::Malformed { path: path.clone(), row: Box::new(row) })
            }
            OnMalformed::Keep(keep) => Ok(Some(keep(row))),
            OnMalformed::Skip => {
                self.skipped += 1;
                let skipped = self.skipped;
                if skipped <= TOLD || skipped == 10_u64.pow(skipped.ilog10()) {
                    let (operator, database) = (self.operator, path.display());
                    tracing::warn!(
                        operator, %database, %row, skipped,
                        "a malformed row was skipped"
                    );
                }
                Ok(None)
            }
        }
    }
}
