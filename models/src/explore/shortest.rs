//! A breadth-first search on one thread: fingerprints, parent pointers, shortest paths.
//!
//! A whole state is kept only while it waits in the queue. A visited one costs its fingerprint, its
//! number and the number and action of its parent, 30 to 50 bytes. It serves two ends.
//! [`hunt`](super::hunt) is quick to start and stops at the first bad state, for the hundreds of
//! runs of a mutation score. [`check`](super::check) re-runs it for the shortest path when the
//! parallel search has found a violation.

use super::liveness::StateGraph;
use super::monitor::{SearchCounts, SearchMonitor};
use super::outcome::StopReason;
use super::{MarkSet, TransitionSystem, fingerprint, first_law};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;

/// The number of states that are expanded between two looks at the clock.
const POLL_EVERY: u32 = 256;

/// The states that are bad besides those that violate a law.
pub(super) enum SearchTarget<'a> {
    /// Nothing.
    LawsOnly,
    /// The states with these fingerprints, which are sorted.
    Traps(&'a [u64]),
}

/// The end of a search.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SearchEnd {
    /// All states were visited.
    Complete,
    /// The state of this number is bad: the law, or `None` for a trap.
    Bad(u32, Option<usize>),
    Stopped(StopReason),
}

/// A search and its findings. States are numbered in the order of their discovery, so a smaller
/// number is never farther from the initial state.
pub(super) struct Search<'a, S: TransitionSystem> {
    system: &'a S,
    watch: &'a SearchMonitor<'a>,
    pub(super) tally: SearchCounts,
    seen: FxHashMap<u64, u32>,
    /// Parent and index of the action taken there; the initial state is its own parent.
    parents: Vec<(u32, u32)>,
    /// Edges that are not faults, by state in order of discovery; empty unless asked for.
    degrees: Vec<u32>,
    targets: Vec<u32>,
    graph: StateGraph,
}

impl<'a, S: TransitionSystem> Search<'a, S> {
    pub(super) fn new(system: &'a S, watch: &'a SearchMonitor<'a>) -> Self {
        Self {
            system,
            watch,
            tally: SearchCounts::new(system),
            seen: FxHashMap::default(),
            parents: Vec::new(),
            degrees: Vec::new(),
            targets: Vec::new(),
            graph: StateGraph::new(0),
        }
    }

    /// Visits states in order of their distance until one is bad. `edges` keeps the data that
    /// [`Search::traps`] needs.
    pub(super) fn run(&mut self, target: &SearchTarget<'_>, edges: bool) -> SearchEnd {
        let (system, watch) = (self.system, self.watch);
        let laws = watch.bounds.laws;
        let bad = |state: &S::State, fingerprint: u64| match target {
            SearchTarget::Traps(traps) if traps.binary_search(&fingerprint).is_ok() => Some(None),
            _ => first_law(system.violations(state) & laws).map(Some),
        };
        if let Some(reason) = watch.poll(&self.tally) {
            return SearchEnd::Stopped(reason);
        }
        let initial = system.initial();
        let name = fingerprint(&initial);
        self.seen.insert(name, 0);
        self.parents.push((0, 0));
        (self.tally.unique, self.tally.generated) = (1, 1);
        if let Some(law) = bad(&initial, name) {
            return SearchEnd::Bad(0, law);
        }
        let mut queue = VecDeque::from([(initial, 0u64)]);
        let (mut from, mut enabled) = (0u32, Vec::new());
        while let Some((state, depth)) = queue.pop_front() {
            if from.is_multiple_of(POLL_EVERY)
                && let Some(reason) = watch.poll(&self.tally)
            {
                return SearchEnd::Stopped(reason);
            }
            if self.tally.visit(system, &state) && edges {
                self.graph.goals.push(from);
            }
            let edges_before = self.targets.len();
            enabled.clear();
            system.actions(&state, &mut enabled);
            for (index, action) in enabled.iter().enumerate() {
                let next = system.apply(&state, action, &mut self.tally.marks);
                self.tally.generated += 1;
                self.tally.action_counts[system.kind(action)] += 1;
                let name = fingerprint(&next);
                let fresh = self.parents.len() as u32;
                let to = match self.seen.entry(name) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(_)
                        if fresh == u32::MAX || watch.too_many(u64::from(fresh) + 1) =>
                    {
                        return SearchEnd::Stopped(StopReason::States);
                    }
                    Entry::Vacant(place) => {
                        place.insert(fresh);
                        self.parents.push((from, index as u32));
                        self.tally.unique += 1;
                        self.tally.depth = depth + 1;
                        if let Some(law) = bad(&next, name) {
                            return SearchEnd::Bad(fresh, law);
                        }
                        queue.push_back((next, depth + 1));
                        fresh
                    }
                };
                if edges && to != from && !system.is_fault(action) {
                    self.targets.push(to);
                }
            }
            if edges {
                self.degrees.push((self.targets.len() - edges_before) as u32);
            }
            from += 1;
        }
        SearchEnd::Complete
    }

    /// The states from which no goal can be reached, nearest first, after a complete
    /// [`Search::run`] with edges.
    pub(super) fn traps(&mut self) -> Result<Vec<u32>, StopReason> {
        self.seen = FxHashMap::default();
        let goals = std::mem::take(&mut self.graph.goals);
        let mut graph = StateGraph::new(self.parents.len());
        graph.goals = goals;
        graph.stuck(self.watch, |edge| {
            let mut rest = self.targets.as_slice();
            for (from, &degree) in (0..).zip(&self.degrees) {
                let (mine, others) = rest.split_at(degree as usize);
                rest = others;
                mine.iter().for_each(|&to| edge(from, to));
            }
        })
    }

    /// The actions that lead from the initial state to the state of this number.
    pub(super) fn path(&self, mut id: u32) -> Vec<S::Action> {
        let mut indexes = Vec::new();
        while id != 0 {
            let (parent, index) = self.parents[id as usize];
            indexes.push(index as usize);
            id = parent;
        }
        let (mut marks, mut state) = (MarkSet::new(), self.system.initial());
        let step = |index| {
            let mut enabled = Vec::new();
            self.system.actions(&state, &mut enabled);
            let action = enabled.swap_remove(index);
            state = self.system.apply(&state, &action, &mut marks);
            action
        };
        indexes.into_iter().rev().map(step).collect()
    }
}
