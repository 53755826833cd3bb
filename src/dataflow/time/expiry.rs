//! Keyed functions whose state expires (SPEC 16.13), and those that keep only the first or the
//! highest records.

use std::time::Duration;

use crate::dataflow::time::timers::{TimeContext, TimedProcess};
use crate::dataflow::window::{Window, WindowFunction, Windowed};
use crate::operator::time::Timestamp;
use crate::state::{Key, StateValue};
use snapline_core::connect::Collect;

/// A function whose state is dropped for a key without a record for this long, by the wall clock.
///
/// Checkpoints keep the time of a key's last record, not the time when its state ends. So a time to
/// live that changes at a restore applies to all keys at once, also to those without further
/// records. If it is removed, no state expires; if it is new, it counts from the restore for keys
/// that were there before (SPEC 16.13).
///
/// ```
/// use std::time::Duration;
/// use snapline::connect::{MemorySink, MemorySource};
/// use snapline::{Dataflow, Emitter, Expiring, Input, JobConfig, TimeContext, TimedClosure};
/// use snapline::{Timestamp, Watermarks};
/// # use snapline::connect::Collect;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let count = |_: Input<u32>, seen: &mut TimeContext<'_, u32, u64>, out: &mut Emitter<u64>| {
///     **seen += 1;
///     out.push(**seen);
/// };
/// let (flow, counts) = (Dataflow::new("visitors"), MemorySink::new());
/// flow.source("visitors", MemorySource::new(vec![7, 7]))
///     .parallelism(1)
///     .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
///     .key_by(|visitor| *visitor)
///     .process_with(Expiring::after(Duration::from_secs(3_600), TimedClosure::new(count)))
///     .sink("counts", counts.clone());
/// flow.build(JobConfig::new())?.run()?;
/// assert_eq!(counts.committed(), [1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Expiring<P> {
    process: P,
    after: Duration,
}

impl<P> Expiring<P> {
    /// Drops a key's state when it has had no record for this long. Its timers stay.
    pub const fn after(after: Duration, process: P) -> Self {
        Self { process, after }
    }
}

impl<K, V, P: TimedProcess<K, V>> TimedProcess<K, V> for Expiring<P> {
    type State = P::State;
    type Out = P::Out;

    fn process<C: Collect<P::Out>>(
        &mut self,
        value: V,
        context: &mut TimeContext<'_, K, P::State>,
        out: &mut C,
    ) {
        self.process.process(value, context, out);
    }

    fn event_time<C: Collect<P::Out>>(
        &mut self,
        context: &mut TimeContext<'_, K, P::State>,
        out: &mut C,
    ) {
        self.process.event_time(context, out);
    }

    fn processing_time<C: Collect<P::Out>>(
        &mut self,
        context: &mut TimeContext<'_, K, P::State>,
        out: &mut C,
    ) {
        self.process.processing_time(context, out);
    }

    fn expires(&self) -> Option<Duration> {
        Some(self.after)
    }

    fn timers(&self, state: &P::State, since: Option<Timestamp>) -> Option<Vec<Timestamp>> {
        self.process.timers(state, since)
    }
}

/// Lets the first record of a key through, and the next one when the state has expired.
#[derive(Clone, Copy, Debug)]
pub struct Distinct {
    pub(crate) memory: Duration,
}

impl<K: Key, V: Send + 'static> TimedProcess<K, V> for Distinct {
    /// Whether the key was seen.
    type State = bool;
    type Out = V;

    fn process<C: Collect<V>>(
        &mut self,
        value: V,
        seen: &mut TimeContext<'_, K, bool>,
        out: &mut C,
    ) {
        if !**seen {
            **seen = true;
            let since = seen.timestamp();
            seen.remember(since);
            seen.set_timer(since + self.memory);
            out.push(value);
        }
    }

    fn event_time<C: Collect<V>>(&mut self, seen: &mut TimeContext<'_, K, bool>, _: &mut C) {
        seen.clear();
    }

    fn timers(&self, _: &bool, since: Option<Timestamp>) -> Option<Vec<Timestamp>> {
        // If a checkpoint does not hold the record's time, the time that was set then stays.
        since.map(|since| vec![since + self.memory])
    }
}

/// The most values of a window that may be kept as its highest.
const MOST_HIGHEST: usize = 100_000;

/// The highest records of a window, the highest first.
#[derive(Clone, Debug)]
pub struct Highest<F> {
    pub(crate) most: usize,
    pub(crate) by: F,
}

impl<F> Highest<F> {
    fn put<V, R: Ord>(&mut self, held: &mut Vec<V>, value: V)
    where
        F: FnMut(&V) -> R,
    {
        let rank = (self.by)(&value);
        let place = held.partition_point(|other| (self.by)(other) >= rank);
        if place < self.most {
            held.insert(place, value);
            held.truncate(self.most);
        }
    }
}

impl<K, V, R, F> WindowFunction<K, V> for Highest<F>
where
    K: Key,
    V: StateValue,
    R: Ord,
    F: FnMut(&V) -> R + Clone + Send + 'static,
{
    /// At most the requested number, the highest first; of equal ones the earliest.
    type Held = Vec<V>;
    type Out = Windowed<K, Vec<V>>;

    fn check(&self) -> Result<(), String> {
        match self.most {
            1..=MOST_HIGHEST => Ok(()),
            most => Err(format!(
                "`highest` cannot keep {most} values of each window; choose 1 to {MOST_HIGHEST}"
            )),
        }
    }

    fn add(&mut self, held: &mut Vec<V>, value: V) {
        self.put(held, value);
    }

    fn merge(&mut self, held: &mut Vec<V>, later: Vec<V>) {
        later.into_iter().for_each(|value| self.put(held, value));
    }

    fn fire<C: Collect<Self::Out>>(&mut self, key: &K, window: Window, held: &Vec<V>, out: &mut C) {
        // It may have been more before a restore.
        let result = held.iter().take(self.most).cloned().collect();
        out.push(Windowed { key: key.clone(), window, result });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_emitted_than_are_asked_for_now() {
        let mut highest = Highest { most: 2, by: |value: &u64| *value };
        let mut held = vec![9, 7, 5];
        let mut out: Vec<Windowed<(), Vec<u64>>> = Vec::new();
        // It was three before a restore.
        highest.fire(&(), Window::GLOBAL, &held, &mut out);
        WindowFunction::<(), u64>::add(&mut highest, &mut held, 8);
        highest.fire(&(), Window::GLOBAL, &held, &mut out);
        let results: Vec<_> = out.into_iter().map(|window| window.result).collect();
        assert_eq!(results, [[9, 7], [9, 8]]);
    }
}
