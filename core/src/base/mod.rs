//! The ground floor: any other room may use it, and it uses none of them.
//!
//! | module | what |
//! |---|---|
//! | [`clock`] | the time, real or simulated |
//! | [`either`] | one of two types |
//! | [`error`] | errors of users' code; an error and its causes in one line |
//! | [`fault`] | faults that the simulator plants and must find |
//! | [`mod@panic`] | turns a panic of users' code into an error |
//! | [`random`] | unpredictable numbers |
//! | [`sync`] | threads, locks, atomics, mailboxes: only it names the standard library's |
//! | [`watch`] | what each thread is doing, and since when |

pub mod clock;
pub mod either;
pub mod error;
pub mod fault;
pub mod panic;
pub mod random;
pub mod sync;
pub mod watch;
