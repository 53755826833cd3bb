//! Values as JSON, except those that JSON lacks.
//!
//! Longer than 500 lines: serde has a method for each kind of value.

use std::fmt::{self, Display};

use memchr::memmem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::ser::{self, Serializer};

/// Why a record cannot be JSON, and where in it.
#[derive(Debug)]
pub struct NotJson {
    /// The path to the value, such as `rows[2].price`.
    pub field: Option<String>,
    /// The reason.
    pub why: String,
}

/// Appends a record as JSON.
pub fn write<T: Serialize>(record: &T, out: &mut Vec<u8>) -> Result<(), NotJson> {
    let from = out.len();
    let written = serde_json::to_writer(&mut *out, record);
    written.map_err(|error| NotJson { field: None, why: error.to_string() })?;
    // A number that JSON lacks is written as `null`: the search is needed only where there is one.
    if memmem::find(&out[from..], b"null").is_none() {
        return Ok(());
    }
    let mut path = Vec::new();
    match record.serialize(Look { path: &mut path, key: None }) {
        Ok(()) => Ok(()),
        Err(Unrepresentable(why)) => {
            let way: String = path.iter().map(PathStep::to_string).collect();
            let field = way.strip_prefix('.').unwrap_or(&way).to_owned();
            Err(NotJson { field: (!field.is_empty()).then_some(field), why })
        }
    }
}

/// The bounds for locating long integers in a record by reading its text again. The first is the
/// greatest number of readings. The second is a number of bytes that may be read again in any case.
const AGAIN: (usize, usize) = (64, 1 << 18);

/// Reads a record.
///
/// # Errors
/// If the text is not a record. Also if an integer exceeds 64 bits where the record takes any
/// value: it would become a float of another value. In a record with very many such integers, one
/// among others of a known type may be missed.
pub fn read<T: DeserializeOwned>(raw: &[u8]) -> serde_json::Result<T> {
    let record = serde_json::from_slice(raw)?;
    let long = if has_long_number(raw) { long_integers(raw) } else { Vec::new() };
    if long.is_empty() {
        return Ok(record);
    }
    let mut text = raw.to_vec();
    // True if the record can be read with something else in these places.
    let mut takes = |places: &[(usize, usize)], other: &[u8]| {
        for &(from, to) in places {
            text[from..to].fill(b' ');
            text[from..from + other.len()].copy_from_slice(other);
        }
        let taken = serde_json::from_slice::<T>(&text).is_ok();
        places.iter().for_each(|&(from, to)| text[from..to].copy_from_slice(&raw[from..to]));
        taken
    };
    let (mut left, mut sets) = ((AGAIN.0 * raw.len()).max(AGAIN.1), vec![long.as_slice()]);
    while let Some(mut set) = sets.pop()
        && left > 0
    {
        left = left.saturating_sub(raw.len());
        // A number beyond all floats passes only where it is skipped unread.
        if takes(set, b"1e999") {
            continue;
        }
        left = left.saturating_sub(raw.len());
        // A place that takes a truth value for a number takes anything.
        if !takes(set, b"true") {
            if set.len() > 1 {
                let (one, other) = set.split_at(set.len() / 2);
                sets.extend([other, one]);
            }
            continue;
        }
        while set.len() > 1 {
            let (one, other) = set.split_at(set.len() / 2);
            set = if takes(one, b"1e999") { other } else { one };
        }
        let number = String::from_utf8_lossy(&raw[set[0].0..set[0].1]);
        return Err(serde::de::Error::custom(format_args!(
            "the integer {number} has more than 64 bits, and as a value of any type it would become a float; give its field a type \
             (`u128`, `f64`), or write it as text"
        )));
    }
    Ok(record)
}

/// True if there are nineteen digits in a row.
fn has_long_number(raw: &[u8]) -> bool {
    let is_digit = |byte: &&u8| byte.is_ascii_digit();
    // Every run of nineteen has a digit at one of these places.
    (18..raw.len()).step_by(19).any(|at| {
        let (before, from) = raw.split_at(at);
        let behind = from.iter().take_while(is_digit).take(19).count();
        behind > 0 && before.iter().rev().take_while(is_digit).take(19).count() + behind > 18
    })
}

/// The places in a JSON text of integers that exceed both `u64` and `i64`.
fn long_integers(raw: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(&byte) = raw.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(&byte) = raw.get(at).filter(|&&byte| byte != b'"') {
                    at += if byte == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let from = at;
                while raw.get(at).is_some_and(|byte| {
                    matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
                }) {
                    at += 1;
                }
                // Nineteen digits at least.
                if at - from > 18
                    && let Ok(text) = std::str::from_utf8(&raw[from..at])
                    && !text.contains(['.', 'e', 'E'])
                    && text.parse::<u64>().is_err()
                    && text.parse::<i64>().is_err()
                {
                    found.push((from, at));
                }
            }
            _ => at += 1,
        }
    }
    found
}

/// A step on the path to a value.
enum PathStep {
    Field(&'static str),
    Key(String),
    Item(usize),
}

impl Display for PathStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(name) => write!(f, ".{name}"),
            Self::Item(number) => write!(f, "[{number}]"),
        }
    }
}

/// A value that JSON lacks.
struct Unrepresentable(String);

impl Display for Unrepresentable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

snapline_protocol::error_in_words!(Unrepresentable);

impl ser::Error for Unrepresentable {
    fn custom<T: Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

/// Looks for a value that JSON lacks, and stops there.
struct Look<'a> {
    path: &'a mut Vec<PathStep>,
    /// The place for a text that is visited as a key.
    key: Option<&'a mut String>,
}

impl Look<'_> {
    fn step<T: Serialize + ?Sized>(
        &mut self,
        step: PathStep,
        value: &T,
    ) -> Result<(), Unrepresentable> {
        self.path.push(step);
        value.serialize(Look { path: self.path, key: None })?;
        self.path.pop();
        Ok(())
    }

    fn float(self, value: f64) -> Result<(), Unrepresentable> {
        match value.is_finite() {
            true => self.text(value),
            false => Err(Unrepresentable(format!(
                "it is {value}, which JSON cannot represent as a number; filter such records out, \
                 make it an `Option`, or write it as text"
            ))),
        }
    }

    fn text(self, text: impl Display) -> Result<(), Unrepresentable> {
        if let Some(key) = self.key {
            *key = text.to_string();
        }
        Ok(())
    }
}

/// A list or a map that is searched.
struct Within<'a> {
    look: Look<'a>,
    items: usize,
    key: String,
}

impl<'a> Look<'a> {
    fn within(self, variant: Option<&'static str>) -> Result<Within<'a>, Unrepresentable> {
        self.path.extend(variant.map(PathStep::Field));
        Ok(Within { look: self, items: 0, key: String::new() })
    }
}

impl Within<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unrepresentable> {
        self.items += 1;
        self.look.step(PathStep::Item(self.items - 1), value)
    }
}

/// A list or a map in a variant, whose name is a step too.
struct Inside<'a>(Within<'a>);

impl Inside<'_> {
    fn leave(self) -> Result<(), Unrepresentable> {
        self.0.look.path.pop();
        Ok(())
    }
}

macro_rules! texts {
    ($($name:ident: $type:ty,)*) => {
        $(fn $name(self, value: $type) -> Result<(), Unrepresentable> {
            self.text(value)
        })*
    };
}

impl<'a> Serializer for Look<'a> {
    type Ok = ();
    type Error = Unrepresentable;
    type SerializeSeq = Within<'a>;
    type SerializeTuple = Within<'a>;
    type SerializeTupleStruct = Within<'a>;
    type SerializeTupleVariant = Inside<'a>;
    type SerializeMap = Within<'a>;
    type SerializeStruct = Within<'a>;
    type SerializeStructVariant = Inside<'a>;

    texts! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
        serialize_str: &str,
    }

    fn serialize_f32(self, value: f32) -> Result<(), Unrepresentable> {
        self.float(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unrepresentable> {
        self.float(value)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Unrepresentable> {
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unrepresentable> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unrepresentable> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unrepresentable> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unrepresentable> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unrepresentable> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unrepresentable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Unrepresentable> {
        self.step(PathStep::Field(variant), value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Within<'a>, Unrepresentable> {
        self.within(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<Within<'a>, Unrepresentable> {
        self.within(None)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Within<'a>, Unrepresentable> {
        self.within(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inside<'a>, Unrepresentable> {
        self.within(Some(variant)).map(Inside)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Within<'a>, Unrepresentable> {
        self.within(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Within<'a>, Unrepresentable> {
        self.within(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inside<'a>, Unrepresentable> {
        self.within(Some(variant)).map(Inside)
    }
}

impl ser::SerializeSeq for Within<'_> {
    type Ok = ();
    type Error = Unrepresentable;

    fn serialize_element<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<(), Unrepresentable> {
        self.item(value)
    }

    fn end(self) -> Result<(), Unrepresentable> {
        Ok(())
    }
}

impl ser::SerializeTuple for Within<'_> {
    type Ok = ();
    type Error = Unrepresentable;

    fn serialize_element<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<(), Unrepresentable> {
        self.item(value)
    }

    fn end(self) -> Result<(), Unrepresentable> {
        Ok(())
    }
}

impl ser::SerializeTupleStruct for Within<'_> {
    type Ok = ();
    type Error = Unrepresentable;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unrepresentable> {
        self.item(value)
    }

    fn end(self) -> Result<(), Unrepresentable> {
        Ok(())
    }
}

impl ser::SerializeTupleVariant for Inside<'_> {
    type Ok = ();
    type Error = Unrepresentable;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unrepresentable> {
        self.0.item(value)
    }

    fn end(self) -> Result<(), Unrepresentable> {
        self.leave()
    }
}

impl ser::SerializeMap for Within<'_> {
    type Ok = ();
    type Error = Unrepresentable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unrepresentable> {
        key.serialize(Look { path: self.look.path, key: Some(&mut self.key) })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unrepresentable> {
        let key = std::mem::take(&mut self.key);
        self.look.step(PathStep::Key(key), value)
    }

    fn end(self) -> Result<(), Unrepresentable> {
        Ok(())
    }
}

impl ser::SerializeStruct for Within<'_> {
    type Ok = ();
    type Error = Unrepresentable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unrepresentable> {
        self.look.step(PathStep::Field(name), value)
    }

    fn end(self) -> Result<(), Unrepresentable> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Inside<'_> {
    type Ok = ();
    type Error = Unrepresentable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unrepresentable> {
        self.0.look.step(PathStep::Field(name), value)
    }

    fn end(self) -> Result<(), Unrepresentable> {
        self.leave()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde::{Deserialize, Deserializer};
    use serde_json::Value;

    use super::*;

    thread_local! {
        static READ: Cell<usize> = const { Cell::new(0) };
    }

    /// Counts how often it is read.
    struct Counted<T>(T);

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Counted<T> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            READ.set(READ.get() + 1);
            T::deserialize(from).map(Self)
        }
    }

    fn count<T: DeserializeOwned>(text: &str) -> (serde_json::Result<T>, usize) {
        READ.set(0);
        let read = read::<Counted<T>>(text.as_bytes()).map(|it| it.0);
        (read, READ.get())
    }

    #[derive(Deserialize)]
    struct One<T> {
        id: T,
    }

    #[test]
    fn a_record_of_many_long_integers_is_read_a_few_times() {
        const LONG: &str = "99999999999999999999";
        let many = vec![LONG; 4_000].join(",");
        // They are not read.
        let (record, times) = count::<One<u64>>(&format!("{{\"id\":1,\"x\":[{many}]}}"));
        assert!(record.is_ok_and(|it| it.id == 1) && times == 2, "{times}");
        // They have a type.
        let (record, times) = count::<Vec<u128>>(&format!("[{many}]"));
        assert!(record.is_ok_and(|it| it.len() == 4_000) && times <= 70, "{times}");
        // They have none; some are beside a number of a known type, and follow others that are not
        // read.
        let (record, times) = count::<Vec<Value>>(&format!("[{many}]"));
        assert!(record.is_err() && times <= 40, "{times}");
        let text = format!("{{\"x\":[{many}],\"id\":[{LONG},{LONG}]}}");
        let (record, times) = count::<One<(u128, Value)>>(&text);
        assert!(record.is_err() && times <= 70, "{times}");
    }

    #[test]
    fn long_numbers_are_looked_for_only_where_there_are_any() {
        for (digits, before) in (15..25).flat_map(|digits| (0..40).map(move |n| (digits, n))) {
            let text =
                format!("{}{}{}", " ".repeat(before), "7".repeat(digits), " ".repeat(before));
            assert_eq!(has_long_number(text.as_bytes()), digits > 18, "{digits} after {before}");
        }
        let (record, times) = count::<Value>("{\"a\":[123456789012345678,\"x\",-1e300]}");
        assert!(record.is_ok() && times == 1);
    }
}
