//! The snapline checkpoint and commit protocol, written once.
//!
//! This crate **decides**; it never waits, measures, reads a clock, opens a file or starts a
//! thread. Each part is a small deterministic state machine ([`Machine`]). The model checker
//! (`snapline-models`) explores the same types that the production runtime (`snapline`) drives.
//! `SPEC.md` has the numbered clauses; a comment such as `// SPEC 4.3` names the clause that the
//! line carries out.
//!
//! | module | decides |
//! |---|---|
//! | [`ids`] | names of checkpoints, terms, attempts, subtasks, transactions, blobs |
//! | [`topology`] | which subtasks are connected; limits with typed errors |
//! | [`message`] | barriers in band, messages on the control network, and their permits |
//! | [`coordinator`] | when a checkpoint starts, completes, aborts; stop; failover |
//! | [`aligner`] | which input is held, when a subtask snapshots, what it acknowledges |
//! | [`committer`] | when a sink transaction may be committed, and in which order |
//! | [`fence`] | which coordinator may write, and which attempt may run |
//! | [`recovery`] | facts found in storage -> the start of a new attempt |
//! | [`retention`] | which checkpoints and blobs may be deleted |
//!
//! # The calling contract
//!
//! ```
//! use snapline_protocol::{Machine, Out, Verdict};
//! use snapline_protocol::aligner::{Aligner, Config, Event, Mode};
//! use snapline_protocol::ids::{Attempt, SubtaskId, Term};
//!
//! let config = Config { subtask: SubtaskId::new(0), mode: Mode::ExactlyOnce, inputs: 2 };
//! let mut machine = Aligner::new(&config, Attempt::first(Term::new(1)));
//! let mut out = Out::new(); // belongs to the caller, reused from call to call
//! let verdict = machine.handle(&config, Event::EndOfInput { channel: 0 }, &mut out);
//! assert_eq!(verdict, Verdict::Applied);
//! assert!(out.is_empty()); // the other input still lives
//! ```
//!
//! Effects of one call have no mutual order, except that effects to one destination keep theirs. If
//! an effect must follow the durability of another, that durability returns as an event (storage is
//! a peer, SPEC 3.4).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod aligner;
pub mod committer;
pub mod coordinator;
pub mod fence;
pub mod ids;
mod machine;
pub mod message;
pub mod recovery;
pub mod retention;
pub mod topology;
mod words;

pub use machine::{Machine, Out, Verdict, Why};
