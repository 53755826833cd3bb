//! SQLite: an exactly-once sink, and tables to look up in.

mod database;
mod error;
mod lookup;
mod sink;

pub use error::SqliteError;
pub use lookup::{SqliteClient, SqliteLookup};
pub use sink::{SqliteCommittable, SqliteCommitter, SqliteSink, SqliteWriter};
