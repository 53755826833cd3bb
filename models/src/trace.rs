//! Trace files (SPEC 11): a run of the World that can be kept, sent, and replayed.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::explore::{MarkSet, TransitionSystem};
use crate::laws::{Law, broken};
use crate::model::Model;
use crate::scenario::{Scenario, ScenarioError};
use crate::story::story;
use crate::world::rule::WrongRule;
use crate::world::{Action, World};

/// The value of a trace's first field.
pub const FORMAT: &str = "snapline-trace";

/// The version that this program writes, and the only one it reads.
pub const VERSION: u64 = 1;

/// A run of the World from its first state, self-contained.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The scenario that the World is built from.
    pub scenario: Scenario,
    /// The wrong rule that is switched on, if any.
    pub mutant: Option<WrongRule>,
    /// The law that the last state breaks, if any. [`Law::Progress`]: the job can never finish from
    /// there.
    pub law: Option<Law>,
    /// The steps, in order.
    pub steps: Vec<Action>,
}

/// The result of a replay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplayResult {
    /// The last state.
    pub last: World,
    /// The laws that the last state breaks, by number. [`Law::Progress`] is among them only if the
    /// job is [stuck](Self::stuck).
    pub broken: Vec<Law>,
    /// True if the job is not done and only a fault can happen. A job that runs in circles is not
    /// stuck, and may still never finish.
    pub stuck: bool,
    /// The verdict on the trace's claim.
    pub claim: Claim,
}

/// The verdict of a replay on the trace's claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The trace names no law.
    None,
    /// The last state breaks the law.
    Shown(Law),
    /// The last state keeps the law.
    Refuted(Law),
    /// The law is about all that may follow, and one state does not decide that.
    NotVisible(Law),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "the trace claims no broken law"),
            Self::Shown(law) => write!(f, "as claimed, {} is broken: {}", law.name(), law.broken()),
            Self::Refuted(law) => {
                write!(f, "{} holds, although the trace claims that it is broken", law.name())
            }
            Self::NotVisible(law) => write!(
                f,
                "one state does not show whether {} is broken: actions are still possible, but \
                 they may not lead to the end of the job; explore the scenario to decide it",
                law.name()
            ),
        }
    }
}

/// The reason for which a trace cannot be read or replayed.
#[derive(Clone, PartialEq, Eq)]
pub enum TraceError {
    /// The text is not JSON.
    NotJson {
        /// The line at which it stops being JSON.
        line: usize,
        /// The column in that line.
        column: usize,
        /// The parser's message.
        why: String,
    },
    /// The text is JSON of another kind; holds its format.
    NotATrace(String),
    /// The trace is of another version, which it holds.
    OtherVersion(String),
    /// A field is missing, unknown, or not of its type; holds the parser's message.
    Malformed(String),
    /// There is no such wrong rule; holds the name found.
    UnknownMutant(String),
    /// There is no such law; holds the name found.
    UnknownLaw(String),
    /// The scenario lacks a field, or has one that is not of its type; holds the parser's message.
    ScenarioMalformed(String),
    /// The scenario cannot be built.
    Scenario(ScenarioError),
    /// A step is not an action; holds its number, from 1, and the parser's message.
    StepMalformed(usize, String),
    /// A step is not possible in the state it is replayed in.
    NotEnabled {
        /// Its number, from 1.
        step: usize,
        /// The action of the step.
        action: Action,
        /// The actions that are possible.
        enabled: Vec<Action>,
    },
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { line, column, why } => write!(
                f,
                "line {line}, column {column} is not JSON ({why}); a trace is one JSON object, see \
                 SPEC 11"
            ),
            Self::NotATrace(found) => {
                write!(
                    f,
                    "this is not a trace: its format is {found}; the format of a trace is {FORMAT:?}"
                )
            }
            Self::OtherVersion(found) => write!(
                f,
                "this is version {found}; this program reads version {VERSION}: use the program \
                 that wrote it"
            ),
            Self::Malformed(why) => {
                write!(
                    f,
                    "a field is missing or wrong ({why}); SPEC 11 lists the fields of a trace"
                )
            }
            Self::UnknownMutant(found) => write!(
                f,
                "there is no mutant `{found}`; write null for none, or one of: {}",
                list(WrongRule::ALL.iter().map(|mutant| mutant.name()))
            ),
            Self::UnknownLaw(found) => write!(
                f,
                "there is no law `{found}`; write null for none, or one of: {}",
                list(Law::ALL.iter().map(|law| law.name()))
            ),
            Self::ScenarioMalformed(why) => {
                write!(f, "a field of the scenario is missing or wrong: {why}")
            }
            Self::Scenario(error) => write!(f, "the scenario cannot be built: {error}"),
            Self::StepMalformed(step, why) => {
                write!(f, "step {step} is not an action of the World: {why}")
            }
            Self::NotEnabled { step, action, enabled } => {
                let enabled: Vec<String> = enabled.iter().map(show).collect();
                let can = match enabled.is_empty() {
                    true => "no action is possible".into(),
                    false => format!("the possible actions are {}", enabled.join(", ")),
                };
                write!(
                    f,
                    "step {step} is not possible in its state: {} cannot happen there, {can}; \
                     the trace was edited, or written by \
                     another version of the protocol",
                    show(action)
                )
            }
        }
    }
}

snapline_protocol::error_in_words!(TraceError);

impl From<ScenarioError> for TraceError {
    fn from(error: ScenarioError) -> Self {
        Self::Scenario(error)
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// An action as a trace spells it.
fn show(action: &Action) -> String {
    serde_json::to_string(action).unwrap_or_else(|_| format!("{action:?}"))
}

/// The file, field by field, in the order it is written.
#[derive(Serialize)]
struct TraceFile<'a> {
    format: &'a str,
    version: u64,
    scenario: &'a Scenario,
    mutant: Option<&'a str>,
    law: Option<&'a str>,
    steps: Vec<TraceStep<'a>>,
}

#[derive(Serialize)]
struct TraceStep<'a> {
    action: &'a Action,
    story: String,
}

/// The file as it is read, before its parts are parsed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceFields {
    #[serde(rename = "format")]
    _format: Value,
    #[serde(rename = "version")]
    _version: Value,
    scenario: Value,
    mutant: Option<String>,
    law: Option<String>,
    steps: Vec<TraceStepFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceStepFields {
    action: Value,
    #[serde(rename = "story", default)]
    _story: String,
}

impl Trace {
    /// The file's text. Each possible step has its story.
    #[must_use]
    pub fn write(&self) -> String {
        let model = Model::new(self.scenario.clone(), self.mutant);
        let lines = model.map_or(Vec::new(), |model| story(&model.setup, &self.steps));
        let mut lines = lines.into_iter();
        let mut next = || lines.next().map_or(String::new(), |line| line.sentence());
        let file = TraceFile {
            format: FORMAT,
            version: VERSION,
            scenario: &self.scenario,
            mutant: self.mutant.map(WrongRule::name),
            law: self.law.map(Law::name),
            steps: self.steps.iter().map(|action| TraceStep { action, story: next() }).collect(),
        };
        // Numbers, texts and enums are always valid JSON.
        let mut text = serde_json::to_string_pretty(&file).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a file's text. It does not run the steps, see [`Trace::replay`].
    ///
    /// # Errors
    /// [`TraceError`], every variant but [`TraceError::Scenario`] and [`TraceError::NotEnabled`].
    pub fn read(text: &str) -> Result<Self, TraceError> {
        let value: Value = serde_json::from_str(text).map_err(|error| TraceError::NotJson {
            line: error.line(),
            column: error.column(),
            why: error.to_string(),
        })?;
        let found = |field: &str| value.get(field).map_or("missing".into(), Value::to_string);
        if value.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(TraceError::NotATrace(found("format")));
        }
        if value.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(TraceError::OtherVersion(found("version")));
        }
        let malformed = |error: serde_json::Error| TraceError::Malformed(error.to_string());
        let parts: TraceFields = serde_json::from_value(value).map_err(malformed)?;
        let mutant = match parts.mutant {
            None => None,
            Some(name) => Some(WrongRule::find(&name).ok_or(TraceError::UnknownMutant(name))?),
        };
        let law = match parts.law {
            None => None,
            Some(name) => {
                let law = Law::ALL.into_iter().find(|law| law.name() == name);
                Some(law.ok_or(TraceError::UnknownLaw(name))?)
            }
        };
        let scenario = serde_json::from_value(parts.scenario)
            .map_err(|error| TraceError::ScenarioMalformed(error.to_string()))?;
        let mut steps = Vec::with_capacity(parts.steps.len());
        for (place, step) in parts.steps.into_iter().enumerate() {
            let wrong =
                |error: serde_json::Error| TraceError::StepMalformed(place + 1, error.to_string());
            steps.push(serde_json::from_value(step.action).map_err(wrong)?);
        }
        Ok(Self { scenario, mutant, law, steps })
    }

    /// Runs it on a fresh World.
    ///
    /// # Errors
    /// [`TraceError::Scenario`], or [`TraceError::NotEnabled`] for the first step that is not
    /// possible.
    pub fn replay(&self) -> Result<ReplayResult, TraceError> {
        let model = Model::new(self.scenario.clone(), self.mutant)?;
        let (mut marks, mut enabled) = (MarkSet::new(), Vec::new());
        let mut last = model.initial();
        for (place, &action) in self.steps.iter().enumerate() {
            enabled.clear();
            model.actions(&last, &mut enabled);
            if !enabled.contains(&action) {
                return Err(TraceError::NotEnabled { step: place + 1, action, enabled });
            }
            last = model.apply(&last, &action, &mut marks);
        }
        enabled.clear();
        model.actions(&last, &mut enabled);
        let stuck = !model.is_goal(&last) && enabled.iter().all(Action::is_fault);
        let set = broken(&model.setup, &last, u64::MAX);
        let is_broken = |law: &Law| set & law.bit() != 0 || (*law == Law::Progress && stuck);
        let broken: Vec<Law> = Law::ALL.into_iter().filter(is_broken).collect();
        let claim = match self.law {
            None => Claim::None,
            Some(law) if broken.contains(&law) => Claim::Shown(law),
            Some(Law::Progress) if !model.is_goal(&last) => Claim::NotVisible(Law::Progress),
            Some(law) => Claim::Refuted(law),
        };
        Ok(ReplayResult { last, broken, stuck, claim })
    }
}
