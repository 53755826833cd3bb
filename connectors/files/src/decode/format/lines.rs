//! Formats whose records are lines.

use std::marker::PhantomData;

use memchr::memchr;
use serde::de::DeserializeOwned;

use super::{Decoder, Format};
use snapline_core::base::error::BoxError;
use snapline_core::connect::json;

/// The end of the line: after `\n`.
fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr(b'\n', bytes).map(|end| end + 1)
}

/// A line without its end.
fn without_end(raw: &[u8]) -> &[u8] {
    let line = raw.strip_suffix(b"\n").unwrap_or(raw);
    if line.len() < raw.len() { line.strip_suffix(b"\r").unwrap_or(line) } else { line }
}

/// JSON lines: each line is a value. Empty lines are skipped.
///
/// *Values that JSON has not.* NaN and infinities are not written: the job fails with
/// [`ConnectError::Unwritable`](snapline_core::connect::ConnectError::Unwritable), which names the field.
/// An integer of more than 64 bits is written as it is. Where a record takes a value of any type
/// (`serde_json::Value`), a line with such an integer is malformed: it would become a float of
/// another value. `Some(None)` is written as `null`, which is read as `None`.
#[derive(Clone, Copy, Default, Debug)]
pub struct JsonLines;

impl JsonLines {
    /// JSON lines.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<T: DeserializeOwned + Send + 'static> Format<T> for JsonLines {
    type Decoder = JsonDecoder;

    fn decoder(&self) -> JsonDecoder {
        JsonDecoder
    }

    fn is_lines(&self) -> bool {
        true
    }
}

/// Decodes [`JsonLines`].
#[derive(Clone, Copy, Default, Debug)]
pub struct JsonDecoder;

impl<T: DeserializeOwned> Decoder<T> for JsonDecoder {
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        line_end(bytes)
    }

    fn finish(&mut self, _: &[u8]) -> Result<bool, String> {
        Ok(true)
    }

    fn decode(&mut self, raw: &[u8]) -> Result<Option<T>, String> {
        match json::read(raw) {
            Ok(record) => Ok(Some(record)),
            Err(_) if raw.trim_ascii().is_empty() => Ok(None),
            Err(error) => {
                // The error counts lines from the beginning of the record.
                let said = error.to_string();
                let what = said.split(" at line ").next().unwrap_or(&said);
                Err(format!("{what}, at byte {} of the line", error.column()))
            }
        }
    }

    fn reset(&mut self) {}
}

/// Lines of text without their ends, `\n` or `\r\n`, as they are or parsed. Empty lines are lines.
///
/// ```
/// # use snapline::BoxError;
/// use snapline::connect::{FileSource, Lines};
/// let lines = FileSource::path("access.log.gz").decode::<String, _>(Lines::new());
/// let numbers = FileSource::path("numbers.txt.zst")
///     .decode::<u64, _>(Lines::parsed(|line: &str| Ok(line.trim().parse()?)))
///     .skip_malformed();
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct Lines<F = Text> {
    parse: F,
}

impl Lines {
    /// Lines as strings.
    #[must_use]
    pub const fn new() -> Self {
        Self { parse: Text }
    }
}

impl<F> Lines<F> {
    /// Lines from which `parse` makes records. A line for which it returns an error is malformed.
    pub const fn parsed<T>(parse: F) -> Self
    where
        F: Fn(&str) -> Result<T, BoxError>,
    {
        Self { parse }
    }
}

/// Makes a record from a line. Implemented for closures `Fn(&str) -> Result<T, BoxError>`.
pub trait ParseLine<T>: Clone + Send + 'static {
    /// Makes a record from a line.
    ///
    /// # Errors
    /// The reason, if the line is malformed.
    fn parse(&self, line: &str) -> Result<T, BoxError>;
}

/// A line as it is.
#[derive(Clone, Copy, Default, Debug)]
pub struct Text;

impl ParseLine<String> for Text {
    fn parse(&self, line: &str) -> Result<String, BoxError> {
        Ok(line.to_owned())
    }
}

impl<T, F: Fn(&str) -> Result<T, BoxError> + Clone + Send + 'static> ParseLine<T> for F {
    fn parse(&self, line: &str) -> Result<T, BoxError> {
        self(line)
    }
}

impl<T: Send + 'static, F: ParseLine<T>> Format<T> for Lines<F> {
    type Decoder = LineDecoder<T, F>;

    fn decoder(&self) -> LineDecoder<T, F> {
        LineDecoder { parse: self.parse.clone(), gives: PhantomData }
    }

    fn is_lines(&self) -> bool {
        true
    }
}

/// Decodes [`Lines`].
#[derive(Debug)]
pub struct LineDecoder<T, F> {
    parse: F,
    gives: PhantomData<fn() -> T>,
}

impl<T: 'static, F: ParseLine<T>> Decoder<T> for LineDecoder<T, F> {
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        line_end(bytes)
    }

    fn finish(&mut self, _: &[u8]) -> Result<bool, String> {
        Ok(true)
    }

    fn decode(&mut self, raw: &[u8]) -> Result<Option<T>, String> {
        let line = std::str::from_utf8(without_end(raw)).map_err(|error| {
            format!("byte {} of the line is not UTF-8", error.valid_up_to() + 1)
        })?;
        self.parse.parse(line).map(Some).map_err(|error| error.to_string())
    }

    fn reset(&mut self) {}
}
