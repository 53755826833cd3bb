//! The files to read, and their distribution among subtasks.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::plain_file::{self, Found};
use snapline_core::base::watch::beat;
use snapline_core::connect::{ConnectError, ConnectorError, OpenContext};

/// The smallest piece, unless smaller ones are requested: opening a file has a cost too.
const SMALLEST: u64 = 64 * 1024;

/// The biggest piece, so that faster subtasks do not wait long for slower ones.
const BIGGEST: u64 = 32 * 1024 * 1024;

/// A file to be read, and its length when it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SplitFile {
    pub(crate) file: String,
    pub(crate) size: u64,
    /// The file's identity; `None` if it could not be examined: then it is recorded when the file
    /// is opened, or that fails with the reason.
    pub(crate) mark: Option<Fingerprint>,
}

impl SplitFile {
    fn new(file: String, size: u64, follow: bool) -> Self {
        beat();
        let open = plain_file::open(Path::new(&file), follow).ok();
        let mark = open.and_then(|(mut file, _)| Fingerprint::of(&mut file, size).ok().flatten());
        Self { file, size, mark }
    }
}

/// A piece of a file: the lines that begin in it. The last of them may end after it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Split {
    pub(crate) file: String,
    /// The whole file's size. Bytes added later are not read.
    pub(crate) size: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The file's identity among others of its name. The first version did not have it.
    #[serde(default)]
    pub(crate) mark: Option<Fingerprint>,
}

impl Split {
    /// Checks that the file is there, and at least as long as it was.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        beat();
        let path = Path::new(&self.file);
        match fs::metadata(path) {
            Ok(data) => self.check_size(data.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.vanished()),
            Err(error) => Err(ConnectError::io("inspect", path)(error)),
        }
    }

    pub(crate) fn check_size(&self, found: u64) -> Result<(), ConnectError> {
        if found < self.size { Err(self.shrunk(found)) } else { Ok(()) }
    }

    /// Checks that an open file is unchanged. Leaves the read position undefined.
    pub(crate) fn check_mark(&self, file: &mut File) -> Result<(), ConnectError> {
        let Some(mark) = self.mark else { return Ok(()) };
        let path = Path::new(&self.file);
        match Fingerprint::of(file, self.size).map_err(ConnectError::io("read", path))? {
            Some(found) if found == mark => Ok(()),
            _ => Err(ConnectError::Replaced { path: path.to_owned(), size: self.size }),
        }
    }

    /// Records the file's identity, if it is not known. Leaves the read position undefined.
    pub(crate) fn pin(&mut self, file: &mut File) -> Result<(), ConnectError> {
        let mark = Fingerprint::of(file, self.size);
        self.mark = mark.map_err(ConnectError::io("read", Path::new(&self.file)))?;
        Ok(())
    }

    pub(crate) fn vanished(&self) -> ConnectError {
        ConnectError::Vanished { path: (&self.file).into(), expected: self.size }
    }

    pub(crate) fn shrunk(&self, found: u64) -> ConnectError {
        ConnectError::Shrunk { path: (&self.file).into(), expected: self.size, found }
    }
}

/// The files that a path stands for, in the order of their names.
pub(super) fn inputs(path: &str, follow: bool) -> Result<Vec<SplitFile>, ConnectError> {
    // A file whose name looks like a pattern is a file.
    let mut inputs = match fs::metadata(path) {
        Ok(data) if data.is_dir() => in_directory(Path::new(path), follow)?,
        Ok(data) if data.is_file() => {
            check(Path::new(path), &data, true)?;
            vec![SplitFile::new(path.into(), data.len(), true)]
        }
        // A pipe or a device cannot be read again from a position.
        Ok(_) => return Err(ConnectError::NotAFile { path: path.into() }),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(ConnectError::io("inspect", Path::new(path))(error));
        }
        Err(_) if path.contains(['*', '?', '[']) => matching(path, follow)?,
        Err(_) => return Err(ConnectError::NoInput { path: path.into() }),
    };
    inputs.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(inputs)
}

fn in_directory(dir: &Path, follow: bool) -> Result<Vec<SplitFile>, ConnectError> {
    let mut found = Listing::new(follow);
    for entry in fs::read_dir(dir).map_err(ConnectError::io("list", dir))? {
        let entry = entry.map_err(ConnectError::io("list", dir))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.take(entry.path(), dir)?;
        }
    }
    found.end(dir)
}

fn matching(pattern: &str, follow: bool) -> Result<Vec<SplitFile>, ConnectError> {
    let paths = glob::glob(pattern).map_err(|error| ConnectError::BadPattern {
        pattern: pattern.into(),
        why: error.to_string(),
    })?;
    // The part that names a directory comes from the user, and may lead over links.
    let named: PathBuf = Path::new(pattern)
        .components()
        .take_while(|part| {
            !part.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte))
        })
        .collect();
    let mut found = Listing::new(follow);
    for path in paths {
        let path = match path {
            Ok(path) => path,
            // Removed while it was listed.
            Err(error) if error.error().kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                let path = error.path().to_owned();
                return Err(ConnectError::io("list", &path)(error.into()));
            }
        };
        found.take(path, &named)?;
    }
    let inputs = found.end(Path::new(pattern))?;
    if inputs.is_empty() {
        return Err(ConnectError::NoMatch { pattern: pattern.into() });
    }
    Ok(inputs)
}

/// Files that were found; also notes skipped links.
struct Listing {
    follow: bool,
    inputs: Vec<SplitFile>,
    links: bool,
}

impl Listing {
    const fn new(follow: bool) -> Self {
        Self { follow, inputs: Vec::new(), links: false }
    }

    /// Takes the entry at a path, below a named directory, if it is a file.
    fn take(&mut self, path: PathBuf, named: &Path) -> Result<(), ConnectError> {
        beat();
        let found = match !self.follow && plain_file::is_linked(&path, named)? {
            true => Found::Link,
            false => plain_file::look(&path, self.follow)?,
        };
        found.warn(&path);
        match found {
            Found::File(data) => {
                check(&path, &data, self.follow)?;
                self.inputs.push(input(path, data.len(), self.follow)?);
            }
            Found::Link => self.links = true,
            _ => {}
        }
        Ok(())
    }

    fn end(self, place: &Path) -> Result<Vec<SplitFile>, ConnectError> {
        match self.inputs.is_empty() && self.links {
            true => Err(ConnectError::OnlyLinks { path: place.to_owned() }),
            false => Ok(self.inputs),
        }
    }
}

/// Checks that a file is as long as reported; it is opened only in case of doubt.
fn check(path: &Path, data: &fs::Metadata, follow: bool) -> Result<(), ConnectError> {
    #[cfg(unix)]
    let doubtful = data.len() == 0 || std::os::unix::fs::MetadataExt::blocks(data) == 0;
    #[cfg(not(unix))]
    let doubtful = data.len() == 0;
    if !doubtful {
        return Ok(());
    }
    match plain_file::open(path, follow) {
        Ok((mut file, data)) => plain_file::check_length(&mut file, &data, path),
        // Its kind, or that it is gone, is reported when it is read, if there is anything to read.
        Err(error) if error.io_kind().is_some() => Ok(()),
        Err(error) => Err(error),
    }
}

fn input(path: PathBuf, size: u64, follow: bool) -> Result<SplitFile, ConnectError> {
    let file = path.into_os_string().into_string().map_err(|name| ConnectError::BadName {
        what: "the input",
        name: name.to_string_lossy().into_owned(),
        why: "checkpoints hold file names as text, and this name is not UTF-8",
    })?;
    Ok(SplitFile::new(file, size, follow))
}

/// One subtask's share: of all pieces of all files, piece i belongs to subtask `i % parallelism`.
pub(super) fn splits(
    inputs: &[SplitFile],
    bytes: Option<u64>,
    context: &OpenContext,
) -> Vec<Split> {
    let parallelism = context.parallelism as u64;
    let total: u64 = inputs.iter().map(|input| input.size).sum();
    let piece = bytes.unwrap_or(total.div_ceil(parallelism).clamp(SMALLEST, BIGGEST));
    let pieces = inputs.iter().flat_map(|SplitFile { file, size, mark }| {
        (0..size.div_ceil(piece)).map(move |number| Split {
            file: file.clone(),
            size: *size,
            from: number * piece,
            to: (number * piece).saturating_add(piece).min(*size),
            mark: *mark,
        })
    });
    pieces.skip(context.index).step_by(context.parallelism).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use snapline_core::base::watch;
    use snapline_core::base::watch::Watch;

    /// However many files there are, the thread that lists them shows progress.
    #[test]
    fn who_lists_files_says_with_each_that_it_comes_further() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("a"), "a\n").expect("writes");
        let path = dir.path().to_str().expect("UTF-8");
        let watch = Watch::default();
        let comes_further = |does: &dyn Fn()| {
            watch.over(|| {
                watch::begin("a test", None);
                let took = || watch.hung(Duration::ZERO).map(|hung| hung.time);
                while took().is_none_or(|took| took < Duration::from_millis(20)) {
                    std::hint::spin_loop();
                }
                let at = Instant::now();
                does();
                took().is_none_or(|took| took <= at.elapsed())
            })
        };
        assert!(!comes_further(&|| ()));
        assert!(comes_further(&|| assert_eq!(inputs(path, false).expect("lists").len(), 1)));
        let input = inputs(path, false).expect("lists").remove(0);
        let SplitFile { file, size, mark } = input;
        let split = Split { file, size, from: 0, to: size, mark };
        assert!(comes_further(&|| split.check().expect("it is there")));
    }
}
