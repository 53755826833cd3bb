//! Random pipelines with broadcast state (SPEC 16.13) whose results are emitted while the state
//! grows.
//!
//! The time at which a record and its rule meet is not determined. A record waits for its rule in
//! the state of its key. A later record of the key emits it, or the end of the input. Each record
//! is emitted once, with its own rule, whenever that is.

use std::time::Duration;

use proptest::prelude::*;
use snapline::connect::{Collect, MemorySource};
use snapline::state::Map;
use snapline::{BroadcastProcess, Dataflow, KeyState};

use crate::planned_failures::{Faults, Place, WildSink, WildSource};
use crate::shape::{Input, Leg, Record, Tree};
use crate::{Mode, World, case, config, counted, plain};

/// The rule's number and content.
type Rule = (i64, i64);

/// Emits each record together with the content of the rule of its number.
#[derive(Clone)]
struct Ruled {
    faults: Faults,
    /// A record's rule has the number that is the remainder of the record's value.
    rules: i64,
}

impl Ruled {
    fn number(&self, value: i64) -> i64 {
        value.rem_euclid(self.rules)
    }
}

fn ruled((key, value): Record, says: Option<i64>) -> Record {
    (key, value * 1_009 + says.unwrap_or(500))
}

impl BroadcastProcess<u64, Record, Rule> for Ruled {
    type State = Vec<i64>;
    type Shared = Map<i64, i64>;
    type Out = Record;

    fn record<C: Collect<Record>>(
        &mut self,
        (key, value): Record,
        rules: &Self::Shared,
        waiting: &mut KeyState<'_, u64, Vec<i64>>,
        out: &mut C,
    ) {
        if let Err(error) = self.faults.strike(Place::Process) {
            out.fail(error);
        }
        waiting.push(value);
        waiting.retain(|&value| match rules.get(&self.number(value)) {
            Some(&says) => {
                out.push(ruled((key, value), Some(says)));
                false
            }
            None => true,
        });
        if waiting.is_empty() {
            waiting.clear();
        }
    }

    fn told<C: Collect<Record>>(
        &mut self,
        (number, says): Rule,
        rules: &mut Self::Shared,
        out: &mut C,
    ) {
        if let Err(error) = self.faults.strike(Place::Process) {
            out.fail(error);
        }
        rules.insert(number, says);
    }

    fn end<C: Collect<Record>>(
        &mut self,
        key: &u64,
        waiting: &Vec<i64>,
        rules: &Self::Shared,
        out: &mut C,
    ) {
        for &value in waiting {
            out.push(ruled((*key, value), rules.get(&self.number(value)).copied()));
        }
    }
}

fn build(flow: &Dataflow, world: &World, rules: &[Rule], pause: Duration) {
    let faults = || world.faults.clone();
    let all = world.case.inputs.iter().flat_map(|input| input.records.clone()).collect();
    let Input { chunk, pause: between, parallelism, .. } = world.case.inputs[0];
    let records =
        WildSource { records: MemorySource::new(all), chunk, pause: between, faults: faults() };
    let told = MemorySource::new(rules.to_vec());
    let told = WildSource { records: told, chunk: 1, pause, faults: faults() };
    let told = flow.source("rules", told).parallelism(parallelism.unwrap_or(1));
    let process = Ruled { faults: faults(), rules: rules.len() as i64 + 1 };
    flow.source("records", records)
        .key_by(|record: &Record| record.0)
        .with_broadcast(told, process)
        .sink("out", WildSink { sink: world.sinks[0].clone(), faults: faults() });
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn whatever_happens_each_record_meets_its_rule(
        chance in case(Just(Leg { segment: plain(), then: Box::new(Tree::Sink) })),
        says in proptest::collection::vec(-50i64..50, 0..30),
        pause in 0u64..1_500,
    ) {
        // One remainder has no rule.
        let rules: Vec<Rule> = (0..).zip(says).collect();
        let rule = |value: i64| rules.get(value.rem_euclid(rules.len() as i64 + 1) as usize);
        let records = chance.inputs.iter().flat_map(|input| &input.records);
        let expected: Vec<Record> =
            records.map(|&it| ruled(it, rule(it.1).map(|(_, says)| *says))).collect();
        let told = rules.clone();
        let build = move |flow: &Dataflow, world: &World| {
            build(flow, world, &told, Duration::from_micros(pause));
        };
        let world = World::of(chance, 1, Mode::ExactlyOnce, build);
        world.run();
        prop_assert_eq!(counted(&world.sinks[0].committed()), counted(&expected));
    }
}
