//! Three explorers, one World: their counts must be the same.

use snapline_models::configs;
use snapline_models::explore::Bounds;
use snapline_models::laws::Law;
use snapline_models::mutants::{Mutant, kill};
use snapline_models::run::{Engine, Judgement, explore, run};
use snapline_models::world::rule::WrongRule;

const SMALL: u64 = 40_000;

/// Fingerprints lose nothing here: the explorer that keeps whole states counts the same.
#[test]
fn exact_states_and_fingerprints_count_alike() {
    let small: Vec<_> = configs::all()
        .into_iter()
        .filter(|c| c.states.is_some_and(|states| states <= SMALL))
        .collect();
    assert!(small.len() >= 6, "only {} configurations are small", small.len());
    for config in small {
        let bounds = Bounds { threads: 2, ..Bounds::default() };
        let reports = [Engine::Exact, Engine::Hunt, Engine::Stateright]
            .map(|engine| run(&config, engine, &bounds, &|_| {}));
        let name = &config.scenario.name;
        for report in &reports {
            assert_eq!(report.judgement, Judgement::Holds, "{name}");
        }
        let [exact, hunt, stateright] = reports.map(|report| report.outcome);
        assert_eq!(exact.unique, hunt.unique, "{name}");
        assert_eq!(exact.unique, stateright.unique, "{name}");
        assert_eq!(exact.generated, hunt.generated, "{name}");
        assert_eq!(exact.generated, stateright.generated, "{name}");
        assert_eq!(exact.goal_states, stateright.goal_states, "{name}");
        assert_eq!(exact.action_counts, stateright.action_counts, "{name}");
        assert!(exact.marks == stateright.marks, "{name}: the same arms are driven");
    }
}

/// A counterexample of one explorer is found by the others too, in as few steps.
#[test]
fn a_counterexample_is_as_short_whoever_finds_it() {
    for mutant in [WrongRule::CommitAtBarrier, WrongRule::AckBeforeDurable, WrongRule::NoResend] {
        let scenario = (Mutant::of(mutant).scenario)();
        let steps = [Engine::Exact, Engine::Hunt, Engine::Stateright].map(|engine| {
            let bounds = Bounds { threads: 2, ..Bounds::default() };
            let report =
                explore(scenario.clone(), Some(mutant), engine, &bounds, &[], None, &|_| {})
                    .expect("the scenario is valid");
            match report.judgement {
                Judgement::Violated { law, path } => (law, path.len()),
                other => panic!("{}: {other:?}", mutant.name()),
            }
        });
        assert_eq!(steps[0], steps[1], "{}", mutant.name());
        assert_eq!(steps[0], steps[2], "{}", mutant.name());
    }
}

/// A search that was cut short never reports that all is well.
#[test]
fn stopped_is_never_green() {
    let config = configs::find("chain").expect("the configuration exists");
    for engine in [Engine::Exact, Engine::Hunt, Engine::Stateright] {
        let bounds = Bounds { max_states: Some(1_000), ..Bounds::default() };
        let report = run(&config, engine, &bounds, &|_| {});
        assert!(
            matches!(report.judgement, Judgement::Stopped(_)),
            "{engine:?}: {:?}",
            report.judgement
        );
        assert!(!report.is_ok());
    }
}

/// A situation that is never reached makes a verdict vacuous, and a count other than the pinned one
/// is reported.
#[test]
fn vacuous_and_changed_are_not_green() {
    let mut config = configs::find("ambiguous-store").expect("the configuration exists");
    config.situations.push(snapline_models::world::Situation::ZombieActed);
    let report = run(&config, Engine::Hunt, &Bounds::default(), &|_| {});
    assert!(matches!(report.judgement, Judgement::Vacuous(_)), "{:?}", report.judgement);
    config.situations.pop();
    let pinned = config.states.expect("the number of states is pinned") + 1;
    config.states = Some(pinned);
    let report = run(&config, Engine::Hunt, &Bounds::default(), &|_| {});
    assert_eq!(report.judgement, Judgement::CountChanged { pinned });
}

/// Masks work: with the killing law left out of the set, no law catches `commit-at-barrier` before
/// a state that shows it.
#[test]
fn a_law_left_out_is_not_judged() {
    let with = kill(WrongRule::CommitAtBarrier, &Bounds::default());
    assert!(matches!(with.judgement, Judgement::Violated { law: Law::CommitAfterComplete, .. }));
    let bounds = Bounds { laws: !Law::CommitAfterComplete.bit(), ..Bounds::default() };
    let without = kill(WrongRule::CommitAtBarrier, &bounds);
    assert!(
        !matches!(without.judgement, Judgement::Violated { law: Law::CommitAfterComplete, .. }),
        "{:?}",
        without.judgement
    );
}
