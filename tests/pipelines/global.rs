//! Global windows, and triggers that fire repeatedly, under random failures (SPEC 16.15).
//!
//! A count trigger fires with the same records whatever happens, if the records come from one
//! producer. With several producers, or triggers by time, the windows are purged and their content
//! is emitted record by record. Then every record is in exactly one result.

use std::collections::BTreeMap;

use proptest::prelude::*;
use snapline::connect::{Collect, MemorySource};
use snapline::{
    Dataflow, Emitter, EveryEventTime, EveryProcessingTime, EveryRecords, Firing, GlobalWindows,
    Now, Timestamp, Trigger, Tumbling, Watermarks, Window,
};

use crate::planned_failures::{Place, WildSource};
use crate::shape::Record;
use crate::timed::{Reading, SLACK, ms, often_struck, readings, sources, wild};
use crate::{Mode, World, config, counted};

/// The computation.
#[derive(Clone, Debug)]
enum Work {
    /// Fires at this many readings of one producer, in order; with or without the readings before
    /// them.
    Batches {
        count: u64,
        purging: bool,
    },
    /// Aggregates of one producer's readings, fired after each interval of time, in steps that the
    /// readings state. The window is global and purged on firing, or tumbling with that length.
    Rounds {
        interval: i64,
        step: i64,
        length: Option<i64>,
    },
    /// A custom trigger: fires at each value of one producer that this divides, and at this many
    /// readings at most.
    Own(i64, u64),
    /// Readings of any producers. At the end of the input the trigger leaves no reading in a
    /// window.
    EventTime(i64),
    Clock(i64),
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        3 => (2u64..9, any::<bool>()).prop_map(|(count, purging)| Work::Batches { count, purging }),
        3 => (5i64..200, 1i64..40, prop::option::of(10i64..300))
            .prop_map(|(interval, step, length)| Work::Rounds { interval, step, length }),
        2 => (2i64..30, 2u64..9).prop_map(|(by, most)| Work::Own(by, most)),
        1 => (1i64..60).prop_map(Work::EventTime),
        1 => (1i64..6).prop_map(Work::Clock),
    ]
}

/// Fires and purges at a reading that asks for it, or at this many readings.
#[derive(Clone)]
struct Own(i64, u64);

impl Trigger for Own {
    /// Readings since it last fired.
    type State = u64;

    fn record(&mut self, at: Timestamp, _: Window, _: Now, since: &mut u64) -> Firing {
        *since += 1;
        if at.millis() % self.0 == 0 || *since == self.1 {
            *since = 0;
            return Firing::FireAndPurge;
        }
        Firing::Wait
    }

    fn merge(&mut self, _: Window, _: Now, into: &mut u64, from: u64) {
        *into += from;
    }

    fn is_fresh(&self, since: &u64) -> bool {
        *since == 0
    }
}

/// The order of values counts.
fn digest(values: &[Reading]) -> i64 {
    values.iter().fold(values.len() as i64, |digest, (_, at, value)| {
        digest.wrapping_mul(1_000_003).wrapping_add(at * 1_009 + value)
    })
}

fn single(reading: &Reading) -> Record {
    (reading.0, reading.1 * 1_009 + reading.2)
}

/// The results of a key's readings in batches, each of which ends where `is_last` holds.
fn batches(all: &[Reading], is_last: impl Fn(&Reading, usize) -> bool) -> Vec<i64> {
    let (mut results, mut first) = (Vec::new(), 0);
    for (place, reading) in all.iter().enumerate() {
        if is_last(reading, place + 1 - first) {
            results.push(digest(&all[first..=place]));
            first = place + 1;
        }
    }
    results
}

fn next_multiple(behind: i64, of: i64) -> i64 {
    behind - behind.rem_euclid(of) + of
}

/// Results of one producer's readings as its watermark advances: a key's windows as a list, by
/// their ends, with their content and next firing time.
fn rounds(
    all: &[Reading],
    key: u64,
    (interval, step): (i64, i64),
    length: Option<i64>,
) -> Vec<i64> {
    let (mut results, mut watermark, mut latest) = (Vec::new(), i64::MIN, i64::MIN);
    let mut open: BTreeMap<i64, (Vec<Reading>, i64)> = BTreeMap::new();
    let mut pass = |watermark: i64, open: &mut BTreeMap<i64, (Vec<Reading>, i64)>| {
        for (end, (held, next)) in open.iter_mut() {
            if (*next).min(end - 1) <= watermark {
                results.push(digest(held));
                *next = next_multiple(watermark.min(i64::MAX - interval), interval);
                if length.is_none() {
                    held.clear();
                }
            }
        }
        open.retain(|end, (held, _)| end - 1 > watermark && !held.is_empty());
    };
    for reading in all {
        let at = reading.1;
        if reading.0 == key {
            let end = length.map_or(i64::MAX, |length| next_multiple(at, length));
            let next = next_multiple(at.max(watermark), interval);
            open.entry(end).or_insert((Vec::new(), next)).0.push(*reading);
        }
        latest = latest.max(at);
        let said = latest - SLACK - 1;
        let said = said - said.rem_euclid(step);
        if said > watermark {
            watermark = said;
            pass(watermark, &mut open);
        }
    }
    pass(i64::MAX, &mut open);
    results
}

fn computed(work: &Work, inputs: &[Vec<Reading>]) -> Vec<Record> {
    let mut by_key: BTreeMap<u64, Vec<Reading>> = BTreeMap::new();
    for reading in &inputs[0] {
        by_key.entry(reading.0).or_default().push(*reading);
    }
    let results = |(&key, all): (&u64, &Vec<Reading>)| -> Vec<Record> {
        let results = match *work {
            Work::Batches { count, purging: true } => batches(all, |_, held| held as u64 == count),
            Work::Batches { count, .. } => {
                let ends = (1..=all.len() / count as usize).map(|number| number * count as usize);
                ends.map(|end| digest(&all[..end])).collect()
            }
            Work::Own(by, most) => {
                batches(all, |(_, at, _), held| at % by == 0 || held as u64 == most)
            }
            Work::Rounds { interval, step, length } => {
                rounds(&inputs[0], key, (interval, step), length)
            }
            Work::EventTime(_) | Work::Clock(_) => unreachable!("each reading is one"),
        };
        results.into_iter().map(|result| (key, result)).collect()
    };
    match work {
        Work::EventTime(_) | Work::Clock(_) => inputs.iter().flatten().map(single).collect(),
        _ => by_key.iter().flat_map(results).collect(),
    }
}

fn pipeline(flow: &Dataflow, world: &World, work: &Work, inputs: &[Vec<Reading>]) {
    let of_key = |reading: &Reading| reading.0;
    let faults = world.faults.clone();
    let strike = move |record: Record| faults.strike(Place::Rule).map(|()| record);
    let batch = |key: &u64, _: Window, values: &[Reading], out: &mut Emitter<Record>| {
        out.push((*key, digest(values)));
    };
    let each = |_: &u64, _: Window, values: &[Reading], out: &mut Emitter<Record>| {
        values.iter().for_each(|reading| out.push(single(reading)));
    };
    let sink = wild(world, 0);
    let one = || {
        let input = &world.case.inputs[0];
        let source = WildSource {
            records: MemorySource::new(inputs[0].clone()),
            chunk: input.chunk,
            pause: input.pause,
            faults: world.faults.clone(),
        };
        flow.source("in", source).parallelism(1)
    };
    let at = |reading: &Reading| Timestamp::from_millis(reading.1);
    match *work {
        Work::Batches { count, purging } => {
            let keyed = one().assign_timestamps(Watermarks::at_end(), at).key_by(of_key);
            match purging {
                true => keyed.count_window(count).process(batch).try_map(strike).sink("out", sink),
                false => {
                    let windows = keyed.window(GlobalWindows).trigger(EveryRecords::new(count));
                    windows.process(batch).try_map(strike).sink("out", sink);
                }
            }
        }
        Work::Own(by, most) => {
            let keyed = one().assign_timestamps(Watermarks::at_end(), at).key_by(of_key);
            let windows = keyed.window(GlobalWindows).trigger(Own(by, most));
            windows.process(batch).try_map(strike).sink("out", sink);
        }
        Work::Rounds { interval, step, length } => {
            let strategy = Watermarks::bounded(ms(SLACK)).in_steps_of(ms(step));
            let keyed = one().assign_timestamps(strategy, at).key_by(of_key);
            let trigger = EveryEventTime::new(ms(interval));
            match length {
                None => {
                    let windows = keyed.window(GlobalWindows).trigger(trigger.purging());
                    windows.process(batch).try_map(strike).sink("out", sink);
                }
                Some(length) => {
                    let windows = keyed.window(Tumbling::of(ms(length))).trigger(trigger);
                    windows.process(batch).try_map(strike).sink("out", sink);
                }
            }
        }
        Work::EventTime(interval) => {
            let windows = sources(flow, world, inputs).key_by(of_key).window(GlobalWindows);
            let windows = windows.trigger(EveryEventTime::new(ms(interval)).purging());
            windows.process(each).try_map(strike).sink("out", sink);
        }
        Work::Clock(interval) => {
            let windows = sources(flow, world, inputs).key_by(of_key).window(GlobalWindows);
            let windows = windows.trigger(EveryProcessingTime::new(ms(interval)).purging());
            windows.process(each).try_map(strike).sink("out", sink);
        }
    }
}

proptest! {
    #![proptest_config(config(32))]

    /// SPEC 16.9, 16.15
    #[test]
    fn whatever_happens_windows_without_end_fire_as_their_triggers_say(
        chance in often_struck(),
        work in work(),
        inputs in proptest::collection::vec(readings(), 1..3),
    ) {
        let expected = counted(&computed(&work, &inputs));
        let build = move |flow: &Dataflow, world: &World| pipeline(flow, world, &work, &inputs);
        let world = World::of(chance, 1, Mode::ExactlyOnce, build);
        world.run();
        prop_assert_eq!(counted(&world.sinks[0].committed()), expected);
    }
}
