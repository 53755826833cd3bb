//! The content of a run trace, line by line (SPEC 11.5-11.7). Writer and reader use the same types.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use snapline_protocol::Verdict;
use snapline_protocol::aligner::{self, Mode};
use snapline_protocol::committer::{self, CommitOutcome};
use snapline_protocol::coordinator::{self, StoreOp, StoreResult};
use snapline_protocol::fence::Claimant;
use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, Term, TxnId};
use snapline_protocol::recovery::{Decision, Facts, Policy, RecoveryError};
use snapline_protocol::retention::{Inventory, Plan, Roots};
use snapline_protocol::topology;

/// The content of the first field of a run trace.
pub const FORMAT: &str = "snapline-run-trace";

/// The version that this build writes, and the only one it reads.
pub const VERSION: u64 = 1;

/// The first line: one coordinator's run, and the configuration of its machines.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
    /// The job's name.
    pub job: String,
    /// The process's number, for people.
    pub process: u32,
    /// The coordinator's term.
    pub term: Term,
    /// Distinguishes it from another that chose the same term.
    pub claimant: Claimant,
    /// The operators and how they are wired; subtasks and channels are numbered through them.
    pub plan: topology::Plan,
    /// The guarantee for records on different sides of a barrier.
    pub mode: Mode,
    /// The names of the sinks that write in transactions. Other sinks' answers to a repeated commit
    /// mean nothing.
    pub two_phase: Vec<String>,
    /// How many checkpoints may be in flight at once.
    pub max_concurrent: usize,
    /// How many checkpoints in a row may fail.
    pub tolerable_failures: u32,
    /// The number of completed checkpoints that are kept.
    pub retained: Option<usize>,
    /// The number of ids in one reservation.
    pub id_block: u64,
    /// The recovery that the user allows.
    pub policy: Policy,
}

/// Any other line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The logical clock: 1, 2, 3, ... within a file. An effect has a greater number than its
    /// cause.
    pub at: u64,
    /// The attempt that it is about; absent if it concerns none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The subtask concerned; absent for the coordinator or its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<SubtaskId>,
    /// What happened.
    pub what: What,
}

/// A separator of records in a channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Marker {
    /// A barrier of this checkpoint.
    Barrier(CheckpointId),
    /// The end of the input.
    End,
}

/// The content of a line. Events and effects of machines are in the words of `snapline-protocol`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// A coordinator began.
    Started {
        /// Its first effects.
        effects: Vec<Value>,
    },
    /// A coordinator took an event.
    Coordinator {
        /// The event.
        event: Value,
        /// The verdict.
        verdict: Verdict,
        /// The effects.
        effects: Vec<Value>,
    },
    /// A subtask's aligner took an event.
    Aligner {
        /// The event.
        event: Value,
        /// The verdict.
        verdict: Verdict,
        /// The effects.
        effects: Vec<Value>,
        /// For input from a channel: how many records had come on it before, in this attempt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
    },
    /// A sink's committer took an event.
    Committer {
        /// The event.
        event: Value,
        /// The verdict.
        verdict: Verdict,
        /// The effects.
        effects: Vec<Value>,
        /// For a barrier: how many records the sink had taken before it, in this attempt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        records: Option<u64>,
    },
    /// The process was asked to host an attempt.
    Host {
        /// Whether it agreed.
        verdict: Verdict,
    },
    /// No task of the attempt runs any more; work that its tasks handed over may still be in
    /// flight.
    Ended {},
    /// A task began.
    Begun {
        /// Whether its source emits nothing, since the job is over but for its commits.
        at_rest: bool,
        /// A sink: the committables it was restored with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pending: Option<Vec<TxnId>>,
        /// The first effects of its committer.
        effects: Vec<Value>,
    },
    /// A task is about to put a barrier or its end on every output.
    Sent {
        /// The barrier or the end.
        marker: Marker,
        /// How many records went before, in this attempt, on each output channel in the topology's
        /// order.
        counts: Vec<u64>,
    },
    /// The writing of a snapshot returned.
    Blob {
        /// The blob written for it.
        id: BlobId,
        /// Every blob it needs, its own included; none if it was not written.
        needs: Vec<BlobId>,
        /// Whether the store reported that it is durable.
        durable: bool,
    },
    /// A transaction was prepared.
    Prepared {
        /// The transaction.
        txn: TxnId,
    },
    /// A sink has found a prepared transaction as it began.
    Found {
        /// The transaction.
        txn: TxnId,
        /// Whether it is rolled back.
        orphan: bool,
    },
    /// A sink has fenced off earlier writers, and rolled back the orphans that it found.
    Fenced {},
    /// A commit call is about to be made.
    CommitCall {
        /// The transaction.
        txn: TxnId,
    },
    /// A commit call has returned.
    CommitReturned {
        /// The transaction.
        txn: TxnId,
        /// The outcome.
        outcome: CommitOutcome,
    },
    /// The store has answered a write of the coordinator's.
    Store {
        /// The write.
        op: StoreOp,
        /// The answer.
        result: StoreResult,
        /// A claim that was applied: the first id it reserved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<CheckpointId>,
    },
    /// The facts were read, and a decision was made.
    Facts {
        /// The facts.
        facts: Facts,
        /// The decision.
        decision: Value,
    },
    /// A deletion is about to be carried out.
    Collect {
        /// What must stay.
        roots: Roots,
        /// What exists.
        inventory: Inventory,
        /// What is deleted.
        plan: Plan,
    },
}

impl What {
    /// The kind of line, as a trace spells it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Coordinator { .. } => "coordinator",
            Self::Aligner { .. } => "aligner",
            Self::Committer { .. } => "committer",
            Self::Host { .. } => "host",
            Self::Ended {} => "ended",
            Self::Begun { .. } => "begun",
            Self::Sent { .. } => "sent",
            Self::Blob { .. } => "blob",
            Self::Prepared { .. } => "prepared",
            Self::Found { .. } => "found",
            Self::Fenced {} => "fenced",
            Self::CommitCall { .. } => "commit-call",
            Self::CommitReturned { .. } => "commit-returned",
            Self::Store { .. } => "store",
            Self::Facts { .. } => "facts",
            Self::Collect { .. } => "collect",
        }
    }

    pub(crate) fn started(effects: &[coordinator::Effect]) -> Self {
        Self::Started { effects: spell_all(effects) }
    }

    pub(crate) fn coordinator(
        event: &coordinator::Event,
        verdict: Verdict,
        effects: &[coordinator::Effect],
    ) -> Self {
        Self::Coordinator { event: spell(event), verdict, effects: spell_all(effects) }
    }

    pub(crate) fn aligner(
        event: &aligner::Event,
        verdict: Verdict,
        effects: &[aligner::Effect],
        received: Option<u64>,
    ) -> Self {
        Self::Aligner { event: spell(event), verdict, effects: spell_all(effects), received }
    }

    pub(crate) fn committer(
        event: &committer::Event,
        verdict: Verdict,
        effects: &[committer::Effect],
        records: Option<u64>,
    ) -> Self {
        Self::Committer { event: spell(event), verdict, effects: spell_all(effects), records }
    }

    pub(crate) fn begun(
        at_rest: bool,
        pending: Option<Vec<TxnId>>,
        effects: &[committer::Effect],
    ) -> Self {
        Self::Begun { at_rest, pending, effects: spell_all(effects) }
    }

    pub(crate) fn facts(facts: Facts, decision: &Result<Decision, RecoveryError>) -> Self {
        Self::Facts { facts, decision: spell(decision) }
    }
}

/// As a trace spells it.
pub(crate) fn spell(value: &impl Serialize) -> Value {
    // Numbers, names and enums of them: all of it can be JSON.
    serde_json::to_value(value).unwrap_or_default()
}

/// Each of them as a trace spells it.
pub(crate) fn spell_all<T: Serialize>(values: &[T]) -> Vec<Value> {
    values.iter().map(spell).collect()
}
