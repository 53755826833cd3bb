//! `SPEC.md`, its parts in `docs/spec/`, and the citations of them: each names a clause, and each
//! clause of sections 4 to 8 is carried out somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use snapline::trace::Rule;
use snapline_models::laws::Law;
use snapline_models::mutants::{Mutant, SOLO};
use snapline_models::trace::{Claim, Trace};

/// A section and a clause in it.
type Clause = (u32, u32);

#[test]
fn every_citation_names_a_clause() {
    let (clauses, sections) = clauses();
    let mut dangling = Vec::new();
    for (path, text) in sources(&["protocol", "models", "src", "cli", "tests"]) {
        for citation in citations(&text) {
            let known = match citation {
                Citation::Clause(clause) => clauses.contains(&clause),
                Citation::Section(section) => sections.contains(&section),
            };
            if !known {
                dangling.push(format!("{}: {citation:?}", path.display()));
            }
        }
    }
    assert!(dangling.is_empty(), "SPEC.md has no such clause:\n{}", dangling.join("\n"));
}

#[test]
fn every_clause_of_the_protocol_is_cited_by_code() {
    let (clauses, _) = clauses();
    let mut cited = BTreeSet::new();
    for (_, text) in sources(&["protocol", "models", "src", "cli"]) {
        for citation in citations(&text) {
            if let Citation::Clause(clause) = citation {
                cited.insert(clause);
            }
        }
    }
    let protocol = clauses.iter().filter(|(section, _)| (4..=8).contains(section));
    let orphans: Vec<_> = protocol.filter(|clause| !cited.contains(clause)).collect();
    assert!(orphans.is_empty(), "no code cites these clauses: {orphans:?}");
}

#[test]
fn clauses_are_numbered_without_gaps_and_stand_in_their_section() {
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for (file, text) in documents() {
        let mut section = 0;
        for line in text.lines() {
            if let Some(number) = section_of(line) {
                assert!(number > section, "{file}: sections ascend: {line}");
                section = number;
                assert_eq!(next.insert(section, 1), None, "{file}: one section, one place: {line}");
            }
            if let Some(clause) = clause_of(line) {
                let expected = next.get_mut(&section).expect("a clause is below its section");
                assert_eq!(clause, (section, *expected), "{file}: {line}");
                *expected += 1;
            }
        }
    }
    assert_eq!(next.keys().copied().collect::<Vec<_>>(), (1..=17).collect::<Vec<_>>());
    assert!(next.values().all(|&next| next > 1), "every section has clauses: {next:?}");
}

#[test]
fn the_contents_name_each_section_and_the_document_that_has_it() {
    let documents = documents();
    let contents = documents[0].1.split("## ").next().expect("the contents come first").to_owned();
    for (file, text) in &documents {
        for heading in text.lines().filter(|line| section_of(line).is_some()) {
            let (number, title) =
                heading.trim_start_matches("## ").split_once(' ').expect("number and title");
            let start = format!("| {number} | {title} | ");
            let row = contents.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("the contents have no row `{start}`"));
            assert!(row.contains(&format!("({file})")) || file == "SPEC.md", "{row}: it is {file}");
        }
    }
    let rows = contents.lines().filter(|line| line.starts_with("| ")).skip(1);
    assert_eq!(rows.count(), clauses().1.len());
}

/// SPEC 9
#[test]
fn every_law_stands_in_its_clause_under_its_name() {
    let (clauses, _) = clauses();
    let laws = clauses.iter().filter(|(section, _)| *section == 9);
    assert_eq!(laws.count(), Law::ALL.len());
    for law in Law::ALL {
        let (number, name) = (law.number(), law.name());
        let start = format!("**9.{number}** **L{number} {name}.** ");
        assert!(spec().lines().any(|line| line.starts_with(&start)), "{start}");
    }
}

/// SPEC 11.9
#[test]
fn every_rule_of_a_replay_stands_in_its_table() {
    let spec = spec();
    for rule in Rule::ALL {
        let (name, clause) = (format!("| {} | ", rule.name()), format!(" | {} |", rule.clause()));
        let row = spec.lines().any(|line| line.starts_with(&name) && line.ends_with(&clause));
        assert!(row, "{name}...{clause}");
    }
    let rules = spec.lines().skip_while(|line| !line.starts_with("**11.9**"));
    let rows = rules.skip(4).take_while(|line| line.starts_with("| "));
    assert_eq!(rows.count(), Rule::ALL.len());
}

/// SPEC 9, 10.4
#[test]
fn every_bug_that_stands_beside_a_law_has_a_mutant_that_the_law_finds() {
    for law in Law::ALL {
        let text = paragraph(&format!("**9.{}** ", law.number()));
        let (_, caught) = text.split_once("Caught: ").expect("each law has caught something");
        let bugs: Vec<&str> =
            caught.split('(').skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(!bugs.is_empty(), "{}", law.name());
        let alone =
            |mutant: &Mutant| SOLO.iter().any(|solo| (solo.law, solo.rule) == (law, mutant.rule));
        let found = |mutant: &Mutant| mutant.law == law || alone(mutant);
        for bug in bugs {
            // The project is written out here and shortened there.
            let name = bug.split_whitespace().last().unwrap_or(bug);
            let has_it = |mutant: &Mutant| mutant.bug.contains(name) && found(mutant);
            assert!(Mutant::all().any(|mutant| has_it(&mutant)), "{}: {bug}", law.name());
        }
    }
}

/// SPEC 11.1, 11.2, 11.4
#[test]
fn the_trace_of_section_11_is_read_replayed_and_written_as_it_stands() {
    let spec = spec();
    let example = spec.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = example.expect("section 11 has an example");

    let trace = Trace::read(example).expect("it is a trace");
    let replay = trace.replay().expect("every step is possible");
    let law = trace.law.expect("it claims something");
    assert_eq!(replay.claim, Claim::Shown(law));

    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    assert_eq!(bare(&trace.write()), bare(example));
}

#[test]
fn citations_are_read_singly_in_lists_and_in_ranges() {
    // Put together here, so that the text of this file cites none of them.
    let cite = |rest: &str| citations(&format!("// {}{rest}", concat!("SP", "EC ")));
    let clause = |section, number| Citation::Clause((section, number));

    assert_eq!(cite("4.3: it"), [clause(4, 3)]);
    assert_eq!(cite("4.10). It"), [clause(4, 10)]);
    assert_eq!(cite("2.6, 3.2, 4.1). Both"), [clause(2, 6), clause(3, 2), clause(4, 1)]);
    assert_eq!(cite("5.1-5.3: a"), [clause(5, 1), clause(5, 2), clause(5, 3)]);
    assert_eq!(cite("6.2 and 6.4, 2 of"), [clause(6, 2), clause(6, 4)]);
    assert_eq!(cite("7). Pure"), [Citation::Section(7)]);
    assert_eq!(cite("is the text"), []);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Citation {
    Clause(Clause),
    Section(u32),
}

/// Every citation in a text: the word, then clauses separated by commas, "and", or a hyphen for a
/// range.
fn citations(text: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    for mut rest in text.split(concat!("SP", "EC ")).skip(1) {
        let mut range_from = None;
        while let Some((citation, behind)) = number(rest) {
            match (range_from.take(), citation) {
                (Some((section, first)), Citation::Clause((to, last))) if section == to => {
                    found.extend((first + 1..=last).map(|n| Citation::Clause((section, n))));
                }
                _ => found.push(citation),
            }
            let Citation::Clause(clause) = citation else { break };
            let separators = [", ", " and ", "-", "–"];
            let Some((separator, behind)) = separators
                .iter()
                .find_map(|separator| Some((*separator, behind.strip_prefix(separator)?)))
            else {
                break;
            };
            // A whole number after a comma is prose, not a section.
            if !matches!(number(behind), Some((Citation::Clause(_), _))) {
                break;
            }
            if matches!(separator, "-" | "–") {
                range_from = Some(clause);
            }
            rest = behind;
        }
    }
    found
}

/// A clause or section number at the start of a text, and the rest of the text.
fn number(text: &str) -> Option<(Citation, &str)> {
    let (section, rest) = digits(text)?;
    match rest.strip_prefix('.').and_then(digits) {
        Some((clause, rest)) => Some((Citation::Clause((section, clause)), rest)),
        None => Some((Citation::Section(section), rest)),
    }
}

fn digits(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The clauses of the specification, and its sections.
fn clauses() -> (BTreeSet<Clause>, BTreeSet<u32>) {
    let spec = spec();
    (spec.lines().filter_map(clause_of).collect(), spec.lines().filter_map(section_of).collect())
}

/// The clause that a line starts.
fn clause_of(line: &str) -> Option<Clause> {
    match number(line.strip_prefix("**")?)? {
        (Citation::Clause(clause), rest) if rest.starts_with("** ") => Some(clause),
        _ => None,
    }
}

/// The paragraph that starts so, in one line.
fn paragraph(start: &str) -> String {
    let spec = spec();
    let lines = spec.lines().skip_while(|line| !line.starts_with(start));
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The section that a line is the heading of.
fn section_of(line: &str) -> Option<u32> {
    digits(line.strip_prefix("## ")?).map(|(section, _)| section)
}

/// The text of all documents of the specification.
fn spec() -> String {
    documents().into_iter().map(|(_, text)| text + "\n").collect()
}

/// `SPEC.md`, then its parts in `docs/spec/`, by path from the root.
fn documents() -> Vec<(String, String)> {
    let parts = fs::read_dir(root().join("docs/spec")).expect("docs/spec is beside Cargo.toml");
    let path = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("an entry of it").file_name();
        format!("docs/spec/{}", name.to_string_lossy())
    };
    let mut files: Vec<String> = parts.map(path).collect();
    files.sort();
    files.insert(0, "SPEC.md".to_owned());
    let text = |file: String| {
        let text = fs::read_to_string(root().join(&file)).expect("the specification is text");
        (file, text)
    };
    files.into_iter().map(text).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source below these folders, with its text.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > folders.len(), "there are sources");
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("sources are text");
            found.push((path, text));
        }
    }
}
