//! Section 8: the checkpoints and blobs that may be deleted.

use snapline::protocol::coordinator::{Config, Event, StoreResult};
use snapline::protocol::ids::{Attempt, BlobId, CheckpointId};
use snapline::protocol::message::{CheckpointKind, Report};
use snapline::protocol::retention::{Inventory, Plan, Roots, Stored, UnderWay, plan};

use crate::kit::{Job, config, cp, life, now, sub};

/// SPEC 8.1
#[test]
fn spec_8_1_the_newest_and_the_unresolved_are_kept() {
    let manifests = [3, 1, 5, 2, 4].map(|number| stored(number, &[])).to_vec();
    let inventory = Inventory { manifests, blobs: vec![], ..Inventory::default() };

    let roots = Roots { retained: 2, unresolved: vec![cp(2)], ..roots() };
    assert_eq!(plan(&roots, &inventory).manifests, [cp(1), cp(3)]);

    let none_asked_for = Roots { retained: 0, ..roots };
    assert_eq!(plan(&none_asked_for, &inventory).manifests, [cp(1), cp(3), cp(4)]);
}

/// SPEC 8.1
#[test]
fn spec_8_1_a_coordinator_knows_its_roots() {
    let mut job = Job::running(Config { max_concurrent: 2, retained: Some(3), ..config() });
    job.trigger();
    job.completed(1, false);
    job.trigger();

    let roots = job.machine.roots(&job.config);

    let expected = Roots {
        attempt: now(),
        next: cp(3),
        retained: 3,
        unresolved: vec![cp(1)],
        under_way: vec![UnderWay { checkpoint: cp(2), base: Some(cp(1)) }],
    };
    assert_eq!(roots, expected);
}

/// SPEC 8.1, 4.10
#[test]
fn spec_8_1_the_base_of_a_checkpoint_under_way_is_kept() {
    let old = blob(1, now());
    let inventory = Inventory {
        manifests: vec![stored(1, &[old]), stored(3, &[])],
        blobs: vec![old],
        ..Inventory::default()
    };
    let mut roots = roots();
    let gone = Plan { manifests: vec![cp(1)], blobs: vec![old] };
    assert_eq!(plan(&roots, &inventory), gone);

    roots.under_way.push(UnderWay { checkpoint: cp(4), base: Some(cp(1)) });

    assert_eq!(plan(&roots, &inventory), Plan::default());
}

/// SPEC 8.1, 8.2
#[test]
fn spec_8_2_a_shared_blob_outlives_the_checkpoint_that_wrote_it() {
    let (shared, alone, own) = (blob(1, now()), at(1, now(), 1), blob(2, now()));
    let inventory = Inventory {
        manifests: vec![stored(1, &[shared, alone]), stored(2, &[shared, own])],
        blobs: vec![own, alone, shared],
        ..Inventory::default()
    };

    let plan = plan(&roots(), &inventory);

    assert_eq!(plan, Plan { manifests: vec![cp(1)], blobs: vec![alone] });
}

/// SPEC 8.2
#[test]
fn spec_8_2_the_same_checkpoints_blob_of_another_attempt_is_another_blob() {
    let (kept, garbage) = (blob(2, life(1, 1)), blob(2, life(1, 0)));
    assert_ne!(kept, garbage);
    let inventory = Inventory {
        manifests: vec![stored(2, &[kept])],
        blobs: vec![kept, garbage],
        ..Inventory::default()
    };

    assert_eq!(plan(&roots(), &inventory).blobs, [garbage]);
}

/// SPEC 8.3
#[test]
fn spec_8_3_a_blob_that_may_yet_be_named_is_not_garbage() {
    let under_way = UnderWay { checkpoint: cp(4), base: None };
    let roots = Roots { under_way: vec![under_way], ..roots() };
    let kept = [blob(4, now()), blob(3, life(1, 2)), blob(3, life(2, 1)), blob(9, life(1, 0))];
    let garbage = [blob(3, life(1, 0)), blob(5, now())];
    let blobs = [&kept[..], &garbage[..]].concat();
    let manifests = vec![stored(9, &[]), stored(2, &[])];
    let inventory = Inventory { manifests, blobs, ..Inventory::default() };

    assert_eq!(plan(&roots, &inventory), Plan { manifests: vec![], blobs: garbage.to_vec() });
}

/// SPEC 8.4
#[test]
fn spec_8_4_a_manifest_of_unknown_outcome_stays_a_root() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    job.trigger();
    job.acked(1, false);
    let manifest = job.manifest(1, CheckpointKind::Periodic, false);
    let inventory =
        Inventory { manifests: vec![], blobs: vec![blob(1, now())], ..Inventory::default() };

    let _again = job.stored(manifest, StoreResult::Unknown);
    let roots = job.machine.roots(&job.config);
    assert_eq!(roots.under_way, [UnderWay { checkpoint: cp(1), base: None }]);
    assert_eq!(plan(&roots, &inventory), Plan::default());

    let _failed = job.on(Event::TaskFailed { attempt: now() });
    let roots = job.machine.roots(&job.config);
    assert_eq!(plan(&roots, &inventory), Plan::default(), "not even when its attempt is over");
}

/// SPEC 8.4, 6.5
#[test]
fn spec_8_4_a_manifest_in_flight_stays_a_root_when_the_job_fails() {
    let mut job = Job::running(Config { retained: Some(1), ..config() });
    job.trigger();
    job.completed(1, false);
    job.trigger();
    job.acked(2, false);
    let (subtask, checkpoint) = (sub(2), cp(1));
    let _loss = job.report(Report::Resolved { subtask, checkpoint, lost: true });
    let shared = blob(1, now());
    let inventory = Inventory {
        manifests: vec![stored(1, &[shared])],
        blobs: vec![shared, blob(2, now())],
        ..Inventory::default()
    };

    let roots = job.machine.roots(&job.config);

    assert_eq!(roots.under_way, [UnderWay { checkpoint: cp(2), base: Some(cp(1)) }]);
    assert_eq!(plan(&roots, &inventory), Plan::default(), "a deletion asked for before is late");
}

/// SPEC 8.5
#[test]
fn spec_8_5_deletion_goes_oldest_first() {
    let blobs = vec![at(2, now(), 1), blob(3, now()), blob(1, now()), blob(2, now())];
    let manifests = [3, 1, 4, 2].map(|number| stored(number, &[])).to_vec();

    let plan = plan(&roots(), &Inventory { manifests, blobs, ..Inventory::default() });

    assert_eq!(plan.manifests, [cp(1), cp(2), cp(3)]);
    let oldest_first = [blob(1, now()), blob(2, now()), at(2, now(), 1), blob(3, now())];
    assert_eq!(plan.blobs, oldest_first);
}

/// A coordinator in attempt 1.1 that has issued ids 1 to 8 and keeps the newest checkpoint.
fn roots() -> Roots {
    let (unresolved, under_way) = (vec![], vec![]);
    Roots { attempt: now(), next: cp(9), retained: 1, unresolved, under_way }
}

fn stored(number: u64, blobs: &[BlobId]) -> Stored {
    let checkpoint: CheckpointId = cp(number);
    Stored { checkpoint, blobs: blobs.to_vec() }
}

fn blob(number: u64, attempt: Attempt) -> BlobId {
    at(number, attempt, 0)
}

fn at(number: u64, attempt: Attempt, subtask: u16) -> BlobId {
    BlobId { checkpoint: cp(number), attempt, subtask: sub(subtask) }
}
