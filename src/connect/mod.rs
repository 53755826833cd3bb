//! Sources and sinks: the traits, and those that come with the crate.
//!
//! The behaviour of a source after a failure, and on input that it cannot read:
//!
//! | source | after a failure | malformed input |
//! |---|---|---|
//! | [`FileSource`] | resumes at the byte: exactly once. A file that vanished, shrank or is another one fails the job | bytes that are not UTF-8 fail the job, or are replaced; a line that is too long fails it |
//! | `FileSource` with `csv`, `json_lines`, `decode` | resumes at the byte; in a compressed file at the decompressed byte, for which it is decompressed again: exactly once | fails the job, is skipped with a count, or is emitted beside the records |
//! | `DirectorySource` | the same; no file is read twice, none is left out: exactly once. A file that changes while it is read, or replaces one that was read, fails the job | the same |
//! | [`Generator`], [`MemorySource`] | resumes with the next record: exactly once, from memory as long as the process lives | none |
//! | [`Stdin`] | lines that were read and not committed are lost: at most once | fails the task, or is skipped with a count |
//! | [`TcpLines`] | the same, and lines in the connection are lost too | the same |
//!
//! When a sink's readers see a record, and the state after a crash at the worst moment:
//!
//! | sink | visible | when it crashes |
//! |---|---|---|
//! | [`FileSink`]: lines, CSV, JSON lines, Parquet | with the checkpoint, file by file | between the closing of a checkpoint and its commit: files that readers do not see, which the next attempt commits or removes. Within a commit: some of a transaction's files are in place; the next attempt puts the rest there before it does anything else |
//! | [`MemorySink`] | with the checkpoint | nothing remains of the process |
//! | [`Idempotent`] | as it comes | records written since the last checkpoint are written again, over themselves |
//! | [`Stdout`], [`ForEach`], [`TryForEach`] | as it comes | records written since the last checkpoint are written again: at least once |
//!
//! The module `testkit` (feature of that name) crashes sources and sinks at every step, and checks
//! them against their declared guarantees: these, and your own.

mod generator;
mod line_sources;
mod memory_sink;
mod memory_source;
mod plain;
mod upsert;

pub use generator::{Generator, GeneratorReader};
pub use line_sources::{LinesReader, Stdin, TcpLines};
pub use memory_sink::{MemoryCommitter, MemorySink, MemoryWriter};
pub use memory_source::{MemoryReader, MemorySource};
pub use plain::{Discard, ForEach, NothingToCommit, PlainWriter, Stdout, TryForEach};
pub use upsert::{
    Idempotent, IdempotentCommitter, IdempotentWriter, MemoryTable, MemoryTableWriter, Upsert,
    UpsertWriter,
};

pub use snapline_core::connect::{
    Attempt, Classify, Collect, CommitGrant, CommitOutcome, ConnectError, ConnectorError, Delivery,
    OpenContext, Progress, SinkCommitter, SinkWriter, Source, SourceReader, TwoPhaseSink, TxnId,
    classify_as,
};
pub use snapline_files::*;
#[cfg(feature = "http")]
pub use snapline_http::{
    HttpIngest, IngestConfig, IngestError, IngestPosition, IngestReader, IngestSource,
    RefusedRequest, WebhookCommittable, WebhookCommitter, WebhookError, WebhookSink, WebhookWriter,
};
#[cfg(feature = "sqlite")]
pub use snapline_sqlite::*;
