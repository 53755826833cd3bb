//! `SPEC.md`, clause by clause, on the machines themselves.
//!
//! Each test names the clause that it shows and has three parts: init, act, check. It asserts the
//! exact effects and the verdict. Nothing is forged: permits, acknowledgements and decisions come
//! from the protocol itself.

mod aligner;
mod clauses;
mod committer;
mod contract;
mod coordinator;
mod endings;
mod failover;
mod global;
mod kit;
mod recovery;
mod retention;
mod subtask;
mod time;
