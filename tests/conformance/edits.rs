//! Traces of a real run with one line dropped, swapped with the next, or altered.

use std::collections::BTreeMap;

use serde_json::Value;
use snapline::trace::{Difference, ReadError, Replayed, RunTrace, replay};

use crate::jobs::eventful;

/// Numbers that look random and are the same in every run (splitmix64).
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

/// What is done to one line of one file; lines are counted from 0, the first one included.
#[derive(Clone, Debug)]
enum Edit {
    Drop { line: usize },
    Swap { line: usize },
    Alter { line: usize, path: String, to: Value },
}

/// Every number, text and truth in a value, by its path.
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

/// The clock set right, so that only what the lines say is left to give the edit away.
fn renumbered(lines: &[String]) -> Vec<String> {
    let renumber = |(place, line): (usize, &String)| {
        let Ok(mut value) = serde_json::from_str::<Value>(line) else { return line.clone() };
        if value.get("at").is_some() && place > 0 {
            value["at"] = place.into();
        }
        value.to_string()
    };
    lines.iter().enumerate().map(renumber).collect()
}

/// The files of a trace, as lines.
type Files = Vec<(String, Vec<String>)>;

enum Came {
    Unreadable(ReadError),
    Different(Box<Difference>),
    Legal(Replayed),
}

fn look(whole: &[RunTrace], file: usize, name: &str, lines: &[String]) -> Came {
    let mut bytes = lines.join("\n").into_bytes();
    bytes.push(b'\n');
    let edited = match RunTrace::read(name, &bytes) {
        Ok(edited) => edited,
        Err(error) => return Came::Unreadable(error),
    };
    let mut traces = whole.to_vec();
    traces[file] = edited;
    match replay(&traces) {
        Ok(replayed) => Came::Legal(replayed),
        Err(difference) => Came::Different(difference),
    }
}

#[test]
fn explore() {
    let files: Files = eventful()
        .files()
        .into_iter()
        .map(|(name, bytes)| {
            let text = String::from_utf8(bytes).expect("text");
            (name, text.lines().map(str::to_owned).collect())
        })
        .collect();
    let whole: Vec<RunTrace> = files
        .iter()
        .map(|(n, l)| RunTrace::read(n, (l.join("\n") + "\n").as_bytes()).unwrap())
        .collect();
    let start = std::time::Instant::now();
    let right = replay(&whole).unwrap();
    println!("replay {:?} {right}", start.elapsed());
    let mut random = Random(1);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..1000 {
        let total: usize = files.iter().map(|(_, lines)| lines.len()).sum();
        let mut at = random.below(total);
        let mut file = 0;
        while at >= files[file].1.len() {
            at -= files[file].1.len();
            file += 1;
        }
        let (name, lines) = &files[file];
        let edit = Edit::draw(lines, &mut random);
        let came = look(&whole, file, name, &renumbered(&edit.apply(lines)));
        let kind = match edit {
            Edit::Drop { .. } => "drop",
            Edit::Swap { .. } => "swap",
            _ => "alter",
        };
        let key = match came {
            Came::Unreadable(_) => format!("{kind} unreadable"),
            Came::Different(d) => format!("{kind} {}", d.rule.name()),
            Came::Legal(r) => {
                let same = r.end == right.end;
                let l = match &edit {
                    Edit::Drop { line } | Edit::Swap { line } | Edit::Alter { line, .. } => *line,
                };
                let short = |s: &str| s.chars().take(230).collect::<String>();
                if !(kind == "swap" && same) {
                    println!(
                        "LEGAL same={same} {kind} line {l} of {} {}",
                        lines.len(),
                        match &edit {
                            Edit::Alter { path, to, .. } => format!("{path} -> {to}"),
                            _ => String::new(),
                        }
                    );
                    println!("     {}", short(&lines[l]));
                    if kind == "swap" {
                        println!("     {}", short(&lines[l + 1]));
                    }
                }
                format!("{kind} LEGAL same={same}")
            }
        };
        *counts.entry(key).or_default() += 1;
    }
    println!("{counts:#?} {:?}", start.elapsed());
}
