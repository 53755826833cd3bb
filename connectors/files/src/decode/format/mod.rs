//! Formats of a file's records: lines, JSON lines, CSV.

mod csv;
mod fields;
mod lines;

pub use self::csv::{Csv, CsvDecoder};
pub use self::lines::{JsonDecoder, JsonLines, LineDecoder, Lines, ParseLine, Text};

/// A file format. A value of this trait describes the format; each file is read with a decoder of
/// its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not read records of type `{T}`",
    note = "formats are `Lines`, `JsonLines`, `Csv`, ...; those of serde read types that are `#[derive(serde::Deserialize)]`"
)]
pub trait Format<T>: Clone + Send + 'static {
    /// The decoder for a file.
    type Decoder: Decoder<T>;

    /// A decoder for a file.
    fn decoder(&self) -> Self::Decoder;

    /// True if a record is a line. Then reading may begin after any line end, and several subtasks
    /// can share a file.
    fn is_lines(&self) -> bool {
        false
    }

    /// True if the format is text in UTF-8. Then a byte order mark at the beginning of a file is
    /// skipped, and a file in UTF-16 is refused.
    fn is_text(&self) -> bool {
        true
    }
}

/// Decodes the records of one file.
///
/// Bytes are passed to [`scan`](Self::scan) until it finds the end of the record, and then,
/// together, to [`decode`](Self::decode). The number of bytes passed at a time is unspecified. A
/// decoder holds only a file's header: its output depends on the record's bytes alone, so that a
/// reader can begin with any record.
pub trait Decoder<T>: Send + 'static {
    /// Scans the bytes after those of the last call. Returns how many of them belong to the record,
    /// its end included; `None` if it does not end there. They are never empty.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize>;

    /// The file ends after the scanned bytes, which are `raw`. Returns true if they are a record,
    /// which is then decoded.
    ///
    /// # Errors
    /// The reason, if a record cannot end there.
    fn finish(&mut self, raw: &[u8]) -> Result<bool, String>;

    /// Makes a record from the scanned bytes; `None` if they hold none, as an empty line may.
    ///
    /// # Errors
    /// The reason, if they are malformed.
    fn decode(&mut self, raw: &[u8]) -> Result<Option<T>, String>;

    /// Forgets the scanned bytes: the next ones begin a record.
    fn reset(&mut self);

    /// True if the scanned bytes are neither a record nor a header: an empty line, a comment.
    fn is_nothing(&self, raw: &[u8]) -> bool {
        let _ = raw;
        false
    }

    /// True if the first record of a file goes to [`header`](Self::header).
    fn has_header(&self) -> bool {
        false
    }

    /// Takes the first record of the file, which was scanned.
    ///
    /// # Errors
    /// The reason, if it is malformed.
    fn header(&mut self, raw: &[u8]) -> Result<(), String> {
        let _ = raw;
        Ok(())
    }
}
