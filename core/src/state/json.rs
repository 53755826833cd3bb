//! State as JSON, without knowing its types.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::root::{Kind, RootEntry};
use super::{StateError, codec, restore};
use crate::store::Store;

/// Shows a state, one value after the other: `[key, value]` for each key of a table, the value
/// itself for a single one.
///
/// Bytes become arrays of numbers, and so do integers of 128 bits: they are written as sixteen
/// bytes, the highest first. A `Some` around nil becomes `{"Some": null}`. Keys of maps become
/// strings; a map with two keys that are equal as strings becomes an array of pairs. Numbers that
/// JSON lacks become strings too.
///
/// # Errors
/// [`StateError::Store`] if it cannot be read, [`StateError::Malformed`] if it is not MessagePack,
/// and the error of `show`.
pub fn to_json(
    store: &dyn Store,
    entry: &RootEntry,
    show: &mut dyn FnMut(Value) -> Result<(), StateError>,
) -> Result<(), StateError> {
    for segment in &entry.segments {
        let bytes = store.read(&segment.section)?;
        let malformed = |error: codec::Error| restore::malformed(entry, error.to_string());
        match entry.kind {
            Kind::Single => {
                let Json(value) = codec::read(&bytes).map_err(malformed)?;
                show(value)?;
            }
            Kind::Table => {
                let entries: Vec<Json> = codec::read(&bytes).map_err(malformed)?;
                entries.into_iter().try_for_each(|Json(entry)| show(entry))?;
            }
        }
    }
    Ok(())
}

struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Transcode).map(Self)
    }
}

struct Transcode;

impl<'de> Visitor<'de> for Transcode {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessagePack")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).map(Value::Number);
        Ok(number.unwrap_or_else(|| Value::String(value.to_string())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f32<E>(self, value: f32) -> Result<Value, E> {
        // The shortest number that is this one: 0.1, not its 64-bit expansion.
        let number = value.to_string().parse().ok().and_then(Number::from_f64);
        Ok(number.map_or_else(|| Value::String(value.to_string()), Value::Number))
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        let inner = inner.deserialize_any(self)?;
        Ok(Value::Object(Map::from_iter([("Some".to_owned(), inner)])))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = array.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        let mut pairs = Vec::new();
        while let Some((Json(key), Json(value))) = map.next_entry()? {
            let text = match &key {
                Value::String(key) => key.clone(),
                other => other.to_string(),
            };
            values.insert(text, value.clone());
            pairs.push(Value::Array(vec![key, value]));
        }
        // `1` and `"1"`, say: as keys of an object they would be one.
        Ok(if values.len() == pairs.len() { Value::Object(values) } else { Value::Array(pairs) })
    }
}
