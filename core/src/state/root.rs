//! A snapshot's table of contents (SPEC 14.6).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::StateError;
use crate::store::Section;
use snapline_protocol::ids::BlobId;

/// The version that is written here: 2, since values may have a `Some` around nil (SPEC 14.6),
/// which builds that know only 1 take for malformed. A reader refuses versions from before the
/// first and after this one.
pub(super) const VERSION: u32 = 2;

/// The kind of a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// One value of the whole subtask.
    Single,
    /// A value per key, in segments.
    Table,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "a single value",
            Self::Table => "a table of keys",
        })
    }
}

/// The table of contents of one subtask's snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Root {
    /// Its states, in the order written.
    pub entries: Vec<RootEntry>,
}

/// One state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootEntry {
    /// The operator's name.
    pub operator: String,
    /// The state's name within it.
    pub state: String,
    /// Its kind.
    pub kind: Kind,
    /// The number of key groups of the job's state; 0 for a single value.
    pub key_groups: u16,
    /// The places of its bytes. One for a single value; for a table, none of an empty group.
    pub segments: Vec<SegmentRef>,
}

/// The entries of a key group that agree in some bits of their keys' hashes (SPEC 14.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentRef {
    /// The key group.
    pub group: u16,
    /// The number of bits in which they agree.
    pub depth: u8,
    /// The value of these bits.
    pub prefix: u32,
    /// The number of entries.
    pub entries: u32,
    /// The bytes.
    pub section: Section,
}

// The written form: arrays without names, and blobs by their place in a list. There is one line for
// each 16 KiB of state.
#[derive(Serialize, Deserialize)]
struct Wire(Vec<BlobId>, Vec<WireEntry>);
#[derive(Serialize, Deserialize)]
struct WireEntry(String, String, Kind, u16, Vec<WireSegment>);
/// Group, depth, prefix, entries; blob, offset, length, checksum.
#[derive(Serialize, Deserialize)]
struct WireSegment(u16, u8, u32, u32, u32, u64, u64, u32);

impl Root {
    /// Its bytes in a blob (SPEC 14.6).
    pub fn encode(&self) -> Vec<u8> {
        let mut blobs = BTreeMap::new();
        let sections = self.entries.iter().flat_map(|entry| &entry.segments);
        for segment in sections {
            blobs.insert(segment.section.blob, 0u32);
        }
        for (place, known) in blobs.values_mut().enumerate() {
            *known = place as u32;
        }
        let entries = self.entries.iter().map(|entry| {
            let segments = entry.segments.iter().map(|segment| {
                let Section { blob, offset, length, checksum } = segment.section;
                let SegmentRef { group, depth, prefix, entries, .. } = *segment;
                WireSegment(group, depth, prefix, entries, blobs[&blob], offset, length, checksum)
            });
            let (operator, state) = (entry.operator.clone(), entry.state.clone());
            WireEntry(operator, state, entry.kind, entry.key_groups, segments.collect())
        });
        let wire = Wire(blobs.keys().copied().collect(), entries.collect());
        let mut bytes = Vec::new();
        let mut serializer = rmp_serde::Serializer::new(&mut bytes);
        let written = VERSION.serialize(&mut serializer).and(wire.serialize(&mut serializer));
        // Numbers and strings only, and a `Vec` accepts every write.
        written.expect("every part of a table of contents can be encoded");
        bytes
    }

    /// Reads a table of contents, as [`crate::store::Store::read`] returns it for a snapshot's
    /// root.
    ///
    /// # Errors
    /// [`StateError::Version`] or [`StateError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let malformed = |what: String| StateError::Malformed {
            operator: String::new(),
            state: String::new(),
            what,
        };
        let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
        let version =
            u32::deserialize(&mut reader).map_err(|error| malformed(error.to_string()))?;
        if !(1..=VERSION).contains(&version) {
            return Err(StateError::Version { found: version, known: VERSION });
        }
        let wire = Wire::deserialize(&mut reader);
        let Wire(blobs, entries) = wire.map_err(|error| malformed(error.to_string()))?;
        let mut root = Self::default();
        for WireEntry(operator, state, kind, key_groups, wires) in entries {
            let mut segments = Vec::with_capacity(wires.len());
            for WireSegment(group, depth, prefix, entries, blob, offset, length, checksum) in wires
            {
                let Some(&blob) = blobs.get(blob as usize) else {
                    return Err(malformed(format!("there is no blob {blob} in its list")));
                };
                let section = Section { blob, offset, length, checksum };
                segments.push(SegmentRef { group, depth, prefix, entries, section });
            }
            root.entries.push(RootEntry { operator, state, kind, key_groups, segments });
        }
        Ok(root)
    }

    /// The entry of a state.
    pub fn entry(&self, operator: &str, state: &str) -> Option<&RootEntry> {
        self.entries.iter().find(|entry| entry.operator == operator && entry.state == state)
    }
}
