//! Faults that are planted in production code, to show that a simulation finds them.
//!
//! [`Faults`] is the one carrier. Without the feature `sim` it has no size, no fault is ever
//! active, and the compiler drops the code that queries it.

pub use carrier::{Aside, Faults};

#[cfg(feature = "sim")]
mod carrier {
    use super::Mutation;

    /// The fault that is planted, if one is.
    #[derive(Clone, Copy, Default, Debug)]
    pub struct Faults(Option<Mutation>);

    impl Faults {
        /// Plants a fault, or none.
        pub const fn plant(mutation: Option<Mutation>) -> Self {
            Self(mutation)
        }

        /// Whether the code at this place is to do this wrong.
        #[inline]
        pub fn is_active(self, mutation: Mutation) -> bool {
            self.0 == Some(mutation)
        }
    }

    /// Data that a planted fault keeps beside production's state.
    #[derive(Clone, Default, Debug)]
    pub struct Aside<T>(T);

    impl<T> Aside<T> {
        /// The data.
        #[inline]
        pub const fn get(&mut self) -> Option<&mut T> {
            Some(&mut self.0)
        }
    }
}

#[cfg(not(feature = "sim"))]
mod carrier {
    use std::marker::PhantomData;

    use super::Mutation;

    /// No fault is planted.
    #[derive(Clone, Copy, Default, Debug)]
    pub struct Faults(());

    impl Faults {
        /// Never.
        #[inline]
        pub const fn is_active(self, _: Mutation) -> bool {
            false
        }
    }

    /// Nothing is kept beside production's state.
    #[derive(Clone, Debug)]
    pub struct Aside<T>(PhantomData<T>);

    impl<T> Default for Aside<T> {
        fn default() -> Self {
            Self(PhantomData)
        }
    }

    impl<T> Aside<T> {
        /// Nothing.
        #[inline]
        pub const fn get(&mut self) -> Option<&mut T> {
            None
        }
    }
}

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+ ; $($(#[doc = $why:literal])+ $rule:ident = $called:literal,)+) => {
        /// A fault of the glue between the machines and the world. Each changes one line of
        /// production code; the machines of the protocol stay as they are. `snapline sim --mutants`
        /// hunts them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Mutation {
            $($(#[doc = $doc])+ $name,)+
            $($(#[doc = $why])+ $rule,)+
        }

        impl Mutation {
            /// The faults that seeds find.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Wrong rules of the model, found by replaying their counterexamples
            /// (`snapline::sim::stage`).
            pub const RULES: &[Self] = &[$(Self::$rule),+];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ $(Self::$rule => $called,)+ }
            }

            /// What it does wrong, and which rule it breaks.
            #[must_use]
            pub const fn breaks(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ $(Self::$rule => concat!($($why),+),)+ }
            }
        }
    };
}

mutants! {
    /// A blob gets its name without a sync, and its snapshot is acknowledged (SPEC 3.5, 13.7).
    AckBeforeSync = "ack-before-sync",
    /// A manifest or a fence gets its name before its bytes are synced (SPEC 13.7).
    RenameBeforeSync = "rename-before-sync",
    /// The directory of a manifest's name is not synced (SPEC 4.5, 13.7).
    NameNotSynced = "name-not-synced",
    /// A coordinator relies on what an earlier process left visible before it is synced (SPEC
    /// 13.7).
    ClaimWithoutSync = "claim-without-sync",
    /// Blobs are deleted before the manifests that need them (SPEC 8.5).
    BlobsDeletedFirst = "blobs-deleted-first",
    /// A blob whose writing failed is attested to be durable (SPEC 3.5).
    WriteErrorSwallowed = "write-error-swallowed",
    /// A snapshot is taken before the transaction is closed, so that the snapshot misses its
    /// committable (SPEC 6.2).
    EffectsOutOfOrder = "effects-out-of-order",
    /// A source's position in a snapshot is the one before its last read (SPEC 5.4).
    OffsetsBeforeSnapshot = "offsets-before-snapshot",
    /// A barrier overtakes the records that wait in a partial batch of the first output (SPEC 5.4).
    PartialFanOut = "partial-fan-out",
    /// Of two batches that wait for room the later one is sent first (SPEC 15.2).
    BatchesSwapped = "batches-swapped",
    /// A barrier goes to every output but the last (SPEC 5.4).
    BarrierSkipsOutput = "barrier-skips-output",
    /// An acknowledgement carries the oldest snapshot written, which may be one of an aborted
    /// checkpoint (SPEC 4.5).
    AbortedUploadAcked = "aborted-upload-acked",
    /// A snapshot shares blobs with the newest one written, complete or not (SPEC 8.3).
    BaseNotComplete = "base-not-complete",
    /// A transaction is prepared on another lane than its snapshot is written on, so that neither
    /// waits for the other (SPEC 6.2).
    PrepareNotAwaited = "prepare-not-awaited",
    /// The orphans of earlier attempts are not rolled back (SPEC 6.4).
    OrphansForgotten = "orphans-forgotten",
    /// A commit that is to be retried, or whose outcome is unknown, counts as done (SPEC 6.6).
    CommitSwallowed = "commit-swallowed",
    /// A commit call that failed counts as done (SPEC 6.6).
    CommitErrorSwallowed = "commit-error-swallowed",
    /// A transaction's committable is forgotten as soon as it is closed and in one snapshot (SPEC
    /// 6.3).
    CommittableForgotten = "committable-forgotten",
    /// A store operation of unknown outcome counts as done (SPEC 4.5).
    UnknownTakenForDone = "unknown-taken-for-done",
    /// A manifest of unknown outcome counts as not written (SPEC 4.5, 8.4).
    UnknownTakenForRefused = "unknown-taken-for-refused",
    /// Every coordinator draws the same claimant (SPEC 2.13).
    ClaimantNotFresh = "claimant-not-fresh",
    /// After a restart the driver sends to the tasks of the first attempt (SPEC 3.2).
    StaleHandle = "stale-handle",
    /// The resend timer is armed once and never again (SPEC 6.6).
    TimerNotRearmed = "timer-not-rearmed",
    /// A checkpoint's timeout is not armed (SPEC 4.3).
    TimeoutForgotten = "timeout-forgotten",
    /// An event is left in a worker's mailbox, and the worker is not woken (SPEC 15.1).
    NewsWithoutWaking = "news-without-waking",
    /// Records are put into a channel, and the worker of the consumer is not woken (SPEC 15.2).
    RecordsWithoutWaking = "records-without-waking",
    /// Room is made in a full channel, and the worker of the producer is not woken (SPEC 15.2).
    RoomWithoutWaking = "room-without-waking",
    /// A failed task ends, and the coordinator is not notified (SPEC 2.11).
    FailureSwallowed = "failure-swallowed",
    /// The end of the job does not wait for writes in progress (SPEC 8.6).
    ConcludedEarly = "concluded-early",
    /// What must be kept is determined once, and not again for later deletions (SPEC 8.1).
    StaleRoots = "stale-roots",
    /// An operator passes its end on before its last results (SPEC 5.7).
    EndBeforeResults = "end-before-results",
    /// A task that is restored after its end emits its last results once more (SPEC 5.7).
    EndRepeated = "end-repeated",
    /// A file sink prepares a file without syncing it (SPEC 6.2).
    PreparedUnsynced = "prepared-unsynced",
    /// A file sink reports a file as committed before it is durable (SPEC 6.6).
    CommittedUnsynced = "committed-unsynced",
    /// A file sink of a new attempt does not fence off earlier attempts (SPEC 6.4).
    SinkNotFenced = "sink-not-fenced",
    /// A restored operator does not know its watermark (SPEC 16.4).
    WatermarkForgotten = "watermark-forgotten",
    /// The watermark of an operator is the newest of any input, not the minimum (SPEC 16.3).
    AnyWatermark = "any-watermark",
    /// Timers, and the ends of windows, are not restored with the state (SPEC 16.6).
    TimersForgotten = "timers-forgotten",
    /// The state of a window's trigger is not restored, so that it fires again (SPEC 16.9).
    FiringForgotten = "firing-forgotten",
    /// The contents of a window are not restored, so that it fires without them, or not at all
    /// (SPEC 16.8).
    HeldForgotten = "held-forgotten",
    /// The state by key of a function with timers, or of one of two streams, is not restored; its
    /// timers are (SPEC 16.6, 16.12).
    KeyStateForgotten = "key-state-forgotten",
    /// A record that is late for its windows is neither counted nor sent to the side output (SPEC
    /// 16.10).
    LateSwallowed = "late-swallowed",
    /// In-flight lookups are not in the snapshot (SPEC 15.10).
    InFlightForgotten = "in-flight-forgotten",
    /// Answered lookups that wait for those before them are not in the snapshot (SPEC 15.10).
    AnsweredForgotten = "answered-forgotten",
    /// Answers that must be emitted in order are emitted as they arrive (SPEC 15.10).
    AnswersOvertake = "answers-overtake",
    /// A watermark overtakes records with in-flight lookups (SPEC 15.10).
    MarkOvertakes = "mark-overtakes",
    /// Timers and windows in processing time are not restored with the state (SPEC 16.7).
    ClockTimersForgotten = "clock-timers-forgotten",
    /// The expiry of state is not restored (SPEC 16.13).
    ExpiryForgotten = "expiry-forgotten",
    /// An input that was idle once never counts again (SPEC 16.3).
    IdleForEver = "idle-for-ever",
    /// Broadcast state is restored in the first subtask only (SPEC 16.13).
    ToldOneOnly = "told-one-only",
    ;
    /// A snapshot is acknowledged when its write begins (SPEC 3.5).
    AckBeforeWritten = "ack-before-written",
    /// A transaction is committed as soon as it is prepared (SPEC 6.6).
    CommitAtBarrier = "commit-at-barrier",
    /// A manifest counts as stored as soon as its write is requested (SPEC 4.5).
    CompleteBeforeStored = "complete-before-stored",
    /// A restored sink does not know the transactions that its checkpoint holds (SPEC 6.4).
    InDoubtForgotten = "in-doubt-forgotten",
    /// A new attempt rolls back every prepared transaction (SPEC 6.4).
    HeldRolledBack = "held-rolled-back",
    /// Recovery does not see any checkpoint (SPEC 7.2).
    StartsFromNothing = "starts-from-nothing",
    /// Recovery takes the checkpoint before the newest (SPEC 7.2).
    OlderRestored = "older-restored",
    /// A transaction is prepared only when it is to be committed (SPEC 6.2).
    PrepareAfterAck = "prepare-after-ack",
    /// Of several transactions that may be committed the newest is committed first (SPEC 6.6).
    NewestCommittedFirst = "newest-committed-first",
    /// Recovery does not see the checkpoint that stopped the job (SPEC 7.4).
    StopsIgnored = "stops-ignored",
    /// A suspended source continues to read (SPEC 4.8).
    SuspendedReadsOn = "suspended-reads-on",
    /// After a restore snapshots have no positions (SPEC 5.4).
    OffsetEmpty = "offset-empty",
    /// A commit whose transaction is gone counts as committed (SPEC 6.5).
    LossSwallowed = "loss-swallowed",
    /// Nothing is ever deleted (SPEC 8.1).
    NothingCollected = "nothing-collected",
    /// A lost completion notice is not repeated (SPEC 6.6).
    ResendForgotten = "resend-forgotten",
}
