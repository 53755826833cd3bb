//! Scenario files: a user's own topology, sink, bounds and faults, as TOML.
//!
//! ```toml
//! # Bounds; every key has a default.
//! mode = "exactly-once"   # or "at-least-once"
//! records = 2             # per source subtask
//! checkpoints = 1         # those needed to finish come on top
//! sink = "atomic-rename"  # or a table, see below
//!
//! [[operator]]
//! name = "in"
//! role = "source"         # or "transform", "sink"
//! parallelism = 1
//!
//! [[operator]]
//! name = "out"
//! role = "sink"
//!
//! [[edge]]
//! from = "in"
//! to = "out"
//! wiring = "forward"      # or "all-to-all"
//!
//! [faults]                # how often each may strike in one run
//! crashes = 2             # 1 if it is not there; the others are 0
//! ```
//!
//! The keys are those of [`Scenario`], [`Faults`] and [`QueuedMessages`] with hyphens, except the
//! name, which is given apart. `sink` is one of [`PRESETS`] or a table of all three fields of
//! [`SinkModel`]:
//!
//! ```toml
//! [sink]
//! prepared = "survives"   # "until-timeout", "until-new-attempt", "in-checkpoint"
//! commit = "by-name"      # "blind", "by-producer"
//! fences = true
//! ```
//!
//! A sink that drops prepared transactions after a time-out gets a budget of one drop, unless
//! `drops` under `[faults]` gives another number. Without a drop the file would ask for the
//! guarantees of another sink. Unknown keys are errors.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use snapline_protocol::aligner::Mode;
use snapline_protocol::topology::{Edge, Operator, Plan, TopologyError};
use toml::Spanned;

use crate::scenario::{Faults, QueuedMessages, Scenario, ScenarioError, Setup, StopKind};
use crate::sink::{Prepared, SinkModel};

/// The sinks that a file can name.
pub const PRESETS: [(&str, SinkModel); 6] = [
    ("transactional", SinkModel::transactional()),
    ("atomic-rename", SinkModel::atomic_rename()),
    ("prepare-transaction", SinkModel::prepare_transaction()),
    ("producer-with-timeout", SinkModel::producer_with_timeout()),
    ("producer-with-epoch", SinkModel::producer_with_epoch()),
    ("marker-in-transaction", SinkModel::marker_in_transaction()),
];

/// Reads a scenario and checks that it can be built. `name` becomes its name.
///
/// ```
/// let text = r#"
///     records = 3
///     operator = [{ name = "in", role = "source" }, { name = "out", role = "sink" }]
///     edge = [{ from = "in", to = "out", wiring = "forward" }]
/// "#;
/// let scenario = snapline_models::file::read_scenario(text, "mine")?;
/// assert_eq!((scenario.records, scenario.checkpoints, scenario.faults.crashes), (3, 1, 1));
///
/// let error = snapline_models::file::read_scenario("\nrecrods = 3\n", "mine").unwrap_err();
/// assert!(error.to_string().starts_with("line 2, column 1: unknown field `recrods`"));
/// # Ok::<(), snapline_models::file::FileError>(())
/// ```
///
/// # Errors
/// [`FileError`]: what is wrong, where, and what is allowed there.
pub fn read_scenario(text: &str, name: &str) -> Result<Scenario, FileError> {
    let keys: ScenarioKeys = toml::from_str(text).map_err(|error| FileError {
        position: error.span().map(|span| TextPosition::of(text, span.start)),
        cause: FileErrorCause::Syntax(readable(error.message())),
    })?;
    let faulty = |cause: FileErrorCause, at: Option<usize>| FileError {
        position: at.map(|at| TextPosition::of(text, at)),
        cause,
    };
    let scenario = keys.scenario(name);
    match Setup::new(scenario.clone(), None) {
        Ok(_) => Ok(scenario),
        Err(ScenarioError::Topology(error)) => {
            let at = keys.place_of(&error);
            Err(faulty(FileErrorCause::Scenario(error.into()), at))
        }
        Err(error) => Err(faulty(FileErrorCause::Scenario(error), None)),
    }
}

/// The faults of a check that names none: one crash, and one drop if the sink drops prepared
/// transactions on its own.
#[must_use]
pub fn default_faults(sink: SinkModel) -> Faults {
    let drops = u8::from(sink.prepared == Prepared::UntilTimeout);
    Faults { crashes: 1, drops, ..Faults::default() }
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextPosition {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl TextPosition {
    fn of(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Self { line, column }
    }
}

/// The reason for which a file gives no scenario.
#[derive(Clone, PartialEq, Eq)]
pub struct FileError {
    /// The position of the mistake; `None` if it concerns the file as a whole.
    pub position: Option<TextPosition>,
    /// The mistake.
    pub cause: FileErrorCause,
}

/// A mistake in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileErrorCause {
    /// The text is not TOML, or a key or value is not allowed; lists those allowed.
    Syntax(String),
    /// The scenario in it cannot be explored.
    Scenario(ScenarioError),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(TextPosition { line, column }) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        match &self.cause {
            FileErrorCause::Syntax(message) => f.write_str(message),
            FileErrorCause::Scenario(error) => error.fmt(f),
        }
    }
}

snapline_protocol::error_in_words!(FileError);

/// Replaces Rust's names of types by ranges.
fn readable(message: &str) -> String {
    let message = message.replace('\n', "; ");
    let range = |message: String, name: &str, range: &str| {
        message.replace(&format!("expected {name}"), &format!("expected {range}"))
    };
    let message = range(message, "u8", "a number from 0 to 255");
    let message = range(message, "u32", "a number from 0");
    let message = range(message, "u64", "a number from 0");
    range(message, "usize", "a number from 0")
}

/// The file's keys.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ScenarioKeys {
    #[serde(default, rename = "operator")]
    operators: Vec<Spanned<Operator>>,
    #[serde(default, rename = "edge")]
    edges: Vec<Spanned<Edge>>,
    mode: Option<Mode>,
    records: Option<u8>,
    checkpoints: Option<u8>,
    capacity: Option<u8>,
    stop: Option<StopKind>,
    retained: Option<usize>,
    shared: Option<bool>,
    forgets: Option<bool>,
    id_block: Option<u64>,
    max_concurrent: Option<usize>,
    tolerable_failures: Option<u32>,
    narrow: Option<String>,
    prompt_writes: Option<bool>,
    sink: Option<SinkKey>,
    queued: Option<QueuedKeys>,
    #[serde(default)]
    faults: FaultKeys,
}

impl ScenarioKeys {
    fn scenario(&self, name: &str) -> Scenario {
        let plan = Plan {
            operators: self.operators.iter().map(|o| o.get_ref().clone()).collect(),
            edges: self.edges.iter().map(|edge| edge.get_ref().clone()).collect(),
        };
        let default = Scenario::new(name, plan);
        let sink = self.sink.as_ref().map_or(default.sink, |key| key.0);
        Scenario {
            mode: self.mode.unwrap_or(default.mode),
            records: self.records.unwrap_or(default.records),
            checkpoints: self.checkpoints.unwrap_or(default.checkpoints),
            capacity: self.capacity.unwrap_or(default.capacity),
            stop: self.stop.or(default.stop),
            retained: self.retained.or(default.retained),
            shared: self.shared.unwrap_or(default.shared),
            forgets: self.forgets.unwrap_or(default.forgets),
            id_block: self.id_block.unwrap_or(default.id_block),
            max_concurrent: self.max_concurrent.unwrap_or(default.max_concurrent),
            tolerable_failures: self.tolerable_failures.unwrap_or(default.tolerable_failures),
            narrow: self.narrow.clone().or(default.narrow.clone()),
            prompt_writes: self.prompt_writes.unwrap_or(default.prompt_writes),
            sink,
            queued: self.queued.as_ref().map_or(default.queued, QueuedKeys::queued),
            faults: self.faults.faults(sink),
            ..default
        }
    }

    /// The place of the operator or edge that an error concerns.
    fn place_of(&self, error: &TopologyError) -> Option<usize> {
        let operator = |name: &String| {
            // Of two operators of one name the second is the duplicate.
            let named = |o: &&Spanned<Operator>| o.get_ref().name == *name;
            self.operators.iter().rev().find(named).map(|o| o.span().start)
        };
        let edge = |from: &String, to: &String| {
            let joins = |e: &&Spanned<Edge>| e.get_ref().from == *from && e.get_ref().to == *to;
            self.edges.iter().rev().find(joins).map(|e| e.span().start)
        };
        match error {
            TopologyError::NoSource | TopologyError::NoSink | TopologyError::TooManySubtasks(_) => {
                None
            }
            TopologyError::DuplicateOperator(name)
            | TopologyError::NoSubtasks(name)
            | TopologyError::NoInput(name)
            | TopologyError::NoOutput(name) => operator(name),
            TopologyError::DanglingEdge { from, to, .. }
            | TopologyError::DuplicateEdge(from, to)
            | TopologyError::InputToSource(from, to)
            | TopologyError::OutputFromSink(from, to) => edge(from, to),
            TopologyError::ForwardMismatch { from, to } => edge(&from.0, &to.0),
            TopologyError::Cycle(names) => names.first().and_then(operator),
        }
    }
}

/// Defines the keys of a table whose fields all have the same type, with the field names of the
/// struct it becomes. A field that is added there and not here does not compile.
macro_rules! table {
    ($name:ident -> $target:ident: $type:ty { $($field:ident),* $(,)? }) => {
        #[derive(serde::Deserialize, Default)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        struct $name {
            $($field: Option<$type>,)*
        }

        impl $name {
            fn over(&self, default: $target) -> $target {
                $target { $($field: self.$field.unwrap_or(default.$field),)* }
            }
        }
    };
}

table!(FaultKeys -> Faults: u8 {
    crashes, coordinator_crashes, zombie_tasks, zombie_coordinators, losses, duplicates, delays,
    unknown_writes, refused_writes, failed_snapshots, unknown_commits, refused_commits, drops,
    timeouts, lost_manifests,
});

table!(QueuedKeys -> QueuedMessages: bool { triggers, aborts, completes, acks, reports });

impl FaultKeys {
    fn faults(&self, sink: SinkModel) -> Faults {
        self.over(default_faults(sink))
    }
}

impl QueuedKeys {
    fn queued(&self) -> QueuedMessages {
        self.over(QueuedMessages::TRIGGERS)
    }
}

/// The name of a preset, or a table.
struct SinkKey(SinkModel);

impl<'de> Deserialize<'de> for SinkKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SinkKeyVisitor;

        impl<'de> Visitor<'de> for SinkKeyVisitor {
            type Value = SinkKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a sink or a table of `prepared`, `commit` and `fences`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<SinkKey, E> {
                let known = PRESETS.iter().find(|(preset, _)| *preset == name);
                known.map(|(_, model)| SinkKey(*model)).ok_or_else(|| {
                    let names: Vec<String> =
                        PRESETS.iter().map(|(preset, _)| format!("`{preset}`")).collect();
                    E::custom(format_args!(
                        "unknown sink `{name}`, expected one of {} or a table of `prepared`, \
                         `commit` and `fences`",
                        names.join(", ")
                    ))
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SinkKey, A::Error> {
                SinkModel::deserialize(MapAccessDeserializer::new(map)).map(SinkKey)
            }
        }

        deserializer.deserialize_any(SinkKeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPOLOGY: &str = r#"
[[operator]]
name = "in"
role = "source"

[[operator]]
name = "out"
role = "sink"

[[edge]]
from = "in"
to = "out"
wiring = "forward"
"#;

    fn wrong(text: &str) -> String {
        read_scenario(text, "wrong").expect_err("the text is invalid").to_string()
    }

    #[test]
    fn defaults_are_those_of_a_new_scenario_with_one_crash() {
        let scenario = read_scenario(TOPOLOGY, "small").expect("the text is valid");
        let plan = Plan::new().source("in", 1).sink("out", 1).forward("in", "out");
        let mut expected = Scenario::new("small", plan);
        expected.faults.crashes = 1;
        assert_eq!(scenario, expected);
    }

    #[test]
    fn every_key_is_read() {
        let text = format!(
            r#"
mode = "at-least-once"
records = 3
checkpoints = 2
capacity = 4
stop = "drain"
retained = 1
shared = true
forgets = true
id-block = 2
max-concurrent = 2
tolerable-failures = 1
narrow = "out"
prompt-writes = false
sink = {{ prepared = "until-new-attempt", commit = "by-producer", fences = false }}
queued = {{ aborts = true }}
faults = {{ crashes = 0, coordinator-crashes = 1, unknown-commits = 2 }}
{TOPOLOGY}"#
        );
        let scenario = read_scenario(&text, "full").expect("the text is valid");
        assert_eq!(scenario.mode, Mode::AtLeastOnce);
        assert_eq!((scenario.records, scenario.checkpoints, scenario.capacity), (3, 2, 4));
        assert_eq!(scenario.stop, Some(StopKind::Drain));
        assert_eq!((scenario.retained, scenario.shared, scenario.id_block), (Some(1), true, 2));
        assert!(scenario.forgets);
        assert_eq!((scenario.max_concurrent, scenario.tolerable_failures), (2, 1));
        assert_eq!(scenario.narrow.as_deref(), Some("out"));
        assert!(!scenario.prompt_writes);
        assert_eq!(scenario.sink.prepared, Prepared::UntilNewAttempt);
        assert_eq!(scenario.queued, QueuedMessages { aborts: true, ..QueuedMessages::TRIGGERS });
        let faults = Faults { coordinator_crashes: 1, unknown_commits: 2, ..Faults::default() };
        assert_eq!(scenario.faults, faults);
    }

    #[test]
    fn a_sink_with_a_time_out_gets_to_drop() {
        let with = |keys: &str| {
            let text = format!("sink = \"producer-with-timeout\"\n{keys}{TOPOLOGY}");
            read_scenario(&text, "drops").expect("the text is valid").faults.drops
        };
        assert_eq!((with(""), with("faults.drops = 0\n")), (1, 0));
    }

    #[test]
    fn errors_say_where_and_what_is_allowed() {
        assert_eq!(
            wrong("sink = \"kafka\"\n"),
            "line 1, column 8: unknown sink `kafka`, expected one of `transactional`, \
             `atomic-rename`, `prepare-transaction`, \
             `producer-with-timeout`, `producer-with-epoch`, `marker-in-transaction` or a table of \
             `prepared`, `commit` and `fences`"
        );
        let text = TOPOLOGY.replace("\"sink\"", "\"drain\"");
        assert_eq!(
            wrong(&text),
            "line 8, column 8: unknown variant `drain`, expected one of `source`, `transform`, \
             `sink`"
        );
        assert_eq!(
            wrong("[faults]\ncrash = 1\n").split(", `coordinator").next(),
            Some("line 2, column 1: unknown field `crash`, expected one of `crashes`")
        );
        assert_eq!(
            wrong("records = 300\n"),
            "line 1, column 11: invalid value: integer `300`, expected a number from 0 to 255"
        );
        assert!(wrong("records = \n").starts_with("line 1, column 1"));
    }

    /// The largest number that a file can ask for: a search of each record among all others would
    /// take quadratic time.
    #[test]
    fn more_records_than_a_tally_holds_are_refused_at_once() {
        let text = TOPOLOGY.replace("forward", "all-to-all");
        let text = text.replace("\"source\"", "\"source\"\nparallelism = 255");
        let begun = std::time::Instant::now();
        let error = wrong(&format!("records = 255\n{text}"));
        assert!(begun.elapsed() < std::time::Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(error.starts_with("the model would need 65025 record identities"), "{error}");
    }

    #[test]
    fn a_wrong_topology_is_shown_in_its_file() {
        let text = format!(
            "{TOPOLOGY}\n[[edge]]\nfrom = \"in\"\nto = \"nowhere\"\nwiring = \"forward\"\n"
        );
        assert_eq!(
            wrong(&text),
            "line 15, column 1: edge `in` -> `nowhere`: there is no operator `nowhere`"
        );
        let text = format!("{TOPOLOGY}\n[[operator]]\nname = \"out\"\nrole = \"sink\"\n");
        assert_eq!(
            wrong(&text),
            "line 15, column 1: two operators are named `out`; names must be unique"
        );
        assert_eq!(wrong(""), "the topology has no source; add an operator of role `source`");
    }
}
