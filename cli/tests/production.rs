//! Counterexamples of the model, replayed on production.

use snapline::sim::Mutation as Planted;
use snapline_cli::production_replay::{JUDGED, RULES, Unmapped, play, replay, replay_under};
use snapline_models::explore::Bounds;
use snapline_models::laws::Law;
use snapline_models::mutants::kill;
use snapline_models::run::Judgement;
use snapline_models::trace::Trace;
use snapline_models::world::Action;
use snapline_models::world::rule::WrongRule;

/// The shortest counterexample of a mutant.
fn counterexample(mutant: WrongRule) -> Trace {
    let report = kill(mutant, &Bounds::default());
    let Judgement::Violated { law, path } = report.judgement else {
        panic!("{} lives", mutant.name());
    };
    Trace { scenario: report.scenario, mutant: Some(mutant), law: Some(law), steps: path }
}

/// With the wrong rule in the engine the law that the model's counterexample breaks is broken in
/// production, without it all is right.
#[test]
fn counterexamples_of_the_model_break_the_same_laws_in_production() {
    let mut wrong = Vec::new();
    let mut laws = Vec::new();
    for &(mutant, _) in RULES {
        match play(mutant) {
            Ok(played) if played.is_ok() => laws.push(played.law),
            Ok(played) => wrong.push(format!("{}: {played:#?}", mutant.name())),
            Err(error) => wrong.push(format!("{}: {error}", mutant.name())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(laws.len() >= 10, "{} counterexamples were replayed", laws.len());
    laws.sort();
    laws.dedup();
    assert!(laws.len() >= 9, "only these laws were broken: {laws:?}");
}

/// The replay can tell that a law holds: under a wrong rule that has no part in the schedule
/// nothing breaks.
#[test]
fn another_rule_does_not_break_the_law() {
    let trace = counterexample(WrongRule::InDoubtForgotten);
    let broken = replay_under(&trace, Some(Planted::LossSwallowed))
        .expect("the trace has a counterpart in production");
    assert_eq!(broken, None);
    let broken = replay_under(&trace, Some(Planted::InDoubtForgotten))
        .expect("the trace has a counterpart in production");
    assert!(broken.is_some());
}

#[test]
fn what_has_no_counterpart_is_told() {
    let error = play(WrongRule::FactsBeforeFence).expect_err("the rule needs two coordinators");
    assert!(matches!(error, Unmapped::Rule(WrongRule::FactsBeforeFence, _)), "{error}");

    // Zombies and torn writes are no steps of production.
    let mut trace = counterexample(WrongRule::LocalNamesOverwritten);
    trace.mutant = Some(WrongRule::InDoubtForgotten);
    trace.law = Some(Law::NoLoss);
    let error = replay(&trace).expect_err("the trace has a torn write");
    let torn = Action::Crash { task: 0, torn: true };
    assert!(matches!(error, Unmapped::Action { action, .. } if action == torn), "{error}");

    // A law that cannot be judged from outside.
    trace.law = Some(Law::IdsMonotone);
    assert!(!JUDGED.contains(&Law::IdsMonotone));
    assert_eq!(replay(&trace), Err(Unmapped::Law(Law::IdsMonotone)));

    // An edited trace.
    let mut trace = counterexample(WrongRule::InDoubtForgotten);
    trace.steps.swap(0, 1);
    let error = replay(&trace).expect_err("a step is not possible");
    assert_eq!(error, Unmapped::NotEnabled { step: 1, action: Action::Read });

    // A topology that production builds otherwise.
    let mut trace = counterexample(WrongRule::NoAlignment);
    trace.mutant = Some(WrongRule::InDoubtForgotten);
    let error = replay(&trace).expect_err("production does not build this topology");
    assert!(matches!(error, Unmapped::Shape(_) | Unmapped::Law(_)), "{error}");
}

/// Production that goes another way than the model is found at that step: here the rule is on in
/// the model only.
#[test]
fn production_that_differs_is_found_at_that_step() {
    let trace = counterexample(WrongRule::CommitNewestFirst);
    let last = trace.steps.len();
    let differs = replay_under(&trace, None).expect_err("production commits the other transaction");
    assert!(matches!(differs, Unmapped::Differs { step, .. } if step == last), "{differs}");
}
