//! The window operator (SPEC 16.8 to 16.10).
//!
//! Longer than 500 lines: one operator with shared fields.

use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::Clock;
use crate::base::either::Either;
use crate::base::error::BoxError;
use crate::base::fault::{Faults, Mutation};
use crate::dataflow::time::fires_by_both_clocks;
use crate::dataflow::time::timer_queue::TimerQueue;
use crate::dataflow::time::timers::FIRED_AT_ONCE;
use crate::dataflow::window::trigger::{Firing, Now, Trigger};
use crate::dataflow::window::{TimeDomain, Window, WindowAssigner, WindowFunction};
use crate::operator::chain::{Ending, Flow, Mark, OperatorChain, TaskContext};
use crate::operator::key::Keyer;
use crate::operator::time::{Timed, Timestamp};
use crate::state::{self, NamedImage, Restored, StateError, Table};
use snapline_core::connect::Collect;

/// Decides about records that come too late for all of their windows.
pub trait LateRule<K, V, R>: Clone + Send + 'static {
    /// The operator's output.
    type Out: Send + 'static;

    /// A window's result.
    fn result(result: R) -> Self::Out;

    /// A late record; `None` if it is dropped.
    fn late(key: K, value: V) -> Option<Self::Out>;
}

/// Drops late records, and counts them.
#[derive(Clone, Copy, Debug)]
pub struct DropLate;

impl<K, V, R: Send + 'static> LateRule<K, V, R> for DropLate {
    type Out = R;

    #[inline]
    fn result(result: R) -> R {
        result
    }

    fn late(_: K, _: V) -> Option<R> {
        None
    }
}

/// Emits late records beside the results.
#[derive(Clone, Copy, Debug)]
pub struct KeepLate;

impl<K, V, R> LateRule<K, V, R> for KeepLate
where
    K: Send + 'static,
    V: Send + 'static,
    R: Send + 'static,
{
    type Out = Either<R, (K, V)>;

    #[inline]
    fn result(result: R) -> Self::Out {
        Either::Left(result)
    }

    fn late(key: K, value: V) -> Option<Self::Out> {
        Some(Either::Right((key, value)))
    }
}

/// A window of a key: its contents, unless they were purged, and its trigger's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pane<H, S> {
    window: Window,
    held: Option<H>,
    trigger: S,
}

/// The windows of a key, by their starts, and the time at which the first of them is due.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Panes<H, S> {
    panes: Vec<Pane<H, S>>,
    event: Option<Timestamp>,
    processing: Option<Timestamp>,
}

impl<H, S> Default for Panes<H, S> {
    fn default() -> Self {
        Self { panes: Vec::new(), event: None, processing: None }
    }
}

/// Decides when windows are over: after this lateness, by this clock.
#[derive(Clone, Copy, Debug)]
struct Patience {
    domain: TimeDomain,
    lateness: Duration,
    /// The input has ended: nothing will be due by the clock any more.
    ended: bool,
}

impl Patience {
    /// The time at which a window is dropped; `None`: never (SPEC 16.15).
    fn end(self, window: Window) -> Option<Timestamp> {
        (!window.has_no_end()).then(|| match self.domain {
            TimeDomain::Event => window.last() + self.lateness,
            // The clock shows the last millisecond for as long as records may come into it.
            TimeDomain::Processing => window.end,
        })
    }

    /// Whether a time of one of the clocks is past a window.
    #[inline]
    fn is_past(self, window: Window, domain: TimeDomain, at: Timestamp) -> bool {
        self.domain == domain && self.end(window).is_some_and(|end| end <= at)
    }

    #[inline]
    fn is_over(self, window: Window, watermark: Timestamp) -> bool {
        self.is_past(window, TimeDomain::Event, watermark)
    }
}

impl<H, S> Panes<H, S> {
    /// Computes again when there is something to do.
    fn plan<G: Trigger<State = S>>(&mut self, trigger: &G, patience: Patience) {
        (self.event, self.processing) = self.planned(trigger, patience);
    }

    /// The time at which there is something to do.
    fn planned<G: Trigger<State = S>>(
        &self,
        trigger: &G,
        patience: Patience,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let end = |domain, window| patience.end(window).filter(|_| patience.domain == domain);
        let event = |pane: &Pane<H, S>| {
            let end = end(TimeDomain::Event, pane.window);
            trigger.event_due(pane.window, &pane.trigger).into_iter().chain(end).min()
        };
        let processing = |pane: &Pane<H, S>| {
            let end = end(TimeDomain::Processing, pane.window);
            trigger.processing_due(pane.window, &pane.trigger).into_iter().chain(end).min()
        };
        let by_clock = match patience.ended {
            false => self.panes.iter().filter_map(processing).min(),
            true => None,
        };
        (self.panes.iter().filter_map(event).min(), by_clock)
    }
}

impl<H, S> Pane<H, S> {
    /// Whether it can be dropped although it has no end (SPEC 16.15).
    fn is_void<G: Trigger<State = S>>(&self, trigger: &G) -> bool {
        self.held.is_none() && self.window.has_no_end() && trigger.is_fresh(&self.trigger)
    }
}

/// Collects results, with the time of their window.
struct Results<'a, C, L, K, V> {
    window: Window,
    out: &'a mut C,
    types: PhantomData<fn(L, K, V)>,
}

impl<C, L, K, V, R> Collect<R> for Results<'_, C, L, K, V>
where
    L: LateRule<K, V, R>,
    C: Collect<Timed<L::Out>>,
{
    #[inline]
    fn push(&mut self, result: R) {
        self.out.push(Timed { at: self.window.last(), value: L::result(result) });
    }

    fn fail(&mut self, error: BoxError) {
        self.out.fail(error);
    }
}

/// Puts a key's records into windows, and computes a function in them.
pub struct Windows<T, N, W, G, F, L>
where
    N: Keyer<T>,
    G: Trigger,
    F: WindowFunction<N::Key, N::Value>,
{
    keyer: N,
    assigner: W,
    rules: FiringRules<G, F, L>,
    lateness: Duration,
    /// For no key at all in the description that subtasks are cloned from.
    table: Table<N::Key, Panes<F::Held, G::State>>,
    event: TimerQueue<N::Key>,
    processing: TimerQueue<N::Key>,
    watermark: Timestamp,
    /// The input has ended: the remaining windows by the clock fire for the last time.
    ended: bool,
    late: u64,
    clock: Clock,
    operator: String,
    /// The windows of one record.
    assigned: Vec<Window>,
    records: PhantomData<fn(T)>,
    faults: Faults,
}

/// When windows fire, and the effect.
#[derive(Clone, Debug)]
struct FiringRules<G, F, L> {
    trigger: G,
    function: F,
    late: PhantomData<L>,
}

impl<G, F, L> FiringRules<G, F, L> {
    /// Does to a window as its trigger decides.
    fn obey<K, V, C>(
        &mut self,
        firing: Firing,
        key: &K,
        pane: &mut Pane<F::Held, G::State>,
        out: &mut C,
    ) where
        G: Trigger,
        F: WindowFunction<K, V>,
        L: LateRule<K, V, F::Out>,
        C: Flow<Timed<L::Out>>,
    {
        let window = pane.window;
        if let (true, Some(held)) = (firing.fires(), &pane.held) {
            let results = &mut Results::<C, L, K, V> { window, out, types: PhantomData };
            self.function.fire(key, window, held, results);
        }
        if firing.purges() {
            pane.held = None;
        }
    }
}

/// Name of the operator's state in a snapshot.
const WINDOWS: &str = "windows";

impl<T, N, W, G, F, L> std::fmt::Debug for Windows<T, N, W, G, F, L>
where
    N: Keyer<T>,
    G: Trigger,
    F: WindowFunction<N::Key, N::Value>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Windows({})", self.operator)
    }
}

impl<T, N, W, G, F, L> Clone for Windows<T, N, W, G, F, L>
where
    N: Keyer<T>,
    W: WindowAssigner,
    G: Trigger,
    F: WindowFunction<N::Key, N::Value>,
{
    fn clone(&self) -> Self {
        let FiringRules { trigger, function, .. } = &self.rules;
        let (assigner, trigger) = (self.assigner.clone(), trigger.clone());
        Self::new(self.keyer.clone(), assigner, trigger, function.clone(), self.lateness)
    }
}

impl<T, N, W, G, F, L> Windows<T, N, W, G, F, L>
where
    N: Keyer<T>,
    W: WindowAssigner,
    G: Trigger,
    F: WindowFunction<N::Key, N::Value>,
{
    pub(crate) fn new(keyer: N, assigner: W, trigger: G, function: F, lateness: Duration) -> Self {
        Self {
            keyer,
            assigner,
            rules: FiringRules { trigger, function, late: PhantomData },
            lateness,
            table: Table::new(0..0, 1),
            event: TimerQueue::default(),
            processing: TimerQueue::default(),
            watermark: Timestamp::MIN,
            ended: false,
            late: 0,
            clock: Clock::default(),
            operator: String::new(),
            assigned: Vec::new(),
            records: PhantomData,
            faults: Faults::default(),
        }
    }

    fn patience(&self) -> Patience {
        let (domain, lateness) = (self.assigner.domain(), self.lateness);
        Patience { domain, lateness, ended: self.ended }
    }

    #[inline]
    fn now(&self) -> Now {
        let domain = self.assigner.domain();
        let processing = match domain {
            TimeDomain::Event if !G::BY_CLOCK => Timestamp::MIN,
            _ => Timestamp::from(self.clock.date()),
        };
        Now { domain, watermark: self.watermark, processing }
    }

    /// Keeps, of the windows that a record was assigned, those that are not over. A session that
    /// reaches one of the key's is part of that one.
    fn drop_over(&mut self, hash: u64, key: &N::Key) {
        let (patience, watermark) = (self.patience(), self.watermark);
        let Self { assigned, assigner, table, .. } = self;
        if !assigned.iter().any(|window| patience.is_over(*window, watermark)) {
            return;
        }
        let there = if assigner.merges() { table.get(hash, key) } else { None };
        let meets = |window: &Window| {
            there.is_some_and(|there| there.panes.iter().any(|pane| pane.window.meets(window)))
        };
        assigned.retain(|window| !patience.is_over(*window, watermark) || meets(window));
    }

    /// Handles all windows of a key that are due at a time of one of the clocks.
    fn fire_key<C>(
        &mut self,
        domain: TimeDomain,
        now: Now,
        (at, hash, key): (Timestamp, u64, N::Key),
        out: &mut C,
    ) where
        L: LateRule<N::Key, N::Value, F::Out>,
        C: Flow<Timed<L::Out>>,
    {
        let patience = self.patience();
        // At the end of the input all remaining windows are due by the clock.
        let at = if domain == TimeDomain::Processing && self.ended { Timestamp::MAX } else { at };
        let Self { rules, table, event, processing, .. } = self;
        // A key in a timer queue has windows.
        let Some(all) = table.get_mut(hash, &key) else { return };
        let mut before = (all.event, all.processing);
        match domain {
            TimeDomain::Event => before.0 = None,
            TimeDomain::Processing => before.1 = None,
        }
        all.panes.retain_mut(|pane| {
            let (window, trigger) = (pane.window, &mut rules.trigger);
            let due = match domain {
                TimeDomain::Event => trigger.event_due(window, &pane.trigger),
                TimeDomain::Processing => trigger.processing_due(window, &pane.trigger),
            };
            if let Some(due) = due.filter(|due| *due <= at) {
                let firing = match domain {
                    TimeDomain::Event => trigger.event_time(due, window, now, &mut pane.trigger),
                    TimeDomain::Processing => {
                        trigger.processing_time(due, window, now, &mut pane.trigger)
                    }
                };
                rules.obey(firing, &key, pane, out);
                let next = match domain {
                    TimeDomain::Event => rules.trigger.event_due(window, &pane.trigger),
                    TimeDomain::Processing if patience.ended => None,
                    TimeDomain::Processing => rules.trigger.processing_due(window, &pane.trigger),
                };
                // It would be called for ever.
                assert!(next.is_none_or(|next| next > due), "a trigger asks for {due} again");
            }
            !patience.is_past(window, domain, at) && !pane.is_void(&rules.trigger)
        });
        all.plan(&rules.trigger, patience);
        event.change(hash, &key, before.0, all.event);
        processing.change(hash, &key, before.1, all.processing);
        if all.panes.is_empty() {
            table.remove(hash, &key);
        }
    }

    /// Takes over the keys of a checkpoint, and computes when each is due: the allowed lateness and
    /// the trigger may have changed since.
    fn adopt(&mut self, mut table: Table<N::Key, Panes<F::Held, G::State>>) {
        let (trigger, patience) = (&self.rules.trigger, self.patience());
        let changed = table.iter().filter(|(_, panes)| {
            panes.planned(trigger, patience) != (panes.event, panes.processing)
        });
        let changed: Vec<N::Key> = changed.map(|(key, _)| key.clone()).collect();
        let seed = table.seed();
        for key in changed {
            if let Some(panes) = table.get_mut(seed.hash(&key), &key) {
                panes.plan(trigger, patience);
            }
        }
        for (key, panes) in table.iter() {
            let hash = seed.hash(key);
            self.event.change(hash, key, None, panes.event);
            self.processing.change(hash, key, None, panes.processing);
        }
        self.table = table;
    }

    /// Fires what is due by the watermark, a limited number at a time.
    fn fire_event_time<C>(&mut self, out: &mut C) -> Ending
    where
        L: LateRule<N::Key, N::Value, F::Out>,
        C: Flow<Timed<L::Out>>,
    {
        let now = self.now();
        for _ in 0..FIRED_AT_ONCE {
            let Some(due) = self.event.pop(self.watermark) else { return Ending::Done };
            self.fire_key(TimeDomain::Event, now, due, out);
        }
        Ending::More
    }

    /// Fires what is due by the clock, a limited number at a time.
    fn fire_processing_time<C>(&mut self, until: Timestamp, out: &mut C) -> Ending
    where
        L: LateRule<N::Key, N::Value, F::Out>,
        C: Flow<Timed<L::Out>>,
    {
        let processing = if self.ended { Timestamp::MAX } else { until };
        let now = Now { domain: self.assigner.domain(), watermark: self.watermark, processing };
        for _ in 0..FIRED_AT_ONCE {
            let Some(due) = self.processing.pop(until) else { return Ending::Done };
            self.fire_key(TimeDomain::Processing, now, due, out);
        }
        Ending::More
    }
}

/// The place of a window among a key's; it is added if missing. Those that it meets become one with
/// it, if windows merge.
fn pane<'a, H, S, G, M>(
    all: &'a mut Vec<Pane<H, S>>,
    window: Window,
    merging: Option<(&mut G, Now, M)>,
) -> (&'a mut Pane<H, S>, bool)
where
    S: Default,
    G: Trigger<State = S>,
    M: FnMut(&mut H, H),
{
    let Some((trigger, now, mut merge)) = merging else {
        // Mostly it is the last.
        let place = match all.last() {
            Some(last) if last.window == window => Ok(all.len() - 1),
            _ => all.binary_search_by_key(&window, |pane| pane.window),
        };
        return match place {
            Ok(place) => (&mut all[place], false),
            Err(place) => {
                all.insert(place, Pane { window, held: None, trigger: S::default() });
                (&mut all[place], true)
            }
        };
    };
    let first = all.iter().position(|pane| pane.window.meets(&window));
    let Some(first) = first else {
        let place = all.partition_point(|pane| pane.window < window);
        all.insert(place, Pane { window, held: None, trigger: S::default() });
        return (&mut all[place], true);
    };
    let behind = first + all[first..].iter().take_while(|pane| pane.window.meets(&window)).count();
    let whole = all[first..behind].iter().fold(window, |whole, pane| whole.cover(&pane.window));
    if whole == all[first].window {
        return (&mut all[first], false);
    }
    let mut one = Pane { window: whole, held: None::<H>, trigger: S::default() };
    for pane in all.drain(first..behind) {
        trigger.merge(whole, now, &mut one.trigger, pane.trigger);
        match (&mut one.held, pane.held) {
            (Some(held), Some(later)) => merge(held, later),
            (held @ None, later) => *held = later,
            (Some(_), None) => {}
        }
    }
    all.insert(first, one);
    (&mut all[first], true)
}

impl<T, N, W, G, F, L> OperatorChain for Windows<T, N, W, G, F, L>
where
    T: Send + 'static,
    N: Keyer<T>,
    N::Value: Clone,
    W: WindowAssigner,
    G: Trigger,
    F: WindowFunction<N::Key, N::Value>,
    L: LateRule<N::Key, N::Value, F::Out>,
{
    type In = Timed<T>;
    type Out = Timed<L::Out>;

    #[inline]
    fn push<C: Flow<Self::Out>>(&mut self, record: Timed<T>, out: &mut C) {
        let Timed { at, value } = record;
        let hash = self.keyer.hash(self.table.seed(), &value);
        let (key, value) = self.keyer.split(value);
        let (now, patience) = (self.now(), self.patience());
        let time = match patience.domain {
            TimeDomain::Event => at,
            TimeDomain::Processing => now.processing,
        };
        self.assigned.clear();
        self.assigner.assign(time, &mut self.assigned);
        self.drop_over(hash, &key);
        if self.assigned.is_empty() {
            // A record in no window at all, between two of them, is not late for that.
            let late = patience.domain == TimeDomain::Event && at + self.lateness <= self.watermark;
            let late = late && !self.faults.is_active(Mutation::LateSwallowed);
            if late {
                match L::late(key, value) {
                    Some(value) => out.push(Timed { at, value }),
                    None => self.late += 1,
                }
            }
            return;
        }
        let Self { assigner, rules, table, event, processing, assigned, .. } = self;
        let merges = assigner.merges();
        let (key, all) = table.entry_pair(hash, key, Panes::default);
        let (mut changed, mut purged) = (false, false);
        let mut value = Some(value);
        for (number, &window) in assigned.iter().enumerate() {
            let FiringRules { trigger, function, .. } = rules;
            let merging = merges
                .then_some((trigger, now, |held: &mut F::Held, later| function.merge(held, later)));
            let (pane, new) = pane(&mut all.panes, window, merging);
            let value = match number + 1 < assigned.len() {
                true => value.clone(),
                false => value.take(),
            };
            // The last window takes the value itself.
            let value = value.expect("there is a value for each window");
            rules.function.add(pane.held.get_or_insert_default(), value);
            let trigger = &mut rules.trigger;
            let window = pane.window;
            let due = |trigger: &G, state: &G::State| {
                (trigger.event_due(window, state), trigger.processing_due(window, state))
            };
            let before = due(trigger, &pane.trigger);
            let firing = trigger.record(time, window, now, &mut pane.trigger);
            changed |= new || before != due(trigger, &pane.trigger);
            purged |= firing.purges();
            rules.obey(firing, key, pane, out);
        }
        if purged {
            all.panes.retain(|pane| !pane.is_void(&rules.trigger));
        }
        if changed || all.panes.is_empty() {
            let before = (all.event, all.processing);
            all.plan(&rules.trigger, patience);
            event.change(hash, key, before.0, all.event);
            processing.change(hash, key, before.1, all.processing);
        }
        if all.panes.is_empty() {
            let key = key.clone();
            table.remove(hash, &key);
        }
    }

    fires_by_both_clocks!();

    fn open(
        &mut self,
        context: &TaskContext,
        restored: Option<&mut Restored<'_>>,
    ) -> Result<(), StateError> {
        let place = &context.place;
        let groups = state::groups_of(place.index, place.parallelism, context.key_groups);
        let mut table: Table<N::Key, Panes<F::Held, G::State>> =
            Table::seeded(groups, context.key_groups, context.seed);
        self.operator.clone_from(&place.operator);
        self.clock = place.clock.clone();
        if let Some(restored) = restored {
            table.restore(restored, &self.operator, WINDOWS)?;
        }
        self.faults = context.faults;
        let unfired = self.faults.is_active(Mutation::FiringForgotten);
        if unfired || self.faults.is_active(Mutation::HeldForgotten) {
            let all: Vec<_> = table.drain().collect();
            for (key, mut panes) in all {
                panes.panes.iter_mut().for_each(|pane| match unfired {
                    true => pane.trigger = G::State::default(),
                    false => pane.held = None,
                });
                panes.plan(&self.rules.trigger, self.patience());
                table.insert(context.seed.hash(&key), key, panes);
            }
        }
        if self.faults.is_active(Mutation::TimersForgotten) {
            self.table = table;
            return Ok(());
        }
        self.adopt(table);
        if self.faults.is_active(Mutation::ClockTimersForgotten) {
            self.processing = TimerQueue::default();
        }
        Ok(())
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        images.push(NamedImage {
            operator: self.operator.clone(),
            state: WINDOWS.into(),
            image: self.table.freeze(),
        });
        Ok(())
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests;
