//! Errors of state in a checkpoint.

use std::fmt;

use crate::store::StoreError;

/// An error of an operator's state: what failed, and what to do.
#[non_exhaustive]
pub enum StateError {
    /// The store could not read or write the bytes.
    Store(StoreError),
    /// A value cannot be written: its `Serialize` failed.
    Encode {
        /// The operator.
        operator: String,
        /// The state's name within it.
        state: String,
        /// The error of its `Serialize`.
        error: String,
    },
    /// A value is not read as it was written: its `Serialize` and `Deserialize` disagree (SPEC
    /// 14.9).
    Unreadable {
        /// The operator.
        operator: String,
        /// The state's name within it.
        state: String,
        /// The value's type.
        wanted: &'static str,
        /// What is wrong.
        error: String,
    },
    /// The bytes cannot be read as the requested type.
    Decode {
        /// The operator.
        operator: String,
        /// The state's name within it.
        state: String,
        /// The requested type.
        wanted: &'static str,
        /// The error of its `Deserialize`.
        error: String,
    },
    /// The state is of another kind than requested.
    Kind {
        /// The operator.
        operator: String,
        /// The state's name within it.
        state: String,
        /// Its kind in the checkpoint.
        found: super::Kind,
        /// The requested kind.
        wanted: super::Kind,
    },
    /// The state was divided into another number of key groups (SPEC 14.2).
    KeyGroups {
        /// The operator.
        operator: String,
        /// The state's name within it.
        state: String,
        /// The number in the checkpoint.
        found: u16,
        /// The number in the job.
        wanted: u16,
    },
    /// A key is in another place than its hash gives: it hashed differently when it was written
    /// (SPEC 14.1).
    Hash {
        /// The operator.
        operator: String,
        /// The state's name within it.
        state: String,
        /// The key group it is in.
        group: u16,
        /// The type of the key.
        key: &'static str,
    },
    /// The table of contents contradicts itself. Its checksum was right, so it was written like
    /// this.
    Malformed {
        /// The operator; empty if the whole table is malformed.
        operator: String,
        /// The state's name within it.
        state: String,
        /// What is wrong.
        what: String,
    },
    /// The table of contents is of a version that is unknown to this build.
    Version {
        /// The version found.
        found: u32,
        /// The version this build reads.
        known: u32,
    },
    /// The checkpoint holds state that no operator has requested.
    Unclaimed {
        /// Operator and state of each.
        names: Vec<(String, String)>,
    },
}

impl StateError {
    /// Whether a retry of the read or write cannot help: all but the store's own errors.
    pub const fn is_permanent(&self) -> bool {
        !matches!(self, Self::Store(_))
    }
}

impl From<StoreError> for StateError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "the store failed with state: {error}"),
            Self::Encode { operator, state, error } => {
                write!(f, "state `{state}` of operator `{operator}` cannot be written: {error}")
            }
            Self::Unreadable { operator, state, wanted, error } => write!(
                f,
                "state `{state}` of operator `{operator}` would be lost with a checkpoint: a `{wanted}` does not come back as it is written, \
                 {error}. Fix: its `Serialize` and `Deserialize` have to agree; a field with `skip_serializing_if` needs `default`, and the \
                 variants of an untagged enum must differ in what they hold. If the difference means nothing, set `verify_state` to off"
            ),
            Self::Decode { operator, state, wanted, error } => write!(
                f,
                "state `{state}` of operator `{operator}` in the checkpoint cannot be decoded as \
                 `{wanted}`: {error}. If the type has changed, mark added fields \
                 `#[serde(default)]` and renamed ones `#[serde(alias = \"...\")]`, or give the \
                 state a new name"
            ),
            Self::Kind { operator, state, found, wanted } => write!(
                f,
                "state `{state}` of operator `{operator}` is {found} in the checkpoint and is \
                 requested as {wanted}; give the state a new name"
            ),
            Self::KeyGroups { operator, state, found, wanted } => write!(
                f,
                "state `{state}` of operator `{operator}` is divided into {found} key groups in the checkpoint, and the job has {wanted}; \
                 the number of key groups is fixed with a job's first run, set it to {found}"
            ),
            Self::Hash { operator, state, group, key } => write!(
                f,
                "a key of state `{state}` of operator `{operator}` is in key group {group}, and its hash says otherwise: the `Hash` of \
                 `{key}` has changed since it was written; restore the old one, or give the state a new name"
            ),
            Self::Malformed { operator, state, what }
                if operator.is_empty() && state.is_empty() =>
            {
                write!(f, "the snapshot's table of contents is malformed: {what}")
            }
            Self::Malformed { operator, state, what } => {
                write!(f, "state `{state}` of operator `{operator}` is malformed: {what}")
            }
            Self::Version { found, known } => write!(
                f,
                "the snapshot is of format {found}, and this build reads formats up to {known}; use the build that wrote it, or a later one"
            ),
            Self::Unclaimed { names } => {
                write!(f, "the checkpoint holds state that no operator uses:")?;
                for (operator, state) in names {
                    write!(f, " `{state}` of operator `{operator}`;")?;
                }
                write!(
                    f,
                    " if an operator was renamed, give it its old name back; if it was removed, \
                     allow its state to be dropped"
                )
            }
        }
    }
}

snapline_protocol::error_in_words!(StateError);
