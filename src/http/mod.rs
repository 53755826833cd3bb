//! HTTP: the listener of the servers, and the pages that a dashboard serves.

pub(crate) mod listener;
#[cfg(feature = "dashboard")]
pub mod pages;
