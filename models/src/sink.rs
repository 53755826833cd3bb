//! How an external system commits: what a user states about their own.

use serde::{Deserialize, Serialize};

/// What becomes of a prepared transaction that is not committed yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prepared {
    /// It survives crashes of its writer and waits for ever.
    Survives,
    /// It survives, but the system may drop it after a timeout of its own (a fault of the budget: `drops`).
    UntilTimeout,
    /// A new attempt of the same writer drops it: the system knows one producer, not many transactions.
    UntilNewAttempt,
    /// There is none: the data is part of the checkpoint, and is written when it is committed.
    InCheckpoint,
}

/// How the system answers a commit call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commit {
    /// By the transaction's name; a repeated call changes nothing.
    ByName,
    /// By the transaction's name, and forgotten then: a name the system does not know is taken for committed. Sound only where prepared
    /// transactions survive until somebody resolves them by name.
    ByNameForgotten,
    /// By the transaction's name, but the system does not remember what it committed: a repeated call writes the data again.
    Blind,
    /// Whatever transaction the producer has prepared now, whichever the caller meant.
    ByProducer,
}

/// An external system as the checker sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkModel {
    /// What becomes of prepared transactions.
    pub prepared: Prepared,
    /// How commits are answered.
    pub commit: Commit,
    /// Whether writers of an earlier attempt are refused once a later one has started.
    pub fences: bool,
}

impl SinkModel {
    /// What the protocol assumes (SPEC 2.8): prepared transactions wait, commits go by name and are idempotent, old writers are refused.
    #[must_use]
    pub const fn transactional() -> Self {
        Self { prepared: Prepared::Survives, commit: Commit::ByName, fences: true }
    }

    /// Files that become visible by an atomic rename: idempotent by name; nobody stops an old writer from leaving temporary files.
    #[must_use]
    pub const fn atomic_rename() -> Self {
        Self { prepared: Prepared::Survives, commit: Commit::ByName, fences: false }
    }

    /// A database with `PREPARE TRANSACTION` / `COMMIT PREPARED`: prepared transactions survive, by name, and are forgotten once they are
    /// resolved.
    #[must_use]
    pub const fn prepare_transaction() -> Self {
        Self { prepared: Prepared::Survives, commit: Commit::ByNameForgotten, fences: false }
    }

    /// A transactional producer that aborts prepared transactions after a timeout.
    #[must_use]
    pub const fn producer_with_timeout() -> Self {
        Self { prepared: Prepared::UntilTimeout, commit: Commit::ByName, fences: true }
    }

    /// A transactional producer whose next attempt aborts what the last had prepared.
    #[must_use]
    pub const fn producer_with_epoch() -> Self {
        Self { prepared: Prepared::UntilNewAttempt, commit: Commit::ByName, fences: true }
    }

    /// The way out for such a producer: the data is kept in the checkpoint, and written at commit together with a marker naming the
    /// transaction, in one transaction of the external system; a marker that is there means it was committed.
    #[must_use]
    pub const fn marker_in_transaction() -> Self {
        Self { prepared: Prepared::InCheckpoint, commit: Commit::ByName, fences: true }
    }
}
