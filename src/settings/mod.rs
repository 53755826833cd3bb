//! A job's configuration from a TOML file and the environment.
//!
//! Keys have the names of [`JobConfig`]'s methods. An unknown key is an error, as is an invalid
//! value or combination; the error names the file, line and column, or the variable.
//!
//! A valid but unwise setting is not an error: [`crate::Job::warnings`] reports it by the same key,
//! and so does the log when the job starts. Examples are `1M`, which is a month, and variables of
//! the prefix that are not settings. Where the job runs beside a service of its name, Kubernetes
//! sets `ORDERS_SERVICE_HOST` and others.
//!
//! ```
//! use snapline::settings::Settings;
//!
//! # fn main() -> Result<(), snapline::settings::SettingsError> {
//! let text = r#"
//!     parallelism = 4
//!     checkpoint_interval = "5s"
//!     directory = "/var/lib/orders/checkpoints"
//!     restart = "fixed"
//!     restart_attempts = 5
//! "#;
//! // Variables override the file: `ORDERS__CHECKPOINT_INTERVAL=1s` would replace the five seconds.
//! let config = Settings::new().toml("orders.toml", text)?.environment("ORDERS")?.config()?;
//! # let _ = config;
//!
//! let error = Settings::new().toml("orders.toml", "checkpoint_intervall = '5s'").unwrap_err();
//! assert_eq!(error.to_string(), "orders.toml:1:1: `checkpoint_intervall`: there is no such setting; did you mean `checkpoint_interval`?");
//! # Ok(())
//! # }
//! ```
//!
#![doc = include_str!("reference.md")]

mod keys;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::plan::config::JobConfig;
use crate::plan::spec::BuildError;
use crate::plan::warnings::SettingWarning;
use keys::{Draft, KEYS, SettingKey};
use value::Given;

/// Settings of a job from several sources, read one after the other: if two give the same key, the
/// later counts.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Settings {
    given: BTreeMap<&'static str, (SettingOrigin, Given)>,
    /// Ignored variables, each with the setting that it may be meant for; by prefix.
    ignored: BTreeMap<String, BTreeMap<String, Option<&'static str>>>,
}

impl Settings {
    /// No settings yet: all are those of [`JobConfig::new`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, or has an unknown key.
    pub fn file(self, path: impl AsRef<Path>) -> Result<Self, SettingsError> {
        let (path, name) = (path.as_ref(), path.as_ref().display().to_string());
        match std::fs::read_to_string(path) {
            Ok(text) => self.toml(&name, &text),
            Err(error) => Err(SettingsError {
                place: SettingOrigin::Whole(name),
                key: None,
                what: format!("it cannot be read: {error}"),
            }),
        }
    }

    /// Reads TOML; errors call it `name`.
    ///
    /// # Errors
    /// If it is not TOML, or has an unknown key.
    pub fn toml(mut self, name: &str, text: &str) -> Result<Self, SettingsError> {
        let at = |offset: usize| {
            let before = text.get(..offset).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
            SettingOrigin::Line { file: name.to_owned(), line, column }
        };
        let not_toml = |error: toml::de::Error| SettingsError {
            place: at(error.span().map_or(0, |span| span.start)),
            key: None,
            what: format!("this is not TOML: {}", error.message()),
        };
        let places = toml::de::DeTable::parse(text).map_err(not_toml)?;
        let mut values: toml::Table = toml::from_str(text).map_err(not_toml)?;
        for name in places.get_ref().keys() {
            let (place, key) = (at(name.span().start), name.get_ref().as_ref());
            let Some(value) = values.remove(key) else { continue };
            self.put(place, key, Given::Value(value))?;
        }
        Ok(self)
    }

    /// Reads the process's environment: `PREFIX__CHECKPOINT_INTERVAL` is `checkpoint_interval`, and
    /// so is `PREFIX_CHECKPOINT_INTERVAL`, unless both are there. A variable with the prefix and
    /// one underscore that is not a setting is ignored, and listed by the warnings of the
    /// configuration ([`JobConfig::warnings`]).
    ///
    /// # Errors
    /// If a variable begins with the prefix and two underscores and is not a setting, or if a
    /// setting's value is not text. The error shows no value of a variable whose name looks like a
    /// secret's.
    pub fn environment(self, prefix: &str) -> Result<Self, SettingsError> {
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            let Some((key, sure)) = key_of(prefix, name) else { continue };
            let value = match value.into_string() {
                Ok(value) => value,
                Err(_) if sure || is_key(&key) => {
                    return Err(SettingsError {
                        place: SettingOrigin::Variable(name.to_owned()),
                        key: None,
                        what: "its value is not Unicode".to_owned(),
                    });
                }
                // It is listed by its name.
                Err(_) => String::new(),
            };
            variables.push((name.to_owned(), value));
        }
        self.variables(prefix, variables)
    }

    /// Reads variables like [`Settings::environment`]; those without the prefix are ignored.
    ///
    /// # Errors
    /// If one of them begins with the prefix and two underscores and is not a setting.
    pub fn variables(
        mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let mut sure = Vec::new();
        for (name, value) in variables {
            match key_of(prefix, &name) {
                Some((key, true)) => sure.push((name, key, value)),
                Some((key, false)) if is_key(&key) => {
                    self.put(SettingOrigin::Variable(name), &key, Given::Text(value))?;
                }
                Some((key, false)) if !key.is_empty() => {
                    let near = nearest(&key);
                    self.ignored.entry(prefix.to_owned()).or_default().insert(name, near);
                }
                _ => {}
            }
        }
        for (name, key, value) in sure {
            self.put(SettingOrigin::Variable(name), &key, Given::Text(value))?;
        }
        Ok(self)
    }

    fn put(&mut self, place: SettingOrigin, name: &str, given: Given) -> Result<(), SettingsError> {
        match KEYS.iter().find(|key| key.name == name) {
            Some(key) => {
                self.given.insert(key.name, (place, given));
                Ok(())
            }
            None => {
                let near = nearest(name).map(|near| format!("; did you mean `{near}`?"));
                let what = format!("there is no such setting{}", near.unwrap_or_default());
                Err(SettingsError { place, key: Some(name.to_owned()), what })
            }
        }
    }

    /// The configuration: the defaults, with what was read.
    ///
    /// # Errors
    /// If a value is invalid for its setting, or settings contradict each other.
    pub fn config(&self) -> Result<JobConfig, SettingsError> {
        let mut draft = Draft::default();
        for key in KEYS {
            let Some((_, given)) = self.given.get(key.name) else { continue };
            (key.apply)(&mut draft, given).map_err(|what| self.wrong(key.name, what))?;
        }
        let mut config = draft.finish().map_err(|(key, what)| self.wrong(key, what))?;
        config.doubts = self.doubts();
        config.check().map_err(|error| match error {
            BuildError::Setting { setting, what } => self.wrong(setting, what),
            other => self.wrong("", other.to_string()),
        })?;
        Ok(config)
    }

    /// Doubtful settings among those read.
    fn doubts(&self) -> Vec<SettingWarning> {
        let mut doubts = Vec::new();
        for &SettingKey { name: setting, takes, .. } in KEYS {
            let given = self.given.get(setting).filter(|_| takes.starts_with("time"));
            if let Some((unit, is)) = given.and_then(|(_, given)| given.doubtful()) {
                doubts.push(SettingWarning::Unit { setting, unit, is });
            }
        }
        for (prefix, variables) in &self.ignored {
            let variables = variables.iter().map(|(name, near)| (name.clone(), *near)).collect();
            doubts.push(SettingWarning::Ignored { variables, prefix: prefix.clone() });
        }
        doubts
    }

    fn wrong(&self, key: &str, mut what: String) -> SettingsError {
        let place = self.given.get(key).map(|(place, _)| place.clone());
        if let Some(SettingOrigin::Variable(name)) = &place
            && looks_secret(name)
        {
            "it cannot have this value, which is not shown: the variable's name looks like a secret's".clone_into(&mut what);
        }
        SettingsError {
            place: place.unwrap_or(SettingOrigin::Nowhere),
            key: Some(key.to_owned()),
            what,
        }
    }

    /// All settings, as a table in Markdown.
    #[must_use]
    pub fn reference() -> String {
        let mut text = "| key | value | default | |\n|---|---|---|---|\n".to_owned();
        for SettingKey { name, takes, default, what, .. } in KEYS {
            text.push_str(&format!("| `{name}` | {takes} | {default} | {what} |\n"));
        }
        text
    }
}

/// The key of a variable with this prefix, and whether it is certainly the job's: after the prefix
/// and two underscores.
fn key_of(prefix: &str, name: &str) -> Option<(String, bool)> {
    let rest = name.strip_prefix(prefix)?.strip_prefix('_')?;
    let sure = rest.strip_prefix('_');
    Some((sure.unwrap_or(rest).to_ascii_lowercase(), sure.is_some()))
}

fn is_key(name: &str) -> bool {
    KEYS.iter().any(|key| key.name == name)
}

/// Whether a variable's value is secret. Only the prefix decides, since the part after it is a
/// setting's name. It may be a service's, such as `AUTH` or `PASSENGER`, whose errors are to be
/// shown.
fn looks_secret(name: &str) -> bool {
    let name = format!("_{}_", name.to_ascii_uppercase());
    let ends =
        ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "API_KEY", "APIKEY"];
    let ends = ends.iter().flat_map(|end| [format!("{end}_"), format!("{end}S_")]);
    let words = ["_PASS_", "_PRIVATE_"].map(str::to_owned);
    ends.chain(words).any(|word| name.contains(&word))
}

/// The key that a name is likely to stand for.
fn nearest(name: &str) -> Option<&'static str> {
    let near = KEYS.iter().map(|key| (distance(name, key.name), key.name)).min()?;
    (near.0 <= 3).then_some(near.1)
}

/// The number of letters to insert, delete or change to turn one name into the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, second) in other.chars().enumerate() {
            let change = diagonal + usize::from(letter != second);
            diagonal = row[at + 1];
            row[at + 1] = change.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[row.len() - 1]
}

/// Where a setting was given.
#[derive(Clone, PartialEq, Eq, Debug)]
enum SettingOrigin {
    Line {
        file: String,
        line: usize,
        column: usize,
    },
    Whole(String),
    Variable(String),
    /// It was not given: its default contradicts the others.
    Nowhere,
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Whole(file) => write!(f, "{file}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Nowhere => write!(f, "the default"),
        }
    }
}

/// An invalid setting: where it was given, and what is wrong with it.
#[derive(Clone, PartialEq, Eq)]
pub struct SettingsError {
    place: SettingOrigin,
    key: Option<String>,
    what: String,
}

impl SettingsError {
    /// The setting, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, what } = self;
        match key {
            Some(key) => write!(f, "{place}: `{key}`: {what}"),
            None => write!(f, "{place}: {what}"),
        }
    }
}

snapline_protocol::error_in_words!(SettingsError);
