//! The named configurations: what is claimed to be checked, and within which bounds.

use crate::scenario::Scenario;
use crate::world::Guard;

/// When a configuration is explored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Suite {
    /// On every change.
    Ci,
    /// With `--deep`.
    Deep,
}

/// A named configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is explored; its name is the configuration's.
    pub scenario: Scenario,
    /// When.
    pub suite: Suite,
    /// What it is there to show, in a sentence.
    pub shows: &'static str,
    /// What it cannot show, in a sentence.
    pub cannot: &'static str,
    /// Situations it must come across.
    pub guards: Vec<Guard>,
    /// How many states there are.
    pub states: Option<u64>,
}

/// Every configuration, in the order they are run.
#[must_use]
pub fn all() -> Vec<Config> {
    Vec::new()
}

/// The configuration of this name.
#[must_use]
pub fn find(name: &str) -> Option<Config> {
    all().into_iter().find(|config| config.scenario.name == name)
}
