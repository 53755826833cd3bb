//! What users' code may fail with.

/// An error of users' code: a source's, an operator's, a sink's. Any error type converts into it with `?`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;
