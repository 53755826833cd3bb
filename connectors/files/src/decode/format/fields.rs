//! A row's fields as serde reads them: found by the names of their columns, or in order.
//!
//! A value of any type is one that serde holds before it knows the type: `serde_json::Value`,
//! flattened and untagged ones. It is a number or a truth value only in the canonical spelling, and
//! a text otherwise: nothing of a field is lost. An empty field is a text. Where that does not fit,
//! an empty field is nothing, as for the `None` of a flattened struct. A number may then have any
//! spelling, as for its `f64`.

use std::fmt::{self, Display};

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// Reads a record from a row: the text of its fields, the end of each in the text, and a name for
/// each column.
pub(super) fn read<T: DeserializeOwned>(
    text: &[u8],
    ends: &[usize],
    columns: &[String],
) -> Result<T, String> {
    let row = |reading| {
        let is_odd = false;
        Row { text, ends, columns, at: 0, is_inside: false, reading, is_odd }
    };
    let [strict, others @ ..] = READINGS;
    let mut first = row(strict);
    let record = match T::deserialize(&mut first) {
        Err(bad) if first.is_odd => {
            let mut again = others.into_iter().map(|reading| T::deserialize(&mut row(reading)));
            again.find_map(Result::ok).ok_or(bad)
        }
        record => record,
    };
    record.map_err(|Bad { column, why }| match column {
        Some(column) => format!("column `{}`: {why}", columns[column]),
        None => why,
    })
}

/// Why a row does not make such a record.
pub(super) struct Bad {
    column: Option<usize>,
    why: String,
}

impl Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

snapline_protocol::error_in_words!(Bad);

impl de::Error for Bad {
    fn custom<T: Display>(why: T) -> Self {
        Self { column: None, why: why.to_string() }
    }
}

/// The meaning of fields of any type.
#[derive(Clone, Copy)]
struct FieldReader {
    /// An empty field is nothing, rather than a text.
    empty_is_nothing: bool,
    /// A number in any spelling is a number, rather than a text.
    any_number: bool,
}

/// The readings of a row, tried in this order until one fits.
const READINGS: [FieldReader; 4] = [
    FieldReader { empty_is_nothing: false, any_number: false },
    FieldReader { empty_is_nothing: true, any_number: false },
    FieldReader { empty_is_nothing: false, any_number: true },
    FieldReader { empty_is_nothing: true, any_number: true },
];

struct Row<'de> {
    text: &'de [u8],
    ends: &'de [usize],
    columns: &'de [String],
    /// The next field.
    at: usize,
    /// True while a field is read, rather than the record.
    is_inside: bool,
    reading: FieldReader,
    /// True if there was a field of any type with another reading.
    is_odd: bool,
}

impl<'de> Row<'de> {
    fn peek(&self) -> Option<&'de [u8]> {
        let end = *self.ends.get(self.at)?;
        let from = if self.at == 0 { 0 } else { self.ends[self.at - 1] };
        Some(&self.text[from..end])
    }

    fn bytes(&mut self) -> Result<&'de [u8], Bad> {
        let field = self.peek().ok_or_else(|| de::Error::custom("there are too few fields"))?;
        self.at += 1;
        Ok(field)
    }

    fn str(&mut self) -> Result<&'de str, Bad> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|error| self.bad(error))
    }

    /// Reports that the last field read is not such a value.
    fn bad(&self, why: impl Display) -> Bad {
        Bad { column: self.at.checked_sub(1), why: why.to_string() }
    }

    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Bad> {
        if self.is_inside {
            self.at += 1;
            return Err(self.bad(
                "a field holds one value, and the type is a struct or a map; take its fields from \
                 the columns (`#[serde(flatten)]`)",
            ));
        }
        visitor.visit_map(self)
    }
}

/// The field as a value of any type; and true if it is a number that became a text because of its
/// spelling.
fn any<'de, V: Visitor<'de>>(
    field: &'de str,
    any_number: bool,
    visitor: V,
) -> (Result<V::Value, Bad>, bool) {
    let is = |value: &dyn Display| any_number || value.to_string() == field;
    let value = match field.as_bytes().first() {
        Some(b't' | b'f') if matches!(field, "true" | "false") => {
            return (visitor.visit_bool(field == "true"), false);
        }
        // All numbers begin so, also NaN and infinities.
        Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'n' | b'N' | b'i' | b'I') => field.parse::<f64>(),
        _ => return (visitor.visit_borrowed_str(field), false),
    };
    if let Some(value) = field.parse::<u64>().ok().filter(|value| is(value)) {
        return (visitor.visit_u64(value), false);
    }
    if let Some(value) = field.parse::<i64>().ok().filter(|value| is(value)) {
        return (visitor.visit_i64(value), false);
    }
    match value {
        Ok(value) if any_number || (value.is_finite() && is(&format_args!("{value:?}"))) => {
            (visitor.visit_f64(value), false)
        }
        value => (visitor.visit_borrowed_str(field), value.is_ok()),
    }
}

macro_rules! integers {
    ($($name:ident: $visit:ident, $type:ty;)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
            let field = self.str()?;
            let value = match field.strip_prefix("0x") {
                Some(digits) => <$type>::from_str_radix(digits, 16),
                None => field.parse(),
            };
            visitor.$visit(value.map_err(|error| self.bad(error))?)
        })*
    };
}

macro_rules! parsed {
    ($($name:ident: $visit:ident, $type:ty;)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
            let value = self.str()?.parse::<$type>();
            visitor.$visit(value.map_err(|error| self.bad(error))?)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Row<'de> {
    type Error = Bad;

    integers! {
        deserialize_u8: visit_u8, u8;
        deserialize_u16: visit_u16, u16;
        deserialize_u32: visit_u32, u32;
        deserialize_u64: visit_u64, u64;
        deserialize_u128: visit_u128, u128;
        deserialize_i8: visit_i8, i8;
        deserialize_i16: visit_i16, i16;
        deserialize_i32: visit_i32, i32;
        deserialize_i64: visit_i64, i64;
        deserialize_i128: visit_i128, i128;
    }

    parsed! {
        deserialize_bool: visit_bool, bool;
        deserialize_f32: visit_f32, f32;
        deserialize_f64: visit_f64, f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        if !self.is_inside {
            return visitor.visit_map(self);
        }
        let field = self.str()?;
        if field.is_empty() && self.reading.empty_is_nothing {
            return visitor.visit_unit();
        }
        let (value, is_odd) = any(field, self.reading.any_number, visitor);
        self.is_odd |= is_odd || field.is_empty();
        value
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        let field = self.str()?;
        let mut letters = field.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) => visitor.visit_char(letter),
            _ => Err(self.bad("it must be one character")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_borrowed_str(self.str()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_borrowed_str(self.str()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_borrowed_bytes(self.bytes()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_borrowed_bytes(self.bytes()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        let is_none = match self.is_inside {
            true => self.peek().is_none_or(<[u8]>::is_empty),
            false => self.text.is_empty(),
        };
        if is_none {
            self.at += 1;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.at += 1;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_seq(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_seq(self)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        visitor.visit_seq(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        visitor.visit_enum(self)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.at += 1;
        visitor.visit_unit()
    }
}

impl<'de> SeqAccess<'de> for &mut Row<'de> {
    type Error = Bad;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Bad> {
        if self.at >= self.ends.len() {
            return Ok(None);
        }
        let column = self.at;
        self.is_inside = true;
        let value = seed.deserialize(&mut **self);
        value.map(Some).map_err(|bad| Bad { column: bad.column.or(Some(column)), ..bad })
    }
}

impl<'de> MapAccess<'de> for &mut Row<'de> {
    type Error = Bad;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Bad> {
        let name = self.columns.get(self.at).filter(|_| self.at < self.ends.len());
        let Some(name) = name else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::<Bad>::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Bad> {
        let column = self.at;
        self.is_inside = true;
        let value = seed.deserialize(&mut **self);
        value.map_err(|bad| Bad { column: bad.column.or(Some(column)), ..bad })
    }
}

impl<'de> EnumAccess<'de> for &mut Row<'de> {
    type Error = Bad;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Bad> {
        let name = StrDeserializer::<Bad>::new(self.str()?);
        match seed.deserialize(name) {
            Ok(variant) => Ok((variant, self)),
            Err(bad) => Err(self.bad(bad)),
        }
    }
}

impl<'de> VariantAccess<'de> for &mut Row<'de> {
    type Error = Bad;

    fn unit_variant(self) -> Result<(), Bad> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Bad> {
        Err(self.with_values())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Bad> {
        Err(self.with_values())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Bad> {
        Err(self.with_values())
    }
}

impl Row<'_> {
    fn with_values(&self) -> Bad {
        self.bad(
            "a field can only hold a variant without values; give the enum a column for its kind \
             (`#[serde(tag = \"kind\")]`)",
        )
    }
}
