//! Section 5: alignment, snapshot, decline, abort, end of input; and a source's part in a stop
//! (SPEC 4.8).

use snapline::protocol::Verdict::{Applied, Ignored};
use snapline::protocol::Why;
use snapline::protocol::aligner::{Aligner, Effect, Event};
use snapline::protocol::message::{CheckpointKind, Order, Persisted, ToTask};

use crate::kit::{barrier, barrier_of, cp, life, now, permit};
use crate::subtask::{Subtask, acked, declined, taken};

/// SPEC 5.1
#[test]
fn spec_5_1_for_a_source_the_trigger_is_the_barrier() {
    let mut source = Subtask::new(0);

    let (out, verdict) = source.order(Order::Trigger(barrier(1)));
    assert_eq!((out.as_slice(), verdict), (&taken(barrier(1))[..], Applied));

    let (out, verdict) = source.order(Order::Trigger(barrier(1)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 5.1
#[test]
fn spec_5_1_a_trigger_that_a_newer_one_overtook_is_settled() {
    let mut source = Subtask::new(0);
    let _taken = source.order(Order::Trigger(barrier(2)));

    let (out, verdict) = source.order(Order::Trigger(barrier(1)));

    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 5.1
#[test]
fn spec_5_1_a_subtask_with_inputs_is_not_triggered() {
    let mut task = Subtask::new(2);

    let (out, verdict) = task.order(Order::Trigger(barrier(1)));

    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
}

/// SPEC 5.2
#[test]
fn spec_5_2_an_input_is_held_from_its_barrier_to_the_last_ones() {
    let mut task = Subtask::new(3);

    let (out, verdict) = task.barrier(1, 1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    assert_eq!(task.held(), [false, true, false]);
    let (out, verdict) = task.barrier(0, 1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    assert_eq!(task.held(), [true, true, false]);

    let (out, verdict) = task.barrier(2, 1);
    assert_eq!((out.as_slice(), verdict), (&taken(barrier(1))[..], Applied));
    assert_eq!(task.held(), [false, false, false]);
}

/// SPEC 5.2
#[test]
fn spec_5_2_at_least_once_holds_nothing_and_aligns_two_at_once() {
    let mut task = Subtask::at_least_once(2);

    for number in [1, 2] {
        let (out, verdict) = task.barrier(0, number);
        assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
        assert_eq!(task.held(), [false, false]);
    }

    for number in [1, 2] {
        let (out, verdict) = task.barrier(1, number);
        assert_eq!((out.as_slice(), verdict), (&taken(barrier(number))[..], Applied));
    }
}

/// SPEC 5.2
#[test]
fn spec_5_2_exactly_once_aligns_the_second_after_the_first() {
    let mut task = Subtask::new(2);
    let _aligning = task.barrier(0, 1);
    assert_eq!(task.held(), [true, false], "the second barrier of input 0 cannot be read yet");
    let _taken = task.barrier(1, 1);

    let _aligning = task.barrier(1, 2);
    assert_eq!(task.held(), [false, true]);
    let (out, verdict) = task.barrier(0, 2);

    assert_eq!((out.as_slice(), verdict), (&taken(barrier(2))[..], Applied));
}

/// SPEC 5.3
#[test]
fn spec_5_3_the_same_barrier_twice_counts_once() {
    let mut task = Subtask::new(2);
    let _aligning = task.barrier(0, 2);

    for number in [2, 1] {
        let (out, verdict) = task.barrier(0, number);
        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
    }
    assert_eq!(task.held(), [true, false]);
}

/// SPEC 5.4, 3.4, 3.5
#[test]
fn spec_5_4_only_a_durable_snapshot_is_acknowledged() {
    let mut task = Subtask::new(1);
    let (out, verdict) = task.barrier(0, 1);
    assert_eq!((out.as_slice(), verdict), (&taken(barrier(1))[..], Applied));
    assert!(task.machine.is_writing(cp(1)));

    let (out, verdict) = task.durable(1);
    assert_eq!((out.as_slice(), verdict), (&[acked(1, false)][..], Applied));
    assert!(!task.machine.is_writing(cp(1)));

    let (out, verdict) = task.durable(1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 5.4
#[test]
fn spec_5_4_several_snapshots_are_written_at_once_and_end_in_any_order() {
    let mut task = Subtask::new(1);
    let _taken = task.barrier(0, 1);
    let _taken = task.barrier(0, 2);

    for number in [2, 1] {
        let (out, verdict) = task.durable(number);
        assert_eq!((out.as_slice(), verdict), (&[acked(number, false)][..], Applied));
    }
}

/// SPEC 5.4
#[test]
fn spec_5_4_a_write_that_failed_is_a_decline() {
    let mut task = Subtask::new(1);
    let _taken = task.barrier(0, 1);

    let (out, verdict) = task.write_failed(1);
    assert_eq!((out.as_slice(), verdict), (&[declined(1)][..], Applied));

    let (out, verdict) = task.write_failed(1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
    let (out, verdict) = task.durable(1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 5.5
#[test]
fn spec_5_5_a_newer_barrier_subsumes_an_older_alignment_and_declines_it() {
    let mut task = Subtask::new(2);
    let _aligning = task.barrier(0, 1);
    assert_eq!(task.held(), [true, false]);

    let (out, verdict) = task.barrier(1, 2);
    assert_eq!((out.as_slice(), verdict), (&[declined(1)][..], Applied));
    assert_eq!(task.held(), [false, true], "what was held for 1 alone is released");

    let (out, verdict) = task.barrier(0, 2);
    assert_eq!((out.as_slice(), verdict), (&taken(barrier(2))[..], Applied));
}

/// SPEC 5.5
#[test]
fn spec_5_5_the_last_newer_barrier_declines_and_takes_in_one_step() {
    let mut task = Subtask::at_least_once(2);
    let _aligning = task.barrier(0, 1);
    let _aligning = task.barrier(0, 2);

    let (out, verdict) = task.barrier(1, 2);

    let [snapshot, forward] = taken(barrier(2));
    assert_eq!(out.as_slice(), [declined(1), snapshot, forward]);
    assert_eq!(verdict, Applied);
}

/// SPEC 5.5
#[test]
fn spec_5_5_an_input_that_delivered_the_older_barrier_subsumes_nothing() {
    let mut task = Subtask::at_least_once(2);
    let _aligning = task.barrier(0, 1);

    let (out, verdict) = task.barrier(0, 2);

    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
}

/// SPEC 5.5
#[test]
fn spec_5_5_a_barrier_that_another_input_jumped_over_is_declined_and_holds_nothing() {
    let mut task = Subtask::new(2);
    let _aligning = task.barrier(0, 2);
    assert_eq!(task.aligning(), [2]);

    let (out, verdict) = task.barrier(1, 1);
    assert_eq!((out.as_slice(), verdict), (&[declined(1)][..], Applied));
    assert_eq!(task.held(), [true, false], "input 1 is read on: its barrier of 2 is awaited");
    assert_eq!(task.aligning(), [2]);

    let (out, verdict) = task.barrier(1, 2);
    assert_eq!((out.as_slice(), verdict), (&taken(barrier(2))[..], Applied));
}

/// SPEC 5.5
#[test]
fn spec_5_5_each_late_barrier_of_what_was_jumped_over_is_declined_again() {
    let mut task = Subtask::new(4);
    let (out, verdict) = task.barrier(0, 1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    let (out, verdict) = task.barrier(1, 2);
    assert_eq!((out.as_slice(), verdict), (&[declined(1)][..], Applied));
    assert_eq!((task.held(), task.aligning()), (vec![false, true, false, false], vec![2]));

    let (out, verdict) = task.barrier(2, 1);
    assert_eq!((out.as_slice(), verdict), (&[declined(1)][..], Applied));
    assert_eq!((task.held(), task.aligning()), (vec![false, true, false, false], vec![2]));

    for channel in [0, 2] {
        let (out, verdict) = task.barrier(channel, 2);
        assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    }
    let (out, verdict) = task.barrier(3, 2);
    assert_eq!((out.as_slice(), verdict), (&taken(barrier(2))[..], Applied), "3 jumped silently");
}

/// SPEC 5.5, 5.6
#[test]
fn spec_5_5_once_its_abort_has_come_a_late_barrier_is_settled() {
    let mut task = Subtask::new(3);
    let _aligning = task.barrier(0, 2);
    let (out, _) = task.barrier(1, 1);
    assert_eq!(out.as_slice(), [declined(1)]);

    let (out, verdict) = task.order(Order::Abort(cp(1)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    let (out, verdict) = task.barrier(2, 1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));

    assert_eq!(task.aligning(), [2]);
}

/// SPEC 5.6
#[test]
fn spec_5_6_an_abort_may_overtake_its_barrier() {
    let mut task = Subtask::new(2);

    let (out, verdict) = task.order(Order::Abort(cp(1)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    let (out, verdict) = task.order(Order::Abort(cp(1)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));

    for channel in [0, 1] {
        let (out, verdict) = task.barrier(channel, 1);
        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
        assert_eq!(task.held(), [false, false]);
    }
}

/// SPEC 5.6
#[test]
fn spec_5_6_an_abort_may_overtake_its_trigger() {
    let mut source = Subtask::new(0);
    let _tombstone = source.order(Order::Abort(cp(1)));

    let (out, verdict) = source.order(Order::Trigger(barrier_of(1, CheckpointKind::Suspend)));

    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
    assert!(source.machine.may_emit(), "a stop that was aborted halts nothing");
}

/// SPEC 5.6
#[test]
fn spec_5_6_an_abort_during_the_alignment_releases_what_is_held() {
    let mut task = Subtask::new(2);
    let _aligning = task.barrier(0, 1);

    let (out, verdict) = task.order(Order::Abort(cp(1)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    assert_eq!(task.held(), [false, false]);

    let (out, verdict) = task.barrier(1, 1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
    let _aligning = task.barrier(0, 2);
    let (out, verdict) = task.barrier(1, 2);
    assert_eq!((out.as_slice(), verdict), (&taken(barrier(2))[..], Applied));
}

/// SPEC 5.6
#[test]
fn spec_5_6_an_abort_during_the_write_makes_it_unwanted() {
    let mut task = Subtask::new(1);
    let _taken = task.barrier(0, 1);

    let (out, verdict) = task.order(Order::Abort(cp(1)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    assert!(!task.machine.is_writing(cp(1)));

    let (out, verdict) = task.durable(1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
    let (out, verdict) = task.write_failed(1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 5.6
#[test]
fn spec_5_6_an_abort_after_the_acknowledgement_changes_nothing() {
    let mut task = Subtask::new(1);
    let _taken = task.barrier(0, 1);
    let _acked = task.durable(1);

    let (out, verdict) = task.order(Order::Abort(cp(1)));

    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 5.6
#[test]
fn spec_5_6_tombstones_go_when_a_newer_checkpoint_is_taken() {
    let mut with = Subtask::new(1);
    let mut without = with.clone();
    let _tombstone = with.order(Order::Abort(cp(1)));

    let _taken = with.barrier(0, 2);
    let _taken = without.barrier(0, 2);

    assert_eq!(with.machine, without.machine);
    let (out, verdict) = with.order(Order::Abort(cp(1)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 5.6, 5.5
#[test]
fn spec_5_6_the_barrier_of_an_aborted_checkpoint_still_jumps_over_older_ones() {
    let mut task = Subtask::new(2);
    let _aligning = task.barrier(0, 1);
    let _tombstone = task.order(Order::Abort(cp(2)));

    let (out, verdict) = task.barrier(1, 2);

    assert_eq!((out.as_slice(), verdict), (&[declined(1)][..], Applied));
    assert_eq!(task.held(), [false, false]);
}

/// SPEC 5.7
#[test]
fn spec_5_7_the_end_is_passed_on_once_after_the_last_input() {
    let mut task = Subtask::new(2);

    let (out, verdict) = task.on(Event::EndOfInput { channel: 1 });
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    let (out, verdict) = task.on(Event::EndOfInput { channel: 1 });
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
    assert!(!task.machine.has_ended(&task.config));

    let (out, verdict) = task.on(Event::EndOfInput { channel: 0 });
    assert_eq!((out.as_slice(), verdict), (&[Effect::EndOutput][..], Applied));
    assert!(task.machine.has_ended(&task.config));
}

/// SPEC 5.7
#[test]
fn spec_5_7_an_ended_input_still_carries_barriers_and_is_held() {
    let mut task = Subtask::new(2);
    let _live = task.on(Event::EndOfInput { channel: 0 });

    let (out, verdict) = task.barrier(1, 1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied), "the ended input is awaited");
    assert_eq!(task.held(), [false, true]);

    let (out, verdict) = task.barrier(0, 1);
    assert_eq!((out.as_slice(), verdict), (&taken(barrier(1))[..], Applied));
    let (out, _) = task.durable(1);
    assert_eq!(out.as_slice(), [acked(1, false)], "the other input lives");
}

/// SPEC 5.7
#[test]
fn spec_5_7_an_ended_subtask_takes_part_in_every_checkpoint_in_full() {
    let mut task = Subtask::new(1);
    let _ended = task.on(Event::EndOfInput { channel: 0 });

    for number in [1, 2] {
        let (out, verdict) = task.barrier(0, number);
        assert_eq!((out.as_slice(), verdict), (&taken(barrier(number))[..], Applied));
        let (out, verdict) = task.durable(number);
        assert_eq!((out.as_slice(), verdict), (&[acked(number, true)][..], Applied));
    }
}

/// SPEC 5.7, 4.4
#[test]
fn spec_5_7_an_end_after_the_barrier_does_not_count_for_it() {
    let mut source = Subtask::new(0);
    let _taken = source.order(Order::Trigger(barrier(1)));

    let (out, verdict) = source.on(Event::Exhausted);
    assert_eq!((out.as_slice(), verdict), (&[Effect::EndOutput][..], Applied));
    assert!(!source.machine.may_emit());
    let (out, verdict) = source.on(Event::Exhausted);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));

    let (out, verdict) = source.durable(1);
    assert_eq!((out.as_slice(), verdict), (&[acked(1, false)][..], Applied));
    let _taken = source.order(Order::Trigger(barrier(2)));
    let (out, verdict) = source.durable(2);
    assert_eq!((out.as_slice(), verdict), (&[acked(2, true)][..], Applied));
}

/// SPEC 4.8
#[test]
fn spec_4_8_a_drained_source_ends_its_input_before_the_barrier() {
    let drain = barrier_of(1, CheckpointKind::Drain);
    let mut source = Subtask::new(0);

    let (out, verdict) = source.order(Order::Trigger(drain));
    let [snapshot, forward] = taken(drain);
    assert_eq!(out.as_slice(), [Effect::EndOutput, snapshot, forward]);
    assert_eq!(verdict, Applied);
    assert!(!source.machine.may_emit());
    let (out, verdict) = source.durable(1);
    assert_eq!((out.as_slice(), verdict), (&[acked(1, true)][..], Applied));

    let mut exhausted = Subtask::new(0);
    let _ended = exhausted.on(Event::Exhausted);
    let (out, verdict) = exhausted.order(Order::Trigger(drain));
    assert_eq!((out.as_slice(), verdict), (&taken(drain)[..], Applied), "it ends once");
}

/// SPEC 4.8
#[test]
fn spec_4_8_a_suspended_source_emits_nothing_after_the_barrier() {
    let suspend = barrier_of(1, CheckpointKind::Suspend);
    let mut source = Subtask::new(0);

    let (out, verdict) = source.order(Order::Trigger(suspend));
    assert_eq!((out.as_slice(), verdict), (&taken(suspend)[..], Applied));
    assert!(!source.machine.may_emit());

    let _unwanted = source.order(Order::Abort(cp(1)));
    assert!(!source.machine.may_emit(), "for as long as its attempt lives");
    let again = barrier_of(2, CheckpointKind::Suspend);
    let (out, _) = source.order(Order::Trigger(again));
    assert_eq!(out.as_slice(), taken(again));
    let (out, _) = source.durable(2);
    assert_eq!(out.as_slice(), [acked(2, false)], "its input has not ended");
}

/// SPEC 7.4
#[test]
fn spec_7_4_a_source_at_rest_emits_nothing() {
    let source = Subtask::new(0);
    assert!(source.machine.may_emit());

    let at_rest = Aligner::at_rest(&source.config, now());

    assert!(!at_rest.may_emit());
    assert!(!at_rest.has_ended(&source.config));
}

/// SPEC 3.2
#[test]
fn spec_3_2_what_is_of_another_attempt_is_stale_to_an_aligner() {
    let mut source = Subtask::new(0);
    let _taken = source.order(Order::Trigger(barrier(1)));
    for attempt in [life(1, 0), life(1, 2), life(2, 1)] {
        let events = [
            Event::Control(ToTask { attempt, order: Order::Trigger(barrier(2)) }),
            Event::Control(ToTask { attempt, order: Order::Abort(cp(1)) }),
            Event::Control(ToTask { attempt, order: Order::Complete(permit(1)) }),
            Event::Durable(Persisted::attest(attempt, cp(1))),
            Event::WriteFailed { attempt, checkpoint: cp(1) },
        ];
        for event in events {
            let (out, verdict) = source.on(event);
            assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Stale)));
        }
    }
    assert!(source.machine.is_writing(cp(1)));
}

/// SPEC 6.1
#[test]
fn spec_6_1_a_permit_is_the_committers_business() {
    let mut sink = Subtask::new(1);

    let (out, verdict) = sink.order(Order::Complete(permit(1)));

    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
}
