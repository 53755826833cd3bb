//! When windows fire (SPEC 16.9).

use std::time::Duration;

use crate::dataflow::window::{TimeDomain, Window, begin, is_sensible};
use crate::operator::time::Timestamp;
use crate::state::StateValue;

/// What a trigger does with a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firing {
    /// Does nothing.
    Wait,
    /// Emits the window's result and keeps its contents.
    Fire,
    /// Drops the window's contents.
    Purge,
    /// Emits the window's result and drops its contents.
    FireAndPurge,
}

impl Firing {
    pub(crate) const fn fires(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    pub(crate) const fn purges(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// The current time, as a trigger sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// The clock of the windows.
    pub domain: TimeDomain,
    /// The watermark; [`Timestamp::MAX`] at the end of the input.
    pub watermark: Timestamp,
    /// The wall clock; [`Timestamp::MIN`] unless the windows or the trigger use it
    /// ([`Trigger::BY_CLOCK`]), and [`Timestamp::MAX`] at the last call, when the input has ended
    /// (SPEC 16.7).
    pub processing: Timestamp,
}

/// Decides when windows fire. Its state of each window is in every checkpoint.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a trigger",
    note = "global windows have no end at which they could fire: give them a trigger, with `trigger(...)`"
)]
pub trait Trigger: Clone + Send + 'static {
    /// Its state of a window.
    type State: StateValue + Default;

    /// Whether it reads the wall clock in event-time windows too, at some nanoseconds a record.
    const BY_CLOCK: bool = false;

    /// A record was put into a window.
    fn record(
        &mut self,
        at: Timestamp,
        window: Window,
        now: Now,
        state: &mut Self::State,
    ) -> Firing;

    /// The time of the next call of [`Trigger::event_time`] for a window.
    fn event_due(&self, window: Window, state: &Self::State) -> Option<Timestamp> {
        let _ = (window, state);
        None
    }

    /// The watermark has reached the requested time (see `now`); the next one must be later.
    ///
    /// In a window without end, request no time when the watermark is [`Timestamp::MAX`], the end
    /// of a bounded input. A trigger that always requests one keeps such a job running for ever.
    fn event_time(
        &mut self,
        at: Timestamp,
        window: Window,
        now: Now,
        state: &mut Self::State,
    ) -> Firing {
        let _ = (at, window, now, state);
        Firing::Wait
    }

    /// The time of the next call of [`Trigger::processing_time`] for a window.
    fn processing_due(&self, window: Window, state: &Self::State) -> Option<Timestamp> {
        let _ = (window, state);
        None
    }

    /// The wall clock has reached the requested time (see `now`); the next one must be later.
    ///
    /// If the input ends earlier, it is called once then; later requests are ignored (SPEC 16.7).
    fn processing_time(
        &mut self,
        at: Timestamp,
        window: Window,
        now: Now,
        state: &mut Self::State,
    ) -> Firing {
        let _ = (at, window, now, state);
        Firing::Wait
    }

    /// Two windows have become one, `window`; `into` is to hold the state of both.
    fn merge(&mut self, window: Window, now: Now, into: &mut Self::State, from: Self::State);

    /// Whether this state acts like the default one in an empty window. Then a window without end
    /// is dropped when it is purged, and its key with it; otherwise it stays for ever.
    fn is_fresh(&self, state: &Self::State) -> bool {
        let _ = state;
        false
    }

    /// The same trigger, whose windows drop their contents when they fire: [`Purging`].
    fn purging(self) -> Purging<Self> {
        Purging(self)
    }

    /// Checks that it can fire; called when the dataflow is built.
    ///
    /// # Errors
    /// The reason in words: the job is refused with [`crate::BuildError::Window`].
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Stands in for a trigger in windows that have none of their own: [`crate::GlobalWindows`].
#[derive(Clone, Copy, Debug)]
pub struct NoTrigger;

/// Fires when the watermark comes to a window's last millisecond, and with each record that comes
/// after that. A window without end fires at the end of the input.
#[derive(Clone, Copy, Debug)]
pub struct AtEventTime;

impl Trigger for AtEventTime {
    /// Whether it has fired.
    type State = bool;

    #[inline]
    fn record(&mut self, _: Timestamp, window: Window, now: Now, fired: &mut bool) -> Firing {
        if window.last() <= now.watermark {
            *fired = true;
            return Firing::Fire;
        }
        Firing::Wait
    }

    fn event_due(&self, window: Window, fired: &bool) -> Option<Timestamp> {
        (!fired).then(|| window.last())
    }

    fn event_time(&mut self, _: Timestamp, _: Window, _: Now, fired: &mut bool) -> Firing {
        *fired = true;
        Firing::Fire
    }

    fn merge(&mut self, window: Window, now: Now, into: &mut bool, _: bool) {
        *into = window.last() <= now.watermark;
    }

    fn is_fresh(&self, _: &bool) -> bool {
        true
    }
}

/// Fires when the wall clock comes to a window's end.
#[derive(Clone, Copy, Debug)]
pub struct AtProcessingTime;

impl Trigger for AtProcessingTime {
    /// Whether it has fired.
    type State = bool;

    #[inline]
    fn record(&mut self, _: Timestamp, _: Window, _: Now, _: &mut bool) -> Firing {
        Firing::Wait
    }

    fn processing_due(&self, window: Window, fired: &bool) -> Option<Timestamp> {
        (!fired).then_some(window.end)
    }

    fn processing_time(&mut self, _: Timestamp, _: Window, _: Now, fired: &mut bool) -> Firing {
        *fired = true;
        Firing::Fire
    }

    fn merge(&mut self, _: Window, _: Now, into: &mut bool, _: bool) {
        *into = false;
    }

    fn is_fresh(&self, _: &bool) -> bool {
        true
    }
}

/// Fires every *n* records, and not at a window's end.
#[derive(Clone, Copy, Debug)]
pub struct EveryRecords(u64);

/// The largest count that is accepted: a window would not reach a larger one in a lifetime.
const MOST_RECORDS: u64 = 1_000_000_000_000;

impl EveryRecords {
    /// Fires every `count` records: one or more, and at most 1,000,000,000,000.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }
}

impl Trigger for EveryRecords {
    /// Records since it fired.
    type State = u64;

    #[inline]
    fn record(&mut self, _: Timestamp, _: Window, _: Now, count: &mut u64) -> Firing {
        *count += 1;
        if *count >= self.0 {
            *count = 0;
            return Firing::Fire;
        }
        Firing::Wait
    }

    fn merge(&mut self, _: Window, _: Now, into: &mut u64, from: u64) {
        *into += from;
    }

    fn is_fresh(&self, count: &u64) -> bool {
        *count == 0
    }

    fn check(&self) -> Result<(), String> {
        match self.0 {
            0 => Err("a window cannot fire every 0 records; choose at least 1".to_owned()),
            1..=MOST_RECORDS => Ok(()),
            count => Err(format!(
                "a window cannot fire every {count} records; choose at most {MOST_RECORDS}"
            )),
        }
    }
}

/// The first multiple of an interval after a time.
fn next_multiple(behind: Timestamp, interval: Duration) -> Timestamp {
    Timestamp::from_millis(begin(behind, Duration::ZERO, interval)) + interval
}

/// When a window fires next before its end; whether it has fired at its end, or will not.
type Ticks = (Option<Timestamp>, bool);

/// Fires whenever the watermark passes a multiple of an interval after a record, and at a window's
/// end: early results. Multiples that the watermark passes in one step make it fire once.
#[derive(Clone, Copy, Debug)]
pub struct EveryEventTime(Duration);

impl EveryEventTime {
    /// Sets the interval: a millisecond or more, and at most 10,000 years.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self(interval)
    }
}

impl Trigger for EveryEventTime {
    /// When it fires next before the end, and whether it has fired at the end.
    type State = (Option<Timestamp>, bool);

    fn record(
        &mut self,
        at: Timestamp,
        window: Window,
        now: Now,
        (next, fired): &mut Ticks,
    ) -> Firing {
        if window.last() <= now.watermark {
            (*next, *fired) = (None, true);
            return Firing::Fire;
        }
        if next.is_none() {
            *next = Some(next_multiple(at.max(now.watermark), self.0));
        }
        Firing::Wait
    }

    fn event_due(&self, window: Window, (next, fired): &Ticks) -> Option<Timestamp> {
        let next = next.filter(|next| *next < window.last());
        next.or((!fired).then(|| window.last()))
    }

    fn event_time(
        &mut self,
        _: Timestamp,
        window: Window,
        now: Now,
        (next, fired): &mut Ticks,
    ) -> Firing {
        if now.watermark >= window.last() {
            (*next, *fired) = (None, true);
        } else {
            *next = Some(next_multiple(now.watermark, self.0));
        }
        Firing::Fire
    }

    fn merge(&mut self, window: Window, now: Now, into: &mut Ticks, from: Ticks) {
        into.0 = into.0.iter().chain(&from.0).min().copied();
        into.1 = window.last() <= now.watermark;
    }

    fn is_fresh(&self, _: &Ticks) -> bool {
        true
    }

    fn check(&self) -> Result<(), String> {
        is_sensible("the interval of a trigger", self.0)
    }
}

/// Fires whenever the wall clock passes a multiple of an interval after a record, and at a window's
/// end, by the clock of the window: early results. Multiples that pass while the job is stopped
/// make it fire once.
///
/// ```
/// use std::time::Duration;
/// use snapline::connect::{Generator, MemorySink};
/// use snapline::{Dataflow, EveryProcessingTime, GlobalWindows, JobConfig, Timestamp, Trigger, Watermarks};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (flow, counts) = (Dataflow::new("calls"), MemorySink::new());
/// flow.source("calls", Generator::new(20, |number| number).rate(200))
///     .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
///     .key_by(|_| ())
///     .window(GlobalWindows)
///     // What has come in the last twenty milliseconds, and what is left at the end.
///     .trigger(EveryProcessingTime::new(Duration::from_millis(20)).purging())
///     .count()
///     .map(|window| window.result)
///     .sink("counts", counts.clone());
/// flow.build(JobConfig::new().parallelism(1))?.run()?;
/// assert!(counts.committed().len() > 1);
/// assert_eq!(counts.committed().iter().sum::<u64>(), 20);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EveryProcessingTime(Duration);

impl EveryProcessingTime {
    /// Sets the interval: a millisecond or more, and at most 10,000 years.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self(interval)
    }

    /// When a window fires next. One that uses the clock fires at its end at the latest.
    fn next(&self, window: Window, now: Now) -> Option<Timestamp> {
        let next = next_multiple(now.processing, self.0);
        match now.domain {
            TimeDomain::Event => Some(next),
            TimeDomain::Processing if now.processing >= window.end => None,
            TimeDomain::Processing => Some(next.min(window.end)),
        }
    }
}

impl Trigger for EveryProcessingTime {
    /// When it fires next by the clock; whether it has fired at event time's end, or will not.
    type State = (Option<Timestamp>, bool);

    const BY_CLOCK: bool = true;

    fn record(
        &mut self,
        _: Timestamp,
        window: Window,
        now: Now,
        (next, fired): &mut Ticks,
    ) -> Firing {
        match now.domain {
            TimeDomain::Event if window.last() <= now.watermark => {
                (*next, *fired) = (None, true);
                return Firing::Fire;
            }
            TimeDomain::Event => {}
            TimeDomain::Processing => *fired = true,
        }
        if next.is_none() {
            *next = self.next(window, now);
        }
        Firing::Wait
    }

    fn event_due(&self, window: Window, (_, fired): &Ticks) -> Option<Timestamp> {
        (!fired).then(|| window.last())
    }

    fn event_time(&mut self, _: Timestamp, _: Window, _: Now, state: &mut Ticks) -> Firing {
        *state = (None, true);
        Firing::Fire
    }

    fn processing_due(&self, _: Window, (next, _): &Ticks) -> Option<Timestamp> {
        *next
    }

    fn processing_time(
        &mut self,
        _: Timestamp,
        window: Window,
        now: Now,
        (next, fired): &mut Ticks,
    ) -> Firing {
        if now.processing == Timestamp::MAX {
            *next = None;
            // Event time comes to its end right after this.
            return if *fired { Firing::Fire } else { Firing::Wait };
        }
        *next = self.next(window, now);
        Firing::Fire
    }

    fn merge(&mut self, window: Window, now: Now, into: &mut Ticks, from: Ticks) {
        into.0 = into.0.iter().chain(&from.0).min().copied();
        into.1 = now.domain == TimeDomain::Processing || window.last() <= now.watermark;
    }

    fn is_fresh(&self, _: &Ticks) -> bool {
        true
    }

    fn check(&self) -> Result<(), String> {
        is_sensible("the interval of a trigger", self.0)
    }
}

/// Purges at each firing of another trigger: a result covers the records since the last.
#[derive(Clone, Copy, Debug)]
pub struct Purging<G>(pub G);

fn purging(firing: Firing) -> Firing {
    if firing.fires() { Firing::FireAndPurge } else { firing }
}

impl<G: Trigger> Trigger for Purging<G> {
    type State = G::State;

    const BY_CLOCK: bool = G::BY_CLOCK;

    #[inline]
    fn record(&mut self, at: Timestamp, window: Window, now: Now, state: &mut G::State) -> Firing {
        purging(self.0.record(at, window, now, state))
    }

    fn event_due(&self, window: Window, state: &G::State) -> Option<Timestamp> {
        self.0.event_due(window, state)
    }

    fn event_time(
        &mut self,
        at: Timestamp,
        window: Window,
        now: Now,
        state: &mut G::State,
    ) -> Firing {
        purging(self.0.event_time(at, window, now, state))
    }

    fn processing_due(&self, window: Window, state: &G::State) -> Option<Timestamp> {
        self.0.processing_due(window, state)
    }

    fn processing_time(
        &mut self,
        at: Timestamp,
        window: Window,
        now: Now,
        state: &mut G::State,
    ) -> Firing {
        purging(self.0.processing_time(at, window, now, state))
    }

    fn merge(&mut self, window: Window, now: Now, into: &mut G::State, from: G::State) {
        self.0.merge(window, now, into, from);
    }

    fn is_fresh(&self, state: &G::State) -> bool {
        self.0.is_fresh(state)
    }

    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}
