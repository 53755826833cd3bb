//! The part of a sink's task that sees records and committables.

use std::collections::BTreeMap;

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, TxnId};
use snapline_protocol::message::{Barrier, CommitGrant};

use crate::base::error::BoxError;
use crate::base::sync::{Arc, Mutex, lock};
use crate::channel::{Message, Receiver};
use crate::operator::body::{InputItem, IoAction, IsOrphan, KeepsUp, TaskOperator, Transactions};
use crate::operator::chain::Ending;
use crate::state::NamedImage;
use snapline_core::connect::{Progress, SinkCommitter, SinkWriter};

/// The name of a sink's committables in its snapshot.
pub(crate) const COMMITTABLES: &str = "committables";

/// A sink.
pub(crate) struct SinkOperator<W: SinkWriter, C> {
    pub(crate) operator: String,
    pub(crate) attempt: Attempt,
    pub(crate) inputs: Vec<Receiver<W::Record>>,
    pub(crate) writer: W,
    /// Used by one action at a time, in the order in which they were handed over.
    pub(crate) committer: Arc<Mutex<C>>,
    /// Closed and not known to be resolved (SPEC 6.3).
    pub(crate) committables: BTreeMap<TxnId, W::Committable>,
    pub(crate) written: u64,
    /// Records of the batch in hand.
    pub(crate) in_hand: usize,
    /// Why the last commit is to be retried.
    pub(crate) trouble: Arc<Mutex<Option<String>>>,
}

impl<W, C> TaskOperator for SinkOperator<W, C>
where
    W: SinkWriter,
    W::Record: Send,
    W::Committable: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + 'static,
    C: SinkCommitter<Committable = W::Committable>,
{
    fn read(&mut self, _limit: usize) -> Result<(usize, Progress), BoxError> {
        Ok((0, Progress::End))
    }

    fn take(&mut self, input: usize) -> Result<InputItem, BoxError> {
        Ok(match self.inputs[input].receive() {
            None => InputItem::Nothing,
            Some(Message::Batch(mut batch)) => {
                let records = batch.len();
                self.in_hand = records;
                self.writer.write(&mut batch)?;
                self.inputs[input].give_back(batch);
                self.written += records as u64;
                InputItem::Records(records)
            }
            // A sink does not use event time.
            Some(Message::Mark(_)) => InputItem::Mark,
            Some(Message::Barrier(barrier)) => InputItem::Barrier(barrier),
            Some(Message::End) => InputItem::End,
        })
    }

    fn finish(&mut self) -> Result<Ending, BoxError> {
        Ok(Ending::Done)
    }

    fn end(&mut self) {}

    fn forward(&mut self, _barrier: Barrier) {}

    fn flush(&mut self) {}

    fn drain(&mut self) -> bool {
        true
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), BoxError> {
        let committables: Vec<_> = self.committables.iter().collect();
        images.push(NamedImage::single_as::<Vec<(TxnId, W::Committable)>>(
            &self.operator,
            COMMITTABLES,
            &committables,
        )?);
        Ok(())
    }

    fn bytes(&self) -> Option<u64> {
        self.writer.bytes_written()
    }

    fn emitted(&self) -> u64 {
        self.written
    }

    fn in_hand(&self) -> u64 {
        self.in_hand as u64
    }

    fn transactions(&mut self) -> Option<&mut dyn Transactions> {
        Some(self)
    }
}

impl<W, C> Transactions for SinkOperator<W, C>
where
    W: SinkWriter,
    W::Record: Send,
    W::Committable: Clone + Send + 'static,
    C: SinkCommitter<Committable = W::Committable>,
{
    fn roll_back_orphans(&mut self, is_orphan: IsOrphan, keeps_up: KeepsUp) -> IoAction<()> {
        let (committer, attempt) = (Arc::clone(&self.committer), self.attempt);
        Box::new(move || {
            let mut committer = lock(&committer);
            let prepared = committer.fence(attempt)?;
            keeps_up(committer.committed()?)?;
            for (txn, committable) in prepared {
                if is_orphan(&txn) {
                    committer.roll_back(txn, &committable)?;
                }
            }
            Ok(())
        })
    }

    fn close(&mut self, txn: TxnId) -> Result<IoAction<()>, BoxError> {
        let committable = self.writer.close(txn)?;
        self.committables.insert(txn, committable.clone());
        let committer = Arc::clone(&self.committer);
        Ok(Box::new(move || lock(&committer).prepare(txn, &committable)))
    }

    fn commit(&mut self, grant: CommitGrant) -> IoAction<CommitOutcome> {
        let (committer, txn) = (Arc::clone(&self.committer), grant.txn());
        let committable = self.committables.get(&txn).cloned();
        let trouble = Arc::clone(&self.trouble);
        Box::new(move || {
            let Some(committable) = committable else {
                return Err(format!(
                    "the checkpoint names transaction {txn:?} but holds no committable for it: its \
                     snapshot is not this sink's"
                )
                .into());
            };
            let mut committer = lock(&committer);
            let outcome = committer.commit(grant, &committable)?;
            *lock(&trouble) = match outcome {
                CommitOutcome::Retry | CommitOutcome::Unknown => committer.trouble(),
                CommitOutcome::Committed
                | CommitOutcome::AlreadyCommitted
                | CommitOutcome::Lost => None,
            };
            Ok(outcome)
        })
    }

    fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    fn retain(&mut self, pending: &[TxnId]) {
        self.committables.retain(|txn, _| pending.contains(txn));
    }
}
