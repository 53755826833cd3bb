//! Tests in which every call of the file system fails in turn. The error has the right type,
//! nothing is half there, and the reopened store is the old one or the new one.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use snapline_protocol::coordinator::StoreResult;
use snapline_protocol::ids::{Attempt, SubtaskId};
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::Health;

use super::*;
use crate::base::sync::{AtomicU64, Ordering};
use crate::fs::{Input, LockFile, Output};
use crate::store::{BlobRef, OperatorRef, SnapshotRef, health};

/// The disk, except for one call, counted from when it is armed.
#[derive(Clone)]
struct Failing {
    /// Calls left until the failing one, which takes this from one to zero.
    left: Arc<AtomicU64>,
    kind: ErrorKind,
    /// Whether the call that fails takes effect all the same.
    late: bool,
}

impl Failing {
    fn new(kind: ErrorKind, late: bool) -> Self {
        Self { left: Arc::new(AtomicU64::new(0)), kind, late }
    }

    fn arm(&self, nth: u64) {
        self.left.store(nth, Ordering::Relaxed);
    }

    /// Whether the armed call has come.
    fn fired(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn now(&self) -> bool {
        let down = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, down) == Ok(1)
    }

    fn around<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if !self.now() {
            return call();
        }
        if self.late {
            call()?;
        }
        Err(self.kind.into())
    }
}

struct FailingFile<F> {
    file: F,
    failing: Failing,
}

impl Output for FailingFile<Box<dyn Output>> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.failing.now() {
            // A full disk takes what fits.
            self.file.write(&bytes[..bytes.len() / 2])?;
            return Err(self.failing.kind.into());
        }
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.failing.around(|| self.file.sync())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.failing.around(|| self.file.cut(length))
    }
}

impl Read for FailingFile<Box<dyn Input>> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.failing.around(|| self.file.read(bytes))
    }
}

impl Seek for FailingFile<Box<dyn Input>> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Input for FailingFile<Box<dyn Input>> {
    fn length(&self) -> io::Result<u64> {
        self.failing.around(|| self.file.length())
    }
}

impl Files for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let file = self.around(|| Disk.create(path))?;
        Ok(Box::new(FailingFile { file, failing: self.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>> {
        let file = self.around(|| Disk.open(path))?;
        Ok(Box::new(FailingFile { file, failing: self.clone() }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let file = self.around(|| Disk.append(path))?;
        Ok(Box::new(FailingFile { file, failing: self.clone() }))
    }

    fn rewrite(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.around(|| Disk.rewrite(path, at, bytes))
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        self.around(|| Disk.length(path))
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        self.around(|| Disk.kind(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.around(|| Disk.list(directory))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.around(|| Disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.around(|| Disk.remove(path))
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.around(|| Disk.make_directory(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.around(|| Disk.sync_directory(path))
    }

    fn open_lock(&self, path: &Path) -> io::Result<Box<dyn LockFile>> {
        Disk.open_lock(path)
    }

    fn register(&self, path: &Path, text: &str) -> io::Result<Box<dyn Send>> {
        Disk.register(path, text)
    }

    fn holder(&self, path: &Path) -> io::Result<Option<String>> {
        Disk.holder(path)
    }

    fn unique(&self) -> String {
        Disk.unique()
    }
}

/// The faults to test. One that takes effect all the same always has an unknown outcome.
fn faults() -> [Failing; 5] {
    [
        Failing::new(ErrorKind::StorageFull, false),
        Failing::new(ErrorKind::ReadOnlyFilesystem, false),
        Failing::new(ErrorKind::PermissionDenied, false),
        Failing::new(ErrorKind::Other, false),
        Failing::new(ErrorKind::Other, true),
    ]
}

pub(super) fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).expect("not zero")
}

pub(super) fn term(number: u32) -> Term {
    Term::new(number)
}

pub(super) fn blob_id(checkpoint: u64) -> BlobId {
    let attempt = Attempt::first(term(1));
    BlobId { checkpoint: id(checkpoint), attempt, subtask: SubtaskId::new(0) }
}

/// Writes the one blob of a checkpoint, and returns the manifest for it.
pub(super) fn snapshot(store: &LocalStore, checkpoint: u64) -> Result<Manifest, StoreError> {
    let mut writer = store.create_blob(blob_id(checkpoint))?;
    writer.append(b"some state")?;
    let root = writer.append(format!("root of {checkpoint}").as_bytes())?;
    let blob = BlobRef { id: blob_id(checkpoint), length: writer.finish()? };
    let subtask = SubtaskId::new(0);
    let snapshot =
        SnapshotRef { subtask, root, blobs: vec![blob], written: blob.length, reused: 0 };
    Ok(Manifest {
        checkpoint: id(checkpoint),
        attempt: Attempt::first(term(1)),
        kind: CheckpointKind::Periodic,
        ended: false,
        written_at: 0,
        job: "job".to_owned(),
        key_groups: 128,
        hash_seed: Some(checkpoint),
        operators: vec![OperatorRef { name: "all".to_owned(), parallelism: 1 }],
        snapshots: vec![snapshot],
    })
}

pub(super) fn checkpoint(store: &LocalStore, number: u64) -> Result<(), StoreError> {
    store.put_manifest(term(1), &snapshot(store, number)?)
}

/// Runs a piece of work on a store of its own with the n-th call failing, for every n and every
/// fault, until there is no n-th call.
fn each_failure(
    before: impl Fn(&LocalStore),
    work: impl Fn(&LocalStore) -> Result<(), StoreError>,
    after: impl Fn(&LocalStore, Result<(), StoreError>),
) -> u64 {
    let mut failures = 0;
    for fault in faults() {
        for nth in 1.. {
            let place = tempfile::tempdir().expect("a directory for the test");
            let store =
                LocalStore::open_on(Box::new(fault.clone()), place.path(), Takeover::Refuse)
                    .expect("nothing fails yet");
            before(&store);
            fault.arm(nth);
            let result = work(&store);
            let fired = fault.fired();
            fault.arm(0);
            if !fired {
                result.expect("nothing failed");
                break;
            }
            if let Err(error) = &result {
                failures += 1;
                let text = error.to_string();
                let here = place.path().display().to_string();
                assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
                assert!(text.contains(&here), "it names the file: {text}");
            }
            drop(store);
            let store = LocalStore::open(place.path(), Takeover::Refuse).expect("it is a store");
            after(&store, result);
            let swept = store.delete(term(9), &[], &[]);
            swept.expect("nothing fails any more");
            let left = std::fs::read_dir(place.path().join("tmp")).expect("it is a directory");
            assert_eq!(left.count(), 0, "nothing unfinished stays");
        }
    }
    assert!(failures >= faults().len() as u64, "something failed");
    failures
}

fn claimed(store: &LocalStore) {
    let first = store.claim(term(1), Claimant(1), 8).expect("nothing fails yet");
    assert_eq!(first, id(1));
}

#[test]
fn a_blob_is_whole_or_not_there() {
    each_failure(
        claimed,
        |store| snapshot(store, 1).map(drop),
        |store, result| {
            let there = store.blobs().expect("nothing fails any more");
            for blob in &there {
                store.verify_blob(blob).expect("what can be seen is whole");
            }
            match result {
                Ok(()) => assert_eq!(there.len(), 1),
                Err(error) if error.result() == StoreResult::NotApplied => {
                    assert!(there.is_empty())
                }
                Err(_) => {}
            }
        },
    );
}

#[test]
fn a_manifest_is_whole_or_not_there_and_its_answer_is_true() {
    each_failure(
        claimed,
        |store| {
            let manifest = snapshot(store, 1)?;
            let first = store.put_manifest(term(1), &manifest);
            if first.as_ref().is_err_and(|error| error.result() == StoreResult::Unknown) {
                store.put_manifest(term(1), &manifest).expect("asked again it is answered");
            }
            first
        },
        |store, result| {
            let there = store.manifests().expect("nothing fails any more");
            for &checkpoint in &there {
                let (_, health, wrong) = health(store, checkpoint).expect("all can be read");
                assert_eq!(health, Health::Whole, "{wrong:?}");
            }
            let blobs = store.blobs().expect("nothing fails any more");
            match result {
                Ok(()) => assert_eq!(there, [id(1)]),
                Err(error) if error.result() == StoreResult::NotApplied => {
                    assert!(there.is_empty(), "{error}");
                }
                // Either its blob failed, or the retry was answered.
                Err(_) => assert!(there.len() <= blobs.len()),
            }
        },
    );
}

#[test]
fn a_manifest_that_may_be_there_is_never_said_not_to_be() {
    for fault in faults() {
        for nth in 1.. {
            let place = tempfile::tempdir().expect("a directory for the test");
            let store =
                LocalStore::open_on(Box::new(fault.clone()), place.path(), Takeover::Refuse)
                    .expect("nothing fails yet");
            claimed(&store);
            let manifest = snapshot(&store, 1).expect("nothing fails yet");
            store.put_manifest(term(1), &manifest).expect("the first time, whose answer got lost");
            fault.arm(nth);
            let again = store.put_manifest(term(1), &manifest);
            if !fault.fired() {
                break;
            }
            fault.arm(0);
            if let Err(error) = again {
                assert_eq!(error.result(), StoreResult::Unknown, "{error}");
            }
            store.put_manifest(term(1), &manifest).expect("it is answered in the end");
        }
    }
}

#[test]
fn a_claim_is_made_or_not_and_no_id_is_given_twice() {
    each_failure(
        claimed,
        |store| store.claim(term(2), Claimant(2), 8).map(|first| assert_eq!(first, id(9))),
        |store, result| {
            let fence = store.fence().expect("it can be read");
            let (one, two) = (Claimant(1), Claimant(2));
            let old = Fence { term: term(1), claimant: one, until: id(9), completed: None };
            let new = Fence { term: term(2), claimant: two, until: id(17), completed: None };
            match result {
                Ok(()) => assert_eq!(fence, new),
                Err(error) if error.result() == StoreResult::NotApplied => assert_eq!(fence, old),
                Err(_) => assert!(fence == old || fence == new, "{fence:?}"),
            }
        },
    );
}

#[test]
fn a_reservation_is_made_or_not() {
    each_failure(
        claimed,
        |store| store.reserve(term(1), id(99)),
        |store, result| {
            let until = store.fence().expect("it can be read").until;
            match result {
                Ok(()) => assert_eq!(until, id(99)),
                Err(error) if error.result() == StoreResult::NotApplied => assert_eq!(until, id(9)),
                Err(_) => assert!(until == id(9) || until == id(99)),
            }
        },
    );
}

#[test]
fn a_deletion_cut_short_leaves_no_manifest_without_its_blobs() {
    each_failure(
        |store| {
            claimed(store);
            for number in 1..=3 {
                checkpoint(store, number).expect("nothing fails yet");
            }
        },
        |store| store.delete(term(1), &[id(1), id(2)], &[blob_id(1), blob_id(2)]),
        |store, result| {
            for checkpoint in store.manifests().expect("nothing fails any more") {
                let (_, health, wrong) = health(store, checkpoint).expect("all can be read");
                assert_eq!(health, Health::Whole, "{wrong:?}");
            }
            if result.is_ok() {
                assert_eq!(store.manifests().expect("it can be listed"), [id(3)]);
                assert_eq!(store.blobs().expect("it can be listed").len(), 1);
            }
            store
                .delete(term(1), &[id(1), id(2)], &[blob_id(1), blob_id(2)])
                .expect("asked for again, it is done");
        },
    );
}

#[test]
fn a_read_that_fails_says_nothing_about_the_bytes() {
    for fault in faults() {
        let place = tempfile::tempdir().expect("a directory for the test");
        let store = LocalStore::open_on(Box::new(fault.clone()), place.path(), Takeover::Refuse)
            .expect("nothing fails yet");
        claimed(&store);
        checkpoint(&store, 1).expect("nothing fails yet");
        for nth in 1.. {
            fault.arm(nth);
            let found = health(&store, id(1));
            if !fault.fired() {
                break;
            }
            fault.arm(0);
            match found {
                Ok((_, health, wrong)) => assert_eq!(health, Health::Whole, "{wrong:?}"),
                Err(error) => assert!(matches!(error, StoreError::Io { .. }), "{error}"),
            }
        }
    }
}

#[test]
fn a_store_whose_making_failed_is_made_by_the_next_to_open_it() {
    for fault in faults() {
        for nth in 1.. {
            let place = tempfile::tempdir().expect("a directory for the test");
            let dir = place.path().join("not/there/yet");
            fault.arm(nth);
            let opened =
                LocalStore::open_on(Box::new(fault.clone()), &dir, Takeover::Refuse).map(drop);
            let fired = fault.fired();
            fault.arm(0);
            if let Err(error) = opened {
                assert!(fired && matches!(error, StoreError::Io { .. }), "{error}");
            }
            let store = LocalStore::open(&dir, Takeover::Refuse).expect("nothing is in the way");
            assert_eq!(store.fence().expect("it is there"), Fence::default());
            if !fired {
                break;
            }
        }
    }
}
