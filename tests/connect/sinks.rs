//! The contract of two-phase sinks, checked for each of them.

use snapline::connect::{
    ConnectError, FileSink, MemorySink, SinkCommitter, SinkWriter, TwoPhaseSink,
};
use snapline::protocol::committer::CommitOutcome::{AlreadyCommitted, Committed, Lost};
use snapline::protocol::ids::{Attempt, TxnId};
use snapline_core::connect::testing::granted;

use crate::{attempt, context, through_a_checkpoint, txn, typed};

/// A sink and its readers' view.
struct Case<S> {
    sink: S,
    visible: Box<dyn Fn() -> Vec<String>>,
    _dir: Option<tempfile::TempDir>,
}

fn in_files() -> Case<FileSink<String>> {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let sink = FileSink::new(&out);
    let visible = Box::new(move || FileSink::read_committed(&out).expect("readable"));
    Case { sink, visible, _dir: Some(dir) }
}

fn in_memory() -> Case<MemorySink<String>> {
    let sink = MemorySink::new();
    let reader = sink.clone();
    Case { sink, visible: Box::new(move || reader.committed()), _dir: None }
}

#[cfg(feature = "sqlite")]
fn in_a_database() -> Case<impl TwoPhaseSink<Record = String>> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.db");
    let insert = |tx: &rusqlite::Transaction<'_>, line: &String| {
        tx.prepare_cached("INSERT INTO lines (line) VALUES (?1)")?.execute([line]).map(drop)
    };
    let table = "CREATE TABLE IF NOT EXISTS lines (number INTEGER PRIMARY KEY, line TEXT NOT NULL)";
    let sink = snapline::connect::SqliteSink::new(&path, insert)
        .setup(table)
        .expects("SELECT line FROM lines");
    let visible = Box::new(move || crate::sqlite::lines(&path));
    Case { sink, visible, _dir: Some(dir) }
}

/// Prepared transactions, as a fence lists them or a checkpoint holds them.
type Prepared<S> = Vec<(TxnId, <S as TwoPhaseSink>::Committable)>;

/// Opens subtask `index` as the runtime does: the fence first.
fn start<S: TwoPhaseSink>(
    sink: &S,
    index: usize,
    attempt: Attempt,
) -> (S::Writer, S::Committer, Prepared<S>) {
    let (writer, mut committer) = sink.open(&context(index, attempt)).expect("opens");
    let found = committer.fence(attempt).expect("fences");
    (writer, committer, found)
}

fn lines<S: TwoPhaseSink<Record = String>>(writer: &mut S::Writer, lines: &[&str]) {
    let mut batch = lines.iter().map(ToString::to_string).collect();
    writer.write(&mut batch).expect("writes");
    assert!(batch.is_empty(), "a batch is left empty");
}

/// Runs a test of the contract over every sink.
macro_rules! two_phase_contract {
    ($($(#[$meta:meta])* fn $name:ident<S>($case:ident) $body:block)*) => {
        mod contract { $(mod $name {
            #[test]
            fn in_memory() { super::super::$name(&super::super::in_memory()) }
            #[test]
            fn in_files() { super::super::$name(&super::super::in_files()) }
            #[cfg(feature = "sqlite")]
            #[test]
            fn in_a_database() { super::super::$name(&super::super::in_a_database()) }
        })* }
        $($(#[$meta])* fn $name<S: TwoPhaseSink<Record = String>>($case: &Case<S>) $body)*
    };
}

two_phase_contract! {
    fn only_committed_records_are_visible<S>(case) {
        let first = attempt(1, 1);
        let (mut writer, mut committer, found) = start(&case.sink, 0, first);
        assert!(found.is_empty());
        lines::<S>(&mut writer, &["a", "b"]);
        assert!((case.visible)().is_empty(), "open");
        let one = writer.close(txn(1, first, 0)).expect("closes");
        assert!((case.visible)().is_empty(), "closed");
        committer.prepare(txn(1, first, 0), &one).expect("prepares");
        committer.prepare(txn(1, first, 0), &one).expect("may be called again");
        assert!((case.visible)().is_empty(), "prepared");
        lines::<S>(&mut writer, &["c"]);
        assert_eq!(committer.commit(granted(txn(1, first, 0)), &one).expect("answers"), Committed);
        assert_eq!((case.visible)(), ["a", "b"]);
    }

    fn a_repeated_commit_changes_nothing_and_says_so<S>(case) {
        let first = attempt(1, 1);
        let (mut writer, mut committer, _) = start(&case.sink, 0, first);
        let name = txn(1, first, 0);
        lines::<S>(&mut writer, &["a"]);
        let one = writer.close(name).expect("closes");
        committer.prepare(name, &one).expect("prepares");
        assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
        assert_eq!(committer.commit(granted(name), &one).expect("answers"), AlreadyCommitted);
        let (_, mut later, found) = start(&case.sink, 0, attempt(1, 2));
        assert!(found.is_empty(), "what is committed is not prepared");
        let one = through_a_checkpoint(&one);
        assert_eq!(later.commit(granted(name), &one).expect("answers"), AlreadyCommitted);
        assert_eq!((case.visible)(), ["a"]);
    }

    fn committed_from_the_committable_alone<S>(case) {
        let first = attempt(1, 1);
        let name = txn(1, first, 0);
        let one = {
            let (mut writer, mut committer, _) = start(&case.sink, 0, first);
            lines::<S>(&mut writer, &["a", "b"]);
            let one = writer.close(name).expect("closes");
            committer.prepare(name, &one).expect("prepares");
            lines::<S>(&mut writer, &["never closed"]);
            through_a_checkpoint(&one)
        };
        let (_, mut other, found) = start(&case.sink, 0, attempt(2, 1));
        assert_eq!(found.iter().map(|(txn, _)| *txn).collect::<Vec<_>>(), [name]);
        assert_eq!(other.commit(granted(name), &one).expect("answers"), Committed);
        assert_eq!((case.visible)(), ["a", "b"]);
    }

    fn the_listed_committable_is_as_good_as_the_writers<S>(case) {
        let first = attempt(1, 1);
        let name = txn(1, first, 0);
        {
            let (mut writer, mut committer, _) = start(&case.sink, 0, first);
            lines::<S>(&mut writer, &["a"]);
            let one = writer.close(name).expect("closes");
            committer.prepare(name, &one).expect("prepares");
        }
        let (_, mut other, found) = start(&case.sink, 0, attempt(1, 2));
        assert_eq!(other.commit(granted(found[0].0), &found[0].1).expect("answers"), Committed);
        assert_eq!((case.visible)(), ["a"]);
    }

    fn rolled_back_records_never_appear<S>(case) {
        let first = attempt(1, 1);
        let name = txn(1, first, 0);
        {
            let (mut writer, mut committer, _) = start(&case.sink, 0, first);
            lines::<S>(&mut writer, &["a"]);
            let one = writer.close(name).expect("closes");
            committer.prepare(name, &one).expect("prepares");
        }
        let (_, mut other, found) = start(&case.sink, 0, attempt(1, 2));
        other.roll_back(name, &found[0].1).expect("rolls back");
        other.roll_back(name, &found[0].1).expect("what is not there counts as rolled back");
        assert_eq!(other.commit(granted(name), &found[0].1).expect("answers"), Lost);
        let (_, _, found) = start(&case.sink, 0, attempt(1, 3));
        assert!(found.is_empty());
        assert!((case.visible)().is_empty());
    }

    fn a_later_attempt_stops_an_earlier_one<S>(case) {
        let (first, second) = (attempt(1, 2), attempt(2, 1));
        let (mut writer, mut committer, _) = start(&case.sink, 0, first);
        lines::<S>(&mut writer, &["prepared"]);
        let one = writer.close(txn(1, first, 0)).expect("closes");
        committer.prepare(txn(1, first, 0), &one).expect("prepares");
        lines::<S>(&mut writer, &["closed"]);
        let two = writer.close(txn(2, first, 0)).expect("closes");

        let (_, mut other, found) = start(&case.sink, 0, second);
        assert_eq!(found.len(), 1, "closed is not prepared");
        let refused = [
            typed(committer.prepare(txn(2, first, 0), &two)),
            typed(committer.commit(granted(txn(1, first, 0)), &one)),
            typed(committer.roll_back(txn(1, first, 0), &one)),
            typed(committer.fence(first).map(|_| ())),
        ];
        for error in refused {
            let named = matches!(error, ConnectError::Fenced { attempt, fence, .. }
                if attempt == first && fence == second);
            assert!(named, "{error}");
        }
        assert!((case.visible)().is_empty());
        assert_eq!(other.fence(second).expect("may be called again").len(), 1);
        assert_eq!(other.commit(granted(txn(1, first, 0)), &one).expect("answers"), Committed);
        assert_eq!((case.visible)(), ["prepared"]);
    }

    fn subtasks_list_their_own<S>(case) {
        let first = attempt(1, 1);
        for index in [0, 1] {
            let (mut writer, mut committer, _) = start(&case.sink, index, first);
            let name = txn(1, first, index as u16);
            lines::<S>(&mut writer, &["a"]);
            let one = writer.close(name).expect("closes");
            committer.prepare(name, &one).expect("prepares");
        }
        for index in [0, 1] {
            let (_, _, found) = start(&case.sink, index, attempt(1, 2));
            let found: Vec<_> = found.into_iter().map(|(txn, _)| txn).collect();
            assert_eq!(found, [txn(1, first, index as u16)]);
        }
    }

    fn listed_in_the_order_of_checkpoints<S>(case) {
        let first = attempt(1, 1);
        {
            let (mut writer, mut committer, _) = start(&case.sink, 0, first);
            for checkpoint in [9, 10, 11] {
                let name = txn(checkpoint, first, 0);
                lines::<S>(&mut writer, &[&checkpoint.to_string()]);
                let one = writer.close(name).expect("closes");
                committer.prepare(name, &one).expect("prepares");
            }
        }
        let (_, mut other, found) = start(&case.sink, 0, attempt(1, 2));
        let numbers: Vec<_> = found.iter().map(|(txn, _)| txn.checkpoint.get()).collect();
        assert_eq!(numbers, [9, 10, 11]);
        for (name, one) in &found {
            assert_eq!(other.commit(granted(*name), one).expect("answers"), Committed);
        }
        assert_eq!((case.visible)(), ["9", "10", "11"]);
    }

    fn an_empty_transaction_is_a_full_participant<S>(case) {
        let first = attempt(1, 1);
        let (mut writer, mut committer, _) = start(&case.sink, 0, first);
        let name = txn(1, first, 0);
        let one = through_a_checkpoint(&writer.close(name).expect("closes"));
        committer.prepare(name, &one).expect("prepares");
        assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
        assert_eq!(committer.commit(granted(name), &one).expect("answers"), AlreadyCommitted);
        let (_, mut other, _) = start(&case.sink, 0, attempt(1, 2));
        assert!(matches!(other.commit(granted(name), &one).expect("answers"), Committed | AlreadyCommitted));
        other.roll_back(name, &one).expect("rolls back");
        assert!((case.visible)().is_empty());
    }

    /// A life is: write, close, prepare, commit, for three transactions. It ends after any of these
    /// calls. The next life commits the transactions of the newest complete checkpoint and rolls
    /// back the rest; it may end after any call too. A checkpoint is complete once one of its
    /// transactions was committed; one that was only prepared may be complete or not.
    fn every_crash_between_two_calls<S>(case) {
        let mut number = 0;
        let mut expected = Vec::new();
        for crash_at in 0..=12 {
            for recovery_crash in 0..=3 {
                number += 1;
                let life = attempt(number, 1);
                let mut budget = crash_at;
                let (mut prepared, mut committed) = (Vec::new(), 0);
                live(&case.sink, life, &mut budget, &mut prepared, &mut committed);
                if recovery_crash % 2 == 0 {
                    prepared.truncate(committed);
                }
                let mut budget = recovery_crash;
                recover(&case.sink, attempt(number, 2), &prepared, &mut budget);
                recover(&case.sink, attempt(number, 3), &prepared, &mut { usize::MAX });
                expected.extend(prepared.iter().map(|(txn, _)| txn.checkpoint.get().to_string()));
                assert_eq!((case.visible)(), expected, "crashed at {crash_at}, {recovery_crash}");
            }
        }
    }
}

fn spend(budget: &mut usize) -> Option<()> {
    *budget = budget.checked_sub(1)?;
    Some(())
}

fn live<S: TwoPhaseSink<Record = String>>(
    sink: &S,
    life: Attempt,
    budget: &mut usize,
    prepared: &mut Prepared<S>,
    committed: &mut usize,
) -> Option<()> {
    let (mut writer, mut committer, _) = start(sink, 0, life);
    for step in 1..=3 {
        let name = txn(u64::from(life.term.get()) * 10 + step, life, 0);
        spend(budget)?;
        lines::<S>(&mut writer, &[&name.checkpoint.get().to_string()]);
        spend(budget)?;
        let one = writer.close(name).expect("closes");
        spend(budget)?;
        committer.prepare(name, &one).expect("prepares");
        prepared.push((name, through_a_checkpoint(&one)));
        spend(budget)?;
        assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
        *committed += 1;
    }
    Some(())
}

fn recover<S: TwoPhaseSink<Record = String>>(
    sink: &S,
    life: Attempt,
    restored: &[(TxnId, S::Committable)],
    budget: &mut usize,
) -> Option<()> {
    let (_, mut committer, found) = start(sink, 0, life);
    for (name, one) in found {
        if !restored.iter().any(|(restored, _)| *restored == name) {
            committer.roll_back(name, &one).expect("rolls back");
        }
    }
    for (name, one) in restored {
        spend(budget)?;
        let outcome = committer.commit(granted(*name), one).expect("answers");
        assert!(matches!(outcome, Committed | AlreadyCommitted), "{name:?}: {outcome:?}");
    }
    Some(())
}
