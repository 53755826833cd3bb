//! Truncated traces, and files that are not traces.

use snapline::connect::{MemorySink, MemorySource};
use snapline::trace::{MemoryTrace, RunTrace, Wrong, replay};
use snapline::{Dataflow, Ended, JobConfig};

use crate::files::{bytes, read, small};

#[test]
fn a_trace_that_is_cut_off_anywhere_is_replayed_up_to_there() {
    let files = small();
    let (name, lines) = &files[0];
    let whole = bytes(lines);
    let last = whole.len() - lines[lines.len() - 1].len() - 1;
    // Each byte of the first line and of the last, and some of those in between.
    let between = (lines[0].len() + 1..last).step_by(61);
    let mut lines_seen = 0;
    for cut in (0..=lines[0].len()).chain(between).chain(last..=whole.len()) {
        let trace = RunTrace::read(name, &whole[..cut]).unwrap_or_else(|error| panic!("{error}"));
        let rest = whole[..cut].iter().rev().take_while(|&&byte| byte != b'\n').count();
        assert_eq!(trace.torn(), (rest > 0).then_some(rest), "cut at {cut}");
        let replayed = replay(&[trace]).unwrap_or_else(|difference| panic!("{difference}"));
        assert_eq!(replayed.torn.len(), usize::from(rest > 0));
        assert!(replayed.tally.lines >= lines_seen, "cut at {cut}");
        lines_seen = replayed.tally.lines;
        if rest > 0 {
            assert!(replayed.to_string().contains("its last line is truncated"), "{replayed}");
        }
    }
    assert_eq!(lines_seen, lines.len() as u64 - 1);
    let torn = RunTrace::read(name, &whole[..10]).expect("it says nothing");
    assert!(torn.header().is_none() && torn.lines().len() == 0);
}

#[test]
fn what_is_no_trace_is_refused_with_line_and_field() {
    let lines = small()[0].1.clone();
    let refused = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        edit(&mut lines);
        let error = RunTrace::read("t", &bytes(&lines)).expect_err("it is none");
        error.to_string()
    };
    let replaced = |line: usize, from: &str, to: &str| {
        refused(&|lines| {
            assert!(lines[line].contains(from), "{}", lines[line]);
            lines[line] = lines[line].replacen(from, to, 1);
        })
    };
    let says = |said: String, parts: &[&str]| {
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        assert!(said.len() < 500, "{said}");
    };
    says(
        replaced(0, "snapline-run-trace", "snapline-trace"),
        &["t, line 1: this is not a run trace: its format is \"snapline-trace\""],
    );
    says(
        replaced(0, "\"version\":1", "\"version\":2"),
        &["line 1: this is version 2", "reads version 1"],
    );
    says(
        replaced(0, "\"job\":\"small\"", "\"job\":7"),
        &["line 1: field `job`", "expected a string"],
    );
    says(replaced(0, "\"max_concurrent\":1", "\"max_concurrent\":0"), &["field `max_concurrent`"]);
    says(
        replaced(0, "\"id_block\":1024", "\"id_block\":18446744073709551615"),
        &["field `id_block`"],
    );
    says(replaced(0, "\"role\":\"sink\"", "\"role\":\"source\""), &["field `plan`", "no sink"]);
    says(
        replaced(0, "\"process\":", "\"procession\":"),
        &["line 1: field", "unknown field `procession`"],
    );
    says(replaced(3, "\"at\":3", "\"at\":\"three\""), &["line 4: field `at`", "expected u64"]);
    says(replaced(3, "\"at\":3", "\"at\":4"), &["line 4: its clock is 4, but must be 3"]);
    says(
        replaced(1, "\"effects\"", "\"effect\""),
        &["line 2: field `what.started", "unknown field `effect`"],
    );
    says(
        replaced(1, "\"started\"", "\"begins\""),
        &["line 2: field `what", "unknown variant `begins`"],
    );
    let at = |what: &str| lines.iter().position(|line| line.contains(what)).expect("there is one");
    let fired = at("\"event\":{\"Fired\"");
    says(
        replaced(fired, "\"Fired\":\"Interval\"", "\"Fired\":\"Internal\""),
        &["field `what.coordinator.event`", "unknown variant `Internal`"],
    );
    let verdict = at("\"verdict\":\"Applied\"");
    says(replaced(verdict, "\"verdict\":\"Applied\"", "\"verdict\":true"), &["verdict`"]);
    let huge = format!("\"verdict\":\"{}\"", "x".repeat(200_000));
    let said = replaced(verdict, "\"verdict\":\"Applied\"", &huge);
    assert!(said.contains("unknown variant"), "{}", &said[..200]);
    says(refused(&|lines| lines[2] = "{".into()), &["line 3, column 1: it is not JSON"]);
    says(refused(&|lines| lines[2] = String::new()), &["line 3, column 0: it is not JSON"]);
    says(refused(&|lines| lines[2] = "[".repeat(100_000)), &["line 3", "invalid type"]);
    says(refused(&|lines| lines.insert(0, "null".into())), &["its format is missing"]);
    let text = RunTrace::read("t", b"\xff\xfe\n").expect_err("it is none");
    assert!(matches!(text.wrong, Wrong::NotText), "{text}");
    let empty = RunTrace::read("t", b"").expect("it says nothing");
    assert!(empty.header().is_none() && empty.torn().is_none());
    assert_eq!(replay(&[empty]).expect("nothing is wrong with it").tally.runs, 0);
}

#[test]
fn large_numbers_are_no_panic() {
    let lines = small()[0].1.clone();
    let largest = u64::MAX.to_string();
    for (place, line) in lines.iter().enumerate() {
        let numbers: Vec<(usize, &str)> = line.match_indices(char::is_numeric).collect();
        // The first digit of each number outside texts.
        for &(start, _) in
            numbers.iter().filter(|(start, _)| line[..*start].ends_with([':', '['])).take(12)
        {
            let end = line[start..]
                .find(|c: char| !c.is_ascii_digit())
                .map_or(line.len(), |end| start + end);
            let mut lines = lines.clone();
            lines[place] = format!("{}{largest}{}", &line[..start], &line[end..]);
            if let Ok(trace) = RunTrace::read("t", &bytes(&lines)) {
                // It is refused, or the number had no effect; it never panics.
                let _ = replay(&[trace]);
            }
        }
    }
}

#[test]
fn a_trace_that_cannot_be_written_does_no_harm_and_is_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("taken");
    std::fs::write(&file, "a file where a directory should be").expect("writable");
    let (flow, sink) = (Dataflow::new("unrecorded"), MemorySink::new());
    flow.source("in", MemorySource::new(vec![1, 2, 3])).sink("out", sink.clone());
    let job = flow.build(JobConfig::new().parallelism(1).record(file.as_path())).expect("builds");
    let outcome = job.spawn().expect("it starts").wait().expect("it finishes");
    assert_eq!(outcome.ended, Ended::Finished);
    assert_eq!(sink.committed(), [1, 2, 3]);
    assert!(outcome.status.recording_failed.is_some(), "it is reported");

    let (flow, trace) = (Dataflow::new("recorded"), MemoryTrace::new());
    flow.source("in", MemorySource::new(vec![1])).sink("out", MemorySink::new());
    let job = flow.build(JobConfig::new().record(trace.clone())).expect("builds");
    let outcome = job.spawn().expect("it starts").wait().expect("it finishes");
    assert!(outcome.status.recording_failed.is_none());
    assert_eq!(trace.files().len(), 1);
}

/// Two jobs in one directory of traces are two jobs. A missing run removes the knowledge of the
/// runs before it.
#[test]
fn runs_are_put_together_by_job_and_by_term() {
    let (mut all, eventful) = (read(&small()), read(&crate::files::eventful()));
    all.splice(0..0, eventful.iter().rev().cloned());
    assert_eq!(replay(&all).unwrap_or_else(|difference| panic!("{difference}")).tally.runs, 4);
    let only = |runs: &[usize]| {
        let runs: Vec<_> = runs.iter().map(|&run| &eventful[run]).collect();
        replay(&runs).unwrap_or_else(|difference| panic!("{difference}")).tally.runs
    };
    assert_eq!((only(&[0, 2]), only(&[1, 2]), only(&[2])), (2, 2, 1));
    let twice = replay(&[&eventful[0], &eventful[0]]).expect_err("one term, two runs");
    assert!(twice.to_string().contains("names"), "{twice}");
}
