//! The actions of the World.

use serde::{Deserialize, Serialize};
use snapline_protocol::coordinator::Timer;

/// One step of the World.
///
/// Fields are indices into the state in which the action happens. `task` is a subtask, `input` one
/// of its inputs. `message` is a control message: one of those just sent while there are any, else
/// one of those that wait. `write` is a write in flight of the task or coordinator. `sink` is an
/// external system, `transaction` one that it has prepared, `zombie` a task of an ended attempt.
/// `applied` is true if an operation of unknown outcome took effect, `torn` if unfinished writes
/// are left half written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are indices, all explained once above")]
pub enum Action {
    /// A message just sent, or waiting in the network, arrives.
    Deliver { message: u8 },
    /// A source reads its next record.
    Emit { task: u8 },
    /// A source finds the end of its input.
    Exhaust { task: u8 },
    /// A task reads the next item of an input.
    Consume { task: u8, input: u8 },
    /// A snapshot becomes durable.
    Write { task: u8, write: u8 },
    /// The external system carries out a sink's commit call.
    Commit { task: u8 },
    /// A write of the newest coordinator becomes durable.
    Store { write: u8 },
    /// Blobs that a plan of deletion named are deleted.
    Sweep,
    /// The newest coordinator reads the facts, and a decision is made from them.
    Read,
    /// A timer of the newest coordinator fires.
    Fire { timer: Timer },
    /// The newest coordinator learns that a task died.
    Detect,
    /// A coordinator of a new term starts, because every other one is deposed or dead.
    Elect,
    /// The user stops the job.
    Stop,
    /// The tasks of a job that is over have ended.
    Conclude,
    // Faults from here on.
    /// A message just sent is lost.
    Lose { message: u8 },
    /// A message just sent arrives, and will arrive once more.
    Duplicate { message: u8 },
    /// A message just sent waits.
    Delay { message: u8 },
    /// A task dies; with `torn`, its unfinished writes are left half written.
    Crash { task: u8, torn: bool },
    /// The newest coordinator dies; with `applied`, its writes in flight take effect.
    CrashCoordinator { applied: bool },
    /// A coordinator of a new term starts beside a living one.
    ElectBeside,
    /// A task will not notice that its attempt ends.
    Strand { task: u8 },
    /// A timer fires although nothing is stuck.
    FireEarly { timer: Timer },
    /// The newest coordinator's write returns "unknown".
    StoreUnknown { write: u8, applied: bool },
    /// The newest coordinator's write is refused.
    StoreRefused { write: u8 },
    /// A snapshot could not be written, or its outcome is unknown.
    WriteFailed { task: u8, write: u8, applied: bool },
    /// A commit call returns "unknown".
    CommitUnknown { task: u8, applied: bool },
    /// A commit call is refused for now.
    CommitRefused { task: u8 },
    /// The external system drops a prepared transaction.
    Drop { sink: u8, transaction: u8 },
    /// The newest manifest is gone from storage.
    LoseManifest,
    /// A zombie reads the next item of an input.
    ZombieConsume { zombie: u8, input: u8 },
    /// A zombie's snapshot becomes durable.
    ZombieWrite { zombie: u8, write: u8 },
    /// The external system carries out a zombie's commit call.
    ZombieCommit { zombie: u8 },
    /// A write of a zombie coordinator becomes durable.
    ZombieStore { write: u8 },
    /// A zombie coordinator deletes blobs.
    ZombieSweep,
    /// A zombie coordinator reads the facts.
    ZombieRead,
    /// A zombie coordinator ends its tasks.
    ZombieConclude,
    /// A timer of a zombie coordinator fires.
    ZombieFire { timer: Timer },
}

/// The names of the kinds of action, in order of declaration.
pub const KINDS: &[&str] = &[
    "deliver",
    "emit",
    "exhaust",
    "consume",
    "write",
    "commit",
    "store",
    "sweep",
    "read",
    "fire",
    "detect",
    "elect",
    "stop",
    "conclude",
    "lose",
    "duplicate",
    "delay",
    "crash",
    "crash-coordinator",
    "elect-beside",
    "strand",
    "fire-early",
    "store-unknown",
    "store-refused",
    "write-failed",
    "commit-unknown",
    "commit-refused",
    "drop",
    "lose-manifest",
    "zombie-consume",
    "zombie-write",
    "zombie-commit",
    "zombie-store",
    "zombie-sweep",
    "zombie-read",
    "zombie-conclude",
    "zombie-fire",
];

impl Action {
    /// The action's index into [`KINDS`].
    #[must_use]
    pub const fn kind(&self) -> usize {
        match self {
            Self::Deliver { .. } => 0,
            Self::Emit { .. } => 1,
            Self::Exhaust { .. } => 2,
            Self::Consume { .. } => 3,
            Self::Write { .. } => 4,
            Self::Commit { .. } => 5,
            Self::Store { .. } => 6,
            Self::Sweep => 7,
            Self::Read => 8,
            Self::Fire { .. } => 9,
            Self::Detect => 10,
            Self::Elect => 11,
            Self::Stop => 12,
            Self::Conclude => 13,
            Self::Lose { .. } => 14,
            Self::Duplicate { .. } => 15,
            Self::Delay { .. } => 16,
            Self::Crash { .. } => 17,
            Self::CrashCoordinator { .. } => 18,
            Self::ElectBeside => 19,
            Self::Strand { .. } => 20,
            Self::FireEarly { .. } => 21,
            Self::StoreUnknown { .. } => 22,
            Self::StoreRefused { .. } => 23,
            Self::WriteFailed { .. } => 24,
            Self::CommitUnknown { .. } => 25,
            Self::CommitRefused { .. } => 26,
            Self::Drop { .. } => 27,
            Self::LoseManifest => 28,
            Self::ZombieConsume { .. } => 29,
            Self::ZombieWrite { .. } => 30,
            Self::ZombieCommit { .. } => 31,
            Self::ZombieStore { .. } => 32,
            Self::ZombieSweep => 33,
            Self::ZombieRead => 34,
            Self::ZombieConclude => 35,
            Self::ZombieFire { .. } => 36,
        }
    }

    /// True for a fault, and for an act of a task or coordinator that should have ended. Progress
    /// never depends on one.
    #[must_use]
    pub const fn is_fault(&self) -> bool {
        self.kind() > 13
    }
}
