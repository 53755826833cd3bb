//! A program by hand: without a framework, and without fault tolerance.

use std::thread;

use crossbeam_channel::bounded;
use rustc_hash::FxHashMap;

use super::{kept, key, mapped, verify, verify_chain};

const BATCH: usize = 1024;

/// One thread makes keys, another counts.
pub(crate) fn count(records: u64) {
    let (sender, receiver) = bounded::<Vec<u64>>(64);
    let source = thread::spawn(move || {
        let mut batch = Vec::with_capacity(BATCH);
        for seq in 0..records {
            batch.push(key(seq));
            if batch.len() == BATCH {
                sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).unwrap();
            }
        }
        sender.send(batch).unwrap();
    });
    let mut counts = FxHashMap::<u64, u64>::default();
    for batch in receiver {
        for key in batch {
            *counts.entry(key).or_default() += 1;
        }
    }
    source.join().unwrap();
    verify(records, counts);
}

/// Two threads, each of which makes half of the keys and counts half of them.
pub(crate) fn count_all_to_all(records: u64) {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..2).map(|_| bounded::<Vec<u64>>(1 << 20)).unzip();
    let workers: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(me, receiver)| {
            let senders = senders.clone();
            thread::spawn(move || {
                let mut counts = FxHashMap::<u64, u64>::default();
                let mut batches = [Vec::with_capacity(BATCH), Vec::with_capacity(BATCH)];
                let mut take = |batch: Vec<u64>| {
                    batch.into_iter().for_each(|key| *counts.entry(key).or_default() += 1);
                };
                for seq in (me as u64..records).step_by(2) {
                    let key = key(seq);
                    let to = (key & 1) as usize;
                    batches[to].push(key);
                    if batches[to].len() == BATCH {
                        let batch = std::mem::replace(&mut batches[to], Vec::with_capacity(BATCH));
                        senders[to].send(batch).unwrap();
                        receiver.try_iter().for_each(&mut take);
                    }
                }
                for (sender, batch) in senders.iter().zip(batches) {
                    sender.send(batch).unwrap();
                }
                drop(senders);
                receiver.into_iter().for_each(&mut take);
                counts
            })
        })
        .collect();
    drop(senders);
    let counts: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    verify(records, counts);
}

/// A loop on each of two threads.
pub(crate) fn chain(records: u64) {
    let workers: Vec<_> = (0..2)
        .map(|me| {
            thread::spawn(move || {
                let mut found = (0_u64, 0_u64);
                for seq in (me..records).step_by(2) {
                    let record = mapped(std::hint::black_box(seq));
                    if kept(record) {
                        found = (found.0 + 1, found.1.wrapping_add(record));
                    }
                }
                found
            })
        })
        .collect();
    let found = workers.into_iter().map(|worker| worker.join().unwrap());
    verify_chain(records, found.fold((0, 0), |a, b| (a.0 + b.0, a.1.wrapping_add(b.1))));
}
