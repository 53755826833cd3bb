//! Explorers of finite transition systems: every reachable state, safety laws, and liveness.
//!
//! A [`TransitionSystem`] defines its states and actions; three explorers check it.
//!
//! | entry point | searches with | for |
//! |---|---|---|
//! | [`check`] | several threads, fingerprints, edges | configurations of millions of states |
//! | [`hunt`] | one thread, fingerprints, parent pointers | hundreds of runs: mutants, fuzzing |
//! | [`check_exact`] | one thread, whole states | cross-checking the counts of the other two |
//!
//! All return a [`SearchOutcome`] with one of three verdicts; a search that stopped early never
//! returns the good one. Safety: the state of some path violates a law. Liveness: from every
//! reachable state a goal can be reached without the help of a fault (AG EF goal); a state for
//! which that is false is a trap. Counterexamples are shortest paths. A safety violation is looked
//! for first: of a system that has both, traps are not reported.
//!
//! A verdict holds for the states within the system's own bounds, and up to
//! [`SearchOutcome::collision_bound`] missed ones.

mod exact;
mod fingerprint;
mod liveness;
mod marks;
mod minimise;
mod monitor;
mod outcome;
mod shortest;
mod stateright;
#[cfg(test)]
mod tests;

pub use exact::check_exact;
pub use fingerprint::{collision_bound, fingerprint};
pub use marks::MarkSet;
pub use minimise::{minimise, replay};
pub use outcome::{
    Bounds, PathQuality, SearchOutcome, SearchPhase, SearchProgress, SearchVerdict, StateViolation,
    StopReason,
};

use monitor::SearchMonitor;
use shortest::{Search, SearchTarget};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

/// A finite transition system to explore.
///
/// Everything is a function of the arguments: the same state has the same actions in the same
/// order and the same successors, in every thread and every run. Paths are rebuilt by running the
/// system again.
pub trait TransitionSystem: Send + Sync + 'static {
    /// A whole state of the system. Equal states should hash alike and mean the same, so a system
    /// best drops histories that no longer matter before it returns a state.
    type State: Clone + Eq + Hash + Debug + Send + Sync + 'static;
    /// A step, faults included.
    type Action: Clone + Eq + Ord + Debug + Send + Sync + 'static;

    /// The one initial state.
    fn initial(&self) -> Self::State;

    /// Appends the enabled actions to `out`, in a fixed order and without duplicates.
    fn actions(&self, state: &Self::State, out: &mut Vec<Self::Action>);

    /// The state after an enabled action. `marks` collects the arms of the machines that were
    /// driven.
    fn apply(&self, state: &Self::State, action: &Self::Action, marks: &mut MarkSet)
    -> Self::State;

    /// The laws that this state violates, as a set of indexes below 64.
    fn violations(&self, state: &Self::State) -> u64;

    /// The violated law with the smallest index.
    fn violated(&self, state: &Self::State) -> Option<usize> {
        first_law(self.violations(state))
    }

    /// True if all that was asked for is done and nothing is pending.
    fn is_goal(&self, state: &Self::State) -> bool;

    /// True for a fault (a crash, a loss): it may happen, but nothing may depend on it. Liveness
    /// looks for paths to the goal without faults.
    fn is_fault(&self, action: &Self::Action) -> bool;

    /// The names of the kinds of actions.
    fn action_kinds(&self) -> &'static [&'static str];

    /// The kind of an action: an index into [`TransitionSystem::action_kinds`].
    fn kind(&self, action: &Self::Action) -> usize;

    /// The names of the reachability guards, at most 64: situations that some state must witness
    /// for a verdict to mean anything.
    fn guard_names(&self) -> Vec<String>;

    /// The guards that this state witnesses, as a set of indexes below 64.
    fn guards(&self, state: &Self::State) -> u64;
}

/// The smallest index in a set of laws.
#[inline]
fn first_law(laws: u64) -> Option<usize> {
    (laws != 0).then(|| laws.trailing_zeros() as usize)
}

/// Explores `system` with [`Bounds::threads`] threads, for configurations of millions of states.
///
/// After a violation it searches a second time, on one thread, for the shortest path; so verdict
/// and path do not depend on the threads. Memory: 20 to 40 bytes a state, and each state that waits
/// to be visited with the indexes of its path, 8 bytes a step; with liveness 12 bytes a state and 8
/// an edge more. `progress` is called on the calling thread about twice a second.
///
/// # Panics
/// If the system does: the panic of a worker is passed on.
pub fn check<S: TransitionSystem>(
    system: &Arc<S>,
    bounds: &Bounds,
    progress: &dyn Fn(SearchProgress),
) -> SearchOutcome<S::Action> {
    let watch = SearchMonitor::new(bounds, progress);
    let (tally, end, records) = stateright::explore(system, &watch);
    let (verdict, traps) = match end {
        stateright::ExplorationEnd::Stopped(reason) => (SearchVerdict::Stopped(reason), None),
        stateright::ExplorationEnd::Violated { law, path } => {
            drop(records);
            let found = shorten(system.as_ref(), &watch, &SearchTarget::LawsOnly);
            (found.unwrap_or_else(|| minimised(system.as_ref(), law, &path)), None)
        }
        stateright::ExplorationEnd::Complete if !bounds.liveness => (SearchVerdict::Holds, None),
        stateright::ExplorationEnd::Complete => {
            watch.enter(SearchPhase::Liveness);
            match liveness::traps(records, &watch) {
                Err(reason) => (SearchVerdict::Stopped(reason), None),
                Ok(traps) if traps.is_empty() => (SearchVerdict::Holds, Some(0)),
                Ok(traps) => {
                    let found = shorten(system.as_ref(), &watch, &SearchTarget::Traps(&traps));
                    (found.unwrap_or_else(missing), Some(traps.len() as u64))
                }
            }
        }
    };
    watch.outcome(tally, verdict, traps, stateright::FOLDS)
}

/// Explores `system` on one thread and stops at the first violated law in breadth-first order;
/// with [`Bounds::liveness`] it then looks for traps. Quick to start, for hundreds of small runs.
/// `progress` is called about twice a second.
pub fn hunt<S: TransitionSystem>(
    system: &S,
    bounds: &Bounds,
    progress: &dyn Fn(SearchProgress),
) -> SearchOutcome<S::Action> {
    let watch = SearchMonitor::new(bounds, progress);
    let mut search = Search::new(system, &watch);
    let (verdict, traps) = match search.run(&SearchTarget::LawsOnly, bounds.liveness) {
        shortest::SearchEnd::Stopped(reason) => (SearchVerdict::Stopped(reason), None),
        shortest::SearchEnd::Bad(id, law) => (shortest_path(&search, id, law), None),
        shortest::SearchEnd::Complete if !bounds.liveness => (SearchVerdict::Holds, None),
        shortest::SearchEnd::Complete => {
            watch.enter(SearchPhase::Liveness);
            match search.traps() {
                Err(reason) => (SearchVerdict::Stopped(reason), None),
                Ok(traps) => {
                    let nearest = traps.first().map(|&id| shortest_path(&search, id, None));
                    (nearest.unwrap_or(SearchVerdict::Holds), Some(traps.len() as u64))
                }
            }
        }
    };
    watch.outcome(search.tally, verdict, traps, 1)
}

/// Searches the nearest bad state; `None` if a bound stopped the search.
fn shorten<S: TransitionSystem>(
    system: &S,
    watch: &SearchMonitor<'_>,
    target: &SearchTarget<'_>,
) -> Option<SearchVerdict<S::Action>> {
    watch.enter(SearchPhase::Shorten);
    let mut search = Search::new(system, watch);
    match search.run(target, false) {
        shortest::SearchEnd::Bad(id, law) => Some(shortest_path(&search, id, law)),
        shortest::SearchEnd::Complete | shortest::SearchEnd::Stopped(_) => None,
    }
}

fn shortest_path<S: TransitionSystem>(
    search: &Search<'_, S>,
    id: u32,
    law: Option<usize>,
) -> SearchVerdict<S::Action> {
    let violation = law.map_or(StateViolation::Trap, StateViolation::Law);
    SearchVerdict::Violated { violation, path: search.path(id), quality: PathQuality::Shortest }
}

/// The violation that the parallel search found, if no shorter path is known.
fn minimised<S: TransitionSystem>(
    system: &S,
    law: usize,
    path: &[S::Action],
) -> SearchVerdict<S::Action> {
    let path = minimise(system, path, |state| system.violations(state) >> law & 1 == 1);
    SearchVerdict::Violated {
        violation: StateViolation::Law(law),
        path,
        quality: PathQuality::Minimised,
    }
}

fn missing<A>() -> SearchVerdict<A> {
    SearchVerdict::Violated {
        violation: StateViolation::Trap,
        path: Vec::new(),
        quality: PathQuality::Missing,
    }
}
