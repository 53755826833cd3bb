//! The wrong rules that a World can follow: their names, and each in a sentence.
//!
//! A leaf: the World, scenarios and trace files name a rule from here. The catalogue of
//! [mutants](crate::mutants) adds the bug that a rule stands for, the law that must see it, and the
//! scenario in which it is hunted.

macro_rules! wrong_rules {
    ($($variant:ident, $name:literal, $sentence:literal;)*) => {
        /// A wrong rule of a driver, a store or an environment around the true machines.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum WrongRule {
            $(#[doc = $sentence] $variant,)*
        }

        impl WrongRule {
            /// Every wrong rule, in order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The rule's name on the command line and in a trace.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The rule in a sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)*
                }
            }
        }
    };
}

impl WrongRule {
    /// The rule of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.name() == name)
    }
}

wrong_rules! {
    AckBeforeDurable, "ack-before-durable",
        "A snapshot is acknowledged when its write begins, not when it is durable.";
    BarrierOvertakes, "barrier-overtakes",
        "A barrier overtakes the record before it in the channel.";
    BaseUnconfirmed, "base-unconfirmed",
        "A snapshot builds on the newest one taken, complete or not.";
    ClaimsAlike, "claims-alike",
        "Of two coordinators that chose the same term, the store lets both claim it.";
    CollectBlobsFirst, "collect-blobs-first",
        "Blobs of a subsumed checkpoint are deleted before its manifest is.";
    CollectByCreator, "collect-by-creator",
        "A blob is deleted with the checkpoint that wrote it, even if another still refers to it.";
    CollectIgnoresBase, "collect-ignores-base",
        "The base of a checkpoint under way may be deleted once it is subsumed.";
    CollectIgnoresPending, "collect-ignores-pending",
        "Blobs of a checkpoint under way count as garbage.";
    CollectNothing, "collect-nothing",
        "Nothing is ever deleted.";
    ClaimNotesNothing, "claim-notes-nothing",
        "A claim does not note a checkpoint that the last owner completed but died before noting.";
    CommitAtBarrier, "commit-at-barrier",
        "A transaction is committed when its barrier comes.";
    CommitNewestFirst, "commit-newest-first",
        "Of several transactions that may be committed the newest goes first.";
    CommitTwice, "commit-twice",
        "A commit call is carried out twice.";
    CompleteBeforeStored, "complete-before-stored",
        "Sinks are notified once all tasks have acknowledged, before the manifest is durable.";
    CompletionForgotten, "completion-forgotten",
        "The store forgets which checkpoint was complete: if its manifest is lost, an older one \
         counts.";
    CompletionNotedEarly, "completion-noted-early",
        "The store notes that a checkpoint is complete before its manifest is durable.";
    CountBarriers, "count-barriers",
        "Barriers are counted, not compared: a newer barrier counts as the awaited one.";
    EmptyNotWritten, "empty-not-written",
        "A sink without data in an epoch acknowledges without writing.";
    EndedTakesNoPart, "ended-takes-no-part",
        "A source whose input has ended ignores triggers.";
    FactsBeforeFence, "facts-before-fence",
        "A new coordinator reads the facts before it raises the fence.";
    FailsOverDuringWrite, "fails-over-during-write",
        "A failover does not wait for the manifest write in flight.";
    FenceForgotten, "fence-forgotten",
        "Deletion takes the fence with it.";
    ForgetsIncomplete, "forgets-incomplete",
        "A source's input is dropped at its barrier, before the checkpoint is complete.";
    ForgetsKept, "forgets-kept",
        "A source's input is dropped up to the newest complete checkpoint, though older ones are \
         kept.";
    IdsFromRestored, "ids-from-restored",
        "A new coordinator continues after the newest completed checkpoint's id.";
    InDoubtForgotten, "in-doubt-forgotten",
        "A restored sink does not know the transactions its checkpoint holds, and rolls them back.";
    LocalNamesKept, "local-names-kept",
        "Blobs are named by a counter of the writer; an existing name counts as already written.";
    LocalNamesOverwritten, "local-names-overwritten",
        "Blobs are named by a counter of the writer; an existing name is overwritten.";
    LossSwallowed, "loss-swallowed",
        "A commit whose transaction is gone counts as committed.";
    ManifestTorn, "manifest-torn",
        "A manifest is renamed into place before its bytes are synced.";
    NamesWithoutCheckpoint, "names-without-checkpoint",
        "A transaction is known by its writer and attempt, not by its checkpoint.";
    NoAlignment, "no-alignment",
        "Inputs whose barrier arrived are still read.";
    NoFence, "no-fence",
        "The store lets a deposed coordinator's manifest through.";
    NoResend, "no-resend",
        "A completion notice that was lost is not repeated.";
    NoTimeout, "no-timeout",
        "A checkpoint under way never times out.";
    NotResetBeforeFirst, "not-reset-before-first",
        "When there is no checkpoint to restore, sources continue where they were.";
    OffsetAfter, "offset-after",
        "A source's snapshot counts the record it is about to read.";
    OffsetEmpty, "offset-empty",
        "A checkpoint after a restore records empty offsets.";
    OldWritersAdmitted, "old-writers-admitted",
        "The external system takes transactions from writers of an ended attempt.";
    OneEndedIsAll, "one-ended-is-all",
        "The job counts as ended when one of its sources has ended.";
    OrphansLeft, "orphans-left",
        "A new attempt does not roll back the transactions of earlier ones.";
    OutrunsRecommit, "outruns-recommit",
        "A restored sink continues before its replayed commits are resolved, and forgets them.";
    PartialFanOut, "partial-fan-out",
        "On its last output a task sends the barrier ahead of the record that precedes it.";
    PrepareAfterAck, "prepare-after-ack",
        "A transaction is prepared only when it is to be committed.";
    RestoreOlder, "restore-older",
        "Recovery takes the checkpoint before the newest.";
    RetrySwallowed, "retry-swallowed",
        "A commit that was refused for now, or of unknown outcome, counts as committed.";
    RollsBackHeld, "rolls-back-held",
        "Recovery rolls back every prepared transaction, those a completed checkpoint holds too.";
    RollsBackOnFailure, "rolls-back-on-failure",
        "A sink that fails rolls back its prepared transactions.";
    SnapshotNotCopied, "snapshot-not-copied",
        "A snapshot shares its memory with the running operator until it is written.";
    StartsFromNothing, "starts-from-nothing",
        "A restart does not see any checkpoint.";
    StateHole, "state-hole",
        "A snapshot misses the contents of an operator's buffer.";
    StopNotInStore, "stop-not-in-store",
        "Recovery ignores the checkpoint that stopped the job.";
    SuspendedReadsOn, "suspended-reads-on",
        "A suspended source continues to read.";
    TimerNotRearmed, "timer-not-rearmed",
        "An aborted checkpoint stops the interval timer.";
    UnknownIsApplied, "unknown-is-applied",
        "A manifest write of unknown outcome counts as durable.";
    UnknownIsNotApplied, "unknown-is-not-applied",
        "A manifest write of unknown outcome counts as failed.";
    WaitsForPayloadOnly, "waits-for-payload-only",
        "A sink that never got a record is not waited for.";
}
