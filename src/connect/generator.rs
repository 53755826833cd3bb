//! A source that computes its records from their numbers.

use std::time::{Duration, Instant};

use super::{Collect, ConnectError, OpenContext, Progress, Source, SourceReader};
use crate::base::clock::Clock;
use crate::base::error::BoxError;

/// Computes record i of the stream from the number i. Subtask `i % parallelism` reads record i.
///
/// ```
/// use snapline::connect::Generator;
/// let squares = Generator::new(1_000, |i| i * i);
/// let for_ever = Generator::new(None, |i| i % 10).rate(100_000);
/// ```
#[derive(Clone, Debug)]
pub struct Generator<F> {
    count: u64,
    rate: Option<u64>,
    make: F,
}

impl<T, F: Fn(u64) -> T> Generator<F> {
    /// Records 0 to `count`, or forever if that is `None`. `make` must be a function of the number
    /// alone, or the source cannot be read again (SPEC 2.12). A restored job may have a greater
    /// count, and reads on to that; a count below its checkpoint's position is refused.
    pub fn new(count: impl Into<Option<u64>>, make: F) -> Self {
        Self { count: count.into().unwrap_or(u64::MAX), rate: None, make }
    }
}

impl<F> Generator<F> {
    /// At most this many records a second, of all subtasks together. For demonstrations: each read
    /// uses the clock.
    ///
    /// # Panics
    /// If it is zero: no record would ever come.
    #[must_use]
    pub fn rate(mut self, records_per_second: u64) -> Self {
        assert!(records_per_second > 0, "`rate` must be greater than zero");
        self.rate = Some(records_per_second);
        self
    }
}

impl<T, F> Source for Generator<F>
where
    T: Send + 'static,
    F: Fn(u64) -> T + Clone + Send + 'static,
{
    type Record = T;
    /// The number of the subtask's next record in the whole stream.
    type Position = u64;
    type Reader = GeneratorReader<F>;

    fn open(
        &self,
        context: &OpenContext,
        position: Option<u64>,
    ) -> Result<GeneratorReader<F>, BoxError> {
        let turn = Turn::of(context, position, "generator")?;
        // After its last record a subtask is less than one round past the end, or at its first
        // turn.
        let end = self.count.checked_add(turn.step);
        if position.is_some_and(|next| end.is_some_and(|end| next >= end)) {
            let why = format!("it stands at record {} of {}", turn.next, self.count);
            return Err(ConnectError::BadPosition { source: "generator", why }.into());
        }
        let pace = self.rate.map(|rate| Throttle {
            per_second: rate as f64 / context.parallelism as f64,
            clock: context.clock.clone(),
            since: None,
            read: 0,
        });
        Ok(GeneratorReader { turn, count: self.count, pace, make: self.make.clone() })
    }
}

/// Reads one subtask's share of a [`Generator`].
#[derive(Debug)]
pub struct GeneratorReader<F> {
    turn: Turn,
    count: u64,
    pace: Option<Throttle>,
    make: F,
}

impl<T, F: Fn(u64) -> T + Send + 'static> SourceReader for GeneratorReader<F> {
    type Record = T;
    type Position = u64;

    fn read<C: Collect<T>>(&mut self, limit: usize, out: &mut C) -> Result<Progress, BoxError> {
        let left = self.turn.left(self.count);
        let mut records = left.min(limit as u64);
        if let Some(pace) = &mut self.pace {
            records = records.min(pace.due());
            if records == 0 && left > 0 && limit > 0 {
                return Ok(Progress::Wait(pace.pause()));
            }
            pace.read += records;
        }
        let (mut number, step) = (self.turn.next, self.turn.step);
        for _ in 0..records {
            out.push((self.make)(number));
            number = number.wrapping_add(step);
        }
        self.turn.pass(records);
        Ok(if records == left { Progress::End } else { Progress::More })
    }

    fn position(&self) -> u64 {
        self.turn.next
    }
}

/// The turns of one subtask, which are `step` apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    /// The subtask's next number.
    pub(super) next: u64,
    /// The parallelism.
    pub(super) step: u64,
}

impl Turn {
    /// A subtask's first turn, or the one at `position`; another subtask's position is refused.
    pub(super) fn of(
        context: &OpenContext,
        position: Option<u64>,
        source: &'static str,
    ) -> Result<Self, ConnectError> {
        let (index, step) = (context.index as u64, context.parallelism as u64);
        let next = position.unwrap_or(index);
        // The end of a stream of 2^64 records is not a subtask's number.
        if next % step != index && next != u64::MAX {
            let why = format!("record {next} is not subtask {index}'s of {step}");
            return Err(ConnectError::BadPosition { source, why });
        }
        Ok(Self { next, step })
    }

    /// The number of turns before `end`.
    pub(super) fn left(&self, end: u64) -> u64 {
        end.saturating_sub(self.next).div_ceil(self.step)
    }

    /// Skips this many turns.
    pub(super) fn pass(&mut self, turns: u64) {
        self.next = self.next.saturating_add(turns.saturating_mul(self.step));
    }
}

/// The rate of the records.
#[derive(Debug)]
struct Throttle {
    per_second: f64,
    clock: Clock,
    /// The time of the first request.
    since: Option<Instant>,
    /// The number of records since then.
    read: u64,
}

impl Throttle {
    /// The number of records due now.
    fn due(&mut self) -> u64 {
        let now = self.clock.now();
        let since = *self.since.get_or_insert(now);
        ((now.duration_since(since).as_secs_f64() * self.per_second) as u64)
            .saturating_sub(self.read)
    }

    /// The time until the next is due. At least a little, so that the caller does not spin, and
    /// never long, so that it handles its mail.
    fn pause(&self) -> Duration {
        let elapsed = self.since.map_or(0.0, |since| self.clock.since(since).as_secs_f64());
        let wait = (self.read + 1) as f64 / self.per_second - elapsed;
        Duration::from_secs_f64(wait.clamp(0.000_1, 0.1))
    }
}

#[cfg(test)]
mod tests {
    use snapline_protocol::ids::{Attempt, Term};

    use super::*;

    fn context(index: usize, parallelism: usize) -> OpenContext {
        OpenContext::new("job", "numbers", index, parallelism, Attempt::first(Term::new(1)))
    }

    #[test]
    fn every_record_is_one_subtasks() {
        let mut all = Vec::new();
        for index in 0..3 {
            let mut reader =
                Generator::new(10, |i| i).open(&context(index, 3), None).expect("opens");
            while reader.read(2, &mut all).expect("reads") != Progress::End {}
        }
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<u64>>());
    }

    #[test]
    fn the_end_is_said_with_the_last_record() {
        let mut reader = Generator::new(4, |i| i).open(&context(1, 2), None).expect("opens");
        let mut out = Vec::new();
        assert_eq!(reader.read(1, &mut out).expect("reads"), Progress::More);
        assert_eq!(reader.read(1, &mut out).expect("reads"), Progress::End);
        assert_eq!(reader.read(1, &mut out).expect("reads"), Progress::End);
        assert_eq!(out, [1, 3]);
    }

    #[test]
    fn the_last_numbers_do_not_overflow() {
        let last = u64::MAX - 1;
        let mut reader =
            Generator::new(None, |i| i).open(&context(0, 2), Some(last)).expect("opens");
        let mut out = Vec::new();
        assert_eq!(reader.read(10, &mut out).expect("reads"), Progress::End);
        assert_eq!(out, [last]);
        assert_eq!(reader.position(), u64::MAX);
        assert!(Generator::new(None, |i| i).open(&context(0, 2), Some(u64::MAX)).is_ok());
    }

    #[test]
    fn another_subtasks_position_is_refused() {
        let refused = Generator::new(9, |i| i).open(&context(0, 2), Some(3));
        let refused = refused.err().expect("refused");
        assert!(refused.to_string().contains("record 3 is not subtask 0's of 2"), "{refused}");
    }

    #[test]
    fn a_position_behind_a_smaller_count_is_refused_and_a_greater_one_read_on_to() {
        let restored = |count, next| Generator::new(count, |i| i).open(&context(0, 2), Some(next));
        let refused = restored(9, 12).err().expect("refused").to_string();
        assert!(refused.contains("it stands at record 12 of 9"), "{refused}");
        let mut out = Vec::new();
        restored(15, 12).expect("opens").read(9, &mut out).expect("reads");
        assert_eq!(out, [12, 14]);
        assert!(restored(9, 10).is_ok(), "that is its end");
    }

    #[test]
    fn a_rate_makes_it_wait() {
        let mut reader =
            Generator::new(5, |i| i).rate(1_000).open(&context(0, 1), None).expect("opens");
        let (mut out, mut waits) = (Vec::new(), 0);
        loop {
            match reader.read(100, &mut out).expect("reads") {
                Progress::Wait(pause) => {
                    waits += 1;
                    let until = Instant::now() + pause;
                    while Instant::now() < until {}
                }
                Progress::More => {}
                Progress::End => break,
            }
        }
        assert_eq!(out, [0, 1, 2, 3, 4]);
        assert!(waits > 0);
    }
}
