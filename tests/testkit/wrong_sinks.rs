//! Sinks with one fault each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use snapline::BoxError;
use snapline::connect::{CommitGrant, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink};
use snapline::protocol::committer::CommitOutcome;
use snapline::protocol::ids::{Attempt, TxnId};
use snapline::testkit::{self, Law, SinkUnderTest, Violation};

/// The fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Nothing,
    CommitsAtTheBarrier,
    CommitIsNotIdempotent,
    DropsWhatIsInDoubt,
    DoesNotFence,
    FindsNothing,
    RollsBackNothing,
    FindsOthers,
    AnswersEarly,
    ForgetsWhatItCommitted,
    NeverKnows,
    Panics,
    CommittableIsAHandle,
}

/// The state that outlives every process.
#[derive(Default)]
struct External {
    fence: BTreeMap<usize, Attempt>,
    prepared: BTreeMap<TxnId, Vec<u64>>,
    committed: BTreeMap<TxnId, Vec<u64>>,
    visible: Vec<u64>,
    done: BTreeSet<TxnId>,
}

#[derive(Clone)]
struct Wronged {
    wrong: Wrong,
    external: Arc<Mutex<External>>,
    /// The state that is lost with the process.
    memory: Arc<Mutex<BTreeMap<u64, Vec<u64>>>>,
}

struct Part {
    sink: Wronged,
    index: usize,
    attempt: Attempt,
    open: Vec<u64>,
}

/// The records, or their place.
type Committable = (Vec<u64>, u64);

impl TwoPhaseSink for Wronged {
    type Record = u64;
    type Committable = Committable;
    type Writer = Part;
    type Committer = Part;

    fn open(&self, context: &OpenContext) -> Result<(Part, Part), BoxError> {
        let part = || Part {
            sink: self.clone(),
            index: context.index,
            attempt: context.attempt,
            open: Vec::new(),
        };
        Ok((part(), part()))
    }
}

impl SinkWriter for Part {
    type Record = u64;
    type Committable = Committable;

    fn write(&mut self, records: &mut Vec<u64>) -> Result<(), BoxError> {
        self.open.append(records);
        Ok(())
    }

    fn close(&mut self, txn: TxnId) -> Result<Committable, BoxError> {
        let records = std::mem::take(&mut self.open);
        if self.sink.wrong == Wrong::CommittableIsAHandle {
            let handle = txn.checkpoint.get() * 1000 + self.index as u64;
            self.sink.memory.lock().unwrap().insert(handle, records);
            return Ok((Vec::new(), handle));
        }
        Ok((records, 0))
    }
}

impl SinkCommitter for Part {
    type Committable = Committable;

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, Committable)>, BoxError> {
        let mut external = self.sink.external.lock().unwrap();
        if self.sink.wrong != Wrong::DoesNotFence {
            external.fence.insert(self.index, attempt);
        }
        if self.sink.wrong == Wrong::DropsWhatIsInDoubt {
            let index = self.index;
            external.prepared.retain(|txn, _| txn.subtask.index() != index);
        }
        let found = external.prepared.iter().filter(|(txn, _)| match self.sink.wrong {
            Wrong::FindsNothing => false,
            Wrong::FindsOthers => true,
            _ => txn.subtask.index() == self.index && txn.attempt < attempt,
        });
        Ok(found.map(|(txn, records)| (*txn, (records.clone(), 0))).collect())
    }

    fn prepare(&mut self, txn: TxnId, committable: &Committable) -> Result<(), BoxError> {
        let records = match self.sink.wrong {
            Wrong::CommittableIsAHandle => {
                let memory = self.sink.memory.lock().unwrap();
                memory.get(&committable.1).cloned().ok_or("it is gone")?
            }
            _ => committable.0.clone(),
        };
        let mut external = self.sink.external.lock().unwrap();
        if external.fence.get(&self.index).is_some_and(|fence| *fence > self.attempt) {
            return Err("fenced off".into());
        }
        if self.sink.wrong == Wrong::CommitsAtTheBarrier {
            external.visible.extend(&records);
            external.committed.insert(txn, records);
        } else if self.sink.wrong != Wrong::CommittableIsAHandle {
            external.prepared.insert(txn, records);
        }
        Ok(())
    }

    fn commit(
        &mut self,
        grant: CommitGrant,
        committable: &Committable,
    ) -> Result<CommitOutcome, BoxError> {
        let txn = grant.txn();
        let mut external = self.sink.external.lock().unwrap();
        match self.sink.wrong {
            Wrong::NeverKnows => return Ok(CommitOutcome::Unknown),
            Wrong::Panics => panic!("a bug of the sink's"),
            Wrong::AnswersEarly => {
                external.prepared.remove(&txn);
                return Ok(CommitOutcome::Committed);
            }
            Wrong::CommitIsNotIdempotent => {
                external.prepared.remove(&txn);
                external.visible.extend(&committable.0);
                return Ok(CommitOutcome::Committed);
            }
            Wrong::CommittableIsAHandle => {
                let memory = self.sink.memory.lock().unwrap();
                let Some(records) = memory.get(&committable.1).cloned() else {
                    return Ok(CommitOutcome::Lost);
                };
                if external.done.insert(txn) {
                    external.visible.extend(records);
                }
                return Ok(CommitOutcome::Committed);
            }
            _ => {}
        }
        if external.committed.contains_key(&txn) {
            return Ok(CommitOutcome::AlreadyCommitted);
        }
        let Some(records) = external.prepared.remove(&txn) else {
            return Ok(CommitOutcome::Lost);
        };
        external.visible.extend(&records);
        if self.sink.wrong != Wrong::ForgetsWhatItCommitted {
            external.committed.insert(txn, records);
        }
        Ok(CommitOutcome::Committed)
    }

    fn roll_back(&mut self, txn: TxnId, _: &Committable) -> Result<(), BoxError> {
        if self.sink.wrong != Wrong::RollsBackNothing {
            self.sink.external.lock().unwrap().prepared.remove(&txn);
        }
        Ok(())
    }
}

struct Under {
    wrong: Wrong,
    external: Arc<Mutex<External>>,
}

impl SinkUnderTest for Under {
    type Sink = Wronged;

    fn sink(&self) -> Wronged {
        let (wrong, external) = (self.wrong, Arc::clone(&self.external));
        Wronged { wrong, external, memory: Arc::default() }
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        Ok(self.external.lock().unwrap_or_else(|locked| locked.into_inner()).visible.clone())
    }

    fn prepared(&self) -> Result<Option<usize>, BoxError> {
        // With a count, the kit detects remains at the end; without one, when a later attempt finds
        // them again.
        match self.wrong {
            Wrong::RollsBackNothing => Ok(None),
            _ => Ok(Some(self.external.lock().unwrap().prepared.len())),
        }
    }
}

fn check(wrong: Wrong) -> Result<testkit::Report, Box<Violation>> {
    testkit::sink(|| Under { wrong, external: Arc::default() }).check()
}

#[test]
fn the_right_one_passes() {
    let report = check(Wrong::Nothing).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.rolled_back > 0 && report.committed_again > 0, "{report}");
}

#[test]
fn each_wrong_one_is_caught_by_its_law() {
    for (wrong, law) in [
        (Wrong::CommitsAtTheBarrier, Law::NothingEarly),
        (Wrong::CommitIsNotIdempotent, Law::NothingTwice),
        (Wrong::DropsWhatIsInDoubt, Law::PreparedIsKept),
        (Wrong::DoesNotFence, Law::Fenced),
        (Wrong::FindsNothing, Law::NothingLeft),
        (Wrong::RollsBackNothing, Law::RolledBackIsGone),
        (Wrong::FindsOthers, Law::FoundIsOwn),
        (Wrong::AnswersEarly, Law::NothingLost),
        (Wrong::ForgetsWhatItCommitted, Law::PreparedIsKept),
        (Wrong::NeverKnows, Law::CallsReturn),
        (Wrong::Panics, Law::CallsReturn),
        (Wrong::CommittableIsAHandle, Law::PreparedIsKept),
    ] {
        let violation = check(wrong).expect_err(&format!("{wrong:?} is not caught"));
        assert_eq!(violation.law, law, "{wrong:?}: {violation}");
        let text = violation.to_string();
        assert!(text.contains(law.text()) && text.contains("attempt 1: open subtask 0"), "{text}");
        eprintln!("{wrong:?}, caught after {} steps: {}", violation.steps.len(), violation.seen);
    }
}
