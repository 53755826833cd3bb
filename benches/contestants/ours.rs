//! snapline: two subtasks of each operator, checkpoints to a directory, exactly-once sinks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use snapline::connect::{
    CommitGrant, Generator, MemorySink, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink,
};
use snapline::protocol::committer::CommitOutcome;
use snapline::protocol::ids::{Attempt, TxnId};
use snapline::{BoxError, Dataflow, Emit, Ended, JobConfig, Level};

use super::{kept, key, mapped, verify, verify_chain};

fn config(directory: &tempfile::TempDir, interval: Option<Duration>) -> JobConfig {
    JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(interval)
        .directory(directory.path())
        .require(Level::ExactlyOnce)
}

pub(crate) fn count(records: u64, interval: Option<Duration>) {
    let directory = tempfile::tempdir().unwrap();
    count_with(records, config(&directory, interval));
}

pub(crate) fn count_recorded(records: u64, interval: Option<Duration>) {
    let directory = tempfile::tempdir().unwrap();
    let traces = tempfile::tempdir().unwrap();
    count_with(records, config(&directory, interval).record(traces.path()));
}

fn count_with(records: u64, config: JobConfig) {
    let sink = MemorySink::new();
    let flow = Dataflow::new("w1");
    flow.source("numbers", Generator::new(records, key))
        .key_by(|key| *key)
        .count(Emit::AtEnd)
        .sink("counts", sink.clone());
    let outcome = flow.build(config).unwrap().run().unwrap();
    assert_eq!(outcome.ended, Ended::Finished);
    verify(records, sink.committed());
}

pub(crate) fn chain(records: u64, interval: Option<Duration>) {
    let directory = tempfile::tempdir().unwrap();
    chain_with(records, config(&directory, interval));
}

pub(crate) fn chain_recorded(records: u64, interval: Option<Duration>) {
    let directory = tempfile::tempdir().unwrap();
    let traces = tempfile::tempdir().unwrap();
    chain_with(records, config(&directory, interval).record(traces.path()));
}

fn chain_with(records: u64, config: JobConfig) {
    let sink = Sum::default();
    let flow = Dataflow::new("w2");
    flow.source("numbers", Generator::new(records, |seq| seq))
        .map(mapped)
        .filter(|record| kept(*record))
        .sink("sum", sink.clone());
    let outcome = flow.build(config).unwrap().run().unwrap();
    assert_eq!(outcome.ended, Ended::Finished);
    verify_chain(records, *sink.0.lock().unwrap());
}

/// Counts and adds up; the totals are visible when they are committed.
#[derive(Clone, Default)]
struct Sum(Arc<Mutex<(u64, u64)>>);

#[derive(Default)]
struct Adding((u64, u64));

impl TwoPhaseSink for Sum {
    type Record = u64;
    type Committable = (u64, u64);
    type Writer = Adding;
    type Committer = Self;

    fn open(&self, _: &OpenContext) -> Result<(Adding, Self), BoxError> {
        Ok((Adding::default(), self.clone()))
    }
}

impl SinkWriter for Adding {
    type Record = u64;
    type Committable = (u64, u64);

    fn write(&mut self, records: &mut Vec<u64>) -> Result<(), BoxError> {
        for &record in records.iter() {
            self.0 = (self.0.0 + 1, self.0.1.wrapping_add(record));
        }
        records.clear();
        Ok(())
    }

    fn close(&mut self, _: TxnId) -> Result<(u64, u64), BoxError> {
        Ok(std::mem::take(&mut self.0))
    }
}

impl SinkCommitter for Sum {
    type Committable = (u64, u64);

    fn fence(&mut self, _: Attempt) -> Result<Vec<(TxnId, (u64, u64))>, BoxError> {
        Ok(Vec::new())
    }

    fn prepare(&mut self, _: TxnId, _: &(u64, u64)) -> Result<(), BoxError> {
        Ok(())
    }

    fn commit(&mut self, _: CommitGrant, add: &(u64, u64)) -> Result<CommitOutcome, BoxError> {
        let mut sum = self.0.lock().unwrap();
        *sum = (sum.0 + add.0, sum.1.wrapping_add(add.1));
        Ok(CommitOutcome::Committed)
    }

    fn roll_back(&mut self, _: TxnId, _: &(u64, u64)) -> Result<(), BoxError> {
        Ok(())
    }
}
