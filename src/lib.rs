//! snapline
pub use snapline_protocol as protocol;
