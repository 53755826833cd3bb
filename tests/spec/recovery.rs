//! Section 7, and the fence that it relies on: from facts to a decision.

use snapline::protocol::fence::{Claimant, Fence, Fenced};
use snapline::protocol::ids::Term;
use snapline::protocol::message::CheckpointKind;
use snapline::protocol::recovery::{
    Decision, Facts, Found, Health, Outrun, Policy, RecoveryError, decide, keeps_up,
};

use crate::kit::{ME, cp, found, permit};

/// SPEC 2.6, 4.1
#[test]
fn spec_4_1_the_fence_rises_and_refuses_what_is_older() {
    let mut fence = Fence::default();
    assert_eq!(fence.claim(Term::new(2), ME, 10), Ok(cp(1)));

    assert_eq!(fence.claim(Term::new(1), ME, 10), Err(Fenced { by: Term::new(2) }));
    assert_eq!(fence.admit(Term::new(1)), Err(Fenced { by: Term::new(2) }));
    assert_eq!(fence.reserve(Term::new(1), cp(99)), Err(Fenced { by: Term::new(2) }));

    assert_eq!(fence, Fence { term: Term::new(2), claimant: ME, until: cp(11), completed: None });
    assert_eq!(fence.admit(Term::new(2)), Ok(()));
    assert_eq!(fence.admit(Term::new(3)), Ok(()));
}

/// SPEC 4.1, 2.13
#[test]
fn spec_4_1_a_term_belongs_to_the_first_that_claims_it() {
    let (term, other) = (Term::new(2), Claimant(8));
    let mut fence = Fence::default();
    assert_eq!(fence.claim(term, ME, 10), Ok(cp(1)));
    let before = fence;

    assert_eq!(fence.claim(term, other, 10), Err(Fenced { by: term }));
    assert_eq!(fence, before, "a refused claim changes nothing");
    assert_eq!(fence.claim(term, ME, 10), Ok(cp(11)), "the owner may claim again");

    assert_eq!(fence.claim(term.next(), other, 10), Ok(cp(21)), "a later term is anybody's");
    assert_eq!(fence.claim(term, ME, 10), Err(Fenced { by: term.next() }));
}

/// SPEC 4.1, 4.2
#[test]
fn spec_4_2_no_id_is_reserved_twice() {
    let mut fence = Fence::default();

    assert_eq!(fence.claim(Term::new(1), ME, 10), Ok(cp(1)));
    assert_eq!(fence.claim(Term::new(1), ME, 10), Ok(cp(11)), "claimed again: a gap");
    assert_eq!(fence.reserve(Term::new(1), cp(31)), Ok(()));
    assert_eq!(fence.reserve(Term::new(1), cp(31)), Ok(()), "reserved again: nothing");
    assert_eq!(fence.reserve(Term::new(1), cp(21)), Ok(()), "a late one: nothing");

    assert_eq!(fence.claim(Term::new(2), ME, 10), Ok(cp(31)));
}

/// SPEC 7.1
#[test]
fn spec_7_1_with_another_term_in_the_fence_nothing_is_decided() {
    let mine = Term::new(3);
    for manifests in [&[][..], &[found(5)]] {
        let mut facts = facts(manifests);

        facts.fence = Term::new(4);
        assert_eq!(decide(&facts), Err(RecoveryError::Deposed { fence: facts.fence }));

        facts.fence = Term::new(2);
        let fell = RecoveryError::FenceFell { fence: facts.fence, mine };
        assert_eq!(decide(&facts), Err(fell), "the store is not the one that was claimed");
    }
}

/// SPEC 7.2
#[test]
fn spec_7_2_the_newest_is_restored_in_whatever_order_it_is_found() {
    for numbers in [[3, 5, 4], [5, 4, 3], [4, 3, 5]] {
        let facts = facts(&numbers.map(found));

        assert_eq!(decide(&facts), Ok(restore(5, None)));
    }
}

/// SPEC 7.3
#[test]
fn spec_7_3_an_unusable_newest_checkpoint_is_an_error() {
    for health in [Health::Unreadable, Health::Damaged, Health::Missing] {
        let newest = Found { health, ..found(5) };
        let facts = facts(&[found(4), newest]);

        let unusable = RecoveryError::NewestUnusable { checkpoint: cp(5), health };
        assert_eq!(decide(&facts), Err(unusable));
    }
}

/// SPEC 7.3
#[test]
fn spec_7_3_an_older_one_is_restored_only_if_that_is_allowed() {
    let damaged = |number| Found { health: Health::Damaged, ..found(number) };
    let mut facts = facts(&[found(3), damaged(4), damaged(5)]);
    facts.policy.allow_older = true;
    assert_eq!(decide(&facts), Ok(restore(3, None)));

    facts.manifests.remove(0);
    assert_eq!(decide(&facts), Err(RecoveryError::NoneUsable { newest: cp(5) }));

    facts.manifests.push(found(6));
    assert_eq!(decide(&facts), Ok(restore(6, None)), "allowed is not preferred");
}

/// SPEC 7.4
#[test]
fn spec_7_4_what_ended_the_job_is_terminal() {
    use CheckpointKind::{Drain, Periodic, Suspend};
    // Kind, ended, whether the user names it, its terminal kind.
    let table = [
        (Periodic, false, false, None),
        (Periodic, false, true, None),
        (Drain, false, false, Some(Drain)),
        (Suspend, false, false, Some(Suspend)),
        (Drain, false, true, None),
        (Suspend, false, true, None),
        (Periodic, true, false, Some(Periodic)),
        (Periodic, true, true, Some(Periodic)),
        (Drain, true, true, Some(Drain)),
        (Suspend, true, true, Some(Suspend)),
    ];
    for (kind, ended, named, terminal) in table {
        let mut facts = facts(&[found(4), Found { kind, ended, ..found(5) }]);
        facts.policy.resume_from = named.then_some(cp(5));

        assert_eq!(decide(&facts), Ok(restore(5, terminal)));
    }
}

/// SPEC 7.4
#[test]
fn spec_7_4_leave_to_resume_is_for_the_checkpoint_it_names() {
    use CheckpointKind::Suspend;
    let stopped = |number| Found { kind: Suspend, ..found(number) };
    for (named, terminal) in [(4, Some(Suspend)), (5, None), (6, Some(Suspend))] {
        let mut facts = facts(&[stopped(4), stopped(5)]);
        facts.policy.resume_from = Some(cp(named));

        assert_eq!(decide(&facts), Ok(restore(5, terminal)));
    }
}

/// SPEC 7.4, 7.3
#[test]
fn spec_7_4_an_older_one_that_is_restored_must_be_named_too() {
    let stopped = Found { kind: CheckpointKind::Drain, ..found(4) };
    let damaged = Found { health: Health::Damaged, ..found(5) };
    for (named, terminal) in [(5, Some(CheckpointKind::Drain)), (4, None)] {
        let mut facts = facts(&[stopped, damaged]);
        facts.policy = Policy { allow_older: true, resume_from: Some(cp(named)) };

        assert_eq!(decide(&facts), Ok(restore(4, terminal)));
    }
}

/// SPEC 7.5
#[test]
fn spec_7_5_without_a_manifest_the_job_starts_at_its_beginning() {
    let mut facts = facts(&[]);
    assert_eq!(decide(&facts), Ok(Decision::Fresh));
    facts.policy = Policy { allow_older: true, resume_from: Some(cp(1)) };
    assert_eq!(decide(&facts), Ok(Decision::Fresh));
}

/// SPEC 7.6
#[test]
fn spec_7_6_what_is_known_to_be_complete_and_is_missing_is_the_newest() {
    let missing = Found { health: Health::Missing, ..found(5) };
    let unusable = RecoveryError::NewestUnusable { checkpoint: cp(5), health: Health::Missing };
    assert_eq!(decide(&facts(&[missing])), Err(unusable), "not a beginning from nothing");
    let mut facts = facts(&[missing, found(4)]);
    assert_eq!(decide(&facts), Err(unusable));
    facts.policy.allow_older = true;
    assert_eq!(decide(&facts), Ok(restore(4, None)));
    facts.manifests.pop();
    let none = RecoveryError::NoneUsable { newest: cp(5) };
    assert_eq!(decide(&facts), Err(none));
    for error in [unusable, none] {
        let text = error.to_string();
        assert!(text.contains("without state, use another checkpoint directory"), "{text}");
    }
    let damaged = RecoveryError::NewestUnusable { checkpoint: cp(5), health: Health::Damaged };
    assert!(!damaged.to_string().contains("without state"), "it can be repaired: {damaged}");
}

/// SPEC 7.6
#[test]
fn spec_7_6_a_fence_remembers_the_newest_that_is_complete() {
    let mut fence = Fence::default();
    fence.claim(Term::new(1), ME, 10).expect("free");
    for (completed, newest) in [(2, 2), (5, 5), (3, 5)] {
        fence.complete(cp(completed));
        assert_eq!(fence.completed, Some(cp(newest)));
    }
    fence.claim(Term::new(2), ME, 10).expect("later");
    fence.reserve(Term::new(2), cp(99)).expect("its own");
    assert_eq!(fence.completed, Some(cp(5)), "whatever the owner of the store");
}

/// SPEC 7.7
#[test]
fn spec_7_7_a_sink_that_has_committed_more_is_refused() {
    let policy = Policy::default();
    let [one, two] = [1, 2].map(|number| Some(cp(number)));
    for (restored, committed) in [(None, None), (one, None), (one, one), (two, one)] {
        assert_eq!(keeps_up(restored, committed, policy), Ok(()));
    }
    for restored in [None, one] {
        let outrun = Outrun { committed: cp(2), restored };
        assert_eq!(keeps_up(restored, two, policy), Err(outrun));
        let policy = Policy { allow_older: true, ..policy };
        assert_eq!(keeps_up(restored, two, policy), Ok(()));
    }
}

fn facts(manifests: &[Found]) -> Facts {
    let term = Term::new(3);
    let policy = Policy::default();
    Facts { mine: term, fence: term, manifests: manifests.to_vec(), policy }
}

fn restore(number: u64, terminal: Option<CheckpointKind>) -> Decision {
    Decision::Restore { permit: permit(number), terminal }
}
