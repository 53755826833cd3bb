//! Whole jobs through the public interface: observed, stopped, resumed, refused and failing.

mod encoded;
mod failures;
mod handle;
mod hangs;
mod in_flight;
mod kit;
mod lookups;
#[path = "../pipelines/planned_failures.rs"]
#[allow(dead_code, reason = "random pipelines use all of it")]
mod planned_failures;
mod recovery;
mod refused;
#[cfg(all(unix, feature = "signals"))]
mod signals;
mod small;
mod stores;
mod unmendable;
mod wiring;
