//! The operator by hand, with a clock that is moved.

use super::*;
use crate::dataflow::keyed::ByFirst;
use crate::dataflow::{
    AtEventTime, CountWindow, EveryProcessingTime, EveryRecords, GlobalWindows, Purging, Tumbling,
};

/// Results, as they come.
#[derive(Default)]
struct Collected(Vec<u64>);

impl Collect<Timed<crate::dataflow::Windowed<u64, u64>>> for Collected {
    fn push(&mut self, record: Timed<crate::dataflow::Windowed<u64, u64>>) {
        self.0.push(record.value.result);
    }

    fn fail(&mut self, error: BoxError) {
        panic!("{error}");
    }
}

impl Flow<Timed<crate::dataflow::Windowed<u64, u64>>> for Collected {
    fn mark(&mut self, _: Mark) {}
}

type Counts<W, G> = Windows<(u64, u64), ByFirst, W, G, CountWindow, DropLate>;

struct Bench<W, G>
where
    W: WindowAssigner,
    G: Trigger,
{
    windows: Counts<W, G>,
    clock: Clock,
    out: Collected,
}

impl<W: WindowAssigner, G: Trigger> Bench<W, G> {
    fn new(assigner: W, trigger: G) -> Self {
        let clock = Clock::simulated();
        let mut windows = Windows::new(ByFirst, assigner, trigger, CountWindow, Duration::ZERO);
        windows.table = Table::new(0..1, 1);
        windows.clock = clock.clone();
        Self { windows, clock, out: Collected::default() }
    }

    fn record(&mut self, key: u64) {
        let at = Timestamp::from_millis(0);
        self.windows.push(Timed { at, value: (key, 0) }, &mut self.out);
    }

    /// The windows that fire when the clock advances.
    fn wait(&mut self, millis: u64) -> Vec<u64> {
        self.clock.advance(Duration::from_millis(millis));
        let now = Timestamp::from(self.clock.date());
        if self.windows.wake().is_some_and(|due| due <= now) {
            self.windows.due(now, &mut self.out);
        }
        std::mem::take(&mut self.out.0)
    }

    fn end(&mut self) -> Vec<u64> {
        while self.windows.end(&mut self.out) == Ending::More {}
        std::mem::take(&mut self.out.0)
    }
}

const EVERY_TEN: EveryProcessingTime = EveryProcessingTime::new(Duration::from_millis(10));

/// SPEC 16.9, 16.15
#[test]
fn a_window_without_end_fires_with_the_clock_and_at_the_end_of_the_input() {
    let mut bench = Bench::new(GlobalWindows, EVERY_TEN);
    bench.wait(3);
    bench.record(7);
    assert_eq!(bench.wait(6), [] as [u64; 0], "at 9");
    bench.record(7);
    assert_eq!(bench.wait(1), [2], "at 10");
    assert_eq!(bench.wait(10), [2], "at 20, though nothing has come");
    bench.record(7);
    assert_eq!(bench.wait(75), [3], "at 95: once for all that passed");
    assert_eq!((bench.wait(4), bench.wait(1)), (vec![], vec![3]), "at 99, at 100");
    bench.record(7);
    assert_eq!(bench.end(), [4]);
}

/// SPEC 16.9, 16.15
#[test]
fn a_purged_window_without_end_is_forgotten_with_its_key() {
    let mut bench = Bench::new(GlobalWindows, EVERY_TEN.purging());
    (0..5).for_each(|key| bench.record(key));
    bench.record(0);
    assert_eq!(bench.windows.table.len(), 5);
    let mut fired = bench.wait(10);
    fired.sort_unstable();
    assert_eq!(fired, [1, 1, 1, 1, 2]);
    assert!(bench.windows.table.is_empty() && bench.windows.wake().is_none());
    assert_eq!(bench.wait(1_000), [] as [u64; 0]);
    bench.record(3);
    assert_eq!(bench.windows.wake(), Some(Timestamp::from_millis(1_020)));
    assert_eq!((bench.wait(10), bench.end()), (vec![1], vec![]));

    let mut bench = Bench::new(GlobalWindows, Purging(EveryRecords::new(2)));
    [1, 2, 3, 1, 2].into_iter().for_each(|key| bench.record(key));
    assert_eq!((bench.windows.table.len(), bench.out.0.len()), (1, 2), "3 has one record");
    assert_eq!(bench.windows.wake(), None);
    // Without purging, contents stay.
    let mut bench = Bench::new(GlobalWindows, EveryRecords::new(2));
    [1, 2, 3, 1, 2].into_iter().for_each(|key| bench.record(key));
    assert_eq!(bench.windows.table.len(), 3);
}

/// SPEC 16.9
#[test]
fn a_window_by_the_clock_fires_between_and_at_its_end_by_the_clock_only() {
    let length = Duration::from_millis(25);
    let mut bench = Bench::new(Tumbling::of(length).by_processing_time(), EVERY_TEN);
    bench.record(1);
    // The records' times do not matter to it, nor does the watermark.
    bench.windows.mark(Mark::Watermark(1_000), &mut bench.out);
    assert_eq!(bench.wait(10), [1]);
    bench.record(1);
    assert_eq!((bench.wait(10), bench.wait(4)), (vec![2], vec![]), "at 20, at 24");
    // Its last millisecond is not over: one more record comes into it, and one that is the first of
    // its window.
    bench.record(1);
    bench.record(2);
    let mut fired = bench.wait(1);
    fired.sort_unstable();
    assert_eq!(fired, [1, 3], "at 25");
    assert!(bench.windows.table.is_empty());
    bench.record(1);
    bench.record(1);
    assert_eq!(bench.end(), [2], "once");
}

/// SPEC 16.9
#[test]
fn a_window_of_event_time_fires_with_the_clock_and_when_the_watermark_comes_to_its_end() {
    let mut bench = Bench::new(Tumbling::of(Duration::from_millis(25)), EVERY_TEN);
    bench.record(1);
    assert_eq!(bench.wait(10), [1]);
    bench.record(1);
    bench.windows.mark(Mark::Watermark(24), &mut bench.out);
    assert_eq!(bench.wait(0), [2]);
    assert_eq!((bench.wait(50), bench.end()), (vec![], vec![]));
}

/// SPEC 16.10
#[test]
fn windows_are_kept_as_long_as_the_allowed_lateness_of_the_job_that_was_restored() {
    let kept = |before: u64, now: u64| {
        let (tumbling, length) = (AtEventTime, Tumbling::of(Duration::from_millis(25)));
        let mut bench = Bench::new(length, tumbling);
        bench.windows.lateness = Duration::from_millis(before);
        bench.record(1);
        bench.windows.mark(Mark::Watermark(30), &mut bench.out);
        let mut table = Table::new(0..1, 1);
        for (key, panes) in bench.windows.table.drain() {
            let bytes = rmp_serde::to_vec_named(&panes).expect("it can be written");
            let read = rmp_serde::from_slice(&bytes).expect("it can be read");
            table.insert(state::hash(&key), key, read);
        }
        let mut bench = Bench::new(length, tumbling);
        bench.windows.lateness = Duration::from_millis(now);
        bench.windows.adopt(table);
        bench.windows.resume(Timestamp::from_millis(30));
        (31..).find(|at| {
            bench.windows.mark(Mark::Watermark(*at), &mut bench.out);
            bench.windows.table.is_empty()
        })
    };
    assert_eq!(kept(100, 100), Some(124));
    assert_eq!(kept(100, 50), Some(74));
    assert_eq!(kept(100, 0), Some(31), "it was over before");
    assert_eq!(kept(100, 200), Some(224));
}
