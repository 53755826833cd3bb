//! Compressed files: how one is compressed is said by the end of its name, for those that are read and those that are written.

use std::io::{self, Read};
#[cfg(feature = "formats")]
use std::io::{BufReader, Write};

#[cfg(feature = "formats")]
use flate2::{read::MultiGzDecoder, write::GzEncoder};
#[cfg(feature = "formats")]
use zstd::stream::{read::Decoder as ZstdDecoder, write::Encoder as ZstdEncoder};

/// So many compressed bytes are asked of the system at once.
#[cfg(feature = "formats")]
const BUFFER: usize = 128 * 1024;

/// How a file is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compression {
    None,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

impl Compression {
    /// That of a file of this name. Capitals are no difference.
    pub(super) fn of(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, end)) if end.eq_ignore_ascii_case("gz") => Self::Gzip,
            Some((_, end)) if end.eq_ignore_ascii_case("zst") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Whether the crate was built with what it takes.
    pub(super) const fn is_built_in(self) -> bool {
        cfg!(feature = "formats") || matches!(self, Self::None)
    }

    /// What the bytes say. A file may consist of several compressed ones, one behind the other.
    pub(super) fn reader(self, bytes: impl Read + Send + 'static) -> io::Result<Box<dyn Input>> {
        Ok(match self {
            Self::None => Box::new(bytes),
            #[cfg(feature = "formats")]
            Self::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, bytes))),
            #[cfg(feature = "formats")]
            Self::Zstd => {
                Box::new(ZstdDecoder::with_buffer(BufReader::with_capacity(BUFFER, bytes))?)
            }
            #[cfg(not(feature = "formats"))]
            Self::Gzip | Self::Zstd => return Err(not_built_in()),
        })
    }

    /// What compresses a file.
    pub(super) fn writer(self) -> io::Result<Compressor> {
        Ok(match self {
            Self::None => Compressor::None,
            #[cfg(feature = "formats")]
            Self::Gzip => {
                Compressor::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default()))
            }
            // The level that the format's authors take by default.
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
    let why = "compressed files are read and written with the feature `formats` of the crate alone";
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// Bytes to be read.
pub(super) trait Input: Read + Send {}

impl<R: Read + Send> Input for R {}

/// Compresses one file.
pub(super) enum Compressor {
    None,
    #[cfg(feature = "formats")]
    Gzip(GzEncoder<Vec<u8>>),
    #[cfg(feature = "formats")]
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Compressor {
    /// Takes bytes in, and puts what is to be written in their place: perhaps nothing yet.
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

    /// What is to be written behind all the rest.
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
            // Two of them, one behind the other, are one.
            let mut twice = file.clone();
            twice.extend_from_slice(&file);
            let mut text = String::new();
            let mut reader = compression.reader(io::Cursor::new(twice)).expect("opens");
            reader.read_to_string(&mut text).expect("reads");
            assert_eq!(text.lines().count(), 10_000);
            assert_eq!(text.lines().last(), Some("piece 99"));
            assert!(compression == Compression::None || file.len() < 2_000, "{}", file.len());
        }
    }
}
