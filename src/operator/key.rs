//! How records are keyed.

use crate::state::{HashSeed, Key};

/// How a record is taken apart into a key and a value.
pub trait Keyer<T>: Clone + Send + Sync + 'static {
    /// What records are grouped by.
    type Key: Key;
    /// What the operator behind it gets beside the key.
    type Value;

    /// The stable hash of the record's key, in a job with this seed.
    fn hash(&self, seed: HashSeed, record: &T) -> u64;

    /// Takes a record apart.
    fn split(&self, record: T) -> (Self::Key, Self::Value);
}
