//! Traces of a real run with one line dropped, swapped with the next, or altered.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::Value;
use snapline::trace::{Difference, ReadError, Replayed, Rule, RunTrace, Wrong, replay};

use crate::files::{Files, bytes, eventful_now, read, renumbered};

/// Pseudo-random numbers, the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// An edit of one line of one file; lines are counted from 0, the first one included.
#[derive(Clone, Debug)]
enum Edit {
    Drop { line: usize },
    Swap { line: usize },
    Alter { line: usize, path: String, to: Value },
}

/// Every number, text and boolean in a value, by its path.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(value, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                leaves(value, &format!("{path}/{place}"), found);
            }
        }
        leaf => found.push((path.to_owned(), leaf.clone())),
    }
}

/// Another value of the same kind.
fn another(value: &Value, random: &mut Random) -> Value {
    match value {
        Value::Number(number) => {
            let number = number.as_u64().unwrap_or(0);
            let step = 1 + random.below(3) as u64;
            if random.below(2) == 0 && number >= step { number - step } else { number + step }
                .into()
        }
        Value::Bool(truth) => (!truth).into(),
        Value::Null => 1.into(),
        Value::String(word) => {
            let words = [
                "Applied",
                "NotApplied",
                "Unknown",
                "Fenced",
                "Stale",
                "Duplicate",
                "Settled",
                "Closed",
                "Busy",
                "periodic",
                "drain",
                "suspend",
                "Committed",
                "AlreadyCommitted",
                "Retry",
                "Lost",
                "Interval",
                "Resend",
                "Drain",
                "Suspend",
                "Whole",
                "end",
                "something else",
            ];
            let others: Vec<&&str> = words.iter().filter(|other| **other != word).collect();
            (*others[random.below(others.len())]).into()
        }
        Value::Array(_) | Value::Object(_) => unreachable!("leaves are none"),
    }
}

impl Edit {
    fn draw(lines: &[String], random: &mut Random) -> Self {
        match random.below(3) {
            0 => Self::Drop { line: random.below(lines.len()) },
            1 => Self::Swap { line: random.below(lines.len() - 1) },
            _ => {
                let line = random.below(lines.len());
                let value = serde_json::from_str(&lines[line]).expect("it was JSON");
                let mut found = Vec::new();
                leaves(&value, "", &mut found);
                let (path, before) = found.swap_remove(random.below(found.len()));
                Self::Alter { line, path, to: another(&before, random) }
            }
        }
    }

    fn apply(&self, lines: &[String]) -> Vec<String> {
        let mut lines = lines.to_vec();
        match self {
            Self::Drop { line } => _ = lines.remove(*line),
            Self::Swap { line } => lines.swap(*line, line + 1),
            Self::Alter { line, path, to } => {
                let mut value: Value = serde_json::from_str(&lines[*line]).expect("it was JSON");
                *value.pointer_mut(path).expect("it was there") = to.clone();
                lines[*line] = value.to_string();
            }
        }
        lines
    }
}

/// The outcome of an edit.
enum Came {
    Unreadable(ReadError),
    Different(Box<Difference>),
    Legal(Replayed),
}

/// Replays all files, one of them edited.
fn look(whole: &[RunTrace], file: usize, lines: &[String]) -> Came {
    let edited = match RunTrace::read(whole[file].name(), &bytes(lines)) {
        Ok(edited) => edited,
        Err(error) => return Came::Unreadable(error),
    };
    let mut traces: Vec<&RunTrace> = whole.iter().collect();
    traces[file] = &edited;
    match replay(&traces) {
        Ok(replayed) => Came::Legal(replayed),
        Err(difference) => Came::Different(difference),
    }
}

/// The writer of a line: a task, in its step or through the I/O pool; the coordinator or its store.
fn writer(line: &str) -> String {
    let line: Value = serde_json::from_str(line).expect("it was JSON");
    let kind = line["what"].as_object().and_then(|what| what.keys().next()).cloned();
    let kind = kind.unwrap_or_default();
    let lane = ["blob", "prepared", "found", "fenced", "commit-call", "commit-returned"];
    match line.get("task") {
        Some(task) => format!("{task} {} {}", line["attempt"], lane.contains(&kind.as_str())),
        None if ["store", "facts", "collect"].contains(&kind.as_str()) => STORE.to_owned(),
        None => "the coordinator".to_owned(),
    }
}

const STORE: &str = "the store";

/// Whether the effects of a line are at most that a timer is stopped, because nothing is awaited
/// any more. If the timer runs on, it fires for nothing.
fn brings_nothing(line: &str) -> bool {
    let line: Value = serde_json::from_str(line).expect("it was JSON");
    let what = line["what"].as_object().and_then(|what| what.values().next());
    let effects = what.and_then(|what| what["effects"].as_array());
    effects.is_some_and(|effects| effects.iter().all(|effect| effect.get("Disarm").is_some()))
}

/// Whether a timer of the line fired for nothing and was armed again: as if it had not fired yet
/// (SPEC 2.7).
fn fired_for_nothing(line: &str) -> bool {
    let line: Value = serde_json::from_str(line).expect("it was JSON");
    let of = &line["what"]["coordinator"];
    let timer = &of["event"]["Fired"];
    !timer.is_null()
        && of["verdict"].get("Ignored").is_some()
        && of["effects"] == serde_json::json!([{ "Arm": timer }])
}

/// The name of the event that a machine handles in a line.
fn event(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).expect("it was JSON");
    let machine = |kind| line["what"].get(kind).map(|of| of["event"].clone());
    match ["coordinator", "aligner", "committer"].into_iter().find_map(machine)? {
        Value::Object(event) => event.keys().next().cloned(),
        event => event.as_str().map(str::to_owned),
    }
}

/// The reason why an undetected edit is legal: computed, not assumed.
fn reason(
    edit: &Edit,
    lines: &[String],
    right: &Replayed,
    came: &Replayed,
) -> Option<&'static str> {
    let same = came.end == right.end;
    let last_of_writer = |line: usize| {
        let me = writer(&lines[line]);
        line > 0 && !lines[line + 1..].iter().any(|other| writer(other) == me)
    };
    let is = |line: usize, what: &str| lines[line].contains(what);
    let of_store = |line: usize| writer(&lines[line]) == STORE;
    let may_be_lost = |line: usize| {
        let event = event(&lines[line]);
        event.is_some_and(|event| ["Report", "Stored", "Control"].contains(&event.as_str()))
    };
    match edit {
        Edit::Drop { line } if last_of_writer(*line) => {
            Some("dropped: the last line of its writer, as if cut off there")
        }
        Edit::Drop { line } if same && is(*line, "{\"Ignored\"") && is(*line, "\"effects\":[]") => {
            Some("dropped: an event that its machine ignored")
        }
        Edit::Drop { line } if same && fired_for_nothing(&lines[*line]) => {
            Some("dropped: a timer that fired for nothing, and was armed again")
        }
        Edit::Drop { line } if may_be_lost(*line) && brings_nothing(&lines[*line]) => Some(
            "dropped: a message or an answer that brought nothing about, and may never be heard",
        ),
        // SPEC 2.10: an external system may have dropped it, or rolled it back on fencing.
        Edit::Drop { line } if is(*line, "\"what\":{\"found\":") => {
            Some("dropped: a transaction that a sink found, and need not have found")
        }
        Edit::Swap { line }
            if same && event(&lines[*line]).and(event(&lines[line + 1])).is_some() =>
        {
            Some("swapped: two events that may come in either order, and bring about the same")
        }
        // The store is one writer and answers in order; for the coordinator the answers are like
        // any other event.
        Edit::Swap { line } if same && of_store(*line) && of_store(line + 1) => {
            Some("swapped: two answers of the store, which may be heard in either order")
        }
        Edit::Swap { line } if same && writer(&lines[*line]) != writer(&lines[line + 1]) => {
            Some("swapped: lines of two writers, neither the cause of the other")
        }
        Edit::Alter { line: 0, path, .. } if path == "/process" => {
            Some("altered: the process's number, for people")
        }
        Edit::Alter { line: 0, path, .. }
            if ["/tolerable_failures", "/max_concurrent"].contains(&path.as_str()) =>
        {
            Some("altered: a limit that the run never met")
        }
        _ => None,
    }
}

/// The number of edits for each outcome.
type Counts = BTreeMap<&'static str, usize>;

/// A thousand random edits of a trace, with the clock left as it is or set right. Counts how each
/// is detected, and why the others are legal.
fn edits(files: &Files, seed: u64, count: usize, set_right: bool) -> Counts {
    let whole = read(files);
    let right = replay(&whole).unwrap_or_else(|difference| panic!("{difference}"));
    let total: usize = files.iter().map(|(_, lines)| lines.len()).sum();
    let mut random = Random(seed);
    let (mut counts, mut missed) = (Counts::new(), Vec::new());
    while counts.values().sum::<usize>() < count {
        let (mut at, mut file) = (random.below(total), 0);
        while at >= files[file].1.len() {
            at -= files[file].1.len();
            file += 1;
        }
        let lines = &files[file].1;
        let edit = Edit::draw(lines, &mut random);
        let edited = edit.apply(lines);
        let edited = if set_right { renumbered(&edited) } else { edited };
        if set_right && edited == renumbered(lines) {
            // The edit altered the clock, which was set right.
            continue;
        }
        let why = match look(&whole, file, &edited) {
            Came::Unreadable(ReadError { wrong: Wrong::Clock { .. }, .. }) => "caught: the clock",
            Came::Unreadable(_) => "caught: no line of a trace",
            Came::Different(difference) => match difference.rule {
                Rule::Machine => "caught: a fresh machine differs",
                _ => "caught: a rule beside the machines",
            },
            Came::Legal(came) => reason(&edit, lines, &right, &came).unwrap_or_else(|| {
                let (Edit::Drop { line } | Edit::Swap { line } | Edit::Alter { line, .. }) = edit;
                let same = came.end == right.end;
                missed.push(format!(
                    "{edit:?} of {}, end the same: {same}: {}",
                    files[file].0, lines[line]
                ));
                "missed"
            }),
        };
        *counts.entry(why).or_default() += 1;
    }
    assert!(missed.is_empty(), "neither caught nor legal:\n{}", missed.join("\n"));
    counts
}

fn tell(title: &str, counts: &Counts) {
    // Past the harness, which hides the output of a test that passes.
    writeln!(std::io::stderr(), "{title}: {counts:#?}").expect("it can be written");
}

fn caught(counts: &Counts) -> usize {
    counts.iter().filter(|(why, _)| why.starts_with("caught")).map(|(_, count)| count).sum()
}

#[test]
fn of_a_thousand_edits_what_is_not_caught_is_legal() {
    let files = crate::files::eventful();
    let raw = edits(&files, 1, 1_000, false);
    tell("1,000 edits", &raw);
    let set_right = edits(&files, 2, 1_000, true);
    tell("1,000 edits with the clock set right", &set_right);
    // The recording does not change, nor do the edits: a changed figure means a changed rule. SPEC
    // 11.9 lists the fields that are not compared.
    assert_eq!((caught(&raw), caught(&set_right)), (997, 812));
}

#[test]
fn edits_of_a_run_of_today_are_caught_or_legal_too() {
    let files = eventful_now();
    let raw = edits(&files, 3, 100, false);
    let set_right = edits(&files, 4, 200, true);
    assert!(caught(&raw) >= 95, "{raw:?}");
    assert!(caught(&set_right) >= 120, "{set_right:?}");
}
