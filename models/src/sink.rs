//! Models of external systems: how they prepare and commit, as their users state it.

use serde::{Deserialize, Serialize};

/// The fate of a prepared transaction that is not committed yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prepared {
    /// The transaction survives crashes of its writer and waits for ever.
    Survives,
    /// The transaction survives, but the system may drop it after a timeout of its own (a fault of
    /// the budget: `drops`).
    UntilTimeout,
    /// A new attempt of the same writer drops the transaction: the system knows one producer, not
    /// many transactions.
    UntilNewAttempt,
    /// There is none: the data is part of the checkpoint, and is written at commit.
    InCheckpoint,
}

/// The system's answer to a commit call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commit {
    /// By the transaction's name; a repeated call changes nothing.
    ByName,
    /// By the transaction's name, which the system then forgets: an unknown name counts as
    /// committed. Sound only where prepared transactions survive until the sink resolves them by
    /// name.
    ByNameForgotten,
    /// By the transaction's name, but the system does not remember which it committed: a repeated
    /// call writes the data again.
    Blind,
    /// The system commits the producer's current transaction, whichever one the caller meant.
    ByProducer,
}

/// An external system as the checker sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkModel {
    /// The fate of prepared transactions.
    pub prepared: Prepared,
    /// The answer to commit calls.
    pub commit: Commit,
    /// True if writers of an earlier attempt are refused once a later one has started.
    pub fences: bool,
}

impl SinkModel {
    /// The protocol's assumptions (SPEC 2.8): prepared transactions wait, commits go by name and
    /// are idempotent, old writers are refused.
    #[must_use]
    pub const fn transactional() -> Self {
        Self { prepared: Prepared::Survives, commit: Commit::ByName, fences: true }
    }

    /// Files that become visible by an atomic rename: idempotent by name. An old writer can still
    /// leave temporary files.
    #[must_use]
    pub const fn atomic_rename() -> Self {
        Self { prepared: Prepared::Survives, commit: Commit::ByName, fences: false }
    }

    /// A database with `PREPARE TRANSACTION` / `COMMIT PREPARED`: prepared transactions survive, by
    /// name, and are forgotten once they are resolved.
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

    /// The remedy for such a producer. The checkpoint keeps the data; commit writes it together
    /// with a marker that names the transaction, in one transaction of the external system. A
    /// marker that exists means that the transaction was committed.
    #[must_use]
    pub const fn marker_in_transaction() -> Self {
        Self { prepared: Prepared::InCheckpoint, commit: Commit::ByName, fences: true }
    }
}
