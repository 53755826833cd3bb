//! Sinks that write by key, where writing twice has the effect of writing once.
//!
//! ```text
//!   worker thread    write: records -> handed over;
//!                    if the target is free: apply the records handed over
//!   committer        prepare: lock the target, apply the records handed over, flush
//!                    (before the ack)
//! ```
//! The writer never waits for a flush unless it is [`FAR_AHEAD`] of it. The thread that holds the
//! target takes the records handed over while holding it, so they are applied in the order in which
//! they were written.

use std::collections::BTreeMap;
use std::fmt;

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, TxnId};

use super::{
    CommitGrant, ConnectError, Delivery, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink,
};
use crate::base::error::BoxError;
use crate::base::sync::{Arc, Mutex, MutexGuard, lock};

/// The number of records that a writer may be ahead of a running flush before it waits.
const FAR_AHEAD: usize = 1 << 16;

/// A system that is written by key. A value of this trait describes it; each subtask opens a
/// writer. Wrapped in [`Idempotent`], it is a sink.
pub trait Upsert: Clone + Send + 'static {
    /// The key of an entry.
    type Key: Send + 'static;
    /// The value of an entry. The last one written counts.
    type Value: Send + 'static;
    /// The writer type.
    type Writer: UpsertWriter<Key = Self::Key, Value = Self::Value>;

    /// Opens one subtask's writer.
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn open(&self, context: &OpenContext) -> Result<Self::Writer, BoxError>;
}

/// Writes one subtask's entries.
pub trait UpsertWriter: Send + 'static {
    /// The key of an entry.
    type Key;
    /// The value of an entry.
    type Value;

    /// Writes entries, leaving the vector empty. May buffer them, or write in the background.
    ///
    /// # Errors
    /// Any: the task fails with it, and nothing is written by this writer again.
    fn upsert(&mut self, entries: &mut Vec<(Self::Key, Self::Value)>) -> Result<(), BoxError>;

    /// Makes everything written before durable, and reports all its errors, in the background too.
    /// A checkpoint relies on it.
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn flush(&mut self) -> Result<(), BoxError>;

    /// Stops writers of earlier attempts from overwriting newer values with older ones. A system
    /// that cannot tell them apart does nothing, and may show an older value until the newer one is
    /// written again.
    ///
    /// # Errors
    /// Any: the task fails with it.
    fn fence(&mut self, attempt: Attempt) -> Result<(), BoxError> {
        let _ = attempt;
        Ok(())
    }
}

/// A sink over an [`Upsert`]. Entries are written as they come, and readers may see them early; at
/// each barrier all earlier ones are flushed. When records are read again, the same keys must get
/// the same values, or the result differs from that of one run.
#[derive(Clone, Debug)]
pub struct Idempotent<U> {
    target: U,
}

impl<U: Upsert> Idempotent<U> {
    /// A sink that writes to `target`.
    pub const fn new(target: U) -> Self {
        Self { target }
    }
}

impl<U: Upsert> TwoPhaseSink for Idempotent<U> {
    type Record = (U::Key, U::Value);
    /// Nothing is left to commit.
    type Committable = ();
    type Writer = IdempotentWriter<U::Writer>;
    type Committer = IdempotentCommitter<U::Writer>;

    fn open(&self, context: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
        let shared = Arc::new(SharedWriter {
            operator: context.operator.clone(),
            handed: Mutex::new(Vec::new()),
            target: Mutex::new(Target { writer: self.target.open(context)?, failed: None }),
        });
        Ok((IdempotentWriter(Arc::clone(&shared)), IdempotentCommitter(shared)))
    }

    fn delivery(&self) -> Delivery {
        Delivery::Idempotent
    }
}

/// Hands one subtask's entries to its target.
pub struct IdempotentWriter<W: UpsertWriter>(Arc<SharedWriter<W>>);

impl<W: UpsertWriter<Key: Send, Value: Send>> SinkWriter for IdempotentWriter<W> {
    type Record = (W::Key, W::Value);
    type Committable = ();

    fn write(&mut self, records: &mut Vec<Self::Record>) -> Result<(), BoxError> {
        let shared = &self.0;
        let ahead = {
            let mut handed = lock(&shared.handed);
            handed.append(records);
            handed.len()
        };
        if ahead >= FAR_AHEAD {
            return shared.apply(shared.hold()?);
        }
        match shared.target.try_lock() {
            Ok(target) => shared.apply(target),
            // A flush is under way; it, or the next write, applies them.
            Err(_) => Ok(()),
        }
    }

    fn close(&mut self, _: TxnId) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Flushes one subtask's target.
pub struct IdempotentCommitter<W: UpsertWriter>(Arc<SharedWriter<W>>);

impl<W: UpsertWriter<Key: Send, Value: Send>> SinkCommitter for IdempotentCommitter<W> {
    type Committable = ();

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, ())>, BoxError> {
        self.0.hold()?.writer.fence(attempt)?;
        Ok(Vec::new())
    }

    fn prepare(&mut self, _: TxnId, (): &()) -> Result<(), BoxError> {
        let shared = &self.0;
        shared.apply(shared.hold()?)?;
        let mut target = shared.hold()?;
        let flushed = target.writer.flush();
        target.note(&flushed);
        flushed
    }

    fn commit(&mut self, _: CommitGrant, (): &()) -> Result<CommitOutcome, BoxError> {
        Ok(CommitOutcome::Committed)
    }

    fn roll_back(&mut self, _: TxnId, (): &()) -> Result<(), BoxError> {
        Ok(())
    }
}

/// State that writer and committer share.
struct SharedWriter<W: UpsertWriter> {
    operator: String,
    /// Written and not yet applied, in order. Locked only briefly, and never while waiting for the
    /// target.
    handed: Mutex<Vec<(W::Key, W::Value)>>,
    target: Mutex<Target<W>>,
}

struct Target<W> {
    writer: W,
    /// Why it must not be used any more: entries taken from those handed over may be lost, so no
    /// flush may succeed again.
    failed: Option<String>,
}

impl<W> Target<W> {
    fn note(&mut self, result: &Result<(), BoxError>) {
        if let Err(error) = result {
            self.failed = Some(format!("a write failed before: {error}"));
        }
    }
}

impl<W: UpsertWriter> SharedWriter<W> {
    /// Waits for the target.
    fn hold(&self) -> Result<MutexGuard<'_, Target<W>>, ConnectError> {
        // Unlike elsewhere, a poisoned lock is refused: the target's code panicked, perhaps while
        // it held entries.
        let Ok(target) = self.target.lock() else {
            return Err(self.broken("its code panicked".into()));
        };
        match &target.failed {
            Some(why) => Err(self.broken(why.clone())),
            None => Ok(target),
        }
    }

    /// Applies the records handed over.
    fn apply(&self, mut target: MutexGuard<'_, Target<W>>) -> Result<(), BoxError> {
        if let Some(why) = &target.failed {
            return Err(self.broken(why.clone()).into());
        }
        let mut entries = std::mem::take(&mut *lock(&self.handed));
        if entries.is_empty() {
            return Ok(());
        }
        let written = target.writer.upsert(&mut entries);
        target.note(&written);
        written?;
        entries.clear();
        // The vector is reused, unless the writer has made a new one meanwhile.
        let mut handed = lock(&self.handed);
        if handed.capacity() == 0 {
            *handed = entries;
        }
        Ok(())
    }

    fn broken(&self, why: String) -> ConnectError {
        ConnectError::Broken { operator: self.operator.clone(), why }
    }
}

/// A table in memory, by key: the target of an upsert sink in tests and examples. Clones share it.
pub struct MemoryTable<K, V> {
    table: Arc<Mutex<SharedTable<K, V>>>,
}

impl<K, V> Clone for MemoryTable<K, V> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<K: Ord, V> Default for MemoryTable<K, V> {
    fn default() -> Self {
        let table = SharedTable { entries: BTreeMap::new(), writes: 0, fences: BTreeMap::new() };
        Self { table: Arc::new(Mutex::new(table)) }
    }
}

impl<K, V> fmt::Debug for MemoryTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = lock(&self.table);
        f.debug_struct("MemoryTable").field("entries", &table.entries.len()).finish_non_exhaustive()
    }
}

impl<K: Ord, V> MemoryTable<K, V> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The table's present content.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<K, V>
    where
        K: Clone,
        V: Clone,
    {
        lock(&self.table).entries.clone()
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V>
    where
        V: Clone,
    {
        lock(&self.table).entries.get(key).cloned()
    }

    /// The number of entries written, repeated ones included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        lock(&self.table).writes
    }
}

impl<K: Ord + Send + 'static, V: Send + 'static> Upsert for MemoryTable<K, V> {
    type Key = K;
    type Value = V;
    type Writer = MemoryTableWriter<K, V>;

    fn open(&self, context: &OpenContext) -> Result<Self::Writer, BoxError> {
        Ok(MemoryTableWriter {
            table: self.clone(),
            operator: context.operator.clone(),
            attempt: context.attempt,
        })
    }
}

/// Writes to a [`MemoryTable`].
#[derive(Debug)]
pub struct MemoryTableWriter<K, V> {
    table: MemoryTable<K, V>,
    operator: String,
    attempt: Attempt,
}

impl<K: Ord + Send + 'static, V: Send + 'static> UpsertWriter for MemoryTableWriter<K, V> {
    type Key = K;
    type Value = V;

    fn upsert(&mut self, entries: &mut Vec<(K, V)>) -> Result<(), BoxError> {
        let mut table = lock(&self.table.table);
        table.check_fence(&self.operator, self.attempt)?;
        table.writes += entries.len() as u64;
        table.entries.extend(entries.drain(..));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        lock(&self.table.table).check_fence(&self.operator, self.attempt)?;
        Ok(())
    }

    fn fence(&mut self, attempt: Attempt) -> Result<(), BoxError> {
        let mut table = lock(&self.table.table);
        table.check_fence(&self.operator, attempt)?;
        table.fences.insert(self.operator.clone(), attempt);
        self.attempt = attempt;
        Ok(())
    }
}

struct SharedTable<K, V> {
    entries: BTreeMap<K, V>,
    writes: u64,
    /// The latest attempt of each operator that writes here.
    fences: BTreeMap<String, Attempt>,
}

impl<K, V> SharedTable<K, V> {
    fn check_fence(&self, operator: &str, attempt: Attempt) -> Result<(), ConnectError> {
        match self.fences.get(operator) {
            Some(&fence) if fence > attempt => Err(ConnectError::Fenced {
                operator: operator.into(),
                attempt,
                fence,
                place: "memory table".into(),
            }),
            _ => Ok(()),
        }
    }
}
