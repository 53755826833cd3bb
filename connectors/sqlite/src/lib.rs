//! SQLite for snapline: an exactly-once sink, a source of the rows of a query, and tables to look
//! up in. `snapline::connect` re-exports all of it.

mod database;
mod error;
mod lookup;
mod row;
mod sink;
mod source;

pub use error::SqliteError;
pub use lookup::{SqliteClient, SqliteLookup};
pub use row::MalformedRow;
pub use sink::{SqliteCommittable, SqliteCommitter, SqliteSink, SqliteWriter};
pub use source::{SqlitePosition, SqliteReader, SqliteSource};
