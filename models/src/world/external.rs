//! External systems, to which sinks write.

use snapline_protocol::committer::{self, CommitOutcome};
use snapline_protocol::ids::{Attempt, CheckpointId, TxnId};

use super::rule::WrongRule;
use super::{Situation, TaskRef, Transition, World};
use crate::sink::{Commit, Prepared};
use crate::tally::RecordTally;

/// A prepared transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Transaction {
    /// Its name.
    pub txn: TxnId,
    /// Its records.
    pub content: RecordTally,
}

/// An external system, as one sink subtask uses it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ExternalSystem {
    /// The latest attempt that announced itself.
    pub latest: Option<Attempt>,
    /// Prepared transactions, ascending.
    pub prepared: Vec<Transaction>,
    /// Committed ones, ascending; their content is needed only to write it once more.
    pub committed: Vec<Transaction>,
    /// Transactions that were dropped before any completed checkpoint held them.
    pub dropped: Vec<Transaction>,
    /// Records of transactions that were dropped although a completed checkpoint holds them.
    pub lost: u64,
    /// Records that readers see.
    pub visible: RecordTally,
}

impl World {
    /// The external system of a sink subtask, by index.
    pub(crate) fn external_of(setup: &crate::scenario::Setup, subtask: usize) -> usize {
        setup.topology.sinks().iter().take_while(|&sink| sink < subtask).count()
    }

    /// True if a completed checkpoint holds this transaction: one in storage, or one whose manifest
    /// was lost.
    fn is_held(&self, setup: &crate::scenario::Setup, txn: TxnId) -> bool {
        self.store.manifests.iter().chain(&self.store.lost).any(|manifest| {
            manifest.checkpoint >= txn.checkpoint
                && self.roots_of(setup, manifest).nth(txn.subtask.index()).is_some_and(|id| {
                    self.store.blob(id).is_some_and(|blob| blob.pending.contains(&txn))
                })
        })
    }
}

impl Transition<'_> {
    fn external(&mut self, subtask: usize) -> &mut ExternalSystem {
        let place = World::external_of(self.setup, subtask);
        &mut self.world.external[place]
    }

    /// Wrong: transactions are known by their writer alone.
    fn txn_name(&self, txn: TxnId) -> TxnId {
        match self.setup.mutant {
            Some(WrongRule::NamesWithoutCheckpoint) => {
                TxnId { checkpoint: CheckpointId::FIRST, ..txn }
            }
            _ => txn,
        }
    }

    /// SPEC 6.2: prepares the open transaction, empty or not.
    pub(super) fn pre_commit(&mut self, place: TaskRef, txn: TxnId) {
        if !self.wrong(WrongRule::PrepareAfterAck) {
            self.prepare(place, txn);
        }
        if self.wrong(WrongRule::CommitAtBarrier) {
            let subtask = self.subtask(place);
            let _outcome = self.commit_now(subtask, txn);
        }
    }

    fn prepare(&mut self, place: TaskRef, txn: TxnId) {
        let name = self.txn_name(txn);
        let fences = self.setup.scenario.sink.fences && !self.wrong(WrongRule::OldWritersAdmitted);
        let content = self.task(place).open;
        let subtask = self.subtask(place);
        let external = self.external(subtask);
        if external.latest > Some(txn.attempt) {
            if fences {
                self.reached(Situation::OldWriterRefused);
                return;
            }
            self.world.ghost.unfenced |= self.setup.scenario.sink.fences;
        }
        let external = self.external(subtask);
        if external.committed.iter().any(|other| other.txn == name) {
            return;
        }
        let transaction = Transaction { txn: name, content };
        if let Err(at) = external.prepared.binary_search_by_key(&name, |other| other.txn) {
            external.prepared.insert(at, transaction);
        }
    }

    /// Carries out a commit call, by the rules of the external system.
    pub(super) fn commit_now(&mut self, subtask: usize, txn: TxnId) -> CommitOutcome {
        let name = self.txn_name(txn);
        let model = self.setup.scenario.sink;
        let held = self.world.is_held(self.setup, txn);
        let retains = model.commit == Commit::Blind;
        let twice = self.wrong(WrongRule::CommitTwice);
        let external = self.external(subtask);
        let at = match model.commit {
            Commit::ByProducer => external.prepared.len().checked_sub(1),
            Commit::ByName | Commit::ByNameForgotten | Commit::Blind => {
                external.prepared.iter().position(|other| other.txn == name)
            }
        };
        if let Some(at) = at {
            let transaction = external.prepared.remove(at);
            external.visible.merge(transaction.content);
            if twice {
                external.visible.merge(transaction.content);
            }
            // Committed transactions are remembered by name only, unless they may be written again.
            let content = if retains { transaction.content } else { RecordTally::default() };
            let known = Transaction { txn: transaction.txn, content };
            if model.commit != Commit::ByNameForgotten
                && let Err(at) = external.committed.binary_search(&known)
            {
                external.committed.insert(at, known);
            }
            if external.visible.twice != 0 {
                self.reached(Situation::SeenTwice);
            }
            self.world.ghost.early_commit |= !held;
            return CommitOutcome::Committed;
        }
        let known = external.committed.iter().find(|other| other.txn == name).copied();
        match (known, model.commit) {
            (Some(again), Commit::Blind) => {
                self.external(subtask).visible.merge(again.content);
                CommitOutcome::Committed
            }
            (Some(_), _) => {
                self.reached(Situation::AlreadyCommitted);
                CommitOutcome::AlreadyCommitted
            }
            (None, Commit::ByProducer | Commit::ByNameForgotten) => CommitOutcome::AlreadyCommitted,
            (None, _) => CommitOutcome::Lost,
        }
    }

    /// Carries out the commit call of a sink. `reported` is the outcome that the sink receives, if
    /// not the real one.
    pub(super) fn commit_call(
        &mut self,
        place: TaskRef,
        applied: bool,
        reported: Option<CommitOutcome>,
    ) {
        let Some(mut txn) = self.task(place).call.take() else { return };
        let asked = txn;
        let subtask = self.subtask(place);
        if self.wrong(WrongRule::CommitNewestFirst) {
            txn = self.newest_prepared(place).unwrap_or(txn);
        }
        if self.wrong(WrongRule::PrepareAfterAck) {
            self.prepare_late(subtask, txn);
        }
        let mut outcome =
            if applied { self.commit_now(subtask, txn) } else { CommitOutcome::Retry };
        outcome = reported.unwrap_or(outcome);
        outcome = match (self.setup.mutant, outcome) {
            (Some(WrongRule::RetrySwallowed), CommitOutcome::Retry | CommitOutcome::Unknown)
            | (Some(WrongRule::LossSwallowed), CommitOutcome::Lost) => CommitOutcome::Committed,
            (_, outcome) => outcome,
        };
        if outcome == CommitOutcome::Lost {
            self.reached(Situation::LossSeen);
        }
        self.drive_committer(place, committer::Event::Outcome { txn: asked, outcome });
    }

    /// Wrong order: of the transactions that may be committed, the last first. Each is committed
    /// once, and all are in the end.
    fn newest_prepared(&mut self, place: TaskRef) -> Option<TxnId> {
        let subtask = self.subtask(place);
        let complete = self.world.store.manifests.last()?.checkpoint;
        let prepared = self.external(subtask).prepared.iter().rev();
        prepared.map(|prepared| prepared.txn).find(|txn| txn.checkpoint <= complete)
    }

    /// Wrong: the transaction is prepared only when it is committed; its content was kept in
    /// memory.
    fn prepare_late(&mut self, subtask: usize, txn: TxnId) {
        let id = snapline_protocol::ids::BlobId {
            checkpoint: txn.checkpoint,
            attempt: txn.attempt,
            subtask: txn.subtask,
        };
        let covered = self.world.store.state(id).unwrap_or_default();
        let external = self.external(subtask);
        let content = covered.since(external.visible);
        if !external.committed.iter().any(|other| other.txn == txn) {
            external.prepared.push(Transaction { txn, content });
        }
    }

    /// SPEC 6.4: a starting attempt fences its predecessors off and rolls back the transactions
    /// that no completed checkpoint holds.
    pub(super) fn roll_back_orphans(&mut self, place: TaskRef) {
        let subtask = self.subtask(place);
        let config = self.setup.committers[subtask];
        let model = self.setup.scenario.sink;
        let attempt = self.task(place).aligner.attempt();
        let keeps_all = self.wrong(WrongRule::OrphansLeft);
        let drops_all = self.wrong(WrongRule::RollsBackHeld);
        let Some(committer) = self.task(place).committer.clone() else { return };
        let covered = committer.pending().to_vec();
        let external = self.external(subtask);
        external.latest = external.latest.max(Some(attempt));
        let mut lost = 0;
        external.dropped.clear();
        external.prepared.retain(|transaction| {
            let gone = model.prepared == Prepared::UntilNewAttempt || drops_all;
            if gone && covered.contains(&transaction.txn) && !drops_all {
                lost |= transaction.content.once;
            }
            !gone && (keeps_all || !committer.is_orphan(&config, &transaction.txn))
        });
        external.lost |= lost;
    }

    pub(super) fn drop_transaction(&mut self, sink: usize, transaction: usize) {
        let external = &mut self.world.external[sink];
        let gone = external.prepared.remove(transaction);
        external.dropped.push(gone);
        external.dropped.sort_unstable();
        self.note_lost();
        self.reached(Situation::Dropped);
    }

    /// A dropped transaction is lost once a completed checkpoint holds it: it will not be written
    /// again.
    pub(super) fn note_lost(&mut self) {
        for sink in 0..self.world.external.len() {
            for gone in core::mem::take(&mut self.world.external[sink].dropped) {
                let held = self.world.is_held(self.setup, gone.txn);
                let external = &mut self.world.external[sink];
                match held {
                    true => external.lost |= gone.content.once,
                    false => external.dropped.push(gone),
                }
            }
        }
    }
}
