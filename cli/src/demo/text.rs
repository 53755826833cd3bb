//! The text, its words, and the plain count that the output is compared with.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::CommandError;

/// Where the repository's text is, if this command runs where it was built.
const DEFAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/austen.txt");

/// The texts to read: those named, or the repository's.
///
/// # Errors
/// [`CommandError::Usage`] if none was named and the repository is not there.
pub(super) fn inputs(named: &[PathBuf]) -> Result<Vec<PathBuf>, CommandError> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    match Path::new(DEFAULT) {
        text if text.is_file() => Ok(vec![text.into()]),
        text => Err(CommandError::Usage(format!(
            "{} does not exist, because this command was built elsewhere; name a text with \
             --input PATH",
            text.display()
        ))),
    }
}

/// Reads the lines of all texts.
///
/// # Errors
/// [`CommandError::Usage`] if one cannot be read, or there is no word in them.
pub(super) fn lines(inputs: &[PathBuf]) -> Result<Vec<Arc<str>>, CommandError> {
    let mut lines = Vec::new();
    for input in inputs {
        // Bytes that are no text are replaced: for a count of words they are as good as spaces.
        let bytes = std::fs::read(input).map_err(|error| {
            CommandError::Usage(format!("cannot read {}: {error}", input.display()))
        })?;
        lines.extend(String::from_utf8_lossy(&bytes).lines().map(Arc::from));
    }
    match lines.iter().any(|line| words(line).next().is_some()) {
        true => Ok(lines),
        false => Err(CommandError::Usage(
            "the input has no words; name another text with --input".into(),
        )),
    }
}

/// The words of a line, in small letters.
pub(super) fn words(line: &str) -> impl Iterator<Item = String> + '_ {
    let parts = line.split(|letter: char| !letter.is_alphanumeric());
    parts.filter(|part| !part.is_empty()).map(str::to_lowercase)
}

/// The plain count: how often each word is in the lines.
pub(super) fn count(lines: &[Arc<str>]) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for word in lines.iter().flat_map(|line| words(line)) {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}

/// What the committed output comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Comparison {
    /// Lines in the output.
    pub(super) lines: u64,
    /// Counts of words that are there and should not be, or not again.
    pub(super) duplicates: u64,
    /// Counts of words that should be there and are not.
    pub(super) lost: u64,
    /// The first few of either.
    pub(super) examples: Vec<String>,
}

const EXAMPLES: usize = 5;

/// Which counts of a word were seen, a bit each.
struct WordCounts {
    bits: Vec<u64>,
    expected: u64,
}

/// Compares the committed files in a directory with the words of a text that was read `passes`
/// times: each word must be there with each of its counts once.
///
/// # Errors
/// If the files cannot be read.
pub(super) fn compare(
    output: &Path,
    counts: &HashMap<String, u64>,
    passes: u64,
) -> io::Result<Comparison> {
    let expect = |(word, count): (&String, &u64)| {
        let expected = count * passes;
        let bits = vec![0; expected.div_ceil(64) as usize];
        (word.clone(), WordCounts { bits, expected })
    };
    let mut seen: HashMap<String, WordCounts> = counts.iter().map(expect).collect();
    let mut came = Comparison::default();
    for entry in std::fs::read_dir(output)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if !name.is_some_and(|name| name.starts_with("part-")) {
            continue;
        }
        for line in BufReader::new(File::open(&path)?).lines() {
            came.take(&line?, &mut seen);
        }
    }
    let mut words: Vec<_> = seen.into_iter().collect();
    words.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for (word, WordCounts { bits, expected }) in words {
        let there: u64 = bits.iter().map(|word| u64::from(word.count_ones())).sum();
        if there < expected {
            came.lost += expected - there;
            came.example(|| {
                format!("`{word}` lacks {} of its {expected} counts", expected - there)
            });
        }
    }
    Ok(came)
}

impl Comparison {
    fn take(&mut self, line: &str, seen: &mut HashMap<String, WordCounts>) {
        self.lines += 1;
        let parsed =
            line.rsplit_once(' ').and_then(|(word, count)| Some((word, count.parse().ok()?)));
        let bit = parsed.and_then(|(word, count): (&str, u64)| {
            let word = seen.get_mut(word).filter(|seen| (1..=seen.expected).contains(&count))?;
            Some((&mut word.bits[(count - 1) as usize / 64], 1 << ((count - 1) % 64)))
        });
        match bit {
            Some((bits, bit)) if *bits & bit == 0 => *bits |= bit,
            Some(_) => {
                self.duplicates += 1;
                self.example(|| format!("`{line}` is repeated"));
            }
            None => {
                self.duplicates += 1;
                self.example(|| format!("`{line}` is not an expected count"));
            }
        }
    }

    fn example(&mut self, say: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(say());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(name: &str, output: &[&str]) -> Comparison {
        let dir =
            std::env::temp_dir().join(format!("snapline-compare-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("part-0"), output.join("\n")).expect("writable");
        std::fs::write(dir.join("other"), "a 1").expect("writable");
        let lines: Vec<Arc<str>> = vec!["A b, a!".into()];
        let came = compare(&dir, &count(&lines), 2).expect("readable");
        std::fs::remove_dir_all(&dir).expect("removable");
        came
    }

    #[test]
    fn each_count_of_each_word_is_wanted_once() {
        let right = ["a 1", "b 2", "a 4", "a 2", "a 3", "b 1"];
        assert_eq!(compared("right", &right), Comparison { lines: 6, ..Comparison::default() });
    }

    #[test]
    fn what_is_missing_again_or_strange_is_told() {
        let came =
            compared("wrong", &["a 1", "a 1", "a 2", "a 5", "c 1", "b 1", "b 2", "nonsense"]);
        assert_eq!((came.duplicates, came.lost), (4, 2));
        assert_eq!(came.examples[0], "`a 1` is repeated");
        assert_eq!(came.examples[4], "`a` lacks 2 of its 4 counts");
    }

    #[test]
    fn words_are_what_is_between_what_is_no_letter() {
        assert_eq!(words("--The 2nd, \"Éclair\"!").collect::<Vec<_>>(), ["the", "2nd", "éclair"]);
    }
}
