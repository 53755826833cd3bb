//! A record as the fields of a row, by name where it has names.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::Write;

use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};

/// A field's name.
pub(super) type FieldName = Cow<'static, str>;

/// The fields of one record, in serde's order.
#[derive(Default)]
pub(super) struct Row {
    text: Vec<u8>,
    /// The end of each field in the text.
    ends: Vec<usize>,
    /// The fields' names: one per field, or none.
    pub(super) names: Vec<FieldName>,
    /// The fields that serde skipped. They are empty.
    skipped: Vec<usize>,
    /// True if a map gave names: it gives no name for a skipped field.
    pub(super) is_open: bool,
}

/// Why a record does not make a row.
pub(super) struct NotARow {
    pub(super) field: Option<String>,
    pub(super) why: String,
}

impl Row {
    /// Takes a record, replacing the one before.
    pub(super) fn take<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<(), NotARow> {
        self.text.clear();
        self.ends.clear();
        self.names.clear();
        self.skipped.clear();
        self.is_open = false;
        record.serialize(Fields { row: self, name: None })?;
        if !self.names.is_empty() && self.names.len() != self.ends.len() {
            let why = "some of the record's values have names and others have none; give all of them names";
            return Err(ser::Error::custom(why));
        }
        Ok(())
    }

    /// True if its fields have names, if it has any.
    pub(super) const fn is_named(&self) -> bool {
        self.is_open || !self.names.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn field(&self, number: usize) -> &[u8] {
        let from = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.text[from..self.ends[number]]
    }

    pub(super) fn is_skipped(&self, number: usize) -> bool {
        self.skipped.contains(&number)
    }
}

/// Takes fields: those of the record itself, or, with a name, one of them.
struct Fields<'a> {
    row: &'a mut Row,
    name: Option<FieldName>,
}

impl Fields<'_> {
    fn scalar(self, value: impl Display) -> Result<(), NotARow> {
        write!(self.row.text, "{value}").expect("writing to a vector does not fail");
        self.end()
    }

    fn bytes(self, value: &[u8]) -> Result<(), NotARow> {
        self.row.text.extend_from_slice(value);
        self.end()
    }

    fn end(self) -> Result<(), NotARow> {
        self.row.ends.push(self.row.text.len());
        self.row.names.extend(self.name);
        Ok(())
    }

    fn refuse<T>(self, why: impl Display) -> Result<T, NotARow> {
        Err(NotARow { field: self.name.map(FieldName::into_owned), why: why.to_string() })
    }

    /// Reports a nested value, which a field cannot have.
    fn nested(self, what: &str) -> Result<Self, NotARow> {
        if self.name.is_none() {
            return Ok(self);
        }
        let why = format!(
            "it is {what}, and a field holds one value; put the fields of a struct beside the others (`#[serde(flatten)]`), or write it as text"
        );
        self.refuse(why)
    }

    fn variant<T>(self, variant: &str) -> Result<T, NotARow> {
        let why = format!(
            "it is the variant `{variant}` with values, and a row has no place for the variant's \
             name; give the enum a field for it (`#[serde(tag = \"kind\")]`), or leave the name \
             out (`#[serde(untagged)]`)"
        );
        self.refuse(why)
    }
}

impl<'a> Serializer for Fields<'a> {
    type Ok = ();
    type Error = NotARow;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Impossible<(), NotARow>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), NotARow>;

    fn serialize_bool(self, value: bool) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_i8(self, value: i8) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_i16(self, value: i16) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_i32(self, value: i32) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_i64(self, value: i64) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_i128(self, value: i128) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_u16(self, value: u16) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_u32(self, value: u32) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_u64(self, value: u64) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_u128(self, value: u128) -> Result<(), NotARow> {
        self.scalar(value)
    }

    // The shortest text that reads as the same number, also of NaN and infinities: `NaN`, `inf`,
    // `-inf`.
    fn serialize_f32(self, value: f32) -> Result<(), NotARow> {
        self.scalar(format_args!("{value:?}"))
    }

    fn serialize_f64(self, value: f64) -> Result<(), NotARow> {
        self.scalar(format_args!("{value:?}"))
    }

    fn serialize_char(self, value: char) -> Result<(), NotARow> {
        self.scalar(value)
    }

    fn serialize_str(self, value: &str) -> Result<(), NotARow> {
        self.bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), NotARow> {
        self.bytes(value)
    }

    fn serialize_none(self) -> Result<(), NotARow> {
        self.end()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotARow> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), NotARow> {
        self.end()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), NotARow> {
        self.bytes(name.as_bytes())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), NotARow> {
        self.bytes(variant.as_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotARow> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<(), NotARow> {
        self.variant(variant)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, NotARow> {
        self.nested("a list")
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NotARow> {
        self.nested("a tuple")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NotARow> {
        self.nested("a tuple")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, NotARow> {
        self.variant(variant)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>, NotARow> {
        let Self { row, .. } = self.nested("a map")?;
        row.is_open = true;
        Ok(Entries { row, name: String::new() })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NotARow> {
        self.nested("a struct")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, NotARow> {
        self.variant(variant)
    }
}

impl ser::SerializeSeq for Fields<'_> {
    type Ok = ();
    type Error = NotARow;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotARow> {
        value.serialize(Fields { row: self.row, name: None })
    }

    fn end(self) -> Result<(), NotARow> {
        Ok(())
    }
}

impl ser::SerializeTuple for Fields<'_> {
    type Ok = ();
    type Error = NotARow;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotARow> {
        ser::SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<(), NotARow> {
        Ok(())
    }
}

impl ser::SerializeTupleStruct for Fields<'_> {
    type Ok = ();
    type Error = NotARow;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotARow> {
        ser::SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<(), NotARow> {
        Ok(())
    }
}

impl ser::SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = NotARow;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), NotARow> {
        value.serialize(Fields { row: self.row, name: Some(FieldName::Borrowed(name)) })
    }

    fn skip_field(&mut self, name: &'static str) -> Result<(), NotARow> {
        self.row.skipped.push(self.row.ends.len());
        Fields { row: self.row, name: Some(FieldName::Borrowed(name)) }.end()
    }

    fn end(self) -> Result<(), NotARow> {
        Ok(())
    }
}

/// Takes a map's entries as fields.
struct Entries<'a> {
    row: &'a mut Row,
    /// The last key.
    name: String,
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = NotARow;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotARow> {
        // A key is a text that names a field, spelled as a field's value would be.
        let mut row = Row::default();
        key.serialize(Fields { row: &mut row, name: Some(FieldName::Borrowed("key")) })?;
        self.name = String::from_utf8(row.text).map_err(|_| {
            ser::Error::custom("a key of the map, which must name a field, is not UTF-8")
        })?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotARow> {
        let name = FieldName::Owned(std::mem::take(&mut self.name));
        value.serialize(Fields { row: self.row, name: Some(name) })
    }

    fn end(self) -> Result<(), NotARow> {
        Ok(())
    }
}

impl ser::Error for NotARow {
    fn custom<T: Display>(why: T) -> Self {
        Self { field: None, why: why.to_string() }
    }
}

impl Display for NotARow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

snapline_protocol::error_in_words!(NotARow);
