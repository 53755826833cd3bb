//! The guarantees of each step of an SQLite sink, and the evidence that a step was left out.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use snapline::connect::{SinkCommitter, SinkWriter, SqliteError, SqliteSink, TwoPhaseSink};
use snapline::protocol::committer::CommitOutcome::{AlreadyCommitted, Committed, Retry, Unknown};
use snapline_core::connect::testing::granted;

use crate::sqlite::{Committable, Committer, Insert, TABLE, insert, lines, prepared, sink, sqlite};
use crate::{attempt, context, through_a_checkpoint, txn};

fn open(path: &Path) -> Connection {
    Connection::open(path).expect("opens")
}

/// Another transaction, prepared by the same committer.
fn another(
    sink: &SqliteSink<String, Insert>,
    checkpoint: u64,
    line: &str,
) -> (Committer, Committable) {
    let first = attempt(1, 1);
    let (mut writer, mut committer) = sink.open(&context(0, first)).expect("opens");
    writer.write(&mut vec![line.to_owned()]).expect("writes");
    let one = writer.close(txn(checkpoint, first, 0)).expect("closes");
    committer.prepare(txn(checkpoint, first, 0), &one).expect("prepares");
    (committer, one)
}

#[test]
fn records_and_ledger_are_written_together_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let (mut committer, one) = prepared(&sink(&path), 1, &["a", "b"]);
    let name = txn(1, attempt(1, 1), 0);
    let other = open(&path);
    for (table, event) in [("ledger", "INSERT"), ("staged", "DELETE")] {
        let refuses = format!(
            "CREATE TRIGGER refuses BEFORE {event} ON snapline_{table}
             BEGIN SELECT RAISE(ABORT, 'planned'); END;"
        );
        other.execute_batch(&refuses).expect("made");
        let error = sqlite(committer.commit(granted(name), &one));
        assert!(error.to_string().contains("planned"), "{error}");
        assert!(lines(&path).is_empty(), "without the {table}");
        other.execute_batch("DROP TRIGGER refuses").expect("dropped");
    }
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(lines(&path), ["a", "b"]);
    let left = "SELECT COUNT(*) FROM snapline_staged";
    let left: u32 = other.query_row(left, [], |row| row.get(0)).expect("a count");
    assert_eq!(left, 0, "what is committed is staged no more");
}

/// SQLite refuses the commit itself: nothing was committed, which is known, and the sink does not
/// wait in vain.
#[test]
fn a_constraint_that_is_checked_at_the_end_refuses_the_transaction() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let tables = "CREATE TABLE IF NOT EXISTS known (line TEXT PRIMARY KEY);
        CREATE TABLE IF NOT EXISTS lines (number INTEGER PRIMARY KEY,
            line TEXT NOT NULL REFERENCES known (line) DEFERRABLE INITIALLY DEFERRED)";
    let sink = SqliteSink::new(&path, insert as Insert).setup(tables);
    let (mut committer, one) = prepared(&sink, 1, &["a", "b"]);
    let name = txn(1, attempt(1, 1), 0);
    let other = open(&path);
    for known in ["a", "b"] {
        let error = sqlite(committer.commit(granted(name), &one));
        assert!(matches!(error, SqliteError::Violated { .. }), "{error}");
        assert!(error.to_string().contains("checkpoint 1") && lines(&path).is_empty(), "{error}");
        other.execute("INSERT INTO known VALUES (?1)", [known]).expect("written");
    }
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(lines(&path), ["a", "b"]);
}

/// Without a write-ahead log a reader keeps SQLite from committing: that is known too, and retried.
#[test]
fn a_commit_that_a_reader_holds_up_is_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let sink = sink(&path).keep_journal_mode().busy_timeout(Duration::from_millis(20));
    let (mut committer, one) = prepared(&sink, 1, &["a"]);
    let name = txn(1, attempt(1, 1), 0);
    let reader = open(&path);
    let mode: String =
        reader.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("a mode");
    assert_eq!(mode, "delete", "the mode must not change");
    reader.execute_batch("BEGIN; SELECT COUNT(*) FROM lines").expect("reads");
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Retry);
    reader.execute_batch("COMMIT").expect("has read");
    assert!(lines(&path).is_empty());
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(lines(&path), ["a"]);
}

#[test]
fn it_waits_for_a_database_as_long_as_is_said_and_readers_do_not_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let sink = sink(&path).busy_timeout(Duration::from_millis(300));
    let (mut committer, one) = prepared(&sink, 1, &["a"]);
    let other = open(&path);
    let mode: String =
        other.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("a mode");
    assert_eq!(mode, "wal");
    other.execute_batch("BEGIN IMMEDIATE").expect("holds it");
    let begun = Instant::now();
    let name = txn(1, attempt(1, 1), 0);
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Retry);
    // The default is to wait 5 s.
    let waited = begun.elapsed().as_millis();
    assert!((250..4_500).contains(&waited), "{waited} ms");
}

#[test]
fn less_staged_than_was_written_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    // A record fills a piece.
    let long = "x".repeat(1 << 20);
    let (mut committer, one) = prepared(&sink(&path), 1, &[&long, "b"]);
    let other = open(&path);
    let gone = other.execute("DELETE FROM snapline_staged WHERE piece = 1", []).expect("removed");
    assert_eq!(gone, 1, "there were two pieces");
    let error = sqlite(committer.commit(granted(txn(1, attempt(1, 1), 0)), &one));
    assert!(matches!(error, SqliteError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("1 records") && lines(&path).is_empty(), "{error}");
}

#[test]
fn a_bit_that_fell_over_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let (mut committer, one) = prepared(&sink(&path), 1, &["four"]);
    let other = open(&path);
    let staged = "SELECT bytes FROM snapline_staged";
    let mut bytes: Vec<u8> = other.query_row(staged, [], |row| row.get(0)).expect("is there");
    // The record can still be decoded, to a different value.
    *bytes.last_mut().expect("not empty") ^= 1;
    other.execute("UPDATE snapline_staged SET bytes = ?1", [bytes]).expect("written");
    let error = sqlite(committer.commit(granted(txn(1, attempt(1, 1), 0)), &one));
    assert!(matches!(error, SqliteError::Damaged { .. }) && lines(&path).is_empty(), "{error}");
}

/// The function's writes for a record before its failure are undone, and the record is kept as it
/// was.
#[test]
fn a_record_that_is_set_aside_leaves_nothing_in_the_tables() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let twice: Insert = |tx: &Transaction<'_>, line: &String| {
        tx.execute("INSERT INTO begun VALUES (?1)", [line])?;
        insert(tx, line)
    };
    let tables = format!("{TABLE}; CREATE TABLE IF NOT EXISTS begun (line TEXT NOT NULL)");
    let sink = SqliteSink::new(&path, twice).setup(tables).set_aside();
    let (mut committer, one) = prepared(&sink, 1, &["first", "first", "second"]);
    assert_eq!(
        committer.commit(granted(txn(1, attempt(1, 1), 0)), &one).expect("answers"),
        Committed
    );
    let other = open(&path);
    let begun = "SELECT group_concat(line) FROM begun";
    let begun: String = other.query_row(begun, [], |row| row.get(0)).expect("is there");
    assert_eq!(begun, "first,second");
    let aside = "SELECT checkpoint, record, bytes FROM snapline_refused";
    let aside: (u32, u32, Vec<u8>) = other
        .query_row(aside, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("one row");
    assert_eq!((aside.0, aside.1), (1, 1));
    assert!(aside.2.ends_with(b"first"), "{:?}", aside.2);
}

/// SPEC 14.8, 14.9: staged records are read by a later call, perhaps of a later process.
#[test]
fn what_is_staged_comes_back_as_it_was_or_is_refused_before_it_is_prepared() {
    type Twice = Option<Option<u32>>;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let tables = "CREATE TABLE IF NOT EXISTS lines (number INTEGER PRIMARY KEY, line TEXT)";
    let insert = |tx: &Transaction<'_>, record: &Twice| {
        let sql = "INSERT INTO lines (line) VALUES (?1)";
        tx.execute(sql, [format!("{record:?}")]).map(drop)
    };
    let name = txn(1, attempt(1, 1), 0);
    let (mut writer, mut committer) = SqliteSink::new(&path, insert)
        .setup(tables)
        .open(&context(0, attempt(1, 1)))
        .expect("opens");
    writer.write(&mut vec![None, Some(None), Some(Some(1))]).expect("writes");
    let one = writer.close(name).expect("closes");
    committer.prepare(name, &one).expect("prepares");
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(lines(&path), ["None", "Some(None)", "Some(Some(1))"]);

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Lossy {
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
    }
    let path = dir.path().join("lossy.db");
    let nothing = |_: &Transaction<'_>, _: &Lossy| Ok(());
    let (mut writer, mut committer) =
        SqliteSink::new(&path, nothing).open(&context(0, attempt(1, 1))).expect("opens");
    writer.write(&mut vec![Lossy { name: String::new() }]).expect("writes");
    let one = writer.close(name).expect("closes");
    let error = committer.prepare(name, &one).expect_err("it cannot be read").to_string();
    assert!(error.contains("Lossy") && error.contains("missing field `name`"), "{error}");
    // Also one among many that can be read, which is neither the first nor in a sample: it has a
    // shape of its own.
    let lossy = |number: u32| Lossy { name: if number == 30 { "" } else { "some" }.to_owned() };
    let name = txn(2, attempt(1, 1), 0);
    let (mut writer, mut committer) =
        SqliteSink::new(&path, nothing).open(&context(0, attempt(1, 1))).expect("opens");
    writer.write(&mut (0..60).map(lossy).collect()).expect("writes");
    let one = writer.close(name).expect("closes");
    let error = committer.prepare(name, &one).expect_err("it cannot be read").to_string();
    assert!(error.contains("Lossy") && error.contains("missing field `name`"), "{error}");
}

#[test]
fn tables_of_a_later_version_are_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    prepared(&sink(&path), 1, &["a"]);
    open(&path).execute("UPDATE snapline_sinks SET version = 99", []).expect("written");
    let error = sqlite(sink(&path).open(&context(0, attempt(1, 2))));
    assert!(matches!(error, SqliteError::Version { found: 99, .. }), "{error}");
}

#[test]
fn the_bound_is_of_one_transaction() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = sink(&dir.path().join("out.db")).most_bytes(100);
    let (mut writer, _) = sink.open(&context(0, attempt(1, 1))).expect("opens");
    for checkpoint in 1..5 {
        writer.write(&mut vec!["x".repeat(70)]).expect("there is room again");
        let one = writer.close(txn(checkpoint, attempt(1, 1), 0)).expect("closes");
        assert_eq!(one.records(), 1);
        // Each is staged after its length, with two bytes in front that state its kind.
        assert_eq!(writer.bytes_written(), Some(checkpoint * (4 + 2 + 70)));
    }
}

#[test]
fn an_attempt_that_was_fenced_off_does_nothing_not_even_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let (old, new) = (attempt(1, 1), attempt(1, 2));
    let (mut committer, some) = prepared(&sink(&path), 1, &["a"]);
    let (mut writer, _) = sink(&path).open(&context(0, old)).expect("opens");
    let none = writer.close(txn(2, old, 0)).expect("closes");
    assert_eq!(none.records(), 0);
    let (_, mut later) = sink(&path).open(&context(0, new)).expect("opens");
    let found = later.fence(new).expect("fences");
    assert_eq!(found.len(), 1, "what is staged, and of this subtask");
    let (_, mut neighbour) = sink(&path).open(&context(1, new)).expect("opens");
    assert!(neighbour.fence(new).expect("fences too").is_empty(), "it has staged nothing");
    for (checkpoint, one) in [(1, &some), (2, &none)] {
        let name = txn(checkpoint, old, 0);
        assert!(crate::typed(committer.prepare(name, one)).to_string().contains("fence"));
        assert!(crate::typed(committer.commit(granted(name), one)).to_string().contains("fence"));
    }
    assert!(crate::typed(committer.roll_back(txn(1, old, 0), &some)).to_string().contains("fence"));
    assert!(crate::typed(committer.fence(old)).to_string().contains("fence"));
    assert!(lines(&path).is_empty());
    // Its successor may commit it, though another subtask wrote it: the committable names the
    // transaction.
    let (name, one) = (txn(1, old, 0), through_a_checkpoint(&some));
    assert_eq!(neighbour.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(later.commit(granted(name), &one).expect("answers"), AlreadyCommitted);
    assert_eq!(lines(&path), ["a"]);
}

#[test]
fn what_was_committed_stays_so_after_later_commits() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let sink = sink(&path);
    let (mut committer, first) = prepared(&sink, 1, &["a"]);
    let name = |checkpoint| txn(checkpoint, attempt(1, 1), 0);
    assert_eq!(committer.commit(granted(name(1)), &first).expect("answers"), Committed);
    let (mut committer, second) = another(&sink, 2, "b");
    assert_eq!(committer.commit(granted(name(2)), &second).expect("answers"), Committed);
    for (checkpoint, one) in [(1, &first), (2, &second), (1, &first)] {
        assert_eq!(
            committer.commit(granted(name(checkpoint)), one).expect("answers"),
            AlreadyCommitted
        );
    }
    // The ledger has the newest, whichever transaction was asked for last.
    let ledger = "SELECT checkpoint FROM snapline_ledger";
    let ledger: u32 = open(&path).query_row(ledger, [], |row| row.get(0)).expect("one row");
    assert_eq!((ledger, lines(&path)), (2, vec!["a".to_owned(), "b".to_owned()]));
    let error = crate::typed(committer.roll_back(name(2), &second).and_then(|()| {
        let (mut writer, mut committer) = sink.open(&context(0, attempt(1, 1))).expect("opens");
        writer.write(&mut vec!["again".to_owned()]).expect("writes");
        let again = writer.close(name(2)).expect("closes");
        committer.prepare(name(2), &again)
    }));
    assert!(error.to_string().contains("was committed before"), "a name is used once: {error}");
}

#[test]
fn preparing_may_be_asked_for_again_but_only_of_what_was_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let (mut committer, one) = prepared(&sink(&path), 1, &["a"]);
    let name = |checkpoint| txn(checkpoint, attempt(1, 1), 0);
    committer.prepare(name(1), &one).expect("it is staged");
    assert!(committer.fence(attempt(1, 1)).expect("fences").is_empty(), "its own is no orphan");
    assert_eq!(committer.commit(granted(name(1)), &one).expect("answers"), Committed);
    committer.prepare(name(1), &one).expect("it is committed");
    assert_eq!(committer.commit(granted(name(1)), &one).expect("answers"), AlreadyCommitted);
    let error = crate::typed(committer.prepare(name(2), &one));
    assert!(error.to_string().contains("cannot prepare transaction"), "{error}");
    assert_eq!(lines(&path), ["a"]);
}

#[test]
fn what_was_rolled_back_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let (mut committer, one) = prepared(&sink(&path), 1, &["a"]);
    let name = txn(1, attempt(1, 1), 0);
    for _ in 0..2 {
        committer.roll_back(name, &one).expect("rolls back");
        let left = "SELECT COUNT(*) FROM snapline_staged";
        let left: u32 = open(&path).query_row(left, [], |row| row.get(0)).expect("a count");
        assert_eq!(left, 0);
    }
    let found = committer.fence(attempt(1, 2)).expect("fences");
    assert!(found.is_empty() && lines(&path).is_empty());
}

/// Environment variables of a process that commits: the database, and the committable.
#[cfg(unix)]
const COMMITS: [&str; 2] = ["SNAPLINE_COMMIT_TO", "SNAPLINE_COMMITTABLE"];

/// A sink whose transactions exceed that process's limit on file sizes, and are small enough that
/// they are written at the commit, not before.
#[cfg(unix)]
fn large(path: &Path) -> SqliteSink<String, Insert> {
    let apply: Insert = |tx, line| {
        tx.execute_batch("INSERT INTO blobs VALUES (zeroblob(500000))")?;
        insert(tx, line)
    };
    let tables = format!("{TABLE}; CREATE TABLE IF NOT EXISTS blobs (bytes BLOB)");
    SqliteSink::new(path, apply).setup(tables)
}

#[cfg(unix)]
#[test]
#[ignore = "run by the other test, as a process whose files may not grow"]
fn commits_where_files_may_not_grow() {
    let [Ok(path), Ok(committable)] = COMMITS.map(std::env::var) else { return };
    let one: Committable = serde_json::from_str(&committable).expect("written below");
    let (_, mut committer) =
        large(Path::new(&path)).open(&context(0, attempt(1, 1))).expect("opens");
    let outcome = committer.commit(granted(txn(1, attempt(1, 1), 0)), &one).expect("answers");
    assert_eq!(outcome, Unknown, "SQLite's own commit failed");
}

/// A commit that SQLite began and did not end may have been done: its outcome stays unknown until
/// the next attempt.
#[cfg(unix)]
#[test]
fn a_commit_that_breaks_off_is_in_doubt() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let (mut committer, one) = prepared(&large(&path), 1, &["a"]);
    let json = serde_json::to_string(&one).expect("can be written");
    // 200 KiB; larger writes fail with an error, and the process is not killed.
    let limited = "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"";
    let itself = std::env::current_exe().expect("it runs");
    let child = std::process::Command::new("sh")
        .args(["-c", limited])
        .arg(itself)
        .args(["--exact", "staged::commits_where_files_may_not_grow", "--ignored"])
        .envs([(COMMITS[0], path.as_os_str()), (COMMITS[1], json.as_ref())])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    assert!(lines(&path).is_empty(), "this time it was not");
    let name = txn(1, attempt(1, 1), 0);
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(lines(&path), ["a"]);
}

/// Committed output may be gone, and the checkpoint's own transaction cannot show it, because it
/// had no record.
#[test]
fn a_database_that_was_removed_replaced_or_set_back_is_refused() {
    use snapline::connect::ConnectError;
    let dir = tempfile::tempdir().expect("a directory");
    let (path, older) = (dir.path().join("out.db"), dir.path().join("older.db"));
    let copy = |to: &Path| {
        let to = to.to_str().expect("UTF-8");
        open(&path).execute("VACUUM INTO ?1", [to]).expect("copied");
    };
    let (mut committer, one) = prepared(&sink(&path), 1, &["a"]);
    committer.commit(granted(txn(1, attempt(1, 1), 0)), &one).expect("commits");
    copy(&older);
    let (mut committer, two) = another(&sink(&path), 2, "b");
    committer.commit(granted(txn(2, attempt(1, 1), 0)), &two).expect("commits");
    let life = attempt(1, 2);
    let last = [(3, 0), (4, 1)].map(|(number, records)| {
        let (mut writer, mut committer) = sink(&path).open(&context(0, life)).expect("opens");
        committer.fence(life).expect("fences");
        writer.write(&mut vec!["c".to_owned(); records]).expect("writes");
        let one = writer.close(txn(number, life, 0)).expect("closes");
        committer.prepare(txn(number, life, 0), &one).expect("prepares");
        (txn(number, life, 0), through_a_checkpoint(&one))
    });
    let newer = dir.path().join("newer.db");
    copy(&newer);
    let committer = |sink: SqliteSink<String, Insert>| {
        let (_, mut committer) = sink.open(&context(0, attempt(1, 3))).expect("opens");
        committer.fence(attempt(1, 3)).expect("fences");
        committer
    };
    let refused = |path: &Path, name, committable: &Committable| {
        let error = committer(sink(path)).commit(granted(name), committable).expect_err("refused");
        *error.downcast::<ConnectError>().expect("a connector's error")
    };
    let fresh = dir.path().join("fresh.db");
    for _ in 0..2 {
        for (name, committable) in &last {
            let error = refused(&fresh, *name, committable);
            assert!(matches!(error, ConnectError::OtherPlace { .. }), "{error}");
            let mut accepts = committer(sink(&fresh).accept_other_database());
            assert_eq!(
                accepts.commit(granted(*name), committable).expect("answers"),
                AlreadyCommitted
            );
            let error = refused(&older, *name, committable);
            let second = txn(2, attempt(1, 1), 0);
            assert!(matches!(error, ConnectError::SetBack { txn, .. } if txn == second), "{error}");
        }
    }
    for path in [&newer, &path] {
        for (name, committable) in &last {
            assert_eq!(
                committer(sink(path)).commit(granted(*name), committable).expect("answers"),
                Committed
            );
        }
    }
    // The transaction that the older copy lacks was staged in the other. From then on it counts as
    // committed here too.
    let ((name, committable), accepts) = (&last[1], sink(&older).accept_other_database());
    let outcome = committer(accepts).commit(granted(*name), committable);
    assert_eq!(outcome.expect("answers"), AlreadyCommitted);
    let again = committer(sink(&older)).commit(granted(*name), committable);
    assert_eq!(again.expect("answers"), AlreadyCommitted);
    // As revision 2498966 wrote it: no name.
    let old = serde_json::from_value(serde_json::json!({"subtask": 0, "records": 1}));
    let old: Committable = old.expect("a committable");
    let again = committer(sink(&path)).commit(granted(last[1].0), &old).expect("answers");
    assert_eq!(again, AlreadyCommitted);
}
