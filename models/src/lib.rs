//! Explores the snapline protocol under failures.
//!
//! The machines of `snapline-protocol` are put into a [`world::World`] that may do to them what the world does: crash tasks and
//! coordinators, lose, double and delay messages, leave the outcome of a write open, drop prepared transactions. The [`laws`] say what
//! correct means; explorers ([`explore`]) look at every state within bounds, the [`walk`] at few states of many more. [`mutants`] show
//! that the laws bite.
//!
//! | room | what is in it |
//! |---|---|
//! | [`world`] | the environment, once: what may happen next, and what then happens |
//! | [`scenario`] | a topology, bounds and a budget of faults: everything that never changes while exploring |
//! | [`laws`] | what correct means; there is no other definition in the code |
//! | [`sink`] | how an external system commits |
//! | [`configs`] | the named configurations, with pinned state counts; [`topologies`] has their shapes |
//! | [`mutants`] | wrong rules, each killed by the law written for it |
//! | [`explore`] | explorers of any finite transition system, stateright behind a seam; [`model`] and [`run`] apply them |
//! | [`walk`] | the seeded random walk that must always be able to finish |
//! | [`trace`], [`story`], [`scene`] | counterexamples as files, in words, and as what a picture shows |
//! | [`mod@check`], [`mod@file`] | the checker on a user's own topology and sink, from a test and from a file |
//!
//! # Check your own sink
//!
//! ```
//! use snapline_models::check::Check;
//! use snapline_models::sink::SinkModel;
//! use snapline_protocol::topology::Plan;
//!
//! let topology = Plan::new().source("orders", 1).sink("files", 1).forward("orders", "files");
//! Check::new(topology).sink(SinkModel::atomic_rename()).crashes(1).run().assert_exactly_once();
//! ```

#![forbid(unsafe_code)]

pub mod check;
pub mod configs;
pub mod explore;
pub mod file;
pub mod laws;
pub mod model;
pub mod mutants;
pub mod run;
pub mod scenario;
pub mod scene;
pub mod sink;
pub mod story;
mod tally;
pub mod topologies;
pub mod trace;
pub mod walk;
pub mod world;

pub use tally::RecordTally;
