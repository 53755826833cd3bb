//! Whole jobs through the public interface: how they are watched, stopped, resumed, refused, and how they fail.

mod encoded;
mod failures;
mod handle;
mod hangs;
mod in_flight;
mod kit;
mod lookups;
mod recovery;
mod refused;
#[cfg(all(unix, feature = "signals"))]
mod signals;
mod small;
mod stores;
mod unmendable;
#[path = "../pipelines/wild.rs"]
#[allow(dead_code, reason = "random pipelines use all of it")]
mod wild;
mod wiring;
