//! Explores the snapline protocol under failures.
#![forbid(unsafe_code)]
#![allow(missing_docs)]
pub mod check;
pub mod configs;
pub mod explore;
pub mod file;
pub mod laws;
pub mod model;
pub mod mutants;
pub mod run;
pub mod scenario;
pub mod sink;
pub mod story;
mod tally;
pub mod topologies;
pub mod trace;
pub mod walk;
pub mod world;
pub use tally::Tally;
