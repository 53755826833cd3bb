//! Windows without end, and triggers that fire again and again, under random failures (SPEC 16.15).
//!
//! A trigger by count fires with the same records whatever happens, if these come from one producer. Where there are several, or time decides, the
//! windows are purged and what each held is emitted record by record: then every record is in exactly one result.

use std::collections::BTreeMap;

use proptest::prelude::*;
use snapline::connect::{Collect, MemorySource};
use snapline::{
    Dataflow, Emitter, EveryEventTime, EveryProcessingTime, EveryRecords, GlobalWindows, Timestamp,
    Trigger, Watermarks, Window,
};

use crate::shape::Record;
use crate::timed::{Reading, chance, ms, readings, sources, wild};
use crate::wild::{Place, WildSource};
use crate::{Mode, World, config, counted};

/// What is computed in a window without end.
#[derive(Clone, Debug)]
enum Work {
    /// So many readings of one producer, in their order; or with those before them.
    Batches {
        count: u64,
        purging: bool,
    },
    /// Of any producers; the trigger is none of those that are left with readings at the end.
    EventTime(i64),
    Clock(i64),
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        2 => (1u64..6, any::<bool>()).prop_map(|(count, purging)| Work::Batches { count, purging }),
        1 => (1i64..60).prop_map(Work::EventTime),
        1 => (1i64..6).prop_map(Work::Clock),
    ]
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

fn computed(work: &Work, inputs: &[Vec<Reading>]) -> Vec<Record> {
    let Work::Batches { count, purging } = *work else {
        return inputs.iter().flatten().map(single).collect();
    };
    let mut by_key: BTreeMap<u64, Vec<Reading>> = BTreeMap::new();
    for reading in &inputs[0] {
        by_key.entry(reading.0).or_default().push(*reading);
    }
    let results = |(key, all): (u64, Vec<Reading>)| -> Vec<Record> {
        let count = count as usize;
        let ends = (1..=all.len() / count).map(|number| number * count);
        let result = |end| (key, digest(&all[if purging { end - count } else { 0 }..end]));
        ends.map(result).collect()
    };
    by_key.into_iter().flat_map(results).collect()
}

fn pipeline(flow: &Dataflow, world: &World, work: &Work, inputs: &[Vec<Reading>]) {
    let of_key = |reading: &Reading| reading.0;
    let faults = world.faults.clone();
    let strike = move |record: Record| faults.strike(Place::Rule).map(|()| record);
    let batch = |key: &u64, window: Window, values: &[Reading], out: &mut Emitter<Record>| {
        assert_eq!(window, Window::GLOBAL);
        out.push((*key, digest(values)));
    };
    let each = |_: &u64, _: Window, values: &[Reading], out: &mut Emitter<Record>| {
        values.iter().for_each(|reading| out.push(single(reading)));
    };
    let sink = wild(world, 0);
    match *work {
        Work::Batches { count, purging } => {
            let input = &world.case.inputs[0];
            let source = WildSource {
                records: MemorySource::new(inputs[0].clone()),
                chunk: input.chunk,
                pause: input.pause,
                faults: world.faults.clone(),
            };
            let windows = flow
                .source("in", source)
                .parallelism(1)
                .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
                .key_by(of_key);
            match purging {
                true => {
                    let windows = windows.count_window(count);
                    windows.process(batch).try_map(strike).sink("out", sink);
                }
                false => {
                    let windows = windows.window(GlobalWindows).trigger(EveryRecords::new(count));
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
        chance in chance(),
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
