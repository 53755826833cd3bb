//! HTTP for snapline: a source of requests through a log on the disk, a sink that sends requests,
//! and the guarded listener that they share with the pages of a dashboard. `snapline::connect`
//! re-exports source and sink.

#[cfg(feature = "connect")]
mod ingest;
mod listener;
#[cfg(feature = "pages")]
pub mod pages;
#[cfg(feature = "connect")]
mod webhook;

/// Items for fuzz targets only.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::ingest::door::{IngestLog, Records};
}

#[cfg(feature = "connect")]
pub use ingest::{
    HttpIngest, IngestConfig, IngestError, IngestPosition, IngestReader, IngestSource,
};
#[cfg(feature = "connect")]
pub use webhook::{
    RefusedRequest, WebhookCommittable, WebhookCommitter, WebhookError, WebhookSink, WebhookWriter,
};
