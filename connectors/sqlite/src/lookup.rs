//! Look-ups in a table.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ToSql};

use super::database::{PATIENCE, connect};
use crate::SqliteError;
use snapline_core::base::clock::Clock;
use snapline_core::base::error::BoxError;
use snapline_core::base::sync::{Arc, Mutex, lock};
use snapline_core::connect::lookup::{LookupClient, LookupSource};
use snapline_core::connect::{ConnectorError, OpenContext, classify_as};

/// Looks records up in an SQLite database. It runs a query with one parameter, the record's key,
/// and converts the first row; `None` if there is none. For `Lookup`. Every thread
/// has a connection of its own, which only reads.
///
/// ```no_run
/// # use snapline::connect::{MemorySink, MemorySource, SqliteLookup};
/// # use snapline::{Dataflow, Lookup};
/// # use std::time::Duration;
/// let names = SqliteLookup::new(
///     "shop.db",
///     "SELECT name FROM customers WHERE id = ?1",
///     |(customer, _amount): &(i64, u64)| *customer,
///     |row| row.get::<_, String>(0),
/// )
/// .cache(10_000, Duration::from_secs(60));
/// let flow = Dataflow::new("named");
/// flow.source("orders", MemorySource::new(vec![(1, 30), (2, 5)]))
///     .lookup(Lookup::ordered(names))
///     .map(|((_, amount), name)| (name.unwrap_or_default(), amount))
///     .sink("out", MemorySink::new());
/// ```
///
/// A look-up sees the table as it is at that moment, rather than at a checkpoint: a repeated
/// look-up after a failure may have another result.
pub struct SqliteLookup<T, K, R> {
    path: PathBuf,
    sql: String,
    key: Arc<dyn Fn(&T) -> K + Send + Sync>,
    row: Arc<RowRule<R>>,
    patience: Duration,
    cache: Option<Arc<Mutex<Cache<K, R>>>>,
}

type RowRule<R> = dyn Fn(&Row<'_>) -> rusqlite::Result<R> + Send + Sync;

impl<T, K, R> Clone for SqliteLookup<T, K, R> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            sql: self.sql.clone(),
            key: Arc::clone(&self.key),
            row: Arc::clone(&self.row),
            patience: self.patience,
            cache: self.cache.clone(),
        }
    }
}

impl<T, K, R> fmt::Debug for SqliteLookup<T, K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLookup")
            .field("path", &self.path)
            .field("sql", &self.sql)
            .finish_non_exhaustive()
    }
}

impl<T, K, R> SqliteLookup<T, K, R> {
    /// Looks up in the database at `path`, which must exist. `sql` is the query, with the record's
    /// key as its parameter; `row` converts the first row.
    pub fn new(
        path: impl Into<PathBuf>,
        sql: impl Into<String>,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
        row: impl Fn(&Row<'_>) -> rusqlite::Result<R> + Send + Sync + 'static,
    ) -> Self {
        let (path, sql, patience) = (path.into(), sql.into(), PATIENCE);
        Self { path, sql, key: Arc::new(key), row: Arc::new(row), patience, cache: None }
    }

    /// How long to wait for a database that another connection holds; 5 s by default.
    #[must_use]
    pub fn busy_timeout(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Remembers the results for this many keys, the last ones looked up, each for this long. The
    /// absence of a row is a result too. All subtasks share the cache.
    #[must_use]
    pub fn cache(self, entries: usize, time_to_live: Duration) -> Self {
        let (found, order) = (HashMap::new(), VecDeque::new());
        let cache = Cache { most: entries, time_to_live, found, order };
        Self { cache: Some(Arc::new(Mutex::new(cache))), ..self }
    }
}

/// Recent results.
struct Cache<K, R> {
    most: usize,
    time_to_live: Duration,
    found: HashMap<K, (Instant, Option<R>)>,
    /// The oldest first; a key that was looked up again has several entries, of which the newest
    /// counts.
    order: VecDeque<(Instant, K)>,
}

impl<K: Hash + Eq + Clone, R: Clone> Cache<K, R> {
    fn get(&self, key: &K, now: Instant) -> Option<Option<R>> {
        let (since, found) = self.found.get(key)?;
        (now.saturating_duration_since(*since) < self.time_to_live).then(|| found.clone())
    }

    fn put(&mut self, key: K, found: Option<R>, now: Instant) {
        self.found.insert(key.clone(), (now, found));
        self.order.push_back((now, key));
        while self.order.len() > self.most {
            let Some((since, key)) = self.order.pop_front() else { return };
            if self.found.get(&key).is_some_and(|(newest, _)| *newest == since) {
                self.found.remove(&key);
            }
        }
    }
}

/// One thread's connection.
pub struct SqliteClient<T, K, R> {
    lookup: SqliteLookup<T, K, R>,
    connection: Connection,
    clock: Clock,
    looks_up: PhantomData<fn(T)>,
}

impl<T, K, R> fmt::Debug for SqliteClient<T, K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteClient").field("lookup", &self.lookup).finish_non_exhaustive()
    }
}

impl<T, K, R> LookupSource<T> for SqliteLookup<T, K, R>
where
    T: 'static,
    K: ToSql + Hash + Eq + Clone + Send + 'static,
    R: Clone + Send + 'static,
{
    type Found = Option<R>;
    type Client = SqliteClient<T, K, R>;

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        classify_as::<SqliteError>(error)
    }

    fn open(&self, context: &OpenContext) -> Result<Self::Client, BoxError> {
        let connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY, self.patience)?;
        let (path, sql) = (&self.path, &self.sql);
        connection.prepare_cached(sql).map(drop).map_err(|source| SqliteError::Schema {
            path: path.clone(),
            sql: sql.clone(),
            source,
        })?;
        let clock = context.clock.clone();
        Ok(SqliteClient { lookup: self.clone(), connection, clock, looks_up: PhantomData })
    }
}

impl<T, K, R> LookupClient<T> for SqliteClient<T, K, R>
where
    K: ToSql + Hash + Eq + Clone,
    R: Clone,
{
    type Found = Option<R>;

    fn look_up(&mut self, record: &T) -> Result<Option<R>, BoxError> {
        let key = (self.lookup.key)(record);
        let cache = self.lookup.cache.as_ref();
        let now = self.clock.now();
        if let Some(found) = cache.and_then(|cache| lock(cache).get(&key, now)) {
            return Ok(found);
        }
        let failed = SqliteError::of("look up a record", &self.lookup.path);
        let mut query = self.connection.prepare_cached(&self.lookup.sql).map_err(&failed)?;
        let row = |row: &Row<'_>| (self.lookup.row)(row);
        let found = query.query_row([&key], row).optional().map_err(&failed)?;
        if let Some(cache) = cache {
            lock(cache).put(key, found.clone(), now);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_remembered_for_a_while_and_not_all_of_it() {
        let (found, order) = (HashMap::new(), VecDeque::new());
        let mut cache = Cache { most: 2, time_to_live: Duration::from_secs(10), found, order };
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        cache.put(1, Some('a'), at(0));
        cache.put(2, None, at(1));
        assert_eq!(cache.get(&1, at(9)), Some(Some('a')));
        assert_eq!(cache.get(&2, at(9)), Some(None), "that there is nothing is remembered too");
        assert_eq!(cache.get(&1, at(10)), None, "it is too old");
        cache.put(1, Some('b'), at(11));
        assert_eq!(cache.get(&1, at(11)), Some(Some('b')));
        cache.put(3, Some('c'), at(12));
        assert_eq!(cache.get(&2, at(12)), None, "there is no room for it");
        assert_eq!(cache.get(&1, at(12)), Some(Some('b')));
        assert!(cache.found.len() <= 2 && cache.order.len() <= 2);
    }
}
