//! An exactly-once sink in memory. Its shared handle plays the external system.

use std::collections::{BTreeMap, BTreeSet};

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, TxnId};

use super::{CommitGrant, ConnectError, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink};
use crate::base::error::BoxError;
use crate::base::sync::{Arc, Mutex, lock};

/// Keeps records in memory, in transactions: those of a committed one can be read, at any time,
/// from any clone of the sink. Committed and prepared transactions outlive the job as long as a
/// clone lives. A job that starts anew needs a new sink, as it would need a new directory.
///
/// *Order.* Records of one subtask keep their order within a key. A hash assigns keys to subtasks,
/// and determines the order of the keys in a subtask. Each job draws its seed when it starts for
/// the first time, and subtasks run side by side. So a test must sort the results of two runs, or
/// results and expectations, before it compares them.
///
/// ```
/// use snapline::connect::MemorySink;
/// let sink = MemorySink::<u64>::new();
/// let results = sink.clone();
/// // ... a job writes into `sink` ...
/// assert!(results.committed().is_empty());
/// ```
#[derive(Debug)]
pub struct MemorySink<T> {
    external: Arc<Mutex<External<T>>>,
}

impl<T> Clone for MemorySink<T> {
    fn clone(&self) -> Self {
        Self { external: Arc::clone(&self.external) }
    }
}

impl<T> Default for MemorySink<T> {
    fn default() -> Self {
        let external = External {
            fences: BTreeMap::new(),
            pending: BTreeMap::new(),
            committed: Vec::new(),
            names: BTreeSet::new(),
            log: MemoryLog::default(),
        };
        Self { external: Arc::new(Mutex::new(external)) }
    }
}

impl<T> MemorySink<T> {
    /// An empty sink.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The committed records, in the commit order of their transactions. In a job with keys or with
    /// several subtasks that order differs in every run (see [`MemorySink`]): compare them sorted.
    #[must_use]
    pub fn committed(&self) -> Vec<T>
    where
        T: Clone,
    {
        let external = lock(&self.external);
        external.committed.iter().flat_map(|(_, records)| records).cloned().collect()
    }

    /// The number of committed records.
    #[must_use]
    pub fn committed_count(&self) -> usize {
        lock(&self.external).committed.iter().map(|(_, records)| records.len()).sum()
    }

    /// The committed transactions, in commit order.
    #[must_use]
    pub fn committed_txns(&self) -> Vec<TxnId> {
        lock(&self.external).committed.iter().map(|(txn, _)| *txn).collect()
    }

    /// The transactions that are prepared and neither committed nor rolled back.
    #[must_use]
    pub fn prepared_txns(&self) -> Vec<TxnId> {
        let external = lock(&self.external);
        external.pending.iter().filter(|(_, txn)| txn.prepared).map(|(txn, _)| *txn).collect()
    }

    /// The transactions that were prepared and rolled back.
    #[must_use]
    pub fn rolled_back_txns(&self) -> Vec<TxnId> {
        lock(&self.external).log.rolled_back.clone()
    }

    /// The commits that were answered with "already committed", one entry per call: after a restore
    /// there may be some.
    #[must_use]
    pub fn repeated_commits(&self) -> Vec<TxnId> {
        lock(&self.external).log.repeated.clone()
    }

    /// Drops a prepared transaction, as a timeout of an external system may (SPEC 2.10): its commit
    /// will find it lost. Returns true if it was there.
    pub fn drop_prepared(&self, txn: TxnId) -> bool {
        let mut external = lock(&self.external);
        let there = external.pending.get(&txn).is_some_and(|pending| pending.prepared);
        there && external.pending.remove(&txn).is_some()
    }
}

impl<T: Send + 'static> TwoPhaseSink for MemorySink<T> {
    type Record = T;
    /// The name suffices: the handle has the records.
    type Committable = TxnId;
    type Writer = MemoryWriter<T>;
    type Committer = MemoryCommitter<T>;

    fn open(
        &self,
        context: &OpenContext,
    ) -> Result<(MemoryWriter<T>, MemoryCommitter<T>), BoxError> {
        let owner = (context.operator.clone(), context.index);
        let writer = MemoryWriter {
            external: Arc::clone(&self.external),
            owner: owner.clone(),
            records: Vec::new(),
        };
        let external = Arc::clone(&self.external);
        Ok((writer, MemoryCommitter { external, owner, attempt: context.attempt }))
    }
}

/// Writes one subtask's records for a [`MemorySink`].
#[derive(Debug)]
pub struct MemoryWriter<T> {
    external: Arc<Mutex<External<T>>>,
    owner: TransactionOwner,
    records: Vec<T>,
}

impl<T: Send + 'static> SinkWriter for MemoryWriter<T> {
    type Record = T;
    type Committable = TxnId;

    fn write(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        self.records.append(records);
        Ok(())
    }

    fn close(&mut self, txn: TxnId) -> Result<TxnId, BoxError> {
        let mut external = lock(&self.external);
        if external.knows(txn) {
            return Err(external.name_taken(txn).into());
        }
        let records = std::mem::take(&mut self.records);
        let owner = self.owner.clone();
        external.pending.insert(txn, PendingTransaction { owner, records, prepared: false });
        Ok(txn)
    }
}

/// Prepares and commits one subtask's transactions for a [`MemorySink`].
#[derive(Debug)]
pub struct MemoryCommitter<T> {
    external: Arc<Mutex<External<T>>>,
    owner: TransactionOwner,
    attempt: Attempt,
}

impl<T: Send + 'static> SinkCommitter for MemoryCommitter<T> {
    type Committable = TxnId;

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, TxnId)>, BoxError> {
        let mut external = lock(&self.external);
        external.check_fence(&self.owner, attempt)?;
        external.fences.insert(self.owner.0.clone(), attempt);
        self.attempt = attempt;
        let mine = |pending: &PendingTransaction<T>| pending.owner == self.owner;
        external.pending.retain(|txn, it| it.prepared || !mine(it) || txn.attempt >= attempt);
        let earlier = external.pending.iter().filter(|(txn, it)| mine(it) && txn.attempt < attempt);
        Ok(earlier.map(|(txn, _)| (*txn, *txn)).collect())
    }

    fn prepare(&mut self, txn: TxnId, _: &TxnId) -> Result<(), BoxError> {
        let mut external = lock(&self.external);
        external.check_fence(&self.owner, self.attempt)?;
        if let Some(pending) = external.pending.get_mut(&txn) {
            pending.prepared = true;
        } else if !external.knows(txn) {
            return Err(ConnectError::NotClosed { txn, place: PLACE.into() }.into());
        }
        Ok(())
    }

    fn commit(&mut self, grant: CommitGrant, _: &TxnId) -> Result<CommitOutcome, BoxError> {
        let txn = grant.txn();
        let mut external = lock(&self.external);
        external.check_fence(&self.owner, self.attempt)?;
        match external.pending.remove(&txn) {
            Some(pending) if pending.prepared => {
                external.committed.push((txn, pending.records));
                external.names.insert(txn);
                Ok(CommitOutcome::Committed)
            }
            Some(closed) => {
                // The commit of an unprepared transaction is the caller's defect: for the caller,
                // the transaction is not there.
                external.pending.insert(txn, closed);
                Ok(CommitOutcome::Lost)
            }
            None if external.knows(txn) => {
                external.log.repeated.push(txn);
                Ok(CommitOutcome::AlreadyCommitted)
            }
            None => Ok(CommitOutcome::Lost),
        }
    }

    fn roll_back(&mut self, txn: TxnId, _: &TxnId) -> Result<(), BoxError> {
        let mut external = lock(&self.external);
        external.check_fence(&self.owner, self.attempt)?;
        if external.pending.remove(&txn).is_some_and(|pending| pending.prepared) {
            external.log.rolled_back.push(txn);
        }
        Ok(())
    }
}

const PLACE: &str = "memory sink";

/// The writer of a transaction: the operator, and the index of its subtask.
type TransactionOwner = (String, usize);

/// The state that outlives the job.
#[derive(Debug)]
struct External<T> {
    /// The latest attempt of each operator.
    fences: BTreeMap<String, Attempt>,
    /// Closed transactions, perhaps prepared.
    pending: BTreeMap<TxnId, PendingTransaction<T>>,
    /// In commit order.
    committed: Vec<(TxnId, Vec<T>)>,
    /// Their names.
    names: BTreeSet<TxnId>,
    log: MemoryLog,
}

#[derive(Debug)]
struct PendingTransaction<T> {
    owner: TransactionOwner,
    records: Vec<T>,
    prepared: bool,
}

/// Records for tests.
#[derive(Debug, Default)]
struct MemoryLog {
    repeated: Vec<TxnId>,
    rolled_back: Vec<TxnId>,
}

impl<T> External<T> {
    /// True if it was committed.
    fn knows(&self, txn: TxnId) -> bool {
        self.names.contains(&txn)
    }

    fn name_taken(&self, txn: TxnId) -> ConnectError {
        ConnectError::NameTaken { txn, place: PLACE.into() }
    }

    fn check_fence(&self, owner: &TransactionOwner, attempt: Attempt) -> Result<(), ConnectError> {
        match self.fences.get(&owner.0) {
            Some(&fence) if fence > attempt => Err(ConnectError::Fenced {
                operator: owner.0.clone(),
                attempt,
                fence,
                place: PLACE.into(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use snapline_core::connect::testing::granted;
    use snapline_protocol::ids::{CheckpointId, SubtaskId, Term};

    use super::*;

    fn txn(checkpoint: u64, attempt: Attempt) -> TxnId {
        let checkpoint = CheckpointId::new(checkpoint).expect("above zero");
        TxnId { checkpoint, attempt, subtask: SubtaskId::new(3) }
    }

    fn open<T: Send + 'static>(
        sink: &MemorySink<T>,
        attempt: Attempt,
    ) -> (MemoryWriter<T>, MemoryCommitter<T>) {
        sink.open(&OpenContext::new("job", "out", 0, 1, attempt)).expect("opens")
    }

    #[test]
    fn tests_can_see_what_happened() {
        let sink = MemorySink::new();
        let attempt = Attempt::first(Term::new(1));
        let (mut writer, mut committer) = open(&sink, attempt);
        for number in 1..=3 {
            writer.write(&mut vec![number * 10, number * 10 + 1]).expect("writes");
            let name = writer.close(txn(number, attempt)).expect("closes");
            committer.prepare(name, &name).expect("prepares");
        }
        let [first, second, third] = [1, 2, 3].map(|number| txn(number, attempt));
        assert_eq!(sink.prepared_txns(), [first, second, third]);
        assert_eq!(
            committer.commit(granted(first), &first).expect("answers"),
            CommitOutcome::Committed
        );
        let again = committer.commit(granted(first), &first).expect("answers");
        assert_eq!(again, CommitOutcome::AlreadyCommitted);
        committer.roll_back(second, &second).expect("rolls back");
        assert!(sink.drop_prepared(third) && !sink.drop_prepared(third));
        assert_eq!(committer.commit(granted(third), &third).expect("answers"), CommitOutcome::Lost);
        assert_eq!(sink.committed(), [10, 11]);
        assert_eq!(sink.committed_count(), 2);
        assert_eq!(sink.committed_txns(), [first]);
        assert_eq!(sink.repeated_commits(), [first]);
        assert_eq!(sink.rolled_back_txns(), [second]);
        assert!(sink.prepared_txns().is_empty());
    }

    #[test]
    fn a_job_that_starts_anew_over_old_results_is_refused() {
        let sink = MemorySink::new();
        let attempt = Attempt::first(Term::new(1));
        let name = txn(1, attempt);
        let (mut writer, mut committer) = open(&sink, attempt);
        writer.write(&mut vec![1]).expect("writes");
        writer.close(name).expect("closes");
        committer.prepare(name, &name).expect("prepares");
        committer.commit(granted(name), &name).expect("commits");
        let (mut writer, _) = open(&sink, attempt);
        let refused = writer.close(name).expect_err("refused").to_string();
        assert!(refused.contains("was committed before by an earlier life"), "{refused}");
    }

    #[test]
    fn what_was_not_prepared_cannot_be_committed() {
        let sink = MemorySink::new();
        let attempt = Attempt::first(Term::new(1));
        let name = txn(1, attempt);
        let (mut writer, mut committer) = open(&sink, attempt);
        writer.write(&mut vec![1]).expect("writes");
        writer.close(name).expect("closes");
        assert_eq!(committer.commit(granted(name), &name).expect("answers"), CommitOutcome::Lost);
        assert!(sink.committed().is_empty());
    }
}
