//! State that expires, over restores, with a clock that is moved (SPEC 16.13).

use super::*;
use crate::base::error::BoxError;
use crate::dataflow::keyed::ByFirst;
use crate::dataflow::{Between, Distinct, Expiring, IntervalJoin};

const HOUR: u64 = 3_600_000;

/// Results, as they come.
struct Collected<T>(Vec<T>);

impl<T> Collect<Timed<T>> for Collected<T> {
    fn push(&mut self, record: Timed<T>) {
        self.0.push(record.value);
    }

    fn fail(&mut self, error: BoxError) {
        panic!("{error}");
    }
}

impl<T> Flow<Timed<T>> for Collected<T> {
    fn mark(&mut self, _: Mark) {}
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An operator, a clock, and the output.
struct Bench<V, P: TimedProcess<u64, V>> {
    timers: KeyedTimers<(u64, V), ByFirst, P>,
    clock: Clock,
    out: Collected<P::Out>,
}

impl<V: Send + 'static, P: TimedProcess<u64, V>> Bench<V, P> {
    fn new(process: P) -> Self {
        Self::with(process, Clock::simulated(), Table::new(0..1, 1), Timestamp::MIN)
    }

    fn with(
        process: P,
        clock: Clock,
        table: Table<u64, Slot<P::State>>,
        watermark: Timestamp,
    ) -> Self {
        let mut timers = KeyedTimers::new(ByFirst, process);
        timers.clock = clock.clone();
        timers.adopt(table);
        timers.resume(watermark);
        Self { timers, clock, out: Collected(Vec::new()) }
    }

    /// Stops, and is restored with another function: its keys are written and read on the way.
    fn restart<Q: TimedProcess<u64, V, State = P::State>>(self, process: Q) -> Bench<V, Q> {
        self.restart_from(process, |slot| rmp_serde::to_vec_named(slot).expect("it can be written"))
    }

    fn restart_from<Q: TimedProcess<u64, V, State = P::State>>(
        mut self,
        process: Q,
        written: impl Fn(&Slot<P::State>) -> Vec<u8>,
    ) -> Bench<V, Q> {
        let mut table = Table::new(0..1, 1);
        for (key, slot) in self.timers.table.drain() {
            let read = rmp_serde::from_slice(&written(&slot)).expect("it can be read");
            table.insert(state::hash(&key), key, read);
        }
        Bench::with(process, self.clock, table, self.timers.watermark)
    }

    fn record(&mut self, key: u64, at: i64, value: V) {
        let at = Timestamp::from_millis(at);
        self.timers.push(Timed { at, value: (key, value) }, &mut self.out);
    }

    /// The clock advances by this much.
    fn wait(&mut self, millis: u64) -> &mut Self {
        self.clock.advance(ms(millis));
        let now = Timestamp::from(self.clock.date());
        while self.timers.wake().is_some_and(|due| due <= now) {
            self.timers.due(now, &mut self.out);
        }
        self
    }

    /// The watermark comes to a time.
    fn watermark(&mut self, at: i64) -> &mut Self {
        if self.timers.mark(Mark::Watermark(at), &mut self.out) == Ending::More {
            while self.timers.fire(&mut self.out) == Ending::More {}
        }
        self
    }

    fn keys(&self) -> usize {
        self.timers.table.len()
    }

    fn out(&mut self) -> Vec<P::Out> {
        std::mem::take(&mut self.out.0)
    }
}

/// Counts a key's records.
#[derive(Clone)]
struct Counts;

impl TimedProcess<u64, ()> for Counts {
    type State = u64;
    type Out = u64;

    fn process<C: Collect<u64>>(
        &mut self,
        (): (),
        seen: &mut TimeContext<'_, u64, u64>,
        out: &mut C,
    ) {
        **seen += 1;
        out.push(**seen);
    }
}

fn expiring(after: u64) -> Expiring<Counts> {
    Expiring::after(ms(after), Counts)
}

/// SPEC 16.13
#[test]
fn a_time_to_live_that_is_switched_off_over_a_restore_forgets_nothing() {
    let mut bench = Bench::new(expiring(HOUR));
    bench.record(7, 0, ());
    let mut bench = bench.restart(Counts);
    bench.wait(10 * HOUR);
    assert_eq!(bench.keys(), 1);
    bench.record(7, 0, ());
    assert_eq!(bench.out(), [2]);
    // A record that came without a time to live is not taken for an older one when there is one
    // again.
    let mut bench = bench.restart(expiring(HOUR));
    bench.wait(HOUR - 1);
    assert_eq!(bench.keys(), 1);
    assert_eq!(bench.wait(1).keys(), 0);
}

/// SPEC 16.13
#[test]
fn a_time_to_live_that_is_switched_on_over_a_restore_counts_from_there() {
    let mut bench = Bench::new(Counts);
    bench.record(7, 0, ());
    bench.wait(10 * HOUR);
    let mut bench = bench.restart(expiring(HOUR));
    bench.wait(HOUR / 2);
    // It does not begin again with every restore.
    let mut bench = bench.restart(expiring(HOUR));
    bench.wait(HOUR / 2 - 1);
    assert_eq!(bench.keys(), 1);
    assert_eq!(bench.wait(1).keys(), 0, "no record has come");
    bench.record(7, 0, ());
    assert_eq!(bench.out(), [1]);
}

/// SPEC 16.13
#[test]
fn a_time_to_live_that_is_changed_over_a_restore_counts_from_the_last_record() {
    let begun = || {
        let mut bench = Bench::new(expiring(4 * HOUR));
        bench.record(7, 0, ());
        bench.wait(HOUR / 2);
        bench.record(7, 0, ());
        bench.wait(HOUR / 2);
        bench
    };
    let mut shorter = begun().restart(expiring(HOUR));
    assert_eq!(shorter.wait(HOUR / 2 - 1).keys(), 1);
    assert_eq!(shorter.wait(1).keys(), 0, "an hour after the last record");

    let mut shorter = begun().restart(expiring(1));
    shorter.record(7, 0, ());
    assert_eq!(shorter.out(), [1], "it was over before the restore");

    let mut longer = begun().restart(expiring(10 * HOUR));
    assert_eq!(longer.wait(10 * HOUR - HOUR / 2 - 1).keys(), 1);
    assert_eq!(longer.wait(1).keys(), 0);

    let mut never = begun().restart(Expiring::after(Duration::MAX, Counts));
    never.wait(1_000 * HOUR);
    never.record(7, 0, ());
    assert_eq!(never.out(), [3]);
}

/// A key in a checkpoint of an older build: when its state was to expire.
#[derive(Serialize)]
struct Deadlines<S> {
    state: S,
    live: bool,
    event: Vec<Timestamp>,
    processing: Vec<Timestamp>,
    expires: Option<(Timestamp, Timestamp)>,
}

/// SPEC 16.13
#[test]
fn a_checkpoint_that_has_deadlines_is_read_with_the_time_to_live_that_there_is() {
    let old = |slot: &Slot<u64>| {
        // It was written when the time to live was four hours, and the last record an hour old.
        let until = slot.last().map(|last| last + ms(4 * HOUR));
        let old = Deadlines {
            state: slot.state,
            live: slot.live,
            event: slot.event.clone(),
            processing: slot.processing.clone(),
            expires: until.map(|until| (until, until)),
        };
        rmp_serde::to_vec_named(&old).expect("it can be written")
    };
    let begun = || {
        let mut bench = Bench::new(expiring(4 * HOUR));
        bench.record(7, 0, ());
        bench.wait(HOUR);
        bench
    };
    let ends = |mut bench: Bench<(), Expiring<Counts>>, after: u64| {
        assert_eq!(bench.wait(after - 1).keys(), 1);
        assert_eq!(bench.wait(1).keys(), 0);
    };
    ends(begun().restart_from(expiring(4 * HOUR), old), 3 * HOUR);
    // The time to live that it had is unknown: the last record came at the restore at the latest.
    ends(begun().restart_from(expiring(HOUR), old), HOUR);
    ends(begun().restart_from(expiring(10 * HOUR), old), 3 * HOUR);
    let mut off = begun().restart_from(Counts, old);
    assert_eq!(off.wait(100 * HOUR).keys(), 1);
    // The supplied time is kept: a second restore does not begin again.
    let mut twice = begun().restart_from(expiring(HOUR), old);
    twice.wait(HOUR / 2);
    ends(twice.restart(expiring(HOUR)), HOUR / 2);
}

fn distinct(memory: u64) -> Distinct {
    Distinct { memory: ms(memory) }
}

/// SPEC 16.13
#[test]
fn a_memory_that_is_changed_over_a_restore_counts_from_the_record_that_was_let_through() {
    let begun = || {
        let mut bench = Bench::new(distinct(100));
        bench.record(7, 10, 'a');
        bench.watermark(50);
        bench.record(7, 60, 'b');
        assert_eq!(bench.out(), ['a']);
        bench
    };
    let mut same = begun().restart(distinct(100));
    assert_eq!((same.watermark(109).keys(), same.watermark(110).keys()), (1, 0));

    let mut shorter = begun().restart(distinct(45));
    assert_eq!((shorter.watermark(54).keys(), shorter.watermark(55).keys()), (1, 0));
    let mut shorter = begun().restart(distinct(5));
    assert_eq!(shorter.watermark(50).keys(), 0, "it was over before the restore");
    shorter.record(7, 61, 'c');
    shorter.record(7, 62, 'd');
    assert_eq!(shorter.out(), ['c']);
    assert_eq!((shorter.watermark(65).keys(), shorter.watermark(66).keys()), (1, 0));

    let mut longer = begun().restart(distinct(1_000));
    assert_eq!((longer.watermark(1_009).keys(), longer.watermark(1_010).keys()), (1, 0));
    let mut never = begun().restart(Distinct { memory: Duration::MAX });
    never.watermark(i64::MAX - 1).record(7, 61, 'c');
    assert_eq!(never.out(), [] as [char; 0]);

    // A checkpoint of an older build holds the end alone.
    let old = |slot: &Slot<bool>| {
        let (state, event) = (slot.state, slot.event.clone());
        let old = Deadlines { state, live: true, event, processing: Vec::new(), expires: None };
        rmp_serde::to_vec_named(&old).expect("it can be written")
    };
    let mut old = begun().restart_from(distinct(1_000), old);
    assert_eq!((old.watermark(109).keys(), old.watermark(110).keys()), (1, 0));
}

type Joins = Both<IntervalJoin<(i64, i64), fn(&u64, &i64, &i64) -> (i64, i64)>>;

fn joins(after: u64) -> Joins {
    Both(IntervalJoin::new(Between::after(ms(0), ms(after)), |_, left, right| (*left, *right)))
}

/// SPEC 16.12
#[test]
fn a_join_whose_bounds_are_changed_over_a_restore_forgets_by_the_new_ones() {
    let begun = || {
        let mut bench = Bench::new(joins(100));
        bench.record(7, 10, Either::<i64, i64>::Left(10));
        bench.watermark(50);
        bench
    };
    let mut same = begun().restart(joins(100));
    assert_eq!((same.watermark(109).keys(), same.watermark(110).keys()), (1, 0));
    let mut shorter = begun().restart(joins(60));
    assert_eq!((shorter.watermark(69).keys(), shorter.watermark(70).keys()), (1, 0));
    let mut longer = begun().restart(joins(500));
    longer.watermark(200).record(7, 201, Either::Right(201));
    assert_eq!(longer.out(), [Timed { at: Timestamp::from_millis(201), value: (10, 201) }]);
    assert_eq!((longer.watermark(509).keys(), longer.watermark(510).keys()), (1, 0));
}

/// A key's slot as it was before its times were packed.
#[derive(Serialize)]
struct Wide {
    state: u64,
    live: bool,
    event: Vec<Timestamp>,
    processing: Vec<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<(Timestamp, Timestamp)>,
}

#[test]
fn a_slot_is_small_and_written_as_it_was() {
    let words = |size: usize| size / size_of::<u64>();
    assert_eq!(words(size_of::<Wide>()), 15);
    // The state, whether it lives, two lists, and a word for each of the four times.
    assert_eq!(words(size_of::<Slot<u64>>()), 12);
    let times = [None, Some(i64::MIN + 1), Some(-1), Some(0), Some(1_500), Some(i64::MAX)];
    let times = times.map(|time| time.map(Timestamp::from_millis));
    for last in times {
        for since in times {
            for expires in times.map(|time| time.map(|time| (time, time + ms(1)))) {
                let event = vec![Timestamp::from_millis(7)];
                let (state, live, processing) = (3, true, Vec::new());
                let wide =
                    Wide { state, live, event: event.clone(), processing, last, since, expires };
                let slot = Slot {
                    state,
                    live,
                    event,
                    processing: Vec::new(),
                    last: last.map(Kept::from),
                    since: since.map(Kept::from),
                    expires: expires.map(Box::new),
                    look: None,
                };
                let (mut was, mut is) = (Vec::new(), Vec::new());
                state::codec::write(&wide, &mut was).expect("it can be written");
                state::codec::write(&slot, &mut is).expect("it can be written");
                assert_eq!(was, is);
                assert_eq!(state::codec::read::<Slot<u64>>(&is).expect("it can be read"), slot);
            }
        }
    }
    assert_eq!(Timestamp::from(Kept::from(Timestamp::MIN)).millis(), i64::MIN + 1);
}
