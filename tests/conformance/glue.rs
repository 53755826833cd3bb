//! Faults of the runtime's glue, planted in a recorded run. Each machine's own events remain
//! possible, or are not touched at all, and the rules beside the machines detect the fault (SPEC
//! 11.9).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use snapline::trace::{Difference, Replayed, Rule, RunTrace, replay};

use crate::files::{Files, bytes, eventful, renumbered};

/// A trace that is being edited.
struct Edited {
    files: Vec<(String, Vec<Value>)>,
}

/// A line, by the number of its file and its place.
type At = (usize, usize);

impl Edited {
    fn new(files: &Files) -> Self {
        let parse = |line: &String| serde_json::from_str(line).expect("it is JSON");
        let parsed = |(name, lines): &(String, Vec<String>)| {
            (name.clone(), lines.iter().map(parse).collect())
        };
        Self { files: files.iter().map(parsed).collect() }
    }

    /// The first line at or after another for which this holds.
    fn find(&self, from: At, what: &str, holds: impl Fn(&Value) -> bool) -> At {
        for (file, (_, lines)) in self.files.iter().enumerate().skip(from.0) {
            let first = if file == from.0 { from.1 } else { 0 };
            for (place, line) in lines.iter().enumerate().skip(first) {
                if holds(line) {
                    return (file, place);
                }
            }
        }
        panic!("there is no line: {what}");
    }

    /// The first line of a kind.
    fn kind(&self, from: At, kind: &str) -> At {
        self.find(from, kind, |line| line["what"].get(kind).is_some())
    }

    fn line(&mut self, at: At) -> &mut Value {
        &mut self.files[at.0].1[at.1]
    }

    fn remove(&mut self, at: At) -> Value {
        self.files[at.0].1.remove(at.1)
    }

    fn insert(&mut self, at: At, line: Value) {
        self.files[at.0].1.insert(at.1, line);
    }

    /// Moves a line to the place of another: after it if it came before, before it if it came
    /// after.
    fn move_to(&mut self, from: At, to: At) {
        assert_eq!(from.0, to.0, "within a file");
        let line = self.remove(from);
        self.insert(to, line);
    }

    fn replayed(&self) -> Box<Difference> {
        self.replay().expect_err("it is not as the protocol has it")
    }

    fn replay(&self) -> Result<Replayed, Box<Difference>> {
        let read = |(name, lines): &(String, Vec<Value>)| {
            let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
            RunTrace::read(name, &bytes(&renumbered(&lines)))
        };
        let traces: Result<Vec<RunTrace>, _> = self.files.iter().map(read).collect();
        let traces = traces.unwrap_or_else(|error| panic!("it can be read: {error}"));
        replay(&traces)
    }
}

const START: At = (0, 1);

/// An event of a machine of this kind.
fn event<'a>(line: &'a Value, machine: &str, event: &str) -> Option<&'a Value> {
    line["what"].get(machine)?["event"].get(event)
}

fn of_task(line: &Value, task: &Value) -> bool {
    line["task"] == *task
}

fn next(at: At) -> At {
    (at.0, at.1 + 1)
}

/// A fault, the rule that detects it, and the words of the rule.
struct Case {
    fault: &'static str,
    rule: Rule,
    says: &'static str,
    edit: fn(&mut Edited),
}

const CASES: &[Case] = &[
    Case {
        fault: "a snapshot is acknowledged before its bytes are durable",
        rule: Rule::Durable,
        says: "no line says that those of checkpoint",
        edit: |trace| {
            let blob = trace.kind(START, "blob");
            let task = trace.line(blob)["task"].clone();
            let heard = trace.find(blob, "its aligner hears of it", |line| {
                of_task(line, &task) && event(line, "aligner", "Durable").is_some()
            });
            trace.move_to(blob, heard);
        },
    },
    Case {
        fault: "a snapshot that could not be written is acknowledged",
        rule: Rule::Durable,
        says: "came back with another result",
        edit: |trace| {
            let blob = trace.kind(START, "blob");
            trace.line(blob)["what"]["blob"]["durable"] = false.into();
            trace.line(blob)["what"]["blob"]["needs"] = json!([]);
        },
    },
    Case {
        fault: "a sink's snapshot is acknowledged before its transaction is prepared",
        rule: Rule::CarriedOut,
        says: "was to be prepared first",
        edit: |trace| {
            let prepared = trace.kind(START, "prepared");
            let task = trace.line(prepared)["task"].clone();
            let heard = trace.find(prepared, "its aligner hears of it", |line| {
                of_task(line, &task) && event(line, "aligner", "Durable").is_some()
            });
            trace.move_to(prepared, heard);
        },
    },
    Case {
        fault: "a transaction is committed before the checkpoint is complete",
        rule: Rule::Permit,
        says: "gave no permit for this call",
        edit: |trace| {
            let call = trace.kind(START, "commit-call");
            let manifest = trace.find(START, "the manifest is durable", |line| {
                line["what"]["store"]["op"].get("Manifest").is_some()
            });
            trace.move_to(call, manifest);
        },
    },
    Case {
        fault: "one permit, two calls",
        rule: Rule::Permit,
        says: "a permit allows one call",
        edit: |trace| {
            let call = trace.kind(START, "commit-call");
            let again = trace.line(call).clone();
            let returned = trace.find(call, "it returns", |line| {
                of_task(line, &again["task"]) && line["what"].get("commit-returned").is_some()
            });
            trace.insert(next(returned), again);
        },
    },
    Case {
        fault: "the sink's coordinator believes a checkpoint complete whose manifest was not answered",
        rule: Rule::Asked,
        says: "no line holds this answer",
        edit: |trace| {
            let manifest = trace.find(START, "the manifest is durable", |line| {
                line["what"]["store"]["op"].get("Manifest").is_some()
            });
            trace.remove(manifest);
        },
    },
    Case {
        fault: "a snapshot shares bytes that are not retained",
        rule: Rule::Complete,
        says: "a snapshot shares with its base alone",
        edit: |trace| {
            let blob = trace.kind(START, "blob");
            let blob = &mut trace.line(blob)["what"]["blob"];
            let mut other = blob["id"].clone();
            other["subtask"] = 77.into();
            blob["needs"] = json!([blob["id"], other]);
        },
    },
    Case {
        fault: "a barrier overtakes a record",
        rule: Rule::Fifo,
        says: " records",
        edit: |trace| {
            let barrier =
                trace.find(START, "a barrier", |line| event(line, "aligner", "Barrier").is_some());
            let received = &mut trace.line(barrier)["what"]["aligner"]["received"];
            *received = (received.as_u64().expect("a number") - 1).into();
        },
    },
    Case {
        fault: "a barrier is put on one output and not on the other",
        rule: Rule::Fifo,
        says: "output channels",
        edit: |trace| {
            let sent = trace.find(START, "several outputs", |line| {
                line["what"]["sent"]["counts"].as_array().is_some_and(|counts| counts.len() > 1)
            });
            let counts = trace.line(sent)["what"]["sent"]["counts"].as_array_mut();
            counts.expect("as above").pop();
        },
    },
    Case {
        fault: "a barrier is not passed on",
        rule: Rule::CarriedOut,
        says: "was to be put on every output first",
        edit: |trace| {
            let sent = trace.kind(START, "sent");
            trace.remove(sent);
        },
    },
    Case {
        fault: "a sink's transaction is not closed at the barrier",
        rule: Rule::CarriedOut,
        says: "its committer was to close its transaction",
        edit: |trace| {
            let barrier =
                trace.find(START, "a sink's", |line| event(line, "committer", "Barrier").is_some());
            trace.remove(barrier);
        },
    },
    Case {
        fault: "a held input is read",
        rule: Rule::Possible,
        says: "is blocked, and must not be read",
        edit: |trace| {
            let barrier = trace.find(START, "the first of two inputs", |line| {
                event(line, "aligner", "Barrier").is_some()
                    && line["what"]["aligner"]["effects"] == json!([])
            });
            let again = trace.line(barrier).clone();
            trace.insert(next(barrier), again);
        },
    },
    Case {
        fault: "a task acknowledges for another",
        rule: Rule::Sent,
        says: "no task has sent this",
        edit: |trace| {
            let report =
                trace.find(START, "an ack", |line| event(line, "coordinator", "Report").is_some());
            let event = &mut trace.line(report)["what"]["coordinator"]["event"];
            event["Report"]["report"]["Ack"]["checkpoint"] = 9.into();
        },
    },
    Case {
        fault: "a machine's effect is made up",
        rule: Rule::Machine,
        says: "effect",
        edit: |trace| {
            let report =
                trace.find(START, "an ack", |line| event(line, "coordinator", "Report").is_some());
            trace.line(report)["what"]["coordinator"]["effects"] = json!([{"Disarm": "Interval"}]);
        },
    },
    Case {
        fault: "a timeout fires that was disarmed",
        rule: Rule::Timers,
        says: "was not armed",
        edit: |trace| {
            let complete = trace.find(START, "a checkpoint completes", |line| {
                event(line, "coordinator", "Stored")
                    .is_some_and(|of| of["op"].get("Manifest").is_some())
            });
            let mut late = trace.line(complete).clone();
            late["what"]["coordinator"] = json!({
                "event": {"Fired": {"Timeout": 1}}, "verdict": {"Ignored": "Settled"}, "effects": []
            });
            trace.insert(next(complete), late);
        },
    },
    Case {
        fault: "a task lives on after the end of its attempt",
        rule: Rule::Attempts,
        says: "has ended",
        edit: |trace| {
            let ended = trace.kind(START, "ended");
            let attempt = trace.line(ended)["attempt"].clone();
            let begun = trace.find(START, "one of its tasks", |line| {
                line["attempt"] == attempt && line["what"].get("begun").is_some()
            });
            trace.move_to(ended, begun);
        },
    },
    Case {
        fault: "a new attempt begins while the old one runs",
        rule: Rule::CarriedOut,
        says: "the tasks were to be ended first",
        edit: |trace| {
            let ended = trace.kind(START, "ended");
            trace.remove(ended);
        },
    },
    Case {
        fault: "a restored sink goes on without the transactions that its checkpoint holds",
        rule: Rule::Restored,
        says: "holds the transactions",
        edit: |trace| {
            let begun = trace.find(START, "a restored sink", |line| {
                line["what"]["begun"]["pending"].as_array().is_some_and(|held| !held.is_empty())
            });
            let begun = &mut trace.line(begun)["what"]["begun"];
            begun["pending"] = json!([]);
        },
    },
    Case {
        fault: "what a completed checkpoint holds is rolled back",
        rule: Rule::Orphans,
        says: "it is not an orphan",
        edit: |trace| {
            let begun = trace.find(START, "a restored sink", |line| {
                line["what"]["begun"]["pending"].as_array().is_some_and(|held| !held.is_empty())
            });
            let mut found = trace.line(begun).clone();
            let txn = found["what"]["begun"]["pending"][0].clone();
            found["what"] = json!({"found": {"txn": txn, "orphan": true}});
            trace.insert(next(begun), found);
        },
    },
    Case {
        fault: "the store forgets a complete checkpoint",
        rule: Rule::Facts,
        says: "was complete, but is not found",
        edit: |trace| {
            let facts = trace.find(START, "facts with a checkpoint", |line| {
                line["what"]["facts"]["facts"]["manifests"]
                    .as_array()
                    .is_some_and(|found| !found.is_empty())
            });
            trace.line(facts)["what"]["facts"]["facts"]["manifests"] = json!([]);
        },
    },
    Case {
        fault: "what is needed is deleted",
        rule: Rule::Retention,
        says: "what these roots do not reach is",
        edit: |trace| {
            let collect = trace.find(START, "something to keep", |line| {
                line["what"]["collect"]["inventory"]["blobs"]
                    .as_array()
                    .is_some_and(|blobs| !blobs.is_empty())
            });
            let collect = &mut trace.line(collect)["what"]["collect"];
            let blobs = collect["inventory"]["blobs"].clone();
            collect["plan"]["blobs"] = blobs;
        },
    },
    Case {
        fault: "ids are given out again",
        rule: Rule::Names,
        says: "were already reserved",
        edit: |trace| {
            let claim = trace.find((1, 1), "the second claim", |line| {
                line["what"]["store"].get("first").is_some()
            });
            trace.line(claim)["what"]["store"]["first"] = 1.into();
        },
    },
    Case {
        fault: "an external system commits a transaction twice",
        rule: Rule::CommittedOnce,
        says: "it was already committed",
        edit: |trace| {
            let again = trace.find(START, "a repeated commit", |line| {
                line["what"]["commit-returned"]["outcome"] == "AlreadyCommitted"
            });
            trace.line(again)["what"]["commit-returned"]["outcome"] = "Committed".into();
        },
    },
];

#[test]
fn each_fault_is_found_by_its_rule_and_each_rule_finds_one() {
    let files = eventful();
    let mut rules = BTreeSet::new();
    for case in CASES {
        let mut trace = Edited::new(&files);
        (case.edit)(&mut trace);
        let found = trace.replayed();
        assert_eq!(found.rule, case.rule, "{}: {found}", case.fault);
        assert!(found.expected.contains(case.says), "{}: {found}", case.fault);
        rules.insert(found.rule);
    }
    let missing: Vec<_> = Rule::ALL.iter().filter(|rule| !rules.contains(rule)).collect();
    assert!(missing.is_empty(), "no fault is found by {missing:?}");
}

#[test]
fn a_difference_tells_who_where_what_and_what_came_before() {
    let mut trace = Edited::new(&eventful());
    (CASES[0].edit)(&mut trace);
    let found = trace.replayed();
    let told = found.to_string();
    let file = &trace.files[0].0;
    let told_where = format!("{file}, line {}: {}", found.line, found.who);
    assert!(told.starts_with(&told_where), "{told}");
    assert!(found.who.contains(" of attempt 1.1"), "{told}");
    for part in ["(durable, SPEC 5.4, 6.2)", "the protocol: ", "the trace:    ", "before that"] {
        assert!(told.contains(part), "{told}");
    }
    assert!((1..=6).contains(&found.before.len()), "{told}");
    assert!(found.before.iter().all(|(line, _)| *line < found.line), "{told}");
}

/// A deposed coordinator that lives on may list what its successor has written. A reader with the
/// successor's trace can tell; a reader without it cannot.
#[test]
fn a_deposed_coordinator_may_come_upon_what_its_successor_writes() {
    let mut trace = Edited::new(&eventful());
    let of_successor = trace.find((1, 1), "a blob of the second run", |line| {
        line["what"]["blob"]["durable"] == json!(true)
    });
    let blob = trace.line(of_successor)["what"]["blob"]["id"].clone();
    let listed = trace.kind(START, "collect");
    assert_eq!((listed.0, of_successor.0), (0, 1), "of two runs");
    let inventory = &mut trace.line(listed)["what"]["collect"]["inventory"]["blobs"];
    inventory.as_array_mut().expect("a list").push(blob.clone());
    let replayed = trace.replay();
    assert!(replayed.is_ok(), "{}", replayed.expect_err("it is not"));
    // The same without the successor's trace, and with a blob that the successor did not write.
    let mut alone = Edited { files: trace.files[..1].to_vec() };
    assert_eq!(alone.replayed().rule, Rule::Retention);
    alone.files = trace.files.clone();
    let inventory = &mut alone.line(listed)["what"]["collect"]["inventory"]["blobs"];
    let last = inventory.as_array_mut().expect("a list").last_mut().expect("one was pushed");
    last["subtask"] = json!(255);
    assert_eq!(alone.replayed().rule, Rule::Retention);
}
