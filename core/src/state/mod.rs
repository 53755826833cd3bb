//! Keyed state: tables of copy-on-write segments in key groups, and their snapshots (SPEC 14).
//!
//! A subtask keeps its state in [`Table`]s, each from a key to a value ([`List`] and [`Map`] are
//! values that hold many entries of their own). [`Table::freeze`] returns an [`Image`] of the
//! current table by sharing: it takes as long for a thousand keys as for a billion. The subtask
//! continues while an I/O thread encodes the image with [`write()`]. A shared segment, of some 16
//! KiB, is copied before the first write to it. Segments that are unchanged since the base
//! checkpoint are not written again but referred to.
//!
//! [`Restored`] reads a snapshot back, and [`to_json`] shows it without knowing the types.

#[doc(hidden)]
pub mod codec;
mod collections;
mod cow;
mod entry;
mod error;
mod group;
mod hash;
mod json;
mod restore;
mod root;
mod segment_directory;
mod snapshot;
mod table;
#[cfg(all(test, not(snapline_loom)))]
mod tests;

use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use codec::{Check, Checks, Refused};
pub use collections::{List, Map};
pub use error::StateError;
pub use hash::{HashSeed, Keys, MAX_KEY_GROUPS, group_of, groups_of, hash, subtask_of};
pub use json::to_json;
pub use restore::Restored;
pub use root::{Kind, Root, RootEntry, SegmentRef};
pub use snapshot::{Encode, Image, NamedImage, SegmentImage, SegmentLocations, Written, write};
pub use table::Table;

/// Selects the values that are read back when they are written into a checkpoint (SPEC 14.9). That
/// finds types whose `Serialize` and `Deserialize` disagree before a checkpoint depends on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VerifyState {
    /// The first sixteen of each state in each task, those of a shape that is new to the state,
    /// those that nest deep, and one in sixty-four of the others.
    #[default]
    Samples,
    /// Every value. Writing takes about three times as long.
    All,
    /// None. A value that does not come back unchanged is found at the next restore.
    Off,
}

/// A type that can be a key. A type of your own derives it:
///
/// ```
/// #[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
/// struct Shop(u32);
/// fn key<K: snapline::state::Key>() {}
/// key::<Shop>();
/// ```
///
/// It hashes the same in every run, as types of the standard library and derived ones do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "this cannot be a key",
    note = "a key is hashed and compared, and written into checkpoints: `#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]`",
    note = "a key owns what it holds: `String` instead of `&str`; floating-point numbers cannot be keys: use their bits (`to_bits`)"
)]
pub trait Key: Hash + Eq + Clone + Send + Sync + Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<K: Hash + Eq + Clone + Send + Sync + Serialize + DeserializeOwned + 'static> Key for K {}

/// A type that can be kept per key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept as state",
    label = "this cannot be kept as state",
    note = "state is copied, and written into checkpoints: `#[derive(Clone, serde::Serialize, serde::Deserialize)]`; it owns what it holds, and can be sent to other threads"
)]
pub trait StateValue: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<V: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> StateValue for V {}
