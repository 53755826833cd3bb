//! Plain files, which can be read again from a position. Opening another kind of entry neither
//! waits nor follows links unasked.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use snapline_core::connect::ConnectError;

/// The entry under a name in a directory.
pub(super) enum Found {
    /// A plain file.
    File(Metadata),
    /// A directory.
    Directory,
    /// A link, which is not followed.
    Link,
    /// A pipe, a socket or a device.
    Other,
    /// Nothing any more; or a link that leads nowhere.
    Nothing,
}

/// Examines the entry under a name.
pub(super) fn look(path: &Path, follow: bool) -> Result<Found, ConnectError> {
    let data = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
    match data {
        Ok(data) if data.is_file() => Ok(Found::File(data)),
        Ok(data) if data.is_dir() => Ok(Found::Directory),
        Ok(data) if data.is_symlink() => Ok(Found::Link),
        Ok(_) => Ok(Found::Other),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(ConnectError::io("inspect", path)(error)),
    }
}

impl Found {
    /// Warns that the entry is skipped, if a user might expect it to be read.
    pub(super) fn warn(&self, path: &Path) {
        let why = match self {
            Self::File(_) | Self::Directory => return,
            Self::Link => "it is a link, and links are not followed: `follow_links` follows them",
            Self::Other => "it is neither a file nor a directory",
            Self::Nothing => "it is gone, or a link that leads nowhere",
        };
        tracing::warn!(path = %path.display(), why, "an input was skipped");
    }
}

/// True if a path leads over links, below a named directory.
pub(super) fn is_linked(path: &Path, below: &Path) -> Result<bool, ConnectError> {
    let plain = |path| Path::strip_prefix(path, ".").unwrap_or(path);
    let below = plain(below);
    let inside = |part: &&Path| part.starts_with(below) && *part != below;
    for part in plain(path).ancestors().filter(inside) {
        match fs::symlink_metadata(part) {
            Ok(data) if data.is_symlink() => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(ConnectError::io("inspect", part)(error)),
        }
    }
    Ok(false)
}

/// Opens a plain file, and never waits for another kind of entry.
pub(super) fn open(path: &Path, follow: bool) -> Result<(File, Metadata), ConnectError> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    use rustix::fs::OFlags;
    #[cfg(unix)]
    use std::os::unix::fs::OpenOptionsExt;
    #[cfg(unix)]
    let links = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    #[cfg(unix)]
    {
        // Opening a pipe would wait until another process writes to it.
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY | links).bits().cast_signed());
    }
    let is_link = || !follow && fs::symlink_metadata(path).is_ok_and(|data| data.is_symlink());
    let link = || ConnectError::Link { path: path.to_owned() };
    #[cfg(not(unix))]
    if is_link() {
        return Err(link());
    }
    let is_file = || fs::metadata(path).is_ok_and(|data| data.is_file());
    let opened = match options.open(path) {
        // Another process has a lease on it, which ends soon: the open waits for that.
        #[cfg(unix)]
        Err(error) if error.kind() == ErrorKind::WouldBlock && is_file() => {
            options.custom_flags((OFlags::NOCTTY | links).bits().cast_signed()).open(path)
        }
        opened => opened,
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() != ErrorKind::NotFound && is_link() => return Err(link()),
        Err(error) => {
            let is_odd = |data: Metadata| !data.is_file() && !data.is_dir();
            // A socket cannot be opened at all.
            if fs::metadata(path).is_ok_and(is_odd) {
                return Err(ConnectError::NotAFile { path: path.to_owned() });
            }
            return Err(ConnectError::io("open", path)(error));
        }
    };
    let data = file.metadata().map_err(ConnectError::io("inspect", path))?;
    match data.is_file() {
        true => Ok((file, data)),
        false => Err(ConnectError::NotAFile { path: path.to_owned() }),
    }
}

/// Checks that a file is as long as reported. System files, as in `/proc`, are reported as empty or
/// a page long, and end elsewhere on each read.
pub(super) fn check_length(
    file: &mut File,
    data: &Metadata,
    path: &Path,
) -> Result<(), ConnectError> {
    let size = data.len();
    #[cfg(unix)]
    let may_lie = size == 0 || std::os::unix::fs::MetadataExt::blocks(data) == 0;
    #[cfg(not(unix))]
    let may_lie = size == 0;
    if !may_lie {
        return Ok(());
    }
    let failed = || ConnectError::io("read", path);
    let is_there = |file: &mut File, offset: u64| -> io::Result<bool> {
        file.seek(SeekFrom::Start(offset))?;
        // A file that has nothing now, and may have later.
        match file.read(&mut [0]) {
            Ok(bytes) => Ok(bytes > 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(size == 0),
            Err(error) => Err(error),
        }
    };
    let wanted = size.saturating_sub(1);
    let lies = is_there(file, wanted).map_err(failed())? == (size == 0);
    // It may have grown, or been cut, since it was examined.
    let now = file.metadata().map_err(failed())?.len();
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    match lies && now == size {
        true => Err(ConnectError::NoLength { path: PathBuf::from(path), said: size }),
        false => Ok(()),
    }
}
