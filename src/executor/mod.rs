//! Threads and pools, and the platform under them.
//!
//! | module | what |
//! |---|---|
//! | [`call_pool`] | threads for a subtask's calls that may wait |
//! | [`io_pool`] | threads for input and output: writing, committing, deleting |
//! | [`platform`] | what it runs on: the operating system, or a simulator |
//! | [`run_loop`] | how a worker lets its tasks step in turn, sleeps and ends |

pub(crate) mod call_pool;
pub(crate) mod io_pool;
pub(crate) mod platform;
pub(crate) mod run_loop;
