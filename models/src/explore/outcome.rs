//! The bounds of an exploration and its outcome.

use super::MarkSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The limits of an exploration, and the laws that it checks.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Worker threads of [`check`](super::check), at least 1. The other entry points use one.
    pub threads: usize,
    /// Stop once there are more distinct states than this. With several threads the stop is
    /// noticed a little late, so `SearchOutcome::unique` can be greater.
    pub max_states: Option<u64>,
    /// Stop once the resident memory of the whole process is above this many bytes. Where it cannot
    /// be read (off Linux) the run stops at once with [`StopReason::MemoryUnknown`]: a bound is
    /// never ignored.
    pub max_memory: Option<u64>,
    /// Stop once this much time has passed since the entry point was called.
    pub timeout: Option<Duration>,
    /// Stop soon after this becomes true, for Ctrl-C.
    pub stop: Option<Arc<AtomicBool>>,
    /// After a search that found no violated law: is the goal reachable from every state without
    /// the help of a fault (AG EF goal)?
    pub liveness: bool,
    /// The laws that count, by index; a cleared bit ignores the law.
    pub laws: u64,
}

impl Default for Bounds {
    /// One thread, all laws, liveness, no limits.
    fn default() -> Self {
        Self {
            threads: 1,
            max_states: None,
            max_memory: None,
            timeout: None,
            stop: None,
            liveness: true,
            laws: u64::MAX,
        }
    }
}

/// The verdict of an exploration and its figures.
#[derive(Clone, Debug)]
pub struct SearchOutcome<A> {
    /// The verdict.
    pub verdict: SearchVerdict<A>,
    /// Distinct states found, the initial one included.
    pub unique: u64,
    /// States generated: the initial one and one for each transition, repeats included.
    pub generated: u64,
    /// Steps to the state farthest from the initial one. With several threads a state can be
    /// found first by a detour, so then the figure may be greater than the distance.
    pub depth: u64,
    /// Wall-clock time of everything: exploration, liveness, search for the path.
    pub seconds: f64,
    /// Expected number of states missed because of equal fingerprints, at most; 0 when whole
    /// states are kept.
    pub collision_bound: f64,
    /// Transitions explored per kind of action, in the order of `TransitionSystem::action_kinds`.
    pub action_counts: Vec<u64>,
    /// The arms of the machines that some transition has driven.
    pub marks: MarkSet,
    /// The reachability guards that some state has witnessed.
    pub guards: u64,
    /// Distinct states that are goals.
    pub goal_states: u64,
    /// States from which no goal can be reached without a fault. `None`: not computed, because
    /// it was not asked for or the search did not end.
    pub traps: Option<u64>,
    /// Greatest resident memory of the process seen during the run, in bytes, sampled about
    /// fifty times a second; `None` where it cannot be read.
    pub peak_rss: Option<u64>,
    /// The growth of the process during the run, divided by `unique`; coarse for small runs.
    pub bytes_per_state: Option<f64>,
}

impl<A> SearchOutcome<A> {
    /// True if the search was complete and found nothing. A search that stopped is not ok.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self.verdict, SearchVerdict::Holds)
    }

    /// The `expected` guards that no state has witnessed.
    #[must_use]
    pub fn missed_guards(&self, expected: u64) -> u64 {
        expected & !self.guards
    }
}

/// The verdict of an exploration. There is no fourth: a search that stopped early has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchVerdict<A> {
    /// Every reachable state was visited, no law that counts is violated, and with
    /// [`Bounds::liveness`] there is no trap.
    Holds,
    /// A reachable state is bad.
    Violated {
        /// The violation.
        violation: StateViolation,
        /// The actions that lead from the initial state to it.
        path: Vec<A>,
        /// The quality of the path.
        quality: PathQuality,
    },
    /// The search ended before it was complete and had found nothing so far.
    Stopped(StopReason),
}

/// The violation of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateViolation {
    /// The law of this index is violated; the smallest index if several are.
    Law(usize),
    /// No goal can be reached any more, unless a fault helps.
    Trap,
}

/// The quality of the path of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathQuality {
    /// No path to any bad state is shorter.
    Shortest,
    /// A bound stopped the search for the shortest path; this one leads there too, and no
    /// single action can be left out of it.
    Minimised,
    /// A bound stopped the search for a path to the trap, so the path is empty.
    Missing,
}

/// The reason for which a search ended before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// [`Bounds::timeout`] has passed.
    Timeout,
    /// There are more than [`Bounds::max_states`] states.
    States,
    /// The process uses more than [`Bounds::max_memory`].
    Memory,
    /// [`Bounds::max_memory`] is set, but the memory in use cannot be read.
    MemoryUnknown,
    /// [`Bounds::stop`] was raised.
    Interrupted,
    /// Two states were seen to share a fingerprint, so at least one was not explored.
    Collision,
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchPhase {
    /// Visiting the reachable states.
    Explore,
    /// Walking backwards from the goals.
    Liveness,
    /// Searching the shortest path to a bad state.
    Shorten,
}

/// A report on a run that is under way.
#[derive(Clone, Copy, Debug)]
pub struct SearchProgress {
    /// The current phase; the counts below are of this phase, 0 in the liveness phase.
    pub phase: SearchPhase,
    /// Distinct states found so far.
    pub unique: u64,
    /// States generated so far, repeats included.
    pub generated: u64,
    /// Steps to the farthest state so far.
    pub depth: u64,
    /// The time since the entry point was called.
    pub elapsed: Duration,
    /// Resident memory of the process in bytes, where it can be read.
    pub rss: Option<u64>,
}
