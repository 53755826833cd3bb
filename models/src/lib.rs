//! Explores the snapline protocol under failures.
//!
//! A [`world::World`] drives the machines of `snapline-protocol` and injects every fault that they
//! must survive: it crashes tasks and coordinators, loses, doubles and delays messages, leaves the
//! outcome of a write unknown, and drops prepared transactions. The [`laws`] define correctness.
//! The explorers ([`explore`]) visit every state within bounds; the [`walk`] visits few states of
//! many more. [`mutants`] show that the laws detect what they are written for.
//!
//! | module | contents |
//! |---|---|
//! | [`world`] | the environment, once: the enabled actions of a state, and their effects |
//! | [`world::rule`] | the wrong rules that a World can follow |
//! | [`scenario`] | a topology, bounds and a budget of faults, fixed while exploring |
//! | [`laws`] | the definition of correctness; the code has no other |
//! | [`sink`] | the commit rules of external systems |
//! | [`configs`] | named configurations with pinned state counts; [`topologies`] has their shapes |
//! | [`mutants`] | the catalogue of wrong rules, each killed by the law written for it |
//! | [`explore`] | explorers of any finite transition system; only one file names stateright |
//! | [`model`], [`run`] | the World as a transition system; a configuration explored and judged |
//! | [`walk`] | the seeded random walk that must always be able to finish |
//! | [`trace`], [`story`], [`scene`] | counterexamples as files, in words, and as pictures |
//! | [`mod@check`], [`mod@file`] | a check of a user's own topology and sink: a test, a file |
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
