//! AG EF goal: from every reachable state a goal can be reached without the help of a fault.
//!
//! This check replaces "eventually". An eventuality that is evaluated along the search order misses
//! cycles, and joins that were first reached by a luckier path. This check uses the whole graph: it
//! walks backwards from the goals over the edges that are not faults. A reachable state that the
//! walk does not meet is a trap. Fault edges do lead *into* states, so a state that only a crash
//! can reach counts, but no crash may lead out of it.

use super::monitor::SearchMonitor;
use super::outcome::StopReason;

/// The number of edges between two looks at the clock.
const POLL_EVERY: usize = 1 << 20;
const GOAL: u32 = 1 << 31;

/// A list that grows in pieces of fixed size. Growing never copies and leaves no slack, and the
/// list can be emptied piece by piece.
#[derive(Debug)]
pub(super) struct Pieces<T> {
    pieces: Vec<Vec<T>>,
}

impl<T> Pieces<T> {
    const PIECE: usize = 1 << 16;

    #[inline]
    fn push(&mut self, item: T) {
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < Self::PIECE => piece.push(item),
            _ => {
                // The first piece grows on demand: small runs stay small.
                let capacity = if self.pieces.is_empty() { 0 } else { Self::PIECE };
                let mut piece = Vec::with_capacity(capacity);
                piece.push(item);
                self.pieces.push(piece);
            }
        }
    }

    fn last_mut(&mut self) -> Option<&mut T> {
        self.pieces.last_mut()?.last_mut()
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// Frees every piece once it has been consumed.
    fn drain(self) -> impl Iterator<Item = T> {
        self.pieces.into_iter().flatten()
    }
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

/// The part of the graph that one thread has seen: its visited states in order, and for each the
/// fingerprints of its successors. 12 bytes a state and 8 an edge.
#[derive(Debug, Default)]
pub(super) struct EdgeLog {
    states: Pieces<u64>,
    /// Number of successors recorded; the top bit says that the state is a goal.
    degrees: Pieces<u32>,
    targets: Pieces<u64>,
}

impl EdgeLog {
    /// Begins a state; its edges follow before the next state begins.
    #[inline]
    pub(super) fn state(&mut self, fingerprint: u64, goal: bool) {
        self.states.push(fingerprint);
        self.degrees.push(if goal { GOAL } else { 0 });
    }

    /// An edge from the state begun last. An edge back to the same state has no effect.
    #[inline]
    pub(super) fn edge(&mut self, from: u64, to: u64) {
        debug_assert_eq!(self.states.last_mut().copied(), Some(from), "edge of another state");
        if from == to {
            return;
        }
        self.targets.push(to);
        if let Some(degree) = self.degrees.last_mut() {
            *degree += 1;
        }
    }
}

/// The fingerprints of the states from which no goal can be reached, sorted.
///
/// # Errors
/// A bound was exceeded, or an edge leads to a state that was never visited: the search took it
/// for another one.
pub(super) fn traps(
    records: Vec<EdgeLog>,
    watch: &SearchMonitor<'_>,
) -> Result<Vec<u64>, StopReason> {
    let states = records.iter().map(|record| record.states.len()).sum();
    if u32::try_from(states).is_err() {
        return Err(StopReason::States);
    }
    let mut table = Vec::with_capacity(states);
    records.iter().for_each(|record| table.extend(record.states.iter()));
    table.sort_unstable();
    let table = FingerprintIndex::new(table);
    watch.poll_idle()?;

    let mut sources = Vec::with_capacity(states);
    let mut targets = Vec::with_capacity(records.iter().map(|record| record.targets.len()).sum());
    for record in records {
        for (state, degree) in record.states.drain().zip(record.degrees.drain()) {
            sources.push((table.find(state)?, degree));
        }
        for target in record.targets.drain() {
            if targets.len().is_multiple_of(POLL_EVERY) {
                watch.poll_idle()?;
            }
            targets.push(table.find(target)?);
        }
    }
    let mut graph = StateGraph::new(table.sorted.len());
    graph.goals = sources.iter().filter(|(_, d)| d & GOAL != 0).map(|&(id, _)| id).collect();
    let stuck = graph.stuck(watch, |edge| {
        let mut rest = targets.as_slice();
        for &(from, degree) in &sources {
            let (mine, others) = rest.split_at((degree & !GOAL) as usize);
            rest = others;
            mine.iter().for_each(|&to| edge(from, to));
        }
    })?;
    Ok(stuck.into_iter().map(|id| table.sorted[id as usize]).collect())
}

/// Sorted fingerprints with a directory of their top bits, about four to an entry: the place of
/// a fingerprint is found with one look at the directory and one at the list.
struct FingerprintIndex {
    sorted: Vec<u64>,
    directory: Vec<u32>,
    shift: u32,
}

impl FingerprintIndex {
    fn new(sorted: Vec<u64>) -> Self {
        let bits = (sorted.len() / 4).max(2).ilog2();
        let shift = 64 - bits;
        let mut directory = Vec::with_capacity((1 << bits) + 1);
        let mut place = 0;
        for bucket in 0..1u64 << bits {
            directory.push(place as u32);
            while place < sorted.len() && sorted[place] >> shift == bucket {
                place += 1;
            }
        }
        directory.push(place as u32);
        Self { sorted, directory, shift }
    }

    #[inline]
    fn find(&self, fingerprint: u64) -> Result<u32, StopReason> {
        let bucket = (fingerprint >> self.shift) as usize;
        let (from, to) = (self.directory[bucket], self.directory[bucket + 1]);
        match self.sorted[from as usize..to as usize].binary_search(&fingerprint) {
            Ok(place) => Ok(from + place as u32),
            Err(_) => Err(StopReason::Collision),
        }
    }
}

/// A graph whose states are numbered from 0, for the walk backwards.
pub(super) struct StateGraph {
    states: usize,
    /// The goals, in any order.
    pub(super) goals: Vec<u32>,
}

impl StateGraph {
    pub(super) fn new(states: usize) -> Self {
        Self { states, goals: Vec::new() }
    }

    /// The states from which no goal can be reached, ascending. `edges` calls its argument once for
    /// each edge and is run twice, so edges can be kept in the smallest form.
    ///
    /// # Errors
    /// A bound was exceeded.
    pub(super) fn stuck(
        &self,
        watch: &SearchMonitor<'_>,
        edges: impl Fn(&mut dyn FnMut(u32, u32)),
    ) -> Result<Vec<u32>, StopReason> {
        // Predecessors, compressed: those of `to` are `before[start[to]..start[to + 1]]`. While
        // the lists are filled, `start[to + 1]` is where the next predecessor of `to` goes.
        let mut start = vec![0usize; self.states + 2];
        edges(&mut |_, to| start[to as usize + 2] += 1);
        watch.poll_idle()?;
        for id in 2..start.len() {
            start[id] += start[id - 1];
        }
        let mut before = vec![0u32; start[self.states + 1]];
        edges(&mut |from, to| {
            let next = &mut start[to as usize + 1];
            before[*next] = from;
            *next += 1;
        });
        watch.poll_idle()?;

        let mut met = vec![false; self.states];
        let mut ahead = Vec::new();
        for &goal in &self.goals {
            if !std::mem::replace(&mut met[goal as usize], true) {
                ahead.push(goal);
            }
        }
        let mut walked = 0usize;
        while let Some(to) = ahead.pop() {
            walked += 1;
            if walked.is_multiple_of(POLL_EVERY) {
                watch.poll_idle()?;
            }
            for &from in &before[start[to as usize]..start[to as usize + 1]] {
                if !std::mem::replace(&mut met[from as usize], true) {
                    ahead.push(from);
                }
            }
        }
        // `states` fits in u32: the ids in `goals` and `before` are u32.
        Ok((0..self.states as u32).filter(|&id| !met[id as usize]).collect())
    }
}
