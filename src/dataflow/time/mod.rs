//! Operators of event time.

pub(crate) mod expiry;
pub(crate) mod timed;
pub(crate) mod timer_queue;
pub(crate) mod timers;
pub(crate) mod watermarks;
