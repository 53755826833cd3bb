//! The contracts of snapline: what a source, a sink, a store or a state backend is written against,
//! and what they share. It starts no thread and runs no job; the crate `snapline` does, and
//! re-exports what its users need. A connector, a store or a backend that brings a client library
//! is a crate of its own that depends on this one alone.
//!
//! | module | what |
//! |---|---|
//! | [`base`] | errors, the clock, locks, planted faults |
//! | [`fs`] | the file system, real or simulated |
//! | [`store`] | where checkpoints are kept: the contract, memory, a local directory |
//! | [`state`] | keyed state, its encoding, snapshots, restoring |
//! | [`connect`] | the contracts of sources, sinks and look-ups |

pub mod base;
pub mod connect;
pub mod fs;
pub mod state;
pub mod store;
