//! Tasks of a recorded run: their machines, their channels, and their pending work (SPEC 11.9).

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use snapline_protocol::Out;
use snapline_protocol::Verdict;
use snapline_protocol::aligner::{self, Aligner, Mode};
use snapline_protocol::committer::{self, Committer};
use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, TxnId};
use snapline_protocol::message::Barrier;
use snapline_protocol::recovery::Decision;
use snapline_protocol::topology::Topology;

use super::history::History;
use super::rule::{Checked, Rule, breach, ensure};
use super::sinks::ReplayedSink;
use super::{Mail, Tally, proof, run, same_effects};
use crate::trace::event::OfAligner;
use crate::trace::format::Marker;

/// The surroundings of a task.
pub(super) struct Around<'a> {
    pub(super) topology: &'a Topology,
    pub(super) mode: Mode,
    pub(super) history: &'a mut History,
    pub(super) mail: &'a mut Mail,
    pub(super) tally: &'a mut Tally,
}

/// A barrier or an end in a channel, after this many records.
#[derive(Clone, PartialEq, Eq, Debug)]
struct InBand {
    marker: Marker,
    barrier: Option<Barrier>,
    pub(super) behind: u64,
}

/// The channels of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Channels(Vec<VecDeque<InBand>>);

impl Channels {
    pub(super) fn new(topology: &Topology) -> Self {
        Self(topology.channels().iter().map(|_| VecDeque::new()).collect())
    }
}

/// What a task is to put on its outputs next.
type Due = (Marker, Option<Barrier>);

/// A task that has begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ReplayedTask {
    pub(super) subtask: SubtaskId,
    pub(super) attempt: Attempt,
    config: aligner::Config,
    aligner: Aligner,
    pub(super) sink: Option<ReplayedSink>,
    due: VecDeque<Due>,
    /// Snapshots that were taken and whose writing has not returned.
    writing: BTreeMap<CheckpointId, Barrier>,
    /// And their outcomes, which the aligner has not taken in.
    written: BTreeMap<CheckpointId, bool>,
    /// Records that came on each input before its last barrier or its end.
    pub(super) behind: Vec<u64>,
    /// Records sent on each output, by the last line that reports them.
    sent: Vec<u64>,
    /// Whether it may emit no further record.
    silent: bool,
}

impl ReplayedTask {
    /// SPEC 6.4, 7.4: the decision determines what a task starts from.
    pub(super) fn begin(
        (attempt, subtask): (Attempt, SubtaskId),
        decision: &Decision,
        (at_rest, pending, effects): (bool, Option<&Vec<TxnId>>, &[Value]),
        two_phase: bool,
        around: &mut Around<'_>,
    ) -> Checked<Self> {
        let place = &around.topology.subtasks()[subtask.index()];
        let inputs = place.inputs.len();
        let config = aligner::Config { subtask, mode: around.mode, inputs };
        let (permit, terminal) = match *decision {
            Decision::Fresh => (None, false),
            Decision::Restore { permit, terminal } => (Some(permit), terminal.is_some()),
        };
        let rests = terminal && inputs == 0;
        ensure(at_rest == rests, Rule::Restored, || format!("a task starts at rest: {rests}"))?;
        let aligner = match terminal {
            true => Aligner::at_rest(&config, attempt),
            false => Aligner::new(&config, attempt),
        };
        let is_sink = around.topology.sinks().contains(subtask.index());
        ensure(pending.is_some() == is_sink, Rule::Restored, || {
            "sinks, and no others, have committables".into()
        })?;
        let mut out = Out::new();
        let sink = match pending {
            None => None,
            Some(pending) => {
                match permit {
                    Some(permit) => {
                        around.history.restored(permit.checkpoint(), subtask, pending)?;
                    }
                    None => ensure(pending.is_empty(), Rule::Restored, || {
                        "there is no checkpoint that could hold a transaction".into()
                    })?,
                }
                let config = committer::Config { subtask };
                let restored = permit.map(|permit| (pending.clone(), permit));
                let machine = Committer::start(&config, attempt, restored, &mut out);
                Some(ReplayedSink::new(config, machine, two_phase))
            }
        };
        same_effects(out.as_slice(), effects)?;
        let mut task = Self {
            subtask,
            attempt,
            config,
            aligner,
            sink,
            due: VecDeque::new(),
            writing: BTreeMap::new(),
            written: BTreeMap::new(),
            behind: vec![0; inputs],
            sent: vec![0; place.outputs.len()],
            silent: rests,
        };
        task.committer_effects(out.as_slice(), around)?;
        Ok(task)
    }

    pub(super) const fn aligner(&self) -> (&aligner::Config, &Aligner) {
        (&self.config, &self.aligner)
    }

    /// Checkpoints whose snapshots are being written.
    pub(super) fn writes(&self) -> impl Iterator<Item = CheckpointId> + '_ {
        self.writing.keys().copied()
    }

    /// SPEC 5.4, 5.7: a task carries out its pending effects before it takes an input that may
    /// change its state or its output.
    fn owes_nothing(&self) -> Checked {
        if let Some((marker, _)) = self.due.front() {
            return Err(breach(
                Rule::CarriedOut,
                format!("{} was to be put on every output first", name(*marker)),
            ));
        }
        self.sink_owes_nothing()
    }

    fn sink_owes_nothing(&self) -> Checked {
        let Some(sink) = &self.sink else { return Ok(()) };
        if let Some(checkpoint) = sink.owes_barrier {
            return Err(breach(
                Rule::CarriedOut,
                format!(
                    "its committer was to close its transaction for checkpoint {checkpoint} first"
                ),
            ));
        }
        ensure(sink.owes_message.is_none(), Rule::CarriedOut, || {
            "its committer must first receive the message that its aligner received".into()
        })
    }

    pub(super) fn align(
        &mut self,
        event: &OfAligner,
        (verdict, effects, received): (Verdict, &[Value], Option<u64>),
        channels: &mut Channels,
        around: &mut Around<'_>,
    ) -> Checked {
        let event = self.event(event, received, channels, around)?;
        let out = run(&mut self.aligner, &self.config, event, verdict, effects)?;
        if let aligner::Event::Durable(_) | aligner::Event::WriteFailed { .. } = event {
            around.tally.snapshots += 1;
        }
        for effect in out {
            match effect {
                aligner::Effect::EndOutput => self.due.push_back((Marker::End, None)),
                aligner::Effect::Snapshot { barrier } => {
                    let checkpoint = barrier.checkpoint;
                    let Self { attempt, subtask, .. } = *self;
                    around.history.snapshot(BlobId { checkpoint, attempt, subtask });
                    self.writing.insert(checkpoint, barrier);
                    if let Some(sink) = &mut self.sink {
                        sink.owes_barrier = Some(barrier.checkpoint);
                    }
                }
                aligner::Effect::Forward(barrier) => {
                    self.due.push_back((Marker::Barrier(barrier.checkpoint), Some(barrier)));
                }
                aligner::Effect::Send(message) => around.mail.reported(message),
            }
        }
        Ok(())
    }

    /// The event that the line stands for, if it is possible for this task.
    fn event(
        &mut self,
        event: &OfAligner,
        received: Option<u64>,
        channels: &mut Channels,
        around: &mut Around<'_>,
    ) -> Checked<aligner::Event> {
        // SPEC 5.4: a barrier is passed on in the step that takes the snapshot.
        if let Some((marker @ Marker::Barrier(_), _)) = self.due.front() {
            return Err(breach(
                Rule::CarriedOut,
                format!("{} was to be put on every output first", name(*marker)),
            ));
        }
        let in_band = matches!(event, OfAligner::Barrier { .. } | OfAligner::EndOfInput { .. });
        ensure(in_band == received.is_some(), Rule::Possible, || {
            "records are counted for what comes on an input, and for nothing else".into()
        })?;
        Ok(match *event {
            OfAligner::Barrier { channel, barrier } => {
                let marker = Marker::Barrier(barrier.checkpoint);
                let sent = self.take(channel, marker, received, channels, around)?;
                ensure(sent == Some(barrier), Rule::Fifo, || {
                    format!("the barrier that was sent is {sent:?}")
                })?;
                aligner::Event::Barrier { channel, barrier }
            }
            OfAligner::EndOfInput { channel } => {
                self.take(channel, Marker::End, received, channels, around)?;
                aligner::Event::EndOfInput { channel }
            }
            OfAligner::Exhausted => {
                self.owes_nothing()?;
                let reads = self.config.inputs == 0 && self.aligner.may_emit();
                // SPEC 4.8, 7.4
                ensure(reads, Rule::Possible, || "it reads nothing that could end".into())?;
                aligner::Event::Exhausted
            }
            OfAligner::Control(ref message) => {
                let heard = around.mail.order(self.subtask, message)?;
                self.sink_owes_nothing()?;
                if self.config.inputs == 0 {
                    self.owes_nothing()?;
                }
                if let Some(sink) = &mut self.sink {
                    sink.owes_message = Some(message.clone());
                }
                aligner::Event::Control(heard)
            }
            OfAligner::Durable { attempt, checkpoint } => {
                self.hears_of(checkpoint, true)?;
                if let Some(sink) = &self.sink {
                    let txn = TxnId { checkpoint, attempt, subtask: self.subtask };
                    let unprepared = sink.preparing.contains(&txn);
                    ensure(!unprepared, Rule::Durable, || {
                        format!(
                            "the transaction of checkpoint {checkpoint} must be prepared before its snapshot is acknowledged, and no line says \
                             that it is"
                        )
                    })?;
                }
                aligner::Event::Durable(proof(attempt, checkpoint))
            }
            OfAligner::WriteFailed { attempt, checkpoint } => {
                self.hears_of(checkpoint, false)?;
                aligner::Event::WriteFailed { attempt, checkpoint }
            }
        })
    }

    /// SPEC 5.4: the outcome of a snapshot is what its writing returned.
    fn hears_of(&mut self, checkpoint: CheckpointId, durable: bool) -> Checked {
        match self.written.remove(&checkpoint) {
            Some(came) if came == durable => Ok(()),
            Some(_) => Err(breach(
                Rule::Durable,
                format!("the snapshot of checkpoint {checkpoint} came back with another result"),
            )),
            None => Err(breach(
                Rule::Durable,
                format!(
                    "a snapshot is acknowledged when its bytes are durable, and no line says that those of checkpoint {checkpoint} came back"
                ),
            )),
        }
    }

    /// SPEC 2.2, 15.2: a channel is read in the order in which it was written.
    fn take(
        &mut self,
        channel: usize,
        marker: Marker,
        received: Option<u64>,
        channels: &mut Channels,
        around: &mut Around<'_>,
    ) -> Checked<Option<Barrier>> {
        self.owes_nothing()?;
        let place = &around.topology.subtasks()[self.subtask.index()];
        let Some(&number) = place.inputs.get(channel) else {
            return Err(breach(Rule::Possible, format!("it has no input {channel}")));
        };
        // SPEC 5.2
        ensure(!self.aligner.held(&self.config, channel), Rule::Possible, || {
            format!("input {channel} is blocked, and must not be read")
        })?;
        // SPEC 6.4
        let may_read = self.sink.as_ref().is_none_or(|sink| sink.machine.may_read());
        ensure(may_read, Rule::Possible, || "this sink must not read".into())?;
        let from = around.topology.name(around.topology.channels()[number].from);
        let Some(next) = channels.0[number].pop_front() else {
            return Err(breach(
                Rule::Fifo,
                format!("{from} has put nothing on the channel that was not taken before"),
            ));
        };
        ensure(next.marker == marker, Rule::Fifo, || {
            format!("{} of {from} comes first", name(next.marker))
        })?;
        ensure(received == Some(next.behind), Rule::Fifo, || {
            format!("{from} has put {} after {} records", name(marker), next.behind)
        })?;
        self.behind[channel] = next.behind;
        around.tally.markers += 1;
        around.tally.records += next.behind;
        Ok(next.barrier)
    }

    /// SPEC 5.4, 5.7: a barrier, or the end, goes to every output after all that was emitted.
    pub(super) fn send(
        &mut self,
        marker: Marker,
        counts: &[u64],
        channels: &mut Channels,
        around: &Around<'_>,
    ) -> Checked {
        self.sink_owes_nothing()?;
        let barrier = match self.due.front() {
            Some(&(due, barrier)) if due == marker => barrier,
            Some(&(due, _)) => {
                return Err(breach(Rule::CarriedOut, format!("{} is due first", name(due))));
            }
            None => {
                return Err(breach(
                    Rule::CarriedOut,
                    format!("its aligner did not ask for {} to be sent", name(marker)),
                ));
            }
        };
        self.due.pop_front();
        ensure(counts.len() == self.sent.len(), Rule::Fifo, || {
            format!("it has {} output channels", self.sent.len())
        })?;
        let fall = counts.iter().zip(&self.sent).any(|(now, before)| now < before);
        ensure(!fall, Rule::Fifo, || format!("it had sent {:?} records before", self.sent))?;
        // SPEC 4.8, 5.7, 7.4
        ensure(!self.silent || counts == self.sent, Rule::CarriedOut, || {
            format!("it was to emit nothing more, and had sent {:?} records", self.sent)
        })?;
        self.sent = counts.to_vec();
        self.silent =
            marker == Marker::End || (self.config.inputs == 0 && !self.aligner.may_emit());
        let place = &around.topology.subtasks()[self.subtask.index()];
        for (&channel, &behind) in place.outputs.iter().zip(counts) {
            channels.0[channel].push_back(InBand { marker, barrier, behind });
        }
        Ok(())
    }

    pub(super) fn blob(
        &mut self,
        id: BlobId,
        needs: &[BlobId],
        durable: bool,
        around: &mut Around<'_>,
    ) -> Checked {
        let mine = (id.attempt, id.subtask) == (self.attempt, self.subtask);
        let asked = self.writing.remove(&id.checkpoint).filter(|_| mine);
        let Some(barrier) = asked else {
            return Err(breach(
                Rule::Asked,
                "its aligner did not ask for this snapshot, or it came back",
            ));
        };
        // SPEC 15.1: handed-over work is done in order.
        if let Some(sink) = &self.sink {
            let Self { attempt, subtask, .. } = *self;
            let txn = TxnId { checkpoint: id.checkpoint, attempt, subtask };
            ensure(!sink.preparing.contains(&txn), Rule::CarriedOut, || {
                format!("the transaction of checkpoint {} was to be prepared first", id.checkpoint)
            })?;
        }
        self.written.insert(id.checkpoint, durable);
        match durable {
            true => around.history.blob(id, needs, barrier.base),
            false => ensure(needs.is_empty(), Rule::Complete, || {
                "a snapshot that was not written needs nothing".into()
            }),
        }
    }
}

fn name(marker: Marker) -> String {
    match marker {
        Marker::Barrier(checkpoint) => format!("barrier {checkpoint}"),
        Marker::End => "the end".into(),
    }
}
