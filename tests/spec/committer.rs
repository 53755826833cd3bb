//! Section 6: transactions, permits, commits, and a restored sink's first actions.

use snapline::protocol::Verdict::{Applied, Ignored};
use snapline::protocol::committer::{CommitOutcome, Committer, Config, Effect, Event, Phase};
use snapline::protocol::ids::{Attempt, TxnId};
use snapline::protocol::message::{CommitPermit, Order, Report, ToCoordinator, ToTask};
use snapline::protocol::{Out, Verdict, Why};

use crate::kit::{barrier, cp, life, now, permit, step, sub};

/// SPEC 6.1
#[test]
fn spec_6_1_a_transaction_is_committed_under_a_permit_only_and_named_by_its_producer() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);

    let (out, verdict) = sink.complete(1);

    assert_eq!(out.as_slice(), [Effect::Commit(txn(1), permit(1))]);
    assert_eq!(verdict, Applied);
    assert_eq!((txn(1).subtask, txn(1).attempt, txn(1).checkpoint), (sub(2), now(), cp(1)));
}

/// SPEC 6.1, 6.6
#[test]
fn spec_6_1_a_permit_covers_what_is_older_in_order_and_nothing_newer() {
    let mut sink = Sink::fresh();
    for number in [1, 2, 3] {
        let _prepared = sink.barrier(number);
    }

    let (out, verdict) = sink.complete(2);
    assert_eq!((out.as_slice(), verdict), (&[Effect::Commit(txn(1), permit(2))][..], Applied));
    let (out, verdict) = sink.outcome(1, CommitOutcome::Committed);
    assert_eq!((out.as_slice(), verdict), (&[Effect::Commit(txn(2), permit(2))][..], Applied));
    let (out, verdict) = sink.outcome(2, CommitOutcome::Committed);
    assert_eq!((out.as_slice(), verdict), (&[resolved(2, false)][..], Applied));

    assert_eq!(sink.machine.pending(), [txn(3)]);
}

/// SPEC 6.1
#[test]
fn spec_6_1_a_permit_older_than_one_known_adds_nothing() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);
    let _prepared = sink.barrier(2);
    let _commit = sink.complete(2);

    let (out, verdict) = sink.complete(1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));

    let _commit = sink.outcome(1, CommitOutcome::Committed);
    let (out, _) = sink.outcome(2, CommitOutcome::Committed);
    assert_eq!(out.as_slice(), [resolved(2, false)]);
    let (out, verdict) = sink.complete(1);
    assert_eq!((out.as_slice(), verdict), (&[resolved(2, false)][..], Applied));
}

/// SPEC 6.1
#[test]
fn spec_6_1_a_newer_permit_counts_when_the_call_in_flight_returns() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);
    let _prepared = sink.barrier(2);
    let _commit = sink.complete(1);

    let (out, verdict) = sink.complete(2);
    assert_eq!((out.as_slice(), verdict), (&[][..], Applied));

    let (out, verdict) = sink.outcome(1, CommitOutcome::Committed);
    assert_eq!((out.as_slice(), verdict), (&[Effect::Commit(txn(2), permit(2))][..], Applied));
}

/// SPEC 6.2
#[test]
fn spec_6_2_each_barrier_closes_a_transaction_even_an_empty_one() {
    let mut sink = Sink::fresh();

    for number in [1, 2] {
        let (out, verdict) = sink.barrier(number);
        assert_eq!((out.as_slice(), verdict), (&[Effect::PreCommit(txn(number))][..], Applied));
    }
}

/// SPEC 6.3
#[test]
fn spec_6_3_a_snapshot_holds_what_is_not_known_to_be_resolved() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);
    let _commit = sink.complete(1);
    let _prepared = sink.barrier(2);
    assert_eq!(sink.machine.pending(), [txn(1), txn(2)], "1 is in flight: its outcome is open");

    let _resolved = sink.outcome(1, CommitOutcome::Committed);

    assert_eq!(sink.machine.pending(), [txn(2)]);
}

/// SPEC 6.4
#[test]
fn spec_6_4_a_restored_sink_reads_nothing_until_all_is_committed_again() {
    let held = vec![by(life(1, 1), 4), by(life(1, 1), 5)];
    let (mut sink, out) = Sink::start(Some((held.clone(), permit(5))));
    assert_eq!(out.as_slice(), [Effect::RollBackOrphans, Effect::Commit(held[0], permit(5))]);
    assert_eq!(sink.machine.phase(), Phase::Recommitting);
    assert!(!sink.machine.may_read());

    let (out, verdict) = sink.outcome_of(held[0], CommitOutcome::AlreadyCommitted);
    assert_eq!((out.as_slice(), verdict), (&[Effect::Commit(held[1], permit(5))][..], Applied));
    assert!(!sink.machine.may_read());

    let (out, verdict) = sink.outcome_of(held[1], CommitOutcome::Committed);
    assert_eq!((out.as_slice(), verdict), (&[sink.resolved(5, false)][..], Applied));
    assert!(sink.machine.may_read());
}

/// SPEC 6.4
#[test]
fn spec_6_4_a_restored_sink_without_committables_reports_at_once() {
    let (sink, out) = Sink::start(Some((vec![], permit(5))));

    assert_eq!(out.as_slice(), [Effect::RollBackOrphans, sink.resolved(5, false)]);
    assert_eq!(sink.machine.phase(), Phase::Running);
}

/// SPEC 6.4
#[test]
fn spec_6_4_a_permit_that_comes_during_the_replay_is_a_duplicate() {
    let (mut sink, _) = Sink::start(Some((vec![by(now(), 5)], permit(5))));

    let (out, verdict) = sink.complete(5);

    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
    assert!(!sink.machine.may_read());
}

/// SPEC 6.4
#[test]
#[should_panic(expected = "given no barrier")]
fn spec_6_4_a_barrier_before_the_replay_is_over_is_an_assertion() {
    let (mut sink, _) = Sink::start(Some((vec![by(now(), 5)], permit(5))));

    let _never = sink.barrier(6);
}

/// SPEC 6.4, 7.5
#[test]
fn spec_6_4_orphans_are_what_earlier_attempts_of_the_subtask_prepared_beyond_the_snapshot() {
    let held = by(life(1, 1), 5);
    let (sink, _) = Sink::start(Some((vec![held], permit(5))));
    let orphan = |txn: TxnId| sink.machine.is_orphan(&sink.config, &txn);
    assert!(!orphan(held), "the restored checkpoint holds it");
    assert!(orphan(by(life(1, 1), 6)), "of no completed checkpoint");
    assert!(orphan(by(life(1, 0), 5)), "the same checkpoint's, of another attempt");
    assert!(!orphan(by(life(2, 1), 7)), "this attempt's own");
    assert!(!orphan(by(life(2, 2), 7)), "a later attempt's");
    assert!(!orphan(TxnId { subtask: sub(1), ..by(life(1, 1), 6) }), "another subtask's");

    let (sink, out) = Sink::start(None);
    assert_eq!(out.as_slice(), [Effect::RollBackOrphans], "without a snapshot, too");
    assert!(sink.machine.is_orphan(&sink.config, &held));
    assert!(sink.machine.may_read());
}

/// SPEC 6.5
#[test]
fn spec_6_5_a_loss_is_reported_and_reported_again() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);
    let _prepared = sink.barrier(2);
    let _commit = sink.complete(1);

    let (out, verdict) = sink.outcome(1, CommitOutcome::Lost);
    assert_eq!((out.as_slice(), verdict), (&[resolved(1, true)][..], Applied));
    assert_eq!(sink.machine.phase(), Phase::Failed);
    assert!(!sink.machine.may_read());

    for number in [1, 2] {
        let (out, verdict) = sink.complete(number);
        assert_eq!((out.as_slice(), verdict), (&[resolved(number, true)][..], Applied));
    }
    let (out, verdict) = sink.outcome(1, CommitOutcome::Committed);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
    assert_eq!(sink.machine.pending(), [txn(1), txn(2)], "2 is not committed after a hole");
}

/// SPEC 6.5, 6.4
#[test]
fn spec_6_5_a_restored_sink_comes_upon_the_same_loss() {
    let held = by(life(1, 1), 5);
    let (mut sink, _) = Sink::start(Some((vec![held], permit(5))));

    let (out, verdict) = sink.outcome_of(held, CommitOutcome::Lost);

    assert_eq!((out.as_slice(), verdict), (&[sink.resolved(5, true)][..], Applied));
    assert_eq!(sink.machine.phase(), Phase::Failed);
}

/// SPEC 6.6
#[test]
fn spec_6_6_a_commit_is_called_again_until_its_outcome_is_known() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);
    let _commit = sink.complete(1);

    for outcome in [CommitOutcome::Retry, CommitOutcome::Unknown, CommitOutcome::Retry] {
        let (out, verdict) = sink.outcome(1, outcome);
        assert_eq!((out.as_slice(), verdict), (&[Effect::Commit(txn(1), permit(1))][..], Applied));
    }

    let (out, verdict) = sink.outcome(1, CommitOutcome::AlreadyCommitted);
    assert_eq!((out.as_slice(), verdict), (&[resolved(1, false)][..], Applied));
    let (out, verdict) = sink.outcome(1, CommitOutcome::Committed);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
}

/// SPEC 6.6
#[test]
fn spec_6_6_the_outcome_of_what_is_not_in_flight_is_a_duplicate() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);
    let _prepared = sink.barrier(2);

    let (out, verdict) = sink.outcome(1, CommitOutcome::Committed);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
    let _commit = sink.complete(2);
    let (out, verdict) = sink.outcome(2, CommitOutcome::Committed);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)));
}

/// SPEC 6.6
#[test]
fn spec_6_6_a_permit_it_knew_is_answered_again() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);
    let _commit = sink.complete(1);
    let (out, verdict) = sink.complete(1);
    assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Duplicate)), "in flight");
    let _resolved = sink.outcome(1, CommitOutcome::Committed);

    let (out, verdict) = sink.complete(1);

    assert_eq!((out.as_slice(), verdict), (&[resolved(1, false)][..], Applied));
}

/// SPEC 3.2
#[test]
fn spec_3_2_what_is_of_another_attempt_is_stale_to_a_committer() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);
    for attempt in [life(1, 0), life(1, 2), life(2, 1)] {
        let order = Order::Complete(permit(1));

        let (out, verdict) = sink.on(Event::Control(ToTask { attempt, order }));

        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Stale)));
    }
}

/// SPEC 5.6
#[test]
fn spec_5_6_aborts_and_triggers_are_the_aligners_business() {
    let mut sink = Sink::fresh();
    let _prepared = sink.barrier(1);
    for order in [Order::Abort(cp(1)), Order::Trigger(barrier(2))] {
        let (out, verdict) = sink.on(Event::Control(ToTask { attempt: now(), order }));

        assert_eq!((out.as_slice(), verdict), (&[][..], Ignored(Why::Closed)));
    }
    assert_eq!(sink.machine.pending(), [txn(1)], "prepared is prepared: a later permit covers it");
}

/// Sink subtask #2 with its committer.
struct Sink {
    config: Config,
    machine: Committer,
    attempt: Attempt,
}

impl Sink {
    /// The first attempt of a job, 1.1, with nothing restored.
    fn fresh() -> Self {
        Self::in_attempt(now(), None).0
    }

    /// An attempt of the next coordinator, 2.1.
    fn start(restored: Option<(Vec<TxnId>, CommitPermit)>) -> (Self, Out<Effect>) {
        Self::in_attempt(life(2, 1), restored)
    }

    fn in_attempt(
        attempt: Attempt,
        restored: Option<(Vec<TxnId>, CommitPermit)>,
    ) -> (Self, Out<Effect>) {
        let config = Config { subtask: sub(2) };
        let mut out = Out::new();
        let machine = Committer::start(&config, attempt, restored, &mut out);
        (Self { config, machine, attempt }, out)
    }

    fn on(&mut self, event: Event) -> (Out<Effect>, Verdict) {
        step(&mut self.machine, &self.config, event)
    }

    fn barrier(&mut self, number: u64) -> (Out<Effect>, Verdict) {
        self.on(Event::Barrier(cp(number)))
    }

    fn complete(&mut self, number: u64) -> (Out<Effect>, Verdict) {
        let order = Order::Complete(permit(number));
        self.on(Event::Control(ToTask { attempt: self.attempt, order }))
    }

    fn outcome(&mut self, number: u64, outcome: CommitOutcome) -> (Out<Effect>, Verdict) {
        self.outcome_of(txn(number), outcome)
    }

    fn outcome_of(&mut self, txn: TxnId, outcome: CommitOutcome) -> (Out<Effect>, Verdict) {
        self.on(Event::Outcome { txn, outcome })
    }

    fn resolved(&self, number: u64, lost: bool) -> Effect {
        let report = Report::Resolved { subtask: sub(2), checkpoint: cp(number), lost };
        Effect::Send(ToCoordinator { attempt: self.attempt, report })
    }
}

/// A transaction of the sink in attempt 1.1.
fn txn(number: u64) -> TxnId {
    by(now(), number)
}

fn by(attempt: Attempt, number: u64) -> TxnId {
    TxnId { checkpoint: cp(number), attempt, subtask: sub(2) }
}

/// A report of a sink in attempt 1.1.
fn resolved(number: u64, lost: bool) -> Effect {
    let report = Report::Resolved { subtask: sub(2), checkpoint: cp(number), lost };
    Effect::Send(ToCoordinator { attempt: now(), report })
}
