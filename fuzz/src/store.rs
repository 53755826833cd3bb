//! The files of a checkpoint directory.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use snapline::connect::FileCommittable;
use snapline::fuzzing::{
    read_fence, read_manifest, read_marker, read_section, read_value, seal, store_file,
    verify_blob, write_blob, write_contents, write_fence, write_manifest, write_value,
};
use snapline::state::{Checks, Kind, List, Map, NamedImage, Restored, Root, RootEntry, SegmentRef};
use snapline::state::{Table, VerifyState, hash, to_json, write};
use snapline::store::{
    BlobRef, Manifest, MemoryStore, OperatorRef, Section, SnapshotRef, Store, health, inventory,
    lost, recovery_facts,
};
use snapline_protocol::fence::{Claimant, Fence};
use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, Term};
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::{Policy, decide};

use crate::{plain, seed, shown};

/// Words of text files.
pub const TEXT: &[&str] = &[
    "snapline-fence 1 ",
    "snapline-manifest 2 ",
    "snapline-store 1 0 ",
    "\"term\": ",
    "\"completed\": null",
    "\"key_groups\": 32769",
    "\"parallelism\": 257",
    "\"hash_seed\": 0,",
    "18446744073709551615",
    "\\u001b[2J",
    "\n",
];

/// Words of blobs, and of their names.
pub const BLOB: &[&str] = &["SNAPBLOB", ".blob", ".manifest", "-t1-a1-s0", "00000000000000000001"];

/// Words of values: long arrays, maps, texts and extensions of MessagePack.
pub const STATE: &[&str] = &[
    "\u{0}",
    "count",
    "words",
    "Single",
    "Table",
    "Some",
    "\u{7f}",
    "\u{1}\u{0}\u{0}\u{0}",
    "term",
    "number",
];

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap_or(CheckpointId::FIRST)
}

fn blob_id(subtask: u16) -> BlobId {
    let attempt = Attempt { term: Term::new(3), number: 1 };
    BlobId { checkpoint: id(7), attempt, subtask: SubtaskId::new(subtask) }
}

/// The bytes as they are, or the rest of them after a correct first line of this kind.
fn file(kind: &str, bytes: &[u8]) -> Vec<u8> {
    match bytes.split_first() {
        Some((mode, rest)) if mode & 1 == 1 => seal(kind, u32::from(mode >> 1 & 3), rest),
        Some((_, rest)) => rest.to_vec(),
        None => Vec::new(),
    }
}

/// The part after the first line.
fn body(file: &[u8]) -> &[u8] {
    let line = file.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    &file[line..]
}

/// A fence, and the file that marks a store.
pub fn fence(bytes: &[u8]) {
    let file = file("fence", bytes);
    if let Err(error) = read_marker(&file) {
        plain(&error);
    }
    match read_fence(&file) {
        Ok(fence) => {
            assert_eq!(
                read_fence(&write_fence(&fence)).expect("a written fence can be read"),
                fence
            );
            // The next owner of the store counts on from it.
            let mut next = fence;
            let claimed = next.claim(fence.term.next(), Claimant(1), 1 << 20);
            assert_eq!(claimed.expect("a later term"), fence.until);
        }
        Err(error) => plain(&error),
    }
}

/// Seeds of [`fence`].
#[must_use]
pub fn fences() -> Vec<Vec<u8>> {
    let fence = Fence { term: Term::new(3), claimant: Claimant(4), until: id(9), completed: None };
    let fences = [fence, Fence { completed: Some(id(8)), ..fence }, Fence::default()];
    let files = fences.iter().map(write_fence);
    files.flat_map(|file| [seed(0, &file), seed(3, body(&file))]).collect()
}

/// A manifest, and the protocol's functions of the facts in it.
pub fn manifest(bytes: &[u8]) {
    let file = file("manifest", bytes);
    let said: Option<Value> = serde_json::from_slice(body(&file)).ok();
    let said = said.and_then(|value| value.get("checkpoint")?.as_u64());
    let checkpoint = id(said.unwrap_or(7));
    let manifest = match read_manifest(checkpoint, &file) {
        Ok(manifest) => manifest,
        Err(error) => return plain(&error),
    };
    let again = read_manifest(checkpoint, &write_manifest(&manifest))
        .expect("a written manifest can be read");
    assert_eq!(again, manifest);
    let store = MemoryStore::new();
    store.claim(Term::new(1), Claimant(1), 1 << 61).expect("the store has no owner");
    store.put_manifest(Term::new(1), &manifest).expect("the store belongs to this term");
    let (_, _, wrong) = health(&store, checkpoint).expect("memory can be read");
    if let Some(error) = wrong {
        plain(&error);
    }
    let _ =
        (inventory(&store).expect("memory can be read"), lost(&store).expect("memory can be read"));
    let facts = recovery_facts(&store, Term::new(1), Policy::default());
    if let Ok((facts, _)) = facts
        && let Err(error) = decide(&facts)
    {
        shown(&error);
    }
}

/// Seeds of [`manifest`].
#[must_use]
pub fn manifests() -> Vec<Vec<u8>> {
    let operator = |name: &str, parallelism| OperatorRef { name: name.into(), parallelism };
    let snapshot = |subtask| {
        let blob = blob_id(subtask);
        SnapshotRef {
            subtask: SubtaskId::new(subtask),
            root: Section { blob, offset: 36, length: 20, checksum: 5 },
            blobs: vec![BlobRef { id: blob, length: 99 }],
            written: 99,
            reused: 0,
        }
    };
    let empty = Manifest {
        checkpoint: id(7),
        attempt: Attempt::first(Term::new(3)),
        kind: CheckpointKind::Periodic,
        ended: false,
        written_at: 1_700_000_000_000,
        job: "words".into(),
        key_groups: 128,
        hash_seed: None,
        operators: Vec::new(),
        snapshots: Vec::new(),
    };
    let full = Manifest {
        hash_seed: Some(11),
        operators: vec![operator("in", 1), operator("count", 2)],
        snapshots: (0..3).map(snapshot).collect(),
        ..empty.clone()
    };
    let files = [empty, full].map(|manifest| write_manifest(&manifest));
    files.iter().flat_map(|file| [seed(0, file), seed(5, body(file))]).collect()
}

const HEADER: usize = 36;
const TRAILER: usize = 20;

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// A blob and its sections, and the names of a store's files.
pub fn blob(bytes: &[u8]) {
    let Some((&[mode, a, b, c, d], rest)) = bytes.split_first_chunk() else { return };
    if let Ok(name) = std::str::from_utf8(rest)
        && let Some(again) = store_file(name)
    {
        assert_eq!(again, name, "one name for one file");
    }
    let mut file = rest.to_vec();
    let length = file.len();
    if mode & 1 == 1 && length >= HEADER + TRAILER {
        let sum = crc32fast::hash(&file[..HEADER - 4]);
        put(&mut file, HEADER - 4, &sum.to_le_bytes());
        if mode & 2 == 0 {
            put(&mut file, length - 12, &(length as u64).to_le_bytes());
        }
        let sum = crc32fast::hash(&file[..length - 4]);
        put(&mut file, length - 4, &sum.to_le_bytes());
    }
    // The name in its header, or another.
    let named = |header: &[u8; HEADER]| {
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four"));
        let checkpoint = u64::from_le_bytes(header[12..20].try_into().expect("eight"));
        let attempt = Attempt { term: Term::new(number(20)), number: number(24) };
        let subtask = SubtaskId::new(number(28) as u16);
        Some(BlobId { checkpoint: CheckpointId::new(checkpoint)?, attempt, subtask })
    };
    let named = file.first_chunk().filter(|_| mode & 4 == 0).and_then(named);
    let id = named.unwrap_or_else(|| blob_id(5));
    let said = if mode & 8 == 0 { length as u64 } else { length as u64 ^ u64::from(a) << 56 };
    let whole = verify_blob(&BlobRef { id, length: said }, &file);
    if let Err(error) = &whole {
        plain(error);
    }
    let place = |low: u8, high: u8| match (low, high) {
        (0xff, 0xff) => u64::MAX,
        _ => u64::from(u16::from_le_bytes([low, high])),
    };
    let (offset, long) = (place(a, b), place(c, d));
    let inside = usize::try_from(offset).ok().zip(usize::try_from(long).ok());
    let inside = inside.and_then(|(from, long)| file.get(from..from.checked_add(long)?));
    let checksum = inside.map_or(0, crc32fast::hash);
    match read_section(&Section { blob: id, offset, length: long, checksum }, &file) {
        Ok(read) => assert_eq!(Some(&read[..]), inside),
        Err(error) => {
            plain(&error);
            let framed = offset >= HEADER as u64
                && offset.saturating_add(long) <= (length as u64).saturating_sub(TRAILER as u64);
            assert!(whole.is_err() || !framed, "a section of a whole blob is read: {error}");
        }
    }
}

/// Seeds of [`blob`].
#[must_use]
pub fn blobs() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for sections in [&[][..], &[&b"first"[..]], &[b"one", b"", b"a longer section of a blob"]] {
        let (file, noted) = write_blob(blob_id(5), sections);
        let last = noted.last().map_or((0, 0), |last| (last.offset as u8, last.length as u8));
        for mode in [0, 1] {
            seeds.push([&[mode, last.0, 0, last.1, 0], &file[..]].concat());
        }
    }
    for name in ["00000000000000000007-t3-a1-s12.blob", "00000000000000000007.manifest"] {
        seeds.push([&[0; 5], name.as_bytes()].concat());
    }
    seeds
}

/// A snapshot with this table of contents, and these bytes for its segments, in turn.
fn snapshot(store: &MemoryStore, mut root: Root, parts: &[&[u8]]) -> SnapshotRef {
    let mut writer = store.create_blob(blob_id(0)).expect("memory accepts all writes");
    let append = |bytes: &&[u8]| writer.append(bytes).expect("memory accepts all writes");
    let sections: Vec<Section> = parts.iter().map(append).collect();
    let segments = root.entries.iter_mut().flat_map(|entry| &mut entry.segments);
    for (segment, section) in segments.zip(sections.iter().cycle()) {
        segment.section = *section;
    }
    let root = writer.append(&write_contents(&root)).expect("memory accepts all writes");
    let length = writer.finish().expect("memory accepts all writes");
    let blobs = vec![BlobRef { id: blob_id(0), length }];
    SnapshotRef { subtask: SubtaskId::new(0), root, blobs, written: length, reused: 0 }
}

/// A table of contents, and a restore by it.
pub fn contents(bytes: &[u8]) {
    let Some((_, bytes)) = bytes.split_first() else { return };
    let root = match Root::decode(bytes) {
        Ok(root) => root,
        Err(error) => return shown(&error),
    };
    assert_eq!(Root::decode(&write_contents(&root)).expect("a written root can be read"), root);
    let store = MemoryStore::new();
    let parts = [&[1][..], &[0x91, 0x92, 0xa1, b'a', 2], &[0x90], &[0xc0]];
    let reference = snapshot(&store, root.clone(), &parts);
    let mut restored = Restored::read(&store, &reference).expect("the snapshot is undamaged");
    for entry in root.entries.iter().take(16) {
        let (operator, state) = (&entry.operator, &entry.state);
        if let Err(error) = restored.single::<u64>(operator, state) {
            shown(&error);
        }
        let key_groups = entry.key_groups.clamp(1, 256);
        let mut table: Table<String, u64> = Table::new(0..key_groups, key_groups);
        if let Err(error) = table.restore(&mut restored, operator, state) {
            shown(&error);
        }
        let found = restored.root().entry(operator, state).expect("the root has this entry");
        if let Err(error) = to_json(&store, found, &mut |_| Ok(())) {
            shown(&error);
        }
    }
    assert!(restored.unclaimed().len() <= root.entries.len());
}

/// A state of a table, of which many bytes form a segment.
fn entry(state: &str, kind: Kind, key_groups: u16, entries: u32) -> RootEntry {
    let section = Section { blob: blob_id(0), offset: 36, length: 0, checksum: 0 };
    let segment = SegmentRef { group: 0, depth: 0, prefix: 0, entries, section };
    RootEntry {
        operator: "count".into(),
        state: state.into(),
        kind,
        key_groups,
        segments: vec![segment],
    }
}

/// Seeds of [`contents`].
#[must_use]
pub fn tables_of_contents() -> Vec<Vec<u8>> {
    let single = entry("time", Kind::Single, 0, 1);
    let table = entry("words", Kind::Table, 1, 1);
    let mut deep = entry("deep", Kind::Table, 2, 0);
    let half = deep.segments[0];
    deep.segments = vec![
        SegmentRef { depth: 1, ..half },
        SegmentRef { depth: 1, prefix: 1, ..half },
        SegmentRef { group: 1, ..half },
    ];
    let roots = [vec![], vec![single.clone()], vec![single, table, deep]];
    roots.map(|entries| seed(0, &write_contents(&Root { entries }))).to_vec()
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Shape {
    Nothing,
    One(i128),
    Two(String, Option<Option<()>>),
    NamedImage {
        letter: char,
        #[serde(default)]
        inner: Vec<Shape>,
    },
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Counted {
    count: u64,
    last: Option<f32>,
    words: Map<String, List<u16>>,
    all: (i8, u16, i32, f64, bool),
}

/// A valid `T` is written as it is read.
fn agrees<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let written = match read_value::<T>(bytes).map(|value| write_value(&value)) {
        Ok(Ok(written)) => written,
        // Reading allows deeper nesting than writing.
        Ok(Err(why)) | Err(why) => return shown(&why),
    };
    let again: T = read_value(&written).expect("a written value can be read");
    assert_eq!(write_value(&again).expect("the value was written before"), written);
}

fn restored<V>(store: &MemoryStore, reference: &SnapshotRef) -> Option<Table<String, V>>
where
    V: snapline::state::StateValue,
{
    let mut table = Table::new(0..1, 1);
    let mut restored = Restored::read(store, reference).expect("a written snapshot can be read");
    match table.restore(&mut restored, "count", "words") {
        Ok(_) => Some(table),
        Err(error) => {
            shown(&error);
            None
        }
    }
}

fn entries<V: snapline::state::StateValue + Debug>(table: &Table<String, V>) -> Vec<String> {
    let mut entries: Vec<String> = table.iter().map(|entry| format!("{entry:?}")).collect();
    entries.sort();
    entries
}

/// The bytes as a segment of a table: restored state is written and restored again.
fn segment<V: snapline::state::StateValue + Debug>(bytes: &[u8]) {
    let count = match *bytes {
        [first @ 0x90..=0x9f, ..] => u32::from(first & 15),
        [0xdc, a, b, ..] => u32::from(u16::from_be_bytes([a, b])),
        _ => 1,
    };
    let store = MemoryStore::new();
    let root = Root { entries: vec![entry("words", Kind::Table, 1, count)] };
    let reference = snapshot(&store, root, &[bytes]);
    let Some(mut table) = restored::<V>(&store, &reference) else { return };
    let before = entries(&table);
    if let Some(key) = table.iter().next().map(|(key, _)| key.clone()) {
        assert!(table.get(hash(&key), &key).is_some(), "the table finds a key that it lists");
    }
    let image = table.freeze();
    let named = NamedImage { operator: "count".into(), state: "words".into(), image };
    let writer = store.create_blob(blob_id(1)).expect("memory accepts all writes");
    match write(vec![named], None, &mut Checks::new(VerifyState::All), writer) {
        Ok(written) => {
            let reference = SnapshotRef { root: written.root, blobs: written.blobs, ..reference };
            let table = restored::<V>(&store, &reference).expect("a written snapshot can be read");
            assert_eq!(entries(&table), before);
        }
        Err(error) => shown(&error),
    }
}

/// The bytes of a state: values of many types, and segments of tables.
pub fn state(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    match mode % 8 {
        0 => agrees::<Shape>(bytes),
        1 => agrees::<Counted>(bytes),
        2 => agrees::<BTreeMap<String, Vec<Option<Option<()>>>>>(bytes),
        3 => agrees::<(u64, i64, String, Option<(u8,)>)>(bytes),
        4 => agrees::<Value>(bytes),
        5 => agrees::<FileCommittable>(bytes),
        6 => segment::<Counted>(bytes),
        _ => segment::<Shape>(bytes),
    }
}

/// Seeds of [`state`].
#[must_use]
pub fn states() -> Vec<Vec<u8>> {
    fn value<T: Serialize>(mode: u8, value: &T) -> Vec<u8> {
        seed(mode, &write_value(value).expect("the value can be encoded"))
    }
    let two = Shape::Two("two".into(), Some(None));
    let shape = Shape::NamedImage { letter: 'x', inner: vec![Shape::Nothing, Shape::One(-5), two] };
    let words: BTreeMap<_, List<_>> = BTreeMap::from([("a".to_owned(), vec![1, 500].into())]);
    let counted =
        Counted { count: 300, last: Some(0.5), words: words.into(), ..Counted::default() };
    let options: BTreeMap<_, Vec<Option<Option<()>>>> =
        BTreeMap::from([("some", vec![None, Some(None), Some(Some(()))])]);
    let rows = [("one", &counted), ("two", &counted)];
    vec![
        value(0, &shape),
        value(1, &counted),
        value(2, &options),
        value(3, &(u64::MAX, i64::MIN, "text", Some((7,)))),
        value(4, &(1, "x", [0.5], BTreeMap::from([("key", Some(true))]))),
        value(5, &BTreeMap::from([("file", "part-out-00-00000001-t1a1.txt")])),
        value(6, &rows),
        value(7, &[("one", &shape)]),
        value(7, &[(); 0]),
    ]
}
