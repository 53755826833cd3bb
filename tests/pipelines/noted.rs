//! Windows by processing time that record the clock's reading for each record on assignment, so
//! that they can be judged exactly.
//!
//! A window's assigner is given the time, then its function gets the record, directly after it on
//! the same thread. The assigner leaves the time for the function. Both are public interface; the
//! windows, their state and their triggers are the crate's.

use std::cell::Cell;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use snapline::connect::Collect;
use snapline::state::Key;
use snapline::{
    Emitter, Input, TimeContext, TimeDomain, Timestamp, Unmerged, Window, WindowAssigner,
    WindowFunction,
};

thread_local! {
    /// The clock's reading for the record that is being assigned to its windows.
    static SHOWED: Cell<Timestamp> = const { Cell::new(Timestamp::MIN) };
}

/// Windows that leave the time for the computation in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted<W>(pub(crate) W);

impl<W: WindowAssigner> WindowAssigner for Noted<W> {
    type Trigger = W::Trigger;

    fn domain(&self) -> TimeDomain {
        self.0.domain()
    }

    fn merges(&self) -> bool {
        self.0.merges()
    }

    fn assign(&self, at: Timestamp, windows: &mut Vec<Window>) {
        SHOWED.set(at);
        self.0.assign(at, windows);
    }

    fn trigger(&self) -> W::Trigger {
        self.0.trigger()
    }

    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}

impl<W: Unmerged> Unmerged for Noted<W> {}

/// The records of a window, each with its clock reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times;

/// A window and its content.
pub(crate) type Told<V> = (Window, Vec<(Timestamp, V)>);

impl<K, V> WindowFunction<K, V> for Times
where
    K: Key,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    type Held = Vec<(Timestamp, V)>;
    type Out = (K, Told<V>);

    fn add(&mut self, held: &mut Self::Held, value: V) {
        held.push((SHOWED.get(), value));
    }

    fn merge(&mut self, held: &mut Self::Held, later: Self::Held) {
        held.extend(later);
    }

    fn fire<C: Collect<Self::Out>>(
        &mut self,
        key: &K,
        window: Window,
        held: &Self::Held,
        out: &mut C,
    ) {
        out.push((key.clone(), (window, held.clone())));
    }
}

/// Windows by the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Tumbling, of this many milliseconds.
    Tumbling(u64),
    /// Sliding: each record is in this many windows, and one begins every this many milliseconds.
    Sliding(u64, u64),
    /// Sessions with a gap of this many milliseconds.
    Session(u64),
}

/// A judged window: whether it came before its end, and its content, if that may recur in the next
/// window.
pub(crate) type Judged<V> = (Window, bool, Vec<(Timestamp, V)>);

/// A judge's state of a key: its last window.
pub(crate) type Before<V> = Option<Judged<V>>;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Kind {
    /// The number of windows of each record.
    pub(crate) const fn times(self) -> u64 {
        match self {
            Self::Sliding(times, _) => times,
            Self::Tumbling(_) | Self::Session(_) => 1,
        }
    }

    /// Whether these are a window and its records.
    fn is_one<V>(self, window: Window, held: &[(Timestamp, V)]) -> bool {
        let length = (window.end - window.start).as_millis() as u64;
        let is = |every: u64, of: u64| {
            length == of && window.start.millis().unsigned_abs().is_multiple_of(every)
        };
        let mut times: Vec<Timestamp> = held.iter().map(|(at, _)| *at).collect();
        times.sort_unstable();
        let inside = times.iter().all(|at| (window.start..window.end).contains(at));
        inside
            && !times.is_empty()
            && match self {
                Self::Tumbling(length) => is(length, length),
                Self::Sliding(times, every) => is(every, times * every),
                // It reaches from its first record to a gap after its last, and neighbouring
                // records are at most a gap apart.
                Self::Session(gap) => {
                    window.start == times[0]
                        && times.last().is_some_and(|last| window.end == *last + ms(gap))
                        && times.windows(2).all(|two| two[1] <= two[0] + ms(gap))
                }
            }
    }

    /// Whether a key's window may follow the one before. A window fires before its end only because
    /// the input has ended, so only an overlapping window may follow it.
    fn follows<V: Ord>(
        self,
        (window, held): (Window, &[(Timestamp, V)]),
        before: Option<&Judged<V>>,
    ) -> bool {
        let Self::Sliding(_, every) = self else {
            return before.is_none_or(|(before, early, _)| !early && before.end <= window.start);
        };
        // The content shared with the next window, and that shared with the one before. Both are
        // the same records, unless the window is not the very next.
        let (shared, new): (Vec<_>, Vec<_>) =
            held.iter().partition(|(at, _)| *at + ms(every) < window.end);
        let Some((before, _, held)) = before else { return shared.is_empty() && !new.is_empty() };
        let mut goes_on: Vec<_> =
            held.iter().filter(|(at, _)| *at >= before.start + ms(every)).collect();
        goes_on.sort_unstable();
        let mut shared = shared;
        shared.sort_unstable();
        before.start < window.start
            && goes_on == shared
            && (goes_on.is_empty() || before.start + ms(every) == window.start)
    }

    /// Judges a key's next window: its values, and whether it is right. If all are right and each
    /// value was emitted as often as it must be, each was in exactly the windows that hold its
    /// time.
    pub(crate) fn judge<V: Ord + Clone>(
        self,
        (window, held): Told<V>,
        now: Timestamp,
        before: &mut Before<V>,
    ) -> (bool, Vec<V>) {
        let right = self.is_one(window, &held) && self.follows((window, &held), before.as_ref());
        let values = held.iter().map(|(_, value)| value.clone()).collect();
        let kept = if matches!(self, Self::Sliding(..)) { held } else { Vec::new() };
        *before = Some((window, now < window.end, kept));
        (right, values)
    }

    /// A function that judges each key's windows.
    #[allow(clippy::type_complexity, reason = "what a function with timers is")]
    pub(crate) fn judged<V: Ord + Clone, O>(
        self,
        say: fn(u64, V, bool) -> O,
    ) -> impl FnMut(Input<Told<V>>, &mut TimeContext<'_, u64, Before<V>>, &mut Emitter<O>) + Clone + Send
    {
        move |input, before, out| {
            let Input::Record(told) = input else { return };
            let (key, now) = (*before.key(), before.processing_time());
            let (right, values) = self.judge(told, now, before);
            values.into_iter().for_each(|value| out.push(say(key, value, right)));
        }
    }
}
