//! The speed of exploring the World, next to a small well-known model on the same explorer in the
//! same run.
//!
//! The yardstick is two-phase commit after Gray and Lamport ("Consensus on Transaction Commit",
//! 2004), the same state space as the example that comes with stateright (288 states for 3 resource
//! managers, 8,832 for 5), written here for its own sake.
//!
//! `cargo run --release -p snapline-models --example yardstick`

use std::io::{self, Write};

use snapline_models::configs;
use snapline_models::explore::{Bounds, MarkSet, SearchOutcome, TransitionSystem};
use snapline_models::run::Engine;
use snapline_models::{explore, run};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
enum Manager {
    Working,
    Prepared,
    Committed,
    Aborted,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum TwoPhaseDecision {
    Open,
    Commit,
    Abort,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    managers: Vec<Manager>,
    decision: TwoPhaseDecision,
    /// The managers that the transaction manager knows to be prepared, and those that have said so:
    /// bits.
    known: u8,
    said: u8,
    /// True once "commit" and "abort" were sent.
    commit: bool,
    abort: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum TwoPhaseAction {
    Hear(usize),
    Commit,
    Abort,
    Prepare(usize),
    GiveUp(usize),
    ObeyCommit(usize),
    ObeyAbort(usize),
}

struct TwoPhaseCommit(usize);

impl TransitionSystem for TwoPhaseCommit {
    type State = State;
    type Action = TwoPhaseAction;

    fn initial(&self) -> State {
        let managers = vec![Manager::Working; self.0];
        State {
            managers,
            decision: TwoPhaseDecision::Open,
            known: 0,
            said: 0,
            commit: false,
            abort: false,
        }
    }

    fn actions(&self, state: &State, out: &mut Vec<TwoPhaseAction>) {
        let open = state.decision == TwoPhaseDecision::Open;
        if open && state.known.count_ones() as usize == self.0 {
            out.push(TwoPhaseAction::Commit);
        }
        if open {
            out.push(TwoPhaseAction::Abort);
        }
        for (place, manager) in state.managers.iter().enumerate() {
            if open && state.said >> place & 1 == 1 {
                out.push(TwoPhaseAction::Hear(place));
            }
            if *manager == Manager::Working {
                out.extend([TwoPhaseAction::Prepare(place), TwoPhaseAction::GiveUp(place)]);
            }
            if state.commit {
                out.push(TwoPhaseAction::ObeyCommit(place));
            }
            if state.abort {
                out.push(TwoPhaseAction::ObeyAbort(place));
            }
        }
    }

    fn apply(&self, state: &State, action: &TwoPhaseAction, _marks: &mut MarkSet) -> State {
        let mut state = state.clone();
        match *action {
            TwoPhaseAction::Hear(place) => state.known |= 1 << place,
            TwoPhaseAction::Commit => {
                (state.decision, state.commit) = (TwoPhaseDecision::Commit, true)
            }
            TwoPhaseAction::Abort => {
                (state.decision, state.abort) = (TwoPhaseDecision::Abort, true)
            }
            TwoPhaseAction::Prepare(place) => {
                state.managers[place] = Manager::Prepared;
                state.said |= 1 << place;
            }
            TwoPhaseAction::GiveUp(place) | TwoPhaseAction::ObeyAbort(place) => {
                state.managers[place] = Manager::Aborted
            }
            TwoPhaseAction::ObeyCommit(place) => state.managers[place] = Manager::Committed,
        }
        state
    }

    fn violations(&self, state: &State) -> u64 {
        let any = |what| state.managers.contains(&what);
        u64::from(any(Manager::Committed) && any(Manager::Aborted))
    }

    fn is_goal(&self, _state: &State) -> bool {
        true
    }

    fn is_fault(&self, _action: &TwoPhaseAction) -> bool {
        false
    }

    fn action_kinds(&self) -> &'static [&'static str] {
        &["step"]
    }

    fn kind(&self, _action: &TwoPhaseAction) -> usize {
        0
    }

    fn guard_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn guards(&self, _state: &State) -> u64 {
        0
    }
}

fn row<A>(out: &mut impl Write, name: &str, engine: &str, o: &SearchOutcome<A>) -> io::Result<f64> {
    let speed = o.unique as f64 / o.seconds.max(1e-9);
    let bytes = o.bytes_per_state.map_or_else(|| "?".into(), |bytes| format!("{bytes:.0}"));
    writeln!(
        out,
        "{name:<24} {engine:<22} {:>10} {:>11} {:>8.2} {speed:>11.0} {bytes:>12}",
        o.unique, o.generated, o.seconds
    )?;
    Ok(speed)
}

fn main() -> io::Result<()> {
    let out = &mut io::stdout().lock();
    writeln!(
        out,
        "{:<24} {:<22} {:>10} {:>11} {:>8} {:>11} {:>12}",
        "model", "explorer", "states", "transitions", "seconds", "states/s", "bytes/state"
    )?;
    // The small sizes show that the yardstick is the model it says it is.
    for (managers, states) in [(3, 288), (5, 8_832)] {
        let found = explore::hunt(&TwoPhaseCommit(managers), &Bounds::default(), &|_| {}).unique;
        assert_eq!(found, states, "two-phase commit with {managers} resource managers");
    }
    let config = configs::find("shuffle").expect("the shuffle is a configuration");
    for (engine, name, threads) in
        [(Engine::Stateright, "stateright, 2 threads", 2), (Engine::Hunt, "own, 1 thread", 1)]
    {
        let bounds = Bounds { threads, ..Bounds::default() };
        let world = run::run(&config, engine, &bounds, &|_| {}).outcome;
        let world = row(out, "shuffle (2x2)", name, &world)?;
        let commit = match engine {
            Engine::Stateright => explore::check(&Arc::new(TwoPhaseCommit(7)), &bounds, &|_| {}),
            _ => explore::hunt(&TwoPhaseCommit(7), &bounds, &|_| {}),
        };
        let commit = row(out, "two-phase commit (7)", name, &commit)?;
        writeln!(
            out,
            "{:<24} {name:<22} the shuffle explores {:.2} states for each of the yardstick's",
            "",
            world / commit
        )?;
    }
    Ok(())
}
