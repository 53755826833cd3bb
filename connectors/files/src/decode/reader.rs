//! Reads records for one subtask.

use std::fs::File;
use std::marker::PhantomData;

use super::directory::{Coming, Next};
use super::format::{Decoder, Format};
use super::frames::{Frame, Frames};
use super::malformed::{Malformed, OnMalformed};
use super::piece::{Opens, Piece};
use super::{DecodedPosition, Fail};
use crate::compress::Compression;
use snapline_core::base::error::BoxError;
use snapline_core::connect::{Collect, ConnectError, OpenContext, Progress, SourceReader};

/// Of the skipped malformed records, the first ten are logged, then each whose number is a power of
/// ten.
const TOLD: u64 = 10;

/// Reads one subtask's share of a [`Decoded`](super::Decoded) source.
pub struct DecodedReader<T, F: Format<T>, P = Fail> {
    format: F,
    longest: usize,
    opens: Opens,
    position: DecodedPosition,
    /// For a directory that grows: the choice of the next file.
    coming: Option<Coming>,
    /// The first of the position's pieces.
    open: Option<Open<F::Decoder>>,
    operator: String,
    /// The bytes of its records, decompressed, with headers and what is between them.
    bytes: u64,
    gives: PhantomData<fn() -> (T, P)>,
}

/// A file that is being read.
struct Open<D> {
    frames: Frames,
    /// The same file, to check at the end.
    file: File,
    decoder: D,
    stage: ReaderStage,
}

/// The next thing to read in it.
enum ReaderStage {
    /// The header, which is before the position or at it, after this many line ends.
    Header(u64),
    /// The way to the position.
    GoTo,
    /// The way to the first line that begins in the piece.
    Align,
    /// Records.
    Records,
    /// The way past a line that cannot be read, for this reason.
    Pass(String),
}

/// The result of a step.
enum Stepped {
    /// There is more to do.
    On,
    /// There is more to do, and this took long.
    Long,
    /// The piece was read to its end.
    Over,
}

impl<T, F, P> DecodedReader<T, F, P>
where
    F: Format<T>,
    P: OnMalformed<T>,
{
    pub(super) fn new(
        format: F,
        longest: usize,
        opens: Opens,
        position: DecodedPosition,
        coming: Option<Coming>,
        context: &OpenContext,
    ) -> Self {
        let operator = context.operator.clone();
        let gives = PhantomData;
        Self { format, longest, opens, position, coming, open: None, operator, bytes: 0, gives }
    }

    /// Opens the next file. If there is none, returns the progress to report.
    fn begin(&mut self) -> Result<Option<Progress>, ConnectError> {
        if self.position.pieces.is_empty() {
            let (Some(coming), Some(read)) = (&mut self.coming, &mut self.position.read) else {
                return Ok(Some(Progress::End));
            };
            match coming.next(read)? {
                Next::File(piece) => self.position.pieces.push_back(piece),
                Next::Wait(pause) => return Ok(Some(Progress::Wait(pause))),
                Next::End => return Ok(Some(Progress::End)),
            }
        }
        let Some(piece) = self.position.pieces.front_mut() else { return Ok(Some(Progress::End)) };
        piece.pin(&self.opens)?;
        let (decoder, offset) = (self.format.decoder(), self.position.offset);
        let (from, stage) = match offset {
            _ if decoder.has_header() => (0, ReaderStage::Header(0)),
            0 => (0, ReaderStage::GoTo),
            _ if !self.format.is_lines() => (offset - 1, ReaderStage::GoTo),
            // From one byte before: if that is the end of a line, a line begins at the piece's
            // beginning.
            _ if !piece.is_first() && offset == piece.split.from => {
                (offset - 1, ReaderStage::Align)
            }
            _ => (offset, ReaderStage::GoTo),
        };
        let opens = &self.opens;
        let (mut frames, file) = piece.open(opens, from)?;
        if frames.offset() == 0 && self.format.is_text() {
            let passed = frames.pass_mark();
            if !passed.map_err(|error| piece.failed(opens, frames.reached(), error))? {
                return Err(ConnectError::Utf16 { path: piece.path().to_owned() });
            }
            if offset == 0 && matches!(stage, ReaderStage::GoTo) {
                self.position.offset = frames.offset();
                self.bytes += frames.offset();
            }
        }
        self.open = Some(Open { frames, file, decoder, stage });
        Ok(None)
    }

    /// Ends the first piece, which was read.
    fn end_piece(&mut self) -> Result<(), ConnectError> {
        if let (Some(open), Some(piece)) = (&mut self.open, self.position.pieces.front()) {
            // It was open all the while, and may have been overwritten.
            piece.split.check_mark(&mut open.file)?;
        }
        self.open = None;
        let Some(piece) = self.position.pieces.pop_front() else { return Ok(()) };
        if let (Some(coming), Some(read)) = (&mut self.coming, &mut self.position.read) {
            coming.was_read(&piece, read);
        }
        self.position.offset = self.position.pieces.front().map_or(0, |next| next.split.from);
        self.position.lines = 0;
        Ok(())
    }

    /// Does the next step with the open file.
    fn step<C: Collect<P::Record>>(&mut self, out: &mut C) -> Result<Stepped, ConnectError> {
        let DecodedPosition { pieces, offset, lines, skipped, .. } = &mut self.position;
        let (Some(Open { frames, file, decoder, stage }), Some(piece)) =
            (&mut self.open, pieces.front())
        else {
            return Ok(Stepped::Over);
        };
        let mut at = At { piece, lines, skipped, operator: &self.operator };
        let opens = &self.opens;
        match stage {
            ReaderStage::Header(passed) => {
                if !header((piece, opens), frames, decoder, self.longest, passed)? {
                    return Ok(Stepped::Long);
                }
                let passed = *passed;
                *stage = ReaderStage::GoTo;
                if *offset == 0 {
                    *offset = frames.offset();
                    *at.lines = passed;
                } else if piece.compression() == Compression::None {
                    (*frames, *file) = piece.open(opens, *offset - 1)?;
                }
                decoder.reset();
            }
            ReaderStage::GoTo => {
                // From one byte before: positions of earlier versions may be between the two bytes
                // of a line end.
                let in_lines = self.format.is_lines();
                let before = if in_lines { *offset } else { offset.saturating_sub(1) };
                let there = frames.go_to(before);
                if !there.map_err(|error| piece.failed(opens, frames.reached(), error))? {
                    if frames.is_over() {
                        return Err(too_short(piece, *offset, frames.reached()));
                    }
                    return Ok(Stepped::Long);
                }
                if frames.offset() < *offset {
                    let passed = frames.pass_line_end();
                    *at.lines +=
                        passed.map_err(|error| piece.failed(opens, frames.reached(), error))?;
                    *offset = frames.offset();
                }
                *stage = ReaderStage::Records;
            }
            ReaderStage::Align => {
                let passed = frames.pass_line(0, false);
                if passed.map_err(|error| piece.failed(opens, frames.reached(), error))?.is_none() {
                    return Ok(Stepped::Long);
                }
                *offset = frames.offset();
                *stage = ReaderStage::Records;
            }
            ReaderStage::Records => {
                if piece.is_part() && *offset >= piece.split.to {
                    return Ok(Stepped::Over);
                }
                let next = frames.next(decoder, self.longest);
                let next = next.map_err(|error| piece.failed(opens, frames.reached(), error))?;
                let bytes = match next {
                    Frame::Record(bytes) => bytes,
                    Frame::Rest(bytes) => {
                        piece.check_end(frames.reached())?;
                        match decoder.finish(frames.raw(bytes)) {
                            Ok(true) => bytes,
                            Ok(false) => {
                                *at.lines += frames.pass(bytes);
                                *offset = frames.offset();
                                return Ok(Stepped::On);
                            }
                            Err(why) => {
                                *stage = ReaderStage::Pass(why);
                                return Ok(Stepped::On);
                            }
                        }
                    }
                    Frame::TooLong => {
                        *stage =
                            ReaderStage::Pass(format!("it has more than {} bytes", self.longest));
                        return Ok(Stepped::On);
                    }
                    Frame::End => {
                        piece.check_end(frames.reached())?;
                        return Ok(Stepped::Over);
                    }
                };
                match decoder.decode(frames.raw(bytes)) {
                    Ok(Some(record)) => out.push(P::good(record)),
                    Ok(None) => {}
                    Err(why) => {
                        let raw = frames.raw(bytes);
                        let ends = |byte: &&u8| matches!(byte, b'\n' | b'\r');
                        let (empty, raw) = match self.format.is_lines() {
                            true => raw.split_at(0),
                            false => raw.split_at(raw.iter().take_while(ends).count()),
                        };
                        let before = empty.iter().filter(|&&byte| byte == b'\n').count();
                        at.malformed::<T, P, C>(*offset, before as u64, raw, why, out)?;
                    }
                }
                *at.lines += frames.pass(bytes);
                *offset = frames.offset();
            }
            ReaderStage::Pass(why) => {
                let passed = frames.pass_line(self.longest, !self.format.is_lines());
                let passed =
                    passed.map_err(|error| piece.failed(opens, frames.reached(), error))?;
                let Some(passed) = passed else { return Ok(Stepped::Long) };
                let why = std::mem::take(why);
                at.malformed::<T, P, C>(*offset, passed.empty, &passed.raw, why, out)?;
                *at.lines += passed.lines;
                *offset = frames.offset();
                decoder.reset();
                *stage = ReaderStage::Records;
            }
        }
        Ok(Stepped::On)
    }
}

/// The place of a record.
struct At<'a> {
    piece: &'a Piece,
    lines: &'a mut u64,
    skipped: &'a mut u64,
    operator: &'a str,
}

impl At<'_> {
    /// Handles a malformed record after this many empty lines.
    fn malformed<T, P: OnMalformed<T>, C: Collect<P::Record>>(
        &mut self,
        offset: u64,
        empty: u64,
        raw: &[u8],
        why: String,
        out: &mut C,
    ) -> Result<(), ConnectError> {
        let file = self.piece.split.file.clone();
        let line = (!self.piece.is_part()).then(|| *self.lines + empty + 1);
        let (told, raw) = (why.clone(), raw.to_vec());
        match P::bad(Malformed { file, line, offset, raw, why })? {
            Some(record) => out.push(record),
            None => {
                *self.skipped += 1;
                let skipped = *self.skipped;
                if skipped <= TOLD || skipped == 10_u64.pow(skipped.ilog10()) {
                    let (operator, path) = (self.operator, &self.piece.split.file);
                    tracing::warn!(
                        operator,
                        path,
                        line,
                        offset,
                        why = told,
                        skipped,
                        "a malformed record was skipped"
                    );
                }
            }
        }
        Ok(())
    }
}

/// Empty lines and comments before a header that are skipped in one step.
const AT_ONCE: usize = 64 * 1024;

/// Reads a file's header, if it is not empty, and counts the line ends passed. Returns false if it
/// is to be called again.
fn header<T>(
    (piece, opens): (&Piece, &Opens),
    frames: &mut Frames,
    decoder: &mut impl Decoder<T>,
    longest: usize,
    lines: &mut u64,
) -> Result<bool, ConnectError> {
    let bad = |why| ConnectError::Malformed {
        path: piece.path().to_owned(),
        line: Some(1),
        offset: 0,
        why: format!("the header: {why}"),
    };
    for _ in 0..AT_ONCE {
        let next = frames.next(decoder, longest);
        let bytes = match next.map_err(|error| piece.failed(opens, frames.reached(), error))? {
            Frame::Record(bytes) if decoder.is_nothing(frames.raw(bytes)) => {
                *lines += frames.pass(bytes);
                continue;
            }
            Frame::Record(bytes) => bytes,
            Frame::Rest(bytes) => {
                piece.check_end(frames.reached())?;
                match decoder.finish(frames.raw(bytes)).map_err(bad)? {
                    true => bytes,
                    false => {
                        *lines += frames.pass(bytes);
                        return Ok(true);
                    }
                }
            }
            Frame::TooLong => return Err(bad(format!("it has more than {longest} bytes"))),
            Frame::End => return Ok(true),
        };
        decoder.header(frames.raw(bytes)).map_err(bad)?;
        *lines += frames.pass(bytes);
        return Ok(true);
    }
    Ok(false)
}

fn too_short(piece: &Piece, offset: u64, reached: u64) -> ConnectError {
    ConnectError::BadPosition {
        source: "decoding source",
        why: format!("byte {offset} of `{}`, which has {reached}", piece.split.file),
    }
}

impl<T, F, P> SourceReader for DecodedReader<T, F, P>
where
    T: Send + 'static,
    F: Format<T>,
    P: OnMalformed<T>,
{
    type Record = P::Record;
    type Position = DecodedPosition;

    fn read<C: Collect<P::Record>>(
        &mut self,
        limit: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError> {
        // A step gives one record or none.
        for _ in 0..limit {
            if self.open.is_none()
                && let Some(progress) = self.begin()?
            {
                return Ok(progress);
            }
            // The lines skipped for alignment belong to another piece.
            let aligns =
                self.open.as_ref().is_some_and(|it| matches!(it.stage, ReaderStage::Align));
            let before = self.position.offset;
            let stepped = self.step(out)?;
            if !aligns {
                self.bytes += self.position.offset - before;
            }
            match stepped {
                Stepped::On => {}
                Stepped::Long => break,
                Stepped::Over => self.end_piece()?,
            }
        }
        Ok(Progress::More)
    }

    fn position(&self) -> DecodedPosition {
        self.position.clone()
    }

    fn malformed(&self) -> u64 {
        self.position.skipped
    }

    fn bytes_read(&self) -> Option<u64> {
        Some(self.bytes)
    }
}
