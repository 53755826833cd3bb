//! Recorded runs that are kept, so that figures about them are the same in every run.

use std::path::PathBuf;

use serde_json::Value;
use snapline::trace::{MemoryTrace, Recording, RunTrace, replay};

use crate::jobs;

/// Traces as lines, each file with its name.
pub(crate) type Files = Vec<(String, Vec<String>)>;

/// Environment variable that records them anew. The figures in the tests belong to the recordings
/// and must be updated too.
const RECORD: &str = "SNAPLINE_RECORD";

fn directory(of: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/recorded").join(of)
}

/// A kept recording; made first where that is asked for.
fn kept(of: &str, record: impl FnOnce(&Recording)) -> Files {
    let directory = directory(of);
    if std::env::var_os(RECORD).is_some() && !directory.exists() {
        record(&directory.as_path().into());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("it is kept beside the tests") {
        let path = entry.expect("listed").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        files.push((name, lines(&std::fs::read(&path).expect("readable"))));
    }
    files.sort();
    files
}

/// A run of three terms with failures, a cancellation, a suspension and an end.
pub(crate) fn eventful() -> Files {
    kept("eventful", jobs::eventful)
}

/// A small run, from a source to a sink.
pub(crate) fn small() -> Files {
    kept("small", |recording| {
        let dir = tempfile::tempdir().expect("a directory");
        jobs::small(dir.path(), recording.clone()).wait().expect("it finishes");
    })
}

/// The same as [`eventful`], recorded now.
pub(crate) fn eventful_now() -> Files {
    let trace = MemoryTrace::new();
    jobs::eventful(&trace.clone().into());
    trace.files().into_iter().map(|(name, bytes)| (name, lines(&bytes))).collect()
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

pub(crate) fn bytes(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

/// Reads them all.
pub(crate) fn read(files: &Files) -> Vec<RunTrace> {
    let read = |(name, lines): &(String, Vec<String>)| RunTrace::read(name, &bytes(lines));
    files.iter().map(read).collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}"))
}

/// Sets the clock right, so that only the content of the lines can show an edit.
pub(crate) fn renumbered(lines: &[String]) -> Vec<String> {
    let renumber = |(place, line): (usize, &String)| {
        let mut value: Value = serde_json::from_str(line).expect("it is JSON");
        if place > 0 && value.get("at").is_some() {
            value["at"] = place.into();
        }
        value.to_string()
    };
    lines.iter().enumerate().map(renumber).collect()
}

#[test]
fn what_is_kept_is_as_the_protocol_has_it() {
    for files in [small(), eventful()] {
        let traces = read(&files);
        let replayed = replay(&traces).unwrap_or_else(|difference| panic!("{difference}"));
        assert!(replayed.torn.is_empty());
        for (trace, (_, lines)) in traces.iter().zip(&files) {
            // Writing it again gives the same text.
            let again = trace.lines().map(|line| serde_json::to_string(&line).expect("JSON"));
            assert!(again.eq(lines[1..].iter().cloned()), "{}", trace.name());
        }
    }
    let tally = replay(&read(&eventful())).expect("as above").tally;
    assert_eq!((tally.runs, tally.attempts), (3, 5));
}
