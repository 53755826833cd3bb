//! Toy systems: what the explorers must find, count and refuse.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A graph given edge by edge; node 0 is the initial state.
#[derive(Clone, Debug, Default)]
pub(super) struct Toy {
    pub(super) edges: Vec<Vec<ToyEdge>>,
    /// Laws violated by each node; absent is none.
    pub(super) laws: Vec<(u16, u64)>,
    pub(super) goals: BTreeSet<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ToyEdge {
    pub(super) to: u16,
    pub(super) fault: bool,
}

impl Toy {
    pub(super) fn new(nodes: u16, edges: &[(u16, u16)], goals: &[u16]) -> Self {
        let mut toy = Self { edges: vec![Vec::new(); nodes.into()], ..Self::default() };
        edges.iter().for_each(|&(from, to)| toy.edge(from, to, false));
        toy.goals = goals.iter().copied().collect();
        toy
    }

    pub(super) fn edge(&mut self, from: u16, to: u16, fault: bool) {
        self.edges[usize::from(from)].push(ToyEdge { to, fault });
    }
}

impl TransitionSystem for Toy {
    type State = u16;
    type Action = ToyEdge;

    fn initial(&self) -> u16 {
        0
    }
    fn actions(&self, state: &u16, out: &mut Vec<ToyEdge>) {
        out.extend(&self.edges[usize::from(*state)]);
    }
    fn apply(&self, state: &u16, action: &ToyEdge, marks: &mut MarkSet) -> u16 {
        marks.insert(usize::from(*state) % MarkSet::CAPACITY);
        action.to
    }
    fn violations(&self, state: &u16) -> u64 {
        self.laws.iter().filter(|(node, _)| node == state).fold(0, |all, (_, laws)| all | laws)
    }
    fn is_goal(&self, state: &u16) -> bool {
        self.goals.contains(state)
    }
    fn is_fault(&self, action: &ToyEdge) -> bool {
        action.fault
    }
    fn action_kinds(&self) -> &'static [&'static str] {
        &["step", "fault"]
    }
    fn kind(&self, action: &ToyEdge) -> usize {
        usize::from(action.fault)
    }
    fn guard_names(&self) -> Vec<String> {
        vec!["at node 0".into(), "at a goal".into()]
    }
    fn guards(&self, state: &u16) -> u64 {
        u64::from(*state == 0) | u64::from(self.is_goal(state)) << 1
    }
}

/// `counters` counters that go up to `max` one by one, and a crash that takes one back to zero.
/// Endless if `max` is 0.
pub(super) struct Counters {
    pub(super) counters: usize,
    pub(super) max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CounterAction {
    Up(usize),
    Crash(usize),
}

impl TransitionSystem for Counters {
    type State = Vec<u32>;
    type Action = CounterAction;

    fn initial(&self) -> Vec<u32> {
        vec![0; self.counters]
    }
    fn actions(&self, state: &Vec<u32>, out: &mut Vec<CounterAction>) {
        for (i, &count) in state.iter().enumerate() {
            if self.max == 0 || count < self.max {
                out.push(CounterAction::Up(i));
            }
            if count == 1 {
                out.push(CounterAction::Crash(i));
            }
        }
    }
    fn apply(&self, state: &Vec<u32>, action: &CounterAction, marks: &mut MarkSet) -> Vec<u32> {
        let mut next = state.clone();
        match *action {
            CounterAction::Up(i) => {
                marks.insert(next[i] as usize % 8);
                next[i] += 1;
            }
            CounterAction::Crash(i) => {
                marks.insert(100 + i);
                next[i] = 0;
            }
        }
        next
    }
    fn violations(&self, _: &Vec<u32>) -> u64 {
        0
    }
    fn is_goal(&self, state: &Vec<u32>) -> bool {
        state.iter().all(|&count| count == self.max)
    }
    fn is_fault(&self, action: &CounterAction) -> bool {
        matches!(action, CounterAction::Crash(_))
    }
    fn action_kinds(&self) -> &'static [&'static str] {
        &["up", "crash"]
    }
    fn kind(&self, action: &CounterAction) -> usize {
        usize::from(self.is_fault(action))
    }
    fn guard_names(&self) -> Vec<String> {
        vec!["all counters equal".into()]
    }
    fn guards(&self, state: &Vec<u32>) -> u64 {
        u64::from(state.iter().all(|count| *count == state[0]))
    }
}

fn quiet(_: SearchProgress) {}

/// The outcomes of all explorers: one thread, two threads, hunt, exact.
fn all<S: TransitionSystem>(system: S, bounds: &Bounds) -> Vec<SearchOutcome<S::Action>> {
    let system = Arc::new(system);
    vec![
        check(&system, bounds, &quiet),
        check(&system, &Bounds { threads: 2, ..bounds.clone() }, &quiet),
        hunt(system.as_ref(), bounds, &quiet),
        check_exact(system.as_ref(), bounds, &quiet),
    ]
}

fn path_of<A: Clone>(verdict: &SearchVerdict<A>) -> (StateViolation, Vec<A>) {
    match verdict {
        SearchVerdict::Violated { violation, path, quality: PathQuality::Shortest } => {
            (*violation, path.clone())
        }
        _ => panic!("no shortest counterexample"),
    }
}

#[test]
fn the_counts_are_pinned_and_equal_in_all_explorers() {
    for outcome in all(Counters { counters: 4, max: 6 }, &Bounds::default()) {
        assert_eq!(outcome.verdict, SearchVerdict::Holds);
        assert!(outcome.is_ok());
        // 7^4 states; 4 counters, each with 6 ups and one crash for 7^3 states of the others.
        assert_eq!(outcome.unique, 2_401);
        assert_eq!(outcome.action_counts, vec![4 * 6 * 343, 4 * 343]);
        assert_eq!(outcome.generated, 1 + 4 * 7 * 343);
        assert_eq!(outcome.marks, (0..6).chain(100..104).collect());
        assert_eq!((outcome.guards, outcome.missed_guards(0b11)), (1, 0b10));
        assert_eq!((outcome.goal_states, outcome.traps), (1, Some(0)));
        assert!(outcome.depth >= 24, "{}", outcome.depth);
    }
    let [one, _, hunted, exact] = &all(Counters { counters: 4, max: 6 }, &Bounds::default())[..]
    else {
        panic!("four explorers")
    };
    assert_eq!((one.depth, hunted.depth, exact.depth), (24, 24, 24));
    assert!(one.collision_bound > hunted.collision_bound && exact.collision_bound == 0.0);
}

#[test]
fn a_bug_of_five_steps_is_found_with_five_steps() {
    // A detour of 1,000 steps comes first in the order of the actions.
    let mut edges: Vec<_> = (0..999).map(|n| (if n == 0 { 0 } else { 9 + n }, 10 + n)).collect();
    edges.extend([(1008, 5), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (3, 0)]);
    let mut toy = Toy::new(1009, &edges, &[5]);
    toy.laws = vec![(5, 0b110)];
    for outcome in all(toy.clone(), &Bounds::default()) {
        let (violation, path) = path_of(&outcome.verdict);
        assert_eq!(violation, StateViolation::Law(1));
        assert_eq!(path.iter().map(|edge| edge.to).collect::<Vec<_>>(), vec![1, 2, 3, 4, 5]);
        assert_eq!(outcome.traps, None);
    }
    // Laws are ignored by mask.
    for outcome in all(toy.clone(), &Bounds { laws: !0b10, ..Bounds::default() }) {
        assert_eq!(path_of(&outcome.verdict).0, StateViolation::Law(2));
    }
    for outcome in all(toy, &Bounds { laws: !0b110, ..Bounds::default() }) {
        assert_eq!((outcome.verdict, outcome.traps), (SearchVerdict::Holds, Some(0)));
    }
}

#[test]
fn a_violated_initial_state_has_an_empty_path() {
    let mut toy = Toy::new(1, &[], &[0]);
    toy.laws = vec![(0, 1 << 63)];
    for outcome in all(toy, &Bounds::default()) {
        assert_eq!(path_of(&outcome.verdict), (StateViolation::Law(63), vec![]));
    }
}

#[test]
fn a_cycle_and_a_join_are_traps() {
    // 1 and 2 go round for ever; the goal 3 is beside them.
    let cycle = Toy::new(4, &[(0, 3), (0, 1), (1, 2), (2, 1)], &[3]);
    // 3 is reached first through the goal 1, then through 2, and ends there.
    let join = Toy::new(4, &[(0, 1), (0, 2), (1, 3), (2, 3)], &[1]);
    // 2 is reached by a fault, and only a fault leads out.
    let mut fault = Toy::new(3, &[(0, 1)], &[1]);
    fault.edge(0, 2, true);
    fault.edge(2, 1, true);
    for (toy, traps, last) in [(cycle, 2, 1), (join, 2, 2), (fault, 1, 2)] {
        for outcome in all(toy.clone(), &Bounds::default()) {
            let (violation, path) = path_of(&outcome.verdict);
            assert_eq!((violation, outcome.traps), (StateViolation::Trap, Some(traps)));
            assert_eq!(path.iter().map(|edge| edge.to).collect::<Vec<_>>(), vec![last]);
        }
        for outcome in all(toy, &Bounds { liveness: false, ..Bounds::default() }) {
            assert_eq!((outcome.verdict, outcome.traps), (SearchVerdict::Holds, None));
        }
    }
}

#[test]
fn what_stops_early_never_holds() {
    let raised = Some(Arc::new(AtomicBool::new(true)));
    let none = Bounds::default();
    let cases = [
        (Bounds { max_states: Some(500), ..none.clone() }, StopReason::States),
        (Bounds { timeout: Some(Duration::from_millis(50)), ..none.clone() }, StopReason::Timeout),
        (Bounds { timeout: Some(Duration::ZERO), ..none.clone() }, StopReason::Timeout),
        (Bounds { max_memory: Some(1), ..none.clone() }, StopReason::Memory),
        (Bounds { stop: raised, ..none.clone() }, StopReason::Interrupted),
    ];
    for (bounds, reason) in cases {
        for outcome in all(Counters { counters: 3, max: 0 }, &bounds) {
            assert!(!outcome.is_ok());
            if cfg!(target_os = "linux") || reason != StopReason::Memory {
                assert_eq!(outcome.verdict, SearchVerdict::Stopped(reason));
            }
        }
    }
    // The limit is the number of states that are still allowed, also for a search that ends before
    // the limit is checked.
    for (limit, holds) in [(2_401, true), (2_400, false)] {
        let bounds = Bounds { max_states: Some(limit), ..none.clone() };
        for outcome in all(Counters { counters: 4, max: 6 }, &bounds) {
            assert_eq!(outcome.is_ok(), holds, "{limit}: {:?}", outcome.verdict);
        }
    }
}

#[test]
fn an_interruption_stops_a_run_under_way_and_progress_is_reported() {
    let stop = Arc::new(AtomicBool::new(false));
    let bounds = Bounds { threads: 2, stop: Some(Arc::clone(&stop)), ..Bounds::default() };
    let progress = |progress: SearchProgress| {
        assert!(progress.unique > 0 && progress.generated >= progress.unique);
        assert_eq!(progress.phase, SearchPhase::Explore);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let outcome = check(&Arc::new(Counters { counters: 3, max: 0 }), &bounds, &progress);
    assert_eq!(outcome.verdict, SearchVerdict::Stopped(StopReason::Interrupted));
    assert!(outcome.seconds < 10.0, "{}", outcome.seconds);
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn a_panic_of_the_system_is_passed_on() {
    let bounds = Bounds { threads: 2, ..Bounds::default() };
    check(&Arc::new(Toy::new(1, &[(0, 7)], &[])), &bounds, &quiet);
}

#[test]
fn the_path_of_the_parallel_search_is_a_counterexample_too() {
    // This path is shown when a bound stops the search for the shortest one.
    let mut toy = Toy::new(6, &[(0, 0), (0, 1), (1, 2), (1, 3), (3, 4), (2, 4)], &[]);
    toy.laws = vec![(4, 0b100)];
    let bounds = Bounds { threads: 2, ..Bounds::default() };
    let toy = Arc::new(toy);
    let (_, end, _) = stateright::explore(&toy, &SearchMonitor::new(&bounds, &quiet));
    let stateright::ExplorationEnd::Violated { law: 2, path } = end else {
        panic!("law 2 is violated")
    };
    let SearchVerdict::Violated { violation, path, quality } = minimised(toy.as_ref(), 2, &path)
    else {
        panic!("a violation stays one")
    };
    assert_eq!(
        (violation, quality, path.len()),
        (StateViolation::Law(2), PathQuality::Minimised, 3)
    );
    assert_eq!(replay(toy.as_ref(), &path), Some(4));
}

#[test]
fn an_edge_to_a_state_that_was_never_visited_is_a_collision() {
    let bounds = Bounds::default();
    let watch = SearchMonitor::new(&bounds, &quiet);
    let record = |edges: &[(u64, u64)]| {
        let mut record = liveness::EdgeLog::default();
        for &(from, to) in edges {
            record.state(from, from == 3);
            record.edge(from, to);
        }
        record
    };
    let records = || vec![record(&[(5, 3), (u64::MAX, 9)]), record(&[(3, 3), (9, u64::MAX)])];
    assert_eq!(liveness::traps(records(), &watch), Ok(vec![9, u64::MAX]));
    let lost = vec![record(&[(5, 3), (3, 4)])];
    assert_eq!(liveness::traps(lost, &watch), Err(StopReason::Collision));
}

#[test]
fn minimise_drops_what_the_violation_does_not_need() {
    // Law 0 needs counter 0 at 2, whatever the others do.
    let counters = Counters { counters: 3, max: 9 };
    let bad = |state: &Vec<u32>| state[0] >= 2;
    let (up, crash) = (CounterAction::Up, CounterAction::Crash);
    let walk = [up(1), up(0), up(2), crash(0), up(1), up(0), up(0), up(0), up(2)];
    let path = minimise(&counters, &walk, bad);
    assert_eq!(path, vec![up(0), up(0)]);
    assert_eq!(replay(&counters, &path).map(|state| bad(&state)), Some(true));
    // An action that is not enabled is not replayed, and a path that leads nowhere bad comes back.
    assert_eq!(replay(&counters, &[crash(0)]), None);
    assert_eq!(minimise(&counters, &walk[..3], bad), walk[..3].to_vec());
    assert_eq!(minimise(&counters, &walk, |_| true), vec![]);
}

/// Distance of every node from node 0, by relaxing until nothing changes.
fn distances(toy: &Toy) -> Vec<Option<usize>> {
    let mut distance = vec![None; toy.edges.len()];
    distance[0] = Some(0);
    for _ in 0..toy.edges.len() {
        for (from, edges) in toy.edges.iter().enumerate() {
            for to in edges.iter().map(|edge| usize::from(edge.to)) {
                if let Some(d) = distance[from] {
                    distance[to] = Some(distance[to].map_or(d + 1, |old: usize| old.min(d + 1)));
                }
            }
        }
    }
    distance
}

/// True if a goal can be reached from `node` without a fault, by growing the set of reached nodes.
fn can_finish(toy: &Toy, node: u16) -> bool {
    let mut reached = BTreeSet::from([node]);
    for _ in 0..toy.edges.len() {
        for from in reached.clone() {
            let steps = toy.edges[usize::from(from)].iter().filter(|edge| !edge.fault);
            reached.extend(steps.map(|edge| edge.to));
        }
    }
    !reached.is_disjoint(&toy.goals)
}

fn toys() -> impl Strategy<Value = Toy> {
    (1..14u16).prop_flat_map(|nodes| {
        let edges = prop::collection::vec((0..nodes, 0..nodes, prop::bool::weighted(0.3)), 0..30);
        let goals = prop::collection::btree_set(0..nodes, 0..4);
        let laws = prop::collection::vec((0..nodes, 1..4u64), 0..2);
        (edges, goals, laws).prop_map(move |(edges, goals, laws)| {
            let mut toy = Toy::new(nodes, &[], &[]);
            for (from, to, fault) in edges {
                if !toy.edges[usize::from(from)].contains(&ToyEdge { to, fault }) {
                    toy.edge(from, to, fault);
                }
            }
            Toy { goals, laws, ..toy }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn random_graphs_agree_with_a_naive_oracle(toy in toys()) {
        let distance = distances(&toy);
        let reached = || (0..).zip(&distance).filter_map(|(node, d)| d.map(|d| (node, d)));
        let lawless = reached().filter(|(n, _)| toy.violations(n) != 0).map(|(_, d)| d).min();
        let traps: Vec<_> = reached().filter(|(n, _)| !can_finish(&toy, *n)).collect();
        let outcomes = all(toy.clone(), &Bounds::default());
        for outcome in &outcomes {
            match (lawless, traps.iter().map(|(_, d)| *d).min()) {
                (None, None) => {
                    prop_assert_eq!(&outcome.verdict, &SearchVerdict::Holds);
                    prop_assert_eq!(outcome.traps, Some(0));
                }
                (law, trap) => {
                    let (violation, path) = path_of(&outcome.verdict);
                    prop_assert_eq!(Some(path.len()), law.or(trap));
                    let end = replay(&toy, &path).expect("every action of a path is enabled");
                    match violation {
                        StateViolation::Law(law) => prop_assert_eq!(toy.violated(&end), Some(law)),
                        StateViolation::Trap => {
                            prop_assert!(!can_finish(&toy, end));
                            prop_assert_eq!(outcome.traps, Some(traps.len() as u64));
                        }
                    }
                }
            }
            prop_assert_eq!(&outcome.verdict, &outcomes[3].verdict);
            if lawless.is_none() {
                let counts = |o: &SearchOutcome<ToyEdge>| {
                    let states = (o.unique, o.generated, o.goal_states);
                    (states, o.action_counts.clone(), o.marks, o.guards)
                };
                prop_assert_eq!(outcome.unique, reached().count() as u64);
                prop_assert_eq!(counts(outcome), counts(&outcomes[3]));
            }
        }
    }
}
