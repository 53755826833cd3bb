//! Images of state, and what an upload thread makes of them (SPEC 14.5-14.7).

use std::any::Any;
use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::cow::Node;
use super::entry::Entry;
use super::group::Group;
use super::root::{Kind, Root, RootEntry, SegmentRef};
use super::{Key, StateError, StateValue};
use crate::error::BoxError;
use crate::protocol::ids::BlobId;
use crate::store::{BlobRef, BlobWriter, Section};
use crate::sync::thread;

/// In how many blobs a snapshot's bytes are at most (SPEC 14.7).
const MAX_BLOBS: usize = 16;

/// A blob is shared while at least one in this many of its bytes is still needed (SPEC 14.7).
const MIN_LIVE: u64 = 4;

/// A state as it was when it was frozen. It does not change, whatever its owner does.
pub trait Image: Send {
    /// What it is.
    fn kind(&self) -> Kind;

    /// Into how many key groups the job's state is divided; 0 for a single value.
    fn key_groups(&self) -> u16;

    /// Shows every segment, the same ones in the same order each time, and stops at the first error.
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
    /// In how many bits its keys' hashes agree.
    pub depth: u8,
    /// What these bits are.
    pub prefix: u32,
    /// Tells it from every other content that the table has had or will have; `None`: it is never shared.
    pub version: Option<u64>,
    /// How many entries it has.
    pub entries: u32,
    /// Appends its bytes.
    pub encode: &'a dyn Fn(&mut Vec<u8>) -> Result<(), BoxError>,
}

/// What [`super::Table::freeze`] gives.
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
            // An empty one among others is there all the same: together they divide the group without a gap.
            for node in segments {
                let segment = node.get();
                let encode = |bytes: &mut Vec<u8>| {
                    encode_entries(segment.entries.iter().map(Entry::pair), bytes)
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

/// An array of pairs; fields by their names (SPEC 14.5).
fn encode_entries<'a, K: Key, V: StateValue>(
    entries: impl ExactSizeIterator<Item = &'a (K, V)>,
    bytes: &mut Vec<u8>,
) -> Result<(), BoxError> {
    let mut serializer = rmp_serde::Serializer::new(bytes).with_struct_map();
    serializer.serialize_seq(Some(entries.len()))?.end()?;
    for (key, value) in entries {
        // What serde makes of a pair, at a third of the price.
        serializer.get_mut().push(PAIR);
        encode(key, &mut serializer)?;
        encode(value, &mut serializer)?;
    }
    Ok(())
}

/// What serde makes of a value. For what is counted and numbered most, it is written down without asking.
#[inline]
fn encode<T, C>(
    value: &T,
    serializer: &mut rmp_serde::Serializer<&mut Vec<u8>, C>,
) -> Result<(), BoxError>
where
    T: Serialize + 'static,
    C: rmp_serde::config::SerializerConfig,
{
    let any: &dyn Any = value;
    let number = match (any.downcast_ref::<u64>(), any.downcast_ref::<u32>()) {
        (Some(number), _) => Some(*number),
        (_, Some(number)) => Some(u64::from(*number)),
        _ => None,
    };
    match number {
        Some(number) => encode_number(number, serializer.get_mut()),
        None => value.serialize(serializer)?,
    }
    Ok(())
}

/// MessagePack's shortest form of a number. How long that is, is as random as the numbers are: no step of this depends on it.
#[inline]
fn encode_number(number: u64, bytes: &mut Vec<u8>) {
    /// The first byte, and how many follow, by how many bits a number has.
    const FORMS: [(u8, u8); 65] = {
        let mut forms = [(0, 0); 65];
        let mut bits = 8;
        while bits <= 64 {
            forms[bits] = match bits {
                8 => (0xcc, 1),
                9..=16 => (0xcd, 2),
                17..=32 => (0xce, 4),
                _ => (0xcf, 8),
            };
            bits += 1;
        }
        forms
    };
    let (first, rest) = FORMS[(u64::BITS - number.leading_zeros()) as usize];
    let small = if rest == 0 { number as u8 } else { 0 };
    // Left-aligned; none of it is kept where nothing follows, hence the shift by 64 may do what it likes.
    let digits = number.wrapping_shl(64 - 8 * u32::from(rest)).to_be_bytes();
    let length = bytes.len() + 1 + usize::from(rest);
    let mut form = [first | small; 9];
    form[1..].copy_from_slice(&digits);
    bytes.extend_from_slice(&form);
    bytes.truncate(length);
}

struct Single(Vec<u8>);

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
        let encode = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(&self.0);
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

/// An image of a small value that has no keys: a source's position, a sink's committables. It is encoded at once.
///
/// # Errors
/// What the value's `Serialize` says.
pub fn single<T: Serialize>(value: &T) -> Result<Box<dyn Image>, BoxError> {
    let mut bytes = Vec::new();
    value.serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())?;
    Ok(Box::new(Single(bytes)))
}

/// An image, and whose it is.
pub struct Named {
    /// The operator's name, unique in the job.
    pub operator: String,
    /// The state's name, unique in the operator.
    pub state: String,
    /// The state.
    pub image: Box<dyn Image>,
}

impl Named {
    /// A [`single`] value under its name.
    ///
    /// # Errors
    /// [`StateError::Encode`].
    pub fn single<T: Serialize>(
        operator: impl Into<String>,
        state: impl Into<String>,
        value: &T,
    ) -> Result<Self, StateError> {
        let (operator, state) = (operator.into(), state.into());
        match single(value) {
            Ok(image) => Ok(Self { operator, state, image }),
            Err(error) => Err(StateError::Encode { operator, state, error: error.to_string() }),
        }
    }
}

/// Where the segments of one checkpoint's snapshot are, by their versions: what a later snapshot with that checkpoint as its base can
/// share. It is of use only together with the very tables it is about.
#[derive(Clone, Default, Debug)]
pub struct Locations {
    /// By operator and state; ascending by version.
    tables: BTreeMap<(String, String), Vec<(u64, Section)>>,
    /// The lengths of the blobs they are in.
    blobs: BTreeMap<BlobId, u64>,
}

impl Locations {
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

/// What was written for a snapshot.
#[derive(Debug)]
pub struct Written {
    /// Where its table of contents is.
    pub root: Section,
    /// Every blob it needs, the new one included.
    pub blobs: Vec<BlobRef>,
    /// Where its segments are, for a snapshot with this one's checkpoint as its base.
    pub locations: Locations,
    /// Bytes of state written.
    pub written: u64,
    /// Bytes of state shared with the base.
    pub reused: u64,
}

/// Writes images as one snapshot: what is as it was in `base` is referred to, everything else and the table of contents goes into the new
/// blob, which is durable when this returns.
///
/// `base` must be about the very checkpoint that is the base of this one (SPEC 8.3).
///
/// # Errors
/// [`StateError::Encode`] or [`StateError::Store`]; then the blob is not there, unless the store says that this is unknown.
pub fn write(
    images: Vec<Named>,
    base: Option<&Locations>,
    mut writer: Box<dyn BlobWriter>,
) -> Result<Written, StateError> {
    let shared = match base {
        Some(base) => Shared::plan(&images, base)?,
        None => Shared::default(),
    };
    let mut root = Root::default();
    let mut locations = Locations::default();
    let (mut written, mut reused) = (0, 0);
    let mut bytes = Vec::new();
    for Named { operator, state, image } in images {
        let mut segments = Vec::new();
        let mut found = Vec::new();
        let known = base.and_then(|base| base.find(&operator, &state));
        image.segments(&mut |segment| {
            let section = match shared.section(known, segment.version) {
                Some(section) => {
                    reused += section.length;
                    section
                }
                None => {
                    bytes.clear();
                    (segment.encode)(&mut bytes).map_err(|error| StateError::Encode {
                        operator: operator.clone(),
                        state: state.clone(),
                        error: error.to_string(),
                    })?;
                    written += bytes.len() as u64;
                    let section = writer.append(&bytes)?;
                    // Where there are no more cores than workers, a worker that waits for this one's whole time slice has those wait that
                    // align with it. Nothing is urgent here.
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
        // The image is dropped here: from now on its owner need not copy what it writes to.
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

/// Which of the base's blobs a snapshot goes on using (SPEC 14.7).
#[derive(Default)]
struct Shared {
    blobs: Vec<BlobRef>,
}

impl Shared {
    /// Leaves out blobs of which little is still needed, and if too many are left, those of which the least is. What is left out is
    /// written again, so that neither the space that a checkpoint takes nor the number of its blobs grows with the age of the job.
    fn plan(images: &[Named], base: &Locations) -> Result<Self, StateError> {
        let mut live: BTreeMap<BlobId, u64> = BTreeMap::new();
        for Named { operator, state, image } in images {
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
        // What is left out for the number of blobs is the least of sixteen or more parts: no more than a sixteenth of the state.
        blobs.sort_by_key(|(live, blob)| (std::cmp::Reverse(*live), blob.id));
        blobs.truncate(MAX_BLOBS - 1);
        let mut blobs: Vec<_> = blobs.into_iter().map(|(_, blob)| blob).collect();
        blobs.sort_by_key(|blob| blob.id);
        Ok(Self { blobs })
    }

    /// Where a segment is already; `None` if it is to be written.
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

    fn by_serde<K: Serialize, V: Serialize>(pairs: &[(K, V)]) -> Vec<u8> {
        rmp_serde::to_vec_named(pairs).expect("it can be encoded")
    }

    fn by_us<K: Key, V: StateValue>(pairs: &[(K, V)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_entries(pairs.iter(), &mut bytes).expect("it can be encoded");
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
