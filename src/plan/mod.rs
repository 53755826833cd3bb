//! A job before it runs: its graph, its configuration, what it guarantees.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | the settings of a job |
//! | [`graph`] | nodes and typed edges |
//! | [`guarantee`] | what a job promises about its output, and why no more |
//! | [`spec`] | a checked dataflow with its configuration; why one is refused |
//! | [`warnings`] | settings that can break the guarantee, or mislead |

pub(crate) mod config;
pub(crate) mod graph;
pub(crate) mod guarantee;
pub(crate) mod spec;
pub(crate) mod warnings;
