//! The ground floor: what every other room may use, and what uses none of them.
//!
//! | module | what |
//! |---|---|
//! | [`clock`] | the time, real or simulated |
//! | [`either`] | one of two types |
//! | [`error`] | errors of users' code, and how an error and its causes are written in one line |
//! | [`fault`] | faults that the simulator plants, to see that it finds them |
//! | [`panic`] | turns a panic of users' code into an error |
//! | [`random`] | unpredictable numbers |
//! | [`sync`] | threads, locks, atomics, mailboxes: the only room that names the standard library's |
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
