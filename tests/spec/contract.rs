//! Sections 1 and 3: topologies, and the rules that every machine keeps.

use snapline::protocol::Verdict::{Applied, Ignored};
use snapline::protocol::coordinator::{Config, Event, StoreResult, Timer};
use snapline::protocol::fence::Host;
use snapline::protocol::ids::{BlobId, IndexSet, TxnId};
use snapline::protocol::message::{CheckpointKind, Report};
use snapline::protocol::recovery::Decision;
use snapline::protocol::topology::{MAX_SUBTASKS, Plan, TopologyError};
use snapline::protocol::{Machine, Out, Why};

use crate::kit::{Job, ack, config, cp, life, now, sub};

/// SPEC 1.3
#[test]
fn spec_1_3_edges_wire_subtasks_forward_or_all_to_all() {
    let plan = Plan::new().source("in", 2).transform("sum", 2).sink("out", 2);
    let topology = plan.all_to_all("in", "sum").forward("sum", "out").build().expect("valid");

    let ends: Vec<_> =
        topology.channels().iter().map(|c| (c.from.index(), c.to.index(), c.input)).collect();

    let shuffle = [(0, 2, 0), (0, 3, 0), (1, 2, 1), (1, 3, 1)];
    assert_eq!(ends, [&shuffle[..], &[(2, 4, 0), (3, 5, 0)]].concat());
    assert_eq!(topology.sources(), [0, 1].into_iter().collect::<IndexSet>());
    assert_eq!(topology.sinks(), [4, 5].into_iter().collect::<IndexSet>());
}

/// SPEC 1.3
#[test]
fn spec_1_3_a_plan_that_breaks_a_rule_is_refused_and_the_place_named() {
    let plan = || Plan::new().source("in", 1).transform("map", 2).sink("out", 2);
    let name = String::from;
    let refused = [
        (Plan::new().sink("out", 1), TopologyError::NoSource),
        (Plan::new().source("in", 1), TopologyError::NoSink),
        (plan().sink("map", 1), TopologyError::DuplicateOperator(name("map"))),
        (plan().sink("none", 0), TopologyError::NoSubtasks(name("none"))),
        (plan().sink("many", 252), TopologyError::TooManySubtasks(MAX_SUBTASKS + 1)),
        (
            plan().forward("in", "map"),
            TopologyError::ForwardMismatch { from: (name("in"), 1), to: (name("map"), 2) },
        ),
        (
            plan().forward("map", "up"),
            TopologyError::DanglingEdge { from: name("map"), to: name("up"), missing: name("up") },
        ),
        (plan().forward("map", "in"), TopologyError::InputToSource(name("map"), name("in"))),
        (plan().forward("out", "map"), TopologyError::OutputFromSink(name("out"), name("map"))),
        (
            plan().forward("map", "out").forward("map", "out"),
            TopologyError::DuplicateEdge(name("map"), name("out")),
        ),
        (plan().all_to_all("in", "map"), TopologyError::NoOutput(name("map"))),
        (plan().all_to_all("in", "out"), TopologyError::NoInput(name("map"))),
        (
            plan().all_to_all("in", "out").forward("map", "map"),
            TopologyError::Cycle(vec![name("map")]),
        ),
    ];
    for (plan, error) in refused {
        assert_eq!(plan.build().expect_err("a rule is broken"), error);
    }
    let widest = Plan::new().source("in", MAX_SUBTASKS - 1).sink("out", 1).all_to_all("in", "out");
    let topology = widest.build().expect("the limit of subtasks is the only one");
    assert_eq!(topology.subtasks()[MAX_SUBTASKS - 1].inputs.len(), MAX_SUBTASKS - 1);
    let full = Plan::new().source("in", 1).sink("out", MAX_SUBTASKS - 1).all_to_all("in", "out");
    assert!(full.build().is_ok());
}

/// SPEC 3.1
#[test]
fn spec_3_1_the_same_events_give_the_same_states_effects_and_verdicts() {
    let config = Config { retained: Some(1), tolerable_failures: 0, ..config() };
    let mut one = Job::recovering(config.clone());
    let mut two = Job { config, machine: one.machine.clone() };
    let manifest = one.manifest(1, CheckpointKind::Periodic, false);
    let events = [
        Event::Recovered(Ok(Decision::Fresh)),
        Event::Fired(Timer::Interval),
        Event::Stored { op: manifest, result: StoreResult::Applied },
        Event::Fired(Timer::Timeout(cp(1))),
        Event::Recovered(Ok(Decision::Fresh)),
    ];

    for event in events {
        let (first, second) = (one.on(event), two.on(event));
        assert_eq!((first.0.as_slice(), first.1), (second.0.as_slice(), second.1));
        assert_eq!(one.machine, two.machine);
    }
}

/// SPEC 3.1
#[test]
fn spec_3_1_the_order_of_acknowledgements_leaves_no_trace() {
    let mut one = Job::running(config());
    one.trigger();
    let mut two = Job { config: config(), machine: one.machine.clone() };

    for (first, second) in [(0, 2), (2, 0)] {
        let _applied = one.report(Report::Ack(ack(first, 1, first == 0)));
        let _applied = two.report(Report::Ack(ack(second, 1, second == 0)));
    }

    assert_eq!(one.machine, two.machine);
}

/// SPEC 3.1
#[test]
fn spec_3_1_effects_are_appended_to_the_caller_s_buffer() {
    let mut job = Job::running(config());
    let mut out = Out::new();
    let Job { config, machine } = &mut job;

    for number in [1, 2] {
        assert_eq!(machine.handle(config, Event::Fired(Timer::Interval), &mut out), Applied);
        let timeout = Event::Fired(Timer::Timeout(cp(number)));
        assert_eq!(machine.handle(config, timeout, &mut out), Applied);
    }

    assert_eq!(out.as_slice().len(), 16, "4 of a trigger and 4 of an abort, twice");
    assert_eq!(out.drain().count(), 16);
    assert!(out.is_empty());
}

/// SPEC 3.2
#[test]
fn spec_3_2_attempts_of_a_later_term_are_later() {
    let ascending = [life(1, 1), life(1, 2), life(2, 1), life(3, 1)];

    assert!(ascending.is_sorted_by(|earlier, later| earlier < later));
    assert_eq!(life(1, 1).next(), life(1, 2));
}

/// SPEC 3.2
#[test]
fn spec_3_2_a_host_starts_no_attempt_as_late_as_one_it_was_notified_of() {
    let mut host = Host::default();

    assert_eq!(host.admit(life(1, 1)), Applied);
    assert_eq!(host.admit(life(1, 1)), Ignored(Why::Stale));
    assert_eq!(host.admit(life(2, 1)), Applied);
    assert_eq!(host.admit(life(1, 2)), Ignored(Why::Stale));
    assert_eq!(host.attempt(), Some(life(2, 1)));
}

/// SPEC 3.3
#[test]
fn spec_3_3_each_part_of_a_name_makes_another_name() {
    let txn = TxnId { checkpoint: cp(1), attempt: now(), subtask: sub(0) };
    let blob = BlobId { checkpoint: cp(1), attempt: now(), subtask: sub(0) };

    assert_ne!(txn, TxnId { checkpoint: cp(2), ..txn });
    assert_ne!(txn, TxnId { attempt: life(1, 2), ..txn });
    assert_ne!(txn, TxnId { subtask: sub(1), ..txn });
    assert_ne!(blob, BlobId { attempt: life(2, 1), ..blob });
    let later_attempt = TxnId { attempt: life(9, 9), ..txn };
    assert!(later_attempt < TxnId { checkpoint: cp(2), ..txn }, "sorted in commit order");
}
