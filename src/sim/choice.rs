//! The possible next steps in a simulated world. The scheduler only picks; runs differ in its picks
//! alone.

use std::time::Duration;

use snapline_protocol::coordinator::{Stop, Timer};

use crate::fs::simulated::Trouble;

/// The I/O lanes of a process: its coordinator's, or its tasks'. A lane does one request after the
/// other, as a thread of the I/O pool does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum LaneOwner {
    /// The coordinator's use of the store.
    Store,
    /// The requests of tasks.
    Task(usize),
}

/// One step of the world. `process`, `worker`, `task` and `letter` are places in the lists of that
/// moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Choice {
    /// A process that runs the job begins.
    Start,
    /// A worker opens its next task.
    Open { process: usize, worker: usize },
    /// A worker takes in the oldest message in its mailbox.
    Hear { process: usize, worker: usize },
    /// A task steps, and looks at this input first.
    Step { process: usize, worker: usize, task: usize, input: usize },
    /// A worker that sleeps, and was called or whose time has come, wakes.
    Wake { process: usize, worker: usize },
    /// A lane begins its next request, which takes at least this pause.
    Begin { process: usize, lane: LaneOwner, pause: Duration },
    /// A lane does its next request; with trouble, the change after this many others fails.
    Finish { process: usize, lane: LaneOwner, trouble: Option<(u64, Trouble)> },
    /// The coordinator takes in an event of its own process: a write that came back, a failure, the
    /// end of a source.
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
    /// A control message arrives, and will arrive once more.
    Duplicate { process: usize, letter: usize },
    /// A worker dies.
    CrashTask { process: usize, worker: usize },
    /// A failure is reported that did not happen.
    FalseAlarm { process: usize },
    /// A coordinator dies; its tasks run on.
    CrashCoordinator { process: usize },
    /// A process will die before the change after this many others, perhaps in the next request of
    /// a lane, which is done now. With `power`, all processes die, and unsynced data is lost in
    /// part.
    Kill { process: usize, lane: Option<LaneOwner>, after: u64, power: Option<u64> },
    /// A process begins beside the one that runs the job.
    Beside,
    /// The user stops the job.
    Stop { process: usize, stop: Stop },
}
