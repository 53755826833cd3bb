//! The explorer without assumptions: whole states, one thread, and nothing shared with the other
//! explorers but the counters and the clock.
//!
//! It cross-checks the other two on small configurations. They keep fingerprints, so they could
//! take one state for another; equal counts prove that they did not. Its liveness check is written
//! the naive way for the same reason.

use super::monitor::{SearchCounts, SearchMonitor};
use super::outcome::{
    Bounds, PathQuality, SearchOutcome, SearchPhase, SearchProgress, SearchVerdict, StateViolation,
    StopReason,
};
use super::{TransitionSystem, first_law};
use std::collections::HashMap;
use std::sync::Arc;

/// Explores `system` with whole states on one thread. A violation comes with the shortest path.
///
/// Memory: each state once, and 4 bytes an edge; meant for less than a few million states.
/// `progress` is called about twice a second.
pub fn check_exact<S: TransitionSystem>(
    system: &S,
    bounds: &Bounds,
    progress: &dyn Fn(SearchProgress),
) -> SearchOutcome<S::Action> {
    let watch = SearchMonitor::new(bounds, progress);
    let mut explorer = Exact {
        system,
        watch: &watch,
        tally: SearchCounts::new(system),
        numbers: HashMap::new(),
        states: Vec::new(),
        parents: Vec::new(),
        before: Vec::new(),
        goals: Vec::new(),
    };
    let (verdict, traps) = match explorer.explore() {
        Err(stopped) => (SearchVerdict::Stopped(stopped), None),
        Ok(Some((bad, law))) => (explorer.violated(bad, StateViolation::Law(law)), None),
        Ok(None) if !bounds.liveness => (SearchVerdict::Holds, None),
        Ok(None) => match explorer.traps() {
            Err(stopped) => (SearchVerdict::Stopped(stopped), None),
            Ok(traps) => {
                // Numbers follow the order of discovery, so the first trap is a nearest one.
                let nearest =
                    traps.first().map(|&bad| explorer.violated(bad, StateViolation::Trap));
                (nearest.unwrap_or(SearchVerdict::Holds), Some(traps.len() as u64))
            }
        },
    };
    watch.outcome(explorer.tally, verdict, traps, 0)
}

struct Exact<'a, S: TransitionSystem> {
    system: &'a S,
    watch: &'a SearchMonitor<'a>,
    tally: SearchCounts,
    numbers: HashMap<Arc<S::State>, usize>,
    states: Vec<Arc<S::State>>,
    /// Parent and the action taken there; none for the initial state.
    parents: Vec<Option<(usize, S::Action)>>,
    /// Predecessors by edges that are not faults.
    before: Vec<Vec<u32>>,
    goals: Vec<usize>,
}

impl<S: TransitionSystem> Exact<'_, S> {
    /// Visits every state in order of distance; returns the first that violates a law.
    fn explore(&mut self) -> Result<Option<(usize, usize)>, StopReason> {
        let laws = self.watch.bounds.laws;
        self.tally.generated = 1;
        self.number(self.system.initial(), None)?;
        let (mut layer_end, mut at) = (1, 0);
        while at < self.states.len() {
            if at == layer_end {
                layer_end = self.states.len();
                self.tally.depth += 1;
            }
            if at.is_multiple_of(256)
                && let Some(reason) = self.watch.poll(&self.tally)
            {
                return Err(reason);
            }
            let state = Arc::clone(&self.states[at]);
            if let Some(law) = first_law(self.system.violations(&state) & laws) {
                return Ok(Some((at, law)));
            }
            if self.tally.visit(self.system, &state) {
                self.goals.push(at);
            }
            let mut enabled = Vec::new();
            self.system.actions(&state, &mut enabled);
            for action in enabled {
                let next = self.system.apply(&state, &action, &mut self.tally.marks);
                self.tally.generated += 1;
                self.tally.action_counts[self.system.kind(&action)] += 1;
                let fault = self.system.is_fault(&action);
                let to = self.number(next, Some((at, action)))?;
                if !fault && self.watch.bounds.liveness {
                    self.before[to].push(at as u32);
                }
            }
            at += 1;
        }
        Ok(None)
    }

    /// The number of a state, a new one if the state is new.
    fn number(
        &mut self,
        state: S::State,
        parent: Option<(usize, S::Action)>,
    ) -> Result<usize, StopReason> {
        if let Some(&known) = self.numbers.get(&state) {
            return Ok(known);
        }
        let number = self.states.len();
        if number == u32::MAX as usize || self.watch.too_many(number as u64 + 1) {
            return Err(StopReason::States);
        }
        let state = Arc::new(state);
        self.numbers.insert(Arc::clone(&state), number);
        self.states.push(state);
        self.parents.push(parent);
        self.before.push(Vec::new());
        self.tally.unique += 1;
        Ok(number)
    }

    /// The states from which no goal can be reached without a fault, in order of discovery.
    fn traps(&self) -> Result<Vec<usize>, StopReason> {
        self.watch.enter(SearchPhase::Liveness);
        self.watch.poll_idle()?;
        let mut met = vec![false; self.states.len()];
        let mut ahead = self.goals.clone();
        while let Some(state) = ahead.pop() {
            if !met[state] {
                met[state] = true;
                ahead.extend(self.before[state].iter().map(|&from| from as usize));
            }
        }
        Ok((0..met.len()).filter(|&state| !met[state]).collect())
    }

    fn violated(&self, bad: usize, violation: StateViolation) -> SearchVerdict<S::Action> {
        let (mut path, mut at) = (Vec::new(), bad);
        while let Some((parent, action)) = &self.parents[at] {
            path.push(action.clone());
            at = *parent;
        }
        path.reverse();
        SearchVerdict::Violated { violation, path, quality: PathQuality::Shortest }
    }
}
