//! Records, barriers and snapshots.

use snapline_protocol::aligner::{self, Mode};
use snapline_protocol::committer;
use snapline_protocol::ids::BlobId;
use snapline_protocol::message::{Barrier, Persisted};

use super::rule::WrongRule;
use super::{Blob, Item, Past, Situation, TaskRef, Transition, World, Write};
use crate::scenario::Setup;

impl World {
    /// True if every output channel of a task has room.
    pub(super) fn has_room(&self, setup: &Setup, subtask: usize) -> bool {
        let capacity = usize::from(setup.scenario.capacity);
        setup.topology.subtasks()[subtask].outputs.iter().all(|&channel| {
            !self.tasks[setup.topology.channels()[channel].to.index()].alive
                || self.channels[channel].iter().filter(|item| **item != Item::End).count()
                    < capacity
        })
    }
}

impl Transition<'_> {
    fn outputs(&self, place: TaskRef) -> &[usize] {
        match place {
            TaskRef::Running(index) => &self.setup.topology.subtasks()[index].outputs,
            // Cut off from its neighbours.
            TaskRef::Zombie(_) => &[],
        }
    }

    fn put(&mut self, channel: usize, item: Item) {
        let to = self.setup.topology.channels()[channel].to.index();
        if self.world.tasks[to].alive {
            self.world.channels[channel].push(item);
        }
    }

    fn pass(&mut self, place: TaskRef, record: u8) {
        if let TaskRef::Running(index) = place {
            let setup = self.setup;
            for &(channel, record) in &setup.routes[index][usize::from(record)] {
                self.put(channel, Item::Record(record));
            }
        }
    }

    pub(super) fn emit(&mut self, task: usize) {
        let position = self.world.tasks[task].position;
        let record = self.setup.roots[task][usize::from(position)];
        let source = self.task(TaskRef::Running(task));
        source.position += 1;
        source.tally.add(record);
        self.pass(TaskRef::Running(task), record);
    }

    pub(super) fn consume(&mut self, place: TaskRef, input: usize) {
        let subtask = self.subtask(place);
        let item = match place {
            TaskRef::Running(_) => {
                let channel = self.setup.topology.subtasks()[subtask].inputs[input];
                self.world.channels[channel].remove(0)
            }
            TaskRef::Zombie(index) => self.world.zombies[index].inputs[input].remove(0),
        };
        match item {
            Item::Record(record) => self.process(place, record),
            Item::Barrier(barrier) => {
                let barrier = self.barrier_as_read(place, barrier);
                let event = aligner::Event::Barrier { channel: input, barrier };
                let _seen = self.align(place, event);
                let config = &self.setup.aligners[subtask];
                if (0..config.inputs).any(|input| self.task(place).aligner.held(config, input)) {
                    self.reached(Situation::Held);
                }
            }
            Item::End => {
                let _seen = self.align(place, aligner::Event::EndOfInput { channel: input });
            }
        }
    }

    fn barrier_as_read(&mut self, place: TaskRef, barrier: Barrier) -> Barrier {
        // Wrong: the n-th barrier of an input is taken for the n-th checkpoint seen on the others.
        if self.wrong(WrongRule::CountBarriers) {
            let config = &self.setup.aligners[self.subtask(place)];
            let task = self.task(place);
            if let Some(aligning) = task.aligner.aligning().next()
                && aligning.checkpoint < barrier.checkpoint
                && (0..config.inputs).any(|input| task.aligner.held(config, input))
            {
                return aligning;
            }
        }
        barrier
    }

    fn process(&mut self, place: TaskRef, record: u8) {
        let leaks =
            self.wrong(WrongRule::SnapshotNotCopied) && self.task(place).committer.is_none();
        let task = self.task(place);
        task.tally.add(record);
        if task.committer.is_some() {
            task.open.add(record);
        }
        if leaks {
            for write in &mut task.writes {
                write.blob.tally.add(record);
            }
        }
        self.pass(place, record);
    }

    pub(super) fn end_output(&mut self, place: TaskRef) {
        for channel in self.outputs(place).to_vec() {
            self.put(channel, Item::End);
        }
    }

    pub(super) fn forward(&mut self, place: TaskRef, barrier: Barrier) {
        let outputs = self.outputs(place).to_vec();
        let last = outputs.len().saturating_sub(1);
        for (place, channel) in outputs.into_iter().enumerate() {
            self.put(channel, Item::Barrier(barrier));
            let overtakes = self.wrong(WrongRule::BarrierOvertakes)
                || (self.wrong(WrongRule::PartialFanOut) && last > 0 && place == last);
            let queue = &mut self.world.channels[channel];
            if overtakes && queue.len() > 1 {
                let place = queue.len() - 1;
                queue.swap(place - 1, place);
            }
        }
    }

    /// The synchronous part of a snapshot (SPEC 5.4): a copy of the state, handed to the writer.
    pub(super) fn snapshot(&mut self, place: TaskRef, barrier: Barrier) {
        let is_sink = self.task(place).committer.is_some();
        if is_sink {
            if self.task(place).open.is_empty() {
                self.reached(Situation::EmptyEpoch);
            }
            self.drive_committer(place, committer::Event::Barrier(barrier.checkpoint));
        }
        let skip = self.skips_write(place);
        let blob = self.take_blob(place, barrier);
        self.forget(place, barrier, blob.position);
        let attempt = self.task(place).aligner.attempt();
        if is_sink {
            self.task(place).open = crate::tally::RecordTally::default();
        }
        if skip {
            let event = aligner::Event::Durable(Persisted::attest(attempt, barrier.checkpoint));
            let _taken = self.align(place, event);
            return;
        }
        self.task(place).writes.push(Write { checkpoint: barrier.checkpoint, blob });
        if self.wrong(WrongRule::AckBeforeDurable) {
            let event = aligner::Event::Durable(Persisted::attest(attempt, barrier.checkpoint));
            let _taken = self.align(place, event);
        } else if self.setup.scenario.prompt_writes && !is_sink {
            let write = self.task(place).writes.len() - 1;
            self.written(place, write, true);
        }
    }

    /// A source reports from which position it needs its input, and the input before it is dropped
    /// (SPEC 15.11).
    fn forget(&mut self, place: TaskRef, barrier: Barrier, position: u8) {
        // Wrong: the source's own checkpoint counts as complete already.
        let base = match self.wrong(WrongRule::ForgetsIncomplete) {
            true => Some(barrier.checkpoint),
            false => barrier.base,
        };
        let subtask = self.subtask(place);
        let Some(replay_positions) = &mut self.task(place).replay_positions else { return };
        let Some(&from) = replay_positions.taken(barrier.checkpoint, base, position) else {
            return;
        };
        if from > self.world.dropped[subtask] {
            self.world.dropped[subtask] = from;
            self.reached(Situation::Forgotten);
        }
    }

    /// Wrong: an empty snapshot need not be written, so it is acknowledged at once.
    fn skips_write(&mut self, place: TaskRef) -> bool {
        self.wrong(WrongRule::EmptyNotWritten)
            && self.task(place).committer.is_some()
            && self.task(place).open.is_empty()
    }

    fn take_blob(&mut self, place: TaskRef, barrier: Barrier) -> Blob {
        let subtask = self.subtask(place);
        let shared = self.setup.scenario.shared;
        let unconfirmed = self.wrong(WrongRule::BaseUnconfirmed);
        let (after, before) =
            (self.wrong(WrongRule::OffsetAfter), self.wrong(WrongRule::OffsetEmpty));
        let hole = self.wrong(WrongRule::StateHole);
        let records = self.setup.scenario.records;
        let attempt = self.task(place).aligner.attempt();
        let id = BlobId {
            checkpoint: barrier.checkpoint,
            attempt,
            subtask: self.setup.aligners[subtask].subtask,
        };
        let name = self.name(id);
        let config = &self.setup.aligners[subtask];
        let mut past = core::mem::take(&mut self.task(place).past);
        let base =
            past.iter().rfind(|p| unconfirmed || Some(p.checkpoint) == barrier.base).copied();
        past.retain(|p| Some(p.checkpoint) >= barrier.base);
        let task = self.task(place);
        let mut tally = task.tally;
        let base = base.filter(|_| shared);
        if let Some(base) = base {
            tally = tally.since(base.tally);
        }
        if hole && config.inputs > 0 && task.committer.is_none() {
            // Wrong: the newest record is still in a buffer that the snapshot does not see.
            tally.once &= tally.once.wrapping_sub(1);
        }
        let mut position = task.position;
        if after && position < records && config.inputs == 0 && !task.aligner.has_ended(config) {
            position += 1;
        }
        if before && attempt.number > 1 && config.inputs == 0 {
            position = 0;
        }
        let blob = Blob {
            id: name,
            base: base.map(|base| base.blob),
            position,
            tally,
            pending: task.committer.as_ref().map_or(Vec::new(), |c| c.pending().to_vec()),
            whole: true,
        };
        if shared {
            past.push(Past { checkpoint: barrier.checkpoint, blob: name, tally: task.tally });
        }
        task.past = past;
        blob
    }

    /// A snapshot's write ends: durable, or failed (`applied` is true if its bytes are in storage
    /// all the same).
    pub(super) fn written(&mut self, place: TaskRef, write: usize, reported: bool) {
        let write = self.task(place).writes.remove(write);
        let attempt = self.task(place).aligner.attempt();
        self.put_blob(write.blob);
        if reported && !self.wrong(WrongRule::AckBeforeDurable) {
            let event = aligner::Event::Durable(Persisted::attest(attempt, write.checkpoint));
            let _taken = self.align(place, event);
        }
    }

    pub(super) fn write_failed(&mut self, task: usize, write: usize, applied: bool) {
        let place = TaskRef::Running(task);
        let checkpoint = self.task(place).writes[write].checkpoint;
        let attempt = self.task(place).aligner.attempt();
        if applied {
            self.written(place, write, false);
        } else {
            self.task(place).writes.remove(write);
        }
        let _taken = self.align(place, aligner::Event::WriteFailed { attempt, checkpoint });
    }

    /// True if an input may be read now.
    pub(super) fn may_read(
        setup: &Setup,
        task: &super::TaskState,
        subtask: usize,
        input: usize,
    ) -> bool {
        let config = &setup.aligners[subtask];
        let held = task.aligner.held(config, input)
            && !(setup.mutant == Some(WrongRule::NoAlignment) && config.mode == Mode::ExactlyOnce);
        task.alive && !held && task.committer.as_ref().is_none_or(|c| c.may_read())
    }
}
