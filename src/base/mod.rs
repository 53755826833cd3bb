//! The ground floor: any other room may use it, and it uses none of them.
//!
//! | module | what |
//! |---|---|
//! | [`clock`] | the time, real or simulated |
//! | [`either`] | one of two types |
//! | [`error`] | errors of users' code; an error and its causes in one line |
//! | [`fault`] | faults that the simulator plants and must find |
//! | [`panic`] | turns a panic of users' code into an error |
//! | [`random`] | unpredictable numbers |
//! | [`sync`] | threads, locks, atomics, mailboxes: only it names the standard library's |
//! | [`watch`] | what each thread is doing, and since when |

pub(crate) mod clock;
pub(crate) mod either;
pub(crate) mod error;
#[cfg_attr(
    not(feature = "sim"),
    allow(dead_code, unreachable_pub, reason = "names of faults that only a simulation can plant")
)]
pub(crate) mod fault;
pub(crate) mod panic;
pub(crate) mod random;
pub(crate) mod sync;
pub(crate) mod watch;
