//! What a line of a recorded run is about: which checkpoint, which kind of step, which clause.

use snapline::trace::format::{Marker, What};
use snapline_protocol::coordinator::StoreOp;

use super::words::{checkpoint, variant};

/// The checkpoint that a line names itself.
pub(super) fn of_line(what: &What) -> Option<u64> {
    match what {
        What::Coordinator { event, .. } => match variant(event) {
            ("Report", message) => message.get("report").and_then(checkpoint),
            ("Stored", inner) => inner.get("op").and_then(checkpoint),
            ("Fired", timer) => checkpoint(timer),
            _ => None,
        },
        What::Aligner { event, .. } | What::Committer { event, .. } => match variant(event) {
            ("Control", message) => message.get("order").and_then(checkpoint),
            ("Outcome", inner) => inner.get("txn").and_then(checkpoint),
            _ => checkpoint(event),
        },
        What::Blob { id, .. } => Some(id.checkpoint.get()),
        What::Sent { marker: Marker::Barrier(id), .. } => Some(id.get()),
        What::Prepared { txn }
        | What::Found { txn, .. }
        | What::CommitCall { txn }
        | What::CommitReturned { txn, .. } => Some(txn.checkpoint.get()),
        What::Store { op: StoreOp::Manifest { checkpoint, .. }, .. } => Some(checkpoint.get()),
        _ => None,
    }
}

/// The kind of a step: that of the line, machines' events apart.
pub(super) fn kind(what: &What) -> &'static str {
    let of = match what {
        What::Coordinator { event, .. }
        | What::Aligner { event, .. }
        | What::Committer { event, .. } => variant(event).0,
        _ => "",
    };
    match of {
        "Fired" => "timer",
        "Stored" | "Claimed" | "Recovered" => "storage-answered",
        "Report" => "report",
        "Barrier" => "barrier",
        "EndOfInput" | "Exhausted" => "end",
        "Control" => "order",
        "Durable" | "WriteFailed" => "snapshot-answered",
        "Outcome" => "commit-answered",
        _ => what.kind(),
    }
}

/// The clause of SPEC.md that a line is about.
pub(super) fn clause(what: &What) -> &'static str {
    match what {
        What::Started { .. } => "4.1",
        What::Coordinator { event, .. } => match variant(event).0 {
            "Fired" => "4.3",
            "Claimed" => "4.1",
            "Recovered" => "7.2",
            "Report" => "4.4",
            "Stored" => "4.5",
            "TaskFailed" => "4.10",
            "Stop" => "4.8",
            _ => "8.6",
        },
        What::Aligner { event, .. } => match variant(event).0 {
            "Barrier" => "5.2",
            "EndOfInput" | "Exhausted" => "5.7",
            "Durable" | "WriteFailed" => "3.5",
            _ => "3.2",
        },
        What::Committer { event, .. } => match variant(event).0 {
            "Barrier" => "6.2",
            "Outcome" => "6.6",
            _ => "6.1",
        },
        What::Host { .. } | What::Ended {} | What::Begun { .. } => "3.2",
        What::Sent { .. } => "5.4",
        What::Blob { .. } => "2.4",
        What::Prepared { .. } => "6.2",
        What::Found { .. } | What::Fenced {} => "6.4",
        What::CommitCall { .. } | What::CommitReturned { .. } => "6.6",
        What::Store { .. } => "2.5",
        What::Facts { .. } => "7.1",
        What::Collect { .. } => "8.5",
    }
}
