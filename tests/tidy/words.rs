//! Words that the house's English avoids, counted room by room: the numbers only fall.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::{from_root, root};

/// Words and phrases that the house's English avoids. Other files name the people, the time or the
/// number that is meant.
const AVOIDED: [&str; 9] = [
    "behind",
    "no less",
    "nobody",
    "not unlike",
    "not without",
    "somebody",
    "those who",
    "told",
    "whoever",
];

/// The number of avoided words in each room: `COUNT ROOM WORD`, one a line.
const WORDS: &str = "tests/words.txt";

/// With this environment variable the test writes [`WORDS`], if no number rises.
const BLESS: &str = "SNAPLINE_BLESS";

/// Lines of the table that hold no number: comments, and what a merge leaves.
const MARKS: [&str; 5] = ["#", "<<<<<<<", "|||||||", "=======", ">>>>>>>"];

/// A room and a word, with the places where it stands.
type Places = BTreeMap<(String, &'static str), Vec<String>>;

/// Every Rust and Markdown file of the tree but this one, which lists the words.
fn written_files() -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![root()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("the entry is readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_source = name.ends_with(".rs") || name.ends_with(".md");
            if path.is_symlink() || name.starts_with(['.', '_']) {
                continue;
            } else if path.is_dir() && name != "target" && !name.starts_with("mutants.out") {
                open.push(path);
            } else if is_source && from_root(&path) != "tests/tidy/words.rs" {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// A folder at the top, or a module at the top of a crate of the runtime, or a file at the top.
fn room_of(file: &str) -> &str {
    let end = |from: usize| file[from..].find('/').map_or(file.len(), |at| from + at);
    for crate_ in ["src/", "core/src/", "connectors/"] {
        if file.starts_with(crate_) {
            return file[..end(crate_.len())].trim_end_matches(".rs");
        }
    }
    &file[..end(0)]
}

/// The comments and strings of Rust source, each with the number of its line. Code becomes nothing.
fn comments_and_strings(text: &str) -> Vec<(usize, String)> {
    let letters: Vec<char> = text.chars().collect();
    let at = |place: usize| letters.get(place).copied().unwrap_or('\0');
    let (mut found, mut line, mut here) = (Vec::new(), 1, 0);
    while here < letters.len() {
        let mut piece = String::new();
        let start = here;
        match (at(here), at(here + 1)) {
            ('/', '/') => {
                while here < letters.len() && at(here) != '\n' {
                    piece.push(at(here));
                    here += 1;
                }
                piece = piece.trim_start_matches(['/', '!']).to_owned();
            }
            ('"', _) => {
                let hashes = (0..start).rev().take_while(|&place| at(place) == '#').count();
                let is_raw = start > hashes && at(start - hashes - 1) == 'r';
                let ends = |place: usize| (1..=hashes).all(|more| at(place + more) == '#');
                here += 1;
                while here < letters.len() && !(at(here) == '"' && (!is_raw || ends(here))) {
                    let escapes = at(here) == '\\' && !is_raw;
                    // An escape is no letter of a word; that of the end of a line joins two lines.
                    piece.push(if escapes { ' ' } else { at(here) });
                    here += 1;
                    if escapes {
                        piece.push(if at(here) == '\n' { '\n' } else { ' ' });
                        here += 1;
                    }
                }
                here += 1;
                // Fences in strings are no fences of this file.
                piece = piece.replace("```", " ");
            }
            // A character, or a lifetime.
            ('\'', '\\') => {
                here += 3;
                while here < letters.len() && at(here) != '\'' {
                    here += 1;
                }
                here += 1;
            }
            ('\'', _) if at(here + 2) == '\'' => here += 3,
            _ => here += 1,
        }
        found.extend(piece.split('\n').enumerate().map(|(more, text)| (line + more, text.into())));
        line += letters[start..here.min(letters.len())].iter().filter(|&&it| it == '\n').count();
    }
    found
}

/// The words of some lines, in lower case, each with the number of its line. What is in backticks,
/// and what has a sign within, is a name and no word.
fn words_in(lines: Vec<(usize, String)>) -> Vec<(usize, String)> {
    let (mut words, mut is_fenced, mut is_code) = (Vec::new(), false, false);
    for (number, line) in lines {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_fenced = !is_fenced;
            is_code = is_fenced && !language.starts_with("text");
        } else if !is_code {
            let spans: Vec<&str> = line.split('`').collect();
            let is_closed = spans.len() % 2 == 1;
            for (place, span) in spans.into_iter().enumerate() {
                if place % 2 == 1 && is_closed {
                    words.push((number, String::new()));
                    continue;
                }
                let is_part = |letter: char| letter.is_alphanumeric() || "_-/.:".contains(letter);
                let tokens = span.split(|letter| !is_part(letter));
                let bare = tokens.map(|token| token.trim_matches(['-', '/', '.', ':']));
                let bare = bare.filter(|word| !word.is_empty());
                words.extend(bare.map(|word| (number, word.to_lowercase())));
            }
        }
    }
    words
}

fn avoided_words() -> Places {
    let mut places = Places::new();
    for path in written_files() {
        let file = from_root(&path);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let words = match file.ends_with(".rs") {
            true => words_in(comments_and_strings(&text)),
            false => words_in((1..).zip(text.lines().map(str::to_owned)).collect()),
        };
        for avoided in AVOIDED {
            let parts: Vec<&str> = avoided.split(' ').collect();
            let stands = |window: &&[(usize, String)]| {
                window.iter().map(|(_, word)| word).zip(&parts).all(|(word, part)| word == part)
            };
            for window in words.windows(parts.len()).filter(stands) {
                let place = format!("{file}:{}", window[0].0);
                places.entry((room_of(&file).into(), avoided)).or_default().push(place);
            }
        }
    }
    places
}

/// The table's numbers, by room and word. Where a merge left two, the larger.
fn allowed_words(text: &str) -> BTreeMap<(String, &'static str), usize> {
    let mut allowed = BTreeMap::new();
    let is_marked = |line: &str| MARKS.iter().any(|mark| line.starts_with(mark));
    for line in text.lines().filter(|line| !line.is_empty() && !is_marked(line)) {
        let mut fields = line.splitn(3, ' ');
        let count = fields.next().and_then(|count| count.parse::<usize>().ok());
        let (room, word) = (fields.next(), fields.next());
        let word = AVOIDED.into_iter().find(|avoided| Some(*avoided) == word);
        let (Some(count), Some(room), Some(word)) = (count, room, word) else {
            panic!("{WORDS}: `{line}` is not `COUNT ROOM WORD` with one of {AVOIDED:?}")
        };
        let known = allowed.entry((room.to_owned(), word)).or_insert(0);
        *known = count.max(*known);
    }
    allowed
}

#[test]
fn avoided_words_only_become_fewer() {
    let found = avoided_words();
    let text = fs::read_to_string(root().join(WORDS)).expect("the table of words is there");
    let allowed = allowed_words(&text);
    let is_blessed = std::env::var_os(BLESS).is_some();
    let is_known = |room: &str| allowed.keys().any(|(other, _)| other == room);
    let mut wrong = Vec::new();
    for (key, places) in &found {
        let most = allowed.get(key).copied().unwrap_or(0);
        // Files that move to a new room take their words along: the total is what must not rise.
        let moved = is_blessed && !is_known(&key.0);
        if places.len() > most && !moved {
            let (count, (room, word), places) = (places.len(), key, places.join("\n  "));
            wrong.push(format!(
                "{room}: `{word}` stands {count} times, {most} are allowed; rewrite:\n  {places}"
            ));
        }
    }
    for word in AVOIDED {
        let is: usize = found.iter().filter(|((_, it), _)| *it == word).map(|(_, p)| p.len()).sum();
        let may: usize = allowed.iter().filter(|((_, it), _)| *it == word).map(|(_, n)| n).sum();
        if is > may && is_blessed {
            wrong.push(format!("the tree: `{word}` stands {is} times, {may} are allowed"));
        }
    }
    if is_blessed && wrong.is_empty() {
        let head = text.lines().take_while(|line| line.starts_with('#'));
        let head: String = head.flat_map(|line| [line, "\n"]).collect();
        let rows = found.iter().map(|((room, word), at)| format!("{} {room} {word}\n", at.len()));
        fs::write(root().join(WORDS), head + &rows.collect::<String>())
            .expect("the table is writable");
        return;
    }
    for (key, &most) in &allowed {
        let count = found.get(key).map_or(0, Vec::len);
        if count < most && !is_blessed {
            let (room, word) = key;
            wrong.push(format!(
                "{room}: `{word}` stands {count} times; lower the {most} of the table"
            ));
        }
    }
    let wrong = wrong.join("\n");
    assert!(wrong.is_empty(), "{wrong}\n{BLESS}=1 lowers the numbers of {WORDS}, and raises none");
}

#[test]
fn words_are_read_where_people_read_them() {
    let source = r##"
//! Told `behind` here, see tests/told.rs.
//! ```
//! let told = behind();
//! ```
/// ```text
/// nobody
/// ```
fn told(behind: &'static str) -> char {
    let _ = ("whoever \"told\" it\nbehind", r#"no less "than" 1"#, '"', '\'', "somebody");
    '\u{22}' // those who
}
"##;
    let words = words_in(comments_and_strings(source));
    let known =
        |word: &&str| AVOIDED.iter().any(|avoided| avoided.split(' ').any(|it| it == *word));
    let found: Vec<&str> = words.iter().map(|(_, word)| word.as_str()).filter(known).collect();
    let expected =
        ["told", "nobody", "whoever", "told", "behind", "no", "less", "somebody", "those", "who"];
    assert_eq!(found, expected);
    assert_eq!(words.iter().find(|(_, word)| word == "nobody").map(|(line, _)| *line), Some(7));
}
