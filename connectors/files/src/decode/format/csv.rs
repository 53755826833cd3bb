//! Values separated by commas.

use std::collections::BTreeSet;

use csv_core::ReadRecordResult;
use memchr::memchr2;
use serde::de::DeserializeOwned;

use super::{Decoder, Format, fields};

/// Initial room for a record's fields, in bytes, and for their number.
const ROOM: (usize, usize) = (1024, 32);

/// CSV (RFC 4180): fields between commas, or another delimiter; those in double quotes may hold
/// delimiters, line ends, and doubled quotes. Another quote, an escape within quotes, and comment
/// lines can be chosen.
///
/// *Empty lines* are skipped where a file has several columns. Where it has one, an empty line
/// after the header is a record with an empty value, also at the end of the file. So `a\nx\n\n` is
/// a header and two records, `x` and an empty one. Lines end in `\n`, `\r\n` or `\r`.
///
/// The first record of a file names its columns, and fields of a struct are found by these names.
/// For a file without a header, [`columns`](Self::columns) names them. A record with another number
/// of fields than columns is malformed. So is a record whose quote is not closed before the end of
/// the file. After such a quote, or after a record that is too long, reading continues with the
/// next line.
///
/// *Values.* A number is read where the record has one. A value may have any type
/// (`serde_json::Value`, fields of an untagged enum or a flattened struct). There, only a canonical
/// spelling makes a field a number or a truth value; anything else is a text. So `501` is a number,
/// `00501` and `1.50` are texts. If the record does not fit that way, numbers are read in any
/// spelling, as for the `f64` of a flattened struct. An empty field is `None`, or an empty text.
///
/// ```
/// use snapline::connect::{Csv, FileSource};
/// #[derive(serde::Deserialize)]
/// struct Order { id: u64, customer: String, cents: Option<u64> }
/// let orders = FileSource::path("orders.csv.gz").csv::<Order>();
/// let others = FileSource::path("export/*.txt")
///     .decode::<Order, _>(Csv::new().delimiter(b';').columns(["id", "customer", "cents"]));
/// let mysql = FileSource::path("dump.csv")
///     .decode::<Order, _>(Csv::new().quote(b'\'').escape(b'\\').comment(b'#'));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Csv {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    double_quote: bool,
    comment: Option<u8>,
    columns: Option<Vec<String>>,
    header: Option<Vec<String>>,
}

impl Default for Csv {
    fn default() -> Self {
        Self::new()
    }
}

impl Csv {
    /// Commas, double quotes, and a header.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            double_quote: true,
            comment: None,
            columns: None,
            header: None,
        }
    }

    /// The delimiter between fields.
    ///
    /// # Panics
    /// If it is a line end, or has another meaning: quote, escape or comment.
    #[must_use]
    pub const fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self.checked()
    }

    /// The quote around a field that holds delimiters, line ends or quotes; `"` by default.
    ///
    /// # Panics
    /// If it is a line end, or has another meaning: delimiter, escape or comment.
    #[must_use]
    pub const fn quote(mut self, quote: u8) -> Self {
        self.quote = Some(quote);
        self.checked()
    }

    /// Disables quotes: a quote is a character like any other. A field that holds a delimiter or a
    /// line end cannot be written then.
    #[must_use]
    pub const fn no_quotes(mut self) -> Self {
        self.quote = None;
        self
    }

    /// Within quotes, the byte that follows this one stands for itself, such as `b'\\'`; none by
    /// default. The writer puts it before itself, and before quotes if these are not doubled
    /// ([`double_quote`](Self::double_quote)).
    ///
    /// # Panics
    /// If it is a line end, or has another meaning: delimiter, quote or comment.
    #[must_use]
    pub const fn escape(mut self, escape: u8) -> Self {
        self.escape = Some(escape);
        self.checked()
    }

    /// True if two quotes within quotes stand for one; the default.
    #[must_use]
    pub const fn double_quote(mut self, double: bool) -> Self {
        self.double_quote = double;
        self
    }

    /// Lines that begin with this are skipped, such as `b'#'`, also before the header; none by
    /// default. The writer writes no comments, and quotes a first field that begins so.
    ///
    /// # Panics
    /// If it is a line end, or has another meaning: delimiter, quote or escape.
    #[must_use]
    pub const fn comment(mut self, comment: u8) -> Self {
        self.comment = Some(comment);
        self.checked()
    }

    /// Sets the columns, instead of a header. The writer writes no header, and the columns in this
    /// order.
    #[must_use]
    pub fn columns<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.columns = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the header that is written: these columns, in this order, also where records have no
    /// names. Without it, the header has the fields of the first record. Use it for records with
    /// varying fields, such as maps and flattened structs: a field that a record lacks is empty. A
    /// file that is read has its own header.
    #[must_use]
    pub fn header<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.header = Some(names.into_iter().map(Into::into).collect());
        self
    }

    const fn checked(self) -> Self {
        let meanings = [Some(self.delimiter), self.quote, self.escape, self.comment];
        let mut one = 0;
        while one < meanings.len() {
            assert!(
                !matches!(meanings[one], Some(b'\n' | b'\r')),
                "a delimiter, quote, escape or comment must not end a line"
            );
            let mut other = 0;
            while other < one {
                if let (Some(one), Some(other)) = (meanings[one], meanings[other]) {
                    assert!(
                        one != other,
                        "delimiter, quote, escape and comment must be different bytes"
                    );
                }
                other += 1;
            }
            one += 1;
        }
        self
    }
}

impl Csv {
    pub(crate) const fn separator(&self) -> u8 {
        self.delimiter
    }

    pub(crate) const fn quotes(&self) -> Option<u8> {
        self.quote
    }

    pub(crate) const fn escapes(&self) -> Option<u8> {
        self.escape
    }

    pub(crate) const fn doubles(&self) -> bool {
        self.double_quote
    }

    pub(crate) const fn comments(&self) -> Option<u8> {
        self.comment
    }

    pub(crate) const fn has_header(&self) -> bool {
        self.columns.is_none()
    }

    /// The columns to write, if they are set.
    pub(crate) fn written(&self) -> Option<&[String]> {
        self.columns.as_deref().or(self.header.as_deref())
    }
}

impl<T: DeserializeOwned + Send + 'static> Format<T> for Csv {
    type Decoder = CsvDecoder;

    fn decoder(&self) -> CsvDecoder {
        let mut reader = csv_core::ReaderBuilder::new();
        reader.delimiter(self.delimiter).escape(self.escape).double_quote(self.double_quote);
        match self.quote {
            Some(quote) => reader.quote(quote),
            None => reader.quoting(false),
        };
        let mut decoder = CsvDecoder {
            reader: reader.build(),
            comment: self.comment,
            text: vec![0; ROOM.0],
            ends: vec![0; ROOM.1],
            bytes: 0,
            fields: 0,
            seen: DecoderInput::Nothing,
            has_header: self.columns.is_none(),
            columns: self.columns.clone(),
        };
        decoder.begin();
        decoder
    }
}

/// The part of a record that a decoder has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DecoderInput {
    Nothing,
    /// The beginning of a comment.
    Comment,
    /// A comment, up to a `\r` that a `\n` may follow.
    CommentReturn,
    /// An empty line, or a comment, to its end.
    NoRecord,
    /// The beginning of a record.
    Some,
    /// A record, up to a `\r` that a `\n` may follow.
    Return,
    /// A record.
    All,
}

/// Decodes [`Csv`].
#[derive(Debug)]
pub struct CsvDecoder {
    reader: csv_core::Reader,
    comment: Option<u8>,
    /// The fields of the scanned record, without quotes, where each ends, and how much of that is
    /// used.
    text: Vec<u8>,
    ends: Vec<usize>,
    bytes: usize,
    fields: usize,
    seen: DecoderInput,
    has_header: bool,
    columns: Option<Vec<String>>,
}

impl CsvDecoder {
    fn begin(&mut self) {
        self.reader.reset();
        (self.bytes, self.fields, self.seen) = (0, 0, DecoderInput::Nothing);
        // The reader strips a byte order mark from its first input, which may be any record here.
        // So it gets an empty line first, which has no effect.
        let (result, ..) = self.reader.read_record(b"\n", &mut self.text, &mut self.ends);
        debug_assert_eq!(result, ReadRecordResult::InputEmpty);
    }

    /// True if an empty line is a record.
    fn is_narrow(&self) -> bool {
        self.columns.as_ref().is_some_and(|columns| columns.len() == 1)
    }

    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        if matches!(self.seen, DecoderInput::All | DecoderInput::NoRecord) {
            (self.bytes, self.fields, self.seen) = (0, 0, DecoderInput::Nothing);
        }
        match self.seen {
            DecoderInput::Return => {
                self.seen = DecoderInput::All;
                return Some(usize::from(bytes.first() == Some(&b'\n')));
            }
            DecoderInput::CommentReturn => {
                self.seen = DecoderInput::NoRecord;
                return Some(usize::from(bytes.first() == Some(&b'\n')));
            }
            DecoderInput::Nothing => {
                let first = *bytes.first()?;
                if matches!(first, b'\n' | b'\r') {
                    self.seen =
                        if self.is_narrow() { DecoderInput::All } else { DecoderInput::NoRecord };
                    return match bytes.get(1) {
                        Some(b'\n') if first == b'\r' => Some(2),
                        None if first == b'\r' && self.is_narrow() => {
                            self.seen = DecoderInput::Return;
                            None
                        }
                        _ => Some(1),
                    };
                }
                self.seen = if Some(first) == self.comment {
                    DecoderInput::Comment
                } else {
                    DecoderInput::Some
                };
            }
            _ => {}
        }
        if self.seen == DecoderInput::Comment {
            let end = memchr2(b'\n', b'\r', bytes)?;
            self.seen = DecoderInput::NoRecord;
            return match bytes.get(end + 1) {
                Some(b'\n') if bytes[end] == b'\r' => Some(end + 2),
                None if bytes[end] == b'\r' => {
                    self.seen = DecoderInput::CommentReturn;
                    None
                }
                _ => Some(end + 1),
            };
        }
        let mut at = 0;
        // For the reader an empty input is the end of the file.
        while at < bytes.len() {
            let (text, ends) = (&mut self.text[self.bytes..], &mut self.ends[self.fields..]);
            let (result, read, written, ended) = self.reader.read_record(&bytes[at..], text, ends);
            at += read;
            self.bytes += written;
            self.fields += ended;
            match result {
                ReadRecordResult::Record => return self.end(bytes, at),
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            }
        }
        None
    }

    /// Ends a record at this byte; after a `\r`, the next byte may belong to the same line end.
    fn end(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        self.seen = DecoderInput::All;
        if at == 0 || bytes[at - 1] != b'\r' {
            return Some(at);
        }
        match bytes.get(at) {
            Some(b'\n') => Some(at + 1),
            Some(_) => Some(at),
            None => {
                self.seen = DecoderInput::Return;
                None
            }
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> for CsvDecoder {
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        Self::scan(self, bytes)
    }

    fn finish(&mut self, _: &[u8]) -> Result<bool, String> {
        match self.seen {
            DecoderInput::Comment
            | DecoderInput::CommentReturn
            | DecoderInput::Nothing
            | DecoderInput::NoRecord => Ok(false),
            DecoderInput::Return | DecoderInput::All => Ok(true),
            DecoderInput::Some => match Self::scan(self, b"\n") {
                Some(_) => Ok(true),
                None => Err("a quote is opened and not closed".into()),
            },
        }
    }

    fn decode(&mut self, _: &[u8]) -> Result<Option<T>, String> {
        if self.seen == DecoderInput::NoRecord {
            return Ok(None);
        }
        let columns = self.columns.as_deref().unwrap_or_default();
        if self.fields == 0 && columns.len() == 1 {
            // The line is empty: so is the value.
            (self.bytes, self.fields, self.ends[0]) = (0, 1, 0);
        }
        if self.fields != columns.len() {
            let columns = columns.len();
            return Err(format!("{} fields, where there are {columns} columns", self.fields));
        }
        fields::read(&self.text[..self.bytes], &self.ends[..self.fields], columns).map(Some)
    }

    fn reset(&mut self) {
        self.begin();
    }

    fn has_header(&self) -> bool {
        self.has_header
    }

    fn is_nothing(&self, _: &[u8]) -> bool {
        self.seen == DecoderInput::NoRecord
    }

    fn header(&mut self, _: &[u8]) -> Result<(), String> {
        let (mut columns, mut names, mut from) = (Vec::new(), BTreeSet::new(), 0);
        for &end in &self.ends[..self.fields] {
            let Ok(name) = std::str::from_utf8(&self.text[from..end]) else {
                return Err(format!("the name of column {} is not UTF-8", columns.len() + 1));
            };
            if !names.insert(name) {
                return Err(format!("two columns are named `{name}`"));
            }
            columns.push(name.to_owned());
            from = end;
        }
        self.columns = Some(columns);
        Ok(())
    }
}
