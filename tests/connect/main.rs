//! The contracts of every source and sink of the crate, and the files on disk when a file sink
//! crashes.

#[cfg(feature = "formats")]
mod directories;
mod files;
#[cfg(feature = "formats")]
mod formats;
#[cfg(feature = "formats")]
mod identity;
mod inputs;
mod lines;
#[cfg(all(feature = "formats", feature = "sqlite"))]
mod odd_files;
#[cfg(feature = "parquet")]
mod parquets;
#[cfg(feature = "formats")]
mod pipelines;
mod rolling;
#[cfg(feature = "sqlite")]
mod rows;
#[cfg(all(feature = "formats", feature = "http"))]
mod shapes;
mod sinks;
mod sources;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod staged;
mod upserts;

use serde::Serialize;
use serde::de::DeserializeOwned;
use snapline::connect::{ConnectError, OpenContext};
use snapline::protocol::ids::{Attempt, CheckpointId, SubtaskId, Term, TxnId};

/// Subtask `index` of two of the operator `out`, whose first subtask is the job's fourth.
fn context(index: usize, attempt: Attempt) -> OpenContext {
    OpenContext::new("job", "out", index, 2, attempt)
}

fn attempt(term: u32, number: u32) -> Attempt {
    Attempt { term: Term::new(term), number }
}

fn txn(checkpoint: u64, attempt: Attempt, index: u16) -> TxnId {
    let checkpoint = CheckpointId::new(checkpoint).expect("above zero");
    TxnId { checkpoint, attempt, subtask: SubtaskId::new(3 + index) }
}

/// A value after a checkpoint: written as text and read again.
fn through_a_checkpoint<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("can be written");
    serde_json::from_str(&text).expect("can be read")
}

/// The typed error inside a boxed one.
fn typed<T>(result: Result<T, snapline::BoxError>) -> ConnectError {
    let error = result.err().expect("must fail");
    *error.downcast::<ConnectError>().expect("a connector's error")
}
