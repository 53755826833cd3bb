//! Converts records to files: lines, CSV, JSON lines.

use std::fmt::Display;
use std::io::Write;
use std::marker::PhantomData;

#[cfg(feature = "formats")]
use serde::Serialize;

#[cfg(feature = "formats")]
use crate::decode::JsonLines;
use snapline_core::base::error::BoxError;
#[cfg(feature = "formats")]
use snapline_core::connect::ConnectError;
#[cfg(feature = "formats")]
use snapline_core::connect::json::{self, NotJson};

/// Converts a record to a line. Closures `Fn(&T, &mut Vec<u8>)` are encoders.
pub trait Encode<T> {
    /// Appends the record, without the end of the line.
    fn encode(&self, record: &T, line: &mut Vec<u8>);
}

/// Encodes a record by its `Display`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Plain;

impl<T: Display> Encode<T> for Plain {
    fn encode(&self, record: &T, line: &mut Vec<u8>) {
        write!(line, "{record}").expect("writing to a vector does not fail");
    }
}

impl<T, F: Fn(&T, &mut Vec<u8>)> Encode<T> for F {
    fn encode(&self, record: &T, line: &mut Vec<u8>) {
        self(record, line);
    }
}

/// A file format for writing. A value of this trait describes the format; each subtask writes with
/// an encoder of its own.
pub trait EncodeFile<T>: Clone + Send + 'static {
    /// The encoder of one file after the other.
    type Encoder: FileEncoder<T>;

    /// An encoder, before its first file.
    fn encoder(&self) -> Self::Encoder;
}

/// Encodes files, one after the other: each begins with the first record after the end of the one
/// before.
pub trait FileEncoder<T>: Send + 'static {
    /// Takes the records, leaving none, and appends the bytes to write now; held-back bytes are
    /// appended later.
    ///
    /// # Errors
    /// If a record cannot be encoded: the task fails with it.
    fn encode(&mut self, records: &mut Vec<T>, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Ends the file: appends the missing bytes. It is not called for a file without records.
    ///
    /// # Errors
    /// If that cannot be encoded: the task fails with it.
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let _ = out;
        Ok(())
    }
}

impl<T: Display + 'static> EncodeFile<T> for Plain {
    type Encoder = LineEncoder<T, Self>;

    fn encoder(&self) -> LineEncoder<T, Self> {
        LineEncoder { encode: *self, takes: PhantomData }
    }
}

/// The format of lines that an [`Encode`] makes.
#[derive(Clone, Copy, Default, Debug)]
pub struct ByLine<E>(pub E);

impl<T: 'static, E: Encode<T> + Clone + Send + 'static> EncodeFile<T> for ByLine<E> {
    type Encoder = LineEncoder<T, E>;

    fn encoder(&self) -> LineEncoder<T, E> {
        LineEncoder { encode: self.0.clone(), takes: PhantomData }
    }
}

/// Encodes each record as a line.
pub struct LineEncoder<T, E> {
    encode: E,
    takes: PhantomData<fn(T)>,
}

impl<T: 'static, E: Encode<T> + Send + 'static> FileEncoder<T> for LineEncoder<T, E> {
    fn encode(&mut self, records: &mut Vec<T>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        for record in records.iter() {
            self.encode.encode(record, out);
            out.push(b'\n');
        }
        records.clear();
        Ok(())
    }
}

#[cfg(feature = "formats")]
impl<T: Serialize + 'static> EncodeFile<T> for JsonLines {
    type Encoder = JsonEncoder;

    fn encoder(&self) -> JsonEncoder {
        JsonEncoder { records: 0 }
    }
}

/// Encodes JSON lines.
#[cfg(feature = "formats")]
#[derive(Clone, Copy, Default, Debug)]
pub struct JsonEncoder {
    /// The number of encoded records.
    records: u64,
}

#[cfg(feature = "formats")]
impl<T: Serialize + 'static> FileEncoder<T> for JsonEncoder {
    fn encode(&mut self, records: &mut Vec<T>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        for record in records.drain(..) {
            self.records += 1;
            json::write(&record, out).map_err(|NotJson { field, why }| {
                ConnectError::Unwritable { format: "JSON", record: self.records, field, why }
            })?;
            out.push(b'\n');
        }
        Ok(())
    }
}
