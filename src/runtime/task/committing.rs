//! A sink's task and its committer: transactions are prepared, committed and rolled back on the
//! task's lane (SPEC 6).

use std::time::Duration;

use snapline_protocol::committer::{self, CommitOutcome};
use snapline_protocol::ids::TxnId;
use snapline_protocol::message::CommitPermit;
use snapline_protocol::recovery::keeps_up;
use snapline_protocol::{Machine, Out};

use crate::base::error::{BoxError, Permanent};
use crate::base::fault::Mutation;
use crate::base::panic::guarded;
use crate::base::sync::{Arc, Ordering};
use crate::executor::io_pool::{IoKind, IoRequest};
use crate::operator::body::{IoAction, TaskOperator, Transactions};
use crate::runtime::task::{Links, Task, TaskEvent, TaskIdentity};
use crate::trace::What;

/// The pause before a commit is retried: doubled from the first to the last.
const COMMIT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

impl Task {
    pub(crate) fn commit(&mut self, event: committer::Event) -> Result<(), BoxError> {
        let Some((config, committer)) = &mut self.committer else { return Ok(()) };
        let mut out = Out::new();
        let verdict = committer.handle(config, event, &mut out);
        tracing::trace!(target: "snapline::machine", subtask = ?self.identity.subtask, ?event, ?verdict);
        self.note(|task| {
            let records = matches!(event, committer::Event::Barrier(_)).then(|| task.received());
            What::committer(&event, verdict, out.as_slice(), records)
        });
        self.committer_effects(out)
    }

    pub(crate) fn committer_effects(
        &mut self,
        mut out: Out<committer::Effect>,
    ) -> Result<(), BoxError> {
        for effect in out.drain() {
            match effect {
                committer::Effect::RollBackOrphans
                    if self.links.platform.faults.is_active(Mutation::OrphansForgotten) => {}
                committer::Effect::RollBackOrphans => self.roll_back_orphans(),
                committer::Effect::PreCommit(txn) => {
                    let close = transactions(&mut self.body).close(txn)?;
                    let note = self.noting();
                    let mut prepare: IoAction<()> = Box::new(move || {
                        close()?;
                        note(What::Prepared { txn });
                        Ok(())
                    });
                    if self.links.platform.faults.is_active(Mutation::PrepareAfterAck)
                        && let Some(late) = self.late.get()
                    {
                        late.insert(txn, prepare);
                        prepare = Box::new(|| Ok(()));
                    }
                    self.hand_over(IoKind::Prepare, Duration::ZERO, prepare, |()| None);
                }
                committer::Effect::Commit(txn, permit) => self.commit_call(txn, permit),
                committer::Effect::Send(message) => self.send(message),
            }
        }
        if let Some((_, committer)) = &self.committer {
            let pending = committer.pending();
            self.gauges.doubts(pending.len());
            let kept = match self.links.platform.faults.is_active(Mutation::CommittableForgotten) {
                true => &pending[pending.len().saturating_sub(1)..],
                false => pending,
            };
            transactions(&mut self.body).retain(kept);
        }
        Ok(())
    }

    fn roll_back_orphans(&mut self) {
        let Some((config, committer)) = &self.committer else { return };
        let (config, committer) = (*config, committer.clone());
        let restored = committer.permitted();
        let all = self.links.platform.faults.is_active(Mutation::HeldRolledBack);
        let (note, noted) = (self.noting(), self.noting());
        let is_orphan = Box::new(move |txn: &TxnId| {
            let orphan = all || committer.is_orphan(&config, txn);
            noted(What::Found { txn: *txn, orphan });
            orphan
        });
        let policy = self.links.policy;
        let keeps_up = Box::new(move |committed: Option<TxnId>| {
            let committed = committed.map(|txn| txn.checkpoint);
            Ok(keeps_up(restored, committed, policy).map_err(Permanent::new)?)
        });
        let roll_back = transactions(&mut self.body).roll_back_orphans(is_orphan, keeps_up);
        let action = Box::new(move || {
            roll_back()?;
            note(What::Fenced {});
            Ok(())
        });
        self.hand_over(IoKind::RollBack, Duration::ZERO, action, |()| None);
    }

    fn commit_call(&mut self, txn: TxnId, permit: CommitPermit) {
        let tries = if self.tries.0 == Some(txn) { self.tries.1 } else { 0 };
        self.tries = (Some(txn), tries + 1);
        let pause = match tries {
            0 => Duration::ZERO,
            tries => COMMIT_PAUSE.0.saturating_mul(1 << (tries - 1).min(7)).min(COMMIT_PAUSE.1),
        };
        let mut called = txn;
        if self.links.platform.faults.is_active(Mutation::NewestCommittedFirst)
            && let Some((_, committer)) = &self.committer
        {
            let permitted = |txn: &&TxnId| txn.checkpoint <= permit.checkpoint();
            called = committer.pending().iter().rfind(permitted).copied().unwrap_or(txn);
        }
        // Invariant: the machine commits only what its newest permit covers (SPEC 6.1).
        let grant = permit.grant(called).expect("the permit covers what is committed");
        let (call, note) = (transactions(&mut self.body).commit(grant), self.noting());
        let mut commit: IoAction<CommitOutcome> = Box::new(move || {
            note(What::CommitCall { txn });
            let outcome = call()?;
            note(What::CommitReturned { txn, outcome });
            Ok(outcome)
        });
        if let Some(prepare) = self.late.get().and_then(|late| late.remove(&txn)) {
            commit = Box::new(move || prepare().and_then(|()| commit()));
        }
        if self.links.platform.faults.is_active(Mutation::LossSwallowed) {
            commit = Box::new(move || match commit()? {
                CommitOutcome::Lost => Ok(CommitOutcome::Committed),
                outcome => Ok(outcome),
            });
        }
        if self.links.platform.faults.is_active(Mutation::CommitSwallowed) {
            commit = Box::new(move || match commit()? {
                CommitOutcome::Retry | CommitOutcome::Unknown => Ok(CommitOutcome::Committed),
                outcome => Ok(outcome),
            });
        }
        if self.links.platform.faults.is_active(Mutation::CommitErrorSwallowed) {
            commit = Box::new(move || Ok(commit().unwrap_or(CommitOutcome::Committed)));
        }
        self.hand_over(IoKind::Commit, pause, commit, move |outcome| {
            Some(TaskEvent::Commit { txn, result: Ok(outcome) })
        });
    }

    /// Reports why a commit is retried, each time that the number of tries has doubled.
    pub(crate) fn say_trouble(&mut self, txn: TxnId, outcome: CommitOutcome) {
        let trouble = match outcome {
            CommitOutcome::Retry | CommitOutcome::Unknown => Some(
                transactions(&mut self.body)
                    .trouble()
                    .unwrap_or_else(|| format!("the sink answered {outcome:?} without a cause")),
            ),
            CommitOutcome::Committed | CommitOutcome::AlreadyCommitted | CommitOutcome::Lost => {
                None
            }
        };
        if let Some(cause) = &trouble
            && self.tries.1.is_power_of_two()
        {
            let (TaskIdentity { job, operator, index, attempt, .. }, tries) =
                (&self.identity, self.tries.1);
            tracing::warn!(
                target: "snapline::checkpoint",
                job, checkpoint = txn.checkpoint.get(), operator, subtask = index, %attempt, tries, cause,
                "retrying a commit"
            );
        }
        self.gauges.troubles(trouble);
    }

    /// Runs work on this task's lane; its result is an event.
    fn hand_over<R: 'static>(
        &self,
        work: IoKind,
        pause: Duration,
        action: IoAction<R>,
        news: impl FnOnce(R) -> Option<TaskEvent> + Send + 'static,
    ) {
        let Links { me, over, io_pool, .. } = self.links.clone();
        let broken = Arc::clone(&self.broken);
        let job = move || {
            if broken.load(Ordering::Acquire) {
                return;
            }
            match guarded(action) {
                Ok(result) => news(result).into_iter().for_each(|news| me.send(news)),
                Err(cause) => {
                    // Set before the attempt ends: a sink that could not fence commits nothing, one
                    // that could not prepare acknowledges nothing.
                    broken.store(true, Ordering::Release);
                    me.send(TaskEvent::Failed { doing: work.doing(), cause });
                }
            }
        };
        let apart = work == IoKind::Prepare
            && self.links.platform.faults.is_active(Mutation::PrepareNotAwaited);
        io_pool.submit(
            self.identity.subtask.index() + usize::from(apart),
            IoRequest::new(work, job).after(pause).unless(&over),
        );
    }
}

/// A sink's transactions.
fn transactions(body: &mut Box<dyn TaskOperator>) -> &mut dyn Transactions {
    // Invariant: a task has a committer exactly if its operator is a sink's; both are made from the
    // operator's role.
    body.transactions().expect("only a sink has a committer")
}
