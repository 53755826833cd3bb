//! The catalogue of mutants: each wrong rule with the bug it stands for and the law that must see
//! it.
//!
//! No wrong rule is in the protocol: each is a broken driver, store or environment around the true
//! machines, so that `protocol/` has no switch to leave on. A law kills a mutant when it finds a
//! shortest counterexample; a mutant that lives fails CI. [`SOLO`] shows that every law is needed:
//! each has a mutant that no other law sees.

use snapline_protocol::aligner::Mode;

use crate::explore::Bounds;
use crate::laws::Law;
use crate::run::{Engine, ExplorationReport, explore};
use crate::scenario::{Faults, Scenario, StopKind};
use crate::sink::SinkModel;
use crate::topologies::{chain, chain_of_three, diamond, pair, two_sinks};
use crate::world::rule::WrongRule;

/// A wrong rule with the law that must see it, and the scenario in which it is hunted.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// The wrong rule.
    pub rule: WrongRule,
    /// The known bug, or the class of bugs, that the rule stands for.
    pub bug: &'static str,
    /// The law that must kill the mutant.
    pub law: Law,
    /// The scenario in which the mutant is hunted.
    pub scenario: fn() -> Scenario,
}

macro_rules! mutants {
    ($($variant:ident, $law:ident, $bug:literal, $scenario:expr;)*) => {
        impl Mutant {
            /// The mutant that follows this rule.
            #[must_use]
            pub fn of(rule: WrongRule) -> Self {
                match rule {
                    $(WrongRule::$variant => Self {
                        rule,
                        bug: $bug,
                        law: Law::$law,
                        scenario: || $scenario,
                    },)*
                }
            }
        }
    };
}

impl Mutant {
    /// Every mutant, in the order of [`WrongRule::ALL`].
    pub fn all() -> impl Iterator<Item = Self> {
        WrongRule::ALL.iter().map(|&rule| Self::of(rule))
    }

    /// The name of the rule, on the command line and in a trace.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.rule.name()
    }
}

mutants! {
    AckBeforeDurable, Restorable,
        "ack before persist; FLINK-36421, FLINK-35217",
        crashing(slow(chain()));
    BarrierOvertakes, CutComplete,
        "aligned savepoint barriers sent with priority: FLINK-18252",
        wide(slow(chain_of_three()));
    BaseUnconfirmed, Restorable,
        "FLINK-25395; incremental base not confirmed",
        Scenario {
            checkpoints: 2,
            faults: Faults { failed_snapshots: 1, ..NONE },
            ..sharing(chain())
        };
    ClaimsAlike, NoLoss,
        "split brain: LaminarDB commit 83b7b958; a lease that two hold",
        Scenario { faults: Faults { zombie_coordinators: 1, ..NONE }, ..slow(chain()) };
    CollectBlobsFirst, Restorable,
        "GC order: Arroyo #1076 and the like",
        Scenario { checkpoints: 2, ..retaining(chain()) };
    CollectByCreator, Restorable,
        "deletion by name: FLINK-21351, FLINK-26985",
        Scenario { checkpoints: 2, ..sharing(chain()) };
    CollectIgnoresBase, Restorable,
        "FLINK-29913 with several checkpoints under way; RisingWave commit addc87d3aa5",
        Scenario { checkpoints: 3, max_concurrent: 2, ..sharing(chain()) };
    CollectIgnoresPending, Restorable,
        "GC candidates computed before pins are read: RisingWave commit addc87d3aa5, RisingWave \
         commit fb715545445",
        Scenario { checkpoints: 2, ..retaining(chain()) };
    CollectNothing, NoLeak,
        "orphans for ever: FLINK-30461, FLINK-25511",
        Scenario { checkpoints: 1, ..retaining(chain()) };
    ClaimNotesNothing, NoDuplicates,
        "a store that fell back in time, unnoticed",
        Scenario {
            faults: Faults { coordinator_crashes: 2, lost_manifests: 1, ..NONE },
            ..slow(chain())
        };
    CommitAtBarrier, CommitAfterComplete,
        "commit at the barrier",
        slow(chain());
    CommitNewestFirst, Prefix,
        "a lower id is never committed after a higher one; FLINK-10377",
        Scenario { faults: Faults { failed_snapshots: 1, ..NONE }, ..slow(chain()) };
    CommitTwice, NoDuplicates,
        "commit not idempotent; KAFKA-10080",
        slow(chain());
    CompleteBeforeStored, CommitAfterComplete,
        "FLINK-31077; completion announced before the store has it",
        slow(chain());
    CompletionForgotten, NoDuplicates,
        "a checkpoint that cannot be found is passed over silently: FLINK-22502",
        Scenario {
            faults: Faults { coordinator_crashes: 1, lost_manifests: 1, ..NONE },
            ..slow(chain())
        };
    CompletionNotedEarly, Progress,
        "a marker before what it marks: a job that can never start again",
        Scenario { faults: Faults { coordinator_crashes: 1, ..NONE }, ..slow(chain()) };
    CountBarriers, CutClean,
        "barriers counted, not compared; FLINK-20645",
        Scenario {
            checkpoints: 3,
            max_concurrent: 3,
            prompt_writes: true,
            faults: Faults { losses: 1, ..NONE },
            ..slow(pair())
        };
    EmptyNotWritten, Restorable,
        "RisingWave #26492: an empty cycle acked without being persisted",
        slow(two_sinks());
    EndedTakesNoPart, Progress,
        "finished input never aligns; FLINK-26403, LaminarDB commit 4472360a",
        slow(pair());
    FactsBeforeFence, NoLoss,
        "RisingWave #27084: reconciliation not fenced; FLINK-22502",
        Scenario { faults: Faults { zombie_coordinators: 1, ..NONE }, ..slow(chain()) };
    FailsOverDuringWrite, NoLoss,
        "restart while a completion handler is between check and act; Hazelcast Jet commit \
         806e16227a",
        crashing(slow(chain()));
    FenceForgotten, IdsMonotone,
        "fence deleted by GC; KAFKA-9144, Hazelcast Jet commit d52982f0e8",
        retaining(chain());
    ForgetsIncomplete, Restorable,
        "a queue acknowledged at the snapshot instead of at its completion",
        Scenario { forgets: true, ..crashing(retaining(chain())) };
    ForgetsKept, Restorable,
        "an older checkpoint that is kept, of which the input is gone",
        Scenario { forgets: true, retained: Some(2), checkpoints: 3, ..retaining(chain()) };
    IdsFromRestored, IdsMonotone,
        "Arroyo #1003; ids reused after failover",
        Scenario { faults: Faults { coordinator_crashes: 1, ..NONE }, ..slow(chain()) };
    InDoubtForgotten, NoLoss,
        "in-doubt transaction dropped on recovery; LaminarDB #250",
        crashing(slow(chain()));
    LocalNamesKept, OneNameOneContent,
        "FLINK-24611; SPARK-51717, SPARK-52637",
        crashing(slow(chain()));
    LocalNamesOverwritten, OneNameOneContent,
        "FLINK-24611, the other way round",
        Scenario { checkpoints: 0, ..crashing(slow(chain())) };
    LossSwallowed, LossIsLoud,
        "known reason: log and discard; FLINK-8086, Arroyo-like recovery",
        Scenario {
            sink: SinkModel::producer_with_timeout(),
            faults: Faults { drops: 1, ..NONE },
            ..slow(chain())
        };
    ManifestTorn, Restorable,
        "local rename without fsync",
        Scenario { faults: Faults { coordinator_crashes: 1, ..NONE }, ..slow(chain()) };
    NamesWithoutCheckpoint, NoLoss,
        "FLINK-37605: two committables share an id; KIP-890",
        Scenario { checkpoints: 2, ..slow(chain()) };
    NoAlignment, CutClean,
        "RisingWave commit df1ac5f7f6e: a barrier forwarded unaligned; RisingWave commit \
         28bf4a3d1c6",
        slow(pair());
    NoFence, Fenced,
        "LaminarDB commit d0df7ed9: fence never raised; LaminarDB commit 83b7b958",
        Scenario { faults: Faults { zombie_coordinators: 1, ..NONE }, ..slow(chain()) };
    NoResend, Progress,
        "no timeout in the commit phase; KAFKA-9777",
        Scenario { faults: Faults { losses: 1, ..NONE }, ..slow(chain()) };
    NoTimeout, Progress,
        "Hazelcast Jet commit 97f2654f01; FLINK-17351",
        Scenario { faults: Faults { losses: 1, ..NONE }, ..slow(chain()) };
    NotResetBeforeFirst, CutComplete,
        "FLINK-20222: coordinators not reset before the first checkpoint",
        crashing(slow(chain()));
    OffsetAfter, CutComplete,
        "offsets advance before the sink commits; KAFKA-16017",
        slow(chain());
    OffsetEmpty, CutClean,
        "LaminarDB commit a47bebbb: empty source offsets; Feldera commit ba2c9755b",
        Scenario { checkpoints: 2, ..crashing(slow(chain())) };
    OldWritersAdmitted, Fenced,
        "zombie writers: KAFKA-5231, RisingWave #27180",
        Scenario {
            records: 1,
            faults: Faults { crashes: 1, zombie_tasks: 1, ..NONE },
            ..slow(chain())
        };
    OneEndedIsAll, FinishedComplete,
        "FLINK-38614, FLINK-24530: the final checkpoint is not final",
        slow(pair());
    OrphansLeft, NoLeak,
        "Hazelcast Jet commit ed4cc0cfd5, Hazelcast Jet commit 3b8407f221: lingering transactions",
        crashing(slow(chain()));
    OutrunsRecommit, NoLoss,
        "workers outrun the replayed commit; LaminarDB #250",
        crashing(slow(chain()));
    PartialFanOut, CutComplete,
        "Hazelcast Jet commit c1fed84abe: partial fan-out across the barrier",
        wide(slow(diamond()));
    PrepareAfterAck, NoLoss,
        "acknowledged before pre-commit; FLINK-5701",
        slow(chain());
    RestoreOlder, NoLoss,
        "FLINK-10354, FLINK-22502: silent fall-back",
        Scenario { checkpoints: 2, ..crashing(slow(chain())) };
    RetrySwallowed, FinishedComplete,
        "LaminarDB commit 825be1a0: sink-commit failures counted as success",
        refusing(slow(chain()));
    RollsBackHeld, NoLoss,
        "LaminarDB commit 1c45f510",
        crashing(slow(chain()));
    RollsBackOnFailure, NoLoss,
        "unilateral abort after prepare",
        crashing(slow(chain()));
    SnapshotNotCopied, CutClean,
        "FLINK-17568; post-barrier mutation leaks into the snapshot",
        slow(chain_of_three());
    StartsFromNothing, NoLoss,
        "FLINK-25486: state deleted on a lost leadership",
        crashing(slow(chain()));
    StateHole, CutComplete,
        "flush before the barrier: KAFKA-16017, FLINK-36823",
        slow(chain_of_three());
    StopNotInStore, StopIsFinal,
        "FLINK-26783, FLINK-10354: stop-with-savepoint, then failover",
        Scenario { stop: Some(StopKind::Suspend), ..crashing(slow(chain())) };
    SuspendedReadsOn, StopIsFinal,
        "records after the synchronous savepoint: FLINK-13969",
        Scenario { checkpoints: 0, stop: Some(StopKind::Suspend), ..slow(chain()) };
    TimerNotRearmed, Progress,
        "FLINK-13256, FLINK-26394: nothing re-arms the trigger",
        Scenario { faults: Faults { failed_snapshots: 1, ..NONE }, ..slow(chain()) };
    UnknownIsApplied, CommitAfterComplete,
        "ambiguous store write: LaminarDB commit 83b7b958",
        Scenario { faults: Faults { unknown_writes: 1, ..NONE }, ..slow(chain()) };
    UnknownIsNotApplied, StopIsFinal,
        "FLINK-22494: possible inconsistency ignored",
        Scenario {
            checkpoints: 0,
            stop: Some(StopKind::Suspend),
            faults: Faults { unknown_writes: 1, ..NONE },
            ..slow(chain())
        };
    WaitsForPayloadOnly, Restorable,
        "wait set derived from payload: LaminarDB commit 84a56449",
        slow(chain());
}

/// A law, a mutant that it alone kills, and a scenario in which that mutant lives without the law.
#[derive(Clone, Copy, Debug)]
pub struct Solo {
    /// The law.
    pub law: Law,
    /// The mutant's rule.
    pub rule: WrongRule,
    /// The scenario in which the mutant is hunted.
    pub scenario: fn() -> Scenario,
}

const fn solo(law: Law, rule: WrongRule, scenario: fn() -> Scenario) -> Solo {
    Solo { law, rule, scenario }
}

/// One for each law.
pub const SOLO: &[Solo] = &[
    solo(Law::CutComplete, WrongRule::StateHole, || slow(chain_of_three())),
    solo(Law::CutClean, WrongRule::SnapshotNotCopied, || slow(chain_of_three())),
    solo(Law::Restorable, WrongRule::CollectBlobsFirst, || Scenario {
        checkpoints: 2,
        ..retaining(chain())
    }),
    solo(Law::CommitAfterComplete, WrongRule::CompleteBeforeStored, || slow(chain())),
    solo(Law::NoDuplicates, WrongRule::CommitTwice, || slow(chain())),
    solo(Law::Prefix, WrongRule::CommitNewestFirst, || home(WrongRule::CommitNewestFirst)),
    solo(Law::NoLoss, WrongRule::PrepareAfterAck, || slow(chain())),
    solo(Law::LossIsLoud, WrongRule::LossSwallowed, || home(WrongRule::LossSwallowed)),
    solo(Law::IdsMonotone, WrongRule::IdsFromRestored, || home(WrongRule::IdsFromRestored)),
    solo(Law::Fenced, WrongRule::OldWritersAdmitted, || home(WrongRule::OldWritersAdmitted)),
    solo(Law::OneNameOneContent, WrongRule::LocalNamesOverwritten, || {
        home(WrongRule::LocalNamesOverwritten)
    }),
    solo(Law::NoLeak, WrongRule::OrphansLeft, || crashing(slow(chain()))),
    solo(Law::FinishedComplete, WrongRule::RetrySwallowed, || refusing(slow(chain()))),
    solo(Law::StopIsFinal, WrongRule::SuspendedReadsOn, || home(WrongRule::SuspendedReadsOn)),
    solo(Law::AtLeastOnce, WrongRule::RetrySwallowed, || Scenario {
        mode: Mode::AtLeastOnce,
        ..refusing(slow(chain()))
    }),
    solo(Law::Progress, WrongRule::NoResend, || home(WrongRule::NoResend)),
];

/// Hunts the mutant of a rule in its own scenario, under all laws. The law of [`Mutant::of`] kills
/// it if the report's judgement names that law.
///
/// # Panics
/// If its scenario is invalid; a test hunts every one.
#[must_use]
pub fn kill(rule: WrongRule, bounds: &Bounds) -> ExplorationReport {
    explore(home(rule), Some(rule), Engine::Hunt, bounds, &[], None, &|_| {})
        .expect("the scenarios of mutants are valid: a test hunts each")
}

/// The scenario in which the mutant of a rule is hunted.
fn home(rule: WrongRule) -> Scenario {
    (Mutant::of(rule).scenario)()
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
        for mutant in Mutant::all() {
            let report = kill(mutant.rule, &bounds);
            match &report.judgement {
                Judgement::Violated { law, .. } if *law == mutant.law => {}
                other => wrong.push(format!(
                    "{}: {other:?}, states {}",
                    mutant.name(),
                    report.outcome.unique
                )),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_law_has_a_mutant_that_only_it_kills() {
        let bounds = Bounds { max_states: Some(3_000_000), ..Bounds::default() };
        let mut wrong = Vec::new();
        for law in Law::ALL {
            let Some(Solo { rule, scenario, .. }) = SOLO.iter().find(|solo| solo.law == law) else {
                wrong.push(format!("{}: nothing", law.name()));
                continue;
            };
            let hunt = |laws| {
                let bounds = Bounds { laws, ..bounds.clone() };
                explore(scenario(), Some(*rule), Engine::Hunt, &bounds, &[], None, &|_| {})
                    .expect("valid")
                    .judgement
            };
            let with = hunt(u64::MAX);
            if !matches!(with, Judgement::Violated { law: by, .. } if by == law) {
                wrong.push(format!(
                    "{}: {} is not killed by it: {with:?}",
                    law.name(),
                    rule.name()
                ));
            }
            let without = hunt(!law.bit());
            if without != Judgement::Holds {
                wrong.push(format!(
                    "{}: {} does not live without it: {without:?}",
                    law.name(),
                    rule.name()
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
