//! Sinks without transactions: a function called for each record, and one that drops them all.

use std::fmt::Display;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::Path;

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, TxnId};

use super::{
    CommitGrant, ConnectError, Delivery, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink,
};
use crate::base::error::BoxError;

/// Calls a function for each record, as it comes: after a failure it sees records again. Every
/// subtask calls its own clone.
///
/// ```
/// use snapline::connect::ForEach;
/// let sink = ForEach::new(|word: &String| eprintln!("{word}"));
/// ```
pub struct ForEach<T, F> {
    call: F,
    takes: PhantomData<fn(T)>,
}

impl<T, F: FnMut(&T)> ForEach<T, F> {
    /// A sink that calls `call` for each record.
    pub const fn new(call: F) -> Self {
        Self { call, takes: PhantomData }
    }
}

impl<T, F: Clone> Clone for ForEach<T, F> {
    fn clone(&self) -> Self {
        Self { call: self.call.clone(), takes: PhantomData }
    }
}

impl<T, F> TwoPhaseSink for ForEach<T, F>
where
    T: Send + 'static,
    F: FnMut(&T) + Clone + Send + 'static,
{
    type Record = T;
    type Committable = ();
    type Writer = PlainWriter<T, Self>;
    type Committer = NothingToCommit;

    fn open(&self, _: &OpenContext) -> Result<(Self::Writer, NothingToCommit), BoxError> {
        Ok((PlainWriter::new(self.clone()), NothingToCommit))
    }

    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }
}

impl<T, F: FnMut(&T)> Take<T> for ForEach<T, F> {
    fn take(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        records.iter().for_each(&mut self.call);
        records.clear();
        Ok(())
    }
}

/// Like [`ForEach`], with a function that may fail; the task fails with its error.
pub struct TryForEach<T, F> {
    call: F,
    takes: PhantomData<fn(T)>,
}

impl<T, F: FnMut(&T) -> Result<(), BoxError>> TryForEach<T, F> {
    /// A sink that calls `call` for each record.
    pub const fn new(call: F) -> Self {
        Self { call, takes: PhantomData }
    }
}

impl<T, F: Clone> Clone for TryForEach<T, F> {
    fn clone(&self) -> Self {
        Self { call: self.call.clone(), takes: PhantomData }
    }
}

impl<T, F> TwoPhaseSink for TryForEach<T, F>
where
    T: Send + 'static,
    F: FnMut(&T) -> Result<(), BoxError> + Clone + Send + 'static,
{
    type Record = T;
    type Committable = ();
    type Writer = PlainWriter<T, Self>;
    type Committer = NothingToCommit;

    fn open(&self, _: &OpenContext) -> Result<(Self::Writer, NothingToCommit), BoxError> {
        Ok((PlainWriter::new(self.clone()), NothingToCommit))
    }

    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }
}

impl<T, F: FnMut(&T) -> Result<(), BoxError>> Take<T> for TryForEach<T, F> {
    fn take(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        records.iter().try_for_each(&mut self.call)?;
        records.clear();
        Ok(())
    }
}

/// Drops its records, for measurements.
pub struct Discard<T> {
    takes: PhantomData<fn(T)>,
}

impl<T> Discard<T> {
    /// A sink that drops its records.
    #[must_use]
    pub const fn new() -> Self {
        Self { takes: PhantomData }
    }
}

impl<T> Default for Discard<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Discard<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T: Send + 'static> TwoPhaseSink for Discard<T> {
    type Record = T;
    type Committable = ();
    type Writer = PlainWriter<T, Self>;
    type Committer = NothingToCommit;

    fn open(&self, _: &OpenContext) -> Result<(Self::Writer, NothingToCommit), BoxError> {
        Ok((PlainWriter::new(Self::new()), NothingToCommit))
    }

    /// Dropping a record twice has the effect of once.
    fn delivery(&self) -> Delivery {
        Delivery::Idempotent
    }
}

impl<T> Take<T> for Discard<T> {
    fn take(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        records.clear();
        Ok(())
    }
}

/// Writes each record as a line to standard output, by its `Display`. Lines are written as they
/// come: after a failure they appear again. A batch of records is written at once, so that lines of
/// several subtasks do not mix. When the pipe's reader is gone (a broken pipe) the task fails.
///
/// ```
/// use snapline::connect::{MemorySource, Stdout};
/// use snapline::{Dataflow, JobConfig};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let flow = Dataflow::new("hello");
/// flow.source("words", MemorySource::new(vec!["hello"])).sink("out", Stdout::new());
/// flow.build(JobConfig::new())?.run()?;
/// # Ok(())
/// # }
/// ```
pub struct Stdout<T> {
    /// The number of bytes a writer has written.
    bytes: u64,
    takes: PhantomData<fn(T)>,
}

impl<T: Display> Stdout<T> {
    /// A sink that writes to standard output.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: 0, takes: PhantomData }
    }
}

impl<T: Display> Default for Stdout<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Stdout<T> {
    fn clone(&self) -> Self {
        Self { bytes: 0, takes: PhantomData }
    }
}

impl<T: Display + Send + 'static> TwoPhaseSink for Stdout<T> {
    type Record = T;
    type Committable = ();
    type Writer = PlainWriter<T, Self>;
    type Committer = NothingToCommit;

    fn open(&self, _: &OpenContext) -> Result<(Self::Writer, NothingToCommit), BoxError> {
        Ok((PlainWriter::new(self.clone()), NothingToCommit))
    }

    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }
}

impl<T: Display> Take<T> for Stdout<T> {
    fn take(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        let mut text = Vec::new();
        for record in records.drain(..) {
            writeln!(text, "{record}")?;
        }
        let mut out = io::stdout().lock();
        let written = out.write_all(&text).and_then(|()| out.flush());
        written.map_err(ConnectError::io("write to", Path::new("stdout")))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }
}

/// The handling of a batch in a sink without transactions: takes its records, and leaves it empty.
trait Take<T> {
    fn take(&mut self, records: &mut Vec<T>) -> Result<(), BoxError>;

    /// The number of bytes written; `None` if it writes none.
    fn bytes(&self) -> Option<u64> {
        None
    }
}

/// Writes one subtask's records for a sink without transactions.
pub struct PlainWriter<T, S> {
    sink: S,
    takes: PhantomData<fn(T)>,
}

impl<T, S> PlainWriter<T, S> {
    const fn new(sink: S) -> Self {
        Self { sink, takes: PhantomData }
    }
}

impl<T: 'static, S: Take<T> + Send + 'static> SinkWriter for PlainWriter<T, S> {
    type Record = T;
    type Committable = ();

    fn write(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        self.sink.take(records)
    }

    fn close(&mut self, _: TxnId) -> Result<(), BoxError> {
        Ok(())
    }

    fn bytes_written(&self) -> Option<u64> {
        self.sink.bytes()
    }
}

/// The committer of a sink without transactions: a transaction is committed once it is written.
#[derive(Clone, Copy, Default, Debug)]
pub struct NothingToCommit;

impl SinkCommitter for NothingToCommit {
    type Committable = ();

    fn fence(&mut self, _: Attempt) -> Result<Vec<(TxnId, ())>, BoxError> {
        Ok(Vec::new())
    }

    fn prepare(&mut self, _: TxnId, (): &()) -> Result<(), BoxError> {
        Ok(())
    }

    fn commit(&mut self, _: CommitGrant, (): &()) -> Result<CommitOutcome, BoxError> {
        Ok(CommitOutcome::Committed)
    }

    fn roll_back(&mut self, _: TxnId, (): &()) -> Result<(), BoxError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use snapline_protocol::ids::Term;

    use super::*;
    use crate::base::sync::{Arc, Mutex, lock};

    fn context() -> OpenContext {
        OpenContext::new("job", "out", 0, 1, Attempt::first(Term::new(1)))
    }

    #[test]
    fn every_record_is_seen_and_the_batch_left_empty() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = ForEach::new({
            let seen = Arc::clone(&seen);
            move |record: &u32| lock(&seen).push(*record)
        });
        assert_eq!(sink.delivery(), Delivery::AtLeastOnce);
        let (mut writer, _) = sink.open(&context()).expect("opens");
        let mut batch = vec![1, 2, 3];
        writer.write(&mut batch).expect("writes");
        assert!(batch.is_empty());
        assert_eq!(*lock(&seen), [1, 2, 3]);
    }

    #[test]
    fn a_call_that_fails_fails_the_write() {
        let sink = TryForEach::new(|record: &u32| match record {
            2 => Err("no twos".into()),
            _ => Ok(()),
        });
        let (mut writer, _) = sink.open(&context()).expect("opens");
        assert!(writer.write(&mut vec![1]).is_ok());
        let error = writer.write(&mut vec![1, 2, 3]).expect_err("fails");
        assert_eq!(error.to_string(), "no twos");
    }

    #[test]
    fn discarded_batches_keep_their_room() {
        let (mut writer, _) = Discard::new().open(&context()).expect("opens");
        let mut batch = Vec::with_capacity(64);
        batch.extend([1, 2]);
        writer.write(&mut batch).expect("writes");
        assert!(batch.is_empty() && batch.capacity() >= 64);
    }
}
