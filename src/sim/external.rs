//! Systems downstream of sinks: a simulated one, with two-phase commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, TxnId};

use crate::base::error::BoxError;
use crate::base::fault::{Faults, Mutation};
use crate::base::sync::{Arc, Mutex, lock};
use crate::connect::{CommitGrant, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink};
use crate::fs::simulated::{Fate, Host, Trouble};

/// The external systems that all processes of a run write to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Systems(Arc<Mutex<BTreeMap<String, System>>>);

/// One external system.
#[derive(Debug, Default)]
pub(crate) struct System {
    /// The latest attempt; earlier ones are refused.
    fence: Option<Attempt>,
    prepared: BTreeMap<TxnId, (usize, Batch)>,
    /// In the order of commits.
    committed: Vec<(TxnId, Batch)>,
    names: BTreeSet<TxnId>,
    repeated: u64,
}

/// The content of one transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Batch {
    /// Records, as they are compared.
    pub(crate) records: Vec<String>,
    /// The row of each record, and its place there, if they have an order ([`Sink::in_order`]).
    pub(crate) places: Vec<(u64, u64)>,
}

impl Systems {
    fn with<R>(&self, name: &str, act: impl FnOnce(&mut System) -> R) -> R {
        let mut systems = lock(&self.0);
        act(systems.entry(name.to_owned()).or_default())
    }

    /// The transactions after the first n of each system, by system.
    pub(crate) fn committed_since(
        &self,
        seen: &BTreeMap<String, usize>,
    ) -> Vec<(String, TxnId, Batch)> {
        let mut found = Vec::new();
        for (name, system) in &*lock(&self.0) {
            let from = seen.get(name).copied().unwrap_or(0);
            let new = system.committed[from..].iter();
            found.extend(new.map(|(txn, batch)| (name.clone(), *txn, batch.clone())));
        }
        found
    }

    /// The transactions that are prepared, and neither committed nor rolled back.
    pub(crate) fn prepared(&self) -> Vec<(String, TxnId)> {
        let systems = lock(&self.0);
        let all = systems
            .iter()
            .flat_map(|(name, system)| system.prepared.keys().map(move |txn| (name.clone(), *txn)));
        all.collect()
    }

    /// The prepared transactions, with their records.
    pub(crate) fn prepared_records(&self) -> Vec<(String, TxnId, Vec<String>)> {
        let systems = lock(&self.0);
        let all = systems.iter().flat_map(|(name, system)| {
            let prepared = system.prepared.iter();
            prepared.map(move |(txn, (_, batch))| (name.clone(), *txn, batch.records.clone()))
        });
        all.collect()
    }

    /// Drops a prepared transaction, as a system does at a timeout of its own; returns whether it
    /// was there.
    pub(crate) fn drop_prepared(&self, name: &str, txn: TxnId) -> bool {
        self.with(name, |system| system.prepared.remove(&txn).is_some())
    }

    /// The number of repeated commits.
    pub(crate) fn repeated(&self) -> u64 {
        lock(&self.0).values().map(|system| system.repeated).sum()
    }
}

/// The row of a record, and its place there.
pub(super) type RecordOrder<T> = fn(&T) -> (u64, u64);

/// A sink of a simulated external system, for simulated pipelines: exactly once, by two-phase
/// commit. Prepared transactions outlive the process; a call may be refused, or its outcome stay
/// unknown. Made by [`super::Env::sink`].
///
/// Records are compared by their [`fmt::Debug`] output.
pub struct Sink<T> {
    pub(super) name: String,
    pub(super) systems: Systems,
    pub(super) host: Host,
    pub(super) place: Option<RecordOrder<T>>,
    pub(super) faults: Faults,
}

impl<T> Sink<T> {
    /// Also checks the order in which records are committed. `place` returns the row of a record,
    /// and its place in that row: in each row places must rise. This is for pipelines with an
    /// order. The records that one subtask of a source emits for a key reach the key's operator,
    /// and from there the sink, in the order of emission. Only an exactly-once job is held to it;
    /// others may show a part again.
    #[must_use]
    pub fn in_order(mut self, place: fn(&T) -> (u64, u64)) -> Self {
        self.place = Some(place);
        self
    }
}

impl<T> Clone for Sink<T> {
    fn clone(&self) -> Self {
        let (name, systems, host) = (self.name.clone(), self.systems.clone(), self.host.clone());
        Self { name, systems, host, place: self.place, faults: self.faults }
    }
}

impl<T> fmt::Debug for Sink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sink({})", self.name)
    }
}

/// Closed and not prepared: in the memory of the process.
type ClosedBatches = Arc<Mutex<BTreeMap<TxnId, Batch>>>;

/// Writes one subtask's records for a [`Sink`].
#[derive(Debug)]
pub struct Writer<T> {
    open: Batch,
    closed: ClosedBatches,
    place: Option<RecordOrder<T>>,
}

/// Prepares and commits one subtask's transactions for a [`Sink`].
#[derive(Debug)]
pub struct Committer {
    name: String,
    systems: Systems,
    host: Host,
    closed: ClosedBatches,
    index: usize,
    attempt: Attempt,
    faults: Faults,
}

impl<T: fmt::Debug + Send + 'static> TwoPhaseSink for Sink<T> {
    type Record = T;
    type Committable = TxnId;
    type Writer = Writer<T>;
    type Committer = Committer;

    fn open(&self, context: &OpenContext) -> Result<(Writer<T>, Committer), BoxError> {
        let closed = ClosedBatches::default();
        let writer =
            Writer { open: Batch::default(), closed: Arc::clone(&closed), place: self.place };
        let Self { name, systems, host, faults, .. } = self.clone();
        let OpenContext { index, attempt, .. } = *context;
        Ok((writer, Committer { name, systems, host, closed, index, attempt, faults }))
    }
}

impl<T: fmt::Debug + Send + 'static> SinkWriter for Writer<T> {
    type Record = T;
    type Committable = TxnId;

    fn write(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        self.open.places.extend(self.place.iter().flat_map(|place| records.iter().map(place)));
        self.open.records.extend(records.drain(..).map(|record| format!("{record:?}")));
        Ok(())
    }

    fn close(&mut self, txn: TxnId) -> Result<TxnId, BoxError> {
        lock(&self.closed).insert(txn, std::mem::take(&mut self.open));
        Ok(txn)
    }
}

impl Committer {
    /// Calls the external system; the request may fail on its way, or the answer on its way back.
    fn call<R>(
        &self,
        act: impl FnOnce(&mut System) -> Result<R, BoxError>,
    ) -> Result<Result<R, Trouble>, BoxError> {
        let act = || {
            self.systems.with(&self.name, |system| match system.fence {
                Some(fence) if fence > self.attempt => Err(format!(
                    "attempt {} of sink `{}` is fenced off by {fence}",
                    self.attempt, self.name
                )
                .into()),
                _ => act(system),
            })
        };
        match self.host.change() {
            Fate::Done => act().map(Ok),
            Fate::Fails(trouble) => {
                if trouble.late {
                    act()?;
                }
                Ok(Err(trouble))
            }
            Fate::Dead => Err("the process is dead".into()),
        }
    }

    fn commit_txn(&mut self, txn: TxnId) -> Result<CommitOutcome, BoxError> {
        let outcome = self.call(|system| {
            Ok(match system.prepared.remove(&txn) {
                Some((_, batch)) => {
                    system.committed.push((txn, batch));
                    system.names.insert(txn);
                    CommitOutcome::Committed
                }
                None if system.names.contains(&txn) => {
                    system.repeated += 1;
                    CommitOutcome::AlreadyCommitted
                }
                None => CommitOutcome::Lost,
            })
        })?;
        match outcome {
            Ok(outcome) => Ok(outcome),
            Err(Trouble { kind: std::io::ErrorKind::StorageFull, .. }) => Ok(CommitOutcome::Retry),
            Err(Trouble { kind: std::io::ErrorKind::PermissionDenied, .. }) => {
                Err("the external system refuses this subtask".into())
            }
            Err(_) => Ok(CommitOutcome::Unknown),
        }
    }

    fn must<R>(result: Result<R, Trouble>) -> Result<R, BoxError> {
        result.map_err(|trouble| format!("the external system: {trouble:?}").into())
    }
}

impl SinkCommitter for Committer {
    type Committable = TxnId;

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, TxnId)>, BoxError> {
        let index = self.index;
        let found = self.call(|system| {
            system.fence = system.fence.max(Some(attempt));
            let mine = system
                .prepared
                .iter()
                .filter(|(txn, (of, _))| *of == index && txn.attempt < attempt);
            Ok(mine.map(|(txn, _)| (*txn, *txn)).collect())
        })?;
        Self::must(found)
    }

    fn prepare(&mut self, txn: TxnId, _: &TxnId) -> Result<(), BoxError> {
        let batch = lock(&self.closed).remove(&txn);
        let index = self.index;
        let prepared = self.call(|system| match batch {
            Some(batch) => {
                if system.names.contains(&txn) || system.prepared.contains_key(&txn) {
                    return Err(format!("transaction {txn:?} already exists").into());
                }
                system.prepared.insert(txn, (index, batch));
                Ok(())
            }
            None => Err(format!("transaction {txn:?} was not closed").into()),
        })?;
        Self::must(prepared)?;
        if self.faults.is_active(Mutation::CommitAtBarrier) {
            self.commit_txn(txn)?;
        }
        Ok(())
    }

    fn commit(&mut self, grant: CommitGrant, _: &TxnId) -> Result<CommitOutcome, BoxError> {
        self.commit_txn(grant.txn())
    }

    fn roll_back(&mut self, txn: TxnId, _: &TxnId) -> Result<(), BoxError> {
        let done = self.call(|system| {
            system.prepared.remove(&txn);
            Ok(())
        })?;
        Self::must(done)
    }
}
