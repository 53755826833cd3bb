//! The power goes: of what was not synced any part may be lost. What was answered for must be there (SPEC 2.4).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use snapline_protocol::recovery::{Decision, Health, Policy, decide};

use super::faults::{blob_id, checkpoint, id, snapshot, term};
use super::files::{Input, Output};
use super::*;
use crate::store::{health, recovery_facts};
use crate::sync::{Mutex, lock};

/// The disk, and beside it what of it would be there after the power went: names of directories that were synced, and content of files
/// that were.
#[derive(Clone, Default)]
struct Volatile {
    disk: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    /// Content that was synced, by file; a file keeps its number when it is renamed.
    synced: Vec<Vec<u8>>,
    /// Names as they can be seen.
    seen: BTreeMap<PathBuf, Named>,
    /// Names as they would be found.
    durable: BTreeMap<PathBuf, Named>,
    /// How many more changes are carried out before the process dies.
    left: Option<u64>,
}

#[derive(Clone, Copy)]
enum Named {
    Directory,
    File(usize),
}

impl Content {
    /// Whether the process lives to make another change.
    fn lives(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => Err(io::Error::other("the process is dead")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

struct VolatileFile {
    disk: Arc<Mutex<Content>>,
    file: Box<dyn Output>,
    number: usize,
    written: Vec<u8>,
}

impl Output for VolatileFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        lock(&self.disk).lives()?;
        self.written.extend_from_slice(bytes);
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.lives()?;
        disk.synced[self.number] = self.written.clone();
        Ok(())
    }
}

impl Files for Volatile {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let mut disk = lock(&self.disk);
        disk.lives()?;
        let file = Disk.create(path)?;
        let number = disk.synced.len();
        disk.synced.push(Vec::new());
        disk.seen.insert(path.to_owned(), Named::File(number));
        Ok(Box::new(VolatileFile { disk: Arc::clone(&self.disk), file, number, written: vec![] }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>> {
        Disk.open(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        Disk.kind(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        Disk.list(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.lives()?;
        Disk.rename(from, to)?;
        let named = disk.seen.remove(from).expect("all files are made here");
        disk.seen.insert(to.to_owned(), named);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.lives()?;
        Disk.remove(path)?;
        disk.seen.remove(path);
        Ok(())
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.lives()?;
        Disk.make_directory(path)?;
        disk.seen.insert(path.to_owned(), Named::Directory);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.lives()?;
        let inside = |name: &PathBuf| name.parent() == Some(path);
        disk.durable.retain(|name, _| !inside(name));
        let seen: Vec<_> = disk.seen.iter().map(|(name, named)| (name.clone(), *named)).collect();
        disk.durable.extend(seen.into_iter().filter(|(name, _)| inside(name)));
        Ok(())
    }
}

impl Volatile {
    /// The process dies after this many changes.
    fn dies_after(&self, changes: u64) {
        lock(&self.disk).left = Some(changes);
    }

    /// Another process begins, on the same machine: what was not synced can still be seen.
    fn revives(&self) {
        lock(&self.disk).left = None;
    }

    /// What is found once the power is back, in a place of its own.
    fn after_the_power_went(&self, dir: &Path) -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a directory for the test");
        let disk = lock(&self.disk);
        for (name, named) in &disk.durable {
            let Ok(short) = name.strip_prefix(dir) else { continue };
            let path = place.path().join(short);
            // Names sort behind the directory they are in. One whose directory is lost is lost with it.
            match named {
                Named::Directory if path.parent().is_some_and(Path::exists) => {
                    std::fs::create_dir_all(path).expect("it can be made");
                }
                Named::File(number) if path.parent().is_some_and(Path::exists) => {
                    std::fs::write(path, &disk.synced[*number]).expect("it can be written");
                }
                _ => {}
            }
        }
        place
    }
}

fn restorable(store: &LocalStore, mine: Term) -> Option<CheckpointId> {
    let (facts, wrong) = recovery_facts(store, mine, Policy::default()).expect("it can be read");
    match decide(&facts).unwrap_or_else(|error| panic!("{error}; {wrong:?}")) {
        Decision::Restore { permit, .. } => Some(permit.checkpoint()),
        Decision::Fresh => None,
    }
}

/// The work of a job: two checkpoints, and the first of them deleted. Notes what was answered for.
fn job(store: &LocalStore, answered: &mut Vec<&'static str>) -> Result<(), StoreError> {
    store.claim(term(1), Claimant(1), 8)?;
    answered.push("claim");
    checkpoint(store, 1)?;
    answered.push("first");
    let second = snapshot(store, 2)?;
    answered.push("blob");
    store.put_manifest(term(1), &second)?;
    answered.push("second");
    store.delete(term(1), &[id(1)], &[blob_id(1)])?;
    answered.push("deletion");
    store.reserve(term(1), id(50))?;
    answered.push("reservation");
    Ok(())
}

#[test]
fn what_was_answered_for_survives_the_loss_of_all_that_was_not_synced() {
    let mut finished = false;
    let mut moments = 0;
    while !finished {
        let here = tempfile::tempdir().expect("a directory for the test");
        let files = Volatile::default();
        let store = LocalStore::open_on(Box::new(files.clone()), here.path(), Takeover::Refuse)
            .expect("the process lives");
        files.dies_after(moments);
        let mut answered = Vec::new();
        finished = job(&store, &mut answered).is_ok();
        drop(store);

        let place = files.after_the_power_went(here.path());
        let found = LocalStore::open(place.path(), Takeover::Refuse).expect("it is a store");
        let fence = found.fence().expect("it is whole");
        let has = |what| answered.contains(&what);
        assert!(!has("claim") || fence.term == term(1), "after {moments}: the fence fell");
        assert!(!has("reservation") || fence.until == id(50), "after {moments}");
        let manifests = found.manifests().expect("they can be listed");
        for &checkpoint in &manifests {
            let (_, health, wrong) = health(&found, checkpoint).expect("it can be read");
            assert_eq!(health, Health::Whole, "after {moments}: {wrong:?}");
        }
        let newest = manifests.last().map(|newest| newest.get());
        assert!(!has("first") || newest >= Some(1), "after {moments}");
        assert!(!has("second") || newest == Some(2), "after {moments}");
        assert!(!has("deletion") || manifests == [id(2)], "after {moments}");
        moments += 1;
    }
    assert!(moments > 30, "it died at {moments} moments");
}

/// A manifest that a dead process left visible, and not durable, is restored by the next process, which commits what it holds. Then the
/// power goes. Were the manifest gone, what was committed would be written again.
#[test]
fn what_recovery_has_built_on_survives_the_power() {
    let mut finished = false;
    let mut unsynced = 0;
    for moments in 0.. {
        if finished {
            break;
        }
        let here = tempfile::tempdir().expect("a directory for the test");
        let files = Volatile::default();
        let open = || LocalStore::open_on(Box::new(files.clone()), here.path(), Takeover::Refuse);
        let store = open().expect("the process lives");
        files.dies_after(moments);
        finished = job(&store, &mut Vec::new()).is_ok();
        drop(store);
        files.revives();

        let gone = |dir: &tempfile::TempDir| {
            let found = LocalStore::inspect(dir.path()).expect("it is a store");
            found.manifests().expect("they can be listed")
        };
        let seen = LocalStore::inspect(here.path()).expect("it is a store").manifests();
        let before = gone(&files.after_the_power_went(here.path()));
        unsynced += u32::from(seen.expect("they can be listed").last() > before.last());

        let store = open().expect("its owner is dead");
        store.claim(term(2), Claimant(2), 8).expect("it is free");
        let restored = restorable(&store, term(2));
        let place = files.after_the_power_went(here.path());
        let found = LocalStore::open(place.path(), Takeover::Refuse).expect("it is a store");
        assert_eq!(restorable(&found, term(2)), restored, "after {moments}");
    }
    assert!(unsynced > 0, "it died between naming a manifest and syncing the name");
}

#[test]
fn a_store_is_made_whole_or_made_again() {
    let mut finished = false;
    for moments in 0.. {
        if finished {
            break;
        }
        let here = tempfile::tempdir().expect("a directory for the test");
        let dir = here.path().join("a/b");
        let files = Volatile::default();
        files.dies_after(moments);
        let opened = LocalStore::open_on(Box::new(files.clone()), &dir, Takeover::Refuse);
        finished = opened.is_ok();
        drop(opened);
        let place = files.after_the_power_went(here.path());
        let found = LocalStore::open(place.path().join("a/b"), Takeover::Refuse);
        let found = found.expect("what is there is a store, or can become one");
        assert_eq!(found.fence().expect("it is whole"), Fence::default());
        assert!(!finished || place.path().join("a/b/FORMAT").exists());
    }
}
