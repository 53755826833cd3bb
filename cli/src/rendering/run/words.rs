//! The lines of a recorded run in words. Effects and events are read as they are spelled: what is
//! not known is shown as it stands.

use serde_json::Value;
use snapline::trace::format::{Marker, What};
use snapline_protocol::Verdict;
use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::coordinator::{StoreOp, StoreResult};
use snapline_protocol::ids::{SubtaskId, TxnId};
use snapline_protocol::topology::Topology;

use crate::table::counted;

/// The name of a variant, and what it holds.
pub(super) fn variant(value: &Value) -> (&str, &Value) {
    match value {
        Value::String(name) => (name, &Value::Null),
        Value::Object(fields) => match fields.iter().next() {
            Some((name, inner)) => (name, inner),
            None => ("", &Value::Null),
        },
        _ => ("", &Value::Null),
    }
}

/// The id that a field of this name has, at whatever depth an enum puts it.
pub(super) fn checkpoint(value: &Value) -> Option<u64> {
    let inner = variant(value).1;
    value
        .get("checkpoint")
        .and_then(Value::as_u64)
        .or_else(|| inner.as_u64())
        .or_else(|| inner.get("checkpoint").and_then(Value::as_u64))
        .or_else(|| inner.get("barrier")?.get("checkpoint")?.as_u64())
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn attempt(value: &Value) -> String {
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    match (number("term"), number("number")) {
        (Some(term), Some(number)) => format!("{term}.{number}"),
        _ => shown(value),
    }
}

/// A control message as a thing: `trigger 3`, `ack 3`.
pub(super) fn message(value: &Value) -> String {
    let body = value.get("order").or_else(|| value.get("report")).unwrap_or(value);
    let (name, inner) = variant(body);
    let id = checkpoint(body).map_or_else(String::new, |id| format!(" {id}"));
    match name {
        "Resolved" if inner.get("lost") == Some(&Value::Bool(true)) => {
            format!("word that{id} is lost")
        }
        "Resolved" => format!("word that{id} is committed"),
        "" => shown(value),
        name => format!("{}{id}", name.to_lowercase()),
    }
}

/// Whether an event is the message that a checkpoint is complete.
pub(super) fn is_complete(event: &Value) -> bool {
    matches!(variant(event), ("Control", message) if message.get("order").is_some_and(|order| variant(order).0 == "Complete"))
}

/// What is asked of storage, as a thing.
pub(super) fn write(op: &Value) -> String {
    let (name, inner) = variant(op);
    let number = |name: &str| inner.get(name).map_or("?".into(), Value::to_string);
    match name {
        "Claim" => format!("the fence of term {}", number("term")),
        "Reserve" => format!("the reservation of ids below {}", number("until")),
        "Manifest" => format!("the manifest of checkpoint {}", number("checkpoint")),
        "Collect" => "the deletion of what is no longer needed".into(),
        _ => shown(op),
    }
}

pub(super) fn transaction(txn: &TxnId) -> String {
    format!("transaction {} of attempt {}", txn.checkpoint, txn.attempt)
}

fn decision(value: &Value) -> String {
    match variant(value) {
        ("Ok", inner) => match variant(inner) {
            ("Fresh", _) => "start from nothing".into(),
            ("Restore", restore) => match restore.get("permit").and_then(checkpoint) {
                Some(id) => format!("restore checkpoint {id}"),
                None => shown(restore),
            },
            _ => shown(inner),
        },
        ("Err", error) => format!("fail: {}", shown(error)),
        ("Restore", restore) => match restore.get("permit").and_then(checkpoint) {
            Some(id) => format!("restore checkpoint {id}"),
            None => shown(restore),
        },
        ("Fresh", _) => "start from nothing".into(),
        _ => shown(value),
    }
}

fn ignored(verdict: Verdict) -> String {
    use snapline_protocol::Why;
    match verdict {
        Verdict::Applied => String::new(),
        Verdict::Ignored(Why::Stale) => {
            ", of an attempt or term that is not the running one: ignored as stale".into()
        }
        Verdict::Ignored(Why::Duplicate) => ", repeated: ignored".into(),
        Verdict::Ignored(Why::Settled) => ", about a checkpoint that is settled: ignored".into(),
        Verdict::Ignored(Why::Closed) => ", in a phase that does not accept it: ignored".into(),
        Verdict::Ignored(Why::Busy) => ": not now".into(),
    }
}

/// What a line tells, in words.
pub(super) struct Words<'a> {
    pub(super) topology: &'a Topology,
}

impl Words<'_> {
    pub(super) fn name(&self, subtask: SubtaskId) -> String {
        match subtask.index() < self.topology.subtasks().len() {
            true => self.topology.name(subtask),
            false => format!("subtask {}", subtask.index()),
        }
    }

    /// Who feeds an input.
    pub(super) fn feeder(&self, subtask: SubtaskId, input: u64) -> Option<SubtaskId> {
        let place = self.topology.subtasks().get(subtask.index())?;
        let channel = *place.inputs.get(usize::try_from(input).ok()?)?;
        Some(self.topology.channels()[channel].from)
    }

    /// The event; after semicolons, its effects.
    pub(super) fn tell(&self, what: &What, subtask: Option<SubtaskId>, attempt: &str) -> String {
        let name = || subtask.map_or("the coordinator".into(), |subtask| self.name(subtask));
        match what {
            What::Started { effects } => self.with("starts".into(), effects),
            What::Coordinator { event, verdict, effects } => {
                let text = self.of_coordinator(event) + &ignored(*verdict);
                self.with(text, effects)
            }
            What::Aligner { event, verdict, effects, received } => {
                let after = received.map_or(String::new(), |records| {
                    format!(", after {}", counted(records, "record"))
                });
                // A sink's committer hears next what is no matter of its aligner.
                let ignored = if is_complete(event) { String::new() } else { ignored(*verdict) };
                let text = self.of_aligner(event, subtask) + &after + &ignored;
                self.with(text, effects)
            }
            What::Committer { event, verdict, effects, records } => {
                let holds = records
                    .map_or(String::new(), |records| format!(" at {}", counted(records, "record")));
                let text = of_committer(event) + &holds + &ignored(*verdict);
                self.with(text, effects)
            }
            What::Host { verdict } => match verdict.is_applied() {
                true => format!("hosts attempt {attempt}"),
                false => format!("does not host attempt {attempt}{}", ignored(*verdict)),
            },
            What::Ended {} => format!("has ended all tasks of attempt {attempt}"),
            What::Begun { at_rest, pending, effects } => {
                let mut text = format!("begins in attempt {attempt}");
                if *at_rest {
                    text.push_str(", at rest: only the commits of the job are left");
                }
                if let Some(pending) = pending.as_ref().filter(|pending| !pending.is_empty()) {
                    let names: Vec<String> = pending.iter().map(transaction).collect();
                    text += &format!(", with {} to be committed", names.join(", "));
                }
                self.with(text, effects)
            }
            What::Sent { marker: Marker::Barrier(id), .. } => {
                format!("emits barrier {id} on every output")
            }
            What::Sent { marker: Marker::End, .. } => {
                "emits the end of its output on every output".into()
            }
            What::Blob { id, durable: true, .. } => {
                format!("{}'s snapshot for checkpoint {} is durable", name(), id.checkpoint)
            }
            What::Blob { id, durable: false, .. } => {
                format!("could not write {}'s snapshot for checkpoint {}", name(), id.checkpoint)
            }
            What::Prepared { txn } => format!("has prepared {} of {}", transaction(txn), name()),
            What::Found { txn, orphan: true } => {
                format!(
                    "finds {} prepared, which no checkpoint holds: it is rolled back",
                    transaction(txn)
                )
            }
            What::Found { txn, orphan: false } => {
                format!("finds {} prepared, which is still to be committed", transaction(txn))
            }
            What::Fenced {} => "has fenced the writers of earlier attempts".into(),
            What::CommitCall { txn } => format!("asks to commit {}", transaction(txn)),
            What::CommitReturned { txn, outcome } => {
                let txn = transaction(txn);
                match outcome {
                    CommitOutcome::Committed => format!("has committed {txn} of {}", name()),
                    CommitOutcome::AlreadyCommitted => {
                        format!("had committed {txn} of {} before", name())
                    }
                    CommitOutcome::Retry => {
                        format!("did not commit {txn} of {}: the call is retried", name())
                    }
                    CommitOutcome::Unknown => {
                        format!("does not say whether it committed {txn} of {}", name())
                    }
                    CommitOutcome::Lost => {
                        format!("has dropped {txn} of {}: its data is gone", name())
                    }
                }
            }
            What::Store { op, result, .. } => stored(op, *result),
            What::Facts { facts, decision: decided } => {
                let there: Vec<String> = facts
                    .manifests
                    .iter()
                    .map(|manifest| manifest.checkpoint.to_string())
                    .collect();
                let there = if there.is_empty() {
                    "no checkpoint".into()
                } else {
                    format!("checkpoint {}", there.join(", "))
                };
                format!("reports that it holds {there}; the decision: {}", decision(decided))
            }
            What::Collect { plan, .. } => {
                let gone: Vec<String> = plan.manifests.iter().map(ToString::to_string).collect();
                match (gone.is_empty(), plan.blobs.len()) {
                    (true, 0) => "has nothing to delete".into(),
                    (true, blobs) => {
                        format!("will delete {}", counted(blobs as u64, "blob"))
                    }
                    (false, blobs) => format!(
                        "will delete checkpoint {} and {}",
                        gone.join(", "),
                        counted(blobs as u64, "blob")
                    ),
                }
            }
        }
    }

    fn with(&self, mut text: String, effects: &[Value]) -> String {
        // The same message to many is said once.
        let mut told: Vec<(String, Vec<String>)> = Vec::new();
        for effect in effects {
            let (said, to) = self.effect(effect);
            if said.is_empty() {
                continue;
            }
            match told.iter_mut().find(|(other, _)| *other == said) {
                Some((_, all)) => all.extend(to),
                None => told.push((said, to.into_iter().collect())),
            }
        }
        for (said, to) in told {
            text.push_str("; ");
            text.push_str(&said);
            match to.len() {
                0 => {}
                1..=3 => text += &format!(" to {}", to.join(", ")),
                many => text += &format!(" to {many} tasks"),
            }
        }
        text
    }

    fn effect(&self, effect: &Value) -> (String, Option<String>) {
        let (name, inner) = variant(effect);
        let id = || checkpoint(effect).map_or("?".into(), |id| id.to_string());
        let said = match name {
            "Store" => format!("asks storage for {}", write(inner)),
            "Recover" => "asks for the contents of storage".into(),
            "Deploy" => {
                let decided = inner.get("decision").map_or(String::new(), decision);
                let of = inner.get("attempt").map_or("?".into(), attempt);
                format!("deploys attempt {of}: {decided}")
            }
            "Conclude" => "ends all tasks".into(),
            "Send" => match inner.as_array().map(Vec::as_slice) {
                Some([to, order]) => {
                    let to = to.as_u64().and_then(|to| u16::try_from(to).ok());
                    let to = to.map_or("?".into(), |to| self.name(SubtaskId::new(to)));
                    return (format!("sends {}", message(order)), Some(to));
                }
                _ => format!("sends {}", message(inner)),
            },
            // Timers are in the state.
            "Arm" | "Disarm" => String::new(),
            "EndOutput" => "passes the end of its output on".into(),
            "Snapshot" => format!("takes its snapshot for checkpoint {}", id()),
            "Forward" => format!("passes barrier {} on", id()),
            "PreCommit" => format!("prepares transaction {}", id()),
            "RollBackOrphans" => "rolls back what no checkpoint holds".into(),
            "Commit" => {
                let txn = inner.as_array().and_then(|both| both.first());
                let id =
                    txn.and_then(|txn| txn.get("checkpoint")).map_or("?".into(), Value::to_string);
                format!("may commit transaction {id}")
            }
            _ => shown(effect),
        };
        (said, None)
    }

    fn of_coordinator(&self, event: &Value) -> String {
        let (name, inner) = variant(event);
        match name {
            "Fired" => match variant(inner) {
                ("Interval", _) => "finds the interval over: the next checkpoint is due".into(),
                ("Timeout", id) => format!("aborts checkpoint {id}: it timed out"),
                ("Resend", _) => "reminds the sinks that have not reported".into(),
                _ => shown(event),
            },
            "Stored" => {
                let op = inner.get("op").map_or(String::new(), write);
                let result = inner.get("result").and_then(Value::as_str).unwrap_or("?");
                match result {
                    "Applied" => format!("learns that {op} is durable"),
                    "NotApplied" => format!("learns that {op} was not written"),
                    "Unknown" => format!("learns that the outcome of {op} is unknown"),
                    _ => format!("learns that {op} was refused: a later term is in charge"),
                }
            }
            "Claimed" => "has the fence, and its ids".into(),
            "Recovered" => format!("receives the decision: {}", decision(inner)),
            "Report" => {
                let subtask = inner.get("report").map(|report| variant(report).1);
                let subtask = subtask.and_then(|body| body.get("subtask")).and_then(Value::as_u64);
                let from = subtask.and_then(|it| u16::try_from(it).ok());
                let from = from
                    .map_or(String::new(), |it| format!(" of {}", self.name(SubtaskId::new(it))));
                format!("receives the {}{from}", message(inner))
            }
            "Concluded" => "learns that all tasks have ended".into(),
            "TaskFailed" => "learns that a task failed".into(),
            "Stop" => format!("is asked to stop: {}", shown(inner)),
            _ => shown(event),
        }
    }

    fn of_aligner(&self, event: &Value, subtask: Option<SubtaskId>) -> String {
        let (name, inner) = variant(event);
        let id = || checkpoint(event).map_or("?".into(), |id| id.to_string());
        let from = || {
            let channel = inner.get("channel").and_then(Value::as_u64);
            let feeder =
                channel.zip(subtask).and_then(|(input, subtask)| self.feeder(subtask, input));
            feeder.map_or("?".into(), |feeder| self.name(feeder))
        };
        match name {
            "Barrier" => format!("reads barrier {} from {}", id(), from()),
            "EndOfInput" => format!("reads the end of {}", from()),
            "Exhausted" => "has no more records".into(),
            "Control" => format!("receives {}", message(inner)),
            "Durable" => format!("learns that its snapshot for checkpoint {} is durable", id()),
            "WriteFailed" => {
                format!("learns that its snapshot for checkpoint {} could not be written", id())
            }
            _ => shown(event),
        }
    }
}

fn of_committer(event: &Value) -> String {
    let (name, inner) = variant(event);
    match name {
        "Barrier" => format!("closes transaction {inner}"),
        "Control" => format!("receives {}", message(inner)),
        "Outcome" => {
            let txn = inner.get("txn").and_then(|txn| txn.get("checkpoint"));
            let txn = txn.map_or("?".into(), Value::to_string);
            let outcome = inner.get("outcome").and_then(Value::as_str).unwrap_or("?");
            format!("learns the outcome of transaction {txn}: {}", outcome.to_lowercase())
        }
        _ => shown(event),
    }
}

fn stored(op: &StoreOp, result: StoreResult) -> String {
    let what = match op {
        StoreOp::Claim { term, .. } => format!("the fence of term {term}"),
        StoreOp::Reserve { until, .. } => format!("the reservation of ids below {until}"),
        StoreOp::Manifest { checkpoint, .. } => format!("the manifest of checkpoint {checkpoint}"),
        StoreOp::Collect { .. } => "the deletion of what is no longer needed".into(),
    };
    match result {
        StoreResult::Applied => format!("{what} is durable"),
        StoreResult::NotApplied => format!("{what} was not written"),
        StoreResult::Unknown => format!("the outcome of {what} is unknown"),
        StoreResult::Fenced => format!("{what} is refused: a later term is in charge"),
    }
}
