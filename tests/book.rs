//! README and book: short, complete, compiled, and without dead links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// A reader should get through the README in ten minutes.
const README_WORDS: usize = 2_000;

/// The folder of the chapters.
const BOOK: &str = "docs/book/src";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Markdown file of the tree, by its path from the root.
fn texts() -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![root()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).expect("the folder is readable");
        for path in entries.map(|entry| entry.expect("the entry is readable").path()) {
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            let skipped = (name.starts_with('.') && name != ".github") || name == "target";
            if path.is_dir() && !skipped {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                let short = path.strip_prefix(root()).expect("it is below the root");
                files.push(short.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

/// The lines of a text outside fenced blocks, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((number + 1, line));
        }
    }
    lines
}

/// A line without the parts in backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The parts of a text's prose between two marks, with the numbers of the lines.
fn between(text: &str, from: &str, to: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        let ends = line.split(from).skip(1).filter_map(|rest| rest.split_once(to));
        found.extend(ends.map(|(target, _)| (number, target.to_owned())));
    }
    found
}

/// The targets of a text's links.
fn links(text: &str) -> Vec<(usize, String)> {
    between(text, "](", ")")
}

/// The files that a chapter of the book includes.
fn includes(text: &str) -> Vec<(usize, String)> {
    between(text, "{{#include ", "}}")
}

/// `https:`, `mailto:`, and `crate::` in text that rustdoc shows too.
fn leads_elsewhere(target: &str) -> bool {
    let scheme = target.split_once(':').map_or("", |(scheme, _)| scheme);
    !scheme.is_empty() && scheme.chars().all(|letter| letter.is_ascii_alphanumeric())
}

/// The anchors of a text's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (_, line) in prose(text).iter().filter(|(_, line)| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept =
            heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        let name: String = kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect();
        let mut numbered = name.clone();
        let mut number = 0;
        while !all.insert(numbered.clone()) {
            number += 1;
            numbered = format!("{name}-{number}");
        }
    }
    all
}

/// A path from the root without `.` and `..`; `None` if it leaves the root.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => plain.pop().then_some(())?,
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir => return None,
        }
    }
    Some(plain)
}

/// The error of a relative link of a file.
fn broken(file: &str, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(p, a)| (p, Some(a)));
    let folder = Path::new(file).parent().expect("a file is in a folder");
    let joined = if path.is_empty() { PathBuf::from(file) } else { folder.join(path) };
    let Some(to) = plain(&joined) else { return Some("it leads out of the repository".into()) };
    if !root().join(&to).exists() {
        return Some(format!("there is no {}", to.display()));
    }
    if file.starts_with(BOOK) && !to.starts_with("docs/book/src") {
        return Some("a built book has no page for it: name the file without a link".into());
    }
    let anchor = anchor?;
    let text = fs::read_to_string(root().join(&to)).unwrap_or_default();
    let mut all = anchors(&text);
    // A chapter shows the files that it includes.
    for (_, included) in includes(&text) {
        let included = plain(&to.parent().expect("it is in a folder").join(included));
        let text = included.and_then(|path| fs::read_to_string(root().join(path)).ok());
        all.extend(text.iter().flat_map(|text| anchors(text)));
    }
    (!all.contains(anchor)).then(|| format!("{} has no heading `#{anchor}`", to.display()))
}

#[test]
fn the_readme_is_short() {
    let words = read("README.md").split_whitespace().count();
    assert!(
        words <= README_WORDS,
        "README.md has {words} words, and {README_WORDS} at most: move details to {BOOK}"
    );
}

#[test]
fn every_relative_link_leads_somewhere() {
    let texts = texts();
    assert!(texts.len() > 20, "the texts were not found: {texts:?}");
    let (mut wrong, mut relative) = (Vec::new(), 0);
    for file in &texts {
        let text = read(file);
        for (line, target) in links(&text).iter().filter(|(_, target)| !leads_elsewhere(target)) {
            relative += 1;
            let why = broken(file, target);
            wrong.extend(why.map(|why| format!("{file}:{line}: ({target}): {why}")));
        }
        for (line, target) in includes(&text) {
            let folder = Path::new(file).parent().expect("a file is in a folder");
            let path = plain(&folder.join(&target)).map(|path| root().join(path));
            if !path.is_some_and(|path| path.is_file()) {
                wrong.push(format!("{file}:{line}: {target}: there is no such file to include"));
            }
        }
    }
    assert!(relative > 50, "the links were not found: {relative}");
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_chapter_is_listed_and_its_snippets_are_compiled() {
    let listed: BTreeSet<String> =
        links(&read("docs/book/src/SUMMARY.md")).into_iter().map(|(_, target)| target).collect();
    assert!(listed.len() > 10, "the chapters were not found: {listed:?}");
    let prefix = format!("{BOOK}/");
    let there: BTreeSet<String> = texts()
        .iter()
        .filter_map(|file| file.strip_prefix(&prefix))
        .filter(|file| *file != "SUMMARY.md")
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, there, "SUMMARY.md lists the chapters that are there, and no others");
    let compiled = read("src/book.rs");
    let mut wrong = Vec::new();
    for file in listed.iter().map(|name| format!("{BOOK}/{name}")).chain(["README.md".into()]) {
        let text = read(&file);
        let mut opens = true;
        for line in text.lines().filter(|line| line.trim_start().starts_with("```")) {
            let kind = line.trim_start().trim_start_matches('`');
            match (opens, kind) {
                (false, _) => {}
                // Rustdoc takes an untagged block for Rust.
                (true, "") => wrong.push(format!("{file}: a block without a language")),
                (true, kind) if kind.contains("ignore") => {
                    wrong.push(format!("{file}: `{kind}`: a snippet that nothing compiles"));
                }
                (true, kind) if kind.starts_with("rust") => {
                    let name = format!("include_str!(\"../{file}\")");
                    if !compiled.contains(&name) {
                        wrong.push(format!("{file}: add `{name}` to src/book.rs"));
                    }
                }
                (true, _) => {}
            }
            opens = !opens;
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lines_have_a_hundred_columns() {
    let mut wrong = Vec::new();
    let prefix = format!("{BOOK}/");
    for file in texts().iter().filter(|file| *file == "README.md" || file.starts_with(&prefix)) {
        for (number, line) in read(file).lines().enumerate() {
            if line.chars().count() > 100 && !line.starts_with('|') {
                wrong.push(format!("{file}:{}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "lines of more than 100 columns:\n{}", wrong.join("\n"));
}
