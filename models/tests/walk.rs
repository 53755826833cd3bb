//! The random walk: a function of its seed, it finds wrong rules, and its finds are short.

use snapline_models::laws::Law;
use snapline_models::model::Model;
use snapline_models::trace::{Claim, Trace};
use snapline_models::walk::{Walk, WalkReport, eight, variants};
use snapline_models::world::Situation;
use snapline_models::world::rule::WrongRule;

fn walk(mutant: Option<WrongRule>, seed: u64, steps: u64) -> WalkReport {
    Walk { mutant, ..Walk::new(eight(), seed, steps) }.run().expect("the scenario is valid")
}

#[test]
fn the_same_seed_takes_the_same_walk() {
    let (once, again) = (walk(None, 7, 20_000), walk(None, 7, 20_000));
    assert_eq!(once, again);
    assert_eq!(once.steps, 20_000);
    assert_ne!(once.actions, walk(None, 8, 20_000).actions, "another seed takes another");
}

#[test]
fn a_right_protocol_walks_through() {
    let report = walk(None, 1, 60_000);
    assert_eq!(report.violation, None);
    // Every episode finishes but the last, which the number of steps cuts short.
    assert_eq!(report.finished + report.cut_short, report.episodes);
    assert!(report.cut_short <= 1, "{} episodes without a verdict", report.cut_short);
    for guard in [
        Situation::Completed,
        Situation::Aborted,
        Situation::Held,
        Situation::Restored,
        Situation::Fenced,
    ] {
        assert!(report.marks.contains(guard.mark()), "{guard:?} was never reached");
    }
    let idle: Vec<&str> =
        report.faults().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    for name in ["lose", "duplicate", "delay", "crash", "crash-coordinator", "store-unknown"] {
        assert!(!idle.contains(&name), "no {name} in {} steps", report.steps);
    }
}

#[test]
fn faults_strike_all_along_the_way() {
    let report = walk(None, 3, 60_000);
    // Were they used up at the start, no checkpoint would be there to restore.
    assert!(report.attempts > report.episodes, "attempts fail after they were deployed");
    assert!(
        report.marks.contains(Situation::Recommitting.mark()),
        "a restored attempt has commits to repeat"
    );
}

#[test]
fn every_variant_is_valid() {
    for scenario in variants() {
        let name = scenario.name.clone();
        assert!(Model::new(scenario, None).is_ok(), "{name}");
    }
}

/// The law and trace that a walk finds for a wrong rule, replayed.
fn found(mutant: WrongRule, seed: u64) -> (Law, Trace) {
    let (law, trace) =
        walk(Some(mutant), seed, 400_000).violation.expect("the walk finds a violation");
    let again = Trace::read(&trace.write()).expect("a written trace can be read");
    assert_eq!(again, trace);
    let replay = again.replay().expect("every step is possible");
    assert_eq!(replay.claim, Claim::Shown(law), "{:?}", replay.broken);
    (law, trace)
}

#[test]
fn a_commit_at_the_barrier_is_found_and_shown_in_a_few_steps() {
    let (law, trace) = found(WrongRule::CommitAtBarrier, 1);
    assert_eq!(law, Law::CommitAfterComplete);
    assert!(trace.steps.len() <= 10, "{}", trace.write());
    assert!(trace.scenario.plan.operators.iter().all(|operator| operator.parallelism == 1));
    assert_eq!(trace.scenario.faults.total(), 0, "the violation needs no fault");
}

#[test]
fn an_ack_before_the_bytes_are_durable_is_found() {
    let (law, trace) = found(WrongRule::AckBeforeDurable, 2);
    assert_eq!(law, Law::Restorable);
    assert!(trace.steps.len() <= 12, "{}", trace.write());
}

#[test]
fn a_commit_that_is_not_asked_for_again_leaves_the_job_stuck() {
    let (law, trace) = found(WrongRule::NoResend, 1);
    assert_eq!(law, Law::Progress);
    assert!(trace.steps.len() <= 40, "{}", trace.write());
}
