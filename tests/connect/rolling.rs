//! File sinks whose transactions are several files, and the formats that they write.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use snapline::connect::{
    ConnectError, FileCommittable, FileCommitter, FileSink, SinkCommitter, SinkWriter,
    TwoPhaseSink, read_committed,
};
use snapline::protocol::committer::CommitOutcome::{AlreadyCommitted, Committed, Lost};
use snapline::protocol::ids::{Attempt, TxnId};
use snapline_core::connect::testing::granted;

use crate::{attempt, context, through_a_checkpoint, txn, typed};

const FIRST: &str = "part-out-00-00000001-t1a1.txt";
const SECOND: &str = "part-out-00-00000001-t1a1r1.txt";
const THIRD: &str = "part-out-00-00000001-t1a1r2.txt";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn hidden(&self, which: &str, name: &str) -> PathBuf {
        self.at(&format!(".snapline/out/{which}/{name}.s3"))
    }

    fn sink(&self) -> FileSink<u32> {
        FileSink::new(self.0.path()).roll_bytes(4)
    }

    fn committer(&self, attempt: Attempt) -> (FileCommitter, Vec<(TxnId, FileCommittable)>) {
        let (_, mut committer) = self.sink().open(&context(0, attempt)).expect("opens");
        let found = committer.fence(attempt).expect("fences");
        (committer, found)
    }

    /// Attempt 1.1 closes a transaction of three files.
    fn closed(&self) -> (FileCommitter, TxnId, FileCommittable) {
        let life = attempt(1, 1);
        let (mut writer, mut committer) = self.sink().open(&context(0, life)).expect("opens");
        committer.fence(life).expect("fences");
        for batch in [[10, 11], [20, 21], [3, 4]] {
            writer.write(&mut batch.to_vec()).expect("writes");
        }
        let name = txn(1, life, 0);
        let one = writer.close(name).expect("closes");
        (committer, name, through_a_checkpoint(&one))
    }

    fn lines(&self) -> Vec<String> {
        read_committed(self.0.path()).expect("readable")
    }

    fn files(&self) -> Vec<String> {
        names(self.0.path())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let entries = fs::read_dir(dir).expect("a directory").map(name);
    let mut names: Vec<_> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
    names.retain(|name| name != ".snapline");
    names.sort();
    names
}

const LINES: [&str; 6] = ["10", "11", "20", "21", "3", "4"];

#[test]
fn long_files_are_ended_and_appear_with_their_transaction() {
    let place = Place::new();
    let (mut committer, name, one) = place.closed();
    let files: Vec<_> = one.files().collect();
    let expected = [(FIRST.to_owned(), 6), (SECOND.to_owned(), 6), (THIRD.to_owned(), 4)];
    assert_eq!(files, expected);
    assert_eq!((one.file(), one.bytes()), (Some(FIRST), 16));
    committer.prepare(name, &one).expect("prepares");
    assert!(place.files().is_empty());
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Committed);
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), AlreadyCommitted);
    assert_eq!(place.files(), [FIRST, SECOND, THIRD]);
    assert_eq!(place.lines(), LINES);
    assert!(names(&place.at(".snapline/out/open")).is_empty());
    assert!(names(&place.at(".snapline/out/prepared")).is_empty());
}

#[test]
fn old_files_are_ended() {
    for (time, files) in [(Duration::ZERO, 2), (Duration::from_secs(3600), 1)] {
        let place = Place::new();
        let sink = FileSink::<u32>::new(place.0.path()).roll_every(time);
        let (mut writer, _) = sink.open(&context(0, attempt(1, 1))).expect("opens");
        writer.write(&mut Vec::new()).expect("writes");
        writer.write(&mut vec![1]).expect("writes");
        writer.write(&mut vec![2]).expect("writes");
        let one = writer.close(txn(1, attempt(1, 1), 0)).expect("closes");
        assert_eq!(one.files().count(), files);
        let none = writer.close(txn(2, attempt(1, 1), 0)).expect("closes");
        assert_eq!((none.file(), none.files().count()), (None, 0));
    }
}

#[test]
fn a_crash_between_two_files_of_a_commit_is_mended() {
    for committed in 0..=3 {
        let place = Place::new();
        let (mut committer, name, one) = place.closed();
        committer.prepare(name, &one).expect("prepares");
        committer.commit(granted(name), &one).expect("commits");
        // Back to before the renames that were not reached.
        for file in [FIRST, SECOND, THIRD].iter().skip(committed) {
            fs::rename(place.at(file), place.hidden("prepared", file)).expect("renames");
        }
        let (mut committer, found) = place.committer(attempt(1, 2));
        assert_eq!(found.len(), usize::from(committed < 3), "{committed} in place");
        let outcome = committer.commit(granted(name), &one).expect("answers");
        assert_eq!(outcome, if committed < 3 { Committed } else { AlreadyCommitted });
        assert_eq!(committer.commit(granted(name), &one).expect("answers"), AlreadyCommitted);
        assert_eq!(place.lines(), LINES, "{committed} in place");
    }
}

#[test]
fn a_crash_between_two_files_of_a_preparation_leaves_what_is_rolled_back() {
    for prepared in 0..=3 {
        let place = Place::new();
        let (mut committer, name, one) = place.closed();
        committer.prepare(name, &one).expect("prepares");
        for file in [FIRST, SECOND, THIRD].iter().skip(prepared) {
            fs::rename(place.hidden("prepared", file), place.hidden("open", file))
                .expect("renames");
        }
        // A second call prepares the rest.
        if prepared % 2 == 0 {
            committer.prepare(name, &one).expect("prepares");
            assert_eq!(names(&place.at(".snapline/out/prepared")).len(), 3);
        }
        let (mut committer, found) = place.committer(attempt(1, 2));
        assert!(names(&place.at(".snapline/out/open")).is_empty());
        for (name, one) in found {
            committer.roll_back(name, &one).expect("rolls back");
        }
        assert!(names(&place.at(".snapline/out/prepared")).is_empty(), "{prepared} prepared");
        assert!(place.committer(attempt(1, 3)).1.is_empty());
        assert!(place.lines().is_empty());
    }
}

#[test]
fn one_file_that_was_removed_is_a_loss_and_no_other_is_committed() {
    let place = Place::new();
    let (mut committer, name, one) = place.closed();
    committer.prepare(name, &one).expect("prepares");
    fs::remove_file(place.hidden("prepared", SECOND)).expect("removes");
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), Lost);
    assert!(place.lines().is_empty());
    // A file that a reader removes after the commit is not a loss.
    let place = Place::new();
    let (mut committer, name, one) = place.closed();
    committer.prepare(name, &one).expect("prepares");
    committer.commit(granted(name), &one).expect("commits");
    fs::remove_file(place.at(SECOND)).expect("removes");
    let (mut committer, _) = place.committer(attempt(1, 2));
    assert_eq!(committer.commit(granted(name), &one).expect("answers"), AlreadyCommitted);
    assert_eq!(place.lines(), ["10", "11", "3", "4"]);
}

#[test]
fn a_deposed_writer_of_several_files_is_fenced_off() {
    let place = Place::new();
    let (mut committer, name, one) = place.closed();
    place.committer(attempt(1, 2));
    let error = typed(committer.prepare(name, &one));
    assert!(
        matches!(error, ConnectError::NotClosed { .. } | ConnectError::Fenced { .. }),
        "{error}"
    );
    assert!(names(&place.at(".snapline/out/prepared")).is_empty());
}

#[test]
fn a_committable_of_one_file_is_read_as_it_was_before() {
    let text = format!(r#"{{"file":"{FIRST}","bytes":7}}"#);
    let one: FileCommittable = serde_json::from_str(&text).expect("can be read");
    assert_eq!(one.files().collect::<Vec<_>>(), [(FIRST.to_owned(), 7)]);
}

#[cfg(feature = "formats")]
mod formats {
    use std::io::Read;

    use super::*;
    use snapline::BoxError;
    use snapline::connect::{Csv, EncodeFile, FileSource, Progress, Source, SourceReader};

    #[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
    struct Row {
        name: String,
        cents: Option<i64>,
    }

    fn rows(from: i64) -> Vec<Row> {
        let row = |n| Row { name: format!("\"{n}\",\n"), cents: (n % 3 > 0).then_some(n) };
        (from..from + 5).map(row).collect()
    }

    /// Writes two batches into two files and commits them. Returns the texts of the files.
    fn written<T: Send + 'static, E: EncodeFile<T>>(
        place: &Place,
        sink: FileSink<T, E>,
        batches: [Vec<T>; 2],
    ) -> Result<Vec<String>, BoxError> {
        let life = attempt(1, 1);
        let (mut writer, mut committer) = sink.roll_bytes(1).open(&context(0, life))?;
        committer.fence(life)?;
        for mut batch in batches {
            writer.write(&mut batch)?;
            assert!(batch.is_empty());
        }
        let one = writer.close(txn(1, life, 0))?;
        committer.prepare(txn(1, life, 0), &one)?;
        committer.commit(granted(txn(1, life, 0)), &one)?;
        assert_eq!(one.files().count(), 2);
        for (name, bytes) in one.files() {
            assert_eq!(fs::metadata(place.at(&name))?.len(), bytes, "{name}");
        }
        let text = |(name, _): (String, _)| -> Result<String, BoxError> {
            let mut text = String::new();
            let file = fs::File::open(place.at(&name))?;
            match name.rsplit('.').next() {
                Some("gz") => flate2::read::GzDecoder::new(file).read_to_string(&mut text)?,
                Some("zst") => zstd::Decoder::new(file)?.read_to_string(&mut text)?,
                _ => fs::read_to_string(place.at(&name)).map(|all| text = all).map(|()| 0)?,
            };
            Ok(text)
        };
        one.files().map(text).collect()
    }

    fn all<S: Source>(source: &S) -> Vec<S::Record> {
        let mut reader = source
            .open(&snapline::connect::OpenContext::new("job", "in", 0, 1, attempt(1, 1)), None)
            .expect("opens");
        let mut out = Vec::new();
        while reader.read(7, &mut out).expect("reads") != Progress::End {}
        out
    }

    #[test]
    fn csv_has_a_header_in_every_file_and_is_read_again() {
        for extension in ["csv", "csv.gz", "csv.zst"] {
            let place = Place::new();
            let sink = FileSink::csv(place.0.path()).extension(extension);
            let texts = written(&place, sink, [rows(0), rows(5)]).expect("writes");
            assert!(texts.iter().all(|text| text.starts_with("name,cents\n\"\"\"")), "{texts:?}");
            let read = all(&FileSource::path(place.0.path()).csv::<Row>());
            assert_eq!(read, [rows(0), rows(5)].concat(), "{extension}");
        }
    }

    #[test]
    fn csv_may_have_no_header() {
        let place = Place::new();
        let sink =
            FileSink::new(place.0.path()).format(Csv::new().delimiter(b';').columns(["", ""]));
        let texts = written(&place, sink, [vec![(1, "a;b")], vec![(2, "c")]]).expect("writes");
        assert_eq!(texts, ["1;\"a;b\"\n", "2;c\n"]);
        let place = Place::new();
        let sink = FileSink::csv(place.0.path());
        let texts = written(&place, sink, [vec![(1, 2)], vec![(3, 4)]]).expect("writes");
        assert_eq!(texts, ["1,2\n", "3,4\n"], "a tuple has no names");
    }

    #[test]
    fn json_lines_are_lines_and_are_read_again() {
        for extension in ["jsonl", "jsonl.gz", "jsonl.zst"] {
            let place = Place::new();
            let sink = FileSink::json_lines(place.0.path()).extension(extension);
            let texts = written(&place, sink, [rows(0), rows(5)]).expect("writes");
            assert_eq!(texts[0].lines().next(), Some(r#"{"name":"\"0\",\n","cents":null}"#));
            let read = all(&FileSource::path(place.0.path()).json_lines::<Row>());
            assert_eq!(read, [rows(0), rows(5)].concat(), "{extension}");
            assert_eq!(place.lines().len(), 10, "{extension}");
        }
    }

    #[test]
    fn what_cannot_be_encoded_fails_the_write() {
        #[derive(serde::Serialize)]
        struct Nested {
            many: Vec<Row>,
        }
        let place = Place::new();
        let sink = FileSink::csv(place.0.path());
        let error = written(&place, sink, [vec![], vec![Nested { many: rows(0) }]]);
        let error = error.expect_err("no columns for a list of structs").to_string();
        assert!(error.contains("cannot be written as CSV: field `many`"), "{error}");
        let place = Place::new();
        let sink = FileSink::json_lines(place.0.path());
        let by_pair: std::collections::BTreeMap<(u32, u32), u32> = [((1, 2), 3)].into();
        let error = written(&place, sink, [vec![], vec![by_pair]]).expect_err("no text for a key");
        assert!(error.to_string().contains("key must be a string"), "{error}");
    }
}

/// Revision 2498966 did not bound the number of files of a transaction.
#[test]
fn files_beyond_the_most_are_read_and_take_no_memory() {
    let place = Place::new();
    let (mut committer, name, one) = place.closed();
    committer.prepare(name, &one).expect("prepares");
    committer.commit(granted(name), &one).expect("commits");
    for roll in [65_536, 70_000] {
        fs::write(place.at(&FIRST.replace(".txt", &format!("r{roll}.txt"))), format!("{roll}\n"))
            .expect("writes");
    }
    let lines = place.lines();
    assert_eq!(lines[lines.len() - 3..], ["4", "65536", "70000"]);
    let far = SECOND.replace("r1.", "r4294967295.");
    fs::write(place.hidden("prepared", &far), "x\n").expect("writes");
    assert!(place.committer(attempt(1, 2)).1.is_empty());
}
