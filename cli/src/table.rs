//! Tables and numbers for human readers.

use std::io::{self, Write};

/// Rows of cells under a header, in columns as wide as they need.
#[derive(Clone, Debug)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
    /// Columns from this one on are numbers, but the last, where text may follow.
    numbers: std::ops::Range<usize>,
}

impl TextTable {
    /// An empty table. `numbers`: which columns are aligned to the right.
    #[must_use]
    pub fn new(header: &[&str], numbers: std::ops::Range<usize>) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).into()).collect()], numbers }
    }

    /// Adds a row; it has as many cells as the header.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }

    /// Writes the table.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let room = " ".repeat(widths[column] - cell.chars().count());
                let (left, right) = if self.numbers.contains(&column) {
                    (room, String::new())
                } else {
                    (String::new(), room)
                };
                line += &format!("{left}{cell}{right}  ");
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number with its digits in groups of three.
///
/// ```
/// assert_eq!(snapline_cli::table::grouped(1_234_567), "1,234,567");
/// ```
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun, in the singular for one.
///
/// ```
/// use snapline_cli::table::counted;
/// assert_eq!([counted(0, "blob"), counted(1, "blob"), counted(1_000, "blob")], ["0 blobs", "1 blob", "1,000 blobs"]);
/// ```
#[must_use]
pub fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// How many a second, in thousands.
#[must_use]
pub fn rate(number: u64, seconds: f64) -> String {
    format!("{:.0} k", number as f64 / seconds.max(1e-6) / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let mut table = TextTable::new(&["name", "states", "verdict"], 1..2);
        table.row(vec!["chain".into(), "1,234".into(), "holds".into()]);
        table.row(vec!["é".into(), "7".into(), "stopped".into()]);
        let mut text = Vec::new();
        table.write(&mut text).expect("a Vec accepts all bytes");
        let text = String::from_utf8(text).expect("the output is UTF-8");
        assert_eq!(text, "name   states  verdict\nchain   1,234  holds\né           7  stopped\n");
    }

    #[test]
    fn digits_come_in_threes() {
        let text: Vec<String> = [0, 999, 1_000, 1_000_000].map(grouped).into();
        assert_eq!(text, ["0", "999", "1,000", "1,000,000"]);
    }
}
