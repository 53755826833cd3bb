//! The end of a job: stop, the final checkpoint, the last commits (SPEC 4.8, 4.9), and the effects
//! of lost output.

use snapline::protocol::Verdict::{Applied, Ignored};
use snapline::protocol::Why;
use snapline::protocol::coordinator::{Config, Effect, Event, Phase, Stop, StoreResult, Timer};
use snapline::protocol::message::{CheckpointKind, Order, Report};

use crate::kit::*;

/// SPEC 4.8
#[test]
fn spec_4_8_the_next_checkpoint_after_a_stop_carries_its_kind() {
    let kinds = [(Stop::Drain, CheckpointKind::Drain), (Stop::Suspend, CheckpointKind::Suspend)];
    for (stop, kind) in kinds {
        let mut job = Job::running(config());

        let (out, verdict) = job.on(Event::Stop(stop));
        assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
        assert_eq!(job.machine.stopping(), Some(stop));

        let (out, verdict) = job.fire(Timer::Interval);
        let order = Order::Trigger(barrier_of(1, kind));
        let expected = [ARM_INTERVAL, tell(0, order), tell(1, order), arm_timeout(1)];
        assert_eq!((out.as_slice(), verdict), (&expected[..], Applied));

        let (out, verdict) = job.on(Event::Stop(Stop::Drain));
        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
    }
}

/// SPEC 4.8
#[test]
fn spec_4_8_after_a_stops_checkpoint_nothing_is_triggered_while_it_is_under_way() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    let _remembered = job.on(Event::Stop(Stop::Suspend));
    job.trigger();

    let (out, verdict) = job.fire(Timer::Interval);

    assert_eq!(out.as_slice(), [ARM_INTERVAL]);
    assert_eq!(verdict, Ignored(Why::Busy));
}

/// SPEC 4.8
#[test]
fn spec_4_8_an_aborted_stop_is_tried_again() {
    let mut job = Job::running(config());
    let _remembered = job.on(Event::Stop(Stop::Suspend));
    job.trigger();
    let _aborted = job.fire(Timer::Timeout(cp(1)));

    let (out, verdict) = job.fire(Timer::Interval);

    let order = Order::Trigger(barrier_of(2, CheckpointKind::Suspend));
    assert_eq!(out.as_slice(), [ARM_INTERVAL, tell(0, order), tell(1, order), arm_timeout(2)]);
    assert_eq!(verdict, Applied);
}

/// SPEC 4.8
#[test]
fn spec_4_8_a_completed_stop_ends_the_job_and_subsumes_what_is_older() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    job.trigger();
    let _remembered = job.on(Event::Stop(Stop::Suspend));
    job.trigger();
    job.acked(2, false);
    let manifest = job.manifest(2, CheckpointKind::Suspend, false);

    let (out, verdict) = job.stored(manifest, StoreResult::Applied);
    assert_eq!(out.as_slice(), [disarm_timeout(1), DISARM_INTERVAL, complete(2, 2), ARM_RESEND]);
    assert_eq!((verdict, job.machine.phase()), (Applied, Phase::Running));

    let (out, verdict) = job.fire(Timer::Interval);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    let (out, verdict) = job.on(Event::Stop(Stop::Drain));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));

    let (out, verdict) = job.resolved(2, 2);
    assert_eq!((out.as_slice(), verdict), (&concluding(now())[..], Applied));
    let (out, verdict) = job.concluded();
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    assert_eq!(job.machine.phase(), Phase::Finished(CheckpointKind::Suspend));
}

/// SPEC 4.9
#[test]
fn spec_4_9_a_checkpoint_that_all_acknowledged_as_ended_is_final() {
    let mut job = Job::running(config());
    job.trigger();

    let out = job.completed(1, true);
    assert_eq!(out.as_slice(), [DISARM_INTERVAL, complete(2, 1), ARM_RESEND]);

    let (out, verdict) = job.resolved(2, 1);
    assert_eq!((out.as_slice(), verdict), (&concluding(now())[..], Applied));
    assert_eq!(job.machine.phase(), Phase::Closing);
    let (out, verdict) = job.concluded();
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    assert_eq!(job.machine.phase(), Phase::Finished(CheckpointKind::Periodic));
}

/// SPEC 4.9
#[test]
fn spec_4_9_one_subtask_that_had_not_ended_keeps_the_job_going() {
    let mut job = Job::running(config());
    job.trigger();
    for (subtask, ended) in [(0, true), (1, false), (2, true)] {
        let _applied = job.report(Report::Ack(ack(subtask, 1, ended)));
    }
    let manifest = job.manifest(1, CheckpointKind::Periodic, false);

    let (out, _) = job.stored(manifest, StoreResult::Applied);

    assert_eq!(out.as_slice(), [complete(2, 1), ARM_RESEND]);
    job.trigger();
}

/// SPEC 4.9
#[test]
fn spec_4_9_with_a_newer_one_under_way_the_newer_one_is_final() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    job.trigger();
    job.trigger();

    let out = job.completed(1, true);
    assert_eq!(out.as_slice(), [complete(2, 1), ARM_RESEND], "not the final one");
    let (out, verdict) = job.resolved(2, 1);
    assert_eq!((out.as_slice(), verdict), (&[DISARM_RESEND][..], Applied));
    assert_eq!(job.machine.phase(), Phase::Running);

    let out = job.completed(2, true);
    assert_eq!(out.as_slice(), [DISARM_INTERVAL, complete(2, 2), ARM_RESEND]);
    let (out, verdict) = job.resolved(2, 2);
    assert_eq!((out.as_slice(), verdict), (&concluding(now())[..], Applied));
}

/// SPEC 4.9
#[test]
fn spec_4_9_if_the_newer_one_is_aborted_the_one_after_it_is_final() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    job.trigger();
    job.trigger();
    job.completed(1, true);
    let _aborted = job.fire(Timer::Timeout(cp(2)));
    job.trigger();

    let out = job.completed(3, true);

    assert_eq!(out.as_slice(), [DISARM_INTERVAL, complete(2, 3), ARM_RESEND]);
}

/// SPEC 4.9
#[test]
fn spec_4_9_a_newer_one_that_was_aborted_before_keeps_an_older_one_from_being_final() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    job.trigger();
    job.trigger();
    let (_, verdict) = job.fire(Timer::Timeout(cp(2)));
    assert_eq!(verdict, Applied);

    let out = job.completed(1, true);
    assert_eq!(out.as_slice(), [complete(2, 1), ARM_RESEND], "2 has closed transactions after 1's");
    let (out, verdict) = job.resolved(2, 1);
    assert_eq!((out.as_slice(), verdict), (&[DISARM_RESEND][..], Applied));
    assert!(!job.machine.is_over());
    job.trigger();

    let out = job.completed(3, true);
    assert_eq!(out.as_slice(), [DISARM_INTERVAL, complete(2, 3), ARM_RESEND]);
    let (out, verdict) = job.resolved(2, 3);
    assert_eq!((out.as_slice(), verdict), (&concluding(now())[..], Applied));
}

/// SPEC 4.9, 4.6
#[test]
fn spec_4_9_it_is_the_same_if_the_newer_ones_manifest_was_not_applied() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    job.trigger();
    job.trigger();
    job.acked(2, true);
    let newer = job.manifest(2, CheckpointKind::Periodic, true);
    let _aborted = job.stored(newer, StoreResult::NotApplied);

    let out = job.completed(1, true);

    assert_eq!(out.as_slice(), [complete(2, 1), ARM_RESEND]);
    assert!(!job.machine.is_over());
}

/// SPEC 4.8, 4.9
#[test]
fn spec_4_8_a_stop_asked_for_after_the_final_trigger_changes_nothing() {
    let mut job = Job::running(config());
    job.trigger();
    let (_, verdict) = job.on(Event::Stop(Stop::Suspend));
    assert_eq!(verdict, Applied);

    let out = job.completed(1, true);

    assert_eq!(out.as_slice(), [DISARM_INTERVAL, complete(2, 1), ARM_RESEND]);
    let (out, verdict) = job.on(Event::Stop(Stop::Suspend));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    let _concluding = job.resolved(2, 1);
    let _finished = job.concluded();
    assert_eq!(job.machine.phase(), Phase::Finished(CheckpointKind::Periodic));
}

/// SPEC 8.5
#[test]
fn spec_8_5_a_deletion_that_was_not_carried_out_is_asked_for_again() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    job.trigger();
    job.completed(1, false);
    let collect = Effect::Store(collect_op());

    for result in [StoreResult::NotApplied, StoreResult::Unknown] {
        let (out, verdict) = job.stored(collect_op(), result);
        assert_eq!((out.as_slice(), verdict), (&[collect][..], Applied));
    }

    let (out, verdict) = job.stored(collect_op(), StoreResult::Applied);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    let (out, verdict) = job.stored(collect_op(), StoreResult::Unknown);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
}

/// SPEC 8.6, 8.5
#[test]
fn spec_8_6_the_job_is_not_finished_by_a_sweep_that_was_not_carried_out() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    job.trigger();
    job.completed(1, true);
    job.swept();
    let _concluding = job.resolved(2, 1);
    let collect = Effect::Store(collect_op());
    let (out, _) = job.concluded();
    assert_eq!(out.as_slice(), [collect]);

    let (out, verdict) = job.stored(collect_op(), StoreResult::Unknown);
    assert_eq!((out.as_slice(), verdict), (&[collect][..], Applied));
    assert_eq!(job.machine.phase(), Phase::Closing);

    let _swept = job.stored(collect_op(), StoreResult::Applied);
    assert_eq!(job.machine.phase(), Phase::Finished(CheckpointKind::Periodic));
}

/// SPEC 8.6
#[test]
fn spec_8_6_the_last_sweep_comes_after_the_end_of_the_tasks() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    let collect = Effect::Store(collect_op());
    job.trigger();
    let out = job.completed(1, true);
    assert_eq!(out.as_slice(), [DISARM_INTERVAL, complete(2, 1), ARM_RESEND, collect]);

    let (out, verdict) = job.resolved(2, 1);
    assert_eq!((out.as_slice(), verdict), (&concluding(now())[..], Applied));
    let (out, verdict) = job.stored(collect_op(), StoreResult::Applied);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    assert_eq!(job.machine.phase(), Phase::Closing, "that sweep was not the last");

    let (out, verdict) = job.concluded();
    assert_eq!((out.as_slice(), verdict), (&[collect][..], Applied));
    assert_eq!(job.machine.phase(), Phase::Closing);
    let (out, verdict) = job.stored(collect_op(), StoreResult::Applied);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    assert_eq!(job.machine.phase(), Phase::Finished(CheckpointKind::Periodic));

    let (out, verdict) = job.stored(collect_op(), StoreResult::Applied);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    let (out, verdict) = job.concluded();
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
}

/// SPEC 8.6
#[test]
fn spec_8_6_the_tasks_of_a_job_end_once() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    job.trigger();
    job.completed(1, true);
    job.swept();
    let _concluding = job.resolved(2, 1);
    let (out, verdict) = job.concluded();
    assert_eq!((out.as_slice(), verdict), (&[Effect::Store(collect_op())][..], Applied));

    let (out, verdict) = job.concluded();

    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
}

/// SPEC 8.6, 4.1
#[test]
fn spec_8_6_a_closing_job_may_be_deposed() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    job.trigger();
    job.completed(1, true);
    let _concluding = job.resolved(2, 1);

    let (out, verdict) = job.stored(collect_op(), StoreResult::Fenced);

    assert_eq!((out.as_slice(), verdict), (&[DISARM_INTERVAL, DISARM_RESEND][..], Applied));
    assert_eq!(job.machine.phase(), Phase::Deposed);
}

/// SPEC 8.6, 8.5
#[test]
fn spec_8_6_a_sweep_that_began_before_the_end_of_the_tasks_is_followed_by_another() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    job.trigger();
    job.completed(1, true);
    let _concluding = job.resolved(2, 1);

    let (out, verdict) = job.concluded();
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    let (out, verdict) = job.stored(collect_op(), StoreResult::Applied);
    assert_eq!((out.as_slice(), verdict), (&[Effect::Store(collect_op())][..], Applied));
    assert_eq!(job.machine.phase(), Phase::Closing);
    let (out, verdict) = job.stored(collect_op(), StoreResult::Applied);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));

    assert_eq!(job.machine.phase(), Phase::Finished(CheckpointKind::Periodic));
}

/// SPEC 8.6, 3.2
#[test]
fn spec_8_6_an_end_that_was_not_asked_for_or_of_another_attempt_is_ignored() {
    let mut job = Job::running(config());
    let (out, verdict) = job.concluded();
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));

    job.trigger();
    job.completed(1, true);
    let _concluding = job.resolved(2, 1);
    let (out, verdict) = job.on(Event::Concluded { attempt: life(1, 0) });
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Stale)));
    let (out, verdict) = job.on(Event::TaskFailed { attempt: now() });
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    assert_eq!(job.machine.phase(), Phase::Closing);
}

/// SPEC 6.5
#[test]
fn spec_6_5_a_coordinator_that_hears_of_a_loss_fails_the_job() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    job.trigger();
    job.trigger();
    job.completed(1, false);
    let lost = Report::Resolved { subtask: sub(2), checkpoint: cp(1), lost: true };

    let (out, verdict) = job.report(lost);
    assert_eq!(out.as_slice(), [disarm_timeout(2), DISARM_INTERVAL, DISARM_RESEND]);
    assert_eq!((verdict, job.machine.phase()), (Applied, Phase::FailedDataLoss));

    let (out, verdict) = job.resolved(2, 1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
}

/// SPEC 6.5, 4.5
#[test]
fn spec_6_5_a_manifest_that_lands_after_the_loss_completes_nothing() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    job.trigger();
    job.trigger();
    job.completed(1, false);
    job.acked(2, true);
    let lost = Report::Resolved { subtask: sub(2), checkpoint: cp(1), lost: true };
    let _failed = job.report(lost);
    let manifest = job.manifest(2, CheckpointKind::Periodic, true);

    for result in [StoreResult::Unknown, StoreResult::Applied] {
        let (out, verdict) = job.stored(manifest, result);
        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    }
    assert_eq!(job.machine.phase(), Phase::FailedDataLoss);
    assert_eq!(job.machine.newest(), Some(cp(1)));
}

/// SPEC 6.6
#[test]
fn spec_6_6_only_sinks_that_have_not_reported_are_notified_again() {
    let sinks = [1, 2].into_iter().collect();
    let sources = [0].into_iter().collect();
    let mut job = Job::running(Config { sources, sinks, ..config() });
    job.trigger();
    let out = job.completed(1, false);
    assert_eq!(out.as_slice(), [complete(1, 1), complete(2, 1), ARM_RESEND]);

    let (out, verdict) = job.resolved(1, 1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    let (out, verdict) = job.resolved(1, 1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));

    let (out, verdict) = job.fire(Timer::Resend);
    assert_eq!(out.as_slice(), [complete(2, 1), ARM_RESEND]);
    assert_eq!(verdict, Applied);

    let (out, verdict) = job.resolved(2, 1);
    assert_eq!((out.as_slice(), verdict), (&[DISARM_RESEND][..], Applied));
    assert!(job.machine.is_resolved());
    let (out, verdict) = job.fire(Timer::Resend);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 6.6, 8.1
#[test]
fn spec_6_6_a_report_resolves_every_older_checkpoint_too() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    for number in [1, 2] {
        job.trigger();
        job.completed(number, false);
    }
    job.swept();
    job.swept();
    assert_eq!(job.machine.roots(&job.config).unresolved, [cp(1), cp(2)]);

    let (out, verdict) = job.resolved(2, 1);
    assert_eq!((out.as_slice(), verdict), (&[Effect::Store(collect_op())][..], Applied));
    assert!(!job.machine.is_resolved(), "2 is the newest, and awaited");
    assert_eq!(job.machine.roots(&job.config).unresolved, [cp(2)]);

    job.trigger();
    job.completed(3, false);
    let (_, verdict) = job.resolved(2, 3);
    assert_eq!(verdict, Applied);
    assert_eq!(job.machine.roots(&job.config).unresolved, [cp(3)], "the newest stays a root");
}
