//! A source of the rows of a query: their order, first and last row, and malformed rows.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use snapline::connect::{
    FileSink, MalformedRow, MemorySink, OpenContext, Progress, Source, SourceReader, SqliteError,
    SqliteSource, read_committed,
};
use snapline::{BoxError, Dataflow, Either, Ended, JobConfig, JobError, Level, Restart};

use crate::sqlite::sqlite;
use crate::{attempt, through_a_checkpoint};

/// Opens a database after these statements.
fn after(path: &Path, statements: &str) -> Connection {
    let database = Connection::open(path).expect("opens");
    database.execute_batch(statements).expect("runs");
    database
}

/// This many rows: 3, 6, 9 and so on.
fn threes(path: &Path, rows: u32) -> Connection {
    let fill = format!(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY, number);
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows})
         INSERT INTO numbers SELECT 3 * n, 10 * n FROM n"
    );
    after(path, &fill)
}

fn numbers(path: &Path) -> SqliteSource<(i64, i64)> {
    let pair = |row: &rusqlite::Row<'_>| Ok((row.get("id")?, row.get("number")?));
    SqliteSource::new(path, "SELECT id, number FROM numbers", "id", pair)
}

fn context(index: usize) -> OpenContext {
    OpenContext::new("job", "in", index, 2, attempt(1, 1))
}

/// Reads to the end, in small steps.
fn rest<R: SourceReader>(reader: &mut R) -> Result<Vec<R::Record>, BoxError> {
    let mut all = Vec::new();
    while reader.read(3, &mut all)? != Progress::End {}
    Ok(all)
}

/// All records that one subtask reads.
fn all<S: Source>(source: &S) -> Result<Vec<S::Record>, BoxError> {
    rest(&mut source.open(&context(0), None)?)
}

#[test]
fn rows_come_in_the_order_of_their_keys_whatever_these_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("in.db");
    let keys = "CREATE TABLE keys (name TEXT PRIMARY KEY, part BLOB UNIQUE, size REAL UNIQUE, mixed UNIQUE);
        INSERT INTO keys VALUES ('it''s', x'00ff', 2.5, 'a'), ('B', x'ff', -1.0, 7), ('a', x'00', 1e300, x'00'),
            ('é', x'', 0.5, -7), ('', x'0100', 1.5, 0.5)";
    after(&path, keys);
    let by = |key: &str, ordered: &str| {
        let name = |row: &rusqlite::Row<'_>| row.get::<_, String>("name");
        let source = SqliteSource::new(&path, "SELECT * FROM keys ORDER BY size;", key, name);
        let read = all(&source).expect("reads");
        assert_eq!(read.join(","), ordered, "by {key}");
        for (at, _) in read.iter().enumerate() {
            let mut reader = source.open(&context(0), None).expect("opens");
            reader.read(at + 1, &mut Vec::new()).expect("reads");
            let position = through_a_checkpoint(&reader.position());
            let mut again = source.open(&context(0), Some(position)).expect("opens");
            assert_eq!(rest(&mut again).expect("reads"), read[at + 1..], "by {key}, after {at}");
        }
    };
    by("name", ",B,a,it's,é");
    by("Part", "é,a,it's,,B");
    by("size", "B,é,,it's,a");
    by("mixed", "é,,B,it's,a");
}

#[test]
fn what_is_put_after_the_end_is_not_read_and_the_rest_is_read_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("in.db");
    let database = threes(&path, 10);
    let source = numbers(&path);
    let mut reader = source.open(&context(0), None).expect("opens");
    let mut read = Vec::new();
    assert_eq!(reader.read(4, &mut read).expect("reads"), Progress::More);
    let changes = "INSERT INTO numbers VALUES (1, 1), (13, 13), (31, 31);
        UPDATE numbers SET number = -1 WHERE id IN (3, 12, 21);
        DELETE FROM numbers WHERE id IN (6, 24, 30)";
    database.execute_batch(changes).expect("changes it");
    let position = through_a_checkpoint(&reader.position());
    let mut again = source.open(&context(0), Some(position)).expect("opens");
    let behind = [(13, 13), (15, 50), (18, 60), (21, -1), (27, 90)];
    for reader in [&mut reader, &mut again] {
        assert_eq!(rest(reader).expect("reads"), behind);
        assert_eq!(reader.read(9, &mut read).expect("reads"), Progress::End);
    }
    assert_eq!(read, [(3, 10), (6, 20), (9, 30), (12, 40)]);
    assert!(rest(&mut source.open(&context(1), None).expect("opens")).expect("reads").is_empty());
    database.execute_batch("DELETE FROM numbers").expect("empties it");
    let mut empty = source.open(&context(0), None).expect("opens");
    database.execute_batch("INSERT INTO numbers VALUES (1, 1)").expect("writes");
    assert!(rest(&mut empty).expect("reads").is_empty(), "it was empty when it began");
}

#[test]
fn keys_that_are_none_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("in.db");
    let rows = "CREATE TABLE rows (id INTEGER PRIMARY KEY, twice, part, folded TEXT COLLATE NOCASE);
        INSERT INTO rows VALUES (1, 1, NULL, 'a'), (2, 7, 1, 'b'), (3, 7, 2, 'B'), (4, 8, 3, 'c'), (5, 9, 4, 'd')";
    let database = after(&path, rows);
    let source = |sql: &str, key: &str| {
        SqliteSource::new(&path, sql, key, |row: &rusqlite::Row<'_>| row.get::<_, i64>("id"))
    };
    let by = |key: &str, limit: usize| {
        let mut reader = source("SELECT * FROM rows", key).open(&context(0), None)?;
        let mut read = Vec::new();
        while reader.read(limit, &mut read)? != Progress::End {}
        Ok(read)
    };
    // A row could be missed only where a read ends with one of them.
    for key in ["twice", "folded"] {
        for limit in [2, 3] {
            let error = sqlite(by(key, limit));
            assert!(matches!(error, SqliteError::Key { .. }), "{error}");
            assert!(error.to_string().contains("2 rows have the key"), "{error}");
        }
        assert_eq!(by(key, 4).expect("reads"), [1, 2, 3, 4, 5]);
    }
    let error = sqlite(by("part", 9));
    assert!(error.to_string().contains("key is null"), "{error}");
    database.execute_batch("UPDATE rows SET part = NULL").expect("writes");
    assert!(sqlite(by("part", 9)).to_string().contains("key is null"));
    let error = sqlite(by("colour", 9));
    assert!(error.to_string().contains("no column `colour`; it has `id`, `twice`"), "{error}");
    let error = sqlite(all(&source("SELECT colour FROM rows", "colour")));
    assert!(matches!(error, SqliteError::Schema { .. }), "{error}");
    let error = sqlite(all(&source("DELETE FROM rows RETURNING id", "id")));
    assert!(matches!(error, SqliteError::Schema { .. }), "{error}");
    let error = sqlite(all(&numbers(&dir.path().join("other.db"))));
    assert!(matches!(error, SqliteError::Open { .. }), "{error}");
}

#[test]
fn malformed_rows_fail_are_skipped_or_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("in.db");
    threes(&path, 6);
    after(&path, "UPDATE numbers SET number = 'it''s a lot' WHERE id IN (6, 12)");
    let run = |source: SqliteSource<(i64, i64)>| {
        let (flow, out) = (Dataflow::new("skips"), MemorySink::new());
        flow.source("in", source).sink("out", out.clone());
        let config = JobConfig::new().parallelism(1).restart(Restart::Never);
        let outcome = flow.build(config).expect("builds").run();
        outcome.map(|outcome| (out.committed(), outcome.status))
    };
    let failed = run(numbers(&path)).expect_err("fails").to_string();
    assert!(failed.contains("id = 6, number = 'it''s a lot'): "), "{failed}");
    let (good, status) = run(numbers(&path).skip_malformed()).expect("runs");
    let expected = [(3, 10), (9, 30), (15, 50), (18, 60)];
    assert_eq!(good, expected);
    assert_eq!(status.tasks.iter().map(|task| task.records_malformed).sum::<u64>(), 2);

    let kept: Vec<Either<(i64, i64), MalformedRow>> =
        all(&numbers(&path).keep_malformed()).expect("reads");
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for row in kept {
        match row {
            Either::Left(row) => good.push(row),
            Either::Right(row) => bad.push(row.columns[0].1.clone()),
        }
    }
    assert_eq!((good, bad), (expected.to_vec(), vec!["6".to_owned(), "12".to_owned()]));
    // The position holds the number of skipped rows.
    let source = numbers(&path).skip_malformed();
    let mut reader = source.open(&context(0), None).expect("opens");
    reader.read(3, &mut Vec::new()).expect("reads");
    let position = through_a_checkpoint(&reader.position());
    let mut again = source.open(&context(0), Some(position)).expect("opens");
    assert_eq!(rest(&mut again).expect("reads"), expected[2..]);
    assert_eq!(again.malformed(), 2);
    // A function that asks for a missing column fails for every row, so no row counts as malformed.
    let wrong =
        SqliteSource::new(&path, "SELECT id FROM numbers", "id", |row| row.get::<_, i64>("colour"));
    let error = sqlite(all(&wrong.skip_malformed()));
    assert!(matches!(error, SqliteError::Schema { .. }), "{error}");
}

#[test]
fn a_database_that_is_held_is_waited_for_and_does_not_hold_the_worker() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("in.db");
    let database = threes(&path, 5);
    let source = numbers(&path).busy_timeout(Duration::from_millis(100));
    let mut reader = source.open(&context(0), None).expect("opens");
    let mut read = Vec::new();
    for _ in 0..2 {
        database.execute_batch("BEGIN EXCLUSIVE").expect("holds it");
        assert!(matches!(reader.read(2, &mut read), Ok(Progress::Wait(_))));
        database.execute_batch("ROLLBACK").expect("lets go");
        assert_eq!(reader.read(2, &mut read).expect("reads"), Progress::More);
    }
    assert_eq!(read.len(), 4);
    // The earlier waiting time does not count.
    std::thread::sleep(Duration::from_millis(150));
    database.execute_batch("BEGIN EXCLUSIVE").expect("holds it");
    let begun = std::time::Instant::now();
    let error = loop {
        match reader.read(2, &mut read) {
            Ok(Progress::Wait(pause)) => std::thread::sleep(pause),
            other => break sqlite(other),
        }
    };
    assert!(matches!(error, SqliteError::Busy { .. }), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(100) && read.len() == 4);
    assert!(begun.elapsed() < Duration::from_millis(4_500), "longer than was said");
}

/// Rows are written into files through failures, and through a process that was stopped: each once.
#[test]
fn a_job_that_fails_and_is_begun_again_reads_each_row_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("in.db");
    threes(&path, 20_000);
    let out = dir.path().join("out");
    let (seen, left) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(2)));
    let run = || {
        let flow = Dataflow::new("rows");
        let (sees, fails, made) = (Arc::clone(&seen), Arc::clone(&left), out.clone());
        flow.source("in", numbers(&path))
            .try_map(move |(id, number): (i64, i64)| {
                let before = sees.fetch_add(1, Ordering::Relaxed);
                if before.is_multiple_of(500) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                // In two attempts, when there is a checkpoint to resume from; less often than there
                // is a batch, the rest of which is still tried.
                let left = fails.load(Ordering::Relaxed);
                let committed = || read_committed(&made).is_ok_and(|lines| !lines.is_empty());
                if before.is_multiple_of(2_000) && left > 0 && committed() {
                    fails.store(left - 1, Ordering::Relaxed);
                    return Err(BoxError::from("planned"));
                }
                Ok(format!("{id} {number}"))
            })
            .sink("out", FileSink::new(&out));
        let restart = Restart::Fixed { attempts: 1, pause: Duration::from_millis(1) };
        let config = JobConfig::new().parallelism(1).restart(restart);
        let config = config.checkpoint_interval(Duration::from_millis(4));
        let config = config.require(Level::ExactlyOnce).directory(dir.path().join("checkpoints"));
        flow.build(config).expect("builds").run()
    };
    let failed = run().expect_err("it fails twice");
    assert!(matches!(failed, JobError::Failed(_)), "{failed}");
    let before = seen.load(Ordering::Relaxed);
    let outcome = run().expect("runs");
    assert_eq!((outcome.ended, outcome.status.restarts), (Ended::Finished, 0));
    let mut lines = read_committed(&out).expect("readable");
    lines.sort_by_key(|line| line.split(' ').next().and_then(|id| id.parse::<u32>().ok()));
    assert!(lines.into_iter().eq((1..=20_000).map(|n| format!("{} {}", 3 * n, 10 * n))));
    let read = seen.load(Ordering::Relaxed) - before;
    assert!(read < 20_000, "{read}: from a checkpoint on, and not from the beginning");
}

#[test]
fn another_database_query_or_key_than_the_checkpoints_is_refused_with_both() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, moved) = (dir.path().join("in.db"), dir.path().join("moved.db"));
    drop((threes(&path, 9), threes(&moved, 9)));
    let mut reader = numbers(&path).open(&context(0), None).expect("opens");
    reader.read(4, &mut Vec::new()).expect("reads");
    let position = through_a_checkpoint(&reader.position());
    let pair = |row: &rusqlite::Row<'_>| Ok((row.get("id")?, row.get("number")?));
    let query = "SELECT id, number FROM numbers WHERE id <> 1";
    let others = || {
        [
            numbers(&moved),
            SqliteSource::new(&path, query, "id", pair),
            SqliteSource::new(&path, "SELECT id, number FROM numbers", "number", pair),
        ]
    };
    for other in others() {
        let error = sqlite(other.open(&context(0), Some(position.clone())));
        assert!(matches!(error, SqliteError::Other { .. }), "{error}");
        assert!(error.to_string().contains("accept_changed"), "{error}");
    }
    // The same, written differently.
    let (dot, link) = (dir.path().join("./in.db"), dir.path().join("link.db"));
    std::os::unix::fs::symlink(&path, &link).expect("links");
    let spaced = " SELECT  id,\n  number\tFROM numbers ;\n";
    for same in [
        numbers(&dot),
        numbers(&link),
        SqliteSource::new(&path, spaced, "id", pair),
        SqliteSource::new(&path, "SELECT id, number FROM numbers", "ID", pair),
    ] {
        let mut reader = same.open(&context(0), Some(position.clone())).expect("the same");
        assert_eq!(rest(&mut reader).expect("reads").len(), 5);
    }
    for other in others().into_iter().take(2) {
        let other = other.accept_changed();
        let mut reader = other.open(&context(0), Some(position.clone())).expect("opens");
        assert_eq!(rest(&mut reader).expect("reads").len(), 5);
    }
    // As revision 2498966 wrote it.
    let mut old = serde_json::to_value(&position).expect("JSON");
    old.as_object_mut().expect("a map").remove("of").expect("was there");
    let old = serde_json::from_value(old).expect("a position");
    let mut reader = numbers(&moved).open(&context(0), Some(old)).expect("opens");
    assert_eq!(rest(&mut reader).expect("reads").len(), 5);
}
