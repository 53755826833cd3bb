//! Longer than 500 lines: a value of any shape that serde knows, and a type that asks for one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::fmt;

use proptest::prelude::*;
use serde::de::{self, DeserializeSeed, Visitor};
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Deserialize, Deserializer as _};

use super::*;
use crate::state::VerifyState;

/// Any value that serde can express. It is its own type: reading asks for the types of this shape.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Shape {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Signed128(i128),
    Unsigned128(u128),
    /// Bits.
    F32(u32),
    F64(u64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Unit,
    UnitStruct,
    None,
    Some(Box<Shape>),
    Newtype(Box<Shape>),
    /// Whether it announces its length.
    Seq(Vec<Shape>, bool),
    Tuple(Vec<Shape>),
    TupleStruct(Vec<Shape>),
    Map(Vec<(Shape, Shape)>, bool),
    Struct(Vec<Shape>),
    UnitVariant(usize),
    NewtypeVariant(usize, Box<Shape>),
    TupleVariant(usize, Vec<Shape>),
    StructVariant(usize, Vec<Shape>),
}

const NAMES: [&str; 4] = ["a", "bb", "", "a name of more than thirty-one bytes"];

impl Serialize for Shape {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let known = |length, known| if known { Some(length) } else { None };
        match self {
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Signed(value) => to.serialize_i64(*value),
            Self::Unsigned(value) => to.serialize_u64(*value),
            Self::Signed128(value) => to.serialize_i128(*value),
            Self::Unsigned128(value) => to.serialize_u128(*value),
            Self::F32(bits) => to.serialize_f32(f32::from_bits(*bits)),
            Self::F64(bits) => to.serialize_f64(f64::from_bits(*bits)),
            Self::Char(value) => to.serialize_char(*value),
            Self::Text(value) => to.serialize_str(value),
            Self::Bytes(value) => to.serialize_bytes(value),
            Self::Unit => to.serialize_unit(),
            Self::UnitStruct => to.serialize_unit_struct("U"),
            Self::None => to.serialize_none(),
            Self::Some(value) => to.serialize_some(value),
            Self::Newtype(value) => to.serialize_newtype_struct("N", value),
            Self::Seq(values, says) => {
                let mut to = to.serialize_seq(known(values.len(), *says))?;
                values.iter().try_for_each(|value| to.serialize_element(value))?;
                to.end()
            }
            Self::Tuple(values) => {
                let mut to = to.serialize_tuple(values.len())?;
                values.iter().try_for_each(|value| to.serialize_element(value))?;
                to.end()
            }
            Self::TupleStruct(values) => {
                let mut to = to.serialize_tuple_struct("T", values.len())?;
                values.iter().try_for_each(|value| to.serialize_field(value))?;
                to.end()
            }
            Self::Map(values, says) => {
                let mut to = to.serialize_map(known(values.len(), *says))?;
                values.iter().try_for_each(|(key, value)| to.serialize_entry(key, value))?;
                to.end()
            }
            Self::Struct(values) => {
                let mut to = to.serialize_struct("S", values.len())?;
                let mut fields = values.iter().zip(NAMES);
                fields.try_for_each(|(value, name)| to.serialize_field(name, value))?;
                to.end()
            }
            Self::UnitVariant(place) => to.serialize_unit_variant("E", 0, NAMES[*place]),
            Self::NewtypeVariant(place, value) => {
                to.serialize_newtype_variant("E", 0, NAMES[*place], value)
            }
            Self::TupleVariant(place, values) => {
                let mut to = to.serialize_tuple_variant("E", 0, NAMES[*place], values.len())?;
                values.iter().try_for_each(|value| to.serialize_field(value))?;
                to.end()
            }
            Self::StructVariant(place, values) => {
                let mut to = to.serialize_struct_variant("E", 0, NAMES[*place], values.len())?;
                let mut fields = values.iter().zip(NAMES);
                fields.try_for_each(|(value, name)| to.serialize_field(name, value))?;
                to.end()
            }
        }
    }
}

/// Asks for something of the shape.
#[derive(Clone, Copy)]
struct Like<'a>(&'a Shape);

/// Parts of the shapes, in order.
#[derive(Clone, Copy)]
struct All<'a>(&'a [Shape]);

impl<'de> DeserializeSeed<'de> for Like<'_> {
    type Value = Shape;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Shape, D::Error> {
        match self.0 {
            Shape::Bool(_) => from.deserialize_bool(self),
            Shape::Signed(_) => from.deserialize_i64(self),
            Shape::Unsigned(_) => from.deserialize_u64(self),
            Shape::Signed128(_) => from.deserialize_i128(self),
            Shape::Unsigned128(_) => from.deserialize_u128(self),
            Shape::F32(_) => from.deserialize_f32(self),
            Shape::F64(_) => from.deserialize_f64(self),
            Shape::Char(_) => from.deserialize_char(self),
            Shape::Text(_) => from.deserialize_str(self),
            Shape::Bytes(_) => from.deserialize_byte_buf(self),
            Shape::Unit => from.deserialize_unit(self),
            Shape::UnitStruct => from.deserialize_unit_struct("U", self),
            Shape::None | Shape::Some(_) => from.deserialize_option(self),
            Shape::Newtype(_) => from.deserialize_newtype_struct("N", self),
            Shape::Seq(..) => from.deserialize_seq(self),
            Shape::Tuple(values) => from.deserialize_tuple(values.len(), self),
            Shape::TupleStruct(values) => from.deserialize_tuple_struct("T", values.len(), self),
            Shape::Map(..) => from.deserialize_map(self),
            Shape::Struct(_) => from.deserialize_struct("S", &NAMES, self),
            _ => from.deserialize_enum("E", &NAMES, self),
        }
    }
}

/// The name of a field or variant.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = usize;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<usize, E> {
        let place = NAMES.iter().position(|known| *known == name);
        place.ok_or_else(|| E::custom("an unknown name"))
    }
}

impl<'de> Visitor<'de> for All<'_> {
    type Value = Vec<Shape>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parts")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut from: A) -> Result<Vec<Shape>, A::Error> {
        let mut read = Vec::new();
        for shape in self.0 {
            read.extend(from.next_element_seed(Like(shape))?);
        }
        Ok(read)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut from: A) -> Result<Vec<Shape>, A::Error> {
        let mut read = Vec::new();
        while let Some(place) = from.next_key_seed(Name)? {
            let shape = self.0.get(place).ok_or_else(|| de::Error::custom("another's name"))?;
            read.push(from.next_value_seed(Like(shape))?);
        }
        Ok(read)
    }
}

impl<'de> Visitor<'de> for Like<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(match self.0 {
            Shape::Signed(_) => Shape::Signed(value as i64),
            _ => Shape::Unsigned(value),
        })
    }

    fn visit_i128<E>(self, value: i128) -> Result<Shape, E> {
        Ok(Shape::Signed128(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Shape, E> {
        Ok(Shape::Unsigned128(value))
    }

    fn visit_f32<E>(self, value: f32) -> Result<Shape, E> {
        Ok(Shape::F32(value.to_bits()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::F64(value.to_bits()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(match (self.0, value.chars().next()) {
            (Shape::Char(_), Some(one)) => Shape::Char(one),
            _ => Shape::Text(value.to_owned()),
        })
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Shape, E> {
        Ok(Shape::Bytes(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(match self.0 {
            Shape::UnitStruct => Shape::UnitStruct,
            _ => Shape::Unit,
        })
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::None)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, from: D) -> Result<Shape, D::Error> {
        match self.0 {
            Shape::Some(inner) => Ok(Shape::Some(Box::new(Like(inner).deserialize(from)?))),
            _ => Err(de::Error::custom("something instead of nothing")),
        }
    }

    fn visit_newtype_struct<D: serde::Deserializer<'de>>(self, from: D) -> Result<Shape, D::Error> {
        match self.0 {
            Shape::Newtype(inner) => Ok(Shape::Newtype(Box::new(Like(inner).deserialize(from)?))),
            _ => Err(de::Error::custom("a newtype")),
        }
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, from: A) -> Result<Shape, A::Error> {
        Ok(match self.0 {
            Shape::Seq(values, says) => Shape::Seq(All(values).visit_seq(from)?, *says),
            Shape::Tuple(values) => Shape::Tuple(All(values).visit_seq(from)?),
            Shape::TupleStruct(values) => Shape::TupleStruct(All(values).visit_seq(from)?),
            _ => return Err(de::Error::custom("a sequence")),
        })
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut from: A) -> Result<Shape, A::Error> {
        Ok(match self.0 {
            Shape::Map(values, says) => {
                let mut read = Vec::new();
                for (key, value) in values {
                    read.extend(from.next_entry_seed(Like(key), Like(value))?);
                }
                Shape::Map(read, *says)
            }
            Shape::Struct(values) => Shape::Struct(All(values).visit_map(from)?),
            _ => return Err(de::Error::custom("a map")),
        })
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, from: A) -> Result<Shape, A::Error> {
        use de::VariantAccess;

        let (place, inner) = from.variant_seed(Name)?;
        Ok(match self.0 {
            Shape::NewtypeVariant(_, value) => {
                let read = inner.newtype_variant_seed(Like(value))?;
                Shape::NewtypeVariant(place, Box::new(read))
            }
            Shape::TupleVariant(_, values) => {
                Shape::TupleVariant(place, inner.tuple_variant(values.len(), All(values))?)
            }
            Shape::StructVariant(_, values) => {
                Shape::StructVariant(place, inner.struct_variant(&NAMES, All(values))?)
            }
            _ => {
                inner.unit_variant()?;
                Shape::UnitVariant(place)
            }
        })
    }
}

impl Shape {
    /// Whether it is nil alone.
    fn is_nil(&self) -> bool {
        match self {
            Self::Unit | Self::None => true,
            Self::Newtype(inner) | Self::Some(inner) => inner.is_nil(),
            _ => false,
        }
    }

    /// Whether there is a `Some` of nil in it.
    fn has_some_nil(&self) -> bool {
        match self {
            Self::Some(inner) => inner.is_nil() || inner.has_some_nil(),
            Self::Newtype(inner) | Self::NewtypeVariant(_, inner) => inner.has_some_nil(),
            Self::Seq(values, _)
            | Self::Tuple(values)
            | Self::TupleStruct(values)
            | Self::Struct(values)
            | Self::TupleVariant(_, values)
            | Self::StructVariant(_, values) => values.iter().any(Self::has_some_nil),
            Self::Map(values, _) => {
                values.iter().any(|(key, value)| key.has_some_nil() || value.has_some_nil())
            }
            _ => false,
        }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    use Shape::*;

    let edge = prop_oneof![Just(0), 0..=0x120u64, 0xff00..=0x1_0100u64, any::<u64>()];
    let lengths = prop_oneof![8 => 0..40usize, 1 => 250..260usize, 1 => 65530..65540usize];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Bool),
        prop_oneof![-0x120..=0x120i64, -0x1_0100..=-0x7f00i64, any::<i64>()].prop_map(Signed),
        edge.prop_map(Unsigned),
        any::<i128>().prop_map(Signed128),
        any::<u128>().prop_map(Unsigned128),
        any::<u32>().prop_map(F32),
        prop_oneof![Just(0x7fa0_0001), Just(0xffc0_0007), Just(0x8000_0000)].prop_map(F32),
        any::<u64>().prop_map(F64),
        prop_oneof![Just(0x7ff8_0000_0000_0001), Just(1 << 63)].prop_map(F64),
        any::<char>().prop_map(Char),
        lengths.clone().prop_map(|length| Text("é".repeat(length / 2))),
        ".*".prop_map(Text),
        lengths.prop_map(|length| Bytes(vec![0xff; length])),
        Just(Unit),
        Just(UnitStruct),
        Just(None),
        Just(Some(Box::new(None))),
        Just(Some(Box::new(Unit))),
        (0..4usize).prop_map(UnitVariant),
    ];
    leaf.prop_recursive(6, 64, 5, |inner| {
        let many = || prop::collection::vec(inner.clone(), 0..20);
        let few = || prop::collection::vec(inner.clone(), 0..=4);
        let one = || inner.clone().prop_map(Box::new);
        prop_oneof![
            one().prop_map(Some),
            one().prop_map(Newtype),
            (many(), any::<bool>()).prop_map(|(values, says)| Seq(values, says)),
            many().prop_map(Tuple),
            many().prop_map(TupleStruct),
            (prop::collection::vec((inner.clone(), inner.clone()), 0..20), any::<bool>())
                .prop_map(|(values, says)| Map(values, says)),
            few().prop_map(Struct),
            (0..4usize, one()).prop_map(|(place, value)| NewtypeVariant(place, value)),
            (0..4usize, many()).prop_map(|(place, values)| TupleVariant(place, values)),
            (0..4usize, few()).prop_map(|(place, values)| StructVariant(place, values)),
        ]
    })
}

fn written<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(value, &mut bytes).expect("it can be written");
    bytes
}

fn read_like(shape: &Shape, bytes: &[u8]) -> Result<Shape, Error> {
    let mut reader = Deserializer::new(bytes);
    let read = Like(shape).deserialize(&mut reader)?;
    assert!(reader.rest().is_empty(), "{shape:?}");
    Ok(read)
}

proptest! {
    #[test]
    fn whatever_serde_says_is_read_as_it_was(shape in shapes()) {
        let bytes = written(&shape);
        prop_assert_eq!(read_like(&shape, &bytes).expect("it can be read"), shape);
        // It is MessagePack, whatever its content.
        de::IgnoredAny::deserialize(&mut rmp_serde::Deserializer::from_read_ref(&bytes)).unwrap();
        let mut rest = Deserializer::new(&bytes);
        de::IgnoredAny::deserialize(&mut rest).unwrap();
        prop_assert!(rest.rest().is_empty());
    }

    #[test]
    fn but_for_a_some_of_nothing_it_is_what_it_always_was(shape in shapes()) {
        let theirs = rmp_serde::to_vec_named(&shape).unwrap();
        if shape.has_some_nil() {
            prop_assert_ne!(written(&shape), theirs);
        } else {
            prop_assert_eq!(&written(&shape), &theirs);
            prop_assert_eq!(read_like(&shape, &theirs).expect("it can be read"), shape);
        }
    }

    #[test]
    fn damage_is_an_error_or_another_value(shape in shapes(), place: usize, byte: u8) {
        let mut bytes = written(&shape);
        let place = place % bytes.len();
        let _ = Like(&shape).deserialize(&mut Deserializer::new(&bytes[..place])).is_err();
        bytes[place] = byte;
        let _ = Like(&shape).deserialize(&mut Deserializer::new(&bytes)).is_err();
        let _ = Deserializer::new(&bytes).deserialize_any(de::IgnoredAny).is_err();
    }
}

/// Writes and reads a value, by itself and with each value read back.
#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
    let bytes = written(&value);
    assert_eq!(read::<T>(&bytes).unwrap(), value, "{bytes:02x?}");
    read_back::<T>(&bytes).unwrap();
}

type Twice = Option<Option<u32>>;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Wrapped(Option<()>);

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Fields {
    twice: Twice,
    unit: Option<()>,
    #[serde(default)]
    thrice: Option<Twice>,
    #[serde(flatten)]
    rest: BTreeMap<String, Twice>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Tagged {
    Unit,
    One(Twice),
    Two(Twice, Option<()>),
    Three { twice: Twice },
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Pair { left: Twice, right: Option<()> },
    List(Vec<Twice>),
    Signed(i64),
    Text(String),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Internally {
    One { twice: Twice },
    Two { twice: Twice, list: Vec<Option<()>> },
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
enum Adjacently {
    One(Twice),
    Two(Twice, Twice),
}

#[test]
fn a_some_of_nothing_is_told_from_none_wherever_it_is() {
    for twice in [None, Some(None), Some(Some(7))] {
        comes_back(twice);
        comes_back(Some(twice));
        comes_back(Some(Some(Some(twice))));
        comes_back(vec![twice, None, twice]);
        comes_back((twice, 1u8, twice));
        comes_back(Box::new(twice));
        comes_back(Ok::<Twice, ()>(twice));
        comes_back(BTreeMap::from([(twice, twice), (Some(Some(9)), None)]));
        comes_back(HashMap::from([(Some(twice), Some(())), (None, None)]));
        for unit in [None, Some(())] {
            comes_back(Wrapped(unit));
            comes_back(Some(Wrapped(unit)));
            comes_back(Some(Some(unit)));
            let rest = BTreeMap::from([("one".to_owned(), twice), ("two".to_owned(), Some(None))]);
            comes_back(Fields { twice, unit, thrice: Some(twice), rest });
            comes_back(vec![Tagged::One(twice), Tagged::Two(twice, unit), Tagged::Unit]);
            comes_back(Some(Tagged::Three { twice }));
            comes_back(Untagged::Pair { left: twice, right: unit });
            comes_back(Untagged::List(vec![twice, twice]));
            comes_back(Internally::One { twice });
            comes_back(Internally::Two { twice, list: vec![unit, None] });
            comes_back(Adjacently::One(twice));
            comes_back(Adjacently::Two(twice, Some(twice.flatten())));
        }
    }
}

#[test]
fn numbers_texts_and_keys_of_all_kinds_come_back() {
    comes_back([i128::MIN, -1, 0, 1, i128::MAX]);
    comes_back([u128::MIN, u128::from(u64::MAX), u128::MAX]);
    comes_back(BTreeMap::from([(i128::MIN, u128::MAX)]));
    comes_back(['a', '\0', 'é', '\u{10ffff}']);
    comes_back(BTreeMap::from([((1u8, 'x'), 1), ((2, 'y'), 2)]));
    comes_back(BTreeMap::from([(Some(Wrapped(Some(()))), ()), (None, ())]));
    comes_back(BTreeMap::from([(vec![true], [(); 3])]));
    comes_back(vec![Untagged::Signed(i64::MIN), Untagged::Text("1".into())]);
    comes_back(BTreeMap::<(), ()>::new());
    comes_back(String::from_utf8(vec![b'x'; 70_000]).unwrap());
    for bits in [0x7fa0_0001, 0xffc0_1234, 0x8000_0000, 1, 0x7f80_0000] {
        let read: f32 = read(&written(&f32::from_bits(bits))).unwrap();
        assert_eq!(read.to_bits(), bits);
    }
}

#[test]
fn what_older_builds_wrote_is_read() {
    // Numbers of 128 bits that were written with fewer, a unit struct that was a nil, and a struct
    // without names.
    assert_eq!(read::<u128>(&[0xcd, 1, 0]).unwrap(), 256);
    assert_eq!(read::<i128>(&[0xff]).unwrap(), -1);
    assert!(read::<u128>(&[0xff]).is_err());
    #[derive(Deserialize)]
    struct Unit;
    let Unit = read(&[0xc0]).unwrap();
    let Unit = read(&[0x90]).unwrap();
    assert_eq!(read::<Twice>(&[0xc0]).unwrap(), None);
    assert_eq!(read::<Twice>(&[7]).unwrap(), Some(Some(7)));
    assert_eq!(read::<Tagged>(&rmp_serde::to_vec(&Tagged::Unit).unwrap()).unwrap(), Tagged::Unit);
}

#[test]
fn the_marker_is_an_extension_of_three_bytes() {
    assert_eq!(written(&None::<Twice>), [0xc0]);
    assert_eq!(written(&Some(None::<u32>)), [0xd4, 0xad, 1]);
    assert_eq!(written(&Some(Some(()))), [0xd4, 0xad, 2]);
    // An older build finds a wrong type there, and not another value.
    assert!(rmp_serde::from_slice::<Twice>(&[0xd4, 0xad, 1]).is_err());
    for wrong in [&[0xd4, 0xad, 0][..], &[0xd4, 0xad, 255], &[0xd4, 0xad], &[0xd4]] {
        assert!(read::<Twice>(wrong).is_err(), "{wrong:02x?}");
    }
    // Only a reader that asks for an option accepts it.
    assert!(read::<u32>(&[0xd4, 0xad, 1]).is_err());
    assert!(read::<Tagged>(&[0xd4, 0xad, 1]).is_err());
}

/// A MessagePack extension in the convention of serde's MessagePack crates.
#[derive(Clone, PartialEq, Debug)]
struct Extension(i8, Vec<u8>);

struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

impl Serialize for Extension {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_newtype_struct("_ExtStruct", &(self.0, Raw(&self.1)))
    }
}

impl<'de> Deserialize<'de> for Extension {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Extension;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an extension")
            }

            fn visit_newtype_struct<D: serde::Deserializer<'de>>(
                self,
                from: D,
            ) -> Result<Extension, D::Error> {
                from.deserialize_tuple(2, self)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut from: A) -> Result<Extension, A::Error> {
                let tag = from.next_element()?.ok_or_else(|| de::Error::custom("no type"))?;
                let data = from.next_element_seed(Like(&Shape::Bytes(Vec::new())))?;
                match data {
                    Some(Shape::Bytes(data)) => Ok(Extension(tag, data)),
                    _ => Err(de::Error::custom("no data")),
                }
            }
        }

        from.deserialize_newtype_struct("_ExtStruct", Visit)
    }
}

#[test]
fn extensions_of_users_stay_what_they_are() {
    for length in [0, 1, 2, 3, 4, 8, 16, 17, 300, 70_000] {
        for tag in [-1, 0, 83] {
            comes_back(vec![Extension(tag, vec![7; length])]);
            comes_back(Some(Extension(tag, vec![7; length])));
        }
    }
    let error = write(&Extension(-83, vec![1]), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("type -83"), "{error}");
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Link {
    number: u32,
    next: Option<Box<Link>>,
}

impl Link {
    fn chain(length: usize) -> Self {
        let longer = |next, number| Some(Box::new(Self { number, next }));
        *(1..=length as u32).fold(None, longer).expect("a chain has a link")
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Peano(Option<Box<Peano>>);

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Tree {
    Leaf(u8),
    Branch(Vec<Tree>),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Shell {
    Empty,
    Around(Box<Shell>),
}

#[test]
fn what_nests_too_deep_is_refused_when_it_is_written() {
    let refused = |result: Result<(), Error>| {
        let error = result.expect_err("it is too deep").to_string();
        assert!(error.contains("it nests") || error.contains("more than 254"), "{error}");
    };
    for depth in [1, 10, 60] {
        comes_back(Link::chain(depth));
        comes_back((0..depth).fold(Peano(None), |inner, _| Peano(Some(Box::new(inner)))));
        comes_back((0..depth).fold(Tree::Leaf(1), |inner, _| Tree::Branch(vec![inner])));
        comes_back((0..depth).fold(Shell::Empty, |inner, _| Shell::Around(Box::new(inner))));
    }
    // Read back or refused, one of the two; in an unoptimised build the stack is the limit.
    for depth in [100, 200, 400, 800, 999] {
        let chain = Link::chain(depth);
        let mut bytes = Vec::new();
        if write(&chain, &mut bytes).is_ok() && read_back::<Link>(&bytes).is_ok() {
            assert_eq!(read::<Link>(&bytes).unwrap(), chain);
        }
    }
    refused(write(&Link::chain(2500), &mut Vec::new()));
    let deep = (0..2500).fold(Peano(None), |inner, _| Peano(Some(Box::new(inner))));
    refused(write(&deep, &mut Vec::new()));
    let deep = (0..2500).fold(Tree::Leaf(1), |inner, _| Tree::Branch(vec![inner]));
    refused(write(&deep, &mut Vec::new()));
    let deep = (0..2500).fold(Shell::Empty, |inner, _| Shell::Around(Box::new(inner)));
    let mut bytes = Vec::new();
    if write(&deep, &mut bytes).is_ok() && read_back::<Shell>(&bytes).is_ok() {
        assert!(read::<Shell>(&bytes).unwrap() == deep);
    }
    // And bytes of such a depth are an error, without an overflow.
    let bytes = [0x91; 100_000];
    assert!(read::<Tree>(&bytes).is_err());
    assert!(Deserializer::new(&bytes).deserialize_any(de::IgnoredAny).is_err());
    assert!(read::<Peano>(&[7]).is_err());
}

/// With any amount of stack: written values are never deeper than the reader's limit, in any build.
#[test]
fn depth_has_a_limit_of_its_own() {
    let mut guard = DepthGuard::new(3, usize::MAX);
    for _ in 0..2 {
        for _ in 0..3 {
            guard.enter().unwrap();
        }
        let error = guard.enter().expect_err("one more than there may be").to_string();
        assert!(error.contains("more than 3 lists, maps and structs"), "{error}");
        (0..4).for_each(|_| guard.leave());
    }
    assert_eq!(guard.deepest, 3);
    const { assert!(WRITTEN_DEPTH < READ_DEPTH && WRITTEN_STACK < READ_STACK) };
}

#[test]
fn a_length_that_is_not_announced_is_refused() {
    struct Wrong(usize);

    impl Serialize for Wrong {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let mut to = to.serialize_seq(Some(self.0))?;
            to.serialize_element(&1)?;
            to.serialize_element(&2)?;
            to.end()
        }
    }

    assert!(write(&Wrong(2), &mut Vec::new()).is_ok());
    let error = write(&Wrong(3), &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "its `Serialize` announces 3 elements or fields and gives 2");
}

#[track_caller]
fn not_read_back<T: Serialize + DeserializeOwned>(value: &T, says: &str) {
    let refused = read_back::<T>(&written(value)).expect_err("it does not come back");
    let error = refused.of("count", "keyed").to_string();
    assert!(error.contains(says) && error.contains("`keyed` of operator `count`"), "{error}");
}

#[test]
fn types_that_do_not_agree_with_themselves_are_found() {
    #[derive(Serialize, Deserialize)]
    struct Skipped {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        list: Vec<u8>,
    }
    not_read_back(&Skipped { list: vec![] }, "missing field `list`");
    read_back::<Skipped>(&written(&Skipped { list: vec![1] })).unwrap();

    #[derive(Serialize, Deserialize)]
    struct Renamed {
        #[serde(default, rename(serialize = "amount"))]
        count: u32,
    }
    not_read_back(&Renamed { count: 1 }, "is read as another value");

    // serde itself cannot do it.
    #[derive(Serialize, Deserialize)]
    struct Flattened {
        #[serde(flatten)]
        inner: Wide,
    }
    #[derive(Serialize, Deserialize)]
    struct Wide {
        number: u128,
    }
    not_read_back(&Flattened { inner: Wide { number: 1 } }, "128");
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Wide(u128),
    }
    not_read_back(&Any::Wide(1), "did not match any variant");

    // Half of the precision is lost.
    #[derive(Serialize)]
    struct Rounded(#[serde(serialize_with = "short")] f64);
    fn short<S: serde::Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(*value)
    }
    impl<'de> Deserialize<'de> for Rounded {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Ok(Self(f64::from(f64::deserialize(from)? as f32)))
        }
    }
    not_read_back(&Rounded(0.1), "is read as another value");

    // One that ignores its input.
    #[derive(Serialize)]
    struct Blind(u8);
    impl<'de> Deserialize<'de> for Blind {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self(1))
        }
    }
    not_read_back(&Blind(1), "bytes too few");
}

#[test]
fn order_that_means_nothing_is_no_difference() {
    let mut random = 1u64;
    for _ in 0..50 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let numbers = || (0..100).map(|n| random.wrapping_mul(n * 2 + 1));
        let map: HashMap<u64, HashSet<String>> = numbers()
            .map(|n| (n, numbers().take(7).map(|other| format!("{}", other ^ n)).collect()))
            .collect();
        comes_back(map);
        comes_back(numbers().collect::<HashSet<u64>>());
        comes_back(numbers().collect::<BTreeSet<u64>>());
        read_back::<BinaryHeap<u64>>(&written(&numbers().collect::<BinaryHeap<u64>>())).unwrap();
    }

    /// A map in a text.
    #[derive(PartialEq, Debug)]
    struct Inner(HashMap<String, u64>);
    impl Serialize for Inner {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_str(&serde_json::to_string(&self.0).unwrap())
        }
    }
    impl<'de> Deserialize<'de> for Inner {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let text = String::deserialize(from)?;
            serde_json::from_str(&text).map(Self).map_err(de::Error::custom)
        }
    }
    comes_back(Inner((0..50).map(|n| (n.to_string(), n)).collect()));
}

#[test]
fn the_first_ones_new_shapes_and_samples_are_read_back() {
    #[derive(Serialize)]
    struct Of<'a> {
        number: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        many: &'a [u8],
    }
    let numbers = |which: VerifyState| -> Vec<u32> {
        let mut checks = Checks::new(which);
        let mut check = checks.of("operator", "state");
        let (marks, mut due) = check.parts();
        let mut bytes = Vec::new();
        let mut to = Serializer::new(&mut bytes, marks);
        let of = |number| Of {
            number,
            text: (number != 700).then_some("text"),
            many: if number == 800 || number == 801 { &[] } else { &[1] },
        };
        let chosen = (0..1000).filter(|number| {
            of(*number).serialize(&mut to).unwrap();
            due(to.shape())
        });
        chosen.collect()
    };
    let mut expected: Vec<u32> = (0..16).chain((16..1000).filter(|n| n % 64 == 0)).collect();
    expected.extend([700, 800]);
    expected.sort_unstable();
    assert_eq!(numbers(VerifyState::Samples), expected);
    assert_eq!(numbers(VerifyState::All), (0..1000).collect::<Vec<_>>());
    assert!(numbers(VerifyState::Off).is_empty());
}
