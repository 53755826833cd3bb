//! The control: a sink that commits at the barrier.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use snapline::BoxError;
use snapline::connect::{CommitGrant, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink};
use snapline::protocol::committer::CommitOutcome;
use snapline::protocol::ids::{Attempt, TxnId};

/// How long it takes about its commit, as one over a network may: long enough to be killed
/// meanwhile.
const COMMIT: Duration = Duration::from_millis(100);

/// Makes its lines visible as soon as a barrier comes, and only then lets the checkpoint complete.
/// If it never does complete, the next life reads the same records again, and writes them again.
#[derive(Clone, Debug)]
pub(super) struct EarlySink {
    pub(super) dir: PathBuf,
}

impl TwoPhaseSink for EarlySink {
    type Record = (String, u64);
    type Committable = ();
    type Writer = EarlyWriter;
    type Committer = EarlyCommitter;

    fn open(&self, context: &OpenContext) -> Result<(EarlyWriter, EarlyCommitter), BoxError> {
        fs::create_dir_all(&self.dir)?;
        let writer =
            EarlyWriter { dir: self.dir.clone(), index: context.index, lines: String::new() };
        Ok((writer, EarlyCommitter))
    }
}

/// Gathers lines, and shows them at the barrier.
pub(super) struct EarlyWriter {
    dir: PathBuf,
    index: usize,
    lines: String,
}

impl SinkWriter for EarlyWriter {
    type Record = (String, u64);
    type Committable = ();

    fn write(&mut self, records: &mut Vec<(String, u64)>) -> Result<(), BoxError> {
        for (word, count) in records.drain(..) {
            self.lines += &format!("{word} {count}\n");
        }
        Ok(())
    }

    fn close(&mut self, txn: TxnId) -> Result<(), BoxError> {
        let TxnId { checkpoint, attempt, .. } = txn;
        let file = format!("part-early-{:02}-{checkpoint}-{attempt}.txt", self.index);
        fs::write(self.dir.join(file), std::mem::take(&mut self.lines))?;
        Ok(())
    }
}

/// Has nothing left to commit.
pub(super) struct EarlyCommitter;

impl SinkCommitter for EarlyCommitter {
    type Committable = ();

    fn fence(&mut self, _: Attempt) -> Result<Vec<(TxnId, ())>, BoxError> {
        Ok(Vec::new())
    }

    fn prepare(&mut self, _: TxnId, (): &()) -> Result<(), BoxError> {
        thread::sleep(COMMIT);
        Ok(())
    }

    fn commit(&mut self, _: CommitGrant, (): &()) -> Result<CommitOutcome, BoxError> {
        Ok(CommitOutcome::Committed)
    }

    fn roll_back(&mut self, _: TxnId, (): &()) -> Result<(), BoxError> {
        Ok(())
    }
}
