//! What records pass through: the contracts of operators, and the part of a task that sees records.
//!
//! | module | what |
//! |---|---|
//! | [`chain`] | a chain of operators, compiled as one loop |
//! | [`key`] | how records are keyed |
//! | [`time`] | timestamps, and records that have one |
//! | [`body`], [`sink`] | the part of a task that sees records: a source's, an operator's, a sink's |
//! | [`output`] | a task's output, in batches |
//! | [`route`] | which of its outputs a record takes |
//! | [`watermark_merger`] | merges the watermarks of a task's inputs |

pub(crate) mod body;
pub(crate) mod chain;
pub(crate) mod key;
pub(crate) mod output;
pub(crate) mod route;
pub(crate) mod sink;
pub(crate) mod time;
pub(crate) mod watermark_merger;
