//! Values as they are given: by TOML with a type, by the environment as text. Both are read through
//! serde.

use std::time::Duration;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, Visitor};

use crate::base::clock::FOR_EVER;

/// A value as it was given.
#[derive(Clone, Debug)]
pub(super) enum Given {
    Value(toml::Value),
    Text(String),
}

impl Given {
    /// Reads it as a `T`.
    pub(super) fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<T, String> {
        match self {
            Self::Value(value) => {
                T::deserialize(value.clone()).map_err(|error| error.message().to_owned())
            }
            Self::Text(text) => {
                let from: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
                T::deserialize(from).map_err(|error| error.to_string())
            }
        }
    }
}

/// A number of things.
pub(super) struct WholeNumber(pub(super) u64);

/// A number with a fraction.
pub(super) struct Factor(pub(super) f64);

/// Yes or no.
pub(super) struct Flag(pub(super) bool);

/// A length of time.
pub(super) struct Span(pub(super) Duration);

/// Something, or a word for nothing.
pub(super) enum Or<T> {
    Word(String),
    Some(T),
}

struct Reads<T>(std::marker::PhantomData<T>);

macro_rules! read {
    ($name:ident, $expected:literal, $text:ident => $parse:expr $(, $method:ident($kind:ty): $value:ident => $take:expr)*) => {
        impl<'de> Visitor<'de> for Reads<$name> {
            type Value = $name;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($expected)
            }

            fn visit_str<E: de::Error>(self, $text: &str) -> Result<$name, E> {
                let unexpected = || E::invalid_value(de::Unexpected::Str($text), &self);
                $parse.map($name).ok_or_else(unexpected)
            }

            $(fn $method<E: de::Error>(self, $value: $kind) -> Result<$name, E> {
                let unexpected = || E::custom(format!("invalid value: {}, expected {}", $value, $expected));
                $take.map($name).ok_or_else(unexpected)
            })*
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(Reads::<$name>(std::marker::PhantomData))
            }
        }
    };
}

read!(WholeNumber, "a whole number that is not negative", text => text.parse().ok(),
    visit_i64(i64): value => u64::try_from(value).ok(), visit_u64(u64): value => Some(value));
read!(Factor, "a number", text => text.parse().ok(),
    visit_f64(f64): value => Some(value), visit_i64(i64): value => Some(value as f64));
read!(Flag, "true or false", text => text.parse().ok(), visit_bool(bool): value => Some(value));
read!(Span, "a length of time with its unit, such as \"500ms\", \"10s\" or \"1m 30s\", 100 years at most",
    text => humantime::parse_duration(text).ok().filter(|span| *span <= FOR_EVER));

impl Given {
    /// If it is a length of time with an ambiguous unit, that unit, and the length it stands for:
    /// `M` is a month.
    pub(super) fn doubtful(&self) -> Option<(char, Duration)> {
        let text: String = self.read().ok()?;
        let is = humantime::parse_duration(&text).ok()?;
        let mut units = text.split(|letter: char| !letter.is_ascii_alphabetic());
        let unit = units.find(|unit| matches!(*unit, "M" | "y"))?;
        Some((unit.chars().next()?, is))
    }

    /// Reads it as a `T`, or as one of the words.
    pub(super) fn or_word<T: for<'de> Deserialize<'de>>(
        &self,
        words: &[&str],
    ) -> Result<Or<T>, String> {
        match self.read::<String>() {
            Ok(text) if words.contains(&text.as_str()) => Ok(Or::Word(text)),
            _ => match self.read() {
                Ok(value) => Ok(Or::Some(value)),
                Err(error) => Err(format!("{error}, or one of {words:?}")),
            },
        }
    }

    /// Reads it as one of some words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, String> {
        let text: String = self.read()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("{text:?} is not one of {words:?}")
        })
    }

    /// Reads it as a number that fits.
    pub(super) fn number<T: TryFrom<u64>>(&self) -> Result<T, String> {
        let WholeNumber(number) = self.read()?;
        T::try_from(number).map_err(|_| format!("{number} is too large"))
    }
}
