//! Sinks of a recorded run: their committers, and the calls that are made for them (SPEC 11.9).

use std::collections::BTreeSet;

use serde_json::Value;

use snapline_protocol::Verdict;
use snapline_protocol::aligner::Mode;
use snapline_protocol::committer::{self, CommitOutcome, Committer};
use snapline_protocol::ids::{BlobId, CheckpointId, TxnId};
use snapline_protocol::message::CommitPermit;

use super::rule::{Checked, Rule, breach, ensure};
use super::run;
use super::tasks::{Around, ReplayedTask};
use crate::trace::event::OfCommitter;

/// What a sink has besides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ReplayedSink {
    pub(super) config: committer::Config,
    pub(super) machine: Committer,
    pub(super) two_phase: bool,
    /// Its aligner has taken a snapshot that its committer has not taken in.
    pub(super) owes_barrier: Option<CheckpointId>,
    /// Its aligner has taken in a message that its committer has not.
    pub(super) owes_message: Option<Value>,
    pub(super) records: u64,
    pub(super) preparing: BTreeSet<TxnId>,
    pub(super) fenced: bool,
    /// Commits that were requested and not called, at most one (SPEC 6.6).
    pub(super) permitted: Option<(TxnId, CommitPermit)>,
    /// The call in flight, and whether it is the first of its name.
    pub(super) calling: Option<(TxnId, bool)>,
    /// The call that has returned and that the committer has not taken in.
    pub(super) returned: Option<(TxnId, CommitOutcome)>,
}

impl ReplayedTask {
    fn sink(&mut self) -> Checked<&mut ReplayedSink> {
        self.sink
            .as_mut()
            .ok_or_else(|| breach(Rule::Possible, "only a sink has a committer and transactions"))
    }

    pub(super) fn commit(
        &mut self,
        event: &OfCommitter,
        (verdict, effects, records): (Verdict, &[Value], Option<u64>),
        around: &mut Around<'_>,
    ) -> Checked {
        let (subtask, attempt) = (self.subtask, self.attempt);
        let behind = self.behind.iter().sum::<u64>();
        let sink = self.sink()?;
        let event = match *event {
            OfCommitter::Barrier(checkpoint) => {
                ensure(sink.owes_barrier.take() == Some(checkpoint), Rule::CarriedOut, || {
                    format!("its aligner takes no snapshot for checkpoint {checkpoint} now")
                })?;
                committer::Event::Barrier(checkpoint)
            }
            OfCommitter::Control(ref message) => {
                let heard = around.mail.order(subtask, message)?;
                ensure(
                    sink.owes_message.take().as_ref() == Some(message),
                    Rule::CarriedOut,
                    || "the aligner must receive a message before the committer does".into(),
                )?;
                committer::Event::Control(heard)
            }
            OfCommitter::Outcome { txn, outcome } => {
                ensure(sink.returned.take() == Some((txn, outcome)), Rule::Asked, || {
                    "no commit call has returned this".into()
                })?;
                committer::Event::Outcome { txn, outcome }
            }
        };
        let out = run(&mut sink.machine, &sink.config, event, verdict, effects)?;
        let is_barrier = matches!(event, committer::Event::Barrier(_));
        ensure(is_barrier == records.is_some(), Rule::Possible, || {
            "records are counted for a barrier, and for nothing else".into()
        })?;
        if let (committer::Event::Barrier(checkpoint), Some(records)) = (event, records) {
            let Some(written) = records.checked_sub(sink.records) else {
                let before = sink.records;
                return Err(breach(Rule::Fifo, format!("it had taken {before} records before")));
            };
            // SPEC 5.2: a held input is not read, so that the transaction ends at the barriers.
            let cut = around.mode == Mode::AtLeastOnce && records > behind || records == behind;
            ensure(cut, Rule::Fifo, || format!("{behind} records came before the barriers"))?;
            sink.records = records;
            around.history.closed(TxnId { checkpoint, attempt, subtask }, written)?;
            let blob = BlobId { checkpoint, attempt, subtask };
            around.history.held(blob, sink.machine.pending());
        }
        self.committer_effects(&out, around)
    }

    pub(super) fn committer_effects(
        &mut self,
        effects: &[committer::Effect],
        around: &mut Around<'_>,
    ) -> Checked {
        let sink = self.sink.as_mut().map_or_else(
            || effects.is_empty().then_some(None).ok_or_else(|| breach(Rule::Possible, "no sink")),
            |sink| Ok(Some(sink)),
        )?;
        let Some(sink) = sink else { return Ok(()) };
        for &effect in effects {
            match effect {
                committer::Effect::PreCommit(txn) => _ = sink.preparing.insert(txn),
                committer::Effect::RollBackOrphans => {}
                committer::Effect::Commit(txn, permit) => sink.permitted = Some((txn, permit)),
                committer::Effect::Send(message) => around.mail.reported(message),
            }
        }
        Ok(())
    }

    pub(super) fn prepared(&mut self, txn: TxnId, around: &mut Around<'_>) -> Checked {
        let sink = self.sink()?;
        sink.has_fenced()?;
        ensure(sink.preparing.remove(&txn), Rule::Asked, || {
            "its committer did not ask for this transaction to be prepared, or it was".into()
        })?;
        around.tally.transactions += 1;
        around.history.prepared(txn, sink.two_phase)
    }

    pub(super) fn found(&mut self, txn: TxnId, orphan: bool, around: &mut Around<'_>) -> Checked {
        let sink = self.sink()?;
        ensure(!sink.fenced, Rule::Orphans, || "a sink lists its orphans once".into())?;
        let says = sink.machine.is_orphan(&sink.config, &txn);
        ensure(says == orphan, Rule::Orphans, || {
            match says {
            true => "it is an orphan: of an earlier attempt, and the restored checkpoint does not hold it".into(),
            false => "it is not an orphan: the restored checkpoint holds it, or it is of this \
                attempt".into(),
        }
        })?;
        around.history.listed_txn(txn, orphan)
    }

    pub(super) fn fenced(&mut self, around: &mut Around<'_>) -> Checked {
        let (subtask, attempt) = (self.subtask, self.attempt);
        let sink = self.sink()?;
        ensure(!std::mem::replace(&mut sink.fenced, true), Rule::Asked, || {
            "it has already fenced off earlier writers".into()
        })?;
        around.history.fenced(subtask, attempt);
        Ok(())
    }

    /// SPEC 3.5, 6.1, 6.6
    pub(super) fn commit_call(&mut self, txn: TxnId, around: &mut Around<'_>) -> Checked {
        let sink = self.sink()?;
        sink.has_fenced()?;
        let permit = sink.permitted.take_if(|(permitted, _)| *permitted == txn);
        let Some((_, permit)) = permit else {
            return Err(breach(
                Rule::Permit,
                "its committer gave no permit for this call, or the permit was used: a permit \
                 allows one call",
            ));
        };
        let checkpoint = permit.checkpoint();
        ensure(around.history.is_complete(checkpoint), Rule::Permit, || {
            format!("no line says that checkpoint {checkpoint} is complete")
        })?;
        let first = around.history.commit_called(txn)?;
        around.tally.commits += 1;
        sink.calling = Some((txn, first));
        Ok(())
    }

    pub(super) fn commit_returned(
        &mut self,
        txn: TxnId,
        outcome: CommitOutcome,
        around: &mut Around<'_>,
    ) -> Checked {
        let sink = self.sink()?;
        let Some((_, first)) = sink.calling.take_if(|(calling, _)| *calling == txn) else {
            return Err(breach(Rule::Asked, "no such call is under way"));
        };
        sink.returned = Some((txn, outcome));
        around.history.commit_returned(txn, outcome, first, sink.two_phase)
    }
}

impl ReplayedSink {
    pub(super) fn new(config: committer::Config, machine: Committer, two_phase: bool) -> Self {
        Self {
            config,
            machine,
            two_phase,
            owes_barrier: None,
            owes_message: None,
            records: 0,
            preparing: BTreeSet::new(),
            fenced: false,
            permitted: None,
            calling: None,
            returned: None,
        }
    }

    /// SPEC 6.4
    fn has_fenced(&self) -> Checked {
        ensure(self.fenced, Rule::CarriedOut, || {
            "it was to fence off earlier writers, and roll back orphans, first".into()
        })
    }
}
