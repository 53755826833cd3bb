//! One file of HTML with everything in it: it loads nothing, and needs no server.
//!
//! What it shows is a [`Document`], embedded as JSON; the script draws whatever document its
//! function `show` is given, so that a server can hand it others.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use snapline::SPEC;
use snapline_models::scene::Scene;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What a page shows.
#[derive(Serialize, Debug)]
pub(crate) struct Document {
    format: &'static str,
    version: u64,
    /// Stories to choose from, the one that is shown first in front; where two are compared, those.
    pub(crate) stories: Vec<Story>,
    /// Where a wrong rule makes the first difference, for each story.
    pub(crate) parts: Vec<Option<Divergence>>,
    /// How two stories are laid side by side.
    pub(crate) compare: Option<Compare>,
    /// What production came to with the stories' schedules, a sentence each.
    pub(crate) production: Vec<Produced>,
    /// Commands, each with what it is for.
    pub(crate) commands: Vec<[String; 2]>,
    /// The clauses that the stories refer to, and those that these refer to, by number.
    clauses: BTreeMap<String, String>,
}

/// A scene, and what it is called where there are several.
#[derive(Serialize, Debug)]
pub(crate) struct Story {
    pub(crate) label: String,
    pub(crate) scene: Scene,
}

impl Story {
    pub(crate) fn new(label: impl Into<String>, scene: Scene) -> Self {
        Self { label: label.into(), scene }
    }
}

/// Where a story parts from what the correct protocol makes of its schedule.
#[derive(Serialize, Debug)]
pub(crate) struct Divergence {
    pub(crate) step: usize,
    /// What happens there, and what would.
    pub(crate) says: String,
}

/// What production came to with a story's schedule.
#[derive(Serialize, Debug)]
pub(crate) struct Produced {
    /// Which story.
    pub(crate) story: usize,
    pub(crate) says: String,
    /// At which of its steps that shows, if at one.
    pub(crate) step: Option<usize>,
}

/// Two stories side by side.
#[derive(Serialize, Debug)]
pub(crate) struct Compare {
    /// The rows: a step of the left story and one of the right; 0 where there is none.
    pub(crate) rows: Vec<[usize; 2]>,
    /// The first row, from 1, that is not the same on both sides.
    pub(crate) first: Option<usize>,
    /// What that is, in words.
    pub(crate) says: String,
}

impl Document {
    /// A document of these stories.
    pub(crate) fn new(stories: Vec<Story>) -> Self {
        let mut wanted = BTreeSet::new();
        for Story { scene, .. } in &stories {
            wanted.extend(scene.steps.iter().map(|step| step.clause.to_owned()));
            wanted.extend(scene.broken.iter().map(snapline_models::scene::SceneBreach::clause));
        }
        let mut clauses = BTreeMap::new();
        while let Some(name) = wanted.pop_first() {
            let Some(text) = clause(&name) else { continue };
            wanted.extend(
                references(&text).filter(|other| !clauses.contains_key(*other)).map(Into::into),
            );
            wanted.remove(&name);
            clauses.insert(name, text);
        }
        Self {
            format: "snapline-page",
            version: 1,
            parts: stories.iter().map(|_| None).collect(),
            stories,
            compare: None,
            production: Vec::new(),
            commands: Vec::new(),
            clauses,
        }
    }

    /// A document of one scene.
    pub(crate) fn of(scene: Scene) -> Self {
        Self::new(vec![Story::new("the trace", scene)])
    }
}

/// The page: a whole file of HTML.
pub(crate) fn page(document: &Document) -> String {
    // Invariant: strings, numbers and maps with string keys are JSON.
    let json = serde_json::to_string(document).expect("a document is JSON");
    let parts = [("/*STYLE*/", STYLE), ("/*DOCUMENT*/", &inert(&json)), ("/*SCRIPT*/", SCRIPT)];
    let (mut page, mut rest) = (String::new(), PAGE);
    for (place, part) in parts {
        // Invariant: the page names its places in this order, each once; a test looks.
        let (before, after) = rest.split_once(place).expect("the page has the place");
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page + rest
}

/// JSON that no HTML parser takes for anything but text, whatever its strings hold.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// A clause of the specification in plain text, up to the next clause, heading or block of code.
/// Each paragraph, list item and table row is a line.
fn clause(name: &str) -> Option<String> {
    let start = format!("\n**{name}** ");
    let text = SPEC.iter().find_map(|document| Some(document.split_once(&start)?.1))?;
    let is_number = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let ends = |line: &&str| {
        line.starts_with(['#', '`']) || line.strip_prefix("**").is_some_and(is_number)
    };
    let mut plain = String::new();
    let mut begins = false;
    for line in text.lines().take_while(|line| !ends(line)) {
        let line = line.trim_start_matches("> ").trim();
        let is_row = line.starts_with('|');
        begins |= line.is_empty()
            || is_row
            || line.starts_with("- ")
            || line.split_once(". ").is_some_and(|(number, _)| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            });
        if line.is_empty() || line.starts_with("|--") {
            continue;
        }
        if !plain.is_empty() {
            plain.push(if begins { '\n' } else { ' ' });
        }
        plain.push_str(line.trim_matches('|').trim());
        begins = is_row;
    }
    Some(plain.replace(['*', '`'], ""))
}

/// What looks like the number of a clause in a text.
fn references(text: &str) -> impl Iterator<Item = &str> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let words =
        text.split(|it: char| !it.is_ascii_digit() && it != '.').map(|word| word.trim_matches('.'));
    words.filter(move |word| {
        word.split_once('.')
            .is_some_and(|(section, clause)| is_number(section) && is_number(clause))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clauses_that_a_text_refers_to_are_found() {
        let text = "As in 8.3 (and 4.10, not 1.2.3); a pause of 5 s. SPEC 8.4. Then 7.";
        assert_eq!(references(text).collect::<Vec<_>>(), ["8.3", "4.10", "8.4"]);
    }

    #[test]
    fn every_clause_that_a_step_can_name_is_in_the_spec() {
        for name in [
            "2.1", "2.3", "2.4", "2.5", "2.9", "2.10", "2.11", "2.12", "3.2", "3.5", "4.1", "4.3",
            "4.4", "4.5", "4.8", "4.10", "5.2", "5.4", "5.7", "6.1", "6.2", "6.4", "6.6", "7.1",
            "7.2", "8.5", "8.6", "9.1", "9.16", "11.9",
        ] {
            let text = clause(name).unwrap_or_default();
            assert!(text.len() > 20 && !text.contains("**"), "{name}: {text}");
            assert!(!text.contains("\n\n") && !text.contains("|--"), "{name}: {text}");
        }
        assert_eq!(clause("99.1"), None);
    }

    #[test]
    fn a_clause_comes_with_its_items_and_rows_and_not_with_the_next_one() {
        let stop = clause("4.8").unwrap_or_default();
        let line = |start: &str| stop.lines().any(|line| line.starts_with(start));
        assert!(line("Stop. ") && line("Drain | ") && line("- A second stop"), "{stop}");
        assert!(!stop.contains("Final checkpoint."), "{stop}");
        let trace = clause("11.1").unwrap_or_default();
        assert_eq!(trace.lines().count(), 1, "{trace}");
    }

    #[test]
    fn nothing_in_a_document_is_markup() {
        let hostile = r#"{"a":"</script><script>alert(1)</script><!--&amp;"}"#;
        let inert = inert(hostile);
        assert!(!inert.contains(['<', '>', '&']));
        let same: serde_json::Value = serde_json::from_str(&inert).expect("still JSON");
        assert_eq!(same, serde_json::from_str::<serde_json::Value>(hostile).expect("JSON"));
    }
}
