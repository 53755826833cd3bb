//! Properties of a database sink: its refusals and its errors.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use snapline::connect::{
    MemorySink, MemorySource, SinkCommitter, SinkWriter, SqliteError, SqliteLookup, SqliteSink,
    TwoPhaseSink,
};
use snapline::protocol::committer::CommitOutcome::{AlreadyCommitted, Committed, Lost, Retry};
use snapline::{Dataflow, JobConfig, JobError, Level, Lookup, LookupClient, LookupSource, Restart};
use snapline_core::connect::testing::granted;

use crate::{attempt, context, through_a_checkpoint, txn};

/// The lines of a database, in the order in which they were committed.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    if !path.exists() {
        return Vec::new();
    }
    let database = Connection::open(path).expect("opens");
    let mut query = database.prepare("SELECT line FROM lines ORDER BY number").expect("a table");
    let rows = query.query_map([], |row| row.get(0)).expect("can be read");
    rows.collect::<Result<_, _>>().expect("texts")
}

pub(crate) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS lines (number INTEGER PRIMARY KEY, line TEXT NOT NULL UNIQUE)";

pub(crate) fn insert(tx: &Transaction<'_>, line: &String) -> rusqlite::Result<()> {
    tx.execute("INSERT INTO lines (line) VALUES (?1)", [line]).map(drop)
}

pub(crate) type Insert = fn(&Transaction<'_>, &String) -> rusqlite::Result<()>;

pub(crate) type Committer = <SqliteSink<String, Insert> as TwoPhaseSink>::Committer;
pub(crate) type Committable = <SqliteSink<String, Insert> as TwoPhaseSink>::Committable;

pub(crate) fn sink(path: &Path) -> SqliteSink<String, Insert> {
    SqliteSink::new(path, insert as Insert).setup(TABLE)
}

pub(crate) fn sqlite<T>(result: Result<T, snapline::BoxError>) -> SqliteError {
    let error = result.err().expect("must fail");
    *error.downcast::<SqliteError>().expect("a database's error")
}

/// Opens, writes the lines and prepares them.
pub(crate) fn prepared(
    sink: &SqliteSink<String, Insert>,
    checkpoint: u64,
    lines: &[&str],
) -> (Committer, Committable) {
    let first = attempt(1, 1);
    let (mut writer, mut committer) = sink.open(&context(0, first)).expect("opens");
    committer.fence(first).expect("fences");
    writer.write(&mut lines.iter().map(ToString::to_string).collect()).expect("writes");
    let one = writer.close(txn(checkpoint, first, 0)).expect("closes");
    committer.prepare(txn(checkpoint, first, 0), &one).expect("prepares");
    (committer, one)
}

#[test]
fn what_does_not_fit_is_reported_when_the_sink_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |sink: SqliteSink<String, Insert>| sqlite(sink.open(&context(0, attempt(1, 1))));
    let fresh = |name: &str| SqliteSink::new(dir.path().join(name), insert as Insert);

    let error = open(fresh("a.db").expects("INSERT INTO lines (line) VALUES (?1)"));
    assert!(matches!(error, SqliteError::Schema { .. }), "{error}");
    assert!(error.to_string().contains("no such table: lines"), "{error}");
    let error = open(fresh("b.db").setup(TABLE).expects("SELECT colour FROM lines"));
    assert!(error.to_string().contains("no such column: colour"), "{error}");
    let error = open(fresh("c.db").setup("CREATE TABEL x (y)"));
    assert!(matches!(error, SqliteError::Schema { .. }), "{error}");

    std::fs::write(dir.path().join("d.db"), "these are notes, and no database\n".repeat(99))
        .expect("written");
    assert!(matches!(open(fresh("d.db")), SqliteError::NotADatabase { .. }));
    let error = open(fresh("no/such/directory/e.db"));
    assert!(matches!(error, SqliteError::Open { .. }), "{error}");
    let error = open(SqliteSink::new(":memory:", insert as Insert));
    assert!(matches!(error, SqliteError::NoFile { .. }), "{error}");
}

#[test]
fn an_operators_name_belongs_to_one_job() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = sink(&dir.path().join("out.db"));
    sink.open(&context(0, attempt(1, 1))).expect("opens");
    let other = snapline::connect::OpenContext::new("another", "out", 0, 1, attempt(1, 1));
    let error = sqlite(sink.open(&other));
    assert!(matches!(error, SqliteError::Owned { .. }), "{error}");
}

#[test]
fn a_database_that_is_held_is_reported_while_staging_and_waited_for_while_committing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let sink = sink(&path).busy_timeout(Duration::from_millis(20));
    let (mut committer, one) = prepared(&sink, 1, &["a"]);
    let name = txn(1, attempt(1, 1), 0);
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("holds it");
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Retry);
    let error = sqlite(committer.prepare(name, &one));
    assert!(matches!(error, SqliteError::Busy { .. }), "{error}");
    assert!(lines(&path).is_empty());
    other.execute_batch("ROLLBACK").expect("lets go");
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(lines(&path), ["a"]);
}

#[test]
fn a_full_database_is_waited_for_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    // The limit is the number of pages when the records are staged; then the trigger needs more of
    // them.
    let fills = format!(
        "{TABLE}; CREATE TABLE IF NOT EXISTS blobs (bytes BLOB);
         CREATE TRIGGER IF NOT EXISTS fills AFTER INSERT ON lines
         BEGIN INSERT INTO blobs VALUES (zeroblob(100000000)); END;"
    );
    let apply: Insert = |tx, line| {
        tx.pragma_update(None, "max_page_count", 64)?;
        insert(tx, line)
    };
    let sink = SqliteSink::new(&path, apply).setup(fills);
    let (mut committer, one) = prepared(&sink, 1, &["a"]);
    let name = txn(1, attempt(1, 1), 0);
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Retry);
    assert!(lines(&path).is_empty(), "all of it or nothing");
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("DROP TRIGGER fills").expect("makes room");
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(lines(&path), ["a"]);
}

#[test]
fn a_record_that_is_refused_stops_the_commit_until_it_fits() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let (mut committer, one) = prepared(&sink(&path), 1, &["a", "b", "a", "c"]);
    let name = txn(1, attempt(1, 1), 0);
    for _ in 0..2 {
        let error = sqlite(committer.commit(granted(name), &one));
        assert!(matches!(error, SqliteError::Refused { record: 2, .. }), "{error}");
        assert!(error.to_string().contains("UNIQUE constraint failed: lines.line"), "{error}");
        assert!(lines(&path).is_empty(), "all of it or nothing");
    }
    // A later build is corrected.
    let lenient: Insert =
        |tx, line| tx.execute("INSERT OR IGNORE INTO lines (line) VALUES (?1)", [line]).map(drop);
    let mended = SqliteSink::new(&path, lenient);
    let (_, mut committer) = mended.open(&context(0, attempt(1, 2))).expect("opens");
    committer.fence(attempt(1, 2)).expect("fences");
    let one = through_a_checkpoint(&one);
    assert_eq!(committer.committed().expect("readable"), None);
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(lines(&path), ["a", "b", "c"]);
    assert_eq!(committer.committed().expect("readable"), Some(name), "SPEC 7.7");
}

#[test]
fn refused_records_are_set_aside_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let (mut committer, one) = prepared(&sink(&path).set_aside(), 1, &["a", "b", "a", "c"]);
    let name = txn(1, attempt(1, 1), 0);
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), AlreadyCommitted);
    assert_eq!(lines(&path), ["a", "b", "c"]);
    let aside = "SELECT record, why FROM snapline_refused";
    let aside: (u32, String) = Connection::open(&path)
        .expect("opens")
        .query_row(aside, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("one row");
    assert_eq!(aside.0, 2);
    assert!(aside.1.contains("UNIQUE"), "{}", aside.1);
}

#[test]
fn a_function_that_commits_is_found_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let commits: Insert = |tx, _| tx.execute_batch("COMMIT");
    let sink = SqliteSink::new(dir.path().join("out.db"), commits);
    let (mut committer, one) = prepared(&sink, 1, &["a"]);
    let error = sqlite(committer.commit(granted(txn(1, attempt(1, 1), 0)), &one));
    assert!(matches!(error, SqliteError::Ended { .. }), "{error}");
}

#[test]
fn staged_records_that_were_changed_or_removed_are_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let (mut committer, one) = prepared(&sink(&path), 1, &["a"]);
    let name = txn(1, attempt(1, 1), 0);
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("UPDATE snapline_staged SET bytes = x'00'").expect("changes it");
    let error = sqlite(committer.commit(granted(name), &one));
    assert!(matches!(error, SqliteError::Damaged { .. }), "{error}");
    other.execute_batch("DELETE FROM snapline_staged").expect("removes it");
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Lost);
}

#[test]
fn more_than_may_be_held_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = sink(&dir.path().join("out.db")).most_bytes(100);
    let (mut writer, _) = sink.open(&context(0, attempt(1, 1))).expect("opens");
    writer.write(&mut vec!["x".repeat(50)]).expect("writes");
    let error = sqlite(writer.write(&mut vec!["y".repeat(50)]));
    assert!(matches!(error, SqliteError::TooMuch { limit: 100, .. }), "{error}");
}

#[test]
fn a_job_writes_exactly_once_and_in_order_however_long_a_transaction_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    // More than one piece.
    let records: Vec<String> = (0..300).map(|number| format!("{number:09}").repeat(1000)).collect();
    let flow = Dataflow::new("long");
    flow.source("in", MemorySource::new(records.clone())).sink("out", sink(&path));
    let config = JobConfig::new().parallelism(1).require(Level::ExactlyOnce);
    flow.build(config).expect("well formed").run().expect("runs");
    assert_eq!(lines(&path), records);
    let ledger = "SELECT COUNT(*), MIN(checkpoint) FROM snapline_ledger";
    let ledger: (u32, u32) = Connection::open(&path)
        .expect("opens")
        .query_row(ledger, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("one row");
    assert_eq!(ledger, (1, 1));
}

#[test]
fn a_job_says_what_is_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = SqliteSink::new(dir.path().join("out.db"), insert as Insert)
        .expects("SELECT line FROM lines");
    let flow = Dataflow::new("missing");
    flow.source("in", MemorySource::new(vec!["a".to_owned()])).sink("out", missing);
    // Whatever the strategy: no restart creates a table.
    let config = JobConfig::new().parallelism(1);
    let failed = flow.build(config).expect("well formed").run().expect_err("fails");
    let JobError::Failed(failure) = failed else { panic!("{failed}") };
    assert!(failure.to_string().contains("no such table: lines"), "{failure}");
    assert_eq!(failure.doing, "opening");
}

#[test]
fn what_was_found_is_asked_for_once_by_all_subtasks() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("names.db");
    let table = "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
        INSERT INTO names VALUES (1, 'one')";
    let database = Connection::open(&path).expect("opens");
    database.execute_batch(table).expect("makes it");
    let sql = "SELECT name FROM names WHERE id = ?1";
    let fresh = SqliteLookup::new(&path, sql, |id: &i64| *id, |row| row.get::<_, String>(0));
    let cached = fresh.clone().cache(9, Duration::from_secs(3600));
    let ask = |lookup: &SqliteLookup<i64, i64, String>, index, id| {
        let mut client = lookup.open(&context(index, attempt(1, 1))).expect("opens");
        client.look_up(&id).expect("answers")
    };
    assert_eq!((ask(&cached, 0, 1), ask(&cached, 1, 2)), (Some("one".into()), None));
    database.execute_batch("UPDATE names SET name = 'uno'").expect("changes it");
    database.execute_batch("INSERT INTO names VALUES (2, 'due'), (3, 'tre')").expect("writes");
    assert_eq!(ask(&fresh, 0, 1), Some("uno".into()), "it is asked each time");
    assert_eq!((ask(&cached, 1, 1), ask(&cached, 0, 2)), (Some("one".into()), None));
    assert_eq!(ask(&cached, 0, 3), Some("tre".into()), "of others it is asked");
}

#[test]
fn a_look_up_waits_for_a_database_as_long_as_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("names.db");
    let database = Connection::open(&path).expect("opens");
    database.execute_batch("CREATE TABLE names (id, name)").expect("makes it");
    let sql = "SELECT name FROM names WHERE id = ?1";
    let lookup = SqliteLookup::new(&path, sql, |id: &i64| *id, |row| row.get::<_, String>(0))
        .busy_timeout(Duration::from_millis(200));
    let mut client = lookup.open(&context(0, attempt(1, 1))).expect("opens");
    database.execute_batch("BEGIN EXCLUSIVE").expect("holds it");
    let begun = std::time::Instant::now();
    let error = sqlite(client.look_up(&1));
    assert!(matches!(error, SqliteError::Busy { .. }), "{error}");
    let waited = begun.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_millis(4_500)).contains(&waited));
    database.execute_batch("ROLLBACK").expect("lets go");
    assert_eq!(client.look_up(&1).expect("answers"), None);
}

#[test]
fn records_are_looked_up_in_a_table() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("names.db");
    let table = "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
        INSERT INTO names VALUES (1, 'one'), (2, 'two'), (4, 'four')";
    Connection::open(&path).expect("opens").execute_batch(table).expect("makes it");
    let run = |sql: &str, cached: bool| {
        let lookup = SqliteLookup::new(&path, sql, |id: &i64| *id, |row| row.get::<_, String>(0));
        let lookup = if cached { lookup.cache(2, Duration::from_secs(60)) } else { lookup };
        let (flow, out) = (Dataflow::new("named"), MemorySink::new());
        flow.source("ids", MemorySource::new((0..50).map(|id| id % 5).collect()))
            .lookup(Lookup::ordered(lookup).in_flight(4))
            .sink("out", out.clone());
        let config = JobConfig::new().parallelism(1).restart(Restart::Never);
        flow.build(config).expect("well formed").run().map(|_| out.committed())
    };
    let name = |id: i64| [None, Some("one"), Some("two"), None, Some("four")][id as usize];
    let expected: Vec<(i64, Option<String>)> =
        (0..50).map(|id| (id % 5, name(id % 5).map(str::to_owned))).collect();
    for cached in [false, true] {
        let found = run("SELECT name FROM names WHERE id = ?1", cached).expect("runs");
        assert_eq!(found, expected);
    }
    let failed = run("SELECT nickname FROM names WHERE id = ?1", false).expect_err("fails");
    assert!(failed.to_string().contains("no such column: nickname"), "{failed}");
    let failed = run("DELETE FROM names WHERE id = ?1 RETURNING name", false).expect_err("fails");
    assert!(failed.to_string().contains("is not writable"), "{failed}");
}
