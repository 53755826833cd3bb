//! State that is shared until it is written to: core/src/state/cow.rs, and the types built on it.
//!
//! The owner freezes and goes on writing; an uploader per image reads it, on a thread of its own,
//! and drops it. Assertions show that no image changes. Loom tracks each access to a [`Tracked`],
//! and so shows that no write meets a read.

use crate::base::sync::{Arc, AtomicBool, Ordering, Parker, thread};
use crate::cow::{Fork, Node, VersionCounter};
use crate::rig::Tracked;
use crate::state::{Checks, Image, List, Table, VerifyState, hash};

struct Leaf(Tracked);

impl Fork for Leaf {
    fn fork(&self, _: &VersionCounter) -> Self {
        Self(self.0.clone())
    }
}

/// One node, frozen and written by turns.
pub(super) fn node(rounds: usize) {
    let mut clock = VersionCounter::new();
    let mut node = Node::new(Leaf(Tracked::new(0)), &mut clock);
    let (mut uploaders, mut versions) = (Vec::new(), Vec::new());
    for round in 1..=rounds as u32 {
        node.write(&mut clock).0.set(round);
        clock.raise();
        let (image, version) = (node.fork(&clock), node.version());
        uploaders.push(thread::spawn(move || {
            assert_eq!((image.get().0.get(), image.version()), (round, version));
        }));
        // Once copied, or taken back if the upload is over; the second time in place.
        for value in [10 * round, 10 * round + 1] {
            node.write(&mut clock).0.set(value);
            assert_eq!(node.get().0.get(), value);
        }
        versions.push(version);
    }
    for uploader in uploaders {
        uploader.join().expect("an uploader does not panic");
    }
    // Another content has another version.
    versions.push(node.version());
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    // The node is not shared: its content is moved out.
    assert_eq!(node.take(&clock).0.get(), 10 * rounds as u32 + 1);
}

struct Branch([Node<Leaf>; 2]);

impl Fork for Branch {
    fn fork(&self, clock: &VersionCounter) -> Self {
        Self([0, 1].map(|place: usize| self.0[place].fork(clock)))
    }
}

/// Nodes within a node, as segments are in a group: one is written, both are in the image.
pub(super) fn nested(rounds: usize) {
    let mut clock = VersionCounter::new();
    let leaves = [1, 2].map(|value| Node::new(Leaf(Tracked::new(value)), &mut clock));
    let mut branch = Node::new(Branch(leaves), &mut clock);
    let read = |branch: &Branch| branch.0.each_ref().map(|leaf| leaf.get().0.get());
    let mut uploaders = Vec::new();
    for round in 1..=rounds as u32 {
        clock.raise();
        let (image, expected) = (branch.fork(&clock), read(branch.get()));
        uploaders.push(thread::spawn(move || assert_eq!(read(image.get()), expected)));
        let leaf = &mut branch.write(&mut clock).0[round as usize % 2];
        leaf.write(&mut clock).0.set(10 * round);
    }
    for uploader in uploaders {
        uploader.join().expect("an uploader does not panic");
    }
}

/// The bytes of an image, as an upload would write them.
fn upload(image: &dyn Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The theorem is about reads and writes of shared state, and a value that is read back is not
    // shared.
    let mut checks = Checks::new(VerifyState::Off);
    let read = image.segments(&mut |segment| {
        (segment.encode)(&mut bytes, &mut checks.of("", "")).map_err(|refused| refused.of("", ""))
    });
    read.expect("numbers can be encoded");
    bytes
}

fn entries(pairs: &[(u8, u32)]) -> Vec<u8> {
    rmp_serde::to_vec(pairs).expect("numbers can be encoded")
}

/// A table with one key that is written in every way, and one that is not; each freeze is uploaded
/// during the next writes.
pub(super) fn table(rounds: usize) {
    let mut table = Table::<u8, Tracked>::new(0..1, 1);
    table.insert(hash(&7u8), 7, Tracked::new(0));
    let mut uploaders = Vec::new();
    for round in 1..=rounds as u32 {
        // Past the group, by the pointer of the write before, if it is valid.
        table.entry(hash(&7u8), 7, || Tracked::new(0)).set(round);
        let image = table.freeze();
        let expected = entries(&[(7, round)]);
        uploaders.push(thread::spawn(move || assert_eq!(upload(&*image), expected)));
        table.entry_pair(hash(&7u8), 7, || Tracked::new(0)).1.set(10 * round);
        if let Some(value) = table.get_mut(hash(&7u8), &7) {
            value.set(10 * round + 1);
        }
        assert_eq!(table.get(hash(&7u8), &7).map(Tracked::get), Some(10 * round + 1));
    }
    for uploader in uploaders {
        uploader.join().expect("an uploader does not panic");
    }
    let left: Vec<_> = table.drain().map(|(key, value)| (key, value.get())).collect();
    assert_eq!(left, [(7, 10 * rounds as u32 + 1)]);
}

/// A list within a table: the copy of its segment shares it until it is written to.
pub(super) fn list(rounds: usize) {
    let mut table = Table::<u8, List<Tracked>>::new(0..1, 1);
    table.insert(hash(&7u8), 7, List::default());
    let mut expected: Vec<u32> = Vec::new();
    let mut uploaders = Vec::new();
    for round in 1..=rounds as u32 {
        let list = table.entry(hash(&7u8), 7, List::default);
        list.push(Tracked::new(round));
        list[0].set(round);
        expected.push(round);
        expected[0] = round;
        let image = table.freeze();
        let bytes = rmp_serde::to_vec(&[(7u8, expected.clone())]).expect("numbers can be encoded");
        uploaders.push(thread::spawn(move || assert_eq!(upload(&*image), bytes)));
        table.entry(hash(&7u8), 7, List::default)[0].set(100);
    }
    for uploader in uploaders {
        uploader.join().expect("an uploader does not panic");
    }
    assert_eq!(table.get(hash(&7u8), &7).map(|list| list.len()), Some(rounds));
}

/// An uploader that keeps its image until the owner has written: if the owner waited for it, both
/// would wait.
pub(super) fn never_waits(rounds: usize) {
    let mut table = Table::<u8, Tracked>::new(0..1, 1);
    table.insert(hash(&7u8), 7, Tracked::new(0));
    let image = table.freeze();
    let (parker, written) = (Parker::new(), Arc::new(AtomicBool::new(false)));
    let unparker = parker.unparker().clone();
    let uploader = {
        let written = Arc::clone(&written);
        thread::spawn(move || {
            while !written.load(Ordering::Relaxed) {
                parker.park();
            }
            assert_eq!(upload(&*image), entries(&[(7, 0)]));
        })
    };
    for round in 1..=rounds as u32 {
        table.entry(hash(&7u8), 7, || Tracked::new(0)).set(round);
        drop(table.freeze());
    }
    written.store(true, Ordering::Relaxed);
    unparker.unpark();
    uploader.join().expect("the uploader does not panic");
    assert_eq!(table.get(hash(&7u8), &7).map(Tracked::get), Some(rounds as u32));
}
