//! The files of a file sink on disk: names, owners, and the states left by a crash within a call,
//! made by hand.

use std::fs;
use std::path::{Path, PathBuf};

use snapline::connect::{
    ConnectError, FileCommittable, FileCommitter, FileSink, SinkCommitter, SinkWriter, TwoPhaseSink,
};
use snapline::protocol::committer::CommitOutcome::{AlreadyCommitted, Committed, Lost};
use snapline::protocol::ids::{Attempt, TxnId};
use snapline_core::connect::testing::granted;

use crate::{attempt, context, txn, typed};

const FIRST: &str = "part-out-00-00000001-t1a1.txt";
const SECOND: &str = "part-out-00-00000002-t1a1.txt";

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn sink(&self) -> FileSink<u32> {
        FileSink::new(self.dir.path())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn prepared(&self, name: &str) -> PathBuf {
        self.at(&format!(".snapline/out/prepared/{name}.s3"))
    }

    fn closed(&self, name: &str) -> PathBuf {
        self.at(&format!(".snapline/out/open/{name}.s3"))
    }

    fn marker(&self) -> PathBuf {
        self.at(".snapline/out/committed-00")
    }

    fn committer(&self, attempt: Attempt) -> FileCommitter {
        let (_, mut committer) = self.sink().open(&context(0, attempt)).expect("opens");
        committer.fence(attempt).expect("fences");
        committer
    }

    /// Attempt 1.1 prepares two transactions and ends.
    fn two_prepared(&self) -> [(TxnId, FileCommittable); 2] {
        let life = attempt(1, 1);
        let (mut writer, mut committer) = self.sink().open(&context(0, life)).expect("opens");
        committer.fence(life).expect("fences");
        [1, 2].map(|number| {
            let name = txn(number, life, 0);
            writer.write(&mut vec![number as u32; 3]).expect("writes");
            let one = writer.close(name).expect("closes");
            committer.prepare(name, &one).expect("prepares");
            (name, one)
        })
    }

    #[cfg(unix)]
    fn mode(&self, name: &str) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(self.at(name)).expect("it is there").permissions().mode() & 0o777
    }

    fn lines(&self) -> Vec<String> {
        FileSink::read_committed(self.dir.path()).expect("readable")
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry).into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn readers_see_whole_files_with_readable_names() {
    let place = Place::new();
    let [(one, first), (two, second)] = place.two_prepared();
    let mut committer = place.committer(attempt(1, 2));
    assert_eq!(names(place.dir.path()), [".snapline"]);
    committer.commit(granted(one), &first).expect("commits");
    committer.commit(granted(two), &second).expect("commits");
    assert_eq!(names(place.dir.path()), [".snapline", FIRST, SECOND]);
    assert_eq!(fs::read_to_string(place.at(FIRST)).expect("readable"), "1\n1\n1\n");
    assert_eq!(first.file(), Some(FIRST));
    assert_eq!(first.bytes(), 6);
    assert_eq!(names(&place.at(".snapline/out/open")), [""; 0]);
    assert_eq!(names(&place.at(".snapline/out/prepared")), [""; 0]);
}

#[test]
fn empty_transactions_make_no_file() {
    let place = Place::new();
    let (mut writer, mut committer) = place.sink().open(&context(0, attempt(1, 1))).expect("opens");
    let name = txn(1, attempt(1, 1), 0);
    let one = writer.close(name).expect("closes");
    committer.prepare(name, &one).expect("prepares");
    committer.commit(granted(name), &one).expect("commits");
    assert_eq!(one.file(), None);
    assert_eq!(names(place.dir.path()), [".snapline"]);
}

#[test]
fn encoders_and_extensions_are_the_users() {
    let place = Place::new();
    let sink = FileSink::new(place.dir.path())
        .encode(|pair: &(u32, u32), line: &mut Vec<u8>| {
            line.extend_from_slice(format!("{},{}", pair.0, pair.1).as_bytes());
        })
        .extension("csv");
    let name = txn(1, attempt(1, 1), 0);
    let (mut writer, mut committer) = sink.open(&context(0, attempt(1, 1))).expect("opens");
    writer.write(&mut vec![(1, 2), (3, 4)]).expect("writes");
    let one = writer.close(name).expect("closes");
    committer.prepare(name, &one).expect("prepares");
    committer.commit(granted(name), &one).expect("commits");
    let text = fs::read_to_string(place.at("part-out-00-00000001-t1a1.csv")).expect("there");
    assert_eq!(text, "1,2\n3,4\n");
    assert_eq!(place.lines(), ["1,2", "3,4"]);
}

#[test]
fn big_transactions_are_written_as_they_come() {
    let place = Place::new();
    let (mut writer, mut committer) = place.sink().open(&context(0, attempt(1, 1))).expect("opens");
    for _ in 0..10 {
        writer.write(&mut (0..10_000).collect()).expect("writes");
    }
    let open = place.at(".snapline/out/open/00-t1a1-0.open");
    assert!(fs::metadata(open).expect("there").len() > 300_000);
    let name = txn(1, attempt(1, 1), 0);
    let one = writer.close(name).expect("closes");
    committer.prepare(name, &one).expect("prepares");
    committer.commit(granted(name), &one).expect("commits");
    let expected: Vec<_> = (0..10).flat_map(|_| (0..10_000).map(|n: u32| n.to_string())).collect();
    assert_eq!(place.lines(), expected);
}

#[test]
fn crashed_between_record_and_rename() {
    let place = Place::new();
    let [(one, first), _] = place.two_prepared();
    place.committer(attempt(1, 2)).commit(granted(one), &first).expect("commits");
    // Back to before the rename: the record is there already.
    fs::rename(place.at(FIRST), place.prepared(FIRST)).expect("renames");
    let mut committer = place.committer(attempt(1, 3));
    assert_eq!(committer.commit(granted(one), &first).expect("answers"), Committed);
    assert_eq!(committer.commit(granted(one), &first).expect("answers"), AlreadyCommitted);
    assert_eq!(place.lines(), ["1"; 3]);
}

#[test]
fn crashed_with_a_record_that_is_cut_short() {
    let place = Place::new();
    let [(one, first), (two, second)] = place.two_prepared();
    let mut committer = place.committer(attempt(1, 2));
    committer.commit(granted(one), &first).expect("commits");
    let before = fs::read(place.marker()).expect("there");
    committer.commit(granted(two), &second).expect("commits");
    let after = fs::read(place.marker()).expect("there");
    for cut in before.len()..after.len() - 1 {
        fs::write(place.marker(), &after[..cut]).expect("writes");
        fs::rename(place.at(SECOND), place.prepared(SECOND)).expect("renames");
        let mut committer = place.committer(attempt(1, 3));
        assert_eq!(
            committer.commit(granted(one), &first).expect("answers"),
            AlreadyCommitted,
            "{cut}"
        );
        assert_eq!(committer.commit(granted(two), &second).expect("answers"), Committed, "{cut}");
        assert_eq!(place.lines(), ["1", "1", "1", "2", "2", "2"]);
    }
}

#[test]
fn a_crash_that_brings_the_old_name_back() {
    let place = Place::new();
    let [(one, first), _] = place.two_prepared();
    let mut committer = place.committer(attempt(1, 2));
    committer.commit(granted(one), &first).expect("commits");
    fs::copy(place.at(FIRST), place.prepared(FIRST)).expect("copies");
    assert_eq!(committer.commit(granted(one), &first).expect("answers"), AlreadyCommitted);
    assert!(!place.prepared(FIRST).exists());
    assert_eq!(place.lines(), ["1"; 3]);
}

#[test]
fn a_file_that_a_reader_took_away_is_committed_all_the_same() {
    let place = Place::new();
    let [(one, first), (two, second)] = place.two_prepared();
    let mut committer = place.committer(attempt(1, 2));
    committer.commit(granted(one), &first).expect("commits");
    committer.commit(granted(two), &second).expect("commits");
    fs::remove_file(place.at(FIRST)).expect("removes");
    fs::remove_file(place.at(SECOND)).expect("removes");
    let mut committer = place.committer(attempt(2, 1));
    assert_eq!(committer.commit(granted(one), &first).expect("answers"), AlreadyCommitted);
    assert_eq!(committer.commit(granted(two), &second).expect("answers"), AlreadyCommitted);
    assert!(place.lines().is_empty());
}

#[test]
fn a_file_in_place_is_committed_though_the_record_is_lost_and_is_recorded_anew() {
    let place = Place::new();
    let [(one, first), _] = place.two_prepared();
    let mut committer = place.committer(attempt(1, 2));
    committer.commit(granted(one), &first).expect("commits");
    fs::remove_file(place.marker()).expect("removes");
    assert_eq!(committer.commit(granted(one), &first).expect("answers"), AlreadyCommitted);
    fs::remove_file(place.at(FIRST)).expect("removes");
    assert_eq!(committer.commit(granted(one), &first).expect("answers"), AlreadyCommitted);
}

#[test]
fn a_prepared_file_that_was_removed_is_lost() {
    let place = Place::new();
    let [(one, first), (two, second)] = place.two_prepared();
    let mut committer = place.committer(attempt(1, 2));
    committer.commit(granted(one), &first).expect("commits");
    fs::remove_file(place.prepared(SECOND)).expect("removes");
    assert_eq!(committer.commit(granted(two), &second).expect("answers"), Lost);
}

#[test]
fn a_prepared_file_that_was_changed_is_not_committed() {
    let place = Place::new();
    let [(one, first), _] = place.two_prepared();
    fs::write(place.prepared(FIRST), "1\n").expect("writes");
    let error = typed(place.committer(attempt(1, 2)).commit(granted(one), &first));
    let text = error.to_string();
    assert!(text.contains(FIRST) && text.contains("2 bytes where 6 were"), "{text}");
    assert!(place.lines().is_empty());
}

#[test]
fn a_closed_file_that_is_gone_cannot_be_prepared() {
    let place = Place::new();
    let life = attempt(1, 1);
    let (mut writer, mut committer) = place.sink().open(&context(0, life)).expect("opens");
    writer.write(&mut vec![1]).expect("writes");
    let one = writer.close(txn(1, life, 0)).expect("closes");
    fs::remove_file(place.closed(FIRST)).expect("removes");
    let error = typed(committer.prepare(txn(1, life, 0), &one));
    assert!(matches!(error, ConnectError::NotClosed { .. }), "{error}");
}

#[test]
fn open_and_closed_files_of_earlier_attempts_are_cleared_away() {
    let place = Place::new();
    let life = attempt(1, 1);
    let open = |index| {
        let (mut writer, _) = place.sink().open(&context(index, life)).expect("opens");
        writer.write(&mut vec![1]).expect("writes");
        writer.close(txn(1, life, index as u16)).expect("closes");
        writer.write(&mut (0..100_000).collect()).expect("writes");
        writer
    };
    let mut writers = [open(0), open(1)];
    assert_eq!(names(&place.at(".snapline/out/open")).len(), 4);
    place.committer(attempt(1, 2));
    let left = names(&place.at(".snapline/out/open"));
    assert_eq!(left, ["01-t1a1-1.open", "part-out-01-00000001-t1a1.txt.s4"]);
    // The deposed attempt gets the reason.
    let error = typed(writers[0].close(txn(2, life, 0)));
    assert!(matches!(error, ConnectError::Fenced { .. }), "{error}");
}

#[test]
fn another_job_may_not_write_here() {
    let place = Place::new();
    place.committer(attempt(1, 1));
    let mut other = context(0, attempt(1, 1));
    other.job = "another job".into();
    let error = typed(place.sink().open(&other));
    let text = error.to_string();
    assert!(matches!(error, ConnectError::Owned { .. }), "{text}");
    assert!(text.contains("`another job`") && text.contains("owner"), "{text}");
    // Another operator may.
    let mut other = context(0, attempt(1, 1));
    other.operator = "errors".into();
    place.sink().open(&other).expect("opens");
}

#[test]
fn a_job_that_starts_anew_over_old_results_is_refused() {
    let place = Place::new();
    let [(one, first), _] = place.two_prepared();
    place.committer(attempt(1, 1)).commit(granted(one), &first).expect("commits");
    // The checkpoint store was emptied: the same attempt writes the same transaction again.
    let (mut writer, mut committer) = place.sink().open(&context(0, attempt(1, 1))).expect("opens");
    writer.write(&mut vec![7]).expect("writes");
    let again = writer.close(one).expect("closes");
    let error = typed(committer.prepare(one, &again));
    assert!(matches!(error, ConnectError::NameTaken { .. }), "{error}");
    assert!(error.to_string().contains("new output place"), "{error}");
    assert_eq!(place.lines(), ["1"; 3]);
}

#[test]
fn a_damaged_fence_stops_everything() {
    let place = Place::new();
    place.committer(attempt(1, 1));
    let fence = place.at(".snapline/out/fence");
    fs::write(&fence, "{").expect("writes");
    let (_, mut committer) = place.sink().open(&context(0, attempt(1, 2))).expect("opens");
    let error = typed(committer.fence(attempt(1, 2)));
    assert!(matches!(&error, ConnectError::Damaged { path, .. } if *path == fence), "{error}");
}

#[test]
fn errors_name_the_file_and_what_the_system_said() {
    let place = Place::new();
    fs::write(place.at("file"), "").expect("writes");
    let error = typed(FileSink::<u32>::new(place.at("file")).open(&context(0, attempt(1, 1))));
    let text = error.to_string();
    assert!(text.contains("file") && text.contains("cannot make the directory"), "{text}");
    assert!(text.contains("os error"), "{text}");
}

#[test]
fn lines_come_by_operator_subtask_and_checkpoint() {
    let place = Place::new();
    for (name, line) in [
        ("part-b-00-00000001-t1a1.txt", "5"),
        ("part-a-01-00000001-t1a1.txt", "4"),
        ("part-a-00-100000000-t2a1.txt", "3"),
        ("part-a-00-00000010-t1a1.txt", "2"),
        ("part-a-00-00000009-t1a2.txt", "1"),
        ("notes.txt", "no"),
    ] {
        fs::write(place.at(name), format!("{line}\n")).expect("writes");
    }
    assert_eq!(place.lines(), ["1", "2", "3", "4", "5"]);
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("a directory") {
        let (path, name) = entry.map(|it| (it.path(), it.file_name())).expect("an entry");
        match path.is_dir() {
            true => copy_all(&path, &to.join(name)),
            false => _ = fs::copy(&path, to.join(name)).expect("copies"),
        }
    }
}

/// A transaction closed and prepared in attempt `life`; with no records if `empty`.
fn one_more(sink: &FileSink<u32>, life: Attempt, number: u64, empty: bool) -> FileCommittable {
    let (mut writer, mut committer) = sink.open(&context(0, life)).expect("opens");
    committer.fence(life).expect("fences");
    writer.write(&mut vec![7; usize::from(!empty)]).expect("writes");
    let one = writer.close(txn(number, life, 0)).expect("closes");
    committer.prepare(txn(number, life, 0), &one).expect("prepares");
    crate::through_a_checkpoint(&one)
}

/// Committed output may be gone, and the checkpoint's own transaction cannot show it, because it
/// had no record.
#[test]
fn a_directory_that_was_emptied_replaced_or_set_back_is_refused() {
    let place = Place::new();
    let [(one, first), (two, second)] = place.two_prepared();
    let mut committer = place.committer(attempt(1, 2));
    committer.commit(granted(one), &first).expect("commits");
    let older = tempfile::tempdir().expect("a directory");
    copy_all(place.dir.path(), older.path());
    committer.commit(granted(two), &second).expect("commits");
    let last = [true, false].map(|empty| {
        let number = if empty { 3 } else { 4 };
        (txn(number, attempt(1, 3), 0), one_more(&place.sink(), attempt(1, 3), number, empty))
    });
    let committer = |sink: FileSink<u32>, life: Attempt| {
        let (_, mut committer) = sink.open(&context(0, life)).expect("opens");
        committer.fence(life).expect("fences");
        committer
    };
    // More than once: the first refusal has left its own directory there.
    let emptied = tempfile::tempdir().expect("a directory");
    for number in [4, 5] {
        for (name, committable) in &last {
            let sink = || FileSink::new(emptied.path());
            let error =
                typed(committer(sink(), attempt(1, number)).commit(granted(*name), committable));
            assert!(matches!(error, ConnectError::OtherPlace { .. }), "{error}");
            let mut accepts = committer(sink().accept_other_directory(), attempt(1, number));
            let outcome = accepts.commit(granted(*name), committable).expect("answers");
            assert_eq!(outcome, AlreadyCommitted);
            let sink = || FileSink::new(older.path());
            let error =
                typed(committer(sink(), attempt(1, number)).commit(granted(*name), committable));
            assert!(matches!(error, ConnectError::SetBack { txn, .. } if txn == two), "{error}");
        }
    }
    let mut accepts =
        committer(FileSink::new(older.path()).accept_other_directory(), attempt(1, 6));
    assert_eq!(accepts.commit(granted(last[0].0), &last[0].1).expect("answers"), Committed);
    // The transaction that this copy lacks was prepared in the other. From then on it counts as
    // committed here too.
    let ((name, committable), sink) = (&last[1], FileSink::new(older.path()));
    assert_eq!(accepts.commit(granted(*name), committable).expect("answers"), AlreadyCommitted);
    let again = committer(sink, attempt(1, 7)).commit(granted(*name), committable);
    assert_eq!(again.expect("answers"), AlreadyCommitted);
    // The directory itself, and a copy of it elsewhere.
    let newer = tempfile::tempdir().expect("a directory");
    copy_all(place.dir.path(), newer.path());
    for dir in [place.dir.path(), newer.path()] {
        let mut committer = committer(FileSink::new(dir), attempt(1, 4));
        for (name, committable) in &last {
            assert_eq!(committer.commit(granted(*name), committable).expect("answers"), Committed);
        }
    }
}

/// As revision 2498966 wrote them: an owner and a committable that name no place.
#[test]
fn a_directory_of_the_first_version_is_given_its_name() {
    let place = Place::new();
    let [(one, first), _] = place.two_prepared();
    let owner = place.at(".snapline/out/owner");
    fs::write(&owner, "{\"format\":1,\"job\":\"job\",\"operator\":\"out\"}\n").expect("writes");
    let old = serde_json::json!({"file": FIRST, "bytes": first.bytes(), "rolled": []});
    let old = serde_json::from_value(old).expect("a committable");
    assert_eq!(
        place.committer(attempt(1, 2)).commit(granted(one), &old).expect("answers"),
        Committed
    );
    let text = fs::read_to_string(&owner).expect("there");
    assert!(text.contains("\"place\":\""), "{text}");
    assert_eq!(
        place.committer(attempt(1, 3)).commit(granted(one), &old).expect("answers"),
        AlreadyCommitted
    );
    assert_eq!(fs::read_to_string(&owner).expect("there"), text, "once");
}

/// Output is readable for others according to the process's `umask`; the sink's own files are
/// private to its owner.
#[cfg(unix)]
#[test]
fn committed_files_are_for_readers_and_the_rest_is_private() {
    let place = Place::new();
    fs::write(place.at("theirs"), "").expect("writes");
    let [(one, committable), _] = place.two_prepared();
    let mut committer = place.committer(attempt(1, 2));
    assert_eq!(committer.commit(granted(one), &committable).expect("answers"), Committed);
    assert_eq!(place.mode(FIRST), place.mode("theirs"));
    for name in ["/out", "/out/open", "/out/prepared", "/out/fence", "/out/LOCK", "/out/owner"] {
        let name = format!(".snapline{name}");
        assert_eq!(place.mode(&name) & 0o077, 0, "{name}");
    }
    assert_eq!(place.mode(".snapline/out/committed-00") & 0o077, 0);
}

/// A hostile name of an empty file claims a number of files, which is bounded before it is used.
#[test]
fn a_name_of_four_billion_files_is_none_of_ours() {
    let place = Place::new();
    place.two_prepared();
    for name in
        ["part-out-00-00000003-t1a1r4294967295.txt.s3", "part-out-00-00000003-t1a1r100000.txt.s3"]
    {
        fs::write(place.at(&format!(".snapline/out/prepared/{name}")), "").expect("writes");
    }
    let (_, mut committer) = place.sink().open(&context(0, attempt(1, 2))).expect("opens");
    assert_eq!(committer.fence(attempt(1, 2)).expect("fences").len(), 2);
}

/// SPEC 7.7
#[test]
fn a_sink_says_what_it_has_committed() {
    let place = Place::new();
    let [(one, first), (two, second)] = place.two_prepared();
    let mut committer = place.committer(attempt(1, 2));
    assert_eq!(committer.committed().expect("readable"), None);
    for (name, committable) in [(one, first), (two, second)] {
        committer.commit(granted(name), &committable).expect("answers");
        assert_eq!(committer.committed().expect("readable"), Some(name));
    }
    assert_eq!(place.committer(attempt(2, 1)).committed().expect("readable"), Some(two));
}
