//! Restarts of a running coordinator (SPEC 4.10), and its reaction to recovery's decision (SPEC 7).

use snapline::protocol::Verdict::{Applied, Ignored};
use snapline::protocol::Why;
use snapline::protocol::coordinator::{
    Config, Effect, Event, Phase, Stop, StoreOp, StoreResult, Timer,
};
use snapline::protocol::message::{CheckpointKind, Order, Report, ToCoordinator, ToTask};
use snapline::protocol::recovery::{Decision, Health, RecoveryError};

use crate::kit::*;

/// SPEC 4.10
#[test]
fn spec_4_10_a_failed_task_drops_what_is_under_way_and_reads_the_facts() {
    let mut job = Job::running(config());
    job.trigger();

    let (out, verdict) = job.on(Event::TaskFailed { attempt: now() });
    let expected = [DISARM_INTERVAL, DISARM_RESEND, disarm_timeout(1), Effect::Recover];
    assert_eq!((out.as_slice(), verdict), (&expected[..], Applied));
    assert_eq!(job.machine.phase(), Phase::Recovering);
    assert_eq!(job.machine.under_way().count(), 0);

    let (out, verdict) = job.on(Event::TaskFailed { attempt: now() });
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    let (out, verdict) = job.report(Report::Ack(ack(0, 1, false)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    let (out, verdict) = job.fire(Timer::Interval);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
}

/// SPEC 4.10, 3.2
#[test]
fn spec_4_10_the_failure_of_an_earlier_attempt_is_stale() {
    let mut job = Job::running(config());
    let _failed = job.on(Event::TaskFailed { attempt: now() });

    let (out, verdict) = job.on(Event::Recovered(Ok(Decision::Fresh)));
    let deploy = Effect::Deploy { attempt: life(1, 2), decision: Decision::Fresh };
    assert_eq!(out.as_slice(), [deploy, ARM_INTERVAL]);
    assert_eq!(verdict, Applied);

    let (out, verdict) = job.on(Event::TaskFailed { attempt: now() });
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Stale)));
    let (out, verdict) = job.on(Event::Recovered(Ok(Decision::Fresh)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
}

/// SPEC 4.10
#[test]
fn spec_4_10_a_manifest_in_flight_is_answered_before_the_facts_are_read() {
    for result in [StoreResult::Applied, StoreResult::NotApplied] {
        let mut job = Job::running(config());
        job.trigger();
        job.acked(1, false);
        let manifest = job.manifest(1, CheckpointKind::Periodic, false);

        let (out, verdict) = job.on(Event::TaskFailed { attempt: now() });
        let disarmed = [DISARM_INTERVAL, DISARM_RESEND, disarm_timeout(1)];
        assert_eq!((out.as_slice(), verdict), (&disarmed[..], Applied), "no facts are read yet");
        assert_eq!(job.machine.under_way().count(), 1, "it may yet become durable");

        let (out, verdict) = job.stored(manifest, StoreResult::Unknown);
        assert_eq!((out.as_slice(), verdict), (&[Effect::Store(manifest)][..], Applied));

        let (out, verdict) = job.stored(manifest, result);
        assert_eq!((out.as_slice(), verdict), (&[Effect::Recover][..], Applied));
        assert_eq!(job.machine.under_way().count(), 0);
    }
}

/// SPEC 4.10, 4.7
#[test]
fn spec_4_10_too_many_failures_wait_for_the_manifest_of_another_checkpoint() {
    let tolerant = Config { max_concurrent: 2, tolerable_failures: 0, ..config() };
    let mut job = Job::running(tolerant);
    job.trigger();
    job.trigger();
    job.acked(1, false);

    let (out, verdict) = job.fire(Timer::Timeout(cp(2)));
    let disarmed = [disarm_timeout(2), DISARM_INTERVAL, DISARM_RESEND, disarm_timeout(1)];
    assert_eq!((out.as_slice(), verdict), (&disarmed[..], Applied));

    let manifest = job.manifest(1, CheckpointKind::Periodic, false);
    let (out, verdict) = job.stored(manifest, StoreResult::Applied);
    assert_eq!((out.as_slice(), verdict), (&[Effect::Recover][..], Applied));
}

/// SPEC 4.10, 4.1
#[test]
fn spec_4_10_a_coordinator_may_learn_that_it_is_deposed_while_it_waits() {
    let mut job = Job::running(config());
    job.trigger();
    job.acked(1, false);
    let manifest = job.manifest(1, CheckpointKind::Periodic, false);
    let _failed = job.on(Event::TaskFailed { attempt: now() });

    let (out, verdict) = job.stored(manifest, StoreResult::Fenced);

    let disarmed = [disarm_timeout(1), DISARM_INTERVAL, DISARM_RESEND];
    assert_eq!((out.as_slice(), verdict), (&disarmed[..], Applied));
    assert_eq!(job.machine.phase(), Phase::Deposed);
}

/// SPEC 4.10, 8.6
#[test]
fn spec_4_10_who_is_done_takes_no_stores_answer_any_more() {
    let health = Health::Damaged;
    let unusable = RecoveryError::NewestUnusable { checkpoint: cp(5), health };
    let mut failed = Job::recovering(config());
    let _unusable = failed.on(Event::Recovered(Err(unusable)));
    let mut deposed = Job::running(config());
    let _refused = deposed.stored(collect_op(), StoreResult::Fenced);
    let mut lost = Job::running(config());
    lost.trigger();
    lost.completed(1, false);
    let (subtask, checkpoint) = (sub(2), cp(1));
    let _loss = lost.report(Report::Resolved { subtask, checkpoint, lost: true });
    let mut finished = Job::running(config());
    finished.trigger();
    finished.completed(1, true);
    let _concluding = finished.resolved(2, 1);
    let _finished = finished.concluded();
    let ends = [
        (failed, Phase::FailedRecovery(unusable)),
        (deposed, Phase::Deposed),
        (lost, Phase::FailedDataLoss),
        (finished, Phase::Finished(CheckpointKind::Periodic)),
    ];

    for (mut job, phase) in ends {
        assert_eq!(job.machine.phase(), phase);
        let manifest = job.manifest(2, CheckpointKind::Periodic, false);
        let term = job.machine.term();
        let ops = [
            StoreOp::Claim { term, claimant: ME, block: 100 },
            StoreOp::Reserve { term, until: cp(201) },
            manifest,
            StoreOp::Collect { term },
        ];
        let results = [
            StoreResult::Applied,
            StoreResult::NotApplied,
            StoreResult::Unknown,
            StoreResult::Fenced,
        ];
        for (op, result) in ops.into_iter().flat_map(|op| results.map(|result| (op, result))) {
            let (out, verdict) = job.stored(op, result);
            assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
        }
        let (out, verdict) = job.on(Event::Stop(Stop::Drain));
        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
        assert_eq!(job.machine.phase(), phase);
    }
}

/// SPEC 4.2, 4.10
#[test]
fn spec_4_10_ids_go_on_where_they_were() {
    let mut job = Job::running(config());
    job.trigger();
    let _failed = job.on(Event::TaskFailed { attempt: now() });
    let _applied = job.on(Event::Recovered(Ok(Decision::Fresh)));

    let (out, verdict) = job.fire(Timer::Interval);

    let message = ToTask { attempt: life(1, 2), order: Order::Trigger(barrier(2)) };
    let sends = [Effect::Send(sub(0), message), Effect::Send(sub(1), message)];
    assert_eq!(out.as_slice(), [ARM_INTERVAL, sends[0], sends[1], arm_timeout(2)]);
    assert_eq!(verdict, Applied);
}

/// SPEC 3.2
#[test]
fn spec_3_2_a_report_of_an_earlier_attempt_is_stale_to_the_coordinator() {
    let mut job = Job::running(config());
    let _failed = job.on(Event::TaskFailed { attempt: now() });
    let _applied = job.on(Event::Recovered(Ok(Decision::Fresh)));
    job.trigger();
    let (subtask, checkpoint) = (sub(2), cp(1));
    let reports = [
        Report::Ack(ack(0, 1, true)),
        Report::Decline { subtask, checkpoint },
        Report::Resolved { subtask, checkpoint, lost: true },
    ];

    for report in reports {
        let (out, verdict) = job.on(Event::Report(ToCoordinator { attempt: now(), report }));
        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Stale)));
    }
}

/// SPEC 7.2
#[test]
fn spec_7_2_a_restored_checkpoint_is_the_newest_and_all_its_commits_are_awaited() {
    let mut job = Job::recovering(Config { retained: Some(1), ..config() });
    let decision = decided(&[found(5)]);

    let (out, verdict) = job.on(Event::Recovered(Ok(decision)));
    let deploy = Effect::Deploy { attempt: now(), decision };
    let collect = Effect::Store(collect_op());
    assert_eq!(out.as_slice(), [deploy, ARM_RESEND, ARM_INTERVAL, collect]);
    assert_eq!((verdict, job.machine.phase()), (Applied, Phase::Running));
    assert_eq!(job.machine.newest(), Some(cp(5)));

    let (out, verdict) = job.fire(Timer::Resend);
    assert_eq!(out.as_slice(), [complete(2, 5), ARM_RESEND]);
    assert_eq!(verdict, Applied);
}

/// SPEC 7.2
#[test]
fn spec_7_2_the_commits_of_what_is_restored_resolve_what_older_ones_await() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    for number in [1, 2] {
        job.trigger();
        job.completed(number, false);
    }
    let _failed = job.on(Event::TaskFailed { attempt: now() });
    let _applied = job.on(Event::Recovered(Ok(decided(&[found(1), found(2)]))));
    assert_eq!(job.machine.roots(&job.config).unresolved, [cp(1), cp(2)]);

    let (out, verdict) = job.resolved(2, 2);

    assert_eq!((out.as_slice(), verdict), (&[DISARM_RESEND][..], Applied));
    assert_eq!(job.machine.roots(&job.config).unresolved, [cp(2)]);
}

/// SPEC 7.2, 4.10
#[test]
fn spec_7_2_a_manifest_whose_writer_never_knew_is_restored() {
    let mut job = Job::running(config());
    job.trigger();
    job.acked(1, false);
    let manifest = job.manifest(1, CheckpointKind::Periodic, false);
    let _failed = job.on(Event::TaskFailed { attempt: now() });
    let _recover = job.stored(manifest, StoreResult::Applied);
    let decision = decided(&[found(1)]);

    let (out, verdict) = job.on(Event::Recovered(Ok(decision)));

    let deploy = Effect::Deploy { attempt: life(1, 2), decision };
    assert_eq!(out.as_slice(), [deploy, ARM_RESEND, ARM_INTERVAL]);
    assert_eq!((verdict, job.machine.newest()), (Applied, Some(cp(1))));
}

/// SPEC 7.4
#[test]
fn spec_7_4_a_terminal_checkpoint_is_only_committed() {
    let mut job = Job::recovering(config());
    let mut last = found(5);
    last.kind = CheckpointKind::Suspend;
    let decision = decided(&[last]);

    let (out, verdict) = job.on(Event::Recovered(Ok(decision)));
    let deploy = Effect::Deploy { attempt: now(), decision };
    assert_eq!((out.as_slice(), verdict), (&[deploy, ARM_RESEND][..], Applied));
    let (out, verdict) = job.fire(Timer::Interval);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));

    let (out, verdict) = job.resolved(2, 5);
    assert_eq!((out.as_slice(), verdict), (&concluding(now())[..], Applied));
    let _finished = job.concluded();
    assert_eq!(job.machine.phase(), Phase::Finished(CheckpointKind::Suspend));
}

/// SPEC 7.4, 4.10
#[test]
fn spec_7_4_a_task_that_dies_during_the_last_commits_does_not_revive_the_job() {
    let mut job = Job::running(config());
    job.trigger();
    job.completed(1, true);
    let _failed = job.on(Event::TaskFailed { attempt: now() });
    let mut last = found(1);
    last.ended = true;
    let decision = decided(&[last]);

    let (out, verdict) = job.on(Event::Recovered(Ok(decision)));

    let deploy = Effect::Deploy { attempt: life(1, 2), decision };
    assert_eq!((out.as_slice(), verdict), (&[deploy, ARM_RESEND][..], Applied));
    let (out, verdict) = job.resolved(2, 1);
    assert_eq!((out.as_slice(), verdict), (&concluding(life(1, 2))[..], Applied));
    let _finished = job.concluded();
    assert_eq!(job.machine.phase(), Phase::Finished(CheckpointKind::Periodic));
}

/// SPEC 7.1, 7.3
#[test]
fn spec_7_3_a_coordinator_without_a_decision_stops() {
    let health = Health::Damaged;
    let unusable = RecoveryError::NewestUnusable { checkpoint: cp(5), health };
    let deposed = RecoveryError::Deposed { fence: life(2, 0).term };
    let (fence, mine) = (life(0, 0).term, life(1, 0).term);
    let fell = RecoveryError::FenceFell { fence, mine };
    let none = RecoveryError::NoneUsable { newest: cp(5) };
    let failed = |error| (error, Phase::FailedRecovery(error));
    for (error, phase) in [failed(unusable), failed(none), failed(fell), (deposed, Phase::Deposed)]
    {
        let mut job = Job::recovering(config());

        let (out, verdict) = job.on(Event::Recovered(Err(error)));

        assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
        assert_eq!(job.machine.phase(), phase);
        let (out, verdict) = job.on(Event::Recovered(Ok(Decision::Fresh)));
        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    }
}
