//! The runtime's concurrent types under every schedule that loom reaches: their promises hold, and
//! a broken type is detected.
//!
//! The very files of `src/` are compiled here a second time. Their `sync` has loom's types (feature
//! `loom`) or shuttle's (feature `shuttle`) where the runtime has the standard library's. The
//! runtime contains no trace of it except `cfg(snapline_loom)`, which this crate's build script
//! sets for this crate alone. The alternative is the whole runtime on loom's types under a cfg. It
//! would have to rewrite all that shares a store as `Arc<dyn Store>`, and all statics, none of
//! which is checked here.
//!
//! Run by `cargo test -p snapline-proofs --release --features loom` (or `shuttle`); see
//! `proofs/README.md`. Without a feature the crate is empty.
//!
//! | module | content |
//! |---|---|
//! | `theorems` | the promises: closures that a checker runs again and again |
//! | `rig` | the type of a theorem, and values whose accesses are tracked |
//! | `sync` | the runtime's `core/src/base/sync/`, in the checker's types; each use can be weakened |
//! | `broken` | the same files with the changes of `mutated_sources.rs`, made by the build script |
//! | `runner` | runs all, each in a process of its own, and counts |
#![cfg(snapline_loom)]
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::duplicate_mod,
    clippy::absurd_extreme_comparisons,
    reason = "files of the runtime, of which the theorems use a part, and ring.rs and cow.rs by themselves too"
)]

pub(crate) use snapline::{protocol, store};

pub(crate) mod base {
    pub(crate) mod error {
        pub(crate) use snapline::BoxError;
    }
    pub(crate) use crate::{clock, sync, watch};
}

mod rig;
mod sync;

#[path = "../../src/channel/mod.rs"]
mod channel;
#[path = "../../core/src/base/clock.rs"]
mod clock;
#[path = "../../core/src/state/cow.rs"]
mod cow;
#[path = "../../src/executor"]
mod executor {
    pub(crate) mod io_pool;
    pub(crate) mod run_loop;
}
#[path = "../../src/channel/ring.rs"]
mod ring;
#[path = "../../core/src/state/mod.rs"]
#[allow(missing_docs, reason = "documented where it is public")]
mod state;
mod theorems;

mod broken;
mod runner;
mod watch;

pub use runner::main;

/// The parts of `mutated_sources.rs` that the runner uses.
mod twins {
    include!("../mutated_sources.rs");

    pub(crate) fn find(name: &str) -> Option<&'static Twin> {
        TWINS.iter().find(|twin| twin.name == name)
    }
}

/// Whether this twin is the one that runs.
fn on(twin: &str) -> bool {
    runner::TWIN.get().is_some_and(|running| running == twin)
}
