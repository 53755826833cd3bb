//! A file, or a piece of one, to be read.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::Inputs;
use super::frames::Frames;
use crate::compress::{Compression, Refused};
use crate::file_source::{Split, SplitFile};
use crate::plain_file;
use snapline_core::connect::text::MARK;
use snapline_core::connect::{ConnectError, ConnectorError};

/// The rules for opening files.
pub(super) struct Opens {
    pub(super) inputs: Inputs,
    /// The distance that a zstd file may look back, as a power of two.
    pub(super) window: u32,
}

/// A file, or a piece of one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Piece {
    /// `to` is the whole file's size where it is read whole.
    pub(super) split: Split,
    /// The time of the file's last change, in nanoseconds since 1970, if it must not change
    /// meanwhile.
    pub(super) modified: Option<u64>,
}

impl Piece {
    /// The pieces of a file, of this many bytes each. A compressed file, and any file if `bytes` is
    /// `None`, is one piece.
    pub(super) fn of(input: &SplitFile, bytes: Option<u64>) -> Vec<Self> {
        let SplitFile { file, size, mark } = input;
        let bytes = bytes.filter(|_| Compression::of(file) == Compression::None);
        // A byte order mark is within the first piece.
        let bytes = bytes.unwrap_or(u64::MAX).max(MARK.len() as u64 + 1);
        let piece = |from: u64| Self {
            split: Split {
                file: file.clone(),
                size: *size,
                from,
                to: from.saturating_add(bytes).min(*size),
                mark: *mark,
            },
            modified: None,
        };
        (0..size.div_ceil(bytes)).map(|number| piece(number * bytes)).collect()
    }

    /// A file of a directory that grows.
    pub(super) fn whole(file: String, data: &fs::Metadata) -> Self {
        let size = data.len();
        let split = Split { file, size, from: 0, to: size, mark: None };
        Self { split, modified: Some(modified(data)) }
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(&self.split.file)
    }

    pub(super) fn compression(&self) -> Compression {
        Compression::of(&self.split.file)
    }

    /// True if it begins where the file does.
    pub(super) const fn is_first(&self) -> bool {
        self.split.from == 0
    }

    /// True if it is a part of a file, in which lines are not counted.
    pub(super) const fn is_part(&self) -> bool {
        self.split.from > 0 || self.split.to < self.split.size
    }

    /// Records the identity of the file when it is begun, if that is not known. Where the directory
    /// grows, compares it: a copy of the begun file has another time and the same content.
    pub(super) fn pin(&mut self, opens: &Opens) -> Result<(), ConnectError> {
        if self.modified.is_none() && self.split.mark.is_some() {
            return Ok(());
        }
        let (mut file, data) = self.file(opens)?;
        if self.split.mark.is_none() {
            self.check(&data)?;
            self.split.pin(&mut file)?;
        } else if self.modified != Some(modified(&data)) {
            self.split.check_size(data.len())?;
            if self.split.size != data.len() || self.split.check_mark(&mut file).is_err() {
                return Err(ConnectError::Changed { path: self.path().to_owned() });
            }
            self.modified = Some(modified(&data));
        }
        Ok(())
    }

    /// Takes a file of a directory that grows as it is now, if reading can resume at this byte.
    pub(super) fn accept(&mut self, offset: u64) {
        let Ok(data) = fs::metadata(self.path()) else { return };
        let least = if self.compression() == Compression::None { offset } else { 0 };
        let same = self.modified == Some(modified(&data)) && self.split.size == data.len();
        if !same && data.is_file() && least <= data.len() {
            let (file, was, size) = (&self.split.file, self.split.size, data.len());
            tracing::warn!(
                file,
                was,
                size,
                "a file was changed, and reading continues in it as it is"
            );
            *self = Self::whole(file.clone(), &data);
        }
    }

    fn file(&self, opens: &Opens) -> Result<(File, fs::Metadata), ConnectError> {
        let opened = plain_file::open(self.path(), opens.inputs.follows(&self.split.file));
        opened.map_err(|error| match error.io_kind() {
            Some(ErrorKind::NotFound) => self.split.vanished(),
            _ => error,
        })
    }

    /// Opens the file at a byte; a compressed one at its beginning. Also returns the file, with
    /// which [`Self::check_end`] is called.
    pub(super) fn open(&self, opens: &Opens, offset: u64) -> Result<(Frames, File), ConnectError> {
        let path = self.path();
        let (mut file, data) = self.file(opens)?;
        self.check(&data)?;
        plain_file::check_length(&mut file, &data, path)?;
        self.split.check_mark(&mut file)?;
        let same = file.try_clone().map_err(ConnectError::io("open", path))?;
        let from = if self.compression() == Compression::None { offset } else { 0 };
        file.seek(SeekFrom::Start(from)).map_err(ConnectError::io("read", path))?;
        let bytes = file.take(self.split.size.saturating_sub(from));
        let input = self.compression().reader(bytes, opens.window);
        let input = input.map_err(ConnectError::io("read", path))?;
        Ok((Frames::new(input, from), same))
    }

    fn check(&self, data: &fs::Metadata) -> Result<(), ConnectError> {
        self.split.check_size(data.len())?;
        if self.modified.is_some_and(|then| then != modified(data) || self.split.size != data.len())
        {
            return Err(ConnectError::Changed { path: self.path().to_owned() });
        }
        Ok(())
    }

    /// After all of it was read, up to this byte of its content: checks that the file is unchanged.
    pub(super) fn check_end(&self, reached: u64) -> Result<(), ConnectError> {
        if self.compression() == Compression::None && reached < self.split.size {
            return Err(self.split.shrunk(reached));
        }
        if self.modified.is_none() {
            return Ok(());
        }
        match fs::metadata(self.path()) {
            Ok(data) => self.check(&data),
            // It was open: all of it was read.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ConnectError::io("inspect", self.path())(error)),
        }
    }

    /// The error for a failed read.
    pub(super) fn failed(
        &self,
        opens: &Opens,
        reached: u64,
        error: std::io::Error,
    ) -> ConnectError {
        let kind = match self.compression() {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::None => return ConnectError::io("read", self.path())(error),
        };
        match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(Refused::Window) => {
                return ConnectError::Window {
                    path: self.path().to_owned(),
                    limit: 1 << opens.window,
                };
            }
            Some(Refused::Trailing) => {
                let why = format!(
                    "other bytes follow its {kind} data, which are {reached} decompressed bytes"
                );
                return ConnectError::Trailing { path: self.path().to_owned(), why };
            }
            None => {}
        }
        let why = match error.kind() {
            ErrorKind::UnexpectedEof => {
                format!("the {kind} file is cut short after {reached} decompressed bytes")
            }
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => {
                format!("the {kind} file is damaged after {reached} decompressed bytes: {error}")
            }
            _ => return ConnectError::io("read", self.path())(error),
        };
        ConnectError::Damaged { path: self.path().to_owned(), why }
    }
}

/// The time of a file's last change, in nanoseconds since 1970; 0 where that is not known.
fn modified(data: &fs::Metadata) -> u64 {
    let since = data.modified().ok().and_then(|then| then.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileSource;

    /// For instance, there were too many open files when it was listed.
    #[test]
    fn a_file_that_could_not_be_looked_at_is_when_it_is_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        fs::write(&path, "1\n").expect("writes");
        let file = path.to_str().expect("UTF-8").to_owned();
        let mut piece = Piece::of(&SplitFile { file, size: 2, mark: None }, None).remove(0);
        let opens = Opens { inputs: Inputs::There(FileSource::path(&path)), window: 20 };
        piece.pin(&opens).expect("looks at it");
        assert!(piece.split.mark.is_some());
    }
}
