//! How records are keyed.

use crate::state::{HashSeed, Key};

/// Splits a record into a key and a value.
pub trait Keyer<T>: Clone + Send + Sync + 'static {
    /// The key by which records are grouped.
    type Key: Key;
    /// The value that the next operator gets with the key.
    type Value;

    /// The stable hash of the record's key, in a job with this seed.
    fn hash(&self, seed: HashSeed, record: &T) -> u64;

    /// Takes a record apart.
    fn split(&self, record: T) -> (Self::Key, Self::Value);
}
