//! Directories that files are put into while they are read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use snapline::connect::{
    ConnectError, Decoded, DecodedPosition, DirectorySource, JsonLines, OpenContext, Progress,
    Source, SourceReader,
};

use crate::{attempt, through_a_checkpoint, typed};

type Numbers = Decoded<u32, JsonLines>;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts a file there as the documentation asks: renamed into place.
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let (hidden, path) = (self.path().join(".new"), self.path().join(name));
        fs::write(&hidden, text).expect("writes");
        fs::rename(hidden, &path).expect("renames");
        path
    }

    fn directory(&self) -> DirectorySource {
        DirectorySource::path(self.path()).every(Duration::ZERO)
    }

    fn source(&self) -> Numbers {
        self.directory().json_lines()
    }
}

fn subtask(index: usize, parallelism: usize) -> OpenContext {
    OpenContext::new("job", "in", index, parallelism, attempt(1, 1))
}

/// Reads the available records, until there are none for now.
fn now<R: SourceReader<Record = u32>>(reader: &mut R) -> Result<Vec<u32>, snapline::BoxError> {
    let mut out = Vec::new();
    while reader.read(3, &mut out)? == Progress::More {}
    Ok(out)
}

fn restored(source: &Numbers, position: &DecodedPosition) -> impl SourceReader<Record = u32> {
    source.open(&subtask(0, 1), Some(through_a_checkpoint(position))).expect("opens")
}

#[test]
fn files_are_read_once_in_the_order_of_their_names_as_they_come() {
    let place = Place::new();
    place.put("b", "3\n4\n");
    place.put("a", "1\n2");
    place.put(".c", "no");
    place.put("d.tmp", "no");
    fs::create_dir(place.path().join("e")).expect("makes");
    let mut reader = place.source().open(&subtask(0, 1), None).expect("opens");
    assert_eq!(now(&mut reader).expect("reads"), [1, 2, 3, 4]);
    assert_eq!(now(&mut reader).expect("reads"), [0; 0]);
    // A file whose name sorts before those that were read.
    place.put("A", "5\n");
    place.put("d", "6\n");
    assert_eq!(now(&mut reader).expect("reads"), [5, 6]);
    assert_eq!(now(&mut reader).expect("reads"), [0; 0]);
}

#[test]
fn it_is_looked_for_new_files_as_often_as_is_said() {
    let place = Place::new();
    let source = DirectorySource::path(place.path()).every(Duration::from_secs(60));
    let mut reader = source.json_lines::<u32>().open(&subtask(0, 1), None).expect("opens");
    let mut out = Vec::new();
    let first = reader.read(1, &mut out).expect("reads");
    assert_eq!(first, Progress::Wait(Duration::from_secs(60)));
    place.put("a", "1\n");
    let Progress::Wait(pause) = reader.read(1, &mut out).expect("reads") else {
        panic!("it waits")
    };
    assert!(pause <= Duration::from_secs(60) && out.is_empty());
}

#[test]
fn a_restored_reader_goes_on_within_a_file_and_reads_none_again() {
    let place = Place::new();
    place.put("a", "1\n2\n");
    place.put("b", "3\n4\n");
    let source = place.source();
    let mut reader = source.open(&subtask(0, 1), None).expect("opens");
    let mut out = Vec::new();
    let mut positions = vec![(0, reader.position())];
    while reader.read(1, &mut out).expect("reads") == Progress::More {
        positions.push((out.len(), reader.position()));
    }
    place.put("0", "5\n");
    for (behind, position) in positions {
        let mut all = out[..behind].to_vec();
        all.extend(now(&mut restored(&source, &position)).expect("reads"));
        let rest: BTreeSet<u32> = all.iter().copied().collect();
        assert_eq!(all.len(), 5, "after {behind}: {all:?}");
        assert_eq!(rest, (1..=5).collect(), "after {behind}: {all:?}");
    }
}

#[test]
fn what_was_read_may_go_and_is_forgotten_then() {
    let place = Place::new();
    let size = |position: &DecodedPosition| serde_json::to_string(position).expect("JSON").len();
    let source = place.source();
    let mut reader = source.open(&subtask(0, 1), None).expect("opens");
    let mut empty = 0;
    for round in 0..20 {
        let names: Vec<PathBuf> =
            (0..10).map(|n| place.put(&format!("file-{n}-{round}"), "1\n")).collect();
        assert_eq!(now(&mut reader).expect("reads").len(), 10);
        assert!(size(&reader.position()) > 100);
        names.iter().for_each(|path| fs::remove_file(path).expect("removes"));
        assert_eq!(now(&mut reader).expect("reads"), [0; 0]);
        if round == 0 {
            empty = size(&reader.position());
        }
        assert_eq!(size(&reader.position()), empty);
    }
    // A name that is used again denotes another file.
    place.put("file-0-0", "7\n");
    assert_eq!(now(&mut reader).expect("reads"), [7]);
}

#[test]
fn names_that_ascend_are_remembered_as_one() {
    let place = Place::new();
    let source = place.directory().ascending().json_lines::<u32>();
    let mut reader = source.open(&subtask(0, 1), None).expect("opens");
    for n in 0..100 {
        place.put(&format!("file-{n:03}"), &format!("{n}\n"));
        if n % 7 == 0 {
            now(&mut reader).expect("reads");
        }
    }
    assert_eq!(now(&mut reader).expect("reads").last(), Some(&99));
    let position = reader.position();
    let text = serde_json::to_string(&position).expect("JSON");
    assert!(text.contains("file-099") && !text.contains("file-098"), "{text}");
    place.put("file-100", "100\n");
    assert_eq!(now(&mut restored(&source, &position)).expect("reads"), [100]);
    assert_eq!(now(&mut reader).expect("reads"), [100]);
    let late = place.put("file-050b", "0\n");
    let error = typed(now(&mut reader));
    let named = matches!(&error, ConnectError::NotAscending { path, newest } if *path == late && newest == "file-100");
    assert!(named, "{error}");
}

#[test]
fn every_file_is_one_subtasks_however_many_there_are() {
    let place = Place::new();
    for n in 0..60 {
        place.put(&format!("file-{n}"), &format!("{n}\n"));
    }
    for parallelism in 1..=4 {
        let mut all = Vec::new();
        for index in 0..parallelism {
            let mut reader =
                place.source().open(&subtask(index, parallelism), None).expect("opens");
            let share = now(&mut reader).expect("reads");
            assert!(share.len() > 60 / parallelism / 3, "{} of 60", share.len());
            all.extend(share);
        }
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<_>>());
    }
}

#[test]
fn the_last_file_ends_the_input() {
    let place = Place::new();
    let source = place.directory().until("END").json_lines::<u32>();
    let mut reader = source.open(&subtask(0, 1), None).expect("opens");
    place.put("a", "1\n");
    assert_eq!(now(&mut reader).expect("reads"), [1]);
    place.put("b", "2\n");
    place.put("END", "not read");
    let mut out = Vec::new();
    while reader.read(1, &mut out).expect("reads") != Progress::End {}
    assert_eq!(out, [2]);
    // Also if another file comes after the last, which is not intended.
    place.put("c", "3\n");
    assert_eq!(reader.read(1, &mut out).expect("reads"), Progress::End);
    assert_eq!(out, [2]);
}

#[test]
fn a_file_that_is_changed_or_removed_while_it_is_read_is_named() {
    let place = Place::new();
    let source = place.source();
    let lines: String = (0..10).map(|n| format!("{n}\n")).collect();
    let begun = |name: &str| {
        let path = place.put(name, &lines);
        let mut reader = source.open(&subtask(0, 1), None).expect("opens");
        let mut out = Vec::new();
        reader.read(4, &mut out).expect("reads");
        (path, reader)
    };
    let (path, mut reader) = begun("a");
    fs::write(&path, format!("{lines}10\n")).expect("writes");
    let error = typed(now(&mut reader));
    assert!(matches!(&error, ConnectError::Changed { path: named } if *named == path), "{error}");
    let position = reader.position();
    let error = typed(now(&mut restored(&source, &position)));
    assert!(matches!(error, ConnectError::Changed { .. }), "{error}");
    fs::write(&path, "0\n").expect("writes");
    let error = typed(source.open(&subtask(0, 1), Some(position)));
    assert!(matches!(error, ConnectError::Shrunk { .. }), "{error}");
    fs::remove_file(&path).expect("removes");

    let (path, reader) = begun("b");
    let position = reader.position();
    fs::remove_file(&path).expect("removes");
    let error = typed(source.open(&subtask(0, 1), Some(position)));
    assert!(
        matches!(&error, ConnectError::Vanished { path: named, .. } if *named == path),
        "{error}"
    );
}

/// A new modification time alone is detected, and so is a new size. A file that is removed while
/// open is read to its end.
#[test]
fn a_change_shows_in_the_time_or_in_the_size() {
    let place = Place::new();
    let source = place.source();
    let lines: String = (0..10).map(|n| format!("{n}\n")).collect();
    let begun = |name: &str| {
        let path = place.put(name, &lines);
        let mut reader = source.open(&subtask(0, 1), None).expect("opens");
        let mut out = Vec::new();
        while out.len() < 3 {
            reader.read(1, &mut out).expect("reads");
        }
        (path, reader)
    };
    let changed = |path: &Path, mut reader| {
        let error = typed(now(&mut reader));
        assert!(matches!(&error, ConnectError::Changed { path: it } if *it == path), "{error}");
        fs::remove_file(path).expect("removes");
    };
    let modified = |path: &Path| fs::metadata(path).and_then(|it| it.modified()).expect("known");
    let (path, reader) = begun("a");
    std::thread::sleep(Duration::from_millis(30));
    fs::write(&path, lines.replace('9', "8")).expect("writes");
    changed(&path, reader);

    let (path, reader) = begun("b");
    let then = modified(&path);
    fs::write(&path, format!("{lines}10\n")).expect("writes");
    let file = fs::File::options().write(true).open(&path).expect("opens");
    file.set_modified(then).expect("sets the time");
    changed(&path, reader);

    let (path, mut reader) = begun("c");
    fs::remove_file(path).expect("removes");
    assert_eq!(now(&mut reader).expect("reads"), (3..10).collect::<Vec<_>>());
}

/// A dangling link stands for a file that was removed after the listing.
#[cfg(unix)]
#[test]
fn what_has_gone_since_it_was_listed_is_passed_over() {
    let place = Place::new();
    place.put("a", "1\n");
    std::os::unix::fs::symlink(place.path().join("gone"), place.path().join("b")).expect("links");
    let mut reader = place.source().open(&subtask(0, 1), None).expect("opens");
    assert_eq!(now(&mut reader).expect("reads"), [1]);
}

#[test]
fn what_is_no_directory_is_refused() {
    let place = Place::new();
    let open = |path: PathBuf| {
        typed(DirectorySource::path(path).json_lines::<u32>().open(&subtask(0, 1), None))
    };
    let error = open(place.path().join("none"));
    assert!(matches!(error, ConnectError::NoInput { .. }), "{error}");
    let error = open(place.put("a", ""));
    assert!(matches!(error, ConnectError::NotADirectory { .. }), "{error}");
    // A position of existing files is invalid for a directory that grows.
    place.put("b", "1\n");
    let there = snapline::connect::FileSource::path(place.path()).json_lines::<u32>();
    let position = there.open(&subtask(0, 1), None).expect("opens").position();
    let error = typed(place.source().open(&subtask(0, 1), Some(position)));
    assert!(matches!(error, ConnectError::BadPosition { .. }), "{error}");
}
