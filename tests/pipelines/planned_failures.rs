//! User code that fails as planned: a source and a sink around those in memory, and a plan of
//! failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use snapline::BoxError;
use snapline::connect::{
    Collect, CommitGrant, MemoryReader, MemorySink, MemorySource, OpenContext, Progress,
    SinkCommitter, SinkWriter, Source, SourceReader, TwoPhaseSink,
};
use snapline::protocol::committer::CommitOutcome;
use snapline::protocol::ids::{Attempt, TxnId};

/// The place of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    OpenSource,
    Read,
    Rule,
    Process,
    OpenSink,
    Fence,
    Write,
    Close,
    Prepare,
    Commit,
    RollBack,
}

/// The kind of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    Panic,
    Error,
    /// Of a commit: a transient failure.
    Retry,
    /// Of a commit: the outcome is unknown, and it was done.
    UnknownDone,
    /// Of a commit: the outcome is unknown, and it was not done.
    UnknownUndone,
}

/// One failure: at the `after`-th call, counted over all subtasks and runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) place: Place,
    pub(crate) how: How,
    pub(crate) after: u32,
}

/// Failures to come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Vec<(Planned, AtomicI64)>>);

impl Faults {
    pub(crate) fn new(planned: &[Planned]) -> Self {
        Self(Arc::new(planned.iter().map(|&it| (it, AtomicI64::new(it.after.into()))).collect()))
    }

    /// The failure due at this call.
    fn due(&self, place: Place) -> Option<How> {
        let mut due = None;
        for (planned, left) in self.0.iter().filter(|(planned, _)| planned.place == place) {
            if left.fetch_sub(1, Ordering::Relaxed) == 0 {
                due = Some(planned.how);
            }
        }
        due
    }

    /// Fails if that is planned.
    pub(crate) fn strike(&self, place: Place) -> Result<(), BoxError> {
        match self.due(place) {
            None => Ok(()),
            Some(How::Panic) => panic!("planned at {place:?}"),
            Some(_) => Err(format!("planned at {place:?}").into()),
        }
    }
}

/// Keeps planned panics out of the tests' output.
pub(crate) fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>();
            if !text.is_some_and(|text| text.starts_with("planned")) {
                before(info);
            }
        }));
    });
}

/// Reads a vector, a few records at a time and with pauses.
#[derive(Clone, Debug)]
pub(crate) struct WildSource<T> {
    pub(crate) records: MemorySource<T>,
    pub(crate) chunk: usize,
    pub(crate) pause: Duration,
    pub(crate) faults: Faults,
}

pub(crate) struct WildReader<T> {
    reader: MemoryReader<T>,
    of: WildSource<T>,
    rested: bool,
}

impl<T: Clone + Send + Sync + 'static> Source for WildSource<T> {
    type Record = T;
    type Position = u64;
    type Reader = WildReader<T>;

    fn open(&self, context: &OpenContext, at: Option<u64>) -> Result<WildReader<T>, BoxError> {
        self.faults.strike(Place::OpenSource)?;
        Ok(WildReader { reader: self.records.open(context, at)?, of: self.clone(), rested: false })
    }
}

impl<T: Clone + Send + Sync + 'static> SourceReader for WildReader<T> {
    type Record = T;
    type Position = u64;

    fn read<C: Collect<T>>(&mut self, limit: usize, out: &mut C) -> Result<Progress, BoxError> {
        self.rested = !self.rested;
        if self.rested && !self.of.pause.is_zero() {
            return Ok(Progress::Wait(self.of.pause));
        }
        let progress = self.reader.read(limit.min(self.of.chunk), out)?;
        // After the push, so that a failure comes when the work is half done.
        self.of.faults.strike(Place::Read)?;
        Ok(progress)
    }

    fn position(&self) -> u64 {
        self.reader.position()
    }
}

/// Writes into memory, unless a planned failure is due.
#[derive(Clone, Debug)]
pub(crate) struct WildSink<T> {
    pub(crate) sink: MemorySink<T>,
    pub(crate) faults: Faults,
}

pub(crate) struct WildWriter<W>(W, Faults);

pub(crate) struct WildCommitter<C>(C, Faults);

impl<T: Clone + Send + 'static> TwoPhaseSink for WildSink<T> {
    type Record = T;
    type Committable = TxnId;
    type Writer = WildWriter<<MemorySink<T> as TwoPhaseSink>::Writer>;
    type Committer = WildCommitter<<MemorySink<T> as TwoPhaseSink>::Committer>;

    fn open(&self, context: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
        self.faults.strike(Place::OpenSink)?;
        let (writer, committer) = self.sink.open(context)?;
        let (mine, its) = (self.faults.clone(), self.faults.clone());
        Ok((WildWriter(writer, mine), WildCommitter(committer, its)))
    }
}

impl<W: SinkWriter<Committable = TxnId>> SinkWriter for WildWriter<W> {
    type Record = W::Record;
    type Committable = TxnId;

    fn write(&mut self, records: &mut Vec<W::Record>) -> Result<(), BoxError> {
        self.0.write(records)?;
        self.1.strike(Place::Write)
    }

    fn close(&mut self, txn: TxnId) -> Result<TxnId, BoxError> {
        let committable = self.0.close(txn)?;
        self.1.strike(Place::Close)?;
        Ok(committable)
    }
}

impl<C: SinkCommitter<Committable = TxnId>> SinkCommitter for WildCommitter<C> {
    type Committable = TxnId;

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, TxnId)>, BoxError> {
        self.1.strike(Place::Fence)?;
        self.0.fence(attempt)
    }

    fn prepare(&mut self, txn: TxnId, it: &TxnId) -> Result<(), BoxError> {
        self.0.prepare(txn, it)?;
        self.1.strike(Place::Prepare)
    }

    fn commit(&mut self, grant: CommitGrant, it: &TxnId) -> Result<CommitOutcome, BoxError> {
        match self.1.due(Place::Commit) {
            None => self.0.commit(grant, it),
            Some(How::Retry) => Ok(CommitOutcome::Retry),
            Some(How::UnknownUndone) => Ok(CommitOutcome::Unknown),
            Some(How::UnknownDone) => self.0.commit(grant, it).map(|_| CommitOutcome::Unknown),
            Some(How::Error) => {
                self.0.commit(grant, it)?;
                Err("planned at Commit".into())
            }
            Some(How::Panic) => {
                self.0.commit(grant, it)?;
                panic!("planned at {:?}", Place::Commit)
            }
        }
    }

    fn roll_back(&mut self, txn: TxnId, it: &TxnId) -> Result<(), BoxError> {
        self.0.roll_back(txn, it)?;
        self.1.strike(Place::RollBack)
    }
}
