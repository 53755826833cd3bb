//! Images of state, and how an I/O thread writes them (SPEC 14.5-14.7).

use std::any::Any;
use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{self, Check, Checks, Refused, Serializer, is_number, read_back, read_back_key};
use super::cow::Node;
use super::entry::Entry;
use super::group::Group;
use super::root::{Kind, Root, RootEntry, SegmentRef};
use super::{Key, StateError, StateValue};
use crate::base::sync::thread;
use crate::store::{BlobRef, BlobWriter, Section};
use snapline_protocol::ids::BlobId;

/// The most blobs that hold a snapshot's bytes (SPEC 14.7).
const MAX_BLOBS: usize = 16;

/// A blob is shared while at least one in this many of its bytes is still needed (SPEC 14.7).
const MIN_LIVE: u64 = 4;

/// A state as it was when it was frozen. It stays unchanged, whatever its owner does.
pub trait Image: Send {
    /// Its kind.
    fn kind(&self) -> Kind;

    /// The number of key groups of the job's state; 0 for a single value.
    fn key_groups(&self) -> u16;

    /// Visits every segment, the same ones in the same order each time, and stops at the first
    /// error.
    ///
    /// # Errors
    /// The error of `visit`.
    fn segments(
        &self,
        visit: &mut dyn FnMut(SegmentImage<'_>) -> Result<(), StateError>,
    ) -> Result<(), StateError>;
}

/// A part of an image that is written, or shared with an older checkpoint, as a whole.
pub struct SegmentImage<'a> {
    /// The key group.
    pub group: u16,
    /// The number of bits in which its keys' hashes agree.
    pub depth: u8,
    /// The value of these bits.
    pub prefix: u32,
    /// Distinguishes it from every other content that the table has had or will have; `None`: it is
    /// never shared.
    pub version: Option<u64>,
    /// The number of its entries.
    pub entries: u32,
    /// Appends its bytes, and reads some of them back.
    pub encode: Encode<'a>,
}

/// Appends the bytes of a segment.
pub type Encode<'a> = &'a dyn Fn(&mut Vec<u8>, &mut Check<'_>) -> Result<(), Refused>;

/// The result of [`super::Table::freeze`].
pub(super) struct TableImage<K, V> {
    pub(super) first: u16,
    pub(super) key_groups: u16,
    pub(super) groups: Vec<Node<Group<K, V>>>,
}

impl<K: Key, V: StateValue> Image for TableImage<K, V> {
    fn kind(&self) -> Kind {
        Kind::Table
    }

    fn key_groups(&self) -> u16 {
        self.key_groups
    }

    fn segments(
        &self,
        visit: &mut dyn FnMut(SegmentImage<'_>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        for (group, place) in self.groups.iter().zip(self.first..) {
            let segments = group.get().segments();
            if segments.iter().all(|segment| segment.get().entries.is_empty()) {
                continue;
            }
            // An empty one among others counts: together they divide the group without a gap.
            for node in segments {
                let segment = node.get();
                let encode = |bytes: &mut Vec<u8>, check: &mut Check<'_>| {
                    encode_entries(segment.entries.iter().map(Entry::pair), bytes, check)
                };
                visit(SegmentImage {
                    group: place,
                    depth: segment.depth,
                    prefix: segment.prefix,
                    version: Some(node.version()),
                    // A segment of that many entries would not fit into memory.
                    entries: segment.entries.len() as u32,
                    encode: &encode,
                })?;
            }
        }
        Ok(())
    }
}

/// MessagePack's header of an array of two.
const PAIR: u8 = 0x92;

/// An array of pairs; fields by their names (SPEC 14.5). Some are read back (SPEC 14.9).
fn encode_entries<'a, K: Key, V: StateValue>(
    entries: impl ExactSizeIterator<Item = &'a (K, V)>,
    bytes: &mut Vec<u8>,
    check: &mut Check<'_>,
) -> Result<(), Refused> {
    let trusted = is_number::<K>() && is_number::<V>();
    let (marks, mut due) = check.parts();
    let mut serializer = Serializer::new(bytes, marks);
    serializer.array(entries.len())?;
    for (key, value) in entries {
        // Serde's encoding of a pair, at a third of the cost.
        serializer.bytes.push(PAIR);
        let begin = serializer.bytes.len();
        encode(key, &mut serializer)?;
        let middle = serializer.bytes.len();
        encode(value, &mut serializer)?;
        if !trusted && due(serializer.shape()) {
            read_back_key(key, &serializer.bytes[begin..middle])?;
            read_back::<V>(&serializer.bytes[middle..])?;
        }
    }
    Ok(())
}

/// Serde's encoding of a value. The most common integer types are written directly.
#[inline]
fn encode<T: Serialize + 'static>(
    value: &T,
    serializer: &mut Serializer<'_>,
) -> Result<(), Refused> {
    let any: &dyn Any = value;
    let number = match (any.downcast_ref::<u64>(), any.downcast_ref::<u32>()) {
        (Some(number), _) => Some(*number),
        (_, Some(number)) => Some(u64::from(*number)),
        _ => None,
    };
    match number {
        Some(number) => codec::number(number, serializer.bytes),
        None => value.serialize(serializer)?,
    }
    Ok(())
}

struct Single {
    bytes: Vec<u8>,
    /// Reads them back as their type.
    back: fn(&[u8]) -> Result<(), Refused>,
}

impl Image for Single {
    fn kind(&self) -> Kind {
        Kind::Single
    }

    fn key_groups(&self) -> u16 {
        0
    }

    fn segments(
        &self,
        visit: &mut dyn FnMut(SegmentImage<'_>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let encode = |bytes: &mut Vec<u8>, check: &mut Check<'_>| {
            bytes.extend_from_slice(&self.bytes);
            if check.is_due(true) {
                (self.back)(&self.bytes)?;
            }
            Ok(())
        };
        visit(SegmentImage {
            group: 0,
            depth: 0,
            prefix: 0,
            version: None,
            entries: 1,
            encode: &encode,
        })
    }
}

/// An image, with its operator and name.
pub struct NamedImage {
    /// The operator's name, unique in the job.
    pub operator: String,
    /// The state's name, unique in the operator.
    pub state: String,
    /// The state.
    pub image: Box<dyn Image>,
}

impl NamedImage {
    /// A small value that has no keys: a source's position, a subtask's watermarks. It is encoded
    /// at once.
    ///
    /// # Errors
    /// [`StateError::Encode`].
    pub fn single<T: Serialize + DeserializeOwned>(
        operator: impl Into<String>,
        state: impl Into<String>,
        value: &T,
    ) -> Result<Self, StateError> {
        Self::single_as::<T>(operator, state, value)
    }

    /// The same for a value that is read as a `T`, and is one but for its borrowed parts.
    ///
    /// # Errors
    /// [`StateError::Encode`].
    pub fn single_as<T: Serialize + DeserializeOwned>(
        operator: impl Into<String>,
        state: impl Into<String>,
        value: &impl Serialize,
    ) -> Result<Self, StateError> {
        let (operator, state) = (operator.into(), state.into());
        let mut bytes = Vec::new();
        match codec::write(value, &mut bytes) {
            Ok(()) => {
                let image = Box::new(Single { bytes, back: read_back::<T> });
                Ok(Self { operator, state, image })
            }
            Err(error) => Err(Refused::from(error).of(&operator, &state)),
        }
    }
}

/// The places of the segments of one checkpoint's snapshot, by their versions: a later snapshot
/// with that checkpoint as its base can share them. It is of use only together with the very tables
/// it is about.
#[derive(Clone, Default, Debug)]
pub struct SegmentLocations {
    /// By operator and state; ascending by version.
    tables: BTreeMap<(String, String), Vec<(u64, Section)>>,
    /// The lengths of the blobs they are in.
    blobs: BTreeMap<BlobId, u64>,
}

impl SegmentLocations {
    pub(super) fn find(&self, operator: &str, state: &str) -> Option<&[(u64, Section)]> {
        // Keys are looked up once per table and snapshot; a borrowed pair is not worth its trouble.
        self.tables.get(&(operator.to_owned(), state.to_owned())).map(Vec::as_slice)
    }

    pub(super) fn put(&mut self, operator: &str, state: &str, mut found: Vec<(u64, Section)>) {
        found.sort_unstable_by_key(|(version, _)| *version);
        self.tables.insert((operator.to_owned(), state.to_owned()), found);
    }

    pub(super) fn put_blob(&mut self, blob: BlobRef) {
        self.blobs.insert(blob.id, blob.length);
    }
}

/// The result of writing a snapshot.
#[derive(Debug)]
pub struct Written {
    /// The place of its table of contents.
    pub root: Section,
    /// Every blob it needs, the new one included.
    pub blobs: Vec<BlobRef>,
    /// The places of its segments, for a snapshot with this one's checkpoint as its base.
    pub locations: SegmentLocations,
    /// Bytes of state written.
    pub written: u64,
    /// Bytes of state shared with the base.
    pub reused: u64,
}

/// Writes images as one snapshot. Segments that are unchanged since `base` are referred to.
/// Everything else and the table of contents goes into the new blob, which is durable when this
/// returns.
///
/// `base` must be about the very checkpoint that is the base of this one (SPEC 8.3).
///
/// # Errors
/// [`StateError::Encode`], [`StateError::Unreadable`] or [`StateError::Store`]; then the blob is
/// not there, unless the store reports that this is unknown.
pub fn write(
    images: Vec<NamedImage>,
    base: Option<&SegmentLocations>,
    checks: &mut Checks,
    mut writer: Box<dyn BlobWriter>,
) -> Result<Written, StateError> {
    let shared = match base {
        Some(base) => SharedBlobs::plan(&images, base)?,
        None => SharedBlobs::default(),
    };
    let mut root = Root::default();
    let mut locations = SegmentLocations::default();
    let (mut written, mut reused) = (0, 0);
    let mut bytes = Vec::new();
    for NamedImage { operator, state, image } in images {
        let mut segments = Vec::new();
        let mut found = Vec::new();
        let known = base.and_then(|base| base.find(&operator, &state));
        let mut check = checks.of(&operator, &state);
        image.segments(&mut |segment| {
            let section = match shared.section(known, segment.version) {
                Some(section) => {
                    reused += section.length;
                    section
                }
                None => {
                    bytes.clear();
                    (segment.encode)(&mut bytes, &mut check)
                        .map_err(|refused| refused.of(&operator, &state))?;
                    written += bytes.len() as u64;
                    let section = writer.append(&bytes)?;
                    // Where there are no more cores than workers, a worker that waits for this
                    // one's whole time slice delays those that align with it. Nothing is urgent
                    // here.
                    thread::yield_now();
                    section
                }
            };
            let SegmentImage { group, depth, prefix, entries, .. } = segment;
            segments.push(SegmentRef { group, depth, prefix, entries, section });
            found.extend(segment.version.map(|version| (version, section)));
            Ok(())
        })?;
        if image.kind() == Kind::Table {
            locations.put(&operator, &state, found);
        }
        let (kind, key_groups) = (image.kind(), image.key_groups());
        root.entries.push(RootEntry { operator, state, kind, key_groups, segments });
        // The image is dropped here: from now on its owner need not copy before it writes.
    }
    let bytes = root.encode();
    let root = writer.append(&bytes)?;
    written += bytes.len() as u64;
    let length = writer.finish()?;

    let mut blobs = shared.blobs;
    blobs.push(BlobRef { id: root.blob, length });
    blobs.iter().for_each(|blob| locations.put_blob(*blob));
    Ok(Written { root, blobs, locations, written, reused })
}

/// The blobs of the base that a snapshot shares (SPEC 14.7).
#[derive(Default)]
struct SharedBlobs {
    blobs: Vec<BlobRef>,
}

impl SharedBlobs {
    /// Leaves out blobs of which little is still needed, and if too many are left, those of which
    /// the least is. Their live segments are written again, so that neither the space that a
    /// checkpoint takes nor the number of its blobs grows with the age of the job.
    fn plan(images: &[NamedImage], base: &SegmentLocations) -> Result<Self, StateError> {
        let mut live: BTreeMap<BlobId, u64> = BTreeMap::new();
        for NamedImage { operator, state, image } in images {
            let known = base.find(operator, state);
            image.segments(&mut |segment| {
                if let Some(section) = locate(known, segment.version) {
                    *live.entry(section.blob).or_default() += section.length;
                }
                Ok(())
            })?;
        }
        let mut blobs: Vec<(u64, BlobRef)> = Vec::new();
        for (id, live) in live {
            // A blob of unknown length is not shared: its length belongs into the manifest.
            if let Some(&length) = base.blobs.get(&id)
                && live >= length.div_ceil(MIN_LIVE)
            {
                blobs.push((live, BlobRef { id, length }));
            }
        }
        // The blobs left out for their number are the least of sixteen or more parts: at most a
        // sixteenth of the state.
        blobs.sort_by_key(|(live, blob)| (std::cmp::Reverse(*live), blob.id));
        blobs.truncate(MAX_BLOBS - 1);
        let mut blobs: Vec<_> = blobs.into_iter().map(|(_, blob)| blob).collect();
        blobs.sort_by_key(|blob| blob.id);
        Ok(Self { blobs })
    }

    /// The place of a segment that is already written; `None` if it is to be written.
    fn section(&self, known: Option<&[(u64, Section)]>, version: Option<u64>) -> Option<Section> {
        let section = locate(known, version)?;
        self.blobs.iter().any(|blob| blob.id == section.blob).then_some(section)
    }
}

fn locate(known: Option<&[(u64, Section)]>, version: Option<u64>) -> Option<Section> {
    let (known, version) = (known?, version?);
    let place = known.binary_search_by_key(&version, |(version, _)| *version).ok()?;
    Some(known[place].1)
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use super::*;
    use crate::state::VerifyState;

    fn by_serde<K: Serialize, V: Serialize>(pairs: &[(K, V)]) -> Vec<u8> {
        rmp_serde::to_vec_named(pairs).expect("it can be encoded")
    }

    fn by_us<K: Key, V: StateValue>(pairs: &[(K, V)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut checks = Checks::new(VerifyState::All);
        encode_entries(pairs.iter(), &mut bytes, &mut checks.of("", ""))
            .expect("it can be encoded");
        bytes
    }

    #[test]
    fn numbers_are_encoded_as_serde_does() {
        let near =
            |bits: u32| [-1, 0, 1].map(|off| 1u64.wrapping_shl(bits).wrapping_add_signed(off));
        let wide: Vec<u64> = (0..64).flat_map(near).chain([u64::MAX, u64::MAX - 1]).collect();
        let pairs: Vec<(u64, u64)> = wide.iter().map(|&number| (number, !number)).collect();
        assert_eq!(by_us(&pairs), by_serde(&pairs));
        let narrow = wide.iter().map(|&number| (number as u32, Some(number)));
        let pairs: Vec<(u32, Option<u64>)> = narrow.collect();
        assert_eq!(by_us(&pairs), by_serde(&pairs));
        let pairs = [("one".to_owned(), -1i64), (String::new(), i64::MIN)];
        assert_eq!(by_us(&pairs), by_serde(&pairs));
    }
}
