//! The parallel search, by stateright. No other file of the workspace names that crate.
//!
//! This crate uses one part of it: a parallel breadth-first search over one `always` property. The
//! rest is kept out on purpose. `eventually` misses violations on cycles and at joins. Several
//! properties spoil the order of the search. `timeout` is ignored with one thread and, like the
//! target counts, ends in a run that passes. The visitor rebuilds a whole path for every state. So
//! the watching, the counting and the recording of edges are done here.
//!
//! In a worker, for each state exactly once: the property is evaluated ([`Adapter::visit`]),
//! then the actions are listed, then each action is applied; all of it before the worker takes the
//! next state. [`EdgeLog`] depends on that order and asserts it in debug builds.
//!
//! To stop from outside, [`Probe::mode`] is set to [`HALT`]: no state has actions any more, and the
//! queue runs empty.

use super::liveness::EdgeLog;
use super::monitor::{SearchCounts, SearchMonitor};
use super::outcome::StopReason;
use super::{MarkSet, TransitionSystem, fingerprint, first_law};
use ::stateright::{Checker, Model, Property};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The number of times that a state is folded to 64 bits: once by the fingerprint, and then twice
/// more, because stateright hashes the fingerprint with a hasher that folds when it takes a word
/// and when it finishes.
pub(super) const FOLDS: u32 = 3;

const LAWS: &str = "no law is violated";

/// Search and record.
const SEARCH: u8 = 0;
/// Generate no more states.
const HALT: u8 = 1;
/// stateright re-executes a path; its calls are not part of the search.
const REPLAY: u8 = 2;

/// The end of a search.
pub(super) enum ExplorationEnd<A> {
    /// Every state was visited and no law is violated.
    Complete,
    /// A law is violated; the path need not be the shortest.
    Violated { law: usize, path: Vec<A> },
    /// A bound was exceeded.
    Stopped(StopReason),
}

/// Visits the reachable states with `bounds.threads` threads.
pub(super) fn explore<S: TransitionSystem>(
    system: &Arc<S>,
    watch: &SearchMonitor<'_>,
) -> (SearchCounts, ExplorationEnd<S::Action>, Vec<EdgeLog>) {
    let threads = watch.bounds.threads.max(1);
    let probe =
        Arc::new(Probe::new(system.as_ref(), threads, watch.bounds.laws, watch.bounds.liveness));
    let adapter = Adapter { system: Arc::clone(system), probe: Arc::clone(&probe) };
    let mut tally = SearchCounts::new(system.as_ref());
    if let Some(reason) = watch.poll(&tally) {
        return (tally, ExplorationEnd::Stopped(reason), Vec::new());
    }
    let mut checker = adapter.checker().threads(threads).spawn_bfs();
    let workers = checker.handles();
    let mut stopped = None;
    let mut pause = Duration::from_micros(50);
    while !workers.iter().all(|worker| worker.is_finished()) {
        std::thread::sleep(pause);
        // Short at first, so that a small system is not held up.
        pause = (pause * 2).min(Duration::from_millis(10));
        count(&mut tally, &checker);
        if stopped.is_none() {
            stopped = watch.poll(&tally);
            if watch.too_many(tally.unique) {
                stopped = stopped.or(Some(StopReason::States));
            }
            if stopped.is_some() {
                probe.mode.store(HALT, Ordering::Relaxed);
            }
        }
    }
    for worker in workers {
        if let Err(panic) = worker.join() {
            // A panic of the system is a bug of the system; the caller must see it as it was.
            std::panic::resume_unwind(panic);
        }
    }
    count(&mut tally, &checker);
    if watch.too_many(tally.unique) {
        stopped = stopped.or(Some(StopReason::States));
    }
    let found = *lock(&probe.violated);
    let end = match (found, stopped) {
        // A violation counts, whatever else happened.
        (Some(_), _) => {
            probe.mode.store(REPLAY, Ordering::Relaxed);
            let path = checker.discovery(LAWS).map_or(Vec::new(), |path| path.into_actions());
            // stateright and the probe keep the find of the thread that was last, and two threads
            // can have found different ones: ask the state itself.
            let state = super::replay(system.as_ref(), &path);
            let laws = state.map_or(0, |state| system.violations(&state)) & watch.bounds.laws;
            ExplorationEnd::Violated { law: first_law(laws).or(found).unwrap_or_default(), path }
        }
        (None, Some(reason)) => ExplorationEnd::Stopped(reason),
        (None, None) => ExplorationEnd::Complete,
    };
    let mut records = Vec::new();
    for shard in &probe.shards {
        let mut shard = lock(&shard.0);
        tally.merge(&shard.tally);
        records.push(std::mem::take(&mut shard.record));
    }
    (tally, end, records)
}

/// Copies the figures that only stateright counts.
fn count<M: Model>(tally: &mut SearchCounts, checker: &impl Checker<M>) {
    tally.unique = checker.unique_state_count() as u64;
    tally.generated = checker.state_count() as u64;
    // It calls the initial state depth 1.
    tally.depth = (checker.max_depth() as u64).saturating_sub(1);
}

/// The value in a lock. A panic of a worker poisons its shard, which only that worker uses;
/// [`explore`] passes the panic on before it reads one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The notes of the workers while they search.
struct Probe {
    /// Distinguishes this run from others in [`Probe::shard`].
    run: u64,
    mode: AtomicU8,
    laws: u64,
    edges: bool,
    violated: Mutex<Option<usize>>,
    /// One for each worker: its lock is never contended.
    shards: Vec<Padded>,
    next_shard: AtomicUsize,
}

/// Keeps the shards of two workers out of one cache line.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

struct Shard {
    tally: SearchCounts,
    record: EdgeLog,
}

impl Probe {
    fn new<S: TransitionSystem>(system: &S, threads: usize, laws: u64, edges: bool) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(1);
        let shard = || Shard { tally: SearchCounts::new(system), record: EdgeLog::default() };
        Self {
            run: RUNS.fetch_add(1, Ordering::Relaxed),
            mode: AtomicU8::new(SEARCH),
            laws,
            edges,
            violated: Mutex::new(None),
            shards: (0..threads).map(|_| Padded(Mutex::new(shard()))).collect(),
            next_shard: AtomicUsize::new(0),
        }
    }

    fn mode(&self) -> u8 {
        self.mode.load(Ordering::Relaxed)
    }

    /// The shard of the calling thread.
    #[inline]
    fn shard(&self) -> MutexGuard<'_, Shard> {
        thread_local! {
            /// The run that this thread works for and its shard there; run 0 is none.
            static PLACE: Cell<(u64, usize)> = const { Cell::new((0, 0)) };
        }
        let (run, mut place) = PLACE.get();
        if run != self.run {
            place = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len();
            PLACE.set((self.run, place));
        }
        lock(&self.shards[place].0)
    }
}

/// A state and its fingerprint. stateright hashes a state twice or more; it is given the
/// fingerprint to hash, so the state itself is hashed once.
#[derive(Clone)]
struct HashedState<T> {
    state: T,
    fingerprint: u64,
}

impl<T: Hash> HashedState<T> {
    fn new(state: T) -> Self {
        Self { fingerprint: fingerprint(&state), state }
    }
}

impl<T: PartialEq> PartialEq for HashedState<T> {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl<T> Hash for HashedState<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.fingerprint);
    }
}

struct Adapter<S> {
    system: Arc<S>,
    probe: Arc<Probe>,
}

impl<S: TransitionSystem> Adapter<S> {
    /// The condition of the one property; a worker evaluates it once for each state.
    fn visit(&self, node: &HashedState<S::State>) -> bool {
        if self.probe.mode() != SEARCH {
            return true;
        }
        if let Some(law) = first_law(self.system.violations(&node.state) & self.probe.laws) {
            *lock(&self.probe.violated) = Some(law);
            return false;
        }
        let mut shard = self.probe.shard();
        let goal = shard.tally.visit(self.system.as_ref(), &node.state);
        if self.probe.edges {
            shard.record.state(node.fingerprint, goal);
        }
        true
    }
}

impl<S: TransitionSystem> Model for Adapter<S> {
    type State = HashedState<S::State>;
    type Action = S::Action;

    fn init_states(&self) -> Vec<Self::State> {
        vec![HashedState::new(self.system.initial())]
    }

    fn actions(&self, node: &Self::State, actions: &mut Vec<Self::Action>) {
        if self.probe.mode() != HALT {
            self.system.actions(&node.state, actions);
        }
    }

    fn next_state(&self, from: &Self::State, action: Self::Action) -> Option<Self::State> {
        if self.probe.mode() == REPLAY {
            return Some(HashedState::new(self.system.apply(
                &from.state,
                &action,
                &mut MarkSet::new(),
            )));
        }
        let mut shard = self.probe.shard();
        let to = HashedState::new(self.system.apply(&from.state, &action, &mut shard.tally.marks));
        shard.tally.action_counts[self.system.kind(&action)] += 1;
        if self.probe.edges && !self.system.is_fault(&action) {
            shard.record.edge(from.fingerprint, to.fingerprint);
        }
        Some(to)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(LAWS, Self::visit)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Toy;
    use super::super::{
        Bounds, MarkSet, PathQuality, SearchVerdict, StateViolation, TransitionSystem, hunt,
    };
    use ::stateright::{Checker, Model, Property};

    /// The toy as stateright would have it, with the property we do not use.
    struct Eventually(Toy);

    impl Model for Eventually {
        type State = u16;
        type Action = <Toy as TransitionSystem>::Action;

        fn init_states(&self) -> Vec<u16> {
            vec![0]
        }
        fn actions(&self, state: &u16, actions: &mut Vec<Self::Action>) {
            self.0.actions(state, actions);
        }
        fn next_state(&self, state: &u16, action: Self::Action) -> Option<u16> {
            Some(self.0.apply(state, &action, &mut MarkSet::new()))
        }
        fn properties(&self) -> Vec<Property<Self>> {
            vec![Property::eventually("goal", |model, state| model.0.is_goal(state))]
        }
    }

    /// If this fails because stateright has learnt it: good, and nothing here depends on it.
    #[test]
    fn eventually_passes_where_a_trap_is_reachable() {
        let cycle = Toy::new(4, &[(0, 3), (0, 1), (1, 2), (2, 1)], &[3]);
        let join = Toy::new(4, &[(0, 1), (0, 2), (1, 3), (2, 3)], &[1]);
        for toy in [cycle, join] {
            let checker = Eventually(toy.clone()).checker().spawn_bfs().join();
            checker.assert_properties();
            assert!(checker.is_done());
            let outcome = hunt(&toy, &Bounds::default(), &|_| ());
            let SearchVerdict::Violated { violation, quality, .. } = outcome.verdict else {
                panic!("the trap was not found")
            };
            assert_eq!((violation, quality), (StateViolation::Trap, PathQuality::Shortest));
        }
    }
}
