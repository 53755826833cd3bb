//! Byte order marks: one rule for every text that is read. A UTF-8 mark at the beginning of a file,
//! a connection or a body is skipped; text in UTF-16 is refused.

/// The mark in UTF-8.
pub const MARK: &[u8] = b"\xEF\xBB\xBF";

/// The error for text in UTF-16.
pub const UTF_16: &str =
    "it is text in UTF-16, as its byte order mark says, and only UTF-8 is supported";

/// True if the beginning of a text shows that it is in UTF-16.
pub fn is_utf16(text: &[u8]) -> bool {
    text.starts_with(b"\xFF\xFE") || text.starts_with(b"\xFE\xFF")
}
