//! The part of a task that sees records: what it reads, how it processes them, where they go.
//! Everything about checkpoints is in [`crate::runtime::task`], which uses this part only through
//! [`TaskOperator`], one call a batch.

use std::collections::VecDeque;

use snapline_protocol::ids::{CheckpointId, TxnId};
use snapline_protocol::message::{Barrier, CommitGrant};
use snapline_protocol::retention::ReplayPositions;

use crate::base::error::BoxError;
use crate::channel::{Mark, Message, Receiver};
use crate::operator::chain::{Ending, OperatorChain};
use crate::operator::output::Output;
use crate::operator::route::Route;
use crate::operator::time::Timestamp;
use crate::operator::watermark_merger::{WatermarkMerger, WatermarkStatus};
use crate::state::{NamedImage, Restored, StateError};
use snapline_core::connect::{Progress, SourceReader};

/// The name of a source's position in a snapshot.
pub(crate) const POSITION: &str = "position";

/// What an input yields.
pub(crate) enum InputItem {
    /// Nothing now.
    Nothing,
    /// Records, this many; they are processed.
    Records(usize),
    /// Event time; its effects are begun.
    Mark,
    /// A barrier.
    Barrier(Barrier),
    /// No more records.
    End,
}

/// The records' side of a task.
pub(crate) trait TaskOperator: Send {
    /// Reads some records from outside and processes them. For sources only.
    fn read(&mut self, limit: usize) -> Result<(usize, Progress), BoxError>;

    /// Takes one message from an input, and processes it if it holds records.
    fn take(&mut self, input: usize) -> Result<InputItem, BoxError>;

    /// Continues with the effects of a mark; returns whether there are more. Nothing is taken
    /// before they are done.
    fn fire(&mut self) -> Result<bool, BoxError> {
        Ok(false)
    }

    /// Whether effects of a mark are left.
    fn is_firing(&self) -> bool {
        false
    }

    /// Takes in the answers of call threads; returns whether there were any.
    fn answer(&mut self) -> Result<bool, BoxError> {
        Ok(false)
    }

    /// Whether it takes no input before an answer arrives.
    fn is_full(&self) -> bool {
        false
    }

    /// When it wants to be called without input.
    fn wake(&self) -> Option<Timestamp> {
        None
    }

    /// The requested time has come.
    fn due(&mut self, now: Timestamp) -> Result<(), BoxError> {
        let _ = now;
        Ok(())
    }

    /// The number of records that were late and dropped.
    fn late(&self) -> u64 {
        0
    }

    /// The number of records that a source could not read and skipped.
    fn malformed(&self) -> u64 {
        0
    }

    /// Emits part of the last results, at the end of the input.
    fn finish(&mut self) -> Result<Ending, BoxError>;

    /// Passes the end on.
    fn end(&mut self);

    /// Passes a barrier on.
    fn forward(&mut self, barrier: Barrier);

    /// Sends partial batches.
    fn flush(&mut self);

    /// Moves output that waits for room; returns whether none waits any more.
    fn drain(&mut self) -> bool;

    /// Captures the state as it is now.
    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), BoxError>;

    /// Bytes that a source has read, or a sink has written, so far; `None` if they are not counted.
    /// Records between tasks have no size in bytes.
    fn bytes(&self) -> Option<u64> {
        None
    }

    /// The watermark, in milliseconds; `None` before the first.
    fn watermark(&self) -> Option<i64> {
        None
    }

    /// The state was captured for a checkpoint; the base is known to be complete. For sources only.
    fn taken(&mut self, checkpoint: CheckpointId, base: Option<CheckpointId>) {
        let _ = (checkpoint, base);
    }

    /// The number of records emitted so far.
    fn emitted(&self) -> u64;

    /// The number of records emitted so far on each output channel, in the topology's order.
    fn by_channel(&mut self) -> Vec<u64> {
        Vec::new()
    }

    /// Records in hand, to locate a failure: those of the batch, or the most that a read may
    /// return.
    fn in_hand(&self) -> u64 {
        0
    }

    /// Records that a source has read before those in hand.
    fn read_before(&self) -> u64 {
        0
    }

    /// A sink's transactions; `None` for every other task.
    fn transactions(&mut self) -> Option<&mut dyn Transactions> {
        None
    }
}

/// Work for another thread, done after earlier work of the same task.
pub(crate) type IoAction<R> = Box<dyn FnOnce() -> Result<R, BoxError> + Send>;

/// Whether a prepared transaction is to be rolled back.
pub(crate) type IsOrphan = Box<dyn Fn(&TxnId) -> bool + Send>;

/// Whether a sink that has committed this transaction may begin.
pub(crate) type KeepsUp = Box<dyn Fn(Option<TxnId>) -> Result<(), BoxError> + Send>;

/// A sink's side of two-phase commit, without the types of its committables.
pub(crate) trait Transactions: Send {
    /// Fences off earlier attempts and rolls back each prepared transaction that `is_orphan` names
    /// (SPEC 6.4). Does nothing if `keeps_up` refuses what was committed (SPEC 7.7).
    fn roll_back_orphans(&mut self, is_orphan: IsOrphan, keeps_up: KeepsUp) -> IoAction<()>;

    /// Ends the open transaction; the returned action prepares it.
    fn close(&mut self, txn: TxnId) -> Result<IoAction<()>, BoxError>;

    /// Commits the transaction that the grant names.
    fn commit(
        &mut self,
        grant: CommitGrant,
    ) -> IoAction<snapline_protocol::committer::CommitOutcome>;

    /// Forgets every committable but these (SPEC 6.3).
    fn retain(&mut self, pending: &[TxnId]);

    /// Why the last commit is to be retried, in words; `None` if it is not, or if the sink gives no
    /// reason.
    fn trouble(&self) -> Option<String>;
}

/// The name of a task's event time, received and sent, in a snapshot.
const TIME: &str = "time";

/// Puts event time, received and sent, into a snapshot, if there is any (SPEC 16.4).
fn freeze_time(
    operator: &str,
    received: Option<WatermarkStatus>,
    emitted: Option<WatermarkStatus>,
    images: &mut Vec<NamedImage>,
) -> Result<(), StateError> {
    if received.is_some() || emitted.is_some() {
        images.push(NamedImage::single(operator, TIME, &(received, emitted))?);
    }
    Ok(())
}

/// Event time, received and sent, in a checkpoint.
pub(crate) fn restore_time(
    operator: &str,
    restored: Option<&mut Restored<'_>>,
) -> Result<(Option<WatermarkStatus>, Option<WatermarkStatus>), StateError> {
    match restored {
        Some(restored) => Ok(restored.single(operator, TIME)?.unwrap_or_default()),
        None => Ok((None, None)),
    }
}

/// A source and the chain after it.
pub(crate) struct SourceOperator<R: SourceReader, L, X> {
    pub(crate) operator: String,
    pub(crate) reader: R,
    pub(crate) replay_positions: ReplayPositions<R::Position>,
    pub(crate) logic: L,
    pub(crate) output: Output<X>,
    /// Records read before those in hand.
    pub(crate) read: u64,
    /// Records that may be read now; none between two reads. A record is counted nowhere else
    /// before the read is over. The compiler would have to keep any count that a panic can observe
    /// in memory, for each record.
    pub(crate) in_hand: usize,
}

/// Pushes through a chain into the output.
struct ChainCollector<'a, L, X> {
    logic: &'a mut L,
    output: &'a mut Output<X>,
    records: usize,
}

impl<L: OperatorChain, X: Route<L::Out>> snapline_core::connect::Collect<L::In>
    for ChainCollector<'_, L, X>
{
    #[inline]
    fn push(&mut self, record: L::In) {
        self.records += 1;
        self.logic.push(record, self.output);
    }

    fn fail(&mut self, error: BoxError) {
        snapline_core::connect::Collect::<L::Out>::fail(self.output, error);
    }
}

impl<R, L, X> TaskOperator for SourceOperator<R, L, X>
where
    R: SourceReader<Record = L::In>,
    R::Position: serde::Serialize + serde::de::DeserializeOwned + Send,
    L: OperatorChain,
    X: Route<L::Out>,
{
    fn taken(&mut self, checkpoint: CheckpointId, base: Option<CheckpointId>) {
        let position = self.reader.position();
        if let Some(position) = self.replay_positions.taken(checkpoint, base, position) {
            self.reader.kept_from(position);
        }
    }

    fn read(&mut self, limit: usize) -> Result<(usize, Progress), BoxError> {
        self.in_hand = limit;
        let mut through =
            ChainCollector { logic: &mut self.logic, output: &mut self.output, records: 0 };
        let progress = self.reader.read(limit, &mut through)?;
        let records = through.records;
        self.output.check()?;
        (self.read, self.in_hand) = (self.read + records as u64, 0);
        Ok((records, progress))
    }

    fn take(&mut self, _input: usize) -> Result<InputItem, BoxError> {
        Ok(InputItem::Nothing)
    }

    fn wake(&self) -> Option<Timestamp> {
        self.logic.wake()
    }

    fn due(&mut self, now: Timestamp) -> Result<(), BoxError> {
        self.logic.due(now, &mut self.output);
        self.output.check()
    }

    fn finish(&mut self) -> Result<Ending, BoxError> {
        let ending = self.logic.end(&mut self.output);
        self.output.check()?;
        Ok(ending)
    }

    fn end(&mut self) {
        self.output.end();
    }

    fn forward(&mut self, barrier: Barrier) {
        self.output.barrier(barrier);
    }

    fn flush(&mut self) {
        self.logic.flush(&mut self.output);
        self.output.flush();
    }

    fn drain(&mut self) -> bool {
        self.output.drain()
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), BoxError> {
        images.push(NamedImage::single(&self.operator, POSITION, &self.reader.position())?);
        freeze_time(&self.operator, None, self.output.standing(), images)?;
        Ok(self.logic.freeze(images)?)
    }

    fn malformed(&self) -> u64 {
        self.reader.malformed()
    }

    fn in_hand(&self) -> u64 {
        self.in_hand as u64
    }

    fn read_before(&self) -> u64 {
        self.read
    }

    fn bytes(&self) -> Option<u64> {
        self.reader.bytes_read()
    }

    fn watermark(&self) -> Option<i64> {
        self.output.standing().map(|standing| standing.watermark)
    }

    fn emitted(&self) -> u64 {
        self.output.sent()
    }

    fn by_channel(&mut self) -> Vec<u64> {
        self.output.by_channel()
    }
}

/// A chain of operators with inputs.
pub(crate) struct ChainOperator<L: OperatorChain, X> {
    pub(crate) operator: String,
    pub(crate) inputs: Vec<Receiver<L::In>>,
    pub(crate) watermarks: WatermarkMerger,
    /// Marks of the merger that the chain has not taken in, since it still works on an earlier
    /// mark.
    pub(crate) marks: VecDeque<Mark>,
    pub(crate) firing: bool,
    pub(crate) logic: L,
    pub(crate) output: Output<X>,
    /// Records of the batch in hand.
    pub(crate) in_hand: usize,
}

impl<L: OperatorChain, X: Route<L::Out>> ChainOperator<L, X> {
    /// Passes the merger's marks to the chain.
    fn marked(&mut self) -> Result<(), BoxError> {
        while !self.firing
            && let Some(mark) = self.marks.pop_front()
        {
            self.firing = self.logic.mark(mark, &mut self.output) == Ending::More;
        }
        self.output.check()
    }
}

impl<L: OperatorChain, X: Route<L::Out>> TaskOperator for ChainOperator<L, X> {
    fn in_hand(&self) -> u64 {
        self.in_hand as u64
    }

    fn read(&mut self, _limit: usize) -> Result<(usize, Progress), BoxError> {
        Ok((0, Progress::End))
    }

    fn take(&mut self, input: usize) -> Result<InputItem, BoxError> {
        Ok(match self.inputs[input].receive() {
            None => InputItem::Nothing,
            Some(Message::Batch(mut batch)) => {
                let records = batch.len();
                self.in_hand = records;
                self.logic.push_all(batch.drain(..), &mut self.output);
                self.inputs[input].give_back(batch);
                self.output.check()?;
                InputItem::Records(records)
            }
            Some(Message::Mark(mark)) => {
                self.marks.extend(self.watermarks.take(input, mark));
                self.marked()?;
                InputItem::Mark
            }
            Some(Message::Barrier(barrier)) => InputItem::Barrier(barrier),
            Some(Message::End) => {
                self.marks.extend(self.watermarks.end(input));
                self.marked()?;
                InputItem::End
            }
        })
    }

    fn fire(&mut self) -> Result<bool, BoxError> {
        self.firing = self.logic.fire(&mut self.output) == Ending::More;
        self.marked()?;
        Ok(self.firing)
    }

    fn is_firing(&self) -> bool {
        self.firing
    }

    fn answer(&mut self) -> Result<bool, BoxError> {
        let any = self.logic.answer(&mut self.output);
        self.output.check()?;
        Ok(any)
    }

    fn is_full(&self) -> bool {
        self.logic.is_full()
    }

    fn wake(&self) -> Option<Timestamp> {
        self.logic.wake()
    }

    fn due(&mut self, now: Timestamp) -> Result<(), BoxError> {
        self.logic.due(now, &mut self.output);
        self.output.check()
    }

    fn late(&self) -> u64 {
        self.logic.late()
    }

    fn finish(&mut self) -> Result<Ending, BoxError> {
        let ending = self.logic.end(&mut self.output);
        self.output.check()?;
        Ok(ending)
    }

    fn end(&mut self) {
        self.output.end();
    }

    fn forward(&mut self, barrier: Barrier) {
        self.output.barrier(barrier);
    }

    fn flush(&mut self) {
        self.logic.flush(&mut self.output);
        self.output.flush();
    }

    fn drain(&mut self) -> bool {
        self.output.drain()
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), BoxError> {
        freeze_time(&self.operator, self.watermarks.standing(), self.output.standing(), images)?;
        Ok(self.logic.freeze(images)?)
    }

    fn watermark(&self) -> Option<i64> {
        self.watermarks.standing().map(|standing| standing.watermark)
    }

    fn emitted(&self) -> u64 {
        self.output.sent()
    }

    fn by_channel(&mut self) -> Vec<u64> {
        self.output.by_channel()
    }
}
