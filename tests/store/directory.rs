//! The additions of a directory store to the contract: it outlives the process, and it recognises
//! its own files.

use std::fs;
use std::path::Path;

use snapline::protocol::coordinator::StoreResult;
use snapline::protocol::fence::Claimant;
use snapline::protocol::ids::CheckpointId;
use snapline::protocol::recovery::Health;
use snapline::store::{LocalStore, Store, StoreError, Takeover, health};

use crate::kit::{blob, blob_id, checkpoint, claim, id, manifest, term};

fn open(dir: &Path) -> LocalStore {
    LocalStore::open(dir, Takeover::Refuse).expect("it is free")
}

/// Every file below a directory with its content, except owners and the lock, which hold no data.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(path).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            let name = path.strip_prefix(dir).expect("it is below").display().to_string();
            if path.is_file() {
                found.push((name, fs::read(path).expect("it can be read")));
            } else if name != "owners" {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

#[cfg(unix)]
#[test]
fn what_it_makes_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().expect("a directory for the test");
    let dir = place.path().join("job");
    let store = open(&dir);
    claim(&store, 1);
    checkpoint(&store, 1, None);
    let mut open = vec![dir];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let found = fs::metadata(&path).expect("it is there");
        assert_eq!(found.permissions().mode() & 0o077, 0, "{}", path.display());
        seen += 1;
        if found.is_dir() {
            let entries = fs::read_dir(path).expect("it can be listed");
            open.extend(entries.map(|entry| entry.expect("it can be listed").path()));
        }
    }
    // Directories, the marker, the fence, the lock, an owner, two blobs and a manifest.
    assert_eq!(seen, 12);
}

/// Environment variable of the child: the place of a test of another user's directories.
#[cfg(unix)]
const PLACE: &str = "SNAPLINE_TEST_OWNERS";

/// Only acts in the child: uses directories of another user.
#[cfg(unix)]
#[test]
fn child_of_another_user() {
    use snapline::connect::{FileSink, OpenContext, TwoPhaseSink};
    use snapline::protocol::ids::Attempt;
    let Some(place) = std::env::var_os(PLACE).map(std::path::PathBuf::from) else { return };
    let attempt = Attempt::first(snapline::protocol::ids::Term::new(1));
    let context = OpenContext::new("job", "out", 0, 1, attempt);
    let sink = FileSink::<u64>::new(place.join("sink"));
    let said = [
        LocalStore::open(place.join("store"), Takeover::Refuse).err().map(|it| it.to_string()),
        sink.open(&context).err().map(|it| it.to_string()),
        #[cfg(feature = "http")]
        snapline::connect::HttpIngest::lines(
            place.join("log"),
            snapline::connect::IngestConfig::new(),
        )
        .err()
        .map(|it| it.to_string()),
    ];
    let said: Vec<String> = said.into_iter().map(Option::unwrap_or_default).collect();
    fs::write(place.join("said"), said.join("\n")).expect("writable");
}

/// Only `root` can give a directory to another user and act as a third: without it this tests
/// nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_of_another_user_is_not_used() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    if fs::metadata("/proc/self").map_or(1, |it| it.uid()) != 0 {
        return;
    }
    let place = tempfile::tempdir().expect("a directory for the test");
    let open = |dir: &Path| {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("it is ours");
    };
    open(place.path());
    for name in ["store", "log", "sink", "sink/.snapline", "sink/.snapline/out"] {
        let dir = place.path().join(name);
        fs::create_dir(&dir).expect("writable");
        open(&dir);
        chown(&dir, Some(4_001), Some(4_001)).expect("root may");
    }
    // Another user may not be able to read this executable's folder.
    let me = place.path().join("me");
    fs::copy(std::env::current_exe().expect("this test runs"), &me).expect("writable");
    let mut child = std::process::Command::new(&me);
    child.args(["directory::child_of_another_user", "--exact"]);
    child.env(PLACE, place.path()).current_dir("/").uid(4_002).gid(4_002);
    let output = child.output().expect("it can be started");
    let said = fs::read_to_string(place.path().join("said")).unwrap_or_default();
    let tried = if cfg!(feature = "http") { 3 } else { 2 };
    assert_eq!(said.lines().count(), tried, "{said}: {output:?}");
    for said in said.lines() {
        assert!(said.contains("belongs to user 4001"), "{said}");
    }
}

#[test]
fn opened_again_it_has_everything() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let dir = place.path().join("of/a/job");
    let store = open(&dir);
    claim(&store, 1);
    let first = checkpoint(&store, 1, None);
    let second = checkpoint(&store, 2, Some(&first));
    let (fence, blobs) = (store.fence().expect("there"), store.blobs().expect("there"));
    drop(store);

    let again = open(&dir);
    assert_eq!(again.fence().expect("there"), fence);
    assert_eq!(again.blobs().expect("there"), blobs);
    assert_eq!(again.manifests().expect("there"), [id(1), id(2)]);
    assert_eq!(again.manifest(id(2)).expect("there"), second);
    let (_, state, wrong) = health(&again, id(2)).expect("it can be read");
    assert_eq!(state, Health::Whole, "{wrong:?}");
    assert_eq!(again.claim(term(2), Claimant(2), 1).expect("free"), fence.until);
    let names: Vec<String> = content(&dir).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "FORMAT",
        "LOCK",
        "blobs/00000000000000000001-t1-a1-s0.blob",
        "blobs/00000000000000000001-t1-a1-s1.blob",
        "blobs/00000000000000000002-t1-a1-s0.blob",
        "blobs/00000000000000000002-t1-a1-s1.blob",
        "checkpoints/00000000000000000001.manifest",
        "checkpoints/00000000000000000002.manifest",
        "fence",
    ];
    assert_eq!(names, expected);
    assert_eq!(again.dir(), dir);
    assert!(again.describe().contains("of/a/job"));
}

#[test]
fn what_is_no_store_is_left_as_it_is() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let file = place.path().join("file");
    fs::write(&file, "of another user").expect("it can be written");
    let foreign = place.path().join("foreign");
    fs::create_dir(&foreign).expect("it can be made");
    fs::write(foreign.join("thesis.txt"), "of another user").expect("it can be written");
    let before = content(place.path());
    for path in [&file, &foreign, &file.join("below")] {
        for opened in [LocalStore::open(path, Takeover::Depose), LocalStore::inspect(path)] {
            let error = opened.expect_err("it is no store");
            let text = error.to_string();
            let typed = matches!(error, StoreError::NotAStore { .. } | StoreError::Io { .. });
            assert!(typed && text.contains(&path.display().to_string()), "{text}");
        }
    }
    let error = LocalStore::open(&foreign, Takeover::Refuse).expect_err("it is no store");
    assert!(error.to_string().contains("thesis.txt"), "{error}");
    assert_eq!(content(place.path()), before);
}

#[test]
fn a_directory_that_lost_its_marker_is_not_made_anew() {
    for keep in ["fence", "blobs", "checkpoints"] {
        let place = tempfile::tempdir().expect("a directory for the test");
        let store = open(place.path());
        claim(&store, 1);
        checkpoint(&store, 1, None);
        drop(store);
        fs::remove_file(place.path().join("FORMAT")).expect("it is there");
        for name in ["fence", "blobs", "checkpoints"] {
            let path = place.path().join(name);
            match name == keep {
                true => {}
                false if path.is_dir() => fs::remove_dir_all(path).expect("it is there"),
                false => fs::remove_file(path).expect("it is there"),
            }
        }
        let before = content(place.path());
        let error = LocalStore::open(place.path(), Takeover::Depose).expect_err("damaged");
        assert!(matches!(&error, StoreError::Missing { what } if what.ends_with("FORMAT")));
        assert_eq!(content(place.path()), before);
    }
}

#[test]
fn a_making_that_was_cut_short_is_done_again() {
    for left in [&["LOCK"][..], &["blobs", "tmp"], &["lost+found"], &["blobs", "checkpoints"]] {
        let place = tempfile::tempdir().expect("a directory for the test");
        for name in left {
            match *name {
                "LOCK" => fs::write(place.path().join(name), "").expect("it can be written"),
                _ => fs::create_dir(place.path().join(name)).expect("it can be made"),
            }
        }
        claim(&open(place.path()), 1);
        assert_eq!(open(place.path()).fence().expect("there").term, term(1), "{left:?}");
    }
}

#[test]
fn a_copy_without_empty_directories_is_a_store() {
    let place = tempfile::tempdir().expect("a directory for the test");
    claim(&open(place.path()), 1);
    for name in ["tmp", "owners"] {
        fs::remove_dir_all(place.path().join(name)).expect("it is there");
    }
    let store = open(place.path());
    claim(&store, 2);
    checkpoint_of_term(&store, 2);
}

fn checkpoint_of_term(store: &LocalStore, number: u32) {
    store.put_manifest(term(number), &manifest(5, Vec::new())).expect("it is ours");
}

#[test]
fn what_a_crash_left_unfinished_goes_with_a_later_deletion() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = open(place.path());
    claim(&store, 1);
    let tmp = place.path().join("tmp");
    let dead = |name: &str| fs::write(tmp.join(name), "torn").expect("it can be written");
    dead("00000000000000000001-t1-a1-s0.blob.99-1.tmp");
    dead("00000000000000000001-t2-a1-s0.blob.99-2.tmp");
    dead("00000000000000000001.manifest.99-3.tmp");
    dead("fence.99-4.tmp");
    dead("thesis.txt");
    let left = || {
        let mut names: Vec<String> = content(&tmp).into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    };
    store.delete(term(1), &[], &[]).expect("it is ours");
    let unfinished = |term: u32| format!("00000000000000000001-t{term}-a1-s0.blob.99-{term}.tmp");
    assert_eq!(left(), [unfinished(1), unfinished(2), "thesis.txt".to_owned()]);
    claim(&store, 2);
    let mut zombie = store.create_blob(blob_id(9, 0)).expect("a writer of term 1");
    zombie.append(b"bytes").expect("written");
    store.delete(term(2), &[], &[]).expect("it is ours");
    assert_eq!(left(), [unfinished(2), "thesis.txt".to_owned()], "its own may have a writer");
    let error = zombie.finish().expect_err("its file was swept");
    assert_eq!(error.result(), StoreResult::NotApplied, "{error}");
    assert!(store.blobs().expect("none").is_empty());
}

#[test]
fn what_others_put_into_it_is_neither_listed_nor_deleted() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = open(place.path());
    claim(&store, 1);
    checkpoint(&store, 1, None);
    for name in [
        "blobs/README",
        "blobs/1-t1-a1-s0.blob",
        "checkpoints/1.manifest",
        "checkpoints/00000000000000000001.manifest.bak",
    ] {
        fs::write(place.path().join(name), "not ours").expect("it can be written");
    }
    fs::create_dir(place.path().join("blobs/00000000000000000003-t1-a1-s0.blob")).expect("made");
    assert_eq!(store.manifests().expect("one"), [id(1)]);
    assert_eq!(store.blobs().expect("two").len(), 2);
}

#[test]
fn inspection_sees_all_and_writes_nothing() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let nothing = LocalStore::inspect(place.path().join("nothing")).expect_err("none");
    assert!(matches!(nothing, StoreError::Missing { .. }), "{nothing}");
    assert!(!place.path().join("nothing").exists());
    let empty = LocalStore::inspect(place.path()).expect_err("none");
    assert!(matches!(empty, StoreError::Missing { .. }), "{empty}");

    let owner = open(place.path());
    claim(&owner, 1);
    let first = checkpoint(&owner, 1, None);
    let before = content(place.path());
    let owners = || fs::read_dir(place.path().join("owners")).expect("there").count();
    let registered = owners();
    let looking = LocalStore::inspect(place.path()).expect("beside the owner");
    let (found, state, _) = health(&looking, id(1)).expect("it can be read");
    assert_eq!((found.as_ref(), state), (Some(&first), Health::Whole));
    assert_eq!(looking.blobs().expect("two").len(), 2);
    let refused: [Result<(), StoreError>; 5] = [
        looking.claim(term(2), Claimant(2), 1).map(drop),
        looking.reserve(term(1), id(9)),
        looking.create_blob(blob_id(2, 0)).map(drop),
        looking.put_manifest(term(1), &manifest(2, Vec::new())),
        looking.delete(term(1), &[id(1)], &[]),
    ];
    for error in refused.map(|refused| refused.expect_err("it writes nothing")) {
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
        assert_eq!(error.result(), StoreResult::NotApplied);
    }
    assert_eq!(content(place.path()), before);
    assert_eq!(owners(), registered);
    checkpoint(&owner, 2, None);
    assert_eq!(looking.manifests().expect("as it is now").last(), Some(&id(2)));
}

#[test]
fn a_manifest_that_cannot_be_read_is_not_written_over() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = open(place.path());
    claim(&store, 1);
    fs::write(store.manifest_path(id(1)), "torn").expect("it can be written");
    let error = store.put_manifest(term(1), &manifest(1, Vec::new())).expect_err("it is there");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(fs::read(store.manifest_path(id(1))).expect("there"), b"torn");
    let unreadable: Vec<CheckpointId> = store.manifests().expect("there");
    assert_eq!(unreadable, [id(1)], "readable or not");
}

#[test]
fn clones_share_it_and_a_writer_keeps_it() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = open(place.path());
    let writer = store.clone().create_blob(blob_id(1, 0)).expect("begun");
    drop(store);
    let error = LocalStore::open(place.path(), Takeover::Refuse).expect_err("still in use");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(writer);
    blob(&open(place.path()), blob_id(1, 0), &[]).expect("written");
}
