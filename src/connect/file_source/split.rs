//! Which files are read, and by whom.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::fingerprint::Fingerprint;
use super::super::{ConnectError, OpenContext};

/// Pieces are not smaller, unless asked for: opening a file costs too.
const SMALLEST: u64 = 64 * 1024;

/// Pieces are not bigger, so that subtasks which are faster than others do not wait long for these.
const BIGGEST: u64 = 32 * 1024 * 1024;

/// A file to be read, and how long it was found to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Input {
    pub(in super::super) file: String,
    pub(in super::super) size: u64,
    /// What tells it from another; `None` if it could not be looked at, which who opens it will say.
    pub(in super::super) mark: Option<Fingerprint>,
}

impl Input {
    fn new(file: String, size: u64) -> Self {
        let mark = File::open(&file).and_then(|mut file| Fingerprint::of(&mut file, size));
        Self { file, size, mark: mark.ok().flatten() }
    }
}

/// A piece of a file: the lines that begin in it. The last of them may end behind it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in super::super) struct Split {
    pub(in super::super) file: String,
    /// The whole file's size. What it has grown by since is not read.
    pub(in super::super) size: u64,
    pub(in super::super) from: u64,
    pub(in super::super) to: u64,
    /// What tells the file from another of its name. The first version did not have it.
    #[serde(default)]
    pub(in super::super) mark: Option<Fingerprint>,
}

impl Split {
    /// Whether the file is there, and at least as long as it was.
    pub(in super::super) fn check(&self) -> Result<(), ConnectError> {
        let path = Path::new(&self.file);
        match fs::metadata(path) {
            Ok(data) => self.check_size(data.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.vanished()),
            Err(error) => Err(ConnectError::io("look at", path)(error)),
        }
    }

    pub(in super::super) fn check_size(&self, found: u64) -> Result<(), ConnectError> {
        if found < self.size { Err(self.shrunk(found)) } else { Ok(()) }
    }

    /// Whether an open file is the one that it was. Where it is read next is left undefined.
    pub(in super::super) fn check_mark(&self, file: &mut File) -> Result<(), ConnectError> {
        let Some(mark) = self.mark else { return Ok(()) };
        let path = Path::new(&self.file);
        match Fingerprint::of(file, self.size).map_err(ConnectError::io("read", path))? {
            Some(found) if found == mark => Ok(()),
            _ => Err(ConnectError::Replaced { path: path.to_owned(), size: self.size }),
        }
    }

    pub(in super::super) fn vanished(&self) -> ConnectError {
        ConnectError::Vanished { path: (&self.file).into(), expected: self.size }
    }

    pub(in super::super) fn shrunk(&self, found: u64) -> ConnectError {
        ConnectError::Shrunk { path: (&self.file).into(), expected: self.size, found }
    }
}

/// The files that a path stands for, in the order of their names.
pub(super) fn inputs(path: &str) -> Result<Vec<Input>, ConnectError> {
    // A file whose name looks like a pattern is a file.
    let mut inputs = match fs::metadata(path) {
        Ok(data) if data.is_dir() => in_directory(Path::new(path))?,
        Ok(data) if data.is_file() => vec![Input::new(path.into(), data.len())],
        // A pipe or a device cannot be read again from a position.
        Ok(_) => return Err(ConnectError::NotAFile { path: path.into() }),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(ConnectError::io("look at", Path::new(path))(error));
        }
        Err(_) if path.contains(['*', '?', '[']) => matching(path)?,
        Err(_) => return Err(ConnectError::NoInput { path: path.into() }),
    };
    inputs.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(inputs)
}

fn in_directory(dir: &Path) -> Result<Vec<Input>, ConnectError> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(dir).map_err(ConnectError::io("list", dir))? {
        let entry = entry.map_err(ConnectError::io("list", dir))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            inputs.extend(input(entry.path())?);
        }
    }
    Ok(inputs)
}

fn matching(pattern: &str) -> Result<Vec<Input>, ConnectError> {
    let paths = glob::glob(pattern).map_err(|error| ConnectError::BadPattern {
        pattern: pattern.into(),
        why: error.to_string(),
    })?;
    let mut inputs = Vec::new();
    for path in paths {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            ConnectError::io("list", &path)(error.into())
        })?;
        inputs.extend(input(path)?);
    }
    if inputs.is_empty() {
        return Err(ConnectError::NoMatch { pattern: pattern.into() });
    }
    Ok(inputs)
}

/// What is at a path, if it is a file.
fn input(path: PathBuf) -> Result<Option<Input>, ConnectError> {
    let data = fs::metadata(&path).map_err(ConnectError::io("look at", &path))?;
    if !data.is_file() {
        return Ok(None);
    }
    let file = path.into_os_string().into_string().map_err(|name| ConnectError::BadName {
        what: "the input",
        name: name.to_string_lossy().into_owned(),
        why: "checkpoints hold names of files as text, and it is not UTF-8",
    })?;
    Ok(Some(Input::new(file, data.len())))
}

/// One subtask's share: of all pieces of all files, piece i is subtask `i % parallelism`'s.
pub(super) fn splits(inputs: &[Input], bytes: Option<u64>, context: &OpenContext) -> Vec<Split> {
    let parallelism = context.parallelism as u64;
    let total: u64 = inputs.iter().map(|input| input.size).sum();
    let piece = bytes.unwrap_or(total.div_ceil(parallelism).clamp(SMALLEST, BIGGEST));
    let pieces = inputs.iter().flat_map(|Input { file, size, mark }| {
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
