//! The reader. It accepts everything that `rmp_serde` does, since that wrote older checkpoints.
//!
//! Longer than 500 lines: serde has a method for every type there is.

use serde::de::value::SeqDeserializer;
use serde::de::{self, DeserializeSeed, Visitor};
use serde::forward_to_deserialize_any;

use super::{DepthGuard, Error, FIXEXT1, READ_DEPTH, READ_STACK, SOME_NIL, WRITTEN_STACK, What};

/// Reads MessagePack.
pub(crate) struct Deserializer<'de> {
    rest: &'de [u8],
    /// 0: a value comes next. Otherwise one is being read that has no bytes left: a nil, in one
    /// `Some` fewer than this.
    wrapped: u8,
    guard: DepthGuard,
}

impl<'de> Deserializer<'de> {
    #[inline]
    pub(crate) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, wrapped: 0, guard: DepthGuard::new(READ_DEPTH, READ_STACK) }
    }

    /// A reader with the limits of writing a value.
    pub(super) fn tight(bytes: &'de [u8]) -> Self {
        Self { guard: DepthGuard::new(READ_DEPTH, WRITTEN_STACK), ..Self::new(bytes) }
    }

    /// The unread bytes.
    pub(super) const fn rest(&self) -> &'de [u8] {
        self.rest
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'de [u8], Error> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| Error::new(What::Cut))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn digits<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| Error::new(What::Cut))?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Error> {
        let [byte] = self.digits()?;
        Ok(byte)
    }

    /// The first byte of the next value.
    #[inline]
    fn peek(&self) -> Result<u8, Error> {
        self.rest.first().copied().ok_or_else(|| Error::new(What::Cut))
    }

    /// A length of one, two or four bytes.
    #[inline]
    fn length(&mut self, bytes: u8) -> Result<u32, Error> {
        Ok(match bytes {
            1 => self.byte()?.into(),
            2 => u16::from_be_bytes(self.digits()?).into(),
            _ => u32::from_be_bytes(self.digits()?),
        })
    }

    /// Takes the extension that is a `Some` around a nil, if one comes next.
    #[inline]
    fn unwrap_next(&mut self) -> Result<(), Error> {
        if let [FIXEXT1, SOME_NIL, around, rest @ ..] = self.rest
            && self.wrapped == 0
        {
            // One more than fits into a byte is never written here.
            self.wrapped = match around.checked_add(1) {
                Some(wrapped) if wrapped > 1 => wrapped,
                _ => return Err(Error::new(What::Malformed(*around))),
            };
            self.rest = rest;
        }
        Ok(())
    }

    /// Continues with a value that has no bytes left.
    fn wrapped<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.wrapped -= 1;
        match self.wrapped {
            0 => visitor.visit_unit(),
            _ => visitor.visit_some(self),
        }
    }

    fn sequence<V: Visitor<'de>>(&mut self, length: u32, visitor: V) -> Result<V::Value, Error> {
        self.guard.enter()?;
        let mut parts = Parts { of: self, left: length };
        let value = visitor.visit_seq(&mut parts)?;
        let left = parts.left;
        self.all_read(length, left)?;
        Ok(value)
    }

    fn map<V: Visitor<'de>>(&mut self, length: u32, visitor: V) -> Result<V::Value, Error> {
        self.guard.enter()?;
        let mut parts = Parts { of: self, left: length };
        let value = visitor.visit_map(&mut parts)?;
        let left = parts.left;
        self.all_read(length, left)?;
        Ok(value)
    }

    fn all_read(&mut self, length: u32, left: u32) -> Result<(), Error> {
        self.guard.leave();
        match left {
            0 => Ok(()),
            _ => Err(Error::new(What::Left { length, left })),
        }
    }

    fn text<V: Visitor<'de>>(&mut self, length: u32, visitor: V) -> Result<V::Value, Error> {
        let bytes = self.take(length as usize)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => visitor.visit_borrowed_str(text),
            // Other writers of MessagePack encode bytes so.
            Err(_) => visitor.visit_borrowed_bytes(bytes),
        }
    }

    fn bytes<V: Visitor<'de>>(
        &mut self,
        length: u32,
        visitor: V,
        as_bytes: bool,
    ) -> Result<V::Value, Error> {
        let bytes = self.take(length as usize)?;
        if as_bytes {
            return visitor.visit_borrowed_bytes(bytes);
        }
        visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied()))
    }

    /// An extension: this codec's, or one in serde's convention for extensions.
    #[cold]
    fn extension<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let whole = self.rest;
        let data = match self.byte()? {
            first @ 0xd4..=0xd8 => 1 << (first - 0xd4),
            0xc7 => self.length(1)?,
            0xc8 => self.length(2)?,
            _ => self.length(4)?,
        };
        self.byte()?;
        self.take(data as usize)?;
        let whole = &whole[..whole.len() - self.rest.len()];
        let mut theirs = rmp_serde::Deserializer::from_read_ref(whole);
        de::Deserializer::deserialize_any(&mut theirs, visitor).map_err(de::Error::custom)
    }

    fn any<V: Visitor<'de>>(&mut self, visitor: V, as_bytes: bool) -> Result<V::Value, Error> {
        self.unwrap_next()?;
        if self.wrapped != 0 {
            return self.wrapped(visitor);
        }
        let first = self.peek()?;
        if matches!(first, 0xc7..=0xc9 | 0xd4..=0xd8) {
            return self.extension(visitor);
        }
        self.rest = &self.rest[1..];
        match first {
            0x00..=0x7f => visitor.visit_u8(first),
            0x80..=0x8f => self.map((first & 0x0f).into(), visitor),
            0x90..=0x9f => self.sequence((first & 0x0f).into(), visitor),
            0xa0..=0xbf => self.text((first & 0x1f).into(), visitor),
            0xc0 => visitor.visit_unit(),
            0xc2 | 0xc3 => visitor.visit_bool(first == 0xc3),
            0xc4..=0xc6 => {
                let length = self.length(1 << (first - 0xc4))?;
                self.bytes(length, visitor, as_bytes)
            }
            0xca => visitor.visit_f32(f32::from_bits(u32::from_be_bytes(self.digits()?))),
            0xcb => visitor.visit_f64(f64::from_bits(u64::from_be_bytes(self.digits()?))),
            0xcc => visitor.visit_u8(self.byte()?),
            0xcd => visitor.visit_u16(u16::from_be_bytes(self.digits()?)),
            0xce => visitor.visit_u32(u32::from_be_bytes(self.digits()?)),
            0xcf => visitor.visit_u64(u64::from_be_bytes(self.digits()?)),
            0xd0 => visitor.visit_i8(i8::from_be_bytes(self.digits()?)),
            0xd1 => visitor.visit_i16(i16::from_be_bytes(self.digits()?)),
            0xd2 => visitor.visit_i32(i32::from_be_bytes(self.digits()?)),
            0xd3 => visitor.visit_i64(i64::from_be_bytes(self.digits()?)),
            0xd9..=0xdb => {
                let length = self.length(1 << (first - 0xd9))?;
                self.text(length, visitor)
            }
            0xdc | 0xdd => {
                let length = self.length(2 << (first - 0xdc))?;
                self.sequence(length, visitor)
            }
            0xde | 0xdf => {
                let length = self.length(2 << (first - 0xde))?;
                self.map(length, visitor)
            }
            0xe0..=0xff => visitor.visit_i8(first as i8),
            // 0xc1; extensions are handled above.
            _ => Err(Error::new(What::Malformed(first))),
        }
    }

    /// A number of 128 bits, or one that was written with fewer.
    fn wide(&mut self) -> Result<Wide, Error> {
        let first = self.peek()?;
        if first == 0xc4 {
            self.byte()?;
            return match self.length(1)? {
                16 => Ok(Wide::Bytes(self.digits()?)),
                _ => Err(Error::new(What::Malformed(first))),
            };
        }
        // Any other number.
        self.any(WideVisitor, false)
    }
}

enum Wide {
    Bytes([u8; 16]),
    Number(i128),
}

struct WideVisitor;

impl Visitor<'_> for WideVisitor {
    type Value = Wide;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Wide, E> {
        Ok(Wide::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Wide, E> {
        Ok(Wide::Number(number.into()))
    }
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor, true)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unwrap_next()?;
        if self.wrapped != 0 {
            self.wrapped -= 1;
            return match self.wrapped {
                0 => visitor.visit_none(),
                _ => visitor.visit_some(self),
            };
        }
        if self.peek()? == 0xc0 {
            self.rest = &self.rest[1..];
            return visitor.visit_none();
        }
        self.guard.check()?;
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.unwrap_next()?;
        if self.wrapped != 0 {
            return visitor.visit_enum(UnitVariant(self));
        }
        let length = match self.peek()? {
            first @ 0x80..=0x9f => {
                self.byte()?;
                (first & 0x0f).into()
            }
            first @ 0xdc..=0xdf => {
                self.byte()?;
                self.length(2 << (first & 1))?
            }
            _ => return visitor.visit_enum(UnitVariant(self)),
        };
        if length != 1 {
            return Err(de::Error::custom(format!(
                "an enum value with {length} variants, where there must be one"
            )));
        }
        self.guard.check()?;
        visitor.visit_enum(Variant(self))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == super::ser::EXTENSION {
            return self.any(visitor, true);
        }
        self.guard.check()?;
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.wrapped == 0 && self.peek()? == 0x90 {
            self.byte()?;
            return visitor.visit_unit();
        }
        self.any(visitor, true)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i128(match self.wide()? {
            Wide::Bytes(bytes) => i128::from_be_bytes(bytes),
            Wide::Number(number) => number,
        })
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u128(match self.wide()? {
            Wide::Bytes(bytes) => u128::from_be_bytes(bytes),
            Wide::Number(number) => {
                u128::try_from(number).map_err(|_| de::Error::custom("a negative number"))?
            }
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor, false)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor, false)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.any(visitor, false)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.any(visitor, false)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit map identifier ignored_any
    }
}

/// The parts of a sequence or map.
struct Parts<'s, 'de> {
    of: &'s mut Deserializer<'de>,
    left: u32,
}

impl<'de> de::SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.of).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        // Each takes a byte at least: that bounds the number, whatever the length says.
        Some((self.left as usize).min(self.of.rest.len()))
    }
}

impl<'de> de::MapAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.of)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some((self.left as usize).min(self.of.rest.len() / 2))
    }
}

/// A variant that consists of its name.
struct UnitVariant<'s, 'de>(&'s mut Deserializer<'de>);

impl<'de> de::EnumAccess<'de> for UnitVariant<'_, 'de> {
    type Error = Error;
    type Variant = Nothing;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Nothing), Error> {
        Ok((seed.deserialize(self.0)?, Nothing))
    }
}

/// The content of a variant that consists of its name.
struct Nothing;

impl Nothing {
    fn but<T>(wanted: &'static str) -> Result<T, Error> {
        Err(de::Error::invalid_type(de::Unexpected::UnitVariant, &wanted))
    }
}

impl<'de> de::VariantAccess<'de> for Nothing {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Error> {
        Self::but("newtype variant")
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Self::but("tuple variant")
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Self::but("struct variant")
    }
}

/// A variant with content: its name, and then that.
struct Variant<'s, 'de>(&'s mut Deserializer<'de>);

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((seed.deserialize(&mut *self.0)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.0.byte()? {
            0xc0 => Ok(()),
            first => Err(Error::new(What::Malformed(first))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.0.any(visitor, false)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.any(visitor, false)
    }
}
