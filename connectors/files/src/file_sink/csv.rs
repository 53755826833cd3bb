//! Converts records to rows of CSV.

use std::collections::BTreeMap;

use serde::Serialize;

use super::row::{FieldName, NotARow, Row};
use super::{EncodeFile, FileEncoder};
use crate::decode::Csv;
use snapline_core::base::error::BoxError;
use snapline_core::connect::ConnectError;
use snapline_core::connect::text::MARK;

impl<T: Serialize + 'static> EncodeFile<T> for Csv {
    type Encoder = CsvEncoder;

    fn encoder(&self) -> CsvEncoder {
        CsvEncoder { format: self.clone(), ..CsvEncoder::default() }
    }
}

/// Encodes CSV.
#[derive(Default)]
pub struct CsvEncoder {
    format: Csv,
    /// The columns: those of the format, or those of the first record. They are the same in all
    /// files.
    header: Option<Header>,
    /// True if the file has a record.
    begun: bool,
    /// The number of encoded records.
    records: u64,
    row: Row,
    /// For each column, the record's field in it.
    order: Vec<Option<usize>>,
}

/// The columns.
struct Header {
    /// One name per column; none where records have no names.
    names: Vec<FieldName>,
    columns: usize,
    /// The index of each name.
    places: BTreeMap<FieldName, usize>,
    /// True if the user names the columns: then values without names are assigned in order.
    is_given: bool,
}

impl Header {
    fn of(names: Vec<FieldName>, columns: usize, is_given: bool) -> Result<Self, NotARow> {
        let places: BTreeMap<_, _> = names.iter().cloned().zip(0..).collect();
        if !is_given && places.len() < names.len() {
            let mut names: Vec<_> = names.iter().map(|name| &**name).collect();
            names.sort_unstable();
            let twice = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
            return refuse(twice, "two of the record's fields have this name");
        }
        Ok(Self { names, columns, places, is_given })
    }

    /// Finds for each column the record's field in it; none in a column without a value.
    fn order(&self, row: &Row, order: &mut Vec<Option<usize>>) -> Result<(), NotARow> {
        order.clear();
        let Self { names, columns, places, is_given } = self;
        if !row.is_named() {
            if !names.is_empty() && !is_given {
                return refuse(None, "its values have no names, and the columns have names");
            }
            if row.len() != *columns {
                let why = format!("it has {} fields, where there are {columns} columns", row.len());
                return refuse(None, why);
            }
            order.extend((0..*columns).map(Some));
            return Ok(());
        }
        if row.names == *names {
            order.extend((0..*columns).map(Some));
            return Ok(());
        }
        if names.is_empty() {
            return refuse(None, "its values have names, and those of the first record had none");
        }
        order.resize(*columns, None);
        for (field, name) in row.names.iter().enumerate() {
            match places.get(name) {
                Some(&place) if order[place].is_some() => {
                    return refuse(Some(name), "two of the record's fields have this name");
                }
                Some(&place) => order[place] = Some(field),
                // There is no value.
                None if row.is_skipped(field) => {}
                None => {
                    return refuse(
                        Some(name),
                        "there is no such column: the columns are the fields of the first record, \
                         or those that the format names; name every column that any record has \
                         (`Csv::new().header([...])`), or write records of one type",
                    );
                }
            }
        }
        // A map does not report the fields it skips, but a struct does: a struct without the field
        // is of another type.
        match order.iter().position(Option::is_none) {
            Some(missing) if !row.is_open => refuse(
                Some(&names[missing]),
                "the record has no such field, and there is a column for it; give it an optional \
                 field, or write records of one type",
            ),
            _ => Ok(()),
        }
    }
}

fn refuse<T>(field: Option<&str>, why: impl Into<String>) -> Result<T, NotARow> {
    Err(NotARow { field: field.map(str::to_owned), why: why.into() })
}

impl<T: Serialize + 'static> FileEncoder<T> for CsvEncoder {
    fn encode(&mut self, records: &mut Vec<T>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        for record in records.drain(..) {
            self.records += 1;
            let written = self.row.take(&record).and_then(|()| self.write(out));
            written.map_err(|NotARow { field, why }| ConnectError::Unwritable {
                format: "CSV",
                record: self.records,
                field,
                why,
            })?;
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> Result<(), BoxError> {
        self.begun = false;
        Ok(())
    }
}

impl CsvEncoder {
    /// Appends the record in the row, and before it the header if the file has none yet.
    fn write(&mut self, out: &mut Vec<u8>) -> Result<(), NotARow> {
        let Self { format, header, begun, row, order, .. } = self;
        let header = match header {
            Some(header) => header,
            None => match format.written() {
                Some(names) => {
                    let names: Vec<FieldName> =
                        names.iter().cloned().map(FieldName::Owned).collect();
                    let columns = names.len();
                    header.insert(Header::of(names, columns, true)?)
                }
                None if row.len() == 0 => {
                    return refuse(None, "it has no fields, and no record before it had any");
                }
                None => header.insert(Header::of(row.names.clone(), row.len(), false)?),
            },
        };
        header.order(row, order)?;
        if !*begun && format.has_header() && !header.names.is_empty() {
            write_row(format, header.names.iter().map(|name| name.as_bytes()), out)?;
        }
        *begun = true;
        let fields = order.iter().map(|field| field.map_or(&b""[..], |field| row.field(field)));
        write_row(format, fields, out).map_err(|NotARow { field, why }| {
            // The writer names the column by its number.
            let column = field.and_then(|number| number.parse().ok());
            let name = column.and_then(|column: usize| header.names.get(column));
            NotARow { field: name.map(|name| name.clone().into_owned()), why }
        })
    }
}

/// Appends a row.
fn write_row<'a>(
    format: &Csv,
    fields: impl ExactSizeIterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) -> Result<(), NotARow> {
    let only = fields.len() == 1;
    for (number, field) in fields.enumerate() {
        if number > 0 {
            out.push(format.separator());
        }
        if let Err(why) = write_field(format, field, number == 0, only, out) {
            return refuse(Some(&number.to_string()), why);
        }
    }
    out.push(b'\n');
    Ok(())
}

/// Appends a field, in quotes where it needs them. The first field of a row, and the only one, have
/// more rules.
fn write_field(
    format: &Csv,
    field: &[u8],
    is_first: bool,
    is_only: bool,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let special = |&byte: &u8| {
        matches!(byte, b'\n' | b'\r')
            || byte == format.separator()
            || Some(byte) == format.quotes()
            || Some(byte) == format.escapes()
    };
    let is_odd = |first: &u8| field.starts_with(MARK) || Some(*first) == format.comments();
    let needs = (is_first && field.first().is_some_and(is_odd))
        || (is_only && field.is_empty())
        || field.iter().any(special);
    if !needs {
        out.extend_from_slice(field);
        return Ok(());
    }
    let Some(quote) = format.quotes() else {
        // With one column, an empty line is an empty value.
        let fits = field.is_empty();
        return if fits {
            Ok(())
        } else {
            Err("it holds a character that needs quotes, and quotes are off (`no_quotes`)")
        };
    };
    out.push(quote);
    for &byte in field {
        if byte == quote && !format.doubles() && format.escapes().is_none() {
            return Err(
                "it holds a quote, and quotes are neither doubled nor escaped (`double_quote`, `escape`)",
            );
        }
        match format.escapes() {
            Some(escape) if byte == escape || (byte == quote && !format.doubles()) => {
                out.push(escape)
            }
            _ if byte == quote => out.push(quote),
            _ => {}
        }
        out.push(byte);
    }
    out.push(quote);
    Ok(())
}
