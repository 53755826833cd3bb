//! The check that users write in their tests, and the examples that ship with it.

use std::panic::catch_unwind;
use std::time::Duration;

use snapline_models::check::{Check, CheckOutcome, Finding};
use snapline_models::explore::StopReason;
use snapline_models::laws::Law;
use snapline_models::scenario::ScenarioError;
use snapline_models::sink::{Commit, SinkModel};
use snapline_models::trace::Trace;
use snapline_models::world::Situation;
use snapline_protocol::aligner::Mode;
use snapline_protocol::topology::{Plan, TopologyError};

#[allow(dead_code)]
#[path = "../examples/atomic_rename.rs"]
mod atomic_rename;
#[allow(dead_code)]
#[path = "../examples/kafka_like.rs"]
mod kafka_like;
#[allow(dead_code)]
#[path = "../examples/prepare_transaction.rs"]
mod prepare_transaction;

fn chain() -> Plan {
    Plan::new().source("in", 1).sink("out", 1).forward("in", "out")
}

/// A sink whose system does not remember what it committed.
fn forgetful() -> SinkModel {
    SinkModel { commit: Commit::Blind, ..SinkModel::transactional() }
}

/// The message of an assertion's panic.
fn complaint(assertion: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = catch_unwind(assertion).expect_err("the assertion must fail");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a panic with a message")).into(),
    }
}

fn assert_told(checked: CheckOutcome, parts: &[&str]) {
    let message = complaint(move || checked.assert_exactly_once());
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

#[test]
fn files_made_visible_by_an_atomic_rename_hold_each_record_once() {
    atomic_rename::checks().iter().for_each(CheckOutcome::assert_exactly_once);
}

#[test]
fn prepared_transactions_of_a_database_survive_unknown_outcomes() {
    prepare_transaction::checked().assert_exactly_once();
}

#[test]
fn a_producer_whose_transactions_time_out_may_lose_data() {
    let checked = kafka_like::checked(SinkModel::producer_with_timeout());
    assert!(matches!(checked.finding(), Finding::Loss { .. }), "{checked}");
    assert!(checked.report().is_ok(), "the laws hold: the job says that it lost data");
    assert!(checked.report().outcome.marks.contains(Situation::LossReported.mark()));
    checked.assert_violates(Law::NoLoss);
    assert_told(
        checked,
        &[
            "the check does not prove exactly once",
            "the external system may drop data that has to be committed; the job reports this loss",
            "steps lead to this state",
            "bounds: 2 records per source, 1 checkpoint and those needed to finish, channels of 1, \
             1 task crash, 1 dropped transaction",
            "snapline trace",
        ],
    );
}

#[test]
fn a_producer_known_by_its_epoch_may_lose_data() {
    let checked = kafka_like::checked(SinkModel::producer_with_epoch());
    assert!(matches!(checked.finding(), Finding::Loss { .. }), "{checked}");
    checked.assert_violates(Law::NoLoss);
}

#[test]
fn a_marker_in_the_transaction_loses_nothing() {
    kafka_like::checked(SinkModel::marker_in_transaction()).assert_exactly_once();
}

#[test]
fn a_sink_that_commits_blindly_shows_records_twice() {
    let checked = Check::new(chain()).sink(forgetful()).run();
    checked.assert_violates(Law::NoDuplicates);
    assert_told(checked, &["no-duplicates is broken: readers see a record twice", "bounds: "]);
    let weaker = Check::new(chain()).sink(forgetful()).mode(Mode::AtLeastOnce).run();
    weaker.assert_at_least_once();
    assert_told(weaker, &["made in at-least-once mode"]);
}

#[test]
fn a_check_that_was_stopped_shows_nothing() {
    let checked = Check::new(chain()).max_states(10).run();
    assert_eq!(*checked.finding(), Finding::Stopped(StopReason::States));
    assert_told(checked, &["the check was stopped without a result", "more states than allowed"]);
    let checked = Check::new(chain()).timeout(Duration::ZERO).run();
    assert_eq!(*checked.finding(), Finding::Stopped(StopReason::Timeout));
}

#[test]
fn the_search_for_a_loss_keeps_the_bounds() {
    let checked = Check::new(chain()).sink(SinkModel::producer_with_timeout()).crashes(0).run();
    let states = checked.report().outcome.unique;
    assert!(matches!(checked.finding(), Finding::Loss { .. }), "{checked}");
    let with = Check::new(chain()).sink(SinkModel::producer_with_timeout()).crashes(0);
    let again = with.threads(2).max_states(states).run();
    assert_eq!(again.report().outcome.unique, states, "the explorers agree");
    assert_eq!(again.finding(), checked.finding());
}

#[test]
fn a_law_that_holds_is_not_called_broken() {
    let checked = Check::new(chain()).run();
    let message = complaint(move || checked.assert_violates(Law::Prefix));
    assert!(message.contains("no violation of prefix was found\nevery law holds"), "{message}");
    let other = Check::new(chain()).sink(forgetful()).run();
    let message = complaint(move || other.assert_violates(Law::Prefix));
    assert!(message.contains("no violation of prefix was found"), "{message}");
}

#[test]
fn the_trace_of_a_violation_is_written_where_asked() {
    let file = std::env::temp_dir().join(format!("snapline-check-{}.json", std::process::id()));
    let checked = Check::new(chain()).sink(forgetful()).trace_file(&file).run();
    let text = std::fs::read_to_string(&file).expect("the trace was written");
    let trace = Trace::read(&text).expect("the file is a trace");
    assert_eq!(trace.law, Some(Law::NoDuplicates));
    assert_eq!(Some(trace.steps.as_slice()), checked.path());
    assert!(checked.to_string().contains(&format!("snapline trace {}", file.display())));
    std::fs::remove_file(&file).expect("the trace can be removed");
    let nowhere = file.join("not a directory");
    let checked = Check::new(chain()).sink(forgetful()).trace_file(nowhere).run();
    assert!(checked.to_string().contains("the trace could not be written to"), "{checked}");
}

#[test]
fn a_built_topology_serves_as_well_as_its_plan() {
    let topology = chain().build().expect("the topology is valid");
    let states = |check: Check| check.crashes(0).run().report().outcome.unique;
    let expected = states(Check::new(chain()));
    assert_eq!(states(Check::new(&topology)), expected);
    assert_eq!(states(Check::new(topology)), expected);
}

#[test]
fn a_wrong_topology_is_an_error_or_a_panic_that_says_what() {
    let plan = || Plan::new().source("in", 1).sink("out", 1);
    let error =
        Check::new(plan()).try_run(&|_| {}).map(|_| ()).expect_err("the topology is invalid");
    assert_eq!(error, ScenarioError::Topology(TopologyError::NoOutput("in".into())));
    let message = complaint(|| drop(Check::new(plan()).run()));
    assert_eq!(message, "this check cannot be run: operator `in` has no output and is not a sink");
}
