//! The layout of a file sink: file names and their meaning.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId, Term, TxnId};

use super::FileCommittable;
use snapline_core::base::sync::Arc;
use snapline_core::connect::{ConnectError, OpenContext};
use snapline_core::fs::Files;

/// Names of operators are never cut off: two long ones could become one. File systems take 255
/// bytes, less the parts around the name.
const LONGEST_NAME: usize = 160;

/// The maximum number of files of a transaction; those of earlier versions could have more. A name
/// that claims more gets no memory for them.
pub(super) const MOST_FILES: u32 = 1 << 16;

/// The places of one subtask of one operator.
#[derive(Clone)]
pub(super) struct Layout {
    /// The file system that they are in.
    pub(super) files: Arc<dyn Files>,
    /// The directory of the readers.
    pub(super) dir: PathBuf,
    /// The operator's own directory.
    pub(super) own: PathBuf,
    pub(super) open: PathBuf,
    pub(super) prepared: PathBuf,
    pub(super) context: OpenContext,
    /// The identity of the operator's directory, by which it differs from another put in its place.
    pub(super) place: String,
    /// True if it may be another directory.
    pub(super) accept_other: bool,
    /// The operator's name as part of a file's name.
    operator: String,
    extension: String,
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layout").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Layout {
    pub(super) fn of(
        files: &Arc<dyn Files>,
        dir: &Path,
        extension: &str,
        context: &OpenContext,
    ) -> Result<Self, ConnectError> {
        let refuse = |what, name: &str, why| ConnectError::BadName { what, name: name.into(), why };
        if !is_extension(extension) || extension.len() > 32 {
            let why = "it must be up to 32 letters and digits, with single dots between them";
            return Err(refuse("the extension", extension, why));
        }
        let operator = escape(&context.operator);
        if operator.is_empty() || operator.len() > LONGEST_NAME {
            let why = "it must have 1 to 160 bytes, and every byte other than letters, digits, \
                       `_`, `-` and `.` counts as three";
            return Err(refuse("the operator's name", &context.operator, why));
        }
        let own = dir.join(".snapline").join(&operator);
        Ok(Self {
            files: Arc::clone(files),
            dir: dir.to_owned(),
            open: own.join("open"),
            prepared: own.join("prepared"),
            own,
            context: context.clone(),
            place: String::new(),
            accept_other: false,
            operator,
            extension: extension.into(),
        })
    }

    pub(super) fn owner(&self) -> PathBuf {
        self.own.join("owner")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.own.join("LOCK")
    }

    pub(super) fn fence(&self) -> PathBuf {
        self.own.join("fence")
    }

    /// The name of a file while it is written; its transaction has no name yet.
    pub(super) fn unnamed(&self, serial: u64) -> PathBuf {
        let OpenContext { index, attempt, .. } = self.context;
        self.open.join(unnamed(index, attempt, serial))
    }

    /// The name of the file that this subtask closes as `txn`.
    pub(super) fn part(&self, txn: TxnId) -> String {
        let TxnId { checkpoint, attempt, .. } = txn;
        let (operator, index) = (self.operator.clone(), self.context.index);
        Part { operator, index, checkpoint, attempt, roll: 0 }.name(&self.extension)
    }

    /// The common end of the names of committed files.
    pub(super) fn part_like(&self) -> String {
        format!("part.{}", self.extension)
    }

    pub(super) fn closed_file(&self, txn: TxnId, file: &str) -> PathBuf {
        self.open.join(hidden_name(txn, file))
    }

    pub(super) fn prepared_file(&self, txn: TxnId, file: &str) -> PathBuf {
        self.prepared.join(hidden_name(txn, file))
    }

    pub(super) fn committed_file(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The record of commits of the subtask that wrote the transaction: perhaps another subtask
    /// than this one.
    pub(super) fn marker(&self, committable: &FileCommittable) -> Result<PathBuf, ConnectError> {
        let part = Part::parse(&committable.file).filter(|part| part.operator == self.operator);
        let Some(part) = part else {
            return Err(ConnectError::BadPosition {
                source: "file sink",
                why: format!(
                    "`{}` is not a file of operator `{}`",
                    committable.file, self.context.operator
                ),
            });
        };
        Ok(self.own_marker(part.index))
    }

    /// The record of a subtask's commits.
    pub(super) fn own_marker(&self, index: usize) -> PathBuf {
        self.own.join(format!("committed-{index:02}"))
    }
}

/// True for letters and digits, with single dots between them.
fn is_extension(text: &str) -> bool {
    let fits = |end: &str| !end.is_empty() && end.bytes().all(|b| b.is_ascii_alphanumeric());
    text.split('.').all(fits)
}

/// Before the commit, a file's name also names the job's subtask. It is the only part of a
/// transaction's name that readers do not need.
fn hidden_name(txn: TxnId, file: &str) -> String {
    format!("{file}.s{}", txn.subtask.index())
}

/// The name of a later file of a transaction, by the first's name: the number stands before the
/// extension.
pub(super) fn rolled(file: &str, roll: u32) -> String {
    // An operator's name may contain dots and dashes; an extension contains no dashes.
    let from = file.rfind('-').unwrap_or(0);
    match file[from..].find('.') {
        Some(dot) if roll > 0 => {
            let (name, end) = file.split_at(from + dot);
            format!("{name}r{roll}{end}")
        }
        _ => file.to_owned(),
    }
}

/// A closed or prepared file, by its name.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Hidden {
    pub(super) txn: TxnId,
    /// The operator's subtask that wrote it.
    pub(super) index: usize,
    /// The file's number within its transaction.
    pub(super) roll: u32,
    /// The name of the transaction's first file when it is committed.
    pub(super) first: String,
}

impl Hidden {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (file, subtask) = name.rsplit_once(".s")?;
        let subtask = SubtaskId::new(subtask.parse().ok()?);
        let Part { index, checkpoint, attempt, roll, .. } = Part::parse(file)?;
        let txn = TxnId { checkpoint, attempt, subtask };
        if hidden_name(txn, file) != name {
            return None;
        }
        let mut first = file.to_owned();
        if roll > 0 {
            let dash = file.rfind('-')?;
            let mark = dash + file[dash..].find('r')?;
            let dot = dash + file[dash..].find('.')?;
            first.replace_range(mark..dot, "");
        }
        Some(Self { txn, index, roll, first })
    }
}

fn unnamed(index: usize, attempt: Attempt, serial: u64) -> String {
    let Attempt { term, number } = attempt;
    format!("{index:02}-t{term}a{number}-{serial}.open")
}

/// The subtask and the attempt of the open file of this name.
pub(super) fn parse_unnamed(name: &str) -> Option<(usize, Attempt)> {
    let mut pieces = name.strip_suffix(".open")?.splitn(3, '-');
    let (index, attempt) = (pieces.next()?.parse().ok()?, parse_attempt(pieces.next()?)?);
    let serial = pieces.next()?.parse().ok()?;
    (unnamed(index, attempt, serial) == name).then_some((index, attempt))
}

/// The parts of a committed file's name. Their order is the order in which to read the lines.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Part {
    pub(super) operator: String,
    pub(super) index: usize,
    pub(super) checkpoint: CheckpointId,
    pub(super) attempt: Attempt,
    /// The file's number within its transaction.
    pub(super) roll: u32,
}

impl Part {
    /// The name of a file with this extension.
    fn name(&self, extension: &str) -> String {
        let Self { operator, index, checkpoint, attempt: Attempt { term, number }, roll } = self;
        let roll = if *roll > 0 { format!("r{roll}") } else { String::new() };
        let checkpoint = checkpoint.get();
        format!("part-{operator}-{index:02}-{checkpoint:08}-t{term}a{number}{roll}.{extension}")
    }

    /// The parts of a name that a sink made; a name that is spelled otherwise is not a sink's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        // From the end: an operator's name may contain dashes, the parts after it contain none.
        let mut pieces = name.strip_prefix("part-")?.rsplitn(4, '-');
        let (attempt, extension) = pieces.next()?.split_once('.')?;
        let (attempt, roll) = match attempt.split_once('r') {
            Some((attempt, roll)) => (attempt, roll.parse().ok().filter(|&roll: &u32| roll > 0)?),
            None => (attempt, 0),
        };
        let attempt = parse_attempt(attempt)?;
        let checkpoint = CheckpointId::new(pieces.next()?.parse().ok()?)?;
        let index = pieces.next()?.parse().ok()?;
        let operator = pieces.next()?;
        let escaped = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.%".contains(&byte);
        let ours = !operator.is_empty() && operator.bytes().all(escaped) && is_extension(extension);
        let part = Self { operator: operator.into(), index, checkpoint, attempt, roll };
        (ours && part.name(extension) == name).then_some(part)
    }
}

fn parse_attempt(text: &str) -> Option<Attempt> {
    let (term, number) = text.strip_prefix('t')?.split_once('a')?;
    Some(Attempt { term: Term::new(term.parse().ok()?), number: number.parse().ok()? })
}

/// Makes a name part of a file's name: bytes other than letters, digits and harmless characters are
/// written as their numbers. Different names stay different.
pub(super) fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for (place, letter) in name.char_indices() {
        if letter.is_ascii_alphanumeric()
            || matches!(letter, '_' | '-')
            || (letter == '.' && place > 0)
        {
            escaped.push(letter);
        } else {
            for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                write!(escaped, "%{byte:02X}").expect("writing to a string does not fail");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(operator: &str, extension: &str) -> Result<Layout, ConnectError> {
        let context = OpenContext::new("job", operator, 1, 2, Attempt::first(Term::new(3)));
        let files: Arc<dyn Files> = Arc::new(snapline_core::fs::Disk);
        Layout::of(&files, Path::new("out"), extension, &context)
    }

    fn txn() -> TxnId {
        TxnId {
            checkpoint: CheckpointId::new(12).expect("above zero"),
            attempt: Attempt { term: Term::new(3), number: 1 },
            subtask: SubtaskId::new(7),
        }
    }

    #[test]
    fn names_are_readable_and_say_everything() {
        let layout = layout("word-counts", "csv.gz").expect("good names");
        let committable = FileCommittable::of(layout.part(txn()), &[1, 2]);
        assert_eq!(committable.file, "part-word-counts-01-00000012-t3a1.csv.gz");
        let hidden = layout.prepared_file(txn(), &committable.file);
        let own = Path::new("out/.snapline/word-counts");
        assert_eq!(hidden, own.join("prepared/part-word-counts-01-00000012-t3a1.csv.gz.s7"));
        let name = hidden.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let first = || committable.file.clone();
        let expected = Hidden { txn: txn(), index: 1, roll: 0, first: first() };
        assert_eq!(Hidden::parse(name), Some(expected));
        let files: Vec<_> = committable.files().collect();
        let second = "part-word-counts-01-00000012-t3a1r1.csv.gz".to_owned();
        assert_eq!(files, [(first(), 1), (second, 2)]);
        let hidden = layout.prepared_file(txn(), &files[1].0);
        let name = hidden.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let expected = Hidden { txn: txn(), index: 1, roll: 1, first: first() };
        assert_eq!(Hidden::parse(name), Some(expected));
        assert_eq!(layout.marker(&committable).expect("its own"), own.join("committed-01"));
        assert_eq!(layout.unnamed(4), own.join("open/01-t3a1-4.open"));
        assert_eq!(parse_unnamed("01-t3a1-4.open"), Some((1, txn().attempt)));
    }

    #[test]
    fn files_of_earlier_versions_beyond_the_most_are_files() {
        for roll in [1, MOST_FILES - 1, MOST_FILES, u32::MAX] {
            let name = format!("part-a-00-00000001-t1a1r{roll}.txt");
            assert_eq!(Part::parse(&name).map(|it| it.roll), Some(roll));
            let hidden = Hidden::parse(&format!("{name}.s0")).expect("a file");
            assert_eq!((hidden.roll, &*hidden.first), (roll, "part-a-00-00000001-t1a1.txt"));
        }
    }

    #[test]
    fn lengths_that_others_wrote_into_a_checkpoint_have_a_sum() {
        let committable = FileCommittable::of("part-a-00-00000001-t1a1.txt".into(), &[u64::MAX, 1]);
        assert_eq!((committable.bytes(), committable.files().count()), (u64::MAX, 2));
    }

    #[test]
    fn odd_operators_stay_within_the_directory_and_apart() {
        let names = ["a/b", "..", "a%2Fb", "a b", "zähler", "a-b", "."];
        let mut seen: Vec<_> =
            names.iter().map(|name| layout(name, "txt").expect("good").part(txn())).collect();
        assert_eq!(seen[0], "part-a%2Fb-01-00000012-t3a1.txt");
        for name in &seen {
            assert!(Part::parse(name).is_some(), "{name}");
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), names.len());
        assert!(layout("", "txt").is_err());
        assert!(layout(&"x".repeat(161), "txt").is_err());
    }

    #[test]
    fn odd_extensions_are_refused() {
        for extension in ["", ".txt", "a/b", "..", "a-b", "tar..gz"] {
            let error = layout("out", extension).expect_err("refused").to_string();
            assert!(error.contains("the extension"), "{error}");
        }
    }

    #[test]
    fn files_of_others_are_none_of_ours() {
        for name in [
            "part-00",
            "part--01-2-t1a1.txt",
            "part-a-1-0-t1a1.txt",
            "x",
            "part-a-1-2-t1.txt",
            "part-a-1-2-t1a1r0.txt",
            "part-a-1-2-t1a1r.txt",
            "part-a-1-2-t1a1r4294967296.txt",
            // A name has one spelling: another would be read twice, or removed as the sink's own.
            "part-a-0-00000001-t1a1.txt",
            "part-a-+1-00000001-t1a1.txt",
            "part-a-00-1-t1a1.txt",
            "part-a-00-00000001-t01a1.txt",
            "part-a-00-00000001-t1a+1.txt",
            "part-a-00-00000001-t1a1r+1.txt",
            // Names that editors leave, and names that a terminal would obey.
            "part-a-00-00000001-t1a1.txt~",
            "part-a-00-00000001-t1a1.",
            "part-a\x1b[2J-00-00000001-t1a1.txt",
        ] {
            assert_eq!(Part::parse(name), None, "{name}");
        }
        let first = "part-a-00-00000001-t1a1.txt";
        assert!(Hidden::parse(&format!("{first}.s7")).is_some());
        for subtask in ["+7", "07", "", "65536"] {
            assert_eq!(Hidden::parse(&format!("{first}.s{subtask}")), None, "{subtask}");
        }
        for name in ["1-t1a1-0.open", "01-t1a1-00.open", "01-t1a1-x.open", "+1-t1a1-0.open"] {
            assert_eq!(parse_unnamed(name), None, "{name}");
        }
        let other = FileCommittable::of("part-b-00-00000001-t1a1.txt".into(), &[1]);
        assert!(layout("a", "txt").expect("good").marker(&other).is_err());
        let outside = FileCommittable::of("part-a/../b-00-00000001-t1a1.txt".into(), &[1]);
        assert!(layout("a", "txt").expect("good").marker(&outside).is_err());
    }

    #[test]
    fn lines_are_read_in_the_order_of_numbers() {
        let part = |name| Part::parse(name).expect("a part");
        assert!(part("part-a-00-99999999-t1a1.txt") < part("part-a-00-100000000-t1a1.txt"));
        assert!(part("part-a-99-00000001-t1a1.txt") < part("part-a-100-00000001-t1a1.txt"));
        assert!(part("part-a-00-00000001-t1a1.txt") < part("part-a-00-00000001-t1a1r2.txt"));
        assert!(part("part-a-00-00000001-t1a1r9.txt") < part("part-a-00-00000001-t1a1r10.txt"));
    }
}
