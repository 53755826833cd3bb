//! Runs that were edited.

use serde_json::Value;
use snapline::connect::{MemorySink, MemorySource};
use snapline::trace::MemoryTrace;
use snapline::{Dataflow, Emit, JobConfig};

use super::*;

/// The lines of a run with two subtasks of everything.
fn recorded() -> Vec<String> {
    let (flow, trace) = (Dataflow::new("edited"), MemoryTrace::new());
    flow.source("in", MemorySource::new((0..40).collect::<Vec<u64>>()))
        .key_by(|number| number % 3)
        .count(Emit::EachChange)
        .sink("out", MemorySink::new());
    let config = JobConfig::new().parallelism(2).record(trace.clone());
    flow.build(config).expect("the job can be built").run().expect("the job ends");
    let (_, bytes) = trace.files().into_iter().next().expect("one run");
    let text = String::from_utf8(bytes).expect("JSON is text");
    text.lines().map(ToOwned::to_owned).collect()
}

/// Everything in a scene must be where the page looks for it.
fn is_whole(scene: &Scene) {
    let (lanes, steps) = (scene.lanes.len(), scene.steps.len());
    assert!(scene.steps.iter().all(|it| it.lane < lanes && !it.text.is_empty()));
    for arrow in &scene.arrows {
        let ends = arrow.from < lanes && arrow.to < lanes;
        assert!(ends && arrow.sent <= arrow.until && arrow.until <= steps, "{arrow:?}");
    }
    let within =
        |from: usize, until: Option<usize>| from <= steps && until.is_none_or(|it| it <= steps);
    assert!(scene.lives.iter().all(|it| it.lane < lanes && within(it.from, it.until)));
    assert!(scene.holds.iter().all(|it| it.feeder < lanes && within(it.from, it.until)));
    assert!(scene.checkpoints.iter().all(|it| within(it.from, it.until)));
    assert!(scene.broken.iter().all(|it| (1..=steps).contains(&it.step)));
}

/// Each value of a line in turn, by another of its kind or of another kind.
fn edits(value: &Value, all: &mut Vec<Value>, with: &dyn Fn(Value) -> Value) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                edits(inner, all, &|new| {
                    let mut whole = fields.clone();
                    whole.insert(name.clone(), new);
                    with(Value::Object(whole))
                });
            }
        }
        Value::Array(items) => {
            for (place, inner) in items.iter().enumerate() {
                edits(inner, all, &|new| {
                    let mut whole = items.clone();
                    whole[place] = new;
                    with(Value::Array(whole))
                });
            }
            all.push(with(Value::Array(Vec::new())));
        }
        Value::Number(_) => all.extend([0_u64, 60_000, u64::MAX].map(|new| with(new.into()))),
        Value::String(_) => all.push(with("<b>".into())),
        Value::Null | Value::Bool(_) => {}
    }
    all.extend([with(Value::Null), with(serde_json::json!({ "Send": [1, { "order": 7 }] }))]);
}

#[test]
fn a_run_that_was_edited_anywhere_is_refused_or_drawn_whole() {
    let lines = recorded();
    let (mut drawn, mut parted) = (0, 0);
    for place in 1..lines.len() {
        let line: Value = serde_json::from_str(&lines[place]).expect("JSON");
        let mut all = Vec::new();
        edits(&line, &mut all, &|new| new);
        // Every seventh will do: the edits of one line are much like those of the next.
        for edited in all.into_iter().skip(place % 7).step_by(7) {
            let mut text = lines.clone();
            text[place] = edited.to_string();
            let text = text.join("\n") + "\n";
            let Ok(trace) = RunTrace::read("edited", text.as_bytes()) else { continue };
            let scene = scene_of_runs(&[trace]).expect("the trace is of one run");
            is_whole(&scene);
            drawn += 1;
            parted += usize::from(scene.broken.is_some());
        }
    }
    assert!(drawn > 100 && parted > drawn / 2, "{parted} of {drawn}");
    let whole = RunTrace::read("whole", (lines.join("\n") + "\n").as_bytes()).expect("a run");
    let scene = scene_of_runs(&[whole]).expect("the trace is of one run");
    is_whole(&scene);
    assert_eq!(scene.broken, None);
    assert!(!scene.holds.is_empty(), "two inputs are aligned");
}
