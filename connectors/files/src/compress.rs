//! Compressed files, read and written: the end of a file's name determines its compression.

#[cfg(feature = "formats")]
use std::fmt;
use std::io::{self, Read};
#[cfg(feature = "formats")]
use std::io::{BufRead, BufReader, Write};

#[cfg(feature = "formats")]
use flate2::{bufread::GzDecoder, write::GzEncoder};
#[cfg(feature = "formats")]
use zstd::stream::{read::Decoder as ZstdDecoder, write::Encoder as ZstdEncoder};

/// Compressed bytes of one read.
#[cfg(feature = "formats")]
const BUFFER: usize = 128 * 1024;

/// The distance that a zstd file may look back, as a power of two of bytes, by default: 128 MiB,
/// zstd's own limit.
pub(super) const WINDOW: u32 = 27;

/// The compression of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compression {
    None,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

impl Compression {
    /// The compression of a file of this name, in capitals or not.
    pub(super) fn of(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, end)) if end.eq_ignore_ascii_case("gz") => Self::Gzip,
            Some((_, end)) if end.eq_ignore_ascii_case("zst") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// True if the crate was built with the features that it needs.
    pub(super) const fn is_built_in(self) -> bool {
        cfg!(feature = "formats") || matches!(self, Self::None)
    }

    /// Reads the decompressed bytes. A file may consist of several compressed ones, one after the
    /// other, and zeros may fill it up. An empty file has no content, compressed or not. A zstd
    /// file may look back by at most two to the power of `window` bytes.
    pub(super) fn reader(
        self,
        bytes: impl Read + Send + 'static,
        window: u32,
    ) -> io::Result<Box<dyn Input>> {
        #[cfg(not(feature = "formats"))]
        let _ = window;
        Ok(match self {
            Self::None => Box::new(bytes),
            #[cfg(feature = "formats")]
            Self::Gzip | Self::Zstd => {
                let bytes: Box<dyn Input> = Box::new(bytes);
                let bytes = BufReader::with_capacity(BUFFER, bytes);
                Box::new(Members {
                    kind: self,
                    window,
                    first: true,
                    at: StreamPosition::Between(bytes),
                })
            }
            #[cfg(not(feature = "formats"))]
            Self::Gzip | Self::Zstd => return Err(not_built_in()),
        })
    }

    /// A compressor for one file.
    pub(super) fn writer(self) -> io::Result<Compressor> {
        Ok(match self {
            Self::None => Compressor::None,
            #[cfg(feature = "formats")]
            Self::Gzip => {
                Compressor::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default()))
            }
            // The format's default level.
            #[cfg(feature = "formats")]
            Self::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), 3)?;
                encoder.include_checksum(true)?;
                Compressor::Zstd(encoder)
            }
            #[cfg(not(feature = "formats"))]
            Self::Gzip | Self::Zstd => return Err(not_built_in()),
        })
    }
}

#[cfg(not(feature = "formats"))]
fn not_built_in() -> io::Error {
    let why = "compressed files need the crate's feature `formats`";
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// Bytes to be read.
pub(super) trait Input: Read + Send {}

impl<R: Read + Send> Input for R {}

/// Why an undamaged file cannot be decompressed.
#[cfg(feature = "formats")]
pub(super) enum Refused {
    /// A zstd file looks back further than is allowed.
    Window,
    /// Other bytes follow the compressed ones.
    Trailing,
}

#[cfg(feature = "formats")]
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Window => "it takes more memory to decompress than is allowed",
            Self::Trailing => "other bytes follow the compressed data",
        })
    }
}

#[cfg(feature = "formats")]
snapline_protocol::error_in_words!(Refused);

/// Compressed input.
#[cfg(feature = "formats")]
type Packed = BufReader<Box<dyn Input>>;

/// Decompresses a file: its members, one after the other.
#[cfg(feature = "formats")]
struct Members {
    kind: Compression,
    window: u32,
    /// True if no member has ended yet.
    first: bool,
    at: StreamPosition,
}

#[cfg(feature = "formats")]
enum StreamPosition {
    Between(Packed),
    Gzip(GzDecoder<Packed>),
    Zstd(ZstdDecoder<'static, Packed>),
    Over,
}

#[cfg(feature = "formats")]
impl Members {
    /// Begins the next member, if there is one here.
    fn begin(&mut self) -> io::Result<()> {
        let StreamPosition::Between(bytes) = &mut self.at else { return Ok(()) };
        let mut next = bytes.fill_buf()?.first().copied();
        if !self.first && next == Some(0) {
            // Zeros fill the file up to its end, like the rest of a tape block.
            while next == Some(0) {
                let some = bytes.fill_buf()?;
                let zeros = some.iter().take_while(|&&byte| byte == 0).count();
                bytes.consume(zeros);
                next = bytes.fill_buf()?.first().copied();
            }
            if next.is_some() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, Refused::Trailing));
            }
        }
        let begins = match (self.kind, next) {
            (_, None) => {
                self.at = StreamPosition::Over;
                return Ok(());
            }
            (Compression::Gzip, Some(byte)) => byte == 0x1f,
            // A data frame, or a skippable one.
            (_, Some(byte)) => byte == 0x28 || byte & 0xf0 == 0x50,
        };
        if !self.first && !begins {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Refused::Trailing));
        }
        let StreamPosition::Between(bytes) = std::mem::replace(&mut self.at, StreamPosition::Over)
        else {
            return Ok(());
        };
        self.at = match self.kind {
            Compression::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(bytes)?;
                decoder.window_log_max(self.window)?;
                StreamPosition::Zstd(decoder.single_frame())
            }
            _ => StreamPosition::Gzip(GzDecoder::new(bytes)),
        };
        Ok(())
    }
}

#[cfg(feature = "formats")]
impl Read for Members {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        loop {
            let read = match &mut self.at {
                StreamPosition::Over => return Ok(0),
                StreamPosition::Between(_) => {
                    self.begin()?;
                    continue;
                }
                StreamPosition::Gzip(decoder) => decoder.read(to)?,
                StreamPosition::Zstd(decoder) => decoder.read(to).map_err(|error| {
                    // The library has no other sign of this error.
                    match error.to_string().contains("too much memory") {
                        true => io::Error::new(io::ErrorKind::InvalidData, Refused::Window),
                        false => error,
                    }
                })?,
            };
            if read > 0 {
                return Ok(read);
            }
            self.first = false;
            self.at = match std::mem::replace(&mut self.at, StreamPosition::Over) {
                StreamPosition::Gzip(decoder) => StreamPosition::Between(decoder.into_inner()),
                StreamPosition::Zstd(decoder) => StreamPosition::Between(decoder.finish()),
                other => other,
            };
        }
    }
}

/// A compressor of one file.
pub(super) enum Compressor {
    None,
    #[cfg(feature = "formats")]
    Gzip(GzEncoder<Vec<u8>>),
    #[cfg(feature = "formats")]
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Compressor {
    /// Takes bytes in, and replaces them with the bytes to be written: perhaps none yet.
    #[cfg(feature = "formats")]
    pub(super) fn take(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let out = match self {
            Self::None => return Ok(()),
            Self::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                encoder.get_mut()
            }
            Self::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.get_mut()
            }
        };
        bytes.clear();
        bytes.append(out);
        Ok(())
    }

    #[cfg(not(feature = "formats"))]
    pub(super) fn take(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    /// The bytes to be written after all the rest.
    pub(super) fn end(self) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(Vec::new()),
            #[cfg(feature = "formats")]
            Self::Gzip(encoder) => encoder.finish(),
            #[cfg(feature = "formats")]
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(all(test, feature = "formats"))]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_files_are_compressed() {
        for (name, compression) in [
            ("a.csv", Compression::None),
            ("gz", Compression::None),
            ("a.csv.gz", Compression::Gzip),
            ("A.GZ", Compression::Gzip),
            ("logs.gz/a.zst", Compression::Zstd),
            ("", Compression::None),
        ] {
            assert_eq!(Compression::of(name), compression, "{name}");
        }
    }

    #[test]
    fn what_is_compressed_piece_by_piece_is_read_again() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut writer = compression.writer().expect("begins");
            let mut file = Vec::new();
            for piece in 0..100_u32 {
                let mut bytes = format!("piece {piece}\n").repeat(50).into_bytes();
                writer.take(&mut bytes).expect("takes");
                file.append(&mut bytes);
            }
            file.append(&mut writer.end().expect("ends"));
            // Two files, one after the other, are one file.
            let mut twice = file.clone();
            twice.extend_from_slice(&file);
            let mut text = String::new();
            let mut reader = compression.reader(io::Cursor::new(twice), WINDOW).expect("opens");
            reader.read_to_string(&mut text).expect("reads");
            assert_eq!(text.lines().count(), 10_000);
            assert_eq!(text.lines().last(), Some("piece 99"));
            assert!(compression == Compression::None || file.len() < 2_000, "{}", file.len());
        }
    }

    fn read(compression: Compression, bytes: Vec<u8>, window: u32) -> io::Result<String> {
        let mut text = String::new();
        compression.reader(io::Cursor::new(bytes), window)?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn refused(result: io::Result<String>) -> String {
        let error = result.expect_err("refused");
        let inner = error.get_ref().and_then(|error| error.downcast_ref::<Refused>());
        format!("{:?}", inner.unwrap_or_else(|| panic!("{error}")))
    }

    #[test]
    fn zeros_fill_up_and_anything_else_is_said() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            assert_eq!(read(compression, Vec::new(), WINDOW).expect("reads"), "");
            let mut writer = compression.writer().expect("begins");
            let mut file = b"text".to_vec();
            writer.take(&mut file).expect("takes");
            file.append(&mut writer.end().expect("ends"));
            for zeros in [1, 512, 1 << 20] {
                let padded = [file.clone(), vec![0; zeros]].concat();
                assert_eq!(read(compression, padded.clone(), WINDOW).expect("reads"), "text");
                let more = [padded, file.clone()].concat();
                assert_eq!(
                    refused(read(compression, more, WINDOW)),
                    "other bytes follow the compressed data"
                );
            }
            let more = [file.clone(), b"more".to_vec()].concat();
            assert_eq!(
                refused(read(compression, more, WINDOW)),
                "other bytes follow the compressed data"
            );
            let cut = read(compression, file[..file.len() - 1].to_vec(), WINDOW);
            assert_eq!(cut.expect_err("cut short").kind(), io::ErrorKind::UnexpectedEof);
            assert!(read(compression, vec![0; 99], WINDOW).is_err());
        }
    }

    #[test]
    fn long_windows_are_read_where_they_are_allowed() {
        let mut encoder = ZstdEncoder::new(Vec::new(), 1).expect("begins");
        encoder.window_log(28).expect("can be");
        encoder.write_all(b"text").expect("writes");
        let file = encoder.finish().expect("ends");
        let text = read(Compression::Zstd, file.clone(), WINDOW);
        assert_eq!(refused(text), "it takes more memory to decompress than is allowed");
        assert_eq!(read(Compression::Zstd, file, 28).expect("reads"), "text");
    }
}
