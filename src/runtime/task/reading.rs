//! How many records a source reads in a step.

use std::time::{Duration, Instant};

/// A shorter step has too much overhead.
const SHORT: Duration = Duration::from_micros(50);
/// A longer step delays events, and the other tasks of the worker.
const LONG: Duration = Duration::from_micros(200);
const LEAST: usize = 16;
const MOST: usize = 4096;

/// The number of records a source reads in a step, sized so that a step takes some time, but not
/// much. The operators after it in its chain may take a nanosecond for a record, or a second.
#[derive(Debug)]
pub(crate) struct ReadPacer {
    limit: usize,
    /// Whether the last read was full. A step that was short for want of records tells nothing.
    filled: bool,
    /// When the turn under way began.
    begun: Option<Instant>,
}

impl ReadPacer {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, filled: false, begun: None }
    }

    /// Reads: `read` gets the largest number of records to read and returns how many it has read.
    ///
    /// # Errors
    /// Its error.
    pub(crate) fn read<P, E>(
        &mut self,
        read: impl FnOnce(usize) -> Result<(usize, P), E>,
    ) -> Result<(usize, P), E> {
        let (records, progress) = read(self.limit)?;
        self.filled = records >= self.limit;
        Ok((records, progress))
    }

    /// A turn begins.
    pub(crate) const fn begins(&mut self, now: Instant) {
        self.begun = Some(now);
    }

    /// A turn ends in which work was done.
    pub(crate) fn ends(&mut self, now: Instant) {
        let Some(begun) = self.begun.take() else { return };
        match now.saturating_duration_since(begun) {
            took if took < SHORT && self.filled => {
                self.limit = (self.limit * 2).min(MOST.max(self.limit));
            }
            took if took > LONG => self.shrink(LEAST),
            _ => {}
        }
    }

    /// There is no room for what was read: a larger read would only leave more waiting.
    pub(crate) fn waits(&mut self, usual: usize) {
        self.shrink(usual);
    }

    fn shrink(&mut self, least: usize) {
        self.limit = (self.limit / 2).max(least.min(self.limit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(reading: &mut ReadPacer, took: Duration) -> usize {
        turn_of(reading, took, usize::MAX)
    }

    /// A turn with this many records.
    fn turn_of(reading: &mut ReadPacer, took: Duration, records: usize) -> usize {
        let now = Instant::now();
        reading.begins(now);
        let read = reading.read(|limit| Ok::<_, ()>((limit.min(records), ())));
        assert!(read.is_ok_and(|(read, ())| read <= records));
        reading.ends(now + took);
        reading.limit
    }

    #[test]
    fn little_to_read_is_no_reason_to_read_more() {
        let mut reading = ReadPacer::new(1024);
        assert_eq!(
            [0, 1, 1023].map(|records| turn_of(&mut reading, SHORT / 2, records)),
            [1024; 3]
        );
        assert_eq!(turn_of(&mut reading, SHORT / 2, 1024), 2048);
        assert_eq!(turn_of(&mut reading, LONG * 2, 1), 1024);
    }

    #[test]
    fn steps_are_neither_short_nor_long() {
        let mut reading = ReadPacer::new(1024);
        let (short, right, long) = (SHORT / 2, SHORT * 2, LONG * 2);
        assert_eq!(turn(&mut reading, right), 1024);
        assert_eq!([short; 3].map(|took| turn(&mut reading, took)), [2048, MOST, MOST]);
        assert_eq!([long, right, long].map(|took| turn(&mut reading, took)), [2048, 2048, 1024]);
        for _ in 0..20 {
            turn(&mut reading, long);
        }
        assert_eq!(reading.limit, LEAST);
        assert_eq!(turn(&mut reading, short), 2 * LEAST);
    }

    #[test]
    fn what_waits_for_room_makes_it_small_as_usual_and_no_smaller() {
        let mut reading = ReadPacer::new(MOST);
        for expected in [2048, 1024, 1000, 1000] {
            reading.waits(1000);
            assert_eq!(reading.limit, expected);
        }
        let mut reading = ReadPacer::new(16);
        reading.waits(1000);
        assert_eq!(reading.limit, 16, "it is no reason to read more");
    }

    #[test]
    fn more_than_the_most_at_the_beginning_stays() {
        assert_eq!(turn(&mut ReadPacer::new(10_000), SHORT / 2), 10_000);
        assert_eq!(turn(&mut ReadPacer::new(3), LONG * 2), 3);
    }
}
