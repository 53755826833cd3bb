//! Bytes on disk: names, and the text files of a store (SPEC 13). Blobs are in [`blob`]. Pure.

pub mod blob;

use serde::de::DeserializeOwned;
use snapline_protocol::fence::Fence;
use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, IndexSet, SubtaskId, Term};

use super::{Manifest, SnapshotRef, StoreError};

/// The version of every format here, but for manifests with a seed.
pub const VERSION: u32 = 1;

/// The version of a manifest that has a seed of hashes. A reader without knowledge of the seed
/// would look for keys in the wrong key groups.
const SEEDED: u32 = 2;
/// The longest text that is read or written: the manifest of a job with the most subtasks is a
/// hundredth of it.
pub const LONGEST_TEXT: u64 = 64 << 20;

/// Checkpoint ids from here on are not taken for ones that were reserved. At a thousand a second,
/// none is reached in a hundred million years, and counting on from one below does not overflow.
const IDS_END: u64 = 1 << 62;

/// SPEC 14.2
const MOST_KEY_GROUPS: u16 = 32768;

/// More than the length of any blob, and than any snapshot writes and shares: sums of them do not
/// overflow.
const BYTES_END: u64 = 1 << 54;

/// The longest first line that is looked for: in a file that lost its line ends it could be the
/// whole file.
const FIRST_LINE: usize = 96;

/// The content of the file that marks a directory as a store.
pub fn encode_marker() -> Vec<u8> {
    seal("store", VERSION, b"")
}

/// Verifies the file that marks a directory as a store.
pub fn decode_marker(what: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let body = unseal(what, "store", VERSION, bytes)?;
    if body.is_empty() {
        Ok(())
    } else {
        Err(StoreError::corrupt(what, "one line", format!("{} bytes after it", body.len())))
    }
}

/// The content of a fence's file (SPEC 13.5).
pub fn encode_fence(fence: &Fence) -> Vec<u8> {
    encode("fence", VERSION, fence)
}

/// Reads and verifies a fence. A checksum shows that it is as it was written, not who wrote it: its
/// numbers are bounded too.
pub fn decode_fence(what: &str, bytes: &[u8]) -> Result<Fence, StoreError> {
    let fence: Fence = decode(what, "fence", VERSION, bytes)?;
    check_fence(what, &fence)?;
    Ok(fence)
}

/// Refuses a fence that could not be read again.
pub fn check_fence(what: &str, fence: &Fence) -> Result<(), StoreError> {
    let completed = fence.completed.map_or(0, CheckpointId::get);
    for (name, found, end) in [
        ("a term", fence.term.get().into(), u64::from(u32::MAX)),
        ("ids given out", fence.until.get(), IDS_END),
        ("a complete checkpoint", completed, IDS_END),
    ] {
        if found >= end {
            let expected = format!("{name} below {end}");
            return Err(StoreError::corrupt(what, expected, found.to_string()));
        }
    }
    Ok(())
}

/// The content of a manifest's file (SPEC 13.5).
pub fn encode_manifest(manifest: &Manifest) -> Vec<u8> {
    let version = if manifest.hash_seed.is_some() { SEEDED } else { VERSION };
    encode("manifest", version, manifest)
}

/// Reads and verifies the manifest of this checkpoint.
pub fn decode_manifest(
    what: &str,
    checkpoint: CheckpointId,
    bytes: &[u8],
) -> Result<Manifest, StoreError> {
    let manifest: Manifest = decode(what, "manifest", SEEDED, bytes)?;
    // SPEC 13.2
    if manifest.checkpoint != checkpoint {
        return Err(StoreError::corrupt(
            what,
            format!("the manifest of checkpoint {checkpoint}"),
            format!("that of checkpoint {}", manifest.checkpoint),
        ));
    }
    if let Some((expected, found)) = out_of_range(&manifest) {
        return Err(StoreError::corrupt(what, expected, found));
    }
    manifest.check_parts()?;
    Ok(manifest)
}

/// A number of a manifest that no job can have written: the expected and the found one.
fn out_of_range(manifest: &Manifest) -> Option<(String, String)> {
    let wrong =
        |expected: String, found: &dyn std::fmt::Display| Some((expected, found.to_string()));
    let most = IndexSet::CAPACITY;
    if manifest.checkpoint.get() >= IDS_END {
        return wrong(format!("a checkpoint below {IDS_END}"), &manifest.checkpoint);
    }
    if !(1..=MOST_KEY_GROUPS).contains(&manifest.key_groups) {
        return wrong(format!("1 to {MOST_KEY_GROUPS} key groups"), &manifest.key_groups);
    }
    for operator in &manifest.operators {
        if operator.parallelism > most {
            let expected = format!("`{}` with at most {most} subtasks", operator.name);
            return wrong(expected, &operator.parallelism);
        }
    }
    // Each is bounded: with a text's length they do not overflow.
    let subtasks: usize = manifest.operators.iter().map(|operator| operator.parallelism).sum();
    if subtasks > most {
        return wrong(format!("at most {most} subtasks in all"), &subtasks);
    }
    for SnapshotRef { subtask, root, blobs, written, reused } in &manifest.snapshots {
        let lengths = blobs.iter().map(|blob| blob.length);
        if let Some(bytes) = lengths.chain([*written, *reused]).find(|&bytes| bytes >= BYTES_END) {
            return wrong(format!("less than {BYTES_END} bytes for {subtask:?}"), &bytes);
        }
        let length = blobs.iter().find(|blob| blob.id == root.blob).map_or(0, |blob| blob.length);
        // A root outside the snapshot's blobs is reported where the blobs are verified.
        let end = root.offset.checked_add(root.length);
        if length > 0 && end.is_none_or(|end| end > length) {
            let expected = format!("the root of {subtask:?} within its blob of {length} bytes");
            return wrong(expected, &format!("{} bytes at {}", root.length, root.offset));
        }
    }
    None
}

fn encode<T: serde::Serialize>(kind: &str, version: u32, value: &T) -> Vec<u8> {
    let mut body = serde_json::to_vec_pretty(value)
        .expect("a struct of numbers, strings and lists of them has a JSON form");
    body.push(b'\n');
    seal(kind, version, &body)
}

fn decode<T: DeserializeOwned>(
    what: &str,
    kind: &str,
    newest: u32,
    bytes: &[u8],
) -> Result<T, StoreError> {
    let body = unseal(what, kind, newest, bytes)?;
    serde_json::from_slice(body).map_err(|error| {
        StoreError::corrupt(what, format!("a {kind} in JSON"), format!("other text: {error}"))
    })
}

/// Puts a first line before a text, which covers both (SPEC 13.3).
pub fn seal(kind: &str, version: u32, body: &[u8]) -> Vec<u8> {
    let claim = format!("snapline-{kind} {version} {}", body.len());
    let checksum = checksum(&[claim.as_bytes(), body]);
    [format!("{claim} {checksum:08x}\n").as_bytes(), body].concat()
}

/// Verifies a text against its first line, and removes that line. Versions up to the newest are
/// known.
fn unseal<'a>(
    what: &str,
    kind: &str,
    newest: u32,
    bytes: &'a [u8],
) -> Result<&'a [u8], StoreError> {
    let shape = || format!("a first line `snapline-{kind} <version> <length> <checksum>`");
    let end = bytes.iter().take(FIRST_LINE).position(|&byte| byte == b'\n');
    let line = end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok());
    let Some(line) = line else {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(FIRST_LINE)]);
        let found = format!("{} bytes that begin with {shown:?}", bytes.len());
        return Err(StoreError::corrupt(what, shape(), found));
    };
    let body = &bytes[line.len() + 1..];
    let other = || StoreError::corrupt(what, shape(), format!("{line:?}"));
    let mut words = line.split(' ');
    if words.next().and_then(|word| word.strip_prefix("snapline-")) != Some(kind) {
        return Err(other());
    }
    let version: u32 = words.next().and_then(canonical).ok_or_else(other)?;
    let length: usize = words.next().and_then(canonical).ok_or_else(other)?;
    let said = words.next().ok_or_else(other)?;
    if words.next().is_some() {
        return Err(other());
    }
    if body.len() != length {
        let expected = format!("{length} bytes after the first line");
        return Err(StoreError::corrupt(what, expected, format!("{} bytes", body.len())));
    }
    let claim = &line[..line.len() - said.len() - 1];
    let found = format!("{:08x}", checksum(&[claim.as_bytes(), body]));
    if said != found {
        let expected = format!("bytes with checksum {said}");
        return Err(StoreError::corrupt(what, expected, format!("bytes with checksum {found}")));
    }
    // SPEC 13.9: after the checksum, so that a damaged version is not taken for a later one.
    if !(VERSION..=newest).contains(&version) {
        return Err(StoreError::Version { what: what.to_owned(), found: version, known: newest });
    }
    Ok(body)
}

/// A number written as this build writes it: no sign, no leading zero.
fn canonical<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

/// CRC-32 (IEEE) of these bytes, end to end.
pub fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// The file name of a manifest. Names sort as checkpoints do, oldest first (SPEC 13.2).
pub fn manifest_name(checkpoint: CheckpointId) -> String {
    format!("{:020}.manifest", checkpoint.get())
}

/// The checkpoint whose manifest has this file name.
pub fn parse_manifest_name(name: &str) -> Option<CheckpointId> {
    let checkpoint = CheckpointId::new(name.strip_suffix(".manifest")?.parse().ok()?)?;
    (manifest_name(checkpoint) == name).then_some(checkpoint)
}

/// The file name of a blob (SPEC 13.2).
pub fn blob_name(id: BlobId) -> String {
    let BlobId { checkpoint, attempt, subtask } = id;
    let (term, number) = (attempt.term, attempt.number);
    format!("{:020}-t{term}-a{number}-s{}.blob", checkpoint.get(), subtask.index())
}

/// The blob that has this file name.
pub fn parse_blob_name(name: &str) -> Option<BlobId> {
    let mut words = name.strip_suffix(".blob")?.split('-');
    let checkpoint = CheckpointId::new(words.next()?.parse().ok()?)?;
    let term = Term::new(words.next()?.strip_prefix('t')?.parse().ok()?);
    let number = words.next()?.strip_prefix('a')?.parse().ok()?;
    let subtask = SubtaskId::new(words.next()?.strip_prefix('s')?.parse().ok()?);
    let id = BlobId { checkpoint, attempt: Attempt { term, number }, subtask };
    // One name for one blob: any other spelling is foreign.
    (blob_name(id) == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use snapline_protocol::fence::Claimant;
    use snapline_protocol::message::CheckpointKind;

    use super::*;
    use crate::store::{BlobRef, OperatorRef, Section};

    fn fence() -> Fence {
        let until = CheckpointId::new(9).expect("not zero");
        let completed = CheckpointId::new(8);
        Fence { term: Term::new(3), claimant: Claimant(u64::MAX), until, completed }
    }

    #[test]
    fn a_fence_is_read_as_it_was_written() {
        let bytes = encode_fence(&fence());
        assert!(bytes.starts_with(b"snapline-fence 1 "), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(decode_fence("fence", &bytes).expect("it is whole"), fence());
    }

    #[test]
    fn every_flipped_bit_truncation_and_extension_of_a_text_is_detected() {
        for bytes in [encode_fence(&fence()), encode_marker()] {
            let read = |bytes: &[u8]| match bytes.starts_with(b"snapline-fence") {
                true => decode_fence("it", bytes).map(drop),
                false => decode_marker("it", bytes).and(decode_fence("it", bytes).map(drop)),
            };
            let whole = |bytes: &[u8]| {
                decode_fence("it", bytes).is_ok() || decode_marker("it", bytes).is_ok()
            };
            assert!(whole(&bytes));
            for bit in 0..bytes.len() * 8 {
                let mut wrong = bytes.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(!whole(&wrong), "bit {bit}");
                assert!(matches!(read(&wrong), Err(StoreError::Corrupt { .. })), "bit {bit}");
            }
            for length in 0..bytes.len() {
                assert!(!whole(&bytes[..length]), "cut to {length}");
            }
            assert!(!whole(&[&bytes[..], b"\n"].concat()));
        }
    }

    /// Found by the fuzz target `fence`.
    #[test]
    fn an_error_quotes_no_control_characters() {
        let texts = [&b"snapline-fence 1 0 \x1b[2J\n"[..], b"snapline-fence 1 0 \0\n", b"\x07"];
        let errors = texts.map(|text| decode_fence("it", text).expect_err("it is none"));
        let operators = vec![OperatorRef { name: "\x1b[2J".to_owned(), parallelism: 999 }];
        let named = encode_manifest(&Manifest { operators, ..manifest() });
        let named = decode_manifest("it", manifest().checkpoint, &named);
        for error in errors.into_iter().chain([named.expect_err("it is none")]) {
            let text = error.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let later = seal("store", 2, b"whatever it may hold then");
        let error = decode_marker("FORMAT", &later).expect_err("this build does not know it");
        assert!(matches!(error, StoreError::Version { found: 2, known: 1, .. }), "{error}");
    }

    #[test]
    fn a_manifest_without_a_seed_is_as_it_was_before_there_were_any() {
        let seeded = |hash_seed| Manifest { hash_seed, ..manifest() };
        let read = |bytes: &[u8]| decode_manifest("it", manifest().checkpoint, bytes);
        for (seed, version) in [(None, 1), (Some(0), 2), (Some(u64::MAX), 2)] {
            let bytes = encode_manifest(&seeded(seed));
            assert!(bytes.starts_with(format!("snapline-manifest {version} ").as_bytes()));
            let text = String::from_utf8(bytes.clone()).expect("a text");
            assert_eq!(text.contains("hash_seed"), seed.is_some(), "{text}");
            assert_eq!(read(&bytes).expect("it is whole"), seeded(seed));
        }
        let later = seal("manifest", 3, b"{}");
        let error = read(&later).expect_err("this build does not know it");
        assert!(matches!(error, StoreError::Version { found: 3, known: 2, .. }), "{error}");
    }

    #[test]
    fn names_sort_by_checkpoint_and_no_other_spelling_is_taken() {
        let id = |number, term, attempt, subtask| BlobId {
            checkpoint: CheckpointId::new(number).expect("not zero"),
            attempt: Attempt { term: Term::new(term), number: attempt },
            subtask: SubtaskId::new(subtask),
        };
        assert_eq!(blob_name(id(7, 3, 1, 12)), "00000000000000000007-t3-a1-s12.blob");
        assert!(blob_name(id(9, 1, 1, 0)) < blob_name(id(10, 1, 1, 0)));
        let widest = blob_name(id(u64::MAX, u32::MAX, u32::MAX, u16::MAX));
        assert_eq!(parse_blob_name(&widest), Some(id(u64::MAX, u32::MAX, u32::MAX, u16::MAX)));
        for other in [
            "7-t3-a1-s12.blob",
            "00000000000000000007-t03-a1-s12.blob",
            "00000000000000000007-t3-a+1-s12.blob",
            "00000000000000000007-t3-a1-s12-x.blob",
            "00000000000000000000-t3-a1-s12.blob",
            "00000000000000000007-t3-a1-s12.blob~",
            "99999999999999999999-t3-a1-s12.blob",
        ] {
            assert_eq!(parse_blob_name(other), None, "{other}");
        }
        assert_eq!(parse_manifest_name("00000000000000000000.manifest"), None);
        assert_eq!(parse_manifest_name("7.manifest"), None);
        let seven = CheckpointId::new(7);
        assert_eq!(parse_manifest_name("00000000000000000007.manifest"), seven);
    }

    fn manifest() -> Manifest {
        let (checkpoint, attempt) = (CheckpointId::FIRST, Attempt::first(Term::new(1)));
        let id = BlobId { checkpoint, attempt, subtask: SubtaskId::new(0) };
        let root = Section { blob: id, offset: 36, length: 4, checksum: 0 };
        let blobs = vec![BlobRef { id, length: 60 }];
        let subtask = SubtaskId::new(0);
        Manifest {
            checkpoint,
            attempt,
            kind: CheckpointKind::Periodic,
            ended: false,
            written_at: u64::MAX,
            job: "job".to_owned(),
            key_groups: 1,
            hash_seed: None,
            operators: vec![OperatorRef { name: "all".to_owned(), parallelism: 1 }],
            snapshots: vec![SnapshotRef { subtask, root, blobs, written: 60, reused: 0 }],
        }
    }

    #[test]
    fn numbers_that_no_job_has_are_refused_though_the_checksum_is_right() {
        let read = |manifest: &Manifest| {
            decode_manifest("it", manifest.checkpoint, &encode_manifest(manifest))
        };
        read(&manifest()).expect("it is as a job writes it");
        type Change = fn(&mut Manifest);
        let changes: [(&str, Change); 14] = [
            ("256 subtasks", |it| it.operators[0].parallelism = 281_474_976_710_656),
            ("256 subtasks", |it| it.operators[0].parallelism = usize::MAX),
            ("subtasks in all", |it| {
                it.operators[0].parallelism = 200;
                it.operators.push(it.operators[0].clone());
            }),
            ("snapshots of 2", |it| it.operators[0].parallelism = 2),
            ("key groups", |it| it.key_groups = 0),
            ("key groups", |it| it.key_groups = u16::MAX),
            ("bytes for", |it| it.snapshots[0].written = u64::MAX),
            ("bytes for", |it| it.snapshots[0].blobs[0].length = u64::MAX),
            ("within its blob", |it| it.snapshots[0].root.length = u64::MAX),
            ("snapshots of 1", |it| it.snapshots.clear()),
            ("that of subtask 1", |it| it.snapshots[0].subtask = SubtaskId::new(1)),
            ("the root of subtask 0", |it| it.snapshots[0].root.blob.subtask = SubtaskId::new(1)),
            ("the root of subtask 0", |it| {
                it.attempt = Attempt { number: 2, ..it.attempt };
            }),
            ("blobs of subtask 0", |it| {
                let mut other = it.snapshots[0].blobs[0];
                other.id.subtask = SubtaskId::new(1);
                it.snapshots[0].blobs.push(other);
            }),
        ];
        for (word, change) in changes {
            let mut wrong = manifest();
            change(&mut wrong);
            let error = read(&wrong).expect_err(word).to_string();
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
        let last = CheckpointId::new(u64::MAX).expect("not zero");
        read(&Manifest { checkpoint: last, ..manifest() }).expect_err("an id that no attempt has");
        for wrong in [
            Fence { term: Term::new(u32::MAX), ..fence() },
            Fence { until: last, ..fence() },
            Fence { completed: Some(last), ..fence() },
        ] {
            let error = decode_fence("it", &encode_fence(&wrong)).expect_err("out of range");
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_fence("it", &bytes).is_err());
            prop_assert!(decode_marker("it", &bytes).is_err());
        }

        #[test]
        fn any_name_is_read_without_panic(name in "[0-9]{0,21}(-[tas+]?[0-9]{0,11}){0,4}(.blob|.manifest)?") {
            if let Some(id) = parse_blob_name(&name) {
                prop_assert_eq!(blob_name(id), name);
            } else if let Some(id) = parse_manifest_name(&name) {
                prop_assert_eq!(manifest_name(id), name);
            }
        }
    }
}
