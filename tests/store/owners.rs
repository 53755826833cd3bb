//! The owner of a store in a directory, and takeover by another process (SPEC 13.6).

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use snapline::protocol::coordinator::StoreResult;
use snapline::protocol::fence::Claimant;
use snapline::store::{LocalStore, Store, StoreError, Takeover};

use crate::kit::{blob_id, checkpoint, claim, id, manifest, term};

fn in_use(opened: Result<LocalStore, StoreError>, owner: u32) {
    let error = opened.expect_err("it is in use");
    let StoreError::InUse { owner: said, .. } = &error else { panic!("{error}") };
    assert!(said.starts_with(&format!("process {owner}, for ")), "{error}");
    assert_eq!(error.result(), StoreResult::Fenced);
}

#[test]
fn a_second_opening_is_refused_before_and_after_the_claim() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = LocalStore::open(place.path(), Takeover::Refuse).expect("it is free");
    in_use(LocalStore::open(place.path(), Takeover::Refuse), process::id());
    claim(&store, 1);
    in_use(LocalStore::open(place.path(), Takeover::Refuse), process::id());
    drop(store);
    let store = LocalStore::open(place.path(), Takeover::Refuse).expect("it is free again");
    claim(&store, 2);
}

#[test]
fn a_deposed_owner_can_do_nothing() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let old = LocalStore::open(place.path(), Takeover::Refuse).expect("it is free");
    claim(&old, 1);
    checkpoint(&old, 1, None);
    let new = LocalStore::open(place.path(), Takeover::Depose).expect("it may depose");
    old.put_manifest(term(1), &manifest(2, Vec::new())).expect("it is not deposed yet");
    claim(&new, 2);
    let before = (new.fence().expect("there"), new.manifests().expect("there"));
    let mut late = old.create_blob(blob_id(3, 0)).expect("blobs are not fenced");
    late.append(b"bytes").expect("written");
    late.finish().expect("its name is its own");
    let refused: [Result<(), StoreError>; 4] = [
        old.put_manifest(term(1), &manifest(3, Vec::new())),
        old.reserve(term(1), id(999)),
        old.delete(term(1), &[id(1)], &[]),
        old.claim(term(1), Claimant(1), 5).map(drop),
    ];
    for error in refused.map(|refused| refused.expect_err("it is deposed")) {
        assert!(matches!(error, StoreError::Fenced(_)), "{error}");
    }
    assert_eq!((new.fence().expect("there"), new.manifests().expect("there")), before);

    // It had no permission to depose, and a later term does not give it that.
    let error = old.claim(term(3), Claimant(1), 5).expect_err("its owner lives");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert_eq!(new.fence().expect("there"), before.0);
    // It is no obstacle either: the store belongs to its new owner, and is free after that one.
    drop(new);
    let third = LocalStore::open(place.path(), Takeover::Refuse).expect("its owner is gone");
    claim(&third, 3);
    assert_eq!(fs::read_dir(place.path().join("owners")).expect("there").count(), 1);
}

#[test]
fn who_was_deposed_before_its_claim_finds_out_at_it() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let first = LocalStore::open(place.path(), Takeover::Refuse).expect("it is free");
    let second = LocalStore::open(place.path(), Takeover::Depose).expect("it may depose");
    claim(&second, 1);
    let error = first.claim(term(1), Claimant(9), 5).expect_err("another has the term");
    assert!(matches!(error, StoreError::Fenced(_)), "{error}");
    let error = first.claim(term(2), Claimant(9), 5).expect_err("its owner lives");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(second);
    first.claim(term(2), Claimant(9), 5).expect("its owner is gone");
}

#[test]
fn of_many_that_open_an_empty_directory_one_has_it() {
    for _ in 0..20 {
        let place = tempfile::tempdir().expect("a directory for the test");
        let dir = Arc::new(place.path().join("new"));
        let barrier = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (dir, barrier) = (Arc::clone(&dir), Arc::clone(&barrier));
                thread::spawn(move || {
                    barrier.wait();
                    let opened = LocalStore::open(&*dir, Takeover::Refuse);
                    barrier.wait();
                    opened.map(drop)
                })
            })
            .collect();
        let results: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "{results:?}");
        for error in results.into_iter().filter_map(Result::err) {
            assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        }
    }
}

/// SPEC 2.6: two openings stand for two processes. If comparing and writing were two steps, both
/// would issue some id.
#[test]
fn claims_through_two_openings_are_one_after_the_other() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let claims: Vec<_> = (0..2)
        .map(|_| {
            let store = LocalStore::open(place.path(), Takeover::Depose).expect("it may depose");
            thread::spawn(move || {
                let claim = |_| store.claim(term(1), Claimant(1), 1).expect("both are one");
                (0..100).map(claim).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut ids: Vec<_> =
        claims.into_iter().flat_map(|claims| claims.join().expect("no panic")).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=200).map(id).collect::<Vec<_>>());
}

/// Names the store that the child of a test holds.
const HOLD: &str = "SNAPLINE_TEST_HOLDS_STORE";

/// Not a test of its own: the process that [`another_process`] starts.
#[test]
fn held_by_another_process() {
    let Ok(dir) = std::env::var(HOLD) else { return };
    let store = LocalStore::open(dir, Takeover::Refuse).expect("it is free");
    claim(&store, 1);
    let mut writer = store.create_blob(blob_id(1, 0)).expect("begun");
    writer.append(&[7; 1_000_000]).expect("written");
    eprintln!("held");
    thread::sleep(Duration::from_secs(60));
}

/// A process that holds the store, with a blob in flight.
fn another_process(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this one has a path"))
        .args(["--exact", "owners::held_by_another_process", "--nocapture"])
        .env(HOLD, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let said = BufReader::new(child.stderr.take().expect("it is piped"));
    let held = said.lines().map_while(Result::ok).any(|line| line == "held");
    assert!(held, "it has opened the store");
    child
}

#[test]
fn a_store_is_free_when_its_owner_is_killed() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let mut child = another_process(place.path());
    in_use(LocalStore::open(place.path(), Takeover::Refuse), child.id());
    let tmp = || fs::read_dir(place.path().join("tmp")).expect("there").count();
    assert_eq!(tmp(), 1, "its blob is under way");
    child.kill().expect("it lives");
    child.wait().expect("it dies");

    let store = LocalStore::open(place.path(), Takeover::Refuse).expect("its owner is dead");
    claim(&store, 2);
    assert!(store.blobs().expect("none").is_empty());
    store.delete(term(2), &[], &[]).expect("it is ours");
    assert_eq!(tmp(), 0, "what it left unfinished is gone");
}

#[test]
fn a_living_owner_is_deposed_by_leave() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let mut child = another_process(place.path());
    let store = LocalStore::open(place.path(), Takeover::Depose).expect("it may depose");
    let fence = store.fence().expect("there");
    assert_eq!(fence.term, term(1));
    claim(&store, 2);
    in_use(LocalStore::open(place.path(), Takeover::Refuse), process::id());
    child.kill().expect("it lives");
    child.wait().expect("it dies");
}
