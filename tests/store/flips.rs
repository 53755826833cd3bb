//! Random damage to a checkpoint on disk, one bit at a time: every flip must be detected.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use snapline::protocol::ids::CheckpointId;
use snapline::protocol::recovery::Health;
use snapline::store::{LocalStore, Store, StoreError, Takeover, health};

use crate::kit::{checkpoint, claim, id};

/// The results of the flips.
#[derive(Default)]
pub(crate) struct Flips {
    /// Detected flips by kind of file and error.
    pub(crate) detected: BTreeMap<(String, &'static str), u32>,
    /// Undetected flips: the file and the bit.
    pub(crate) unseen: Vec<(PathBuf, u64)>,
}

impl Flips {
    /// The number of detected flips.
    pub(crate) fn detected(&self) -> u32 {
        self.detected.values().sum()
    }
}

impl fmt::Display for Flips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (detected, unseen) = (self.detected(), self.unseen.len());
        write!(f, "{detected} bit flips detected, {unseen} not:")?;
        for ((kind, error), count) in &self.detected {
            write!(f, " {kind} {error} {count};")?;
        }
        Ok(())
    }
}

/// The first error of a store and a checkpoint in it, verified in full and from outside.
pub(crate) fn verify(dir: &Path, checkpoint: CheckpointId) -> Result<(), StoreError> {
    let store = LocalStore::inspect(dir)?;
    store.fence()?;
    match health(&store, checkpoint)? {
        (_, Health::Whole, None) => Ok(()),
        (_, state, error) => Err(error.unwrap_or_else(|| panic!("{state:?} without an error"))),
    }
}

/// The files that a restore of the checkpoint depends on.
pub(crate) fn files_of(dir: &Path, checkpoint: CheckpointId) -> Vec<PathBuf> {
    let store = LocalStore::inspect(dir).expect("it is whole");
    let manifest = store.manifest(checkpoint).expect("it is whole");
    let mut files = vec![dir.join("FORMAT"), dir.join("fence"), store.manifest_path(checkpoint)];
    let blobs = manifest.snapshots.iter().flat_map(|snapshot| &snapshot.blobs);
    files.extend(blobs.map(|blob| store.blob_path(blob.id)));
    files.sort();
    files.dedup();
    files
}

/// Flips `count` bits of the checkpoint's files, one at a time, each file equally often. Verifies,
/// and flips the bit back. A function of the seed.
pub(crate) fn flip_bits(dir: &Path, checkpoint: CheckpointId, seed: u64, count: u32) -> Flips {
    let files = files_of(dir, checkpoint);
    let mut random = seed;
    let mut below = |bound: u64| {
        // SplitMix64.
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    };
    let mut flips = Flips::default();
    for _ in 0..count {
        let file = &files[below(files.len() as u64) as usize];
        let whole = fs::read(file).expect("it can be read");
        let bit = below(whole.len() as u64 * 8);
        let mut wrong = whole.clone();
        wrong[(bit / 8) as usize] ^= 1 << (bit % 8);
        fs::write(file, &wrong).expect("it can be written");
        let found = verify(dir, checkpoint);
        fs::write(file, &whole).expect("it can be written");
        let name = match &found {
            Err(StoreError::Corrupt { what, .. }) if *what == file.display().to_string() => {
                "corrupt"
            }
            Err(StoreError::Version { .. }) => "of another version",
            _ => {
                flips.unseen.push((file.clone(), bit));
                continue;
            }
        };
        let kind = file.extension().or(file.file_name()).unwrap_or_default();
        *flips.detected.entry((kind.to_string_lossy().into_owned(), name)).or_default() += 1;
    }
    verify(dir, checkpoint).expect("all is as it was");
    flips
}

#[test]
fn a_thousand_flipped_bits_are_detected() {
    let place = tempfile::tempdir().expect("a directory for the test");
    let store = LocalStore::open(place.path(), Takeover::Refuse).expect("it is empty");
    claim(&store, 1);
    let first = checkpoint(&store, 1, None);
    checkpoint(&store, 2, Some(&first));
    let flips = flip_bits(place.path(), id(2), 42, 1000);
    eprintln!("{flips}");
    assert_eq!(flips.unseen, [], "{flips}");
    assert_eq!(flips.detected(), 1000);
    assert_eq!(flips.detected.len(), 4, "every kind of file was hit: {flips}");
}
