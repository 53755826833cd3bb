//! Section 4, up to the restart: claim, ids, trigger, acknowledgements, completion, abort.

use snapline::protocol::Verdict::{Applied, Ignored};
use snapline::protocol::coordinator::{
    Config, Coordinator, Effect, Event, Phase, StoreOp, StoreResult, Timer,
};
use snapline::protocol::fence::{Claimant, Fence, Fenced};
use snapline::protocol::ids::Term;
use snapline::protocol::message::{Barrier, CheckpointKind, Order, Report};
use snapline::protocol::recovery::Decision;
use snapline::protocol::{Out, Why};

use crate::kit::*;

/// SPEC 4.1
#[test]
fn spec_4_1_the_first_effect_claims_the_store_and_nothing_else_is_done() {
    let config = config();
    let mut out = Out::new();

    let machine = Coordinator::start(&config, Term::new(1), ME, &mut out);
    assert_eq!(out.as_slice(), [Effect::Store(claim())]);
    assert_eq!(machine.phase(), Phase::Claiming);

    let mut job = Job { config, machine };
    let early = [
        Event::Fired(Timer::Interval),
        Event::Recovered(Ok(Decision::Fresh)),
        Event::TaskFailed { attempt: job.machine.attempt() },
    ];
    for event in early {
        let (out, verdict) = job.on(event);
        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    }
}

/// SPEC 4.1
#[test]
fn spec_4_1_a_claim_without_a_clear_answer_is_made_again() {
    let mut job = Job::claiming(config());

    for result in [StoreResult::Unknown, StoreResult::NotApplied] {
        let (out, verdict) = job.stored(claim(), result);
        assert_eq!(out.as_slice(), [Effect::Store(claim())]);
        assert_eq!(verdict, Applied);
    }

    let claimed = Event::Claimed { first: cp(101), until: cp(201) };
    let (out, verdict) = job.on(claimed);
    assert_eq!(out.as_slice(), [Effect::Recover]);
    assert_eq!((verdict, job.machine.phase()), (Applied, Phase::Recovering));

    let (out, verdict) = job.on(claimed);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
    let (out, verdict) = job.stored(claim(), StoreResult::Unknown);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
}

/// SPEC 4.1
#[test]
fn spec_4_1_the_first_refused_write_deposes() {
    let mut job = Job::running(config());
    job.trigger();
    job.acked(1, false);

    let (out, verdict) = job.stored(periodic(&job, 1), StoreResult::Fenced);
    assert_eq!(out.as_slice(), [disarm_timeout(1), DISARM_INTERVAL, DISARM_RESEND]);
    assert_eq!((verdict, job.machine.phase()), (Applied, Phase::Deposed));

    let (out, verdict) = job.fire(Timer::Interval);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));

    let mut job = Job::claiming(config());
    let (out, verdict) = job.stored(claim(), StoreResult::Fenced);
    assert_eq!(out.as_slice(), [DISARM_INTERVAL, DISARM_RESEND]);
    assert_eq!((verdict, job.machine.phase()), (Applied, Phase::Deposed));
}

/// SPEC 4.1, 2.13
#[test]
fn spec_4_1_of_two_coordinators_that_chose_one_term_the_first_to_claim_has_it() {
    let (mut out, mut fence) = (Out::new(), Fence::default());
    let mut first = Job::claiming(config());
    let other = Claimant(8);
    let machine = Coordinator::start(&config(), Term::new(1), other, &mut out);
    let mut second = Job { config: config(), machine };
    let theirs = StoreOp::Claim { term: Term::new(1), claimant: other, block: 100 };
    assert_eq!(out.as_slice(), [Effect::Store(theirs)]);

    let ids = fence.claim(Term::new(1), ME, 100).expect("no other claim exists");
    let refused = fence.claim(Term::new(1), other, 100);
    assert_eq!(refused, Err(Fenced { by: Term::new(1) }));

    let (out, verdict) = first.on(Event::Claimed { first: ids, until: fence.until });
    assert_eq!((out.as_slice(), verdict), (&[Effect::Recover][..], Applied));
    let (out, verdict) = second.stored(theirs, StoreResult::Fenced);
    assert_eq!(out.as_slice(), [DISARM_INTERVAL, DISARM_RESEND]);
    assert_eq!((verdict, second.machine.phase()), (Applied, Phase::Deposed));

    let later = fence.term.next();
    assert_eq!(fence.claim(later, other, 100), Ok(cp(101)), "it may try again with a later term");
    assert_eq!(fence.admit(Term::new(1)), Err(Fenced { by: later }));
}

/// SPEC 4.2
#[test]
fn spec_4_2_ids_come_from_the_block_and_are_not_used_again_after_an_abort() {
    let mut job = Job::claiming(config());
    let _applied = job.on(Event::Claimed { first: cp(7), until: cp(9) });
    let _applied = job.on(Event::Recovered(Ok(Decision::Fresh)));

    job.trigger();
    assert_eq!(under_way(&job), [7]);
    let (_, verdict) = job.fire(Timer::Timeout(cp(7)));
    assert_eq!(verdict, Applied);
    job.trigger();
    assert_eq!(under_way(&job), [8]);
}

/// SPEC 4.2
#[test]
fn spec_4_2_a_used_up_block_is_extended_durably_before_the_next_checkpoint() {
    let mut job = Job::running(Config { id_block: 1, ..config() });
    job.trigger();
    let _aborted = job.fire(Timer::Timeout(cp(1)));
    let reserve = StoreOp::Reserve { term: Term::new(1), until: cp(3) };

    let (out, verdict) = job.fire(Timer::Interval);
    assert_eq!(out.as_slice(), [ARM_INTERVAL, Effect::Store(reserve)]);
    assert_eq!((verdict, under_way(&job)), (Applied, vec![]));

    let (out, verdict) = job.fire(Timer::Interval);
    assert_eq!(out.as_slice(), [ARM_INTERVAL]);
    assert_eq!(verdict, Ignored(Why::Busy));

    for result in [StoreResult::Unknown, StoreResult::NotApplied] {
        let (out, verdict) = job.stored(reserve, result);
        assert_eq!(out.as_slice(), [Effect::Store(reserve)]);
        assert_eq!(verdict, Applied);
    }

    let (out, verdict) = job.stored(reserve, StoreResult::Applied);
    let two = Order::Trigger(barrier(2));
    assert_eq!(out.as_slice(), [tell(0, two), tell(1, two), arm_timeout(2)]);
    assert_eq!(verdict, Applied);

    let (out, verdict) = job.stored(reserve, StoreResult::Applied);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
}

/// SPEC 4.3
#[test]
fn spec_4_3_a_trigger_goes_to_every_source_and_arms_its_timers() {
    let mut job = Job::running(config());

    let (out, verdict) = job.fire(Timer::Interval);

    let one = Order::Trigger(barrier(1));
    assert_eq!(out.as_slice(), [ARM_INTERVAL, tell(0, one), tell(1, one), arm_timeout(1)]);
    assert_eq!(verdict, Applied);
}

/// SPEC 4.3
#[test]
fn spec_4_3_at_the_limit_the_timer_is_armed_again_all_the_same() {
    let mut job = Job::running(config());
    job.trigger();

    let (out, verdict) = job.fire(Timer::Interval);
    assert_eq!(out.as_slice(), [ARM_INTERVAL]);
    assert_eq!(verdict, Ignored(Why::Busy));

    job.config.max_concurrent = 2;
    job.trigger();
    assert_eq!(under_way(&job), [1, 2]);
}

/// SPEC 4.3, 8.3
#[test]
fn spec_4_3_the_base_is_the_newest_complete_checkpoint_at_the_trigger() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    job.trigger();
    job.trigger();
    job.completed(1, false);

    let (out, _) = job.fire(Timer::Interval);

    let three = Order::Trigger(Barrier { base: Some(cp(1)), ..barrier(3) });
    assert_eq!(out.as_slice(), [ARM_INTERVAL, tell(0, three), tell(1, three), arm_timeout(3)]);
    let bases: Vec<_> =
        job.machine.roots(&job.config).under_way.iter().map(|way| way.base).collect();
    assert_eq!(bases, [None, Some(cp(1))], "2 was triggered before 1 was complete");
}

/// SPEC 4.4
#[test]
fn spec_4_4_an_acknowledgement_counts_once() {
    let mut job = Job::running(config());
    job.trigger();

    let (out, verdict) = job.report(Report::Ack(ack(0, 1, false)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));
    let (out, verdict) = job.report(Report::Ack(ack(0, 1, false)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
    let (out, verdict) = job.report(Report::Ack(ack(2, 1, false)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));

    let (out, verdict) = job.report(Report::Ack(ack(1, 1, false)));
    assert_eq!(out.as_slice(), [Effect::Store(periodic(&job, 1)), disarm_timeout(1)]);
    assert_eq!(verdict, Applied);
}

/// SPEC 4.4
#[test]
fn spec_4_4_a_checkpoint_is_ended_only_if_all_subtasks_say_so() {
    for (late, ended) in [(true, true), (false, false)] {
        let mut job = Job::running(config());
        job.trigger();
        for subtask in [0, 2] {
            let _applied = job.report(Report::Ack(ack(subtask, 1, true)));
        }

        let (out, _) = job.report(Report::Ack(ack(1, 1, late)));

        let manifest = job.manifest(1, CheckpointKind::Periodic, ended);
        assert_eq!(out.as_slice(), [Effect::Store(manifest), disarm_timeout(1)]);
    }
}

/// SPEC 4.4
#[test]
fn spec_4_4_an_acknowledgement_of_an_aborted_checkpoint_is_settled() {
    let mut job = Job::running(config());
    job.trigger();
    let _aborted = job.fire(Timer::Timeout(cp(1)));

    let (out, verdict) = job.report(Report::Ack(ack(0, 1, false)));

    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 4.5, 3.4
#[test]
fn spec_4_5_a_durable_manifest_completes_and_nothing_before_it() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    job.trigger();
    let out = job.acked(1, false);
    let manifest = periodic(&job, 1);
    assert_eq!(out.as_slice(), [Effect::Store(manifest), disarm_timeout(1)]);
    assert_eq!(job.machine.newest(), None);

    let (out, verdict) = job.stored(manifest, StoreResult::Applied);
    assert_eq!(out.as_slice(), [complete(2, 1), ARM_RESEND, Effect::Store(collect_op())]);
    assert_eq!((verdict, job.machine.newest()), (Applied, Some(cp(1))));

    let (out, verdict) = job.stored(manifest, StoreResult::Applied);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
}

/// SPEC 4.5
#[test]
fn spec_4_5_a_manifest_of_unknown_outcome_is_written_again() {
    let mut job = Job::running(config());
    job.trigger();
    job.acked(1, false);
    let manifest = periodic(&job, 1);

    for _ in 0..2 {
        let (out, verdict) = job.stored(manifest, StoreResult::Unknown);
        assert_eq!(out.as_slice(), [Effect::Store(manifest)]);
        assert_eq!((verdict, job.machine.newest()), (Applied, None));
    }

    let (out, _) = job.stored(manifest, StoreResult::Applied);
    assert_eq!(out.as_slice(), [complete(2, 1), ARM_RESEND]);
}

/// SPEC 4.5
#[test]
fn spec_4_5_the_newest_full_checkpoint_is_written_next_and_subsumes_older_ones() {
    let mut job = Job::running(Config { max_concurrent: 3, ..config() });
    for _ in 0..3 {
        job.trigger();
    }
    job.acked(1, false);
    assert!(job.acked(2, false).is_empty(), "one manifest at a time");
    assert!(job.acked(3, false).is_empty());

    let (out, verdict) = job.stored(periodic(&job, 1), StoreResult::Applied);
    let three = Effect::Store(periodic(&job, 3));
    assert_eq!(out.as_slice(), [complete(2, 1), ARM_RESEND, three, disarm_timeout(3)]);
    assert_eq!(verdict, Applied);

    let (out, verdict) = job.stored(periodic(&job, 3), StoreResult::Applied);
    assert_eq!(out.as_slice(), [disarm_timeout(2), complete(2, 3), ARM_RESEND]);
    assert_eq!((verdict, under_way(&job)), (Applied, vec![]));

    let (out, verdict) = job.report(Report::Ack(ack(0, 2, false)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
}

/// SPEC 4.6
#[test]
fn spec_4_6_a_declined_or_late_checkpoint_is_aborted_everywhere() {
    let decline = Report::Decline { subtask: sub(2), checkpoint: cp(1) };
    for by_timeout in [false, true] {
        let mut job = Job::running(Config { retained: Some(1), ..config() });
        job.trigger();
        let end = |job: &mut Job| match by_timeout {
            true => job.fire(Timer::Timeout(cp(1))),
            false => job.report(decline),
        };

        let (out, verdict) = end(&mut job);
        let [zero, one, two] = abort_all(1);
        let collect = Effect::Store(collect_op());
        assert_eq!(out.as_slice(), [disarm_timeout(1), zero, one, two, collect]);
        assert_eq!(verdict, Applied);

        let (out, verdict) = end(&mut job);
        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Settled)));
    }
}

/// SPEC 4.6
#[test]
fn spec_4_6_while_its_manifest_is_written_a_checkpoint_is_past_declining() {
    let mut job = Job::running(config());
    job.trigger();
    job.acked(1, false);

    let (out, verdict) = job.fire(Timer::Timeout(cp(1)));
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    let decline = Report::Decline { subtask: sub(0), checkpoint: cp(1) };
    let (out, verdict) = job.report(decline);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
}

/// SPEC 4.6
#[test]
fn spec_4_6_a_manifest_that_was_not_applied_aborts_and_the_next_is_written() {
    let mut job = Job::running(Config { max_concurrent: 2, ..config() });
    job.trigger();
    job.trigger();
    job.acked(1, false);
    job.acked(2, false);

    let (out, verdict) = job.stored(periodic(&job, 1), StoreResult::NotApplied);

    let [zero, one, two] = abort_all(1);
    let store = Effect::Store(periodic(&job, 2));
    assert_eq!(out.as_slice(), [disarm_timeout(1), zero, one, two, store, disarm_timeout(2)]);
    assert_eq!(verdict, Applied);
}

/// SPEC 4.6, 4.7
#[test]
fn spec_4_7_a_manifest_that_was_not_applied_may_be_the_one_abort_too_many() {
    let mut job = Job::running(Config { max_concurrent: 2, tolerable_failures: 0, ..config() });
    job.trigger();
    job.trigger();
    job.acked(1, false);
    job.acked(2, false);

    let (out, verdict) = job.stored(periodic(&job, 1), StoreResult::NotApplied);

    let dropped = [disarm_timeout(1), DISARM_INTERVAL, DISARM_RESEND, disarm_timeout(2)];
    assert_eq!(out.as_slice(), [&dropped[..], &[Effect::Recover]].concat(), "2 is not written");
    assert_eq!((verdict, job.machine.phase()), (Applied, Phase::Recovering));
}

/// SPEC 4.7
#[test]
fn spec_4_7_one_abort_more_than_is_tolerated_restarts_the_job() {
    let mut job = Job::running(Config { tolerable_failures: 1, ..config() });
    job.trigger();
    let (out, _) = job.fire(Timer::Timeout(cp(1)));
    let [zero, one, two] = abort_all(1);
    assert_eq!(out.as_slice(), [disarm_timeout(1), zero, one, two], "tolerated");
    job.trigger();

    let (out, verdict) = job.fire(Timer::Timeout(cp(2)));

    let restart = [disarm_timeout(2), DISARM_INTERVAL, DISARM_RESEND, Effect::Recover];
    assert_eq!(out.as_slice(), restart);
    assert_eq!((verdict, job.machine.phase()), (Applied, Phase::Recovering));
}

/// SPEC 4.7, 4.5
#[test]
fn spec_4_7_a_completed_checkpoint_clears_the_count() {
    let mut job = Job::running(Config { tolerable_failures: 1, ..config() });
    job.trigger();
    let _aborted = job.fire(Timer::Timeout(cp(1)));
    job.trigger();
    job.completed(2, false);
    job.trigger();

    let (_, verdict) = job.fire(Timer::Timeout(cp(3)));

    assert_eq!((verdict, job.machine.phase()), (Applied, Phase::Running));
}

fn claim() -> StoreOp {
    StoreOp::Claim { term: Term::new(1), claimant: ME, block: 100 }
}

fn periodic(job: &Job, number: u64) -> StoreOp {
    job.manifest(number, CheckpointKind::Periodic, false)
}

fn under_way(job: &Job) -> Vec<u64> {
    job.machine.under_way().map(|(checkpoint, _)| checkpoint.get()).collect()
}

fn abort_all(number: u64) -> [Effect; 3] {
    [0, 1, 2].map(|subtask| tell(subtask, Order::Abort(cp(number))))
}
