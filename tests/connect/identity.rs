//! Files and directories that differ from those of a checkpoint, under the same name.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use snapline::BoxError;
use snapline::connect::{
    ConnectError, Decoded, DirectorySource, FileSource, JsonLines, OpenContext, Progress, Source,
    SourceReader,
};

use crate::{attempt, through_a_checkpoint, typed};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("it was joined")).expect("makes");
        fs::write(&path, bytes).expect("writes");
        path
    }
}

fn subtask(index: usize, parallelism: usize) -> OpenContext {
    OpenContext::new("job", "in", index, parallelism, attempt(1, 1))
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("{number}\n")).collect()
}

/// Everything from here to the end.
fn rest<R: SourceReader>(reader: &mut R) -> Result<Vec<R::Record>, BoxError> {
    let mut out = Vec::new();
    while reader.read(1000, &mut out)? != Progress::End {}
    Ok(out)
}

/// The position after this many records, as a checkpoint holds it.
fn behind<S: Source>(source: &S, records: usize) -> S::Position {
    let mut reader = source.open(&subtask(0, 1), None).expect("opens");
    let mut out = Vec::new();
    while out.len() < records {
        let left = records - out.len();
        reader.read(left, &mut out).expect("reads");
    }
    through_a_checkpoint(&reader.position())
}

fn restored<S: Source>(source: &S, position: &S::Position) -> Result<Vec<S::Record>, BoxError> {
    rest(&mut source.open(&subtask(0, 1), Some(position.clone()))?)
}

fn assert_replaced<T>(result: Result<T, BoxError>, file: &Path) {
    let error = typed(result.map(drop));
    assert!(matches!(&error, ConnectError::Replaced { path, .. } if path == file), "{error}");
    assert!(error.to_string().contains("accept_changed"), "{error}");
}

fn numbers(path: impl AsRef<Path>) -> Decoded<u32, JsonLines> {
    FileSource::path(path).json_lines()
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("compresses");
    encoder.finish().expect("compresses")
}

/// Runs the same check for lines, records, and records from a compressed file.
macro_rules! for_each_source {
    ($(#[$meta:meta])* $name:ident, $check:ident) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            $check(|path| FileSource::path(path), "numbers", |text| text.into());
            $check(|path| numbers(path), "numbers.json", |text| text.into());
            $check(|path| FileSource::path(path).csv::<(u32,)>(), "numbers.csv", |text| text.into());
            $check(|path| numbers(path), "numbers.json.gz", gzip);
        }
    };
}

for_each_source!(a_larger_file_put_in_the_place_of_one_that_was_read_is_refused, larger);
fn larger<S: Source>(source: impl Fn(PathBuf) -> S, name: &str, bytes: fn(&str) -> Vec<u8>) {
    let place = Place::new();
    let path = place.file(name, bytes(&lines(0..20_000)));
    let source = source(path.clone());
    for records in [0, 1, 10_000] {
        place.file(name, bytes(&lines(0..20_000)));
        let position = behind(&source, records);
        place.file(name, bytes(&lines(1_000_000..1_040_000)));
        assert_replaced(restored(&source, &position), &path);
        // A file with the same beginning, and one with the same end.
        place.file(name, bytes(&(lines(0..19_000) + &lines(50_000..90_000))));
        assert_replaced(restored(&source, &position), &path);
        place.file(name, bytes(&(lines(50_000..90_000) + &lines(19_000..20_000))));
        assert_replaced(restored(&source, &position), &path);
    }
}

for_each_source!(a_copy_elsewhere_and_growth_are_the_same_file, the_same);
fn the_same<S: Source>(source: impl Fn(PathBuf) -> S, name: &str, bytes: fn(&str) -> Vec<u8>) {
    let place = Place::new();
    let path = place.file(name, bytes(&lines(0..20_000)));
    let source = source(path.clone());
    let position = behind(&source, 5_000);
    let left = restored(&source, &position).expect("reads").len();
    assert!((14_999..=15_000).contains(&left), "{left}");
    fs::remove_file(&path).expect("removes");
    // A compressed file grows by another compressed member.
    let whole = [bytes(&lines(0..20_000)), bytes(&lines(20_000..30_000))].concat();
    place.file(name, whole);
    assert_eq!(restored(&source, &position).expect("reads").len(), left);
}

#[test]
fn a_file_that_was_not_begun_may_not_be_replaced_either() {
    let place = Place::new();
    place.file("in/a", lines(0..10));
    let second = place.file("in/b", lines(0..10));
    let source = FileSource::path(place.0.path().join("in"));
    let position = behind(&source, 5);
    place.file("in/b", lines(1_000..1_020));
    assert_replaced(restored(&source, &position), &second);
}

#[test]
fn a_file_that_is_replaced_between_its_pieces_is_seen() {
    let place = Place::new();
    let path = place.file("numbers", lines(0..40_000));
    let plain = FileSource::path(&path).split_bytes(10_000);
    let decoded = plain.clone().json_lines::<u32>();
    fn check<S: Source>(place: &Place, source: &S, path: &Path) {
        place.file("numbers", lines(0..40_000));
        let mut readers = [0, 1].map(|index| source.open(&subtask(index, 2), None).expect("opens"));
        let mut out = Vec::new();
        readers.iter_mut().for_each(|reader| _ = reader.read(100, &mut out).expect("reads"));
        let new = place.file("new", lines(500_000..600_000));
        fs::rename(new, path).expect("renames");
        for mut reader in readers {
            assert_replaced(rest(&mut reader), path);
        }
    }
    check(&place, &plain, &path);
    check(&place, &decoded, &path);
}

#[test]
fn a_file_that_is_written_over_while_it_is_open_is_seen_at_its_end() {
    let place = Place::new();
    let path = place.file("numbers", lines(100_000..200_000));
    fn check<S: Source>(place: &Place, source: &S, path: &Path) {
        place.file("numbers", lines(100_000..200_000));
        let mut reader = source.open(&subtask(0, 1), None).expect("opens");
        let mut out = Vec::new();
        reader.read(100, &mut out).expect("reads");
        place.file("numbers", lines(500_000..600_000));
        assert_replaced(rest(&mut reader), path);
    }
    check(&place, &FileSource::path(&path).split_bytes(u64::MAX), &path);
    check(&place, &numbers(&path), &path);
}

#[test]
fn a_repaired_file_is_read_on_when_that_is_said() {
    let place = Place::new();
    let path = place.file("numbers", lines(0..1_000) + "oops\n" + &lines(1_000..2_000));
    let source = numbers(&path);
    let position = behind(&source, 1_000);
    let error = typed(restored(&source, &position));
    assert!(matches!(error, ConnectError::Malformed { .. }), "{error}");
    let expected: Vec<u32> = (999_999..1_000_000).chain(1_000..2_000).collect();
    for repair in ["999999\n", "999999\n\n\n"] {
        place.file("numbers", lines(0..1_000) + repair + &lines(1_000..2_000));
        assert_replaced(restored(&source, &position), &path);
        let accepting = FileSource::path(&path).accept_changed().json_lines::<u32>();
        assert_eq!(restored(&accepting, &position).expect("reads"), expected);
        // From the next checkpoint on it is the known file.
        let mut reader = accepting.open(&subtask(0, 1), Some(position.clone())).expect("opens");
        let next = through_a_checkpoint(&reader.position());
        assert_eq!(restored(&source, &next).expect("reads"), expected);
        assert_eq!(rest(&mut reader).expect("reads"), expected);
    }
    // Pieces that were read stay read; the last one extends to the file's present end. The same
    // holds for plain lines.
    let pieces = || FileSource::path(&path).split_bytes(3_000);
    place.file("numbers", lines(0..2_000));
    let position = behind(&pieces(), 1_000);
    place.file("numbers", lines(0..2_500));
    assert_eq!(restored(&pieces(), &position).expect("grown").len(), 1_000);
    place.file("numbers", lines(0..1_500) + &lines(1_000..2_000));
    let read = restored(&pieces().accept_changed(), &position).expect("reads");
    assert_eq!(read.len(), 1_500);
    // Shorter than the part that was read: the job cannot resume.
    place.file("numbers", "0\n");
    let error = typed(restored(&pieces().accept_changed(), &position));
    assert!(matches!(error, ConnectError::Shrunk { .. }), "{error}");
}

#[test]
fn another_path_than_the_checkpoints_is_refused_with_both_names() {
    let place = Place::new();
    for dir in ["old", "new"] {
        place.file(&format!("{dir}/a.log"), lines(0..10));
        place.file(&format!("{dir}/b.log"), lines(10..20));
    }
    let at = |path: &str| place.0.path().join(path);
    for (old, new) in [
        ("old", "new"),
        ("old/*.log", "new/*.log"),
        ("old/a.log", "new/a.log"),
        ("old", "old/*.log"),
    ] {
        fn check<S: Source>(open: impl Fn(&Path, Option<&Path>) -> S, old: &Path, new: &Path) {
            // Also when nothing is left to be read.
            let all = rest(&mut open(old, None).open(&subtask(0, 1), None).expect("opens"));
            let all = all.expect("reads").len();
            for records in [5, all] {
                let position = behind(&open(old, None), records);
                let error = typed(restored(&open(new, None), &position));
                let named = matches!(&error, ConnectError::OtherPath { was, now }
                    if Path::new(was) == old && Path::new(now) == new);
                assert!(named && error.to_string().contains("moved_from"), "{error}");
                let moved = restored(&open(new, Some(old)), &position).expect("reads");
                assert_eq!(moved.len(), all - records);
                let left = restored(&open(old, None), &position).expect("reads");
                assert_eq!(left.len(), all - records);
            }
        }
        let source = |path: &Path, moved: Option<&Path>| match moved {
            Some(old) => FileSource::path(path).moved_from(old),
            None => FileSource::path(path),
        };
        check(source, &at(old), &at(new));
        check(|path, moved| source(path, moved).json_lines::<u32>(), &at(old), &at(new));
    }
    // The moved files must be the same.
    let position = behind(&FileSource::path(at("old")), 5);
    place.file("new/a.log", lines(50..80));
    let moved = FileSource::path(at("new")).moved_from(at("old"));
    assert_replaced(restored(&moved, &position), &at("new/a.log"));
}

/// A position as revision 2498966 wrote it: no path, and no mark of the files' content.
#[test]
fn a_position_of_the_first_version_is_read_and_its_files_must_be_under_the_path() {
    let place = Place::new();
    let path = place.file("in/a", lines(0..1_000));
    let size = fs::metadata(&path).expect("there").len();
    let split = serde_json::json!({"file": path, "size": size, "from": 0, "to": size});
    let plain = serde_json::json!({"splits": [split], "offset": 20});
    let decoded = serde_json::json!({
        "pieces": [{"split": split, "modified": null}],
        "offset": 20, "lines": 10, "skipped": 0, "read": null,
    });
    for path in [path.clone(), place.0.path().join("in"), place.0.path().join("*/a")] {
        let position = serde_json::from_value(plain.clone()).expect("a position");
        let read = restored(&FileSource::path(&path), &position).expect("reads");
        assert_eq!(read.len(), 990);
        let position = serde_json::from_value(decoded.clone()).expect("a position");
        assert_eq!(restored(&numbers(&path), &position).expect("reads").len(), 990);
    }
    let elsewhere = place.file("elsewhere/a", lines(0..1_000));
    let position = serde_json::from_value(plain).expect("a position");
    let error = typed(restored(&FileSource::path(&elsewhere), &position));
    assert!(matches!(error, ConnectError::OtherPath { .. }), "{error}");
    let position = serde_json::from_value(decoded).expect("a position");
    let error = typed(restored(&numbers(&elsewhere), &position));
    assert!(matches!(error, ConnectError::OtherPath { .. }), "{error}");
    // From then on the file's identity is known.
    let reader = numbers(&path).open(&subtask(0, 1), Some(position)).expect("opens");
    let next = through_a_checkpoint(&reader.position());
    place.file("in/a", lines(5_000..9_000));
    assert_replaced(restored(&numbers(&path), &next), &path);
}

/// Reads the present records of a directory.
fn now<R: SourceReader>(reader: &mut R) -> Result<Vec<R::Record>, BoxError> {
    let mut out = Vec::new();
    while reader.read(1000, &mut out)? == Progress::More {}
    Ok(out)
}

fn incoming(path: &Path) -> DirectorySource {
    DirectorySource::path(path).every(Duration::ZERO)
}

/// Gives a file another modification time, as a copy has.
fn touch(path: &Path) {
    let file = fs::File::options().write(true).open(path).expect("opens");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)).expect("sets it");
}

#[test]
fn a_file_put_in_the_place_of_one_that_was_read_is_refused_or_read_too() {
    for ascending in [false, true] {
        let place = Place::new();
        let dir = place.0.path().join("in");
        let order = |source: DirectorySource| if ascending { source.ascending() } else { source };
        let source = order(incoming(&dir)).json_lines::<u32>();
        let accepting = order(incoming(&dir)).accept_changed().json_lines::<u32>();
        place.file("in/a", lines(0..5));
        let path = place.file("in/b", lines(5..10));
        let begin = || {
            fs::write(&path, lines(5..10)).expect("writes");
            let mut reader = source.open(&subtask(0, 1), None).expect("opens");
            assert_eq!(now(&mut reader).expect("reads").len(), 10);
            let position = through_a_checkpoint(&reader.position());
            (reader, position)
        };
        // A different file, a longer one, and one of the same length with another time.
        for text in [lines(100..200), lines(5..11), lines(4..9)] {
            let (mut reader, position) = begin();
            touch(&path);
            let mut again = source.open(&subtask(0, 1), Some(position.clone())).expect("opens");
            assert_eq!(now(&mut again).expect("a copy is the same"), [0; 0]);
            assert_eq!(now(&mut reader).expect("a copy is the same"), [0; 0]);
            fs::write(&path, &text).expect("writes");
            let refused = |error: ConnectError| {
                let named = matches!(&error, ConnectError::PutAgain { path: it } if *it == path);
                assert!(named && error.to_string().contains("accept_changed"), "{error}");
            };
            refused(typed(now(&mut reader)));
            let restored = |source: &Decoded<u32, JsonLines>| {
                now(&mut source.open(&subtask(0, 1), Some(position.clone())).expect("opens"))
            };
            refused(typed(restored(&source)));
            assert_eq!(restored(&accepting).expect("reads").len(), text.lines().count());
        }
    }
}

#[test]
fn a_begun_file_of_a_directory_may_be_a_copy_and_no_other() {
    let place = Place::new();
    let dir = place.0.path().join("in");
    let path = place.file("in/a", lines(0..2_000));
    let source = incoming(&dir).json_lines::<u32>();
    let mut reader = source.open(&subtask(0, 1), None).expect("opens");
    let mut out = Vec::new();
    while out.len() < 500 {
        let left = 500 - out.len();
        reader.read(left, &mut out).expect("reads");
    }
    let position = through_a_checkpoint(&reader.position());
    let restored = |source: &Decoded<u32, JsonLines>| {
        now(&mut source.open(&subtask(0, 1), Some(position.clone())).expect("opens"))
    };
    touch(&path);
    assert_eq!(restored(&source).expect("reads").len(), 1_500);
    // A file of the same length.
    place.file("in/a", lines(0..1_900) + &lines(1_000..1_100));
    let error = typed(restored(&source));
    assert!(matches!(&error, ConnectError::Changed { path: it } if *it == path), "{error}");
    let accepting = incoming(&dir).accept_changed().json_lines::<u32>();
    assert_eq!(restored(&accepting).expect("reads").len(), 1_500);
    place.file("in/a", lines(0..2_200));
    assert!(matches!(typed(restored(&source)), ConnectError::Changed { .. }));
    assert_eq!(restored(&accepting).expect("reads").len(), 1_700);
}

#[test]
fn another_directory_than_the_checkpoints_is_refused_and_a_moved_one_is_found() {
    let place = Place::new();
    let at = |name: &str| place.0.path().join(name);
    for dir in ["old", "new"] {
        place.file(&format!("{dir}/a"), lines(0..10));
        place.file(&format!("{dir}/b"), lines(10..20));
    }
    let source = incoming(&at("old")).json_lines::<u32>();
    let mut reader = source.open(&subtask(0, 1), None).expect("opens");
    let mut out = Vec::new();
    while out.len() < 15 {
        let left = 15 - out.len();
        reader.read(left, &mut out).expect("reads");
    }
    let position = through_a_checkpoint(&reader.position());
    let elsewhere = incoming(&at("new")).json_lines::<u32>();
    let error = typed(elsewhere.open(&subtask(0, 1), Some(position.clone())));
    assert!(matches!(error, ConnectError::OtherPath { .. }), "{error}");
    let moved = incoming(&at("new")).moved_from(at("old")).json_lines::<u32>();
    let mut reader = moved.open(&subtask(0, 1), Some(position)).expect("opens");
    assert_eq!(now(&mut reader).expect("reads"), [15, 16, 17, 18, 19]);
}

/// As revision 2498966 wrote it: names alone.
#[test]
fn a_directorys_position_of_the_first_version_is_read() {
    let place = Place::new();
    let dir = place.0.path().join("in");
    let path = place.file("in/a", lines(0..10));
    place.file("in/b", lines(10..20));
    let position = serde_json::json!({
        "pieces": [], "offset": 0, "lines": 0, "skipped": 0, "read": ["a"],
    });
    let position = serde_json::from_value(position).expect("a position");
    let source = incoming(&dir).json_lines::<u32>();
    let mut reader = source.open(&subtask(0, 1), Some(position)).expect("opens");
    assert_eq!(now(&mut reader).expect("reads"), (10..20).collect::<Vec<_>>());
    // From then on the file's identity is known.
    place.file("in/a", lines(0..11));
    let error = typed(now(&mut reader));
    assert!(matches!(&error, ConnectError::PutAgain { path: it } if *it == path), "{error}");
}

/// Names alone, or entries from before the content was marked: a copy of the directory has other
/// times.
#[test]
fn a_copied_directory_of_an_earlier_versions_position_is_the_same() {
    for ascending in [false, true] {
        let place = Place::new();
        let dir = place.0.path().join("in");
        let order = |source: DirectorySource| if ascending { source.ascending() } else { source };
        let source = order(incoming(&dir)).json_lines::<u32>();
        let path = place.file("in/a", lines(0..10));
        let names = serde_json::json!(["a"]);
        let unmarked =
            serde_json::json!({ "a": [fs::metadata(&path).expect("there").len(), 7, null] });
        for read in [names, unmarked] {
            place.file("in/a", lines(0..10));
            let position = serde_json::json!({
                "pieces": [], "offset": 0, "lines": 0, "skipped": 0, "read": read,
            });
            let position = serde_json::from_value(position).expect("a position");
            let mut reader = source.open(&subtask(0, 1), Some(position)).expect("opens");
            assert_eq!(now(&mut reader).expect("reads"), [0; 0]);
            let position = through_a_checkpoint(&reader.position());
            touch(&path);
            assert_eq!(now(&mut reader).expect("a copy is the same"), [0; 0]);
            let mut reader = source.open(&subtask(0, 1), Some(position)).expect("opens");
            assert_eq!(now(&mut reader).expect("a copy is the same"), [0; 0]);
            // A different file of the same length is refused.
            place.file("in/a", lines(1..10) + "0\n");
            let error = typed(now(&mut reader));
            assert!(
                matches!(&error, ConnectError::PutAgain { path: it } if *it == path),
                "{error}"
            );
        }
    }
}

/// End to end: a job is suspended within a file, which is moved away and replaced by a larger one.
#[test]
fn a_suspended_job_does_not_go_on_in_another_file() {
    use snapline::connect::FileSink;
    use snapline::{Dataflow, JobConfig, JobError, Restart};
    let place = Place::new();
    let path = place.file("numbers", lines(0..200_000));
    let out = place.0.path().join("out");
    let start = |slowly: bool| {
        let flow = Dataflow::new("lines");
        let pass = move |line: String| {
            if slowly && line.ends_with("00") {
                std::thread::sleep(Duration::from_millis(2));
            }
            line
        };
        flow.source("in", FileSource::path(&path)).map(pass).sink("out", FileSink::new(&out));
        let config = JobConfig::new()
            .parallelism(1)
            .directory(place.0.path().join("store"))
            .checkpoint_interval(Duration::from_millis(20))
            .restart(Restart::Never);
        flow.build(config).expect("builds").spawn().expect("starts")
    };
    let handle = start(true);
    while handle.status().completed < 2 {
        std::thread::yield_now();
    }
    handle.suspend();
    handle.wait().expect("is suspended");
    let before = FileSink::read_committed(&out).expect("readable").len();
    assert!((1..200_000).contains(&before), "{before} lines");
    let kept = place.0.path().join("kept");
    fs::rename(&path, &kept).expect("moves");
    place.file("numbers", lines(1_000_000..1_300_000));
    let failed = start(false).wait().expect_err("refused");
    assert!(matches!(failed, JobError::Failed(_)), "{failed}");
    assert!(failed.to_string().contains("is not the file"), "{failed}");
    assert_eq!(FileSink::read_committed(&out).expect("readable").len(), before);
    fs::rename(&kept, &path).expect("moves back");
    start(false).wait().expect("goes on");
    let mut read: Vec<u32> = FileSink::read_committed(&out)
        .expect("readable")
        .iter()
        .map(|line| line.parse().expect("whole"))
        .collect();
    read.sort_unstable();
    assert!(read.into_iter().eq(0..200_000));
}
