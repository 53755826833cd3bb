//! An embeddable, exactly-once stream-processing runtime whose checkpoint protocol is model-checked.
//!
//! Today this crate is the protocol alone, re-exported: the runtime that carries it out is the next thing to be built. The model checker is
//! the crate `snapline-models`; the clauses are in `SPEC.md`.
//!
//! ```
//! use snapline::protocol::topology::Plan;
//!
//! let topology = Plan::new()
//!     .source("clicks", 2)
//!     .transform("count", 2)
//!     .sink("files", 2)
//!     .all_to_all("clicks", "count")
//!     .forward("count", "files")
//!     .build()?;
//! assert_eq!(topology.subtasks().len(), 6);
//! # Ok::<(), snapline::protocol::topology::TopologyError>(())
//! ```

#![forbid(unsafe_code)]

pub use snapline_protocol as protocol;
