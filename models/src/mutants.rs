//! Wrong rules, each a real bug of some system or the simple mistake behind it, switched on one at a time.
//!
//! None of them is in the protocol: each is a broken driver, store or environment around the true machines, so that `protocol/` has
//! no switch to leave on. A mutant is killed when the law written for its class finds a shortest counterexample; one that lives
//! fails CI. [`SOLO`] shows that no law is idle: each law has a mutant that no other law sees.

use snapline_protocol::aligner::Mode;

use crate::explore::Bounds;
use crate::laws::Law;
use crate::run::{Engine, Report, explore};
use crate::scenario::{Faults, Scenario, StopKind};
use crate::sink::SinkModel;
use crate::topologies::{chain, chain_of_three, diamond, pair, two_sinks};

/// What there is to know of a mutant.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name on the command line.
    pub name: &'static str,
    /// The wrong rule, in a sentence.
    pub rule: &'static str,
    /// The known bug, or the class of bugs, it stands for.
    pub bug: &'static str,
    /// The law that must kill it.
    pub law: Law,
    /// Where it is hunted.
    pub scenario: fn() -> Scenario,
}

macro_rules! mutants {
    ($($variant:ident, $name:literal, $law:ident, $rule:literal, $bug:literal, $scenario:expr;)*) => {
        /// A wrong rule. See [`Mutant::about`].
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Mutant {
            $(#[doc = $rule] $variant,)*
        }

        impl Mutant {
            /// Every mutant, by name.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What there is to know of it.
            #[must_use]
            pub fn about(self) -> About {
                match self {
                    $(Self::$variant => About {
                        name: $name,
                        rule: $rule,
                        bug: $bug,
                        law: Law::$law,
                        scenario: || $scenario,
                    },)*
                }
            }
        }
    };
}

mutants! {
    AckBeforeDurable, "ack-before-durable", Restorable,
        "A snapshot is acknowledged when its write begins, not when it is durable.",
        "ack before persist; FLINK-36421, FLINK-35217",
        crashing(slow(chain()));
    BarrierOvertakes, "barrier-overtakes", CutComplete,
        "A barrier overtakes the record before it in the channel.",
        "aligned savepoint barriers sent with priority: FLINK-18252",
        wide(slow(chain_of_three()));
    BaseUnconfirmed, "base-unconfirmed", Restorable,
        "A snapshot builds on the newest one taken, complete or not.",
        "FLINK-25395; incremental base not confirmed",
        Scenario { checkpoints: 2, faults: Faults { failed_snapshots: 1, ..NONE }, ..sharing(chain()) };
    ClaimsAlike, "claims-alike", NoLoss,
        "Of two coordinators that chose the same term, the store lets both claim it.",
        "split brain: LaminarDB commit 83b7b958; a lease that two hold",
        Scenario { faults: Faults { zombie_coordinators: 1, ..NONE }, ..slow(chain()) };
    CollectBlobsFirst, "collect-blobs-first", Restorable,
        "Blobs of a subsumed checkpoint are deleted before its manifest is.",
        "GC order: Arroyo #1076 and the like",
        Scenario { checkpoints: 2, ..retaining(chain()) };
    CollectByCreator, "collect-by-creator", Restorable,
        "A blob is deleted with the checkpoint that wrote it, whoever still refers to it.",
        "deletion by name: FLINK-21351, FLINK-26985",
        Scenario { checkpoints: 2, ..sharing(chain()) };
    CollectIgnoresBase, "collect-ignores-base", Restorable,
        "The base of a checkpoint under way may be deleted once it is subsumed.",
        "FLINK-29913 with several checkpoints under way; RisingWave commit addc87d3aa5",
        Scenario { checkpoints: 3, max_concurrent: 2, ..sharing(chain()) };
    CollectIgnoresPending, "collect-ignores-pending", Restorable,
        "Blobs of a checkpoint under way count as garbage.",
        "GC candidates computed before pins are read: RisingWave commit addc87d3aa5, RisingWave commit fb715545445",
        Scenario { checkpoints: 2, ..retaining(chain()) };
    CollectNothing, "collect-nothing", NoLeak,
        "Nothing is ever deleted.",
        "orphans for ever: FLINK-30461, FLINK-25511",
        Scenario { checkpoints: 1, ..retaining(chain()) };
    ClaimNotesNothing, "claim-notes-nothing", NoDuplicates,
        "A claim does not note the checkpoint that the last owner completed and died before it could note.",
        "a store that fell back in time, unnoticed",
        Scenario { faults: Faults { coordinator_crashes: 2, lost_manifests: 1, ..NONE }, ..slow(chain()) };
    CommitAtBarrier, "commit-at-barrier", CommitAfterComplete,
        "A transaction is committed when its barrier comes.",
        "commit at the barrier",
        slow(chain());
    CommitNewestFirst, "commit-newest-first", Prefix,
        "Of several transactions that may be committed the newest goes first.",
        "a lower id is never committed after a higher one; FLINK-10377",
        Scenario { faults: Faults { failed_snapshots: 1, ..NONE }, ..slow(chain()) };
    CommitTwice, "commit-twice", NoDuplicates,
        "A commit call is carried out twice.",
        "commit not idempotent; KAFKA-10080",
        slow(chain());
    CompleteBeforeStored, "complete-before-stored", CommitAfterComplete,
        "Sinks are told that a checkpoint is complete when all have acknowledged, before its manifest is durable.",
        "FLINK-31077; completion told before the store has it",
        slow(chain());
    CompletionForgotten, "completion-forgotten", NoDuplicates,
        "The store does not remember which checkpoint was complete: without its manifest an older one is the newest.",
        "a checkpoint that cannot be found is passed over silently: FLINK-22502",
        Scenario { faults: Faults { coordinator_crashes: 1, lost_manifests: 1, ..NONE }, ..slow(chain()) };
    CompletionNotedEarly, "completion-noted-early", Progress,
        "The store notes that a checkpoint is complete before its manifest is durable.",
        "a marker before what it marks: a job that can never start again",
        Scenario { faults: Faults { coordinator_crashes: 1, ..NONE }, ..slow(chain()) };
    CountBarriers, "count-barriers", CutClean,
        "Barriers are counted, not compared: a newer barrier is taken for the one that is awaited.",
        "barriers counted, not compared; FLINK-20645",
        Scenario {
            checkpoints: 3,
            max_concurrent: 3,
            prompt_writes: true,
            faults: Faults { losses: 1, ..NONE },
            ..slow(pair())
        };
    EmptyNotWritten, "empty-not-written", Restorable,
        "A sink without data in an epoch acknowledges without writing.",
        "RisingWave #26492: an empty cycle acked without being persisted",
        slow(two_sinks());
    EndedTakesNoPart, "ended-takes-no-part", Progress,
        "A source whose input has ended ignores triggers.",
        "finished input never aligns; FLINK-26403, LaminarDB commit 4472360a",
        slow(pair());
    FactsBeforeFence, "facts-before-fence", NoLoss,
        "A new coordinator reads what is there before it raises the fence.",
        "RisingWave #27084: reconciliation not fenced; FLINK-22502",
        Scenario { faults: Faults { zombie_coordinators: 1, ..NONE }, ..slow(chain()) };
    FailsOverDuringWrite, "fails-over-during-write", NoLoss,
        "A failover does not wait for the manifest write in flight.",
        "restart while a completion handler is between check and act; Hazelcast Jet commit 806e16227a",
        crashing(slow(chain()));
    FenceForgotten, "fence-forgotten", IdsMonotone,
        "Deletion takes the fence with it.",
        "fence deleted by GC; KAFKA-9144, Hazelcast Jet commit d52982f0e8",
        retaining(chain());
    ForgetsIncomplete, "forgets-incomplete", Restorable,
        "What a source has read is dropped at its barrier, before the checkpoint is complete.",
        "a queue acknowledged at the snapshot instead of at its completion",
        Scenario { forgets: true, ..crashing(retaining(chain())) };
    ForgetsKept, "forgets-kept", Restorable,
        "What a source has read is dropped up to the newest complete checkpoint, though older ones are kept.",
        "an older checkpoint that is kept, of which the input is gone",
        Scenario { forgets: true, retained: Some(2), checkpoints: 3, ..retaining(chain()) };
    IdsFromRestored, "ids-from-restored", IdsMonotone,
        "A new coordinator goes on behind the newest completed checkpoint's id.",
        "Arroyo #1003; ids reused after failover",
        Scenario { faults: Faults { coordinator_crashes: 1, ..NONE }, ..slow(chain()) };
    InDoubtForgotten, "in-doubt-forgotten", NoLoss,
        "A restored sink does not know the transactions its checkpoint holds, and rolls them back.",
        "in-doubt transaction dropped on recovery; LaminarDB #250",
        crashing(slow(chain()));
    LocalNamesKept, "local-names-kept", OneNameOneContent,
        "Blobs are named by a counter of the writer; a name that is there is taken for already written.",
        "FLINK-24611; SPARK-51717, SPARK-52637",
        crashing(slow(chain()));
    LocalNamesOverwritten, "local-names-overwritten", OneNameOneContent,
        "Blobs are named by a counter of the writer; a name that is there is written over.",
        "FLINK-24611, the other way round",
        Scenario { checkpoints: 0, ..crashing(slow(chain())) };
    LossSwallowed, "loss-swallowed", LossIsLoud,
        "A commit whose transaction is gone counts as committed.",
        "known reason: log and discard; FLINK-8086, Arroyo-like recovery",
        Scenario {
            sink: SinkModel::producer_with_timeout(),
            faults: Faults { drops: 1, ..NONE },
            ..slow(chain())
        };
    ManifestTorn, "manifest-torn", Restorable,
        "A manifest is renamed into place before its bytes are synced.",
        "local rename without fsync",
        Scenario { faults: Faults { coordinator_crashes: 1, ..NONE }, ..slow(chain()) };
    NamesWithoutCheckpoint, "names-without-checkpoint", NoLoss,
        "A transaction is known by its writer and attempt, not by its checkpoint.",
        "FLINK-37605: two committables share an id; KIP-890",
        Scenario { checkpoints: 2, ..slow(chain()) };
    NoAlignment, "no-alignment", CutClean,
        "Inputs whose barrier arrived are read on.",
        "RisingWave commit df1ac5f7f6e: a barrier forwarded unaligned; RisingWave commit 28bf4a3d1c6",
        slow(pair());
    NoFence, "no-fence", Fenced,
        "The store lets a deposed coordinator's manifest through.",
        "LaminarDB commit d0df7ed9: fence never raised; LaminarDB commit 83b7b958",
        Scenario { faults: Faults { zombie_coordinators: 1, ..NONE }, ..slow(chain()) };
    NoResend, "no-resend", Progress,
        "A completion notice that was lost is not repeated.",
        "no timeout in the commit phase; KAFKA-9777",
        Scenario { faults: Faults { losses: 1, ..NONE }, ..slow(chain()) };
    NoTimeout, "no-timeout", Progress,
        "A checkpoint under way is waited for without end.",
        "Hazelcast Jet commit 97f2654f01; FLINK-17351",
        Scenario { faults: Faults { losses: 1, ..NONE }, ..slow(chain()) };
    NotResetBeforeFirst, "not-reset-before-first", CutComplete,
        "When there is no checkpoint to restore, sources go on where they were.",
        "FLINK-20222: coordinators not reset before the first checkpoint",
        crashing(slow(chain()));
    OffsetAfter, "offset-after", CutComplete,
        "A source's snapshot counts the record it is about to read.",
        "offsets advance before the sink commits; KAFKA-16017",
        slow(chain());
    OffsetEmpty, "offset-empty", CutClean,
        "A checkpoint behind a restore records empty offsets.",
        "LaminarDB commit a47bebbb: empty source offsets; Feldera commit ba2c9755b",
        Scenario { checkpoints: 2, ..crashing(slow(chain())) };
    OldWritersAdmitted, "old-writers-admitted", Fenced,
        "The external system takes transactions from writers of an ended attempt.",
        "zombie writers: KAFKA-5231, RisingWave #27180",
        Scenario {
            records: 1,
            faults: Faults { crashes: 1, zombie_tasks: 1, ..NONE },
            ..slow(chain())
        };
    OneEndedIsAll, "one-ended-is-all", FinishedComplete,
        "The job counts as ended when one of its sources has.",
        "FLINK-38614, FLINK-24530: the final checkpoint is not final",
        slow(pair());
    OrphansLeft, "orphans-left", NoLeak,
        "A new attempt leaves the transactions of earlier ones alone.",
        "Hazelcast Jet commit ed4cc0cfd5, Hazelcast Jet commit 3b8407f221: lingering transactions",
        crashing(slow(chain()));
    OutrunsRecommit, "outruns-recommit", NoLoss,
        "A restored sink goes on before its replayed commits are resolved, and forgets them.",
        "workers outrun the replayed commit; LaminarDB #250",
        crashing(slow(chain()));
    PartialFanOut, "partial-fan-out", CutComplete,
        "On its last output a task sends the barrier before the record that belongs in front of it.",
        "Hazelcast Jet commit c1fed84abe: partial fan-out across the barrier",
        wide(slow(diamond()));
    PrepareAfterAck, "prepare-after-ack", NoLoss,
        "A transaction is prepared only when it is to be committed.",
        "acknowledged before pre-commit; FLINK-5701",
        slow(chain());
    RestoreOlder, "restore-older", NoLoss,
        "Recovery takes the checkpoint before the newest.",
        "FLINK-10354, FLINK-22502: silent fall-back",
        Scenario { checkpoints: 2, ..crashing(slow(chain())) };
    RetrySwallowed, "retry-swallowed", FinishedComplete,
        "A commit that was refused for now, or of unknown outcome, counts as committed.",
        "LaminarDB commit 825be1a0: sink-commit failures counted as success",
        refusing(slow(chain()));
    RollsBackHeld, "rolls-back-held", NoLoss,
        "Recovery rolls back every prepared transaction, those a completed checkpoint holds too.",
        "LaminarDB commit 1c45f510",
        crashing(slow(chain()));
    RollsBackOnFailure, "rolls-back-on-failure", NoLoss,
        "A sink that fails rolls back what it had prepared.",
        "unilateral abort after prepare",
        crashing(slow(chain()));
    SnapshotNotCopied, "snapshot-not-copied", CutClean,
        "A snapshot shares its memory with the running operator until it is written.",
        "FLINK-17568; post-barrier mutation leaks into the snapshot",
        slow(chain_of_three());
    StartsFromNothing, "starts-from-nothing", NoLoss,
        "A restart does not see any checkpoint.",
        "FLINK-25486: state deleted on a lost leadership",
        crashing(slow(chain()));
    StateHole, "state-hole", CutComplete,
        "A snapshot misses what is in an operator's buffer.",
        "flush before the barrier: KAFKA-16017, FLINK-36823",
        slow(chain_of_three());
    StopNotInStore, "stop-not-in-store", StopIsFinal,
        "The checkpoint that stopped the job is not one that recovery looks at.",
        "FLINK-26783, FLINK-10354: stop-with-savepoint, then failover",
        Scenario { stop: Some(StopKind::Suspend), ..crashing(slow(chain())) };
    SuspendedReadsOn, "suspended-reads-on", StopIsFinal,
        "A suspended source goes on reading.",
        "records behind the synchronous savepoint: FLINK-13969",
        Scenario { checkpoints: 0, stop: Some(StopKind::Suspend), ..slow(chain()) };
    TimerNotRearmed, "timer-not-rearmed", Progress,
        "An aborted checkpoint stops the interval timer.",
        "FLINK-13256, FLINK-26394: nothing re-arms the trigger",
        Scenario { faults: Faults { failed_snapshots: 1, ..NONE }, ..slow(chain()) };
    UnknownIsApplied, "unknown-is-applied", CommitAfterComplete,
        "A manifest write of unknown outcome counts as durable.",
        "ambiguous store write: LaminarDB commit 83b7b958",
        Scenario { faults: Faults { unknown_writes: 1, ..NONE }, ..slow(chain()) };
    UnknownIsNotApplied, "unknown-is-not-applied", StopIsFinal,
        "A manifest write of unknown outcome counts as failed.",
        "FLINK-22494: possible inconsistency ignored",
        Scenario {
            checkpoints: 0,
            stop: Some(StopKind::Suspend),
            faults: Faults { unknown_writes: 1, ..NONE },
            ..slow(chain())
        };
    WaitsForPayloadOnly, "waits-for-payload-only", Restorable,
        "A sink that never got a record is not waited for.",
        "wait set derived from payload: LaminarDB commit 84a56449",
        slow(chain());
}

/// A law, a mutant that it alone kills, and where: with that law left out, the mutant lives there.
#[derive(Clone, Copy, Debug)]
pub struct Solo {
    /// The law.
    pub law: Law,
    /// The mutant.
    pub mutant: Mutant,
    /// Where it is hunted.
    pub scenario: fn() -> Scenario,
}

const fn solo(law: Law, mutant: Mutant, scenario: fn() -> Scenario) -> Solo {
    Solo { law, mutant, scenario }
}

/// One for each law.
pub const SOLO: &[Solo] = &[
    solo(Law::CutComplete, Mutant::StateHole, || slow(chain_of_three())),
    solo(Law::CutClean, Mutant::SnapshotNotCopied, || slow(chain_of_three())),
    solo(Law::Restorable, Mutant::CollectBlobsFirst, || Scenario {
        checkpoints: 2,
        ..retaining(chain())
    }),
    solo(Law::CommitAfterComplete, Mutant::CompleteBeforeStored, || slow(chain())),
    solo(Law::NoDuplicates, Mutant::CommitTwice, || slow(chain())),
    solo(Law::Prefix, Mutant::CommitNewestFirst, || (Mutant::CommitNewestFirst.about().scenario)()),
    solo(Law::NoLoss, Mutant::PrepareAfterAck, || slow(chain())),
    solo(Law::LossIsLoud, Mutant::LossSwallowed, || (Mutant::LossSwallowed.about().scenario)()),
    solo(Law::IdsMonotone, Mutant::IdsFromRestored, || {
        (Mutant::IdsFromRestored.about().scenario)()
    }),
    solo(Law::Fenced, Mutant::OldWritersAdmitted, || {
        (Mutant::OldWritersAdmitted.about().scenario)()
    }),
    solo(Law::OneNameOneContent, Mutant::LocalNamesOverwritten, || {
        (Mutant::LocalNamesOverwritten.about().scenario)()
    }),
    solo(Law::NoLeak, Mutant::OrphansLeft, || crashing(slow(chain()))),
    solo(Law::FinishedComplete, Mutant::RetrySwallowed, || refusing(slow(chain()))),
    solo(Law::StopIsFinal, Mutant::SuspendedReadsOn, || {
        (Mutant::SuspendedReadsOn.about().scenario)()
    }),
    solo(Law::AtLeastOnce, Mutant::RetrySwallowed, || Scenario {
        mode: Mode::AtLeastOnce,
        ..refusing(slow(chain()))
    }),
    solo(Law::Progress, Mutant::NoResend, || (Mutant::NoResend.about().scenario)()),
];

impl Mutant {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// The mutant of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

/// Hunts a mutant where it is at home, under all laws. It is killed if the report's judgement is the law of [`Mutant::about`].
///
/// # Panics
/// If its scenario is wrong; a test hunts every one.
#[must_use]
pub fn kill(mutant: Mutant, bounds: &Bounds) -> Report {
    let scenario = (mutant.about().scenario)();
    explore(scenario, Some(mutant), Engine::Hunt, bounds, &[], None, &|_| {})
        .expect("the scenarios of mutants are valid: a test hunts each")
}

const NONE: Faults = Faults {
    crashes: 0,
    coordinator_crashes: 0,
    zombie_tasks: 0,
    zombie_coordinators: 0,
    losses: 0,
    duplicates: 0,
    delays: 0,
    unknown_writes: 0,
    refused_writes: 0,
    failed_snapshots: 0,
    unknown_commits: 0,
    refused_commits: 0,
    drops: 0,
    timeouts: 0,
    lost_manifests: 0,
};

/// Every snapshot is written in the background.
fn slow(plan: snapline_protocol::topology::Plan) -> Scenario {
    Scenario { prompt_writes: false, ..Scenario::new("mutant", plan) }
}

fn wide(scenario: Scenario) -> Scenario {
    Scenario { capacity: 3, ..scenario }
}

fn crashing(scenario: Scenario) -> Scenario {
    Scenario { faults: Faults { crashes: 1, ..NONE }, ..scenario }
}

fn refusing(scenario: Scenario) -> Scenario {
    Scenario { checkpoints: 0, faults: Faults { refused_commits: 1, ..NONE }, ..scenario }
}

fn retaining(plan: snapline_protocol::topology::Plan) -> Scenario {
    Scenario { retained: Some(1), ..slow(plan) }
}

fn sharing(plan: snapline_protocol::topology::Plan) -> Scenario {
    Scenario { shared: true, ..retaining(plan) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Judgement;

    #[test]
    fn every_mutant_is_killed_by_the_law_of_its_class() {
        let bounds = Bounds { max_states: Some(3_000_000), ..Bounds::default() };
        let mut wrong = Vec::new();
        for &mutant in Mutant::ALL {
            let about = mutant.about();
            let report = kill(mutant, &bounds);
            match &report.judgement {
                Judgement::Violated { law, .. } if *law == about.law => {}
                other => wrong
                    .push(format!("{}: {other:?}, states {}", about.name, report.outcome.unique)),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_law_has_a_mutant_that_only_it_kills() {
        let bounds = Bounds { max_states: Some(3_000_000), ..Bounds::default() };
        let mut wrong = Vec::new();
        for law in Law::ALL {
            let Some(Solo { mutant, scenario, .. }) = SOLO.iter().find(|solo| solo.law == law)
            else {
                wrong.push(format!("{}: nothing", law.name()));
                continue;
            };
            let hunt = |laws| {
                let bounds = Bounds { laws, ..bounds.clone() };
                explore(scenario(), Some(*mutant), Engine::Hunt, &bounds, &[], None, &|_| {})
                    .expect("valid")
                    .judgement
            };
            let with = hunt(u64::MAX);
            if !matches!(with, Judgement::Violated { law: by, .. } if by == law) {
                wrong.push(format!(
                    "{}: {} is not killed by it: {with:?}",
                    law.name(),
                    mutant.name()
                ));
            }
            let without = hunt(!law.bit());
            if without != Judgement::Holds {
                wrong.push(format!(
                    "{}: {} does not live without it: {without:?}",
                    law.name(),
                    mutant.name()
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
