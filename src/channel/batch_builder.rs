//! A batch while it is filled.

// One record after the other, each with one check of their number.
#![allow(unsafe_code)]

/// A batch that is being filled.
pub(crate) struct BatchBuilder<T> {
    records: Vec<T>,
    /// The number of records that makes it full. Invariant: at most what `records` has room for.
    full: usize,
}

impl<T> BatchBuilder<T> {
    /// An empty batch in this buffer, full with this many records; at least one.
    pub(crate) fn new(mut records: Vec<T>, full: usize) -> Self {
        records.clear();
        let full = full.max(1);
        records.reserve(full);
        Self { records, full }
    }

    /// Adds a record, if the batch is not full with it.
    ///
    /// # Errors
    /// Returns the record if it is the last one: [`BatchBuilder::finish`].
    #[inline(always)]
    pub(crate) fn push(&mut self, record: T) -> Result<(), T> {
        let place = self.records.len();
        if place + 1 >= self.full {
            return Err(record);
        }
        // SAFETY: below `full`, hence below what there is room for, by the invariant; and all
        // before it are there.
        unsafe {
            self.records.as_mut_ptr().add(place).write(record);
            self.records.set_len(place + 1);
        }
        Ok(())
    }

    /// Returns its records, with a last record if there is one, and begins anew in this buffer.
    pub(crate) fn finish(&mut self, last: Option<T>, next: Vec<T>) -> Vec<T> {
        self.records.extend(last);
        let next = Self::new(next, self.full);
        std::mem::replace(self, next).records
    }

    /// The number of its records.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_comes_back() {
        let mut batch = BatchBuilder::new(Vec::new(), 3);
        let record = |number: u32| number.to_string();
        assert_eq!((batch.push(record(1)), batch.push(record(2))), (Ok(()), Ok(())));
        assert_eq!(batch.push(record(3)), Err(record(3)));
        assert_eq!(batch.len(), 2);
        let full = batch.finish(Some(record(3)), vec![record(0)]);
        assert_eq!((full, batch.len()), (vec![record(1), record(2), record(3)], 0));
        assert_eq!(batch.push(record(4)), Ok(()));
        assert_eq!(batch.finish(None, Vec::new()), [record(4)]);
    }

    #[test]
    fn a_batch_of_one_is_full_at_once() {
        for full in [0, 1] {
            let mut batch = BatchBuilder::new(Vec::new(), full);
            assert_eq!(batch.push(7), Err(7));
            assert_eq!(batch.finish(Some(7), Vec::new()), [7]);
        }
    }
}
