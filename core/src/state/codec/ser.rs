//! The writer.
//!
//! Longer than 500 lines: serde has a method for every type there is.

use serde::Serialize;
use serde::ser;

use super::{DepthGuard, Error, FIXEXT1, MAX_SOME, SOME_NIL, WRITTEN_DEPTH, WRITTEN_STACK, What};

/// MessagePack's nil.
const NIL: u8 = 0xc0;

/// The name by which `rmp_serde` and related crates mark a newtype that is an extension.
pub(super) const EXTENSION: &str = "_ExtStruct";

/// Writes MessagePack.
pub(crate) struct Serializer<'a> {
    pub(crate) bytes: &'a mut Vec<u8>,
    marks: &'a mut Marks,
    guard: DepthGuard,
}

impl<'a> Serializer<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a mut Vec<u8>, marks: &'a mut Marks) -> Self {
        Self { bytes, marks, guard: DepthGuard::new(WRITTEN_DEPTH, WRITTEN_STACK) }
    }

    /// Returns whether the bytes since the last call have a new shape, and how deep they nest.
    #[inline]
    pub(crate) fn shape(&mut self) -> (bool, u16) {
        let deepest = std::mem::take(&mut self.guard.deepest);
        (std::mem::take(&mut self.marks.novel), deepest)
    }

    /// A header with a length in the first byte, or in one to four bytes after it.
    #[inline]
    fn header(&mut self, length: usize, form: Form) -> Result<(), Error> {
        let (small, most, one, two, four) = form;
        if length < most {
            self.bytes.push(small | length as u8);
        } else if let (Some(one), Ok(length)) = (one, u8::try_from(length)) {
            self.bytes.extend_from_slice(&[one, length]);
        } else if let Ok(length) = u16::try_from(length) {
            let [high, low] = length.to_be_bytes();
            self.bytes.extend_from_slice(&[two, high, low]);
        } else {
            let digits = u32::try_from(length).map_err(|_| Error::new(What::Long(length)))?;
            self.bytes.push(four);
            self.bytes.extend_from_slice(&digits.to_be_bytes());
        }
        Ok(())
    }

    /// The header of an array.
    pub(crate) fn array(&mut self, length: usize) -> Result<(), Error> {
        self.header(length, ARRAY)
    }

    #[inline]
    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.header(text.len(), TEXT)?;
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    #[inline]
    fn compound<'s>(
        &'s mut self,
        length: Option<usize>,
        form: Form,
    ) -> Result<Compound<'s, 'a>, Error> {
        self.guard.enter()?;
        let begin = self.bytes.len();
        if let Some(length) = length {
            self.header(length, form)?;
        }
        Ok(Compound { to: self, begin, announced: length, given: 0, form })
    }

    /// `{variant: ...}`
    #[inline]
    fn variant(&mut self, name: &'static str) -> Result<(), Error> {
        self.marks.within(name);
        self.marks.note(ValueKind::Variant);
        self.bytes.push(0x81);
        self.text(name)
    }
}

/// The encoding of a length: the first byte with a small length in it, the number of small lengths,
/// and the first bytes before lengths of one, two and four bytes.
type Form = (u8, usize, Option<u8>, u8, u8);

const TEXT: Form = (0xa0, 32, Some(0xd9), 0xda, 0xdb);
const BYTES: Form = (0, 0, Some(0xc4), 0xc5, 0xc6);
const ARRAY: Form = (0x90, 16, None, 0xdc, 0xdd);
const MAP: Form = (0x80, 16, None, 0xde, 0xdf);

/// MessagePack's shortest form of a number. Its length is as random as the numbers are: no branch
/// depends on it.
#[inline]
pub(crate) fn number(number: u64, bytes: &mut Vec<u8>) {
    /// The first byte, and the number of bytes after it, by the number of bits.
    const FORMS: [(u8, u8); 65] = {
        let mut forms = [(0, 0); 65];
        let mut bits = 8;
        while bits <= 64 {
            forms[bits] = match bits {
                8 => (0xcc, 1),
                9..=16 => (0xcd, 2),
                17..=32 => (0xce, 4),
                _ => (0xcf, 8),
            };
            bits += 1;
        }
        forms
    };
    let (first, rest) = FORMS[(u64::BITS - number.leading_zeros()) as usize];
    let small = if rest == 0 { number as u8 } else { 0 };
    // Left-aligned; none of it is kept where nothing follows, hence the result of a shift by 64
    // does not matter.
    let digits = number.wrapping_shl(64 - 8 * u32::from(rest)).to_be_bytes();
    let length = bytes.len() + 1 + usize::from(rest);
    let mut form = [first | small; 9];
    form[1..].copy_from_slice(&digits);
    bytes.extend_from_slice(&form);
    bytes.truncate(length);
}

/// The shortest form of a number below zero.
#[inline]
fn negative(number: i64, bytes: &mut Vec<u8>) {
    let digits = number.to_be_bytes();
    let (first, rest) = match number {
        -32.. => {
            bytes.push(number as u8);
            return;
        }
        -0x80.. => (0xd0, 1),
        -0x8000.. => (0xd1, 2),
        -0x8000_0000.. => (0xd2, 4),
        _ => (0xd3, 8),
    };
    bytes.push(first);
    bytes.extend_from_slice(&digits[8 - rest..]);
}

/// The shapes of a state's values: roughly, the content of each field and variant. A value with a
/// new shape is read back, whatever came before it. A field that is left out when it is empty, for
/// example, may be unreadable, and is empty only now and then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    seen: [u64; 16],
    /// The field or variant that is being written, approximately.
    context: u16,
    novel: bool,
}

#[derive(Clone, Copy)]
enum ValueKind {
    Bool = 1,
    Whole,
    Negative,
    Large,
    Float,
    Text,
    Bytes,
    None,
    Some,
    Unit,
    Variant,
    Skipped,
    Empty,
    Filled,
    Unknown,
}

impl Marks {
    /// Not by the name's address: the same values are read back in every run.
    #[inline(always)]
    fn within(&mut self, name: &'static str) {
        let (first, last) = match name.as_bytes() {
            [] => (0, 0),
            [one] => (*one, *one),
            [first, .., last] => (*first, *last),
        };
        let mixed =
            u32::from(first) * 0x9e37 + u32::from(last) * 0x85eb + name.len() as u32 * 0xc2b3;
        self.context = (mixed >> 3) as u16;
    }

    #[inline(always)]
    fn note(&mut self, kind: ValueKind) {
        let place = self.context ^ (kind as u16 * 0x2f1);
        let bit = 1 << (place % 64);
        let word = &mut self.seen[usize::from(place / 64) % 16];
        self.novel |= *word & bit == 0;
        *word |= bit;
    }
}

impl<'s, 'a> ser::Serializer for &'s mut Serializer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'s, 'a>;
    type SerializeTuple = Compound<'s, 'a>;
    type SerializeTupleStruct = Compound<'s, 'a>;
    type SerializeTupleVariant = Compound<'s, 'a>;
    type SerializeMap = Compound<'s, 'a>;
    type SerializeStruct = Compound<'s, 'a>;
    type SerializeStructVariant = Compound<'s, 'a>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.marks.note(ValueKind::Bool);
        self.bytes.push(0xc2 | u8::from(value));
        Ok(())
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => {
                self.marks.note(ValueKind::Negative);
                negative(value, self.bytes);
                Ok(())
            }
        }
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        self.serialize_bytes(&value.to_be_bytes())
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        // Numbers beyond the signed ones are a different kind to some readers.
        self.marks.note(if value >> 63 == 0 { ValueKind::Whole } else { ValueKind::Large });
        number(value, self.bytes);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        self.serialize_bytes(&value.to_be_bytes())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.marks.note(ValueKind::Float);
        self.bytes.push(0xca);
        self.bytes.extend_from_slice(&value.to_bits().to_be_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.marks.note(ValueKind::Float);
        self.bytes.push(0xcb);
        self.bytes.extend_from_slice(&value.to_bits().to_be_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.marks.note(ValueKind::Text);
        self.text(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.marks.note(ValueKind::Bytes);
        self.header(value.len(), BYTES)?;
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Error> {
        self.marks.note(ValueKind::None);
        self.bytes.push(NIL);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Error> {
        self.guard.check()?;
        let begin = self.bytes.len();
        value.serialize(&mut *self)?;
        match self.bytes[begin..] {
            [NIL] => {
                self.bytes.truncate(begin);
                self.bytes.extend_from_slice(&[FIXEXT1, SOME_NIL, 1]);
            }
            // Only a `Some` is written so.
            [FIXEXT1, SOME_NIL, MAX_SOME] => return Err(Error::new(What::Options)),
            [FIXEXT1, SOME_NIL, ref mut around] => *around += 1,
            _ => return Ok(()),
        }
        self.marks.note(ValueKind::Some);
        Ok(())
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Error> {
        self.marks.note(ValueKind::Unit);
        self.bytes.push(NIL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.bytes.push(0x90);
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.marks.within(variant);
        self.marks.note(ValueKind::Variant);
        self.text(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        if name == EXTENSION {
            return extension(value, self.bytes);
        }
        self.guard.check()?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.guard.check()?;
        self.variant(variant)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Compound<'s, 'a>, Error> {
        self.compound(length, ARRAY)
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Compound<'s, 'a>, Error> {
        self.compound(Some(length), ARRAY)
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        length: usize,
    ) -> Result<Compound<'s, 'a>, Error> {
        self.compound(Some(length), ARRAY)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Compound<'s, 'a>, Error> {
        self.variant(variant)?;
        self.compound(Some(length), ARRAY)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Compound<'s, 'a>, Error> {
        self.compound(length, MAP)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Compound<'s, 'a>, Error> {
        self.compound(Some(length), MAP)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Compound<'s, 'a>, Error> {
        self.variant(variant)?;
        self.compound(Some(length), MAP)
    }
}

/// An extension of a user's type, in serde's convention for extensions.
#[cold]
fn extension<T: ?Sized + Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<(), Error> {
    struct Extension<'a, T: ?Sized>(&'a T);

    impl<T: ?Sized + Serialize> Serialize for Extension<'_, T> {
        fn serialize<S: ser::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_newtype_struct(EXTENSION, self.0)
        }
    }

    let begin = bytes.len();
    rmp_serde::encode::write(bytes, &Extension(value)).map_err(ser::Error::custom)?;
    match bytes[begin..] {
        [FIXEXT1, SOME_NIL, _] => Err(Error::new(What::Reserved)),
        _ => Ok(()),
    }
}

/// Writes values that consist of values.
pub(crate) struct Compound<'s, 'a> {
    to: &'s mut Serializer<'a>,
    begin: usize,
    announced: Option<usize>,
    given: usize,
    form: Form,
}

impl Compound<'_, '_> {
    #[inline]
    fn element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.given += 1;
        value.serialize(&mut *self.to)
    }

    #[inline]
    fn field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.given += 1;
        self.to.marks.within(key);
        self.to.text(key)?;
        value.serialize(&mut *self.to)
    }

    fn skip(&mut self, key: &'static str) {
        self.to.marks.within(key);
        self.to.marks.note(ValueKind::Skipped);
    }

    #[inline]
    fn finish(self) -> Result<(), Error> {
        let Self { to, begin, announced, given, form } = self;
        to.guard.leave();
        to.marks.note(if given == 0 { ValueKind::Empty } else { ValueKind::Filled });
        match announced {
            Some(announced) if announced == given => Ok(()),
            Some(announced) => Err(Error::new(What::Length { announced, given })),
            None => {
                to.marks.note(ValueKind::Unknown);
                let end = to.bytes.len();
                to.header(given, form)?;
                // The header comes before its content.
                let length = to.bytes.len() - end;
                to.bytes[begin..].rotate_right(length);
                Ok(())
            }
        }
    }
}

macro_rules! compound {
    ($($of:ident: $method:ident),*) => { $(
        impl ser::$of for Compound<'_, '_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
                self.element(value)
            }

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        }
    )* };
}

compound!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Error> {
        self.element(key)
    }

    #[inline]
    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.to)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

macro_rules! structs {
    ($($of:ident),*) => { $(
        impl ser::$of for Compound<'_, '_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn serialize_field<T: ?Sized + Serialize>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.field(key, value)
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), Error> {
                self.skip(key);
                Ok(())
            }

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        }
    )* };
}

structs!(SerializeStruct, SerializeStructVariant);
