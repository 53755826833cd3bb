//! Values separated by commas.

use csv::{ByteRecord, ErrorKind};
use csv_core::ReadRecordResult;
use serde::de::DeserializeOwned;

use super::{Decoder, Format};

/// Room for a record's fields at first, in bytes, and for their number.
const ROOM: (usize, usize) = (1024, 32);

/// CSV (RFC 4180): fields between commas, or another delimiter; those in double quotes may hold delimiters, line ends, and, doubled, quotes.
/// Empty lines are passed over.
///
/// The first record of a file names its columns, and fields of a struct are found by these names; or the file has no such header and
/// [`columns`](Self::columns) says them. A record that has another number of fields than there are columns is malformed; so is one in which a quote
/// is opened and not closed before the end of the file. What is read behind such a quote, or behind a record that is too long, begins
/// with the next line.
///
/// ```
/// use snapline::connect::{Csv, FileSource};
/// #[derive(serde::Deserialize)]
/// struct Order { id: u64, customer: String, cents: Option<u64> }
/// let orders = FileSource::path("orders.csv.gz").csv::<Order>();
/// let others = FileSource::path("export/*.txt")
///     .decode::<Order, _>(Csv::new().delimiter(b';').columns(["id", "customer", "cents"]));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Csv {
    delimiter: u8,
    columns: Option<Vec<String>>,
}

impl Default for Csv {
    fn default() -> Self {
        Self::new()
    }
}

impl Csv {
    /// Commas, and a header.
    #[must_use]
    pub const fn new() -> Self {
        Self { delimiter: b',', columns: None }
    }

    /// What stands between fields.
    ///
    /// # Panics
    /// If it is a quote or a line end.
    #[must_use]
    pub const fn delimiter(mut self, delimiter: u8) -> Self {
        assert!(
            !matches!(delimiter, b'"' | b'\n' | b'\r'),
            "a delimiter that ends more than a field"
        );
        self.delimiter = delimiter;
        self
    }

    /// There is no header: these are the columns. What is written gets no header.
    #[must_use]
    pub fn columns<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.columns = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

impl Csv {
    pub(in crate::connect) const fn separator(&self) -> u8 {
        self.delimiter
    }

    pub(in crate::connect) const fn has_header(&self) -> bool {
        self.columns.is_none()
    }
}

impl<T: DeserializeOwned + Send + 'static> Format<T> for Csv {
    type Decoder = CsvDecoder;

    fn decoder(&self) -> CsvDecoder {
        let reader = csv_core::ReaderBuilder::new().delimiter(self.delimiter).build();
        let columns = self.columns.as_ref().map(|names| ByteRecord::from(names.clone()));
        let mut decoder = CsvDecoder {
            reader,
            text: vec![0; ROOM.0],
            ends: vec![0; ROOM.1],
            bytes: 0,
            fields: 0,
            has_header: columns.is_none(),
            columns,
            record: ByteRecord::new(),
        };
        decoder.begin();
        decoder
    }
}

/// Decodes [`Csv`].
#[derive(Debug)]
pub struct CsvDecoder {
    reader: csv_core::Reader,
    /// The fields of the record that is scanned, without quotes, and where each of them ends; and how much of that is used.
    text: Vec<u8>,
    ends: Vec<usize>,
    bytes: usize,
    fields: usize,
    has_header: bool,
    columns: Option<ByteRecord>,
    record: ByteRecord,
}

impl CsvDecoder {
    fn begin(&mut self) {
        self.reader.reset();
        (self.bytes, self.fields) = (0, 0);
        // The reader takes a mark of byte order off what it is shown first, which may be any record here. An empty line is nothing.
        let (result, ..) = self.reader.read_record(b"\n", &mut self.text, &mut self.ends);
        debug_assert_eq!(result, ReadRecordResult::InputEmpty);
    }

    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        // To be shown nothing means the end of the file to the reader.
        while at < bytes.len() {
            let (text, ends) = (&mut self.text[self.bytes..], &mut self.ends[self.fields..]);
            let (result, read, written, ended) = self.reader.read_record(&bytes[at..], text, ends);
            at += read;
            self.bytes += written;
            self.fields += ended;
            match result {
                ReadRecordResult::Record => return Some(at),
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            }
        }
        None
    }

    /// Takes what was scanned into the record.
    fn take(&mut self) {
        self.record.clear();
        let mut from = 0;
        for &end in &self.ends[..self.fields] {
            self.record.push_field(&self.text[from..end]);
            from = end;
        }
        (self.bytes, self.fields) = (0, 0);
    }

    fn column(&self, field: Option<u64>) -> String {
        let Some(field) = field else { return String::new() };
        let name = self.columns.as_ref().and_then(|names| names.get(field as usize));
        match name {
            Some(name) => format!("column `{}`: ", String::from_utf8_lossy(name)),
            None => format!("field {}: ", field + 1),
        }
    }

    fn say(&self, error: &csv::Error) -> String {
        match error.kind() {
            ErrorKind::Deserialize { err, .. } => {
                format!("{}{}", self.column(err.field()), err.kind())
            }
            _ => error.to_string(),
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> for CsvDecoder {
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        Self::scan(self, bytes)
    }

    fn finish(&mut self, raw: &[u8]) -> Result<bool, String> {
        if raw.iter().all(|byte| matches!(byte, b'\n' | b'\r')) {
            return Ok(false);
        }
        match Self::scan(self, b"\n") {
            Some(_) => Ok(true),
            None => Err("a quote is opened and not closed".into()),
        }
    }

    fn decode(&mut self, _: &[u8]) -> Result<Option<T>, String> {
        self.take();
        let (found, columns) =
            (self.record.len(), self.columns.as_ref().map_or(0, ByteRecord::len));
        if found != columns {
            return Err(format!("{found} fields, where there are {columns} columns"));
        }
        match self.record.deserialize(self.columns.as_ref()) {
            Ok(record) => Ok(Some(record)),
            Err(error) => Err(self.say(&error)),
        }
    }

    fn reset(&mut self) {
        self.begin();
    }

    fn has_header(&self) -> bool {
        self.has_header
    }

    fn header(&mut self, _: &[u8]) -> Result<(), String> {
        self.take();
        for (number, name) in self.record.iter().enumerate() {
            if std::str::from_utf8(name).is_err() {
                return Err(format!("the name of column {} is not UTF-8", number + 1));
            }
            if self.record.iter().take(number).any(|other| other == name) {
                let name = String::from_utf8_lossy(name);
                return Err(format!("two columns are named `{name}`"));
            }
        }
        self.columns = Some(self.record.clone());
        Ok(())
    }
}
