//! Rows and their keys, as a source keeps them.

use std::fmt;
use std::path::Path;

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use serde::{Deserialize, Serialize};

use crate::SqliteError;

/// A row for which a [`SqliteSource`](super::SqliteSource)'s function failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MalformedRow {
    /// Its columns, by name, as SQL writes their values.
    pub columns: Vec<(String, String)>,
    /// The reason.
    pub why: String,
}

impl fmt::Display for MalformedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<String> =
            self.columns.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        write!(f, "({}): {}", columns.join(", "), self.why)
    }
}

/// A row's key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum RowKey {
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl ToSql for RowKey {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

/// A row's key, as it is kept.
pub(super) fn key(value: ValueRef<'_>, path: &Path) -> Result<RowKey, SqliteError> {
    let bad = |why: &str| SqliteError::Key { path: path.to_owned(), why: why.into() };
    match value {
        ValueRef::Integer(value) => Ok(RowKey::Integer(value)),
        ValueRef::Real(value) => Ok(RowKey::Real(value)),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|_| bad("a row's key is not UTF-8"))?;
            Ok(RowKey::Text(text.to_owned()))
        }
        ValueRef::Blob(bytes) => Ok(RowKey::Blob(bytes.to_vec())),
        ValueRef::Null => Err(bad("a row's key is null")),
    }
}

impl From<RowKey> for Value {
    fn from(key: RowKey) -> Self {
        match key {
            RowKey::Integer(value) => Self::Integer(value),
            RowKey::Real(value) => Self::Real(value),
            RowKey::Text(value) => Self::Text(value),
            RowKey::Blob(value) => Self::Blob(value),
        }
    }
}

/// A value as SQL writes it.
pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => format!("{value:?}"),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("x'{digits}'")
        }
    }
}
