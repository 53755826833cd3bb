//! Damage of every class at every place: each gives a typed error that names the file, the
//! expectation and the finding.

use std::fs;
use std::path::{Path, PathBuf};

use snapline::store::{LocalStore, Store, StoreError, Takeover};

use crate::flips::{files_of, verify};
use crate::kit::{checkpoint, claim, id};

/// A store with two checkpoints, of which the second shares a blob with the first.
fn store(place: &Path) -> LocalStore {
    let store = LocalStore::open(place, Takeover::Refuse).expect("it is empty");
    claim(&store, 1);
    let first = checkpoint(&store, 1, None);
    checkpoint(&store, 2, Some(&first));
    store
}

/// A way to damage a file: all replacements of its contents.
type Damage = fn(&[u8]) -> Vec<Vec<u8>>;

/// Damages each file of the second checkpoint, one at a time and in each of these ways, and passes
/// the error to `check`.
fn each_file(damage: &[Damage], mut check: impl FnMut(&Path, &[u8], StoreError)) -> usize {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = store(place.path());
    drop(store);
    let mut cases = 0;
    let files = files_of(place.path(), id(2));
    assert_eq!(files.len(), 6, "marker, fence, manifest, two blobs of its own and a shared one");
    for file in files {
        let whole = fs::read(&file).expect("it can be read");
        for wrong in damage.iter().flat_map(|damage| damage(&whole)) {
            assert_ne!(wrong, whole);
            fs::write(&file, &wrong).expect("it can be written");
            let error = verify(place.path(), id(2)).expect_err("it is damaged");
            check(&file, &wrong, error);
            cases += 1;
        }
        fs::write(&file, &whole).expect("it can be written");
        verify(place.path(), id(2)).expect("it is whole again");
    }
    cases
}

fn corrupt(file: &Path, wrong: &[u8], error: StoreError) {
    let StoreError::Corrupt { what, expected, found } = &error else {
        panic!("{}: {error}", file.display());
    };
    assert_eq!(*what, file.display().to_string());
    assert_ne!(expected, found, "{error} ({} bytes)", wrong.len());
    assert!(!expected.is_empty() && !found.is_empty(), "{error}");
}

#[test]
fn a_flipped_bit_in_every_byte() {
    let cases = each_file(
        &[|whole| {
            let flip = |at: usize| {
                let mut wrong = whole.to_vec();
                wrong[at] ^= 1 << (at % 8);
                wrong
            };
            (0..whole.len()).map(flip).collect()
        }],
        corrupt,
    );
    assert!(cases > 1500, "{cases} places");
}

#[test]
fn a_file_cut_short_or_extended_anywhere() {
    each_file(
        &[
            |whole| (0..whole.len()).map(|length| whole[..length].to_vec()).collect(),
            |whole| [&b"\n"[..], b"\0", b"x"].map(|more| [whole, more].concat()).to_vec(),
            |whole| vec![[whole, whole].concat(), [&whole[..1], whole].concat()],
        ],
        corrupt,
    );
}

#[test]
fn a_file_overwritten() {
    each_file(
        &[
            |whole| vec![vec![0; whole.len()], vec![0xff; whole.len()]],
            |whole| vec![whole.iter().rev().copied().collect()],
            |whole| {
                let mut torn = whole.to_vec();
                torn[whole.len() / 2..].fill(0);
                vec![torn]
            },
        ],
        corrupt,
    );
}

#[test]
fn a_file_missing() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = store(place.path());
    for file in files_of(place.path(), id(2)) {
        let whole = fs::read(&file).expect("it can be read");
        fs::remove_file(&file).expect("it can be removed");
        let error = verify(place.path(), id(2)).expect_err("it is missing");
        let StoreError::Missing { what } = &error else { panic!("{}: {error}", file.display()) };
        assert_eq!(*what, file.display().to_string());
        let opened = LocalStore::open(place.path(), Takeover::Depose);
        let needed = file.ends_with("FORMAT") || file.ends_with("fence");
        assert_eq!(opened.is_err(), needed, "{}: never made anew", file.display());
        fs::write(&file, &whole).expect("it can be written");
    }
    store.fence().expect("all is as it was");
}

#[test]
fn a_file_in_the_place_of_another() {
    let place = tempfile::tempdir().expect("a directory for the test");
    drop(store(place.path()));
    let files = files_of(place.path(), id(2));
    let mut swaps = 0;
    for (one, other) in files.iter().flat_map(|one| files.iter().map(move |other| (one, other))) {
        if one >= other {
            continue;
        }
        swap(one, other);
        let error = verify(place.path(), id(2)).expect_err("two files are swapped");
        let StoreError::Corrupt { what, expected, found } = &error else { panic!("{error}") };
        assert!([one, other].iter().any(|file| *what == file.display().to_string()), "{error}");
        assert_ne!(expected, found);
        swap(one, other);
        swaps += 1;
    }
    assert_eq!(swaps, 15);
    // Another checkpoint's manifest is whole, but in the wrong place.
    let store = LocalStore::inspect(place.path()).expect("it is whole");
    fs::copy(store.manifest_path(id(1)), store.manifest_path(id(2))).expect("it can be copied");
    let error = store.manifest(id(2)).expect_err("it is another's");
    assert!(error.to_string().contains("of checkpoint 1"), "{error}");
}

fn swap(one: &PathBuf, other: &PathBuf) {
    let (first, second) = (fs::read(one).expect("there"), fs::read(other).expect("there"));
    fs::write(one, second).expect("it can be written");
    fs::write(other, first).expect("it can be written");
}

#[test]
fn a_directory_in_the_place_of_a_file() {
    let place = tempfile::tempdir().expect("a directory for the test");
    drop(store(place.path()));
    for file in files_of(place.path(), id(2)) {
        let whole = fs::read(&file).expect("it can be read");
        fs::remove_file(&file).expect("it can be removed");
        fs::create_dir(&file).expect("it can be made");
        let error = verify(place.path(), id(2)).expect_err("it is no file");
        corrupt(&file, &[], error);
        fs::remove_dir(&file).expect("it can be removed");
        fs::write(&file, &whole).expect("it can be written");
    }
}

#[test]
fn a_file_in_the_place_of_a_directory_tells_nothing_of_what_was_in_it() {
    for directory in ["blobs", "checkpoints"] {
        let place = tempfile::tempdir().expect("a directory for the test");
        drop(store(place.path()));
        fs::remove_dir_all(place.path().join(directory)).expect("it can be removed");
        let gone = verify(place.path(), id(2)).expect_err("nothing can be read");
        assert!(matches!(gone, StoreError::Io { .. }), "a mount that is gone, say: {gone}");
        fs::write(place.path().join(directory), "").expect("it can be written");
        let error = verify(place.path(), id(2)).expect_err("nothing can be read");
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }
}

#[test]
fn a_later_version_is_left_alone() {
    let place = tempfile::tempdir().expect("a directory for the test");
    drop(store(place.path()));
    let marker = place.path().join("FORMAT");
    fs::write(&marker, later_marker()).expect("it can be written");
    for error in [
        LocalStore::open(place.path(), Takeover::Depose).err(),
        LocalStore::inspect(place.path()).err(),
    ] {
        let error = error.expect("this build does not know it");
        let StoreError::Version { what, found: 2, known: 1 } = &error else { panic!("{error}") };
        assert_eq!(*what, marker.display().to_string());
    }
}

fn later_marker() -> String {
    let claim = "snapline-store 2 0";
    format!("{claim} {:08x}\n", crc(claim.as_bytes()))
}

/// CRC-32 (IEEE), from the textbook: the format of SPEC 13 can be written without the code that it
/// describes.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// SPEC 13.2-13.5
#[test]
fn files_are_as_the_specification_says() {
    let place = tempfile::tempdir().expect("a directory for the test");
    drop(store(place.path()));
    let text = |name: &str| fs::read_to_string(place.path().join(name)).expect("it is a text");
    let marker = text("FORMAT");
    let checksum = crc(b"snapline-store 1 0");
    assert_eq!(marker, format!("snapline-store 1 0 {checksum:08x}\n"));

    for (name, kind) in
        [("fence", "fence"), ("checkpoints/00000000000000000002.manifest", "manifest")]
    {
        let whole = text(name);
        let (line, body) = whole.split_once('\n').expect("a first line");
        let claim = format!("snapline-{kind} 1 {}", body.len());
        let checksum = crc([claim.as_bytes(), body.as_bytes()].concat().as_slice());
        assert_eq!(line, format!("{claim} {checksum:08x}"));
        assert!(body.starts_with("{\n  \""), "people can read it: {body}");
    }

    let blob = fs::read(place.path().join("blobs/00000000000000000002-t1-a1-s1.blob"));
    let blob = blob.expect("it is there");
    let header = [
        &b"SNAPBLOB"[..],
        &1_u32.to_le_bytes(),
        &2_u64.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    assert_eq!(blob[..32], header);
    assert_eq!(blob[32..36], crc(&header).to_le_bytes());
    assert_eq!(blob[36..336], [2; 300]);
    let trailer = blob.len() - 20;
    assert_eq!(&blob[336..trailer], b"root of 1 at 2");
    assert_eq!(blob[trailer..trailer + 8], 3_u64.to_le_bytes());
    assert_eq!(blob[trailer + 8..trailer + 16], (blob.len() as u64).to_le_bytes());
    assert_eq!(blob[trailer + 16..], crc(&blob[..trailer + 16]).to_le_bytes());
}
