//! How a file's bytes become records: lines, JSON lines, CSV.

mod csv;
mod fields;
mod lines;

pub use self::csv::{Csv, CsvDecoder};
pub use self::lines::{JsonDecoder, JsonLines, LineDecoder, Lines, ParseLine, Text};

/// What a file's bytes are. A value of this trait describes the format; each file is read with a
/// decoder of its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not read records of type `{T}`",
    note = "formats are `Lines`, `JsonLines`, `Csv`, ...; those of serde read types that are `#[derive(serde::Deserialize)]`"
)]
pub trait Format<T>: Clone + Send + 'static {
    /// What decodes a file.
    type Decoder: Decoder<T>;

    /// A decoder for a file.
    fn decoder(&self) -> Self::Decoder;

    /// True if a record is a line, so that one may begin to read behind any line end, and several
    /// subtasks can share a file.
    fn is_lines(&self) -> bool {
        false
    }

    /// True if it is text in UTF-8. Then a byte order mark at the beginning of a file is skipped,
    /// and a file in UTF-16 is refused.
    fn is_text(&self) -> bool {
        true
    }
}

/// Decodes the records of one file.
///
/// Bytes are shown to [`scan`](Self::scan) until it finds the end of the record, and then,
/// together, to [`decode`](Self::decode). How many bytes are shown at a time is open. A decoder
/// holds no more of a file than its header: what it gives depends on the record's bytes alone, so
/// that a reader can begin with any record.
pub trait Decoder<T>: Send + 'static {
    /// Looks at the bytes behind those that it was shown last: how many of them belong to the
    /// record, its end included; `None` if it does not end there. They are never empty.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize>;

    /// The file ends behind what was scanned, which is `raw`. Whether that is a record; it is
    /// decoded then.
    ///
    /// # Errors
    /// What is wrong: a record cannot end there.
    fn finish(&mut self, raw: &[u8]) -> Result<bool, String>;

    /// Makes a record of the bytes that were scanned; `None` if they are none, as an empty line may
    /// be.
    ///
    /// # Errors
    /// What is wrong with them.
    fn decode(&mut self, raw: &[u8]) -> Result<Option<T>, String>;

    /// Forgets what was scanned: the next bytes begin a record.
    fn reset(&mut self);

    /// True if what was scanned is no record, and no header either: an empty line, a comment.
    fn is_nothing(&self, raw: &[u8]) -> bool {
        let _ = raw;
        false
    }

    /// True if the first record of a file is to be given to [`header`](Self::header).
    fn has_header(&self) -> bool {
        false
    }

    /// Takes the first record of the file, which was scanned.
    ///
    /// # Errors
    /// What is wrong with it.
    fn header(&mut self, raw: &[u8]) -> Result<(), String> {
        let _ = raw;
        Ok(())
    }
}
