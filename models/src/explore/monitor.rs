//! The clock, the memory gauge and the progress reports of a run.

use super::outcome::{
    Bounds, SearchOutcome, SearchPhase, SearchProgress, SearchVerdict, StopReason,
};
use super::{MarkSet, TransitionSystem, fingerprint};
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The time between two looks at the memory in use: a look costs a system call and some parsing.
const GAUGE_EVERY: Duration = Duration::from_millis(20);
/// The time between two progress reports.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Monitors the bounds of one run. The thread that called the entry point polls it, so a bound
/// holds for any number of workers.
pub(super) struct SearchMonitor<'a> {
    pub(super) bounds: &'a Bounds,
    progress: &'a dyn Fn(SearchProgress),
    start: Instant,
    phase: Cell<SearchPhase>,
    reported: Cell<Instant>,
    gauged: Cell<Instant>,
    rss: Cell<Option<u64>>,
    first_rss: Option<u64>,
    peak_rss: Cell<Option<u64>>,
}

impl<'a> SearchMonitor<'a> {
    pub(super) fn new(bounds: &'a Bounds, progress: &'a dyn Fn(SearchProgress)) -> Self {
        let start = Instant::now();
        let rss = resident_bytes();
        Self {
            bounds,
            progress,
            start,
            phase: Cell::new(SearchPhase::Explore),
            reported: Cell::new(start),
            gauged: Cell::new(start),
            rss: Cell::new(rss),
            first_rss: rss,
            peak_rss: Cell::new(rss),
        }
    }

    pub(super) fn enter(&self, phase: SearchPhase) {
        self.phase.set(phase);
    }

    /// Reports progress when it is due. Returns the bound that is exceeded, if any, other than the
    /// number of states.
    pub(super) fn poll(&self, tally: &SearchCounts) -> Option<StopReason> {
        let now = Instant::now();
        if now.duration_since(self.gauged.get()) >= GAUGE_EVERY {
            self.gauged.set(now);
            self.gauge();
        }
        if now.duration_since(self.reported.get()) >= REPORT_EVERY {
            self.reported.set(now);
            (self.progress)(SearchProgress {
                phase: self.phase.get(),
                unique: tally.unique,
                generated: tally.generated,
                depth: tally.depth,
                elapsed: now.duration_since(self.start),
                rss: self.rss.get(),
            });
        }
        if self.bounds.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Some(StopReason::Interrupted);
        }
        if self.bounds.timeout.is_some_and(|limit| now.duration_since(self.start) >= limit) {
            return Some(StopReason::Timeout);
        }
        match (self.bounds.max_memory, self.rss.get()) {
            (Some(_), None) => Some(StopReason::MemoryUnknown),
            (Some(limit), Some(rss)) if rss > limit => Some(StopReason::Memory),
            _ => None,
        }
    }

    /// [`SearchMonitor::poll`] for phases that visit no states.
    pub(super) fn poll_idle(&self) -> Result<(), StopReason> {
        self.poll(&SearchCounts::default()).map_or(Ok(()), Err)
    }

    /// True if there are more states than allowed.
    pub(super) fn too_many(&self, unique: u64) -> bool {
        self.bounds.max_states.is_some_and(|limit| unique > limit)
    }

    fn gauge(&self) {
        let rss = resident_bytes();
        self.rss.set(rss);
        self.peak_rss.set(self.peak_rss.get().max(rss));
    }

    /// The outcome of the run. `folds` is the number of times that a state is folded to 64 bits on
    /// its way into the set of visited states.
    pub(super) fn outcome<A>(
        &self,
        tally: SearchCounts,
        verdict: SearchVerdict<A>,
        traps: Option<u64>,
        folds: u32,
    ) -> SearchOutcome<A> {
        self.gauge();
        let grown = self.peak_rss.get().zip(self.first_rss).map(|(peak, first)| peak - first);
        SearchOutcome {
            verdict,
            unique: tally.unique,
            generated: tally.generated,
            depth: tally.depth,
            seconds: self.start.elapsed().as_secs_f64(),
            collision_bound: fingerprint::collision_bound(tally.unique, folds),
            action_counts: tally.action_counts,
            marks: tally.marks,
            guards: tally.guards,
            goal_states: tally.goal_states,
            traps,
            peak_rss: self.peak_rss.get(),
            bytes_per_state: grown.map(|bytes| bytes as f64 / tally.unique.max(1) as f64),
        }
    }
}

/// The counts of an explorer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SearchCounts {
    pub(super) unique: u64,
    pub(super) generated: u64,
    pub(super) depth: u64,
    pub(super) action_counts: Vec<u64>,
    pub(super) marks: MarkSet,
    pub(super) guards: u64,
    pub(super) goal_states: u64,
}

impl SearchCounts {
    pub(super) fn new<S: TransitionSystem>(system: &S) -> Self {
        Self { action_counts: vec![0; system.action_kinds().len()], ..Self::default() }
    }

    /// Counts a state on its one visit; returns true if it is a goal.
    #[inline]
    pub(super) fn visit<S: TransitionSystem>(&mut self, system: &S, state: &S::State) -> bool {
        self.guards |= system.guards(state);
        let goal = system.is_goal(state);
        self.goal_states += u64::from(goal);
        goal
    }

    /// Adds the counts of another thread of the same run. `unique`, `generated` and `depth` are not
    /// counted per thread.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.action_counts.iter_mut().zip(&other.action_counts) {
            *count += more;
        }
        self.marks.union(&other.marks);
        self.guards |= other.guards;
        self.goal_states += other.goal_states;
    }
}

/// Resident memory of this process in bytes, where `/proc` has it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
