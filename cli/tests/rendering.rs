//! `snapline trace render`, `show` and `shrink` as a user meets them.

mod common;

use common::{file, scratch, snapline};
use serde_json::Value;
use snapline::connect::{MemorySink, MemorySource};
use snapline::trace::MemoryTrace;
use snapline::{Dataflow, JobConfig};
use snapline_models::trace::Trace;
use snapline_models::world::Action;

/// The shortest counterexample of a mutant, as a file.
fn counterexample(mutant: &str) -> String {
    let directory = scratch(&format!("pictures-{mutant}"));
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    snapline(&["mutants", mutant, "--trace", &directory]).is(0, &[mutant]);
    format!("{directory}/{mutant}.json")
}

/// The document that a page shows, as it is embedded in it.
fn document(page: &str) -> Value {
    let (_, rest) =
        page.split_once("<script type=\"application/json\" id=\"document\">").expect("a scene");
    let (json, _) = rest.split_once("</script>").expect("its end");
    serde_json::from_str(json).expect("JSON")
}

/// Its first story.
fn scene(page: &str) -> Value {
    document(page)["stories"][0]["scene"].take()
}

#[test]
fn a_page_holds_everything_and_asks_for_nothing() {
    let trace = counterexample("commit-at-barrier");
    let page = scratch("page.html");
    snapline(&["trace", "render", &trace, "-o", &page]).is(0, &["steps, ", " bytes"]);
    let page = std::fs::read_to_string(page).expect("the page was written");
    for asks in ["src=", "href=", "@import", "url(", "fetch(", "XMLHttpRequest", "WebSocket"] {
        assert!(!page.contains(asks), "{asks}");
    }
    assert!(page.contains("default-src 'none'"));
    let clauses = document(&page)["clauses"].take();
    let scene = scene(&page);
    let steps = scene["steps"].as_array().expect("steps");
    assert_eq!(scene["wrong_rule"][0], "commit-at-barrier");
    assert_eq!(scene["broken"]["law"], 4);
    assert_eq!(scene["broken"]["step"], steps.len(), "the shortest path ends where the law breaks");
    assert!(clauses["9.4"].as_str().is_some_and(|text| text.contains("committed only")));
    let lanes: Vec<&Value> = scene["lanes"].as_array().expect("lanes").iter().collect();
    assert_eq!(lanes[0]["name"], "coordinator");
    let arrows = scene["arrows"].as_array().expect("arrows");
    for arrow in arrows {
        let (sent, until) = (arrow["sent"].as_u64(), arrow["until"].as_u64());
        assert!(sent <= until && until <= Some(steps.len() as u64), "{arrow}");
    }
    assert!(arrows.iter().any(|arrow| arrow["kind"] == "barrier"), "barriers are shown");
    assert!(arrows.iter().any(|arrow| arrow["kind"] == "commit" && arrow["fate"] == "arrived"));
    // Each step's clause is there to be read.
    for step in steps {
        let clause = step["clause"].as_str().expect("a clause");
        assert!(clauses[clause].is_string(), "{clause}");
    }
}

#[test]
fn a_crash_loses_what_was_under_way_and_begins_a_new_attempt() {
    let trace = counterexample("starts-from-nothing");
    let page = snapline(&["trace", "render", &trace]).is(0, &["<!doctype html>"]).out;
    let scene = scene(&page);
    let crashed = |life: &&Value| life["crashed"] == true;
    assert!(scene["lives"].as_array().expect("lives").iter().any(|life| crashed(&life)));
    let faults =
        scene["steps"].as_array().expect("steps").iter().filter(|step| step["fault"] == true);
    assert!(faults.count() > 0);
    assert!(
        scene["arrows"].as_array().expect("arrows").iter().any(|arrow| arrow["fate"] == "lost")
    );
}

#[test]
fn counterexamples_of_every_kind_are_drawn_whole_and_say_where_they_part() {
    // Zombies of both kinds, losses, timeouts, unknown outcomes, alignment, deletion, a stop.
    let mutants = [
        "claims-alike",
        "no-fence",
        "old-writers-admitted",
        "count-barriers",
        "loss-swallowed",
        "no-resend",
        "manifest-torn",
        "unknown-is-not-applied",
        "collect-nothing",
        "suspended-reads-on",
        "state-hole",
    ];
    let directory = scratch("pictures-many");
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    snapline(&[&["mutants"], mutants.as_slice(), &["--trace", &directory]].concat()).is(0, &[]);
    let mut fates = Vec::new();
    for mutant in mutants {
        let page =
            snapline(&["trace", "render", &format!("{directory}/{mutant}.json")]).is(0, &[]).out;
        let document = document(&page);
        let story = &document["stories"][0];
        let scene = &story["scene"];
        let steps = scene["steps"].as_array().expect("steps").len() as u64;
        let number = |value: &Value| value.as_u64().expect("a number");
        let (broken, parts) =
            (number(&scene["broken"]["step"]), number(&document["parts"][0]["step"]));
        assert!(parts <= broken && broken == steps, "{mutant}: {parts}, {broken} of {steps}");
        for step in scene["steps"].as_array().expect("steps") {
            assert!(document["clauses"][step["clause"].as_str().expect("a clause")].is_string());
            assert!(!step["actor"].as_str().expect("an actor").is_empty(), "{mutant}: {step}");
        }
        for arrow in scene["arrows"].as_array().expect("arrows") {
            assert!(number(&arrow["sent"]) <= number(&arrow["until"]), "{mutant}: {arrow}");
            fates.push(arrow["fate"].as_str().expect("a fate").to_owned());
        }
        // An attempt that should be over is drawn next to its successor.
        let old = scene["lives"].as_array().expect("lives").iter().any(|life| life["old"] == true);
        let zombies = ["claims-alike", "no-fence", "old-writers-admitted"].contains(&mutant);
        assert!(old || !zombies, "{mutant}");
    }
    for fate in ["arrived", "ignored", "lost", "failed", "under-way"] {
        assert!(fates.iter().any(|known| known == fate), "{fate}");
    }
}

#[test]
fn a_hostile_trace_is_told_or_shown_as_text() {
    let trace =
        std::fs::read_to_string(counterexample("commit-twice")).expect("the file was written");
    let mut hostile: Value = serde_json::from_str(&trace).expect("JSON");
    let name = "</script><script>alert(1)</script><img src=x onerror=alert(2)>";
    hostile["scenario"]["name"] = Value::String(name.into());
    let path = file("hostile.json", &hostile.to_string());
    let page = snapline(&["trace", "render", &path]).is(0, &[]).out;
    assert!(!page.contains("<script>alert") && !page.contains("<img"));
    assert_eq!(scene(&page)["title"], name);
    for format in ["--svg", "--mermaid", "--itf"] {
        let text = snapline(&["trace", "render", &path, format]).is(0, &[]).out;
        assert!(format == "--itf" || !text.contains("<script>"), "{format}");
    }
    // A file that is not a trace is reported, with a status of its own.
    let half = file("half.json", &trace[..trace.len() / 2]);
    snapline(&["trace", "render", &half]).is(2, &[]);
    let wrong = file("wrong.json", r#"{"format":"snapline-trace","version":1,"steps":"many"}"#);
    snapline(&["trace", "render", &wrong]).is(2, &[]);
    let huge = file("huge.json", &format!("\"{}\"", "x".repeat(5_000_000)));
    snapline(&["trace", "render", &huge]).is(2, &[]);
    snapline(&["trace", "render", "/nowhere.json"]).is(2, &[]);
}

#[test]
fn the_other_forms_show_the_same_steps() {
    let trace = counterexample("complete-before-stored");
    let text = std::fs::read_to_string(&trace).expect("the file was written");
    let steps = Trace::read(&text).expect("a trace").steps.len();
    let svg = snapline(&["trace", "render", &trace, "--svg"]).is(0, &["<svg ", "</svg>", "L4"]).out;
    assert_eq!(svg.matches("r=\"4\"").count(), steps, "a dot for each step");
    let mermaid =
        snapline(&["trace", "render", &trace, "--mermaid"]).is(0, &["sequenceDiagram"]).out;
    // One for each step, and one for the law.
    assert_eq!(mermaid.matches("Note over").count(), steps + 1);
    let itf = snapline(&["trace", "render", &trace, "--itf"]).is(0, &[]).out;
    let itf: Value = serde_json::from_str(&itf).expect("JSON");
    assert_eq!(itf["#meta"]["format"], "ITF");
    let states = itf["states"].as_array().expect("states");
    assert_eq!(states.len(), steps + 1);
    let vars = itf["vars"].as_array().expect("vars");
    for (index, state) in states.iter().enumerate() {
        assert_eq!(state["#meta"]["index"], index);
        assert!(vars.iter().all(|var| !state[var.as_str().expect("a name")].is_null()));
    }
    let shown = snapline(&["trace", "show", &trace]).is(0, &["coordinator", "is broken"]).out;
    assert!(!shown.contains('\u{1b}'), "no colour where there is no terminal");
    assert!(shown.lines().count() > steps);
}

/// Compares with a file in `golden/`; `SNAPLINE_GOLDEN=write` writes it anew, and the difference
/// is read before it is committed.
#[track_caller]
fn golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("SNAPLINE_GOLDEN").is_ok_and(|is| is == "write") {
        std::fs::write(&path, text).expect("the golden file can be written");
    }
    let known = std::fs::read_to_string(&path).expect("the golden file exists");
    for (number, (line, known)) in text.lines().zip(known.lines()).enumerate() {
        assert_eq!(
            line,
            known,
            "line {} of {name}; SNAPLINE_GOLDEN=write accepts the new text",
            number + 1
        );
    }
    assert_eq!(text.lines().count(), known.lines().count(), "{name} has as many lines");
}

#[test]
fn a_small_trace_in_every_form() {
    let trace = scratch("small.json");
    std::fs::copy(counterexample("commit-at-barrier"), &trace).expect("the file was written");
    let render =
        |more: &[&str]| snapline(&[&["trace", "render", &trace], more].concat()).is(0, &[]).out;
    golden("small.svg", &render(&["--svg"]));
    golden("small.mmd", &render(&["--mermaid"]));
    golden("small.itf.json", &render(&["--itf"]));
    golden("small.txt", &snapline(&["trace", "show", &trace]).is(0, &[]).out);
    // Of the page the document: the rest of it is the files that are written by hand.
    let mut document = document(&render(&["--compare-correct", "--production"]));
    for command in document["commands"].as_array_mut().expect("commands") {
        let shown = command[1].as_str().expect("a command").replace(&trace, "small.json");
        command[1] = Value::String(shown);
    }
    // The words of SPEC.md are its own matter.
    let clauses = document["clauses"].as_object().expect("clauses").keys().cloned();
    document["clauses"] = clauses.collect::<Vec<String>>().into();
    let text = serde_json::to_string_pretty(&document).expect("JSON");
    golden("small.document.json", &(text + "\n"));
}

#[test]
fn two_traces_are_laid_side_by_side_step_by_step() {
    let (one, other) = (counterexample("commit-twice"), counterexample("loss-swallowed"));
    let compared = |other: &str| {
        let page = snapline(&["trace", "render", &one, "--compare", other]).is(0, &[]).out;
        document(&page)["compare"].take()
    };
    let same = compared(&one);
    assert_eq!((&same["first"], &same["says"]), (&Value::Null, &"nothing differs".into()));
    let apart = compared(&other);
    let rows = apart["rows"].as_array().expect("rows");
    // As many rows as the longer has steps; the shorter one's side is empty after its end.
    assert_eq!(rows.first(), Some(&serde_json::json!([1, 1])));
    assert!(rows.iter().any(|row| row[0] == 0 || row[1] == 0), "{apart}");
    let first = apart["first"].as_u64().expect("the stories differ");
    assert!(first > 1 && first <= rows.len() as u64, "{apart}");
    let says = apart["says"].as_str().expect("words");
    assert!(says.contains("on the left: ") && says.contains("on the right: "), "{says}");
}

/// Records the run of a small job.
fn recorded(file: &str, job: &str, records: Vec<i32>) -> String {
    let (flow, trace) = (Dataflow::new(job), MemoryTrace::new());
    flow.source("in", MemorySource::new(records)).sink("out", MemorySink::new());
    flow.build(JobConfig::new().record(trace.clone())).expect("well formed").run().expect("ends");
    let (_, bytes) = trace.files().into_iter().next().expect("one run");
    let path = scratch(&format!("{file}.ndjson"));
    std::fs::write(&path, bytes).expect("the scratch directory is writable");
    path
}

#[test]
fn two_recorded_runs_are_laid_side_by_side_too() {
    let run = recorded("left", "one", vec![1, 2, 3]);
    let compared = |other: &str| {
        let page = snapline(&["trace", "render", &run, "--compare", other]).is(0, &[]).out;
        document(&page)
    };
    let same = compared(&run);
    assert_eq!(same["compare"]["says"], "nothing differs");
    assert_eq!(same["stories"][1]["label"], "left");
    // The same run, but for one line that is missing.
    let text = std::fs::read_to_string(&run).expect("the file was written");
    let lines: Vec<&str> = text.lines().collect();
    let cut = scratch("right.ndjson");
    std::fs::write(&cut, lines[..lines.len() - 1].join("\n") + "\n")
        .expect("the file can be written");
    let apart = compared(&cut);
    let steps = lines.len() - 1;
    assert_eq!(apart["compare"]["first"], steps);
    assert_eq!(apart["compare"]["rows"][steps - 1], serde_json::json!([steps, 0]));
}

#[test]
fn what_a_form_cannot_show_is_said() {
    let run = |name: &str| recorded(name, name, vec![1, 2, 3]);
    let (run, other, model) = (run("one"), run("another"), counterexample("commit-twice"));
    snapline(&["trace", "render", &run, "--itf"]).is(2, &["--itf needs a trace of the model"]);
    snapline(&["trace", "render", &run, "--compare", &model]).is(2, &["name two of the same kind"]);
    snapline(&["trace", "render", &model, "--compare", &run]).is(2, &["name two of the same kind"]);
    snapline(&["trace", "render", &run, "--production"])
        .is(2, &["--production needs a trace of the model"]);
    snapline(&["trace", "render", &run, &model]).is(2, &["draw a trace of the model by itself"]);
    snapline(&["trace", "render", &run, &other])
        .is(2, &["runs of several jobs", "`one`", "`another`"]);
    snapline(&["trace", "shrink", &run])
        .is(2, &["this is a recorded run, and only traces of the model"]);
    // A run has the other forms.
    snapline(&["trace", "render", &run, "--svg"]).is(0, &["</svg>"]);
    snapline(&["trace", "render", &run, "--mermaid"]).is(0, &["sequenceDiagram", "trigger 1"]);
    snapline(&["trace", "show", &run])
        .is(0, &["the manifest of checkpoint 1 is durable", "as the protocol has it"]);
    let page = snapline(&["trace", "render", &run]).is(0, &[]).out;
    let scene = scene(&page);
    assert_eq!(scene["broken"], Value::Null);
    assert_eq!(scene["checkpoints"][0]["complete"], true);
    let of = |kind: &str| {
        let arrows = scene["arrows"].as_array().expect("arrows").iter();
        arrows
            .filter(|arrow| arrow["kind"] == kind)
            .map(|arrow| arrow["fate"].clone())
            .collect::<Vec<_>>()
    };
    for kind in ["barrier", "control", "write", "commit", "end"] {
        let fates = of(kind);
        assert!(
            !fates.is_empty() && fates.iter().all(|fate| fate == "arrived"),
            "{kind}: {fates:?}"
        );
    }
    // A file that is cut off anywhere is drawn as far as it goes, or what is wrong with it is said.
    let bytes = std::fs::read(&run).expect("the file was written");
    for part in 1..40 {
        let path = scratch("cut.ndjson");
        std::fs::write(&path, &bytes[..bytes.len() * part / 40]).expect("writable");
        let run = snapline(&["trace", "render", &path]);
        assert!(matches!(run.status, Some(0 | 2)) && !run.err.contains("panicked"), "{}", run.err);
    }
}

#[test]
fn shrinking_leaves_out_what_the_breach_does_not_need() {
    let short = counterexample("commit-at-barrier");
    let known = Trace::read(&std::fs::read_to_string(&short).expect("written")).expect("a trace");
    // A record passes after the deployment; the breach does not need it.
    let mut long = known.clone();
    long.scenario.records += 1;
    let deployed =
        1 + long.steps.iter().position(|step| *step == Action::Read).expect("the trace has a read");
    long.steps.insert(deployed, Action::Emit { task: 0 });
    long.steps.insert(deployed + 1, Action::Consume { task: 1, input: 0 });
    let path = file("long.json", &long.write());
    let out = scratch("short.json");
    snapline(&["trace", "shrink", &path, "-o", &out]).is(0, &["7 steps, now 5"]);
    let shrunk = Trace::read(&std::fs::read_to_string(&out).expect("written")).expect("a trace");
    assert_eq!((shrunk.steps, shrunk.law), (known.steps, known.law));
    snapline(&["trace", "replay", &out]).is(0, &["as claimed"]);
    // The page tells the short one first.
    let page = snapline(&["trace", "render", &path]).is(0, &[]).out;
    let document = document(&page);
    let stories = document["stories"].as_array().expect("stories");
    let steps = |story: &Value| story["scene"]["steps"].as_array().map(Vec::len);
    assert_eq!((steps(&stories[0]), steps(&stories[1])), (Some(5), Some(7)));
    let mut none = long;
    none.law = None;
    let path = file("lawless.json", &none.write());
    snapline(&["trace", "shrink", &path]).is(2, &["names no law"]);
}
