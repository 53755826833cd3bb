//! File sources: the files that are read, and the errors in them.

use std::fs;
use std::path::Path;

use snapline::BoxError;
use snapline::connect::{
    ConnectError, FilePosition, FileReader, FileSource, OpenContext, Progress, Source, SourceReader,
};

use crate::{attempt, through_a_checkpoint, typed};

fn subtask(index: usize, parallelism: usize) -> OpenContext {
    OpenContext::new("job", "in", index, parallelism, attempt(1, 1))
}

fn open(source: &FileSource, position: Option<FilePosition>) -> Result<FileReader, BoxError> {
    source.open(&subtask(0, 1), position)
}

fn all(source: &FileSource) -> Result<Vec<String>, BoxError> {
    let (mut reader, mut lines) = (open(source, None)?, Vec::new());
    while reader.read(10, &mut lines)? != Progress::End {}
    Ok(lines)
}

fn with_files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("makes");
        fs::write(path, text).expect("writes");
    }
    dir
}

/// Reads this many lines and returns the position, as a checkpoint holds it.
fn position_behind(source: &FileSource, lines: usize) -> FilePosition {
    let mut reader = open(source, None).expect("opens");
    let mut out = Vec::new();
    reader.read(lines, &mut out).expect("reads");
    assert_eq!(out.len(), lines);
    through_a_checkpoint(&reader.position())
}

#[test]
fn a_directorys_files_come_in_the_order_of_their_names() {
    let dir = with_files(&[("b", "3\n"), ("a", "1\n2"), ("c/no", "no"), (".no", "no"), ("e", "")]);
    assert_eq!(all(&FileSource::path(dir.path())).expect("reads"), ["1", "2", "3"]);
}

#[test]
fn a_pattern_takes_files_and_passes_directories_over() {
    let dir = with_files(&[("b.log", "2"), ("a.log", "1"), ("c.log/x", "no"), ("d.txt", "no")]);
    let source = FileSource::path(dir.path().join("*.log"));
    assert_eq!(all(&source).expect("reads"), ["1", "2"]);
}

#[test]
fn a_file_whose_name_looks_like_a_pattern_is_a_file() {
    let dir = with_files(&[("a[1].txt", "yes"), ("a1.txt", "no")]);
    assert_eq!(all(&FileSource::path(dir.path().join("a[1].txt"))).expect("reads"), ["yes"]);
}

#[test]
fn what_is_not_there_is_named() {
    let dir = with_files(&[("d/x", "")]);
    let path = dir.path().join("missing");
    let error = typed(all(&FileSource::path(&path)));
    assert!(matches!(&error, ConnectError::NoInput { path: named } if *named == path), "{error}");
    let error = typed(all(&FileSource::path(dir.path().join("*.log"))));
    assert!(matches!(&error, ConnectError::NoMatch { pattern } if pattern.ends_with("*.log")));
    let error = typed(all(&FileSource::path(dir.path().join("d*"))));
    assert!(matches!(error, ConnectError::NoMatch { .. }), "only a directory: {error}");
    let error = typed(all(&FileSource::path(dir.path().join("a***"))));
    assert!(matches!(error, ConnectError::BadPattern { .. }), "{error}");
    let error = typed(all(&FileSource::path("/dev/null")));
    assert!(matches!(error, ConnectError::NotAFile { .. }), "{error}");
}

#[test]
fn bytes_that_are_not_utf8_are_named_or_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x");
    fs::write(&path, b"one\nt\xffo\nthree\n").expect("writes");
    let source = FileSource::path(&path);
    let mut reader = open(&source, None).expect("opens");
    let mut lines = Vec::new();
    let error = typed(reader.read(10, &mut lines));
    let named =
        matches!(&error, ConnectError::NotUtf8 { path: named, offset: 5 } if *named == path);
    assert!(named, "{error}");
    assert_eq!(lines, ["one"]);
    assert_eq!(
        reader.position().next(),
        Some((path.as_path(), 4)),
        "the refused line is not counted"
    );
    assert_eq!(all(&source.lossy()).expect("reads"), ["one", "t\u{fffd}o", "three"]);
    // After a byte order mark too, the offset is the file's byte.
    fs::write(&path, b"\xEF\xBB\xBFt\xffo\n").expect("writes");
    let error = typed(all(&FileSource::path(&path)));
    assert!(matches!(error, ConnectError::NotUtf8 { offset: 4, .. }), "{error}");
}

#[test]
fn what_a_file_grew_by_is_not_read() {
    let dir = with_files(&[("x", "1\n2\n3"), ("y", "4")]);
    let source = FileSource::path(dir.path());
    let position = position_behind(&source, 1);
    for name in ["x", "y"] {
        let path = dir.path().join(name);
        let longer = fs::read_to_string(&path).expect("there") + "3\n5\n";
        fs::write(path, longer).expect("writes");
    }
    fs::write(dir.path().join("z"), "new").expect("writes");
    let (mut reader, mut lines) = (open(&source, Some(position)).expect("opens"), Vec::new());
    while reader.read(1, &mut lines).expect("reads") != Progress::End {}
    assert_eq!(lines, ["2", "3", "4"]);
}

#[test]
fn a_file_that_shrank_or_vanished_is_named_with_its_sizes() {
    let dir = with_files(&[("x", "1\n2\n"), ("y", "3\n4\n")]);
    let (x, y) = (dir.path().join("x"), dir.path().join("y"));
    let source = FileSource::path(dir.path());
    let position = position_behind(&source, 1);
    fs::write(&y, "3\n").expect("writes");
    let error = typed(open(&source, Some(position.clone())));
    let named =
        matches!(&error, ConnectError::Shrunk { path, expected: 4, found: 2 } if *path == y);
    assert!(named, "{error}");
    fs::remove_file(&y).expect("removes");
    let error = typed(open(&source, Some(position)));
    let named = matches!(&error, ConnectError::Vanished { path, expected: 4 } if *path == y);
    assert!(named, "{error}");
    // A file that was read completely may be removed.
    fs::write(&y, "3\n4\n").expect("writes");
    let position = position_behind(&source, 2);
    fs::remove_file(&x).expect("removes");
    open(&source, Some(position)).expect("opens");
}

#[test]
fn a_file_that_is_cut_off_while_it_is_read_is_named() {
    let line = "x".repeat(99) + "\n";
    let dir = with_files(&[("x", &line.repeat(10_000))]);
    let path = dir.path().join("x");
    for left in [500_000, 500_050] {
        fs::write(&path, line.repeat(10_000)).expect("writes");
        let mut reader = open(&FileSource::path(&path), None).expect("opens");
        let mut lines = Vec::new();
        reader.read(1, &mut lines).expect("reads");
        fs::File::options().write(true).open(&path).expect("opens").set_len(left).expect("cuts");
        let error = typed(loop {
            match reader.read(1000, &mut lines) {
                Ok(Progress::End) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        });
        assert!(matches!(error, ConnectError::Shrunk { expected: 1_000_000, .. }), "{error}");
        assert_eq!(lines.len(), 5000);
    }
}

#[test]
fn subtasks_that_begin_at_different_moments_agree() {
    let dir = with_files(&[("b", "1\n"), ("c", "2\n")]);
    let source = FileSource::path(dir.path());
    let mut lines = Vec::new();
    for index in 0..2 {
        let mut reader = source.clone().open(&subtask(index, 2), None).expect("opens");
        reader.read(10, &mut lines).expect("reads");
        fs::write(dir.path().join("a"), "came later\n").expect("writes");
    }
    assert_eq!(lines, ["1", "2"]);
    // A later attempt without a checkpoint begins with the files that exist then.
    let later = OpenContext::new("job", "in", 0, 1, attempt(1, 2));
    let mut reader = source.open(&later, None).expect("opens");
    reader.read(1, &mut lines).expect("reads");
    assert_eq!(lines[2], "came later");
}

#[test]
fn a_position_from_elsewhere_is_refused() {
    let dir = with_files(&[("x", "1\n2\n")]);
    let path = dir.path().join("x");
    let text = format!(
        r#"{{"splits":[{{"file":{:?},"size":4,"from":0,"to":4}}],"offset":9}}"#,
        path.to_str().expect("UTF-8")
    );
    let position: FilePosition = serde_json::from_str(&text).expect("can be read");
    let error = typed(open(&FileSource::path(&path), Some(position)));
    assert!(matches!(error, ConnectError::BadPosition { .. }), "{error}");
    assert!(Path::new(&path).exists());
}
