//! A source that reads a vector.

use super::generator::Turn;
use super::{Collect, ConnectError, OpenContext, Progress, Source, SourceReader};
use crate::base::error::BoxError;
use crate::base::sync::Arc;

/// Reads a vector. Subtask `i % parallelism` reads record i. Clones share the records.
#[derive(Debug)]
pub struct MemorySource<T> {
    records: Arc<Vec<T>>,
}

impl<T> Clone for MemorySource<T> {
    fn clone(&self) -> Self {
        Self { records: Arc::clone(&self.records) }
    }
}

impl<T> MemorySource<T> {
    /// A source of these records. To resume from a checkpoint of another process, give it the same
    /// records (SPEC 2.12), and perhaps more after them. Fewer than the checkpoint has read are
    /// refused; different ones are not detected.
    #[must_use]
    pub fn new(records: Vec<T>) -> Self {
        Self { records: Arc::new(records) }
    }
}

impl<T: Clone + Send + Sync + 'static> Source for MemorySource<T> {
    type Record = T;
    /// The index of the subtask's next record in the vector.
    type Position = u64;
    type Reader = MemoryReader<T>;

    fn open(
        &self,
        context: &OpenContext,
        position: Option<u64>,
    ) -> Result<MemoryReader<T>, BoxError> {
        let turn = Turn::of(context, position, "memory source")?;
        let count = self.records.len() as u64;
        // After its last record a subtask is less than one round past the end, or at its first
        // turn.
        if position.is_some_and(|next| next >= count + turn.step) {
            let why = format!("it stands at record {} of {count}", turn.next);
            return Err(ConnectError::BadPosition { source: "memory source", why }.into());
        }
        Ok(MemoryReader { turn, records: Arc::clone(&self.records) })
    }
}

/// Reads one subtask's share of a [`MemorySource`].
#[derive(Debug)]
pub struct MemoryReader<T> {
    turn: Turn,
    records: Arc<Vec<T>>,
}

impl<T: Clone + Send + Sync + 'static> SourceReader for MemoryReader<T> {
    type Record = T;
    type Position = u64;

    fn read<C: Collect<T>>(&mut self, limit: usize, out: &mut C) -> Result<Progress, BoxError> {
        let left = self.turn.left(self.records.len() as u64);
        let count = left.min(limit as u64);
        if count > 0 {
            let mine = self.records[self.turn.next as usize..].iter();
            for record in mine.step_by(self.turn.step as usize).take(count as usize) {
                out.push(record.clone());
            }
            self.turn.pass(count);
        }
        Ok(if count == left { Progress::End } else { Progress::More })
    }

    fn position(&self) -> u64 {
        self.turn.next
    }
}

#[cfg(test)]
mod tests {
    use snapline_protocol::ids::{Attempt, Term};

    use super::*;

    fn context(index: usize, parallelism: usize) -> OpenContext {
        OpenContext::new("job", "letters", index, parallelism, Attempt::first(Term::new(1)))
    }

    #[test]
    fn records_go_round() {
        let source = MemorySource::new(vec!['a', 'b', 'c', 'd', 'e']);
        let mut out = Vec::new();
        let mut reader = source.open(&context(1, 2), None).expect("opens");
        assert_eq!(reader.read(1, &mut out).expect("reads"), Progress::More);
        assert_eq!(reader.read(9, &mut out).expect("reads"), Progress::End);
        assert_eq!(out, ['b', 'd']);
        assert!(source.open(&context(1, 2), Some(reader.position())).is_ok());
    }

    #[test]
    fn subtasks_without_records_are_at_the_end_at_once() {
        let source = MemorySource::new(vec![1]);
        let mut reader = source.open(&context(3, 4), None).expect("opens");
        assert_eq!(reader.read(9, &mut Vec::new()).expect("reads"), Progress::End);
        assert!(source.open(&context(3, 4), Some(reader.position())).is_ok());
    }

    #[test]
    fn a_position_behind_other_records_is_refused() {
        let refused = MemorySource::new(vec![1, 2]).open(&context(0, 1), Some(7));
        let refused = refused.expect_err("refused").to_string();
        assert!(refused.contains("it stands at record 7 of 2"), "{refused}");
    }
}
