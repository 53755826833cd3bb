//! An embeddable, exactly-once stream-processing runtime whose checkpoint protocol is model-checked.

mod channel;
pub mod connect;
mod error;
pub mod state;
pub mod store;
mod sync;

pub use error::BoxError;
pub use snapline_protocol as protocol;
