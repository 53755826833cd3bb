//! Explores the snapline protocol under failures.
#![forbid(unsafe_code)]
#![allow(missing_docs)]
pub mod configs;
pub mod explore;
pub mod laws;
pub mod model;
pub mod mutants;
pub mod run;
pub mod scenario;
pub mod sink;
mod tally;
pub mod world;
pub use tally::Tally;
