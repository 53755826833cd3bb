//! What may happen next in a simulated world. The scheduler only picks; what it picks is all that tells one run from another.

use std::time::Duration;

use snapline_protocol::coordinator::{Stop, Timer};

use crate::fs::simulated::Trouble;

/// Which lanes of a process: its coordinator's, or its tasks'.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Lane {
    /// The coordinator's use of the store.
    Store,
    /// What tasks hand over.
    Task(usize),
}

/// One step of the world. `process`, `worker`, `task` and `letter` are places in what there is at that moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Choice {
    /// A process that runs the job begins.
    Start,
    /// A worker opens its next task.
    Open { process: usize, worker: usize },
    /// A worker takes in the oldest news in its mailbox.
    Hear { process: usize, worker: usize },
    /// A task steps, and looks at this input first.
    Step { process: usize, worker: usize, task: usize, input: usize },
    /// A worker that sleeps, and was called or whose time has come, wakes.
    Wake { process: usize, worker: usize },
    /// A lane comes to its next job, and takes its time: this much at least.
    Begin { process: usize, lane: Lane, pause: Duration },
    /// A lane does its next job; with trouble, the change that comes after so many fails.
    Finish { process: usize, lane: Lane, trouble: Option<(u64, Trouble)> },
    /// The coordinator takes in what its own process told it: a write that came back, a failure, the end of a source.
    Notice { process: usize },
    /// A control message arrives.
    Deliver { process: usize, letter: usize },
    /// A timer of the coordinator fires.
    Fire { process: usize, timer: Timer },
    /// Nothing can be done before some time has passed: it passes.
    Wait,
    // Faults from here on.
    /// A control message is lost.
    Lose { process: usize, letter: usize },
    /// A control message arrives, and will once more.
    Duplicate { process: usize, letter: usize },
    /// A worker dies.
    CrashTask { process: usize, worker: usize },
    /// A failure is reported that there was none of.
    FalseAlarm { process: usize },
    /// A coordinator dies; its tasks run on.
    CrashCoordinator { process: usize },
    /// A process will die before the change that comes after so many, perhaps at the next job of a lane, which is done now; with `power`, all
    /// do, and what was not synced is lost in part.
    Kill { process: usize, lane: Option<Lane>, after: u64, power: Option<u64> },
    /// A process begins beside the one that runs the job.
    Beside,
    /// The user stops the job.
    Stop { process: usize, stop: Stop },
}
