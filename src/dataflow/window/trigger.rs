//! When windows fire (SPEC 16.9).

use std::time::Duration;

use crate::dataflow::window::{TimeDomain, Window, begin, is_sensible};
use crate::operator::time::Timestamp;
use crate::state::StateValue;

/// What a trigger does with a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firing {
    /// Nothing.
    Wait,
    /// Its result is emitted; what it holds stays.
    Fire,
    /// What it holds is forgotten.
    Purge,
    /// Its result is emitted, and what it holds is forgotten.
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

/// What time it is for a trigger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Which clock the windows go by.
    pub domain: TimeDomain,
    /// How far event time has come; [`Timestamp::MAX`] at the end of the input.
    pub watermark: Timestamp,
    /// What the clock on the wall shows; [`Timestamp::MIN`] unless the windows or the trigger go by it ([`Trigger::BY_CLOCK`]), and
    /// [`Timestamp::MAX`] when it is asked for the last time, because the input has ended (SPEC 16.7).
    pub processing: Timestamp,
}

/// When windows fire. What it remembers of a window is in every checkpoint.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no trigger",
    note = "global windows have no end at which they could fire: give them a trigger, with `trigger(...)`"
)]
pub trait Trigger: Clone + Send + 'static {
    /// What it remembers of a window.
    type State: StateValue + Default;

    /// Whether it asks what the clock on the wall shows though the windows go by event time: reading it costs some nanoseconds for each record.
    const BY_CLOCK: bool = false;

    /// A record was put into a window.
    fn record(
        &mut self,
        at: Timestamp,
        window: Window,
        now: Now,
        state: &mut Self::State,
    ) -> Firing;

    /// When [`Trigger::event_time`] is to be called for a window next.
    fn event_due(&self, window: Window, state: &Self::State) -> Option<Timestamp> {
        let _ = (window, state);
        None
    }

    /// The watermark has come to the time that was asked for, or past it: `now` says how far. What is asked for next must be later.
    ///
    /// At the end of a bounded input the watermark comes to the end of time. In a window without end, a trigger that always asks for another
    /// time lets such a job go on without end: let it ask for none when the watermark is [`Timestamp::MAX`].
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

    /// When [`Trigger::processing_time`] is to be called for a window next.
    fn processing_due(&self, window: Window, state: &Self::State) -> Option<Timestamp> {
        let _ = (window, state);
        None
    }

    /// The clock on the wall has come to the time that was asked for, or past it: `now` says how far. What is asked for next must be later.
    ///
    /// If the input ends before, it is called then, once, and what it asks for behind that is not (SPEC 16.7).
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

    /// Two windows have become one, `window`; `into` is to remember what both did.
    fn merge(&mut self, window: Window, now: Now, into: &mut Self::State, from: Self::State);

    /// Whether it would do nothing else if it remembered nothing of a window that holds nothing. Then a window without end is forgotten when
    /// it is purged, and its key with it; else it stays for ever.
    fn is_fresh(&self, state: &Self::State) -> bool {
        let _ = state;
        false
    }

    /// The same, but its windows forget what they hold when they fire: [`Purging`].
    fn purging(self) -> Purging<Self> {
        Purging(self)
    }

    /// Whether it can fire; asked when the dataflow is built.
    ///
    /// # Errors
    /// What is wrong with it, in words: the job is refused with [`crate::BuildError::Window`].
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What is where a trigger would be, behind windows that have none of their own: [`crate::GlobalWindows`].
#[derive(Clone, Copy, Debug)]
pub struct NoTrigger;

/// Fires when the watermark comes to a window's last millisecond, and with each record that comes behind that. A window without end fires at
/// the end of the input.
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

/// Fires when the clock on the wall comes to a window's end.
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

/// Fires with every so many records, and not at a window's end.
#[derive(Clone, Copy, Debug)]
pub struct EveryRecords(u64);

/// With how many records a window may fire at most: with more it would not in a lifetime.
const MOST_RECORDS: u64 = 1_000_000_000_000;

impl EveryRecords {
    /// With every `count` records, one or more, and at most 1,000,000,000,000.
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
            0 => Err("a window cannot fire with every zero records".to_owned()),
            1..=MOST_RECORDS => Ok(()),
            count => Err(format!(
                "a window fires with every {MOST_RECORDS} records at most, not with every {count}"
            )),
        }
    }
}

/// The first multiple of an interval behind a time.
fn next_multiple(behind: Timestamp, interval: Duration) -> Timestamp {
    Timestamp::from_millis(begin(behind, Duration::ZERO, interval)) + interval
}

/// What the triggers below remember of a window: when it fires next before its end, and whether it has fired at its end, or will not.
type Ticks = (Option<Timestamp>, bool);

/// Fires whenever the watermark passes a multiple of an interval behind a record, and at a window's end: results so far. Multiples that the
/// watermark passes in one leap make it fire once.
#[derive(Clone, Copy, Debug)]
pub struct EveryEventTime(Duration);

impl EveryEventTime {
    /// Every so often, a millisecond or more, and at most 10,000 years.
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

/// Fires whenever the clock on the wall passes a multiple of an interval behind a record, and at a window's end, by the clock that the window
/// goes by: results so far. Multiples that pass while nobody looks, because the job was stopped, make it fire once.
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
    /// Every so often, a millisecond or more, and at most 10,000 years.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self(interval)
    }

    /// When a window fires next. One that goes by the clock fires at its end at the latest.
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
    /// When it fires next by the clock, and whether it has fired at the end of event time, or will not.
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
            // Event time comes to its end right behind this.
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

/// Another trigger, whose windows forget what they hold when they fire: each result is of the records since the last.
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
