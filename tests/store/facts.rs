//! The facts that a store gives to the protocol's pure functions.

use std::fs;

use proptest::prelude::*;
use snapline::protocol::message::CheckpointKind;
use snapline::protocol::recovery::{Facts, Health, Policy, decide};
use snapline::protocol::retention::Stored;
use snapline::store::{
    LocalStore, Manifest, MemoryStore, OperatorRef, Store, StoreError, Takeover, found, health,
    inventory, lost, recovery_facts,
};

use crate::kit::{blob, blob_id, checkpoint, claim, id, term};

#[test]
fn an_inventory_has_all_that_is_there() {
    let store = MemoryStore::new();
    claim(&store, 1);
    let first = checkpoint(&store, 1, None);
    checkpoint(&store, 2, Some(&first));
    blob(&store, blob_id(3, 0), &[]).expect("written");
    let found = inventory(&store).expect("it can be read");
    let of = |number| (0..2).map(move |subtask| blob_id(number, subtask));
    let second = [blob_id(1, 1), blob_id(2, 0), blob_id(2, 1)];
    assert_eq!(
        found.manifests,
        [
            Stored { checkpoint: id(1), blobs: of(1).collect() },
            Stored { checkpoint: id(2), blobs: second.to_vec() },
        ]
    );
    assert!(found.unreadable.is_empty());
    let all: Vec<_> = of(1).chain(of(2)).chain([blob_id(3, 0)]).collect();
    assert_eq!(found.blobs, all);
}

/// SPEC 8.4
#[test]
fn an_unreadable_manifest_is_distinguished_from_one_that_is_gone() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = LocalStore::open(place.path(), Takeover::Refuse).expect("it is empty");
    claim(&store, 1);
    checkpoint(&store, 1, None);
    checkpoint(&store, 2, None);
    fs::write(store.manifest_path(id(1)), "torn").expect("it can be written");
    let found = inventory(&store).expect("it can be read");
    assert_eq!(found.unreadable, [id(1)]);
    assert_eq!(found.manifests.len(), 1);
    assert_eq!(found.blobs.len(), 4);

    let (manifest, state, wrong) = health(&store, id(1)).expect("it can be read");
    assert!(manifest.is_none() && matches!(wrong, Some(StoreError::Corrupt { .. })));
    assert_eq!(state, Health::Unreadable);
}

/// SPEC 8.7
#[test]
fn a_manifest_whose_parts_are_not_its_subtasks_own_is_unusable() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 5] = [
        ("a part is missing", |it| _ = it.snapshots.pop()),
        ("a part is there twice", |it| it.snapshots[1] = it.snapshots[0].clone()),
        ("two parts are exchanged", |it| it.snapshots.swap(0, 1)),
        ("two references are exchanged", |it| {
            it.snapshots.swap(0, 1);
            let [one, other] = [0, 1].map(|place| it.snapshots[place].subtask);
            (it.snapshots[0].subtask, it.snapshots[1].subtask) = (other, one);
        }),
        ("a part is of an earlier checkpoint", |it| {
            it.snapshots[0].root.blob.checkpoint = id(1);
        }),
    ];
    for (what, change) in changes {
        let store = MemoryStore::new();
        claim(&store, 1);
        let right = checkpoint(&store, 2, None);
        let mut wrong = Manifest { checkpoint: id(2), ..right.clone() };
        change(&mut wrong);
        assert!(right.check_parts().is_ok() && wrong.check_parts().is_err(), "{what}");
        // A store keeps what it is given; the runtime does not give it this.
        let store = MemoryStore::new();
        claim(&store, 1);
        for part in &right.snapshots {
            let number = part.subtask.index() as u16;
            let bytes = [&[number as u8 + 1; 300][..], b"", b"root of"];
            blob(&store, blob_id(2, number), &bytes).expect("written");
        }
        store.put_manifest(term(1), &wrong).expect("it is ours");
        let (_, state, error) = health(&store, id(2)).expect("it can be read");
        assert_eq!(state, Health::Damaged, "{what}");
        assert!(matches!(error, Some(StoreError::Corrupt { .. })), "{what}: {error:?}");
        // The local store refuses it where it is read.
        let place = tempfile::tempdir().expect("a directory for the test");
        let local = LocalStore::open(place.path(), Takeover::Refuse).expect("it is empty");
        claim(&local, 1);
        local.put_manifest(term(1), &wrong).expect("it is ours");
        let error = local.manifest(id(2)).expect_err(what);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error}");
    }
}

/// SPEC 8.7
#[test]
fn a_part_is_found_by_the_operators_name_and_its_index() {
    let store = MemoryStore::new();
    claim(&store, 1);
    let mut manifest = checkpoint(&store, 1, None);
    manifest.operators =
        ["one", "other"].map(|name| OperatorRef { name: name.to_owned(), parallelism: 1 }).to_vec();
    let of = |name, index| manifest.part(name, index).map(|part| part.subtask.index());
    assert_eq!([of("one", 0), of("other", 0)], [Some(0), Some(1)]);
    assert_eq!([of("one", 1), of("other", 1), of("none", 0)], [None; 3]);
}

#[test]
fn a_missing_or_damaged_blob_damages_the_checkpoints_that_need_it() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = LocalStore::open(place.path(), Takeover::Refuse).expect("it is empty");
    claim(&store, 1);
    let first = checkpoint(&store, 1, None);
    checkpoint(&store, 2, Some(&first));
    checkpoint(&store, 3, None);
    let state = |number| {
        let (manifest, state, wrong) = health(&store, id(number)).expect("it can be read");
        assert!(manifest.is_some() && (wrong.is_none() == (state == Health::Whole)));
        state
    };
    assert_eq!([1, 2, 3].map(state), [Health::Whole; 3]);
    let shared = store.blob_path(blob_id(1, 1));
    let mut bytes = fs::read(&shared).expect("it is there");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&shared, bytes).expect("it can be written");
    assert_eq!([1, 2, 3].map(state), [Health::Damaged, Health::Damaged, Health::Whole]);
    fs::remove_file(&shared).expect("it is there");
    assert_eq!([1, 2, 3].map(state), [Health::Damaged, Health::Damaged, Health::Whole]);
}

/// SPEC 7.1
#[test]
fn a_reader_of_another_term_is_given_the_fence_and_no_manifest() {
    let store = MemoryStore::new();
    claim(&store, 1);
    checkpoint(&store, 1, None);
    claim(&store, 4);
    for mine in [3, 5] {
        let (facts, wrong) =
            recovery_facts(&store, term(mine), Policy::default()).expect("it can be read");
        assert_eq!((facts.fence, facts.mine), (term(4), term(mine)));
        assert!(facts.manifests.is_empty() && wrong.is_empty());
        decide(&facts).expect_err("it decides nothing");
    }
}

/// SPEC 7.6, 8.4
#[test]
fn a_manifest_that_must_be_there_and_is_not_is_a_fact() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let local = LocalStore::open(place.path(), Takeover::Refuse).expect("it is empty");
    let memory = MemoryStore::new();
    let delete = |number: u64| {
        fs::remove_file(local.manifest_path(id(number))).expect("it is there");
        memory.delete(term(1), &[id(number)], &[]).expect("no check prevents it");
    };
    let stores: [&dyn Store; 2] = [&local, &memory];
    let facts = |allow_older: bool| {
        let policy = Policy { allow_older, ..Policy::default() };
        stores.map(|store| recovery_facts(store, term(1), policy).expect("it can be read"))
    };
    for store in stores {
        claim(store, 1);
        (1..=3).for_each(|number| drop(checkpoint(store, number, None)));
        assert!(lost(store).expect("it can be read").is_none());
    }
    // An older checkpoint need not be there.
    delete(1);
    assert!(stores.iter().all(|store| lost(*store).expect("it can be read").is_none()));

    delete(3);
    for store in stores {
        let (checkpoint, error) = lost(store).expect("it can be read").expect("it is lost");
        assert!(checkpoint == id(3) && matches!(error, StoreError::Missing { .. }), "{error}");
        assert_eq!(inventory(store).expect("it can be read").unreadable, [id(3)]);
    }
    let missing = (id(3), Health::Missing);
    let told = |facts: &Facts| -> Vec<_> {
        facts.manifests.iter().map(|found| (found.checkpoint, found.health)).collect()
    };
    for (facts, wrong) in facts(false) {
        assert_eq!((told(&facts), wrong.len()), (vec![missing], 1));
        decide(&facts).expect_err("it is not passed over");
    }
    for (facts, _) in facts(true) {
        assert_eq!(told(&facts), [missing, (id(2), Health::Whole)]);
        decide(&facts).expect("it is allowed");
    }
    delete(2);
    for (facts, _) in facts(false).into_iter().chain(facts(true)) {
        assert_eq!(told(&facts), [missing]);
        decide(&facts).expect_err("it is no beginning");
    }
}

#[test]
fn a_read_that_fails_is_no_fact() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = LocalStore::open(place.path(), Takeover::Refuse).expect("it is empty");
    claim(&store, 1);
    checkpoint(&store, 1, None);
    let blobs = place.path().join("blobs");
    fs::rename(&blobs, place.path().join("tmp/blobs")).expect("it can be moved");
    for result in [
        health(&store, id(1)).map(drop),
        recovery_facts(&store, term(1), Policy::default()).map(drop),
        inventory(&store).map(drop),
    ] {
        let error = result.expect_err("the directory is gone, and maybe only for now");
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    Manifest,
    Blob,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// SPEC 7.2, 7.3
    #[test]
    fn facts_that_stop_at_the_first_whole_checkpoint_decide_as_all_of_them_would(
        damages in proptest::collection::vec(
            prop_oneof![Just(Damage::None), Just(Damage::Manifest), Just(Damage::Blob)], 0..5),
        allow_older: bool,
        stopped: bool,
    ) {
        let place = tempfile::tempdir().expect("a directory for the test");
        let store = LocalStore::open(place.path(), Takeover::Refuse).expect("it is empty");
        claim(&store, 1);
        for (number, damage) in (1..).zip(&damages) {
            let mut manifest = checkpoint(&store, number, None);
            if stopped && number == damages.len() as u64 {
                store.delete(term(1), &[id(number)], &[]).expect("it is ours");
                manifest.kind = CheckpointKind::Drain;
                store.put_manifest(term(1), &manifest).expect("it is ours");
            }
            match damage {
                Damage::None => {}
                Damage::Manifest => {
                    fs::write(store.manifest_path(id(number)), "torn").expect("written");
                }
                Damage::Blob => {
                    store.delete(term(1), &[], &[blob_id(number, 1)]).expect("it is ours");
                }
            }
        }
        let policy = Policy { allow_older, resume_from: None };
        let (facts, wrong) = recovery_facts(&store, term(1), policy).expect("it can be read");
        let all = store.manifests().expect("they can be listed").into_iter().map(|checkpoint| {
            let (manifest, state, _) = health(&store, checkpoint).expect("it can be read");
            found(checkpoint, manifest.as_ref(), state)
        });
        let all = Facts { manifests: all.collect(), ..facts.clone() };
        prop_assert_eq!(decide(&facts), decide(&all));
        let whole = facts.manifests.iter().filter(|found| found.health == Health::Whole).count();
        prop_assert_eq!(whole + wrong.len(), facts.manifests.len());
        prop_assert!(whole <= 1);
        prop_assert!(facts.manifests.iter().all(|found| all.manifests.contains(found)));
    }
}
