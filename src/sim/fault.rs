//! The faults of a simulated world, and how often they come in one run.

use crate::fs::simulated::Random;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A kind of fault. Each run has a random selection of them switched on.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// Describes it.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

faults! {
    /// A control message is lost (SPEC 2.3).
    Lose = "lose",
    /// A control message arrives twice (SPEC 2.3).
    Duplicate = "duplicate",
    /// A worker dies with its tasks (SPEC 2.11).
    CrashTask = "crash-task",
    /// A failure is reported of an attempt that runs on (SPEC 2.11).
    FalseAlarm = "false-alarm",
    /// The coordinator dies, and its tasks run on (SPEC 2.1).
    CrashCoordinator = "crash-coordinator",
    /// The process is killed between any two changes it makes outside of itself (SPEC 2.1).
    Kill = "kill",
    /// The power fails between any two changes: unsynced data is kept, torn or lost (SPEC 2.4).
    Power = "power",
    /// Another process takes the job over while this one runs on (SPEC 3.2).
    Zombie = "zombie",
    /// A change of the disk or of an external system is refused, or of unknown outcome (SPEC 2.5,
    /// 2.9).
    Trouble = "trouble",
    /// A write takes long, also past the end of its attempt (SPEC 2.7).
    Slow = "slow",
    /// A timer fires early (SPEC 2.7).
    FireEarly = "fire-early",
    /// The user suspends the job, and it is run again (SPEC 4.8).
    Suspend = "suspend",
    /// The user drains the job (SPEC 4.8).
    Drain = "drain",
}

/// The faults of one run. A value of the seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FaultPlan {
    /// The kinds of fault that are on.
    pub(crate) on: Vec<Fault>,
    /// The most faults of the run.
    pub(crate) most: u32,
    /// One choice in this many is a fault.
    pub(crate) every: usize,
}

impl FaultPlan {
    /// A run without faults.
    pub(crate) const fn calm() -> Self {
        Self { on: Vec::new(), most: 0, every: usize::MAX }
    }

    /// Each of these kinds with an even chance; a drained job has less output, so that is one run
    /// in eight. One run in four has many faults of one kind, in a world where writing takes long.
    /// A bug that takes several faults of a kind is not found among others.
    pub(crate) fn draw(random: &mut Random, allowed: &[Fault]) -> Self {
        if random.once_in(4) && !allowed.is_empty() {
            let mut on = vec![allowed[random.below(allowed.len())]];
            let slow = Fault::Slow;
            if !on.contains(&slow) && allowed.contains(&slow) && random.once_in(2) {
                on.push(slow);
            }
            return Self { on, most: 16, every: [8, 20][random.below(2)] };
        }
        let mut on = Vec::new();
        for &fault in allowed {
            let times = if fault == Fault::Drain { 8 } else { 2 };
            if random.once_in(times) {
                on.push(fault);
            }
        }
        let most = [2, 4, 8, 16][random.below(4)];
        let every = [8, 20, 50, 120][random.below(4)];
        Self { on, most, every }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.on.contains(&fault)
    }
}
