//! Coverage of a check: the arms of the machines and the situations that it must have reached.

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::coordinator::{StoreOp, StoreResult, Timer};
use snapline_protocol::message::{Order, Report};
use snapline_protocol::{Verdict, Why, aligner, committer, coordinator};

/// Events of the three machines, by kind, in the order of their numbers. With each, whether the
/// code can apply it, and the reasons for which it can ignore it.
const EVENTS: &[(&str, bool, &[Why])] = &[
    ("aligner: barrier", true, &[Why::Duplicate, Why::Settled]),
    ("aligner: end of input", true, &[Why::Duplicate]),
    ("aligner: exhausted", true, &[Why::Duplicate]),
    ("aligner: trigger", true, &[Why::Stale, Why::Settled, Why::Closed]),
    ("aligner: abort", true, &[Why::Stale, Why::Settled, Why::Duplicate]),
    ("aligner: complete", false, &[Why::Stale, Why::Closed]),
    ("aligner: durable", true, &[Why::Stale, Why::Settled]),
    ("aligner: write failed", true, &[Why::Stale, Why::Settled]),
    ("committer: barrier", true, &[]),
    ("committer: complete", true, &[Why::Stale, Why::Duplicate]),
    ("committer: other order", false, &[Why::Stale, Why::Closed]),
    ("committer: committed", true, &[Why::Duplicate]),
    ("committer: already committed", true, &[Why::Duplicate]),
    ("committer: retry", true, &[Why::Duplicate]),
    ("committer: unknown", true, &[Why::Duplicate]),
    ("committer: lost", true, &[Why::Duplicate]),
    ("coordinator: interval", true, &[Why::Busy, Why::Closed]),
    ("coordinator: timeout", true, &[Why::Settled, Why::Closed]),
    ("coordinator: resend", true, &[Why::Settled, Why::Closed]),
    ("coordinator: claim refused", true, &[Why::Duplicate, Why::Closed]),
    ("coordinator: reserve applied", true, &[Why::Duplicate, Why::Closed]),
    ("coordinator: reserve refused", true, &[Why::Duplicate, Why::Closed]),
    ("coordinator: reserve unknown", true, &[Why::Duplicate, Why::Closed]),
    ("coordinator: manifest applied", true, &[Why::Duplicate, Why::Closed]),
    ("coordinator: manifest refused", true, &[Why::Duplicate, Why::Closed]),
    ("coordinator: manifest unknown", true, &[Why::Duplicate, Why::Closed]),
    ("coordinator: fenced", true, &[Why::Closed]),
    ("coordinator: collected", true, &[Why::Duplicate, Why::Closed]),
    ("coordinator: claimed", true, &[Why::Duplicate]),
    ("coordinator: recovered", true, &[Why::Closed]),
    ("coordinator: nothing to recover from", true, &[Why::Closed]),
    ("coordinator: ack", true, &[Why::Stale, Why::Closed, Why::Settled, Why::Duplicate]),
    ("coordinator: decline", true, &[Why::Stale, Why::Closed, Why::Settled]),
    ("coordinator: resolved", true, &[Why::Stale, Why::Closed, Why::Duplicate]),
    ("coordinator: lost", true, &[Why::Stale, Why::Closed]),
    ("coordinator: task failed", true, &[Why::Stale, Why::Closed]),
    ("coordinator: stop", true, &[Why::Closed, Why::Duplicate]),
    ("coordinator: concluded", true, &[Why::Stale, Why::Closed, Why::Duplicate]),
];

/// The number of arms: each event, applied or ignored for each reason.
pub const ARMS: usize = EVENTS.len() * (1 + Why::ALL.len());

/// The name of an arm, for people.
#[must_use]
pub fn arm_name(arm: usize) -> String {
    let verdicts = 1 + Why::ALL.len();
    let event = EVENTS.get(arm / verdicts).map_or("?", |(event, _, _)| event);
    match arm % verdicts {
        0 => format!("{event}, applied"),
        why => format!("{event}, ignored as {:?}", Why::ALL[why - 1]),
    }
}

/// True if the code has this arm at all.
#[must_use]
pub fn arm_exists(arm: usize) -> bool {
    let verdicts = 1 + Why::ALL.len();
    EVENTS.get(arm / verdicts).is_some_and(|(_, applies, reasons)| match arm % verdicts {
        0 => *applies,
        why => reasons.contains(&Why::ALL[why - 1]),
    })
}

fn arm(event: usize, verdict: Verdict) -> usize {
    let place = match verdict {
        Verdict::Applied => 0,
        // Every reason is in ALL.
        Verdict::Ignored(why) => 1 + Why::ALL.iter().position(|other| *other == why).unwrap_or(0),
    };
    event * (1 + Why::ALL.len()) + place
}

pub(super) fn aligner_arm(event: &aligner::Event, verdict: Verdict) -> usize {
    use aligner::Event;
    let event = match event {
        Event::Barrier { .. } => 0,
        Event::EndOfInput { .. } => 1,
        Event::Exhausted => 2,
        Event::Control(message) => match message.order {
            Order::Trigger(_) => 3,
            Order::Abort(_) => 4,
            Order::Complete(_) => 5,
        },
        Event::Durable(_) => 6,
        Event::WriteFailed { .. } => 7,
    };
    arm(event, verdict)
}

pub(super) fn committer_arm(event: &committer::Event, verdict: Verdict) -> usize {
    use committer::Event;
    let event = match event {
        Event::Barrier(_) => 8,
        Event::Control(message) if matches!(message.order, Order::Complete(_)) => 9,
        Event::Control(_) => 10,
        Event::Outcome { outcome, .. } => match outcome {
            CommitOutcome::Committed => 11,
            CommitOutcome::AlreadyCommitted => 12,
            CommitOutcome::Retry => 13,
            CommitOutcome::Unknown => 14,
            CommitOutcome::Lost => 15,
        },
    };
    arm(event, verdict)
}

pub(super) fn coordinator_arm(event: &coordinator::Event, verdict: Verdict) -> usize {
    use coordinator::Event;
    let event = match event {
        Event::Fired(Timer::Interval) => 16,
        Event::Fired(Timer::Timeout(_)) => 17,
        Event::Fired(Timer::Resend) => 18,
        Event::Stored { result: StoreResult::Fenced, .. } => 26,
        Event::Stored { op: StoreOp::Claim { .. }, .. } => 19,
        Event::Stored { op: StoreOp::Reserve { .. }, result } => 20 + result_place(*result),
        Event::Stored { op: StoreOp::Manifest { .. }, result } => 23 + result_place(*result),
        Event::Stored { op: StoreOp::Collect { .. }, .. } => 27,
        Event::Claimed { .. } => 28,
        Event::Recovered(Ok(_)) => 29,
        Event::Recovered(Err(_)) => 30,
        Event::Report(message) => match message.report {
            Report::Ack(_) => 31,
            Report::Decline { .. } => 32,
            Report::Resolved { lost: false, .. } => 33,
            Report::Resolved { lost: true, .. } => 34,
        },
        Event::TaskFailed { .. } => 35,
        Event::Stop(_) => 36,
        Event::Concluded { .. } => 37,
    };
    arm(event, verdict)
}

const fn result_place(result: StoreResult) -> usize {
    match result {
        StoreResult::Applied => 0,
        StoreResult::NotApplied | StoreResult::Fenced => 1,
        StoreResult::Unknown => 2,
    }
}

/// A situation that a scenario must reach for its verdict to mean anything ("sometimes").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Situation {
    /// A checkpoint completed.
    Completed,
    /// A checkpoint was aborted and the tasks were notified.
    Aborted,
    /// An input was held.
    Held,
    /// A sink closed an empty transaction.
    EmptyEpoch,
    /// A new attempt restored a checkpoint.
    Restored,
    /// A new attempt restored the checkpoint that ended the job.
    RestoredTerminal,
    /// A new attempt started from nothing although one had run.
    FreshAgain,
    /// A restored sink had transactions to commit again.
    Recommitting,
    /// A repeated commit found its transaction committed.
    AlreadyCommitted,
    /// A zombie did something.
    ZombieActed,
    /// A deposed coordinator's write was refused.
    Fenced,
    /// A coordinator learned that it was deposed.
    Deposed,
    /// The external system refused a writer of an earlier attempt.
    OldWriterRefused,
    /// The external system dropped a prepared transaction.
    Dropped,
    /// A sink found its transaction dropped.
    LossSeen,
    /// The job failed loudly because of a dropped transaction.
    LossReported,
    /// A subsumed checkpoint was deleted.
    Collected,
    /// A blob outlived the checkpoint it was written for.
    SharedOutlived,
    /// The job finished.
    Finished,
    /// The job finished because the user stopped it.
    Stopped,
    /// At least once: readers saw a record twice.
    SeenTwice,
    /// A source's input was dropped where the source needed it no longer.
    Forgotten,
    /// The job failed loudly because the newest complete checkpoint's manifest was gone.
    MissingReported,
}

impl Situation {
    /// Every situation, in order.
    pub const ALL: [Self; 23] = [
        Self::Completed,
        Self::Aborted,
        Self::Held,
        Self::EmptyEpoch,
        Self::Restored,
        Self::RestoredTerminal,
        Self::FreshAgain,
        Self::Recommitting,
        Self::AlreadyCommitted,
        Self::ZombieActed,
        Self::Fenced,
        Self::Deposed,
        Self::OldWriterRefused,
        Self::Dropped,
        Self::LossSeen,
        Self::LossReported,
        Self::Collected,
        Self::SharedOutlived,
        Self::Finished,
        Self::Stopped,
        Self::SeenTwice,
        Self::Forgotten,
        Self::MissingReported,
    ];

    /// The situation's number among the marks of a run, after those of the arms.
    #[must_use]
    pub const fn mark(self) -> usize {
        ARMS + self as usize
    }
}
