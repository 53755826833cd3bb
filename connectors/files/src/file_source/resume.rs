//! Compares the files of a restored position with those that the job reads now.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use snapline_core::fs::{plain_path, same_path};

use super::split::Split;
use crate::fingerprint::Fingerprint;
use crate::plain_file;
use snapline_core::base::watch::beat;
use snapline_core::connect::ConnectError;

/// The rules for resuming at a position that names files.
#[derive(Clone, Default, Debug)]
pub(crate) struct Resume {
    /// The path under which checkpoints know the files, if they were moved.
    pub(crate) moved_from: Option<String>,
    /// True if files may have been changed.
    pub(crate) accept_changed: bool,
}

impl Resume {
    /// Compares the path of a position with the path that the job reads `now`, and gives moved
    /// files their new places. A position of the first version has no path: then its files must be
    /// under the job's path.
    pub(crate) fn at<'a>(
        &self,
        was: Option<&str>,
        now: &str,
        files: impl Iterator<Item = &'a mut String>,
    ) -> Result<(), ConnectError> {
        let other = |was: &str| ConnectError::OtherPath { was: was.into(), now: now.into() };
        let moved = |was: &str| self.moved_from.as_deref().is_some_and(|from| same_path(from, was));
        match was {
            Some(was) if same_path(was, now) => return Ok(()),
            Some(was) if !moved(was) => return Err(other(was)),
            _ => {}
        }
        for file in files {
            if was.is_none() && under(file, now) {
                continue;
            }
            let from = self.moved_from.as_deref().ok_or_else(|| other(file))?;
            *file = relocated(file, from, now).ok_or_else(|| other(file))?;
        }
        Ok(())
    }

    /// Takes files as they are now, if `accept_changed` is set. Records the identity of the files
    /// if a position of the first version has none. `offset` is where the first file resumes,
    /// `None` if that is not a byte of the file.
    pub(crate) fn files<'a>(
        &self,
        splits: impl Iterator<Item = &'a mut Split>,
        offset: Option<u64>,
    ) {
        let mut seen: BTreeMap<String, Option<CurrentFile>> = BTreeMap::new();
        let mut unknown = None;
        for (place, split) in splits.enumerate() {
            if split.mark.is_some() && !self.accept_changed {
                continue;
            }
            let least = if place == 0 { offset } else { None };
            let found = match seen.get(&split.file) {
                Some(found) => *found,
                None => {
                    let found = CurrentFile::of(split);
                    seen.insert(split.file.clone(), found);
                    found
                }
            };
            // The code that opens the file reports that it cannot be examined.
            let Some(CurrentFile { size, mark, whole }) = found else { continue };
            let same = split.mark.map_or(size >= split.size, |then| mark == Some(then));
            if split.mark.is_none() {
                unknown = unknown.or_else(|| Some(split.file.clone()));
                split.mark = mark;
            }
            if !same && self.accept_changed && least.is_none_or(|least| least <= size) {
                if split.from == 0 || place == 0 {
                    let (file, was) = (&split.file, split.size);
                    tracing::warn!(
                        file,
                        was,
                        size,
                        "a file was changed, and reading continues in it as it is"
                    );
                }
                split.to = if split.to == split.size { size } else { split.to.min(size) };
                (split.from, split.size, split.mark) = (split.from.min(size), size, whole);
            }
        }
        if let Some(file) = unknown {
            tracing::warn!(
                file,
                "the checkpoint is of a version that did not record what is in its files: it is \
                 unknown whether they are the same"
            );
        }
    }
}

/// A file as it is now.
#[derive(Clone, Copy)]
struct CurrentFile {
    size: u64,
    /// The fingerprint of as many bytes as it had.
    mark: Option<Fingerprint>,
    /// The fingerprint of all its bytes.
    whole: Option<Fingerprint>,
}

impl CurrentFile {
    fn of(split: &Split) -> Option<Self> {
        beat();
        let path = Path::new(&split.file);
        let (mut file, data) = plain_file::open(path, true).ok()?;
        let size = data.len();
        let mark = Fingerprint::of(&mut file, split.size).ok()?;
        Some(Self { size, mark, whole: Fingerprint::of(&mut file, size).ok()? })
    }
}

/// The common base of all files that a path stands for: a file or directory itself, or a pattern's
/// directory before its first special character.
fn base(path: &str) -> PathBuf {
    if fs::metadata(path).is_ok() {
        return plain_path(path).into();
    }
    let literal = |part: &std::path::Component<'_>| {
        !part.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte))
    };
    plain_path(path).components().take_while(literal).collect()
}

/// True if a path may stand for this file.
fn under(file: &str, path: &str) -> bool {
    let base = base(path);
    plain_path(file).starts_with(&base)
        || fs::canonicalize(file)
            .is_ok_and(|file| fs::canonicalize(&base).is_ok_and(|base| file.starts_with(base)))
}

/// The new place of a file that was moved with everything that the path `from` stood for.
fn relocated(file: &str, from: &str, to: &str) -> Option<String> {
    let rest = plain_path(file).strip_prefix(base(from)).ok()?;
    if rest.as_os_str().is_empty() || fs::metadata(to).is_ok_and(|data| data.is_file()) {
        return Some(to.into());
    }
    base(to).join(rest).into_os_string().into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_move_with_what_their_path_stands_for() {
        for (file, from, to, there) in [
            ("old/a.csv", "old", "new", "new/a.csv"),
            ("old/a.csv", "old/", "./new", "new/a.csv"),
            ("old/b/a.csv", "old/*/*.csv", "/data/new/*/*.csv", "/data/new/b/a.csv"),
            ("a.csv", "a.csv", "b.csv", "b.csv"),
            ("a.csv", "*.csv", "data/*.csv", "data/a.csv"),
            ("/x/old/a.csv", "/x/old/**/*", "y", "y/a.csv"),
        ] {
            assert_eq!(relocated(file, from, to).as_deref(), Some(there), "{file} {from} {to}");
        }
        assert_eq!(relocated("old/a.csv", "other", "new"), None);
    }

    #[test]
    fn paths_are_compared_as_paths() {
        assert!(same_path("logs", "./logs/") && same_path("a//b", "a/b") && !same_path("a", "b"));
        assert!(under("logs/a", "logs") && under("./logs/a", "logs/*") && under("a", "*"));
        assert!(!under("logs/a", "other") && !under("logs-2/a", "logs") && !under("b", "a"));
    }
}
