//! The contract of every kind of store.

use std::sync::Arc;
use std::thread;

use snapline::protocol::coordinator::StoreResult;
use snapline::protocol::fence::{Claimant, Fence};
use snapline::protocol::ids::{Attempt, BlobId, SubtaskId};
use snapline::store::{
    BlobRef, LocalStore, MemoryStore, Section, Store, StoreError, Takeover, health,
};

use crate::kit::{blob, blob_id, checkpoint, claim, id, manifest, term};

/// Each of these functions as a test of each kind of store.
macro_rules! every_store {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test]
            fn $name() {
                super::$name(super::Arc::new(super::MemoryStore::new()));
            })*
        }

        mod local {
            $(#[test]
            fn $name() {
                let place = tempfile::tempdir().expect("a directory for the test");
                let store = super::LocalStore::open(place.path(), super::Takeover::Refuse);
                super::$name(super::Arc::new(store.expect("it is empty")));
            })*
        }
    };
}

every_store!(
    a_new_store_was_never_claimed,
    a_claim_raises_the_fence_and_reserves,
    the_first_claimant_of_a_term_has_it,
    the_deposed_write_nothing,
    a_manifest_is_put_if_absent,
    a_blob_is_seen_when_it_is_finished_and_once,
    a_writer_dropped_leaves_nothing,
    sections_are_read_as_they_were_written,
    a_section_that_is_not_one_is_refused,
    what_is_missing_is_said_to_be,
    listings_ascend,
    deletion_takes_what_it_is_given,
    numbers_of_any_size_are_names,
    many_threads_write_at_once,
    of_many_claims_of_a_term_one_succeeds,
);

fn fenced<T>(result: Result<T, StoreError>, by: u32) {
    match result {
        Err(StoreError::Fenced(fenced)) => assert_eq!(fenced.by, term(by)),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was accepted"),
    }
}

fn a_new_store_was_never_claimed(store: Arc<dyn Store>) {
    assert_eq!(store.fence().expect("it is there"), Fence::default());
    assert!(store.manifests().expect("none").is_empty());
    assert!(store.blobs().expect("none").is_empty());
    assert!(store.describe().contains("store"));
}

/// SPEC 4.1, 4.2
fn a_claim_raises_the_fence_and_reserves(store: Arc<dyn Store>) {
    assert_eq!(store.claim(term(1), Claimant(7), 10).expect("free"), id(1));
    assert_eq!(store.claim(term(1), Claimant(7), 10).expect("asked for again"), id(11));
    store.reserve(term(1), id(50)).expect("it is ours");
    store.reserve(term(1), id(30)).expect("a repeated one changes nothing");
    let fence = store.fence().expect("it is there");
    assert_eq!(
        fence,
        Fence { term: term(1), claimant: Claimant(7), until: id(50), completed: None }
    );
    assert_eq!(store.claim(term(5), Claimant(8), 1).expect("a later term"), id(50));
}

/// SPEC 4.1
fn the_first_claimant_of_a_term_has_it(store: Arc<dyn Store>) {
    store.claim(term(3), Claimant(1), 10).expect("free");
    fenced(store.claim(term(3), Claimant(2), 10), 3);
    fenced(store.claim(term(2), Claimant(1), 10), 3);
    let fence = store.fence().expect("it is there");
    assert_eq!(
        fence,
        Fence { term: term(3), claimant: Claimant(1), until: id(11), completed: None }
    );
}

/// SPEC 2.6
fn the_deposed_write_nothing(store: Arc<dyn Store>) {
    claim(&*store, 1);
    let first = checkpoint(&*store, 1, None);
    let (fence, blobs) = {
        claim(&*store, 2);
        (store.fence().expect("there"), store.blobs().expect("there"))
    };
    fenced(store.put_manifest(term(1), &manifest(2, Vec::new())), 2);
    fenced(store.put_manifest(term(1), &first), 2);
    fenced(store.reserve(term(1), id(999)), 2);
    fenced(store.delete(term(1), &[id(1)], &[blob_id(1, 0)]), 2);
    fenced(store.claim(term(1), Claimant(1), 5), 2);
    assert_eq!(store.fence().expect("there"), fence);
    assert_eq!(store.manifests().expect("there"), [id(1)]);
    assert_eq!(store.blobs().expect("there"), blobs);
    let error = store.reserve(term(1), id(999)).expect_err("it is deposed");
    assert_eq!(error.result(), StoreResult::Fenced);
}

/// SPEC 2.5
fn a_manifest_is_put_if_absent(store: Arc<dyn Store>) {
    claim(&*store, 1);
    let first = checkpoint(&*store, 1, None);
    store.put_manifest(term(1), &first).expect("the same again");
    let mut later = first.clone();
    later.written_at += 1;
    store.put_manifest(term(1), &later).expect("the same again, at another time");
    let mut other = first.clone();
    other.attempt = other.attempt.next();
    let error = store.put_manifest(term(1), &other).expect_err("another has the name");
    assert!(matches!(&error, StoreError::Exists { what } if what.contains("1.manifest")));
    assert_eq!(error.result(), StoreResult::NotApplied);
    assert!(store.manifest(id(1)).expect("there").same_content(&first));
}

/// SPEC 8.2
fn a_blob_is_seen_when_it_is_finished_and_once(store: Arc<dyn Store>) {
    let mut writer = store.create_blob(blob_id(1, 0)).expect("begun");
    let mut rival = store.create_blob(blob_id(1, 0)).expect("begun too");
    let section = writer.append(b"bytes").expect("written");
    rival.append(b"other bytes").expect("written");
    assert!(store.blobs().expect("none").is_empty(), "unfinished, it is not there");
    assert!(matches!(store.read(&section), Err(StoreError::Missing { .. })));
    let length = writer.finish().expect("finished");
    let error = rival.finish().expect_err("the name is taken");
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    let whole = BlobRef { id: blob_id(1, 0), length };
    assert_eq!(store.blobs().expect("one"), [whole]);
    store.verify_blob(&whole).expect("the first one's bytes");
    assert_eq!(store.read(&section).expect("there"), b"bytes");
}

fn a_writer_dropped_leaves_nothing(store: Arc<dyn Store>) {
    let mut writer = store.create_blob(blob_id(1, 0)).expect("begun");
    writer.append(&[7; 1_000_000]).expect("written");
    drop(writer);
    assert!(store.blobs().expect("none").is_empty());
    blob(&*store, blob_id(1, 0), &[b"again"]).expect("the name is free");
}

fn sections_are_read_as_they_were_written(store: Arc<dyn Store>) {
    let large: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let sections: [&[u8]; 6] = [b"a", b"", &large, &large[..300_000], b"b", &large[..262_144]];
    let (whole, written) = blob(&*store, blob_id(1, 0), &sections).expect("written");
    for (bytes, section) in sections.iter().zip(&written) {
        assert_eq!(store.read(section).expect("there"), *bytes);
    }
    assert!(written.windows(2).all(|two| two[0].offset + two[0].length == two[1].offset));
    store.verify_blob(&whole).expect("whole");
    let (empty, _) = blob(&*store, blob_id(2, 0), &[]).expect("written");
    store.verify_blob(&empty).expect("a blob without sections is one");
}

fn a_section_that_is_not_one_is_refused(store: Arc<dyn Store>) {
    let (whole, written) = blob(&*store, blob_id(1, 0), &[b"first", b"second"]).expect("written");
    let good = written[1];
    let wrong = [
        Section { checksum: good.checksum ^ 1, ..good },
        Section { length: good.length + 1, ..good },
        Section { offset: good.offset - 1, ..good },
        Section { offset: 0, ..good },
        Section { offset: whole.length, ..good },
        Section { offset: u64::MAX, ..good },
        Section { length: u64::MAX, ..good },
        Section { offset: u64::MAX, length: u64::MAX, ..good },
    ];
    for section in wrong {
        let error = store.read(&section).expect_err("it is no section");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{section:?}: {error}");
    }
    for length in [0, whole.length - 1, whole.length + 1, u64::MAX] {
        let error = store.verify_blob(&BlobRef { length, ..whole }).expect_err("another length");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{length}: {error}");
    }
}

fn what_is_missing_is_said_to_be(store: Arc<dyn Store>) {
    let section = Section { blob: blob_id(7, 3), offset: 40, length: 1, checksum: 0 };
    let errors = [
        store.read(&section).expect_err("nothing is there"),
        store.verify_blob(&BlobRef { id: blob_id(7, 3), length: 99 }).expect_err("nor this"),
        store.manifest(id(7)).expect_err("nor this"),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("00000000000000000007"), "{error}");
    }
}

fn listings_ascend(store: Arc<dyn Store>) {
    claim(&*store, 1);
    for number in [10, 9, 100, 2, 99] {
        store.put_manifest(term(1), &manifest(number, Vec::new())).expect("put");
        for subtask in [11, 9, 100] {
            blob(&*store, blob_id(number, subtask), &[]).expect("written");
        }
    }
    assert_eq!(store.manifests().expect("five"), [2, 9, 10, 99, 100].map(id));
    let blobs: Vec<BlobId> = store.blobs().expect("fifteen").iter().map(|blob| blob.id).collect();
    assert_eq!(blobs.len(), 15);
    assert!(blobs.is_sorted(), "{blobs:?}");
    assert_eq!(blobs[..3], [blob_id(2, 9), blob_id(2, 11), blob_id(2, 100)]);
}

/// SPEC 8.5
fn deletion_takes_what_it_is_given(store: Arc<dyn Store>) {
    claim(&*store, 1);
    let first = checkpoint(&*store, 1, None);
    let second = checkpoint(&*store, 2, Some(&first));
    let gone = [blob_id(1, 0), blob_id(77, 0)];
    store.delete(term(1), &[id(1), id(77)], &gone).expect("the missing count as deleted");
    store.delete(term(1), &[id(1)], &gone).expect("and again");
    assert_eq!(store.manifests().expect("one"), [id(2)]);
    let (_, state, wrong) = health(&*store, id(2)).expect("it can be read");
    assert_eq!(state, snapline::protocol::recovery::Health::Whole, "{wrong:?}");
    assert_eq!(store.manifest(id(2)).expect("there"), second);
    assert_eq!(store.blobs().expect("three").len(), 3);
}

fn numbers_of_any_size_are_names(store: Arc<dyn Store>) {
    // SPEC 13.10: counting on from them does not overflow.
    let largest = (1 << 62) - 1;
    let latest = term(u32::MAX - 1);
    store.claim(latest, Claimant(u64::MAX), largest - 1).expect("free");
    assert_eq!(store.fence().expect("there").until, id(largest));
    let attempt = Attempt { term: latest, number: u32::MAX };
    let name = BlobId { checkpoint: id(largest), attempt, subtask: SubtaskId::new(u16::MAX) };
    let (whole, written) = blob(&*store, name, &[b"bytes"]).expect("written");
    assert_eq!(store.read(&written[0]).expect("there"), b"bytes");
    assert_eq!(store.blobs().expect("one"), [whole]);
    let mut large = manifest(largest, Vec::new());
    large.written_at = u64::MAX;
    large.key_groups = 32768;
    store.put_manifest(latest, &large).expect("put");
    assert_eq!(store.manifest(id(largest)).expect("there"), large);
    assert_eq!(store.manifests().expect("one"), [id(largest)]);
}

fn many_threads_write_at_once(store: Arc<dyn Store>) {
    claim(&*store, 1);
    let threads: Vec<_> = (0..8)
        .map(|subtask| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                for number in 1..=10 {
                    let bytes = format!("{subtask} at {number}");
                    let name = blob_id(number, subtask);
                    let (whole, written) =
                        blob(&*store, name, &[bytes.as_bytes()]).expect("written");
                    store.verify_blob(&whole).expect("whole");
                    assert_eq!(store.read(&written[0]).expect("there"), bytes.as_bytes());
                    // All put the same manifest, and each is informed that it is there.
                    let manifest = manifest(number, Vec::new());
                    store.put_manifest(term(1), &manifest).expect("put by one of us");
                    store.reserve(term(1), id(1000 + number)).expect("reserved");
                    store.fence().expect("whole at every moment");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("it did not panic");
    }
    assert_eq!(store.blobs().expect("there").len(), 80);
    assert_eq!(store.manifests().expect("there").len(), 10);
    assert_eq!(store.fence().expect("there").until, id(1010));
}

/// SPEC 2.6, 4.1
fn of_many_claims_of_a_term_one_succeeds(store: Arc<dyn Store>) {
    for round in 1..=10 {
        let claims: Vec<_> = (0..4)
            .map(|claimant| {
                let store = Arc::clone(&store);
                thread::spawn(move || store.claim(term(round), Claimant(claimant), 1).is_ok())
            })
            .collect();
        let won = claims.into_iter().map(|claim| claim.join().expect("no panic"));
        assert_eq!(won.filter(|won| *won).count(), 1);
    }
    assert_eq!(store.fence().expect("there").until, id(11), "no id was given twice");
}
