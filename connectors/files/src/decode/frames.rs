//! A file's bytes, decompressed, and the places of its records.

use std::io::{self, ErrorKind, Read};

use memchr::{memchr, memchr_iter};

use super::format::Decoder;
use crate::compress::Input;
use snapline_core::connect::text::{MARK, is_utf16};

/// Bytes of one read.
const BUFFER: usize = 256 * 1024;

/// Reads per call, at most: a longer step continues with the next call.
const PATIENCE: usize = 16;

/// The next thing in a file.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// A record of this many bytes.
    Record(usize),
    /// The rest of the file, of this many bytes, which does not end as a record does.
    Rest(usize),
    /// A record that exceeds the limit.
    TooLong,
    /// Nothing.
    End,
}

/// A line that is skipped.
#[derive(Default)]
pub(super) struct Passed {
    /// Its beginning.
    pub(super) raw: Vec<u8>,
    /// The number of empty lines before it.
    pub(super) empty: u64,
    /// The number of line ends passed, in all.
    pub(super) lines: u64,
    /// The number of bytes passed, as far as they were read.
    bytes: u64,
}

/// The bytes of a file from a given place on.
pub(super) struct Frames {
    input: Box<dyn Input>,
    buffer: Vec<u8>,
    /// Places in the buffer: the next record's beginning, the end of what was scanned, and the end
    /// of the bytes.
    from: usize,
    seen: usize,
    to: usize,
    /// True if all bytes are in the buffer.
    over: bool,
    /// The next record's offset in the decompressed file.
    offset: u64,
    passing: Option<Passed>,
}

impl Frames {
    pub(super) fn new(input: Box<dyn Input>, offset: u64) -> Self {
        let buffer = vec![0; BUFFER];
        Self { input, buffer, from: 0, seen: 0, to: 0, over: false, offset, passing: None }
    }

    /// The next record's offset in the decompressed file.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The offset in the decompressed file up to which it was read.
    pub(super) const fn reached(&self) -> u64 {
        let passing = match &self.passing {
            Some(passing) => passing.bytes,
            None => 0,
        };
        self.offset + passing + (self.to - self.from) as u64
    }

    /// The next `bytes` bytes.
    pub(super) fn raw(&self, bytes: usize) -> &[u8] {
        &self.buffer[self.from..self.from + bytes]
    }

    /// Moves past `bytes` bytes, which are in the buffer. Returns the number of line ends in them.
    pub(super) fn pass(&mut self, bytes: usize) -> u64 {
        let lines = memchr_iter(b'\n', self.raw(bytes)).count();
        self.from += bytes;
        self.seen = self.from;
        self.offset += bytes as u64;
        lines as u64
    }

    /// Moves to an offset of the decompressed file, by reading what is before. Returns whether it
    /// is reached; if not, the caller calls again, or, when all was read, the file is shorter.
    pub(super) fn go_to(&mut self, offset: u64) -> io::Result<bool> {
        for _ in 0..PATIENCE {
            let left = offset.saturating_sub(self.offset);
            let here = left.min((self.to - self.from) as u64) as usize;
            self.from += here;
            self.seen = self.from;
            self.offset += here as u64;
            if self.offset >= offset {
                return Ok(true);
            }
            if self.over {
                break;
            }
            self.fill()?;
        }
        Ok(false)
    }

    /// Moves past the next byte, or past a line end of two. Returns the number of line ends passed,
    /// except for one that was the byte's.
    pub(super) fn pass_line_end(&mut self) -> io::Result<u64> {
        while self.to - self.from < 2 && !self.over {
            self.fill()?;
        }
        let is_pair = self.buffer[self.from..self.to].starts_with(b"\r\n");
        let bytes = if is_pair { 2 } else { (self.to - self.from).min(1) };
        self.pass(bytes);
        Ok(is_pair.into())
    }

    /// True if all bytes were read.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    /// Finds the end of the next record, of at most `longest` bytes.
    pub(super) fn next<T>(
        &mut self,
        decoder: &mut impl Decoder<T>,
        longest: usize,
    ) -> io::Result<Frame> {
        loop {
            if self.seen < self.to {
                if let Some(bytes) = decoder.scan(&self.buffer[self.seen..self.to]) {
                    let bytes = self.seen + bytes - self.from;
                    return Ok(if bytes > longest { Frame::TooLong } else { Frame::Record(bytes) });
                }
                self.seen = self.to;
            }
            let bytes = self.to - self.from;
            if bytes > longest {
                return Ok(Frame::TooLong);
            }
            if self.over {
                return Ok(if bytes == 0 { Frame::End } else { Frame::Rest(bytes) });
            }
            self.fill()?;
        }
    }

    /// Moves past a byte order mark. Returns false if the text is UTF-16.
    pub(super) fn pass_mark(&mut self) -> io::Result<bool> {
        while self.to - self.from < MARK.len() && !self.over {
            self.fill()?;
        }
        if self.buffer[self.from..self.to].starts_with(MARK) {
            self.pass(MARK.len());
        }
        Ok(!is_utf16(&self.buffer[self.from..self.to]))
    }

    /// Moves past the line that begins here, or past the empty ones before it, if `empty_too`. At
    /// most `kept` bytes of it are kept. `None`: the caller calls again.
    pub(super) fn pass_line(&mut self, kept: usize, empty_too: bool) -> io::Result<Option<Passed>> {
        let mut passed = self.passing.take().unwrap_or_default();
        for _ in 0..PATIENCE {
            if empty_too && passed.raw.is_empty() {
                let rest = &self.buffer[self.from..self.to];
                let empty = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
                passed.empty += memchr_iter(b'\n', &rest[..empty]).count() as u64;
                passed.bytes += empty as u64;
                self.from += empty;
            }
            let rest = &self.buffer[self.from..self.to];
            let end = memchr(b'\n', rest);
            let bytes = end.map_or(rest.len(), |end| end + 1);
            let kept = bytes.min(kept.saturating_sub(passed.raw.len()));
            passed.raw.extend_from_slice(&rest[..kept]);
            passed.bytes += bytes as u64;
            self.from += bytes;
            self.seen = self.from;
            if end.is_some() || self.over {
                passed.lines = passed.empty + u64::from(end.is_some());
                self.offset += passed.bytes;
                return Ok(Some(passed));
            }
            self.fill()?;
        }
        self.passing = Some(passed);
        Ok(None)
    }

    /// Reads more into the buffer.
    fn fill(&mut self) -> io::Result<()> {
        // The rest is a piece of a record.
        self.buffer.copy_within(self.from..self.to, 0);
        (self.seen, self.to) = (self.seen - self.from, self.to - self.from);
        self.from = 0;
        if self.to > self.buffer.len() / 2 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.to..]) {
                Ok(0) => self.over = true,
                Ok(bytes) => self.to += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}
