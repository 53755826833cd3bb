//! Events as they are read. Messages, decisions and permits cannot be made from what is read: only
//! machines make them, and a replay takes them from its own (SPEC 3.5, 11.8). Text stands in for
//! them here, by which they are found again.

use serde::Deserialize;
use serde_json::Value;

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::coordinator::{Stop, StoreOp, StoreResult, Timer};
use snapline_protocol::ids::{Attempt, CheckpointId, TxnId};
use snapline_protocol::message::Barrier;

use super::format::What;

/// An event of a coordinator.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum OfCoordinator {
    Fired(Timer),
    Stored { op: StoreOp, result: StoreResult },
    Claimed { first: CheckpointId, until: CheckpointId },
    Recovered(Value),
    Report(Value),
    Concluded { attempt: Attempt },
    TaskFailed { attempt: Attempt },
    Stop(Stop),
}

/// An event of an aligner.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum OfAligner {
    Barrier { channel: usize, barrier: Barrier },
    EndOfInput { channel: usize },
    Exhausted,
    Control(Value),
    Durable { attempt: Attempt, checkpoint: CheckpointId },
    WriteFailed { attempt: Attempt, checkpoint: CheckpointId },
}

/// An event of a committer.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum OfCommitter {
    Barrier(CheckpointId),
    Control(Value),
    Outcome { txn: TxnId, outcome: CommitOutcome },
}

/// The event of a line, if it is a machine's.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum LineEvent {
    None,
    Coordinator(OfCoordinator),
    Aligner(OfAligner),
    Committer(OfCommitter),
}

impl LineEvent {
    /// # Errors
    /// The parser's message.
    pub(super) fn of(what: &What) -> Result<Self, serde_json::Error> {
        Ok(match what {
            What::Coordinator { event, .. } => {
                Self::Coordinator(OfCoordinator::deserialize(event)?)
            }
            What::Aligner { event, .. } => Self::Aligner(OfAligner::deserialize(event)?),
            What::Committer { event, .. } => Self::Committer(OfCommitter::deserialize(event)?),
            _ => Self::None,
        })
    }
}
