//! The named configurations: the claims that are checked, and their bounds.
//!
//! The table in `models/README.md` has the figures of each. A pinned number of states changes only
//! with the protocol or the model: the commit that changes it gives the reason.
//!
//! Longer than 500 lines: it is one table.

use snapline_protocol::aligner::Mode;

use crate::scenario::{Faults, QueuedMessages, Scenario, StopKind};
use crate::sink::SinkModel;
use crate::topologies as shape;
use crate::world::Situation;

/// The runs that explore a configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Suite {
    /// Every change.
    Ci,
    /// `--deep` runs.
    Deep,
}

/// A named configuration.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The scenario; its name is the configuration's.
    pub scenario: Scenario,
    /// The runs that explore it.
    pub suite: Suite,
    /// The claim that it checks, in a sentence.
    pub shows: &'static str,
    /// A limit of the claim, in a sentence.
    pub cannot: &'static str,
    /// Situations that it must reach.
    pub situations: Vec<Situation>,
    /// The pinned number of states.
    pub states: Option<u64>,
}

/// The configuration of this name.
#[must_use]
pub fn find(name: &str) -> Option<Configuration> {
    all().into_iter().find(|config| config.scenario.name == name)
}

/// Every configuration, in the order they are run.
#[must_use]
pub fn all() -> Vec<Configuration> {
    let mut all = small();
    all.extend(failures());
    all.extend(ends());
    all.extend(storage());
    all.extend(large());
    all
}

/// Adds the situations that every configuration has: something completes, and the job finishes.
fn config(
    scenario: Scenario,
    states: u64,
    shows: &'static str,
    cannot: &'static str,
    situations: &[Situation],
) -> Configuration {
    let mut situations = situations.to_vec();
    situations.extend([Situation::Completed, Situation::Finished]);
    let states = (states > 0).then_some(states);
    Configuration { scenario, suite: Suite::Ci, shows, cannot, situations, states }
}

fn crashes(count: u8) -> Faults {
    Faults { crashes: count, ..Faults::default() }
}

/// Writes every snapshot in the background, so that a crash may fall between any two of its steps.
fn slow(scenario: Scenario) -> Scenario {
    Scenario { prompt_writes: false, ..scenario }
}

fn small() -> Vec<Configuration> {
    use Situation::{AlreadyCommitted, FreshAgain, Held, Recommitting, Restored, RestoredTerminal};
    vec![
        config(
            Scenario {
                checkpoints: 2,
                faults: crashes(2),
                ..slow(Scenario::new("chain", shape::chain()))
            },
            1_022_362,
            "a source and a sink through two crashes, before the first checkpoint, during commit \
             and during recovery",
            "alignment: there is one input",
            &[Restored, FreshAgain, Recommitting, AlreadyCommitted, RestoredTerminal],
        ),
        config(
            Scenario {
                queued: QueuedMessages::ALL,
                faults: crashes(1),
                ..slow(Scenario::new("chain-asynchronous", shape::chain()))
            },
            32_721,
            "every control message may take any time, and arrive after a restart",
            "lost or doubled messages",
            &[Restored, Recommitting, AlreadyCommitted],
        ),
        config(
            Scenario {
                faults: crashes(2),
                ..slow(Scenario::new("chain-of-three", shape::chain_of_three()))
            },
            980_018,
            "a stateful operator between source and sink, two crashes",
            "alignment: there is one input",
            &[Restored, FreshAgain, Recommitting],
        ),
        config(
            Scenario { faults: crashes(1), ..Scenario::new("fan-in", shape::fan_in()) },
            179_970,
            "alignment of two sources, with a crash",
            "background writes of operators other than the sink",
            &[Held, Restored, Recommitting],
        ),
        config(
            Scenario { faults: crashes(1), ..Scenario::new("diamond", shape::diamond()) },
            42_125,
            "one barrier by two paths, records doubled by the topology and by nothing else",
            "background writes of operators other than the sink",
            &[Held, Restored, Recommitting],
        ),
        config(
            Scenario {
                faults: crashes(1),
                narrow: Some("alerts".into()),
                ..slow(Scenario::new("two-sinks", shape::two_sinks()))
            },
            64_214,
            "two sinks, one of which has empty epochs",
            "alignment: each has one input",
            &[Situation::EmptyEpoch, Restored, Recommitting],
        ),
        config(
            Scenario {
                checkpoints: 2,
                max_concurrent: 2,
                faults: crashes(1),
                ..slow(Scenario::new("two-in-flight", shape::chain()))
            },
            230_971,
            "two checkpoints under way at once, in any order of acks",
            "alignment: there is one input",
            &[Restored, Recommitting],
        ),
        config(
            Scenario {
                max_concurrent: 2,
                checkpoints: 2,
                ..Scenario::new("two-in-flight-aligned", shape::pair())
            },
            102_900,
            "two checkpoints under way through an alignment",
            "crashes",
            &[Held],
        ),
        config(
            Scenario {
                mode: Mode::AtLeastOnce,
                faults: crashes(1),
                ..Scenario::new("at-least-once", shape::pair())
            },
            168_534,
            "the weaker mode: nothing lost, duplicates reachable",
            "that duplicates stay rare",
            &[Situation::SeenTwice, Restored],
        ),
    ]
}

fn failures() -> Vec<Configuration> {
    use Situation::{
        Aborted, AlreadyCommitted, Deposed, Fenced, Held, OldWriterRefused, Recommitting, Restored,
        RestoredTerminal, ZombieActed,
    };
    let one = Faults::default();
    vec![
        config(
            Scenario {
                faults: Faults { coordinator_crashes: 2, ..one },
                ..slow(Scenario::new("coordinator-crashes", shape::chain()))
            },
            37_159,
            "two deaths of the coordinator, its write in flight applied or not",
            "a coordinator that lives on",
            &[Restored, Recommitting, RestoredTerminal],
        ),
        config(
            Scenario {
                faults: Faults { crashes: 1, coordinator_crashes: 1, ..one },
                ..slow(Scenario::new("both-crash", shape::chain()))
            },
            113_064,
            "a task and the coordinator die in one run, in either order",
            "alignment: there is one input",
            &[Restored, Recommitting],
        ),
        config(
            Scenario {
                faults: Faults { zombie_coordinators: 1, zombie_tasks: 1, ..one },
                ..slow(Scenario::new("two-coordinators", shape::chain()))
            },
            37_986,
            "a coordinator and a task that were replaced and continue to act",
            "more than one of each",
            &[ZombieActed, Fenced, Deposed, OldWriterRefused],
        ),
        config(
            Scenario {
                faults: Faults { crashes: 1, zombie_tasks: 1, delays: 1, ..one },
                ..slow(Scenario::new("zombie-task", shape::chain()))
            },
            128_295,
            "a task of an ended attempt that continues to act, and a late message of its attempt",
            "a task that is partly cut off",
            &[ZombieActed, OldWriterRefused],
        ),
        config(
            Scenario {
                faults: Faults { losses: 1, duplicates: 1, delays: 1, ..one },
                ..slow(Scenario::new("lossy-network", shape::chain()))
            },
            22_411,
            "a lost, a doubled and a late message in one run",
            "crashes at the same time",
            &[Aborted],
        ),
        config(
            Scenario {
                queued: QueuedMessages {
                    aborts: true,
                    triggers: true,
                    ..QueuedMessages::default()
                },
                faults: Faults { timeouts: 1, ..one },
                ..Scenario::new("abort-overtakes", shape::pair())
            },
            117_386,
            "an abort before, during and after its barrier",
            "crashes at the same time",
            &[Aborted, Held],
        ),
        config(
            Scenario {
                faults: Faults { crashes: 1, timeouts: 2, ..one },
                tolerable_failures: 0,
                ..slow(Scenario::new("no-failure-tolerated", shape::chain()))
            },
            613_673,
            "one failed checkpoint restarts the job",
            "alignment: there is one input",
            &[Restored],
        ),
        config(
            Scenario {
                faults: Faults { unknown_commits: 1, refused_commits: 1, crashes: 1, ..one },
                ..Scenario::new("ambiguous-commits", shape::chain())
            },
            10_013,
            "commit calls refused and of unknown outcome, with a crash",
            "two crashes during one commit (see chain)",
            &[AlreadyCommitted, Recommitting],
        ),
        config(
            Scenario {
                sink: SinkModel::producer_with_timeout(),
                faults: Faults { drops: 1, crashes: 1, ..one },
                ..Scenario::new("dropped-transaction", shape::chain())
            },
            6_112,
            "an external system that drops a prepared transaction: the loss is reported, never \
             hidden",
            "that nothing is lost: no protocol could promise that",
            &[Situation::Dropped, Situation::LossSeen, Situation::LossReported],
        ),
        config(
            Scenario {
                sink: SinkModel::producer_with_timeout(),
                checkpoints: 2,
                retained: Some(1),
                faults: Faults { drops: 1, ..one },
                ..slow(Scenario::new("dropped-while-storing", shape::chain()))
            },
            19_651,
            "a dropped transaction while the next checkpoint is written and the last one deleted",
            "crashes at the same time",
            &[Situation::Dropped, Situation::LossReported],
        ),
        config(
            Scenario {
                faults: Faults { zombie_coordinators: 1, coordinator_crashes: 1, ..one },
                ..Scenario::new("three-coordinators", shape::chain())
            },
            94_616,
            "a coordinator is replaced, its successor dies, and a third takes over while the first \
             continues to act",
            "background writes of sources",
            &[ZombieActed, Fenced, Deposed],
        ),
        config(
            Scenario {
                checkpoints: 2,
                faults: Faults { coordinator_crashes: 2, lost_manifests: 1, ..one },
                ..Scenario::new("lost-manifest", shape::chain())
            },
            313_143,
            "the newest manifest is lost while no coordinator lives: the job is refused if it was \
             complete, and loses nothing if it was not",
            "a store that is lost as a whole (7.7)",
            &[Restored, Situation::MissingReported],
        ),
    ]
}

fn ends() -> Vec<Configuration> {
    use Situation::{Held, Recommitting, Restored, RestoredTerminal};
    vec![
        config(
            Scenario { faults: crashes(2), ..Scenario::new("bounded-input", shape::pair()) },
            1_204_653,
            "one writer at its end, the other not; the last checkpoint holds what ending flushes; \
             two crashes",
            "background writes of sources",
            &[Held, Restored, RestoredTerminal, Recommitting],
        ),
        config(
            Scenario {
                stop: Some(StopKind::Drain),
                faults: crashes(1),
                ..Scenario::new("stop-drain", shape::pair())
            },
            345_864,
            "stop with drain at any moment, also while a checkpoint is under way",
            "a coordinator that dies and forgets the stop (see stop-coordinator)",
            &[Held, Restored, RestoredTerminal, Situation::Stopped],
        ),
        config(
            Scenario {
                stop: Some(StopKind::Drain),
                faults: Faults { timeouts: 1, losses: 1, ..Faults::default() },
                ..Scenario::new("stop-drain-lossy", shape::chain())
            },
            19_704,
            "a stop with drain whose messages are lost",
            "crashes at the same time",
            &[Situation::Aborted, Situation::Stopped],
        ),
        config(
            Scenario {
                stop: Some(StopKind::Suspend),
                max_concurrent: 2,
                faults: Faults { losses: 1, ..Faults::default() },
                ..Scenario::new("stop-suspend-lossy", shape::chain())
            },
            3_276,
            "a stop without drain whose messages are lost, while another checkpoint is under way",
            "crashes at the same time",
            &[Situation::Aborted, Situation::Stopped],
        ),
        config(
            Scenario {
                stop: Some(StopKind::Suspend),
                faults: crashes(1),
                ..Scenario::new("stop-suspend", shape::pair())
            },
            404_094,
            "stop without drain at any moment, also while a checkpoint is under way",
            "a coordinator that dies and forgets the stop (see stop-coordinator)",
            &[Held, Restored, RestoredTerminal, Situation::Stopped],
        ),
        config(
            Scenario {
                stop: Some(StopKind::Suspend),
                faults: Faults { coordinator_crashes: 1, failed_snapshots: 1, ..Faults::default() },
                ..Scenario::new("stop-coordinator", shape::chain())
            },
            67_392,
            "a stop whose checkpoint fails, and whose coordinator dies",
            "alignment: there is one input",
            &[Situation::Aborted, Situation::Stopped, Restored, RestoredTerminal],
        ),
    ]
}

fn storage() -> Vec<Configuration> {
    use Situation::{Aborted, Collected, Forgotten, Recommitting, Restored, SharedOutlived};
    vec![
        config(
            Scenario {
                faults: Faults { unknown_writes: 2, refused_writes: 1, ..Faults::default() },
                ..Scenario::new("ambiguous-store", shape::chain())
            },
            3_995,
            "manifest writes refused and of unknown outcome, applied or not",
            "crashes at the same time (see coordinator-crashes)",
            &[Aborted],
        ),
        config(
            Scenario {
                faults: Faults { failed_snapshots: 1, crashes: 1, ..Faults::default() },
                ..slow(Scenario::new("failed-snapshot", shape::chain()))
            },
            84_077,
            "a snapshot that cannot be written, a decline, an abort, and its transaction committed \
             with the next",
            "alignment: there is one input",
            &[Aborted, Restored],
        ),
        config(
            Scenario {
                id_block: 1,
                checkpoints: 2,
                faults: Faults {
                    coordinator_crashes: 1,
                    unknown_writes: 1,
                    refused_writes: 1,
                    ..Faults::default()
                },
                ..Scenario::new("id-blocks", shape::chain())
            },
            352_482,
            "checkpoint ids are reserved one by one, through a coordinator's death",
            "larger blocks (every other configuration)",
            &[Restored],
        ),
        config(
            Scenario {
                retained: Some(1),
                shared: true,
                checkpoints: 2,
                faults: crashes(1),
                ..Scenario::new("shared-blobs", shape::chain())
            },
            104_412,
            "snapshots share blobs, one checkpoint is kept, the rest is deleted by reachability",
            "several checkpoints under way",
            &[Collected, SharedOutlived, Restored, Recommitting],
        ),
        config(
            Scenario {
                retained: Some(1),
                forgets: true,
                checkpoints: 2,
                faults: Faults { coordinator_crashes: 1, ..crashes(1) },
                ..Scenario::new("dropped-input", shape::chain())
            },
            1_699_866,
            "a source's input is dropped up to where the newest complete checkpoint begins",
            "sources that never learn that a checkpoint is complete",
            &[Forgotten, Restored, Collected],
        ),
        config(
            Scenario {
                retained: Some(2),
                forgets: true,
                checkpoints: 3,
                faults: crashes(1),
                ..Scenario::new("dropped-input-two-kept", shape::chain())
            },
            731_533,
            "the same where two checkpoints are kept",
            "a damaged checkpoint, for which an older one is restored",
            &[Forgotten, Restored, Collected],
        ),
        config(
            Scenario {
                retained: Some(1),
                shared: true,
                checkpoints: 2,
                max_concurrent: 2,
                faults: Faults { failed_snapshots: 1, ..Faults::default() },
                ..slow(Scenario::new("shared-blobs-concurrent", shape::chain()))
            },
            711_521,
            "sharing with two checkpoints under way and one that is aborted",
            "crashes at the same time",
            &[Collected, SharedOutlived, Aborted],
        ),
        config(
            Scenario {
                retained: Some(1),
                checkpoints: 1,
                faults: Faults { zombie_coordinators: 1, ..Faults::default() },
                ..Scenario::new("zombie-collector", shape::chain())
            },
            35_431,
            "a deposed coordinator deletes garbage that it knew of before",
            "shared blobs at the same time",
            &[Collected, Situation::ZombieActed],
        ),
        config(
            Scenario { ..Scenario::new("shuffle", shape::shuffle()) },
            74_976,
            "two sources, two keyed subtasks, all to all, two sinks",
            "crashes (see shuffle-crash)",
            &[Situation::Held],
        ),
    ]
}

/// The larger ones; the largest wait for `--deep`.
fn large() -> Vec<Configuration> {
    use Situation::{Aborted, FreshAgain, Held, Recommitting, Restored, ZombieActed};
    let one = Faults::default();
    let mut large = vec![
        config(
            Scenario { faults: crashes(1), ..Scenario::new("shuffle-crash", shape::shuffle()) },
            4_539_409,
            "the shuffle with a crash of any of its six tasks",
            "background writes of operators other than the sinks",
            &[Held, Restored, Recommitting, FreshAgain],
        ),
        config(
            Scenario { faults: crashes(2), ..Scenario::new("fan-in-crashes", shape::fan_in()) },
            3_563_887,
            "alignment through two crashes",
            "background writes of operators other than the sink",
            &[Held, Restored, Recommitting],
        ),
        config(
            Scenario { faults: crashes(2), ..Scenario::new("diamond-crashes", shape::diamond()) },
            611_422,
            "one barrier by two paths through two crashes",
            "background writes of operators other than the sink",
            &[Held, Restored, Recommitting],
        ),
        config(
            Scenario {
                max_concurrent: 2,
                checkpoints: 2,
                faults: crashes(1),
                ..Scenario::new("two-in-flight-crash", shape::pair())
            },
            3_460_290,
            "two checkpoints under way through an alignment, with a crash",
            "background writes of sources",
            &[Held, Restored, Recommitting],
        ),
        config(
            Scenario {
                faults: Faults { crashes: 1, coordinator_crashes: 1, zombie_tasks: 1, ..one },
                ..slow(Scenario::new("all-that-die", shape::chain()))
            },
            1_145_148,
            "a task and the coordinator die, and a task of an ended attempt continues to act, in \
             one run",
            "a replaced coordinator at the same time (see crash-beside): that is above ten million \
             states",
            &[Restored, Recommitting, ZombieActed],
        ),
        config(
            Scenario {
                faults: Faults { crashes: 1, zombie_coordinators: 1, ..one },
                ..slow(Scenario::new("crash-beside", shape::chain()))
            },
            211_545,
            "a task dies while two coordinators live",
            "a task of an ended attempt at the same time (see all-that-die)",
            &[Restored, Recommitting, ZombieActed],
        ),
        config(
            Scenario {
                queued: QueuedMessages::ALL,
                faults: Faults { crashes: 1, losses: 1, duplicates: 1, ..one },
                ..slow(Scenario::new("lossy-crash", shape::chain()))
            },
            1_601_389,
            "every message may take any time, one is lost, one doubled, and a task dies",
            "alignment: there is one input",
            &[Aborted, Restored, Recommitting],
        ),
    ];
    for config in &mut large {
        if ["two-in-flight-crash", "fan-in-crashes"].contains(&config.scenario.name.as_str()) {
            config.suite = Suite::Deep;
        }
    }
    large
}
