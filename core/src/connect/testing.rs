//! For tests of committers, outside of a job.

use snapline_protocol::ids::TxnId;
use snapline_protocol::message::{CheckpointKind, CommitGrant};
use snapline_protocol::recovery::{Decision, Facts, Found, Health, Policy, decide};

/// The permission of a job that resumed from the transaction's checkpoint: recovery finds that
/// checkpoint whole, and so permits its commits (SPEC 6.4). For tests alone: a job gets it from the
/// protocol.
///
/// # Panics
/// Never: a checkpoint that is found whole is restored.
pub fn granted(txn: TxnId) -> CommitGrant {
    let (term, checkpoint, kind) = (txn.attempt.term, txn.checkpoint, CheckpointKind::Periodic);
    let found = Found { checkpoint, kind, ended: false, health: Health::Whole };
    let policy = Policy::default();
    let facts = Facts { mine: term, fence: term, manifests: vec![found], policy };
    // Invariant, of both: the facts hold one checkpoint, which is whole and the transaction's own,
    // under a fence of the reader's term. Recovery restores that, and nothing else.
    match decide(&facts) {
        Ok(Decision::Restore { permit, .. }) => permit.grant(txn).expect("it covers its own"),
        Ok(Decision::Fresh) | Err(_) => unreachable!("the one checkpoint that is found is whole"),
    }
}
