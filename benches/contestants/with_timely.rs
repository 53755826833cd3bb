//! timely dataflow: two workers in one process, no fault tolerance.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rustc_hash::FxHashMap;
use timely::Config;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::ToStream;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::vec::{Filter, Map};

use super::{kept, key, mapped, verify, verify_chain};

pub(crate) fn count(records: u64) {
    let guards = timely::execute(Config::process(2), move |worker| {
        let counts = Rc::new(RefCell::new(FxHashMap::<u64, u64>::default()));
        let mine = Rc::clone(&counts);
        let index = worker.index() as u64;
        worker.dataflow::<u64, _, _>(move |scope| {
            (index..records).step_by(2).map(key).to_stream(scope).container::<Vec<u64>>().sink(
                Exchange::new(|key: &u64| *key),
                "Count",
                move |(input, _frontier)| {
                    let mut counts = mine.borrow_mut();
                    input.for_each(|_cap, batch| {
                        for key in batch.drain(..) {
                            *counts.entry(key).or_default() += 1;
                        }
                    });
                },
            );
        });
        while worker.step_or_park(None) {}
        std::mem::take(&mut *counts.borrow_mut())
    });
    let counts = guards.unwrap().join().into_iter().flat_map(|counts| counts.unwrap());
    verify(records, counts);
}

pub(crate) fn chain(records: u64) {
    let guards = timely::execute(Config::process(2), move |worker| {
        let found = Rc::new(Cell::new((0_u64, 0_u64)));
        let mine = Rc::clone(&found);
        let index = worker.index() as u64;
        worker.dataflow::<u64, _, _>(move |scope| {
            (index..records)
                .step_by(2)
                .to_stream(scope)
                .container::<Vec<u64>>()
                .map(mapped)
                .filter(|record| kept(*record))
                .sink(Pipeline, "Sum", move |(input, _frontier)| {
                    let (mut count, mut sum) = mine.get();
                    input.for_each(|_cap, batch| {
                        for record in batch.drain(..) {
                            (count, sum) = (count + 1, record.wrapping_add(sum));
                        }
                    });
                    mine.set((count, sum));
                });
        });
        while worker.step_or_park(None) {}
        found.get()
    });
    let found = guards.unwrap().join().into_iter().map(|found| found.unwrap());
    verify_chain(records, found.fold((0, 0), |a, b| (a.0 + b.0, a.1.wrapping_add(b.1))));
}
