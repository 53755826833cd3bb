//! Two stories side by side, with the first difference between them.

use snapline_models::scene::Scene;

use super::page::{Compare, Divergence, Document, Story};

/// Pairs steps of the same number.
pub(super) fn by_number(sides: [Story; 2]) -> Document {
    let [left, right] = sides.each_ref().map(|side| side.scene.steps.len());
    let there = |step: usize, all: usize| if step <= all { step } else { 0 };
    let rows = (1..=left.max(right)).map(|step| [there(step, left), there(step, right)]).collect();
    laid(sides, rows)
}

/// Pairs each step of the left story with its counterpart in the right one; `places` says which
/// steps those are.
pub(super) fn by_schedule(sides: [Story; 2], places: &[usize]) -> Document {
    let rows = by_places(sides[0].scene.steps.len(), places);
    laid(sides, rows)
}

/// The step at which a story diverges from the correct protocol on the same schedule.
pub(super) fn parting(story: &Scene, correct: &Scene, places: &[usize]) -> Option<Divergence> {
    let words = ["here", "in the correct protocol"];
    let rows = by_places(story.steps.len(), places);
    let (row, says) = first([story, correct], &rows, words)?;
    Some(Divergence { step: rows[row - 1][0], says })
}

fn by_places(steps: usize, places: &[usize]) -> Vec<[usize; 2]> {
    let right = |step: usize| places.iter().position(|&place| place == step).map_or(0, |it| it + 1);
    (1..=steps).map(|step| [step, right(step)]).collect()
}

fn laid(sides: [Story; 2], rows: Vec<[usize; 2]>) -> Document {
    let scenes = [&sides[0].scene, &sides[1].scene];
    let (first, says) = match first(scenes, &rows, ["on the left", "on the right"]) {
        Some((row, says)) => (Some(row), says),
        None => (None, "nothing differs".into()),
    };
    let mut document = Document::new(sides.into());
    document.compare = Some(Compare { rows, first, says });
    document
}

/// The first row, from 1, whose sides are not the same, and what is not; the sides are called by
/// these words.
fn first(scenes: [&Scene; 2], rows: &[[usize; 2]], words: [&str; 2]) -> Option<(usize, String)> {
    let mut all = rows.iter().enumerate();
    all.find_map(|(place, &row)| difference(scenes, row, words).map(|says| (place + 1, says)))
}

/// Describes the differences of two steps and of the states after them.
fn difference([left, right]: [&Scene; 2], row: [usize; 2], words: [&str; 2]) -> Option<String> {
    let [here, there] = words;
    let said = |scene: &Scene, step: usize| {
        let step = &scene.steps[step - 1];
        format!("{} {}", step.actor, step.text)
    };
    match row {
        [0, 0] => None,
        [step, 0] => Some(format!("only {here}: {}", said(left, step))),
        [0, step] => Some(format!("only {there}: {}", said(right, step))),
        [one, other] => {
            let (first, second) = (said(left, one), said(right, other));
            if first != second {
                return Some(apart(&first, &second, words));
            }
            // The same happened, and it came to something else.
            let names = |scene: &Scene| -> Vec<String> {
                scene.lanes.iter().map(|lane| lane.name.clone()).collect()
            };
            if names(left) != names(right) {
                return Some("other tasks take part".into());
            }
            // What is told in words first; a machine as it prints itself only if nothing else shows
            // it.
            let raw = |name: &str| name.ends_with("machine") || name.ends_with("committer");
            let differing = |raws: bool| {
                (0..left.lanes.len()).find_map(|lane| {
                    let [mine, theirs] = [facts(left, lane, one), facts(right, lane, other)];
                    let mut rows = mine.iter().zip(theirs);
                    let row = rows.find(|(mine, theirs)| mine != theirs && raw(&mine[0]) == raws);
                    row.map(|([name, mine], [_, theirs])| {
                        let (mine, theirs) = around(mine, theirs);
                        let whose = &left.lanes[lane].name;
                        format!("the state of {whose}, {name}; {here}: {mine}; {there}: {theirs}")
                    })
                })
            };
            differing(false).or_else(|| differing(true))
        }
    }
}

/// Two long texts from shortly before where they differ.
fn around(left: &str, right: &str) -> (String, String) {
    const LONG: usize = 90;
    if left.len().max(right.len()) <= LONG {
        return (left.into(), right.into());
    }
    let same = left.char_indices().zip(right.chars()).find(|((_, one), other)| one != other);
    let same = same.map_or(left.len().min(right.len()), |((at, _), _)| at);
    // Invariant: the texts are the same up to there, so it is a border of letters in both.
    let from = left[..same].rfind(", ").map_or(0, |comma| comma + 2);
    let cut = |text: &str| -> String {
        let mut part: String = text[from..].chars().take(LONG).collect();
        if text[from..].chars().count() > LONG {
            part.push_str("...");
        }
        if from > 0 { format!("... {part}") } else { part }
    };
    (cut(left), cut(right))
}

/// What two sentences that begin alike do not share; whole, if they do not begin alike.
fn apart(left: &str, right: &str, [here, there]: [&str; 2]) -> String {
    let [mine, theirs]: [Vec<&str>; 2] = [left, right].map(|text| text.split("; ").collect());
    if mine[0] != theirs[0] {
        return format!("{here}: {left}; {there}: {right}");
    }
    let only = |these: &[&str], those: &[&str]| -> String {
        let own: Vec<&str> =
            these.iter().copied().filter(|clause| !those.contains(clause)).collect();
        if own.is_empty() { "nothing more follows".into() } else { own.join(", ") }
    };
    let (left, right) = (only(&mine, &theirs), only(&theirs, &mine));
    format!("{}; {here}: {left}; {there}: {right}", mine[0])
}

/// The state of a lane after a step.
fn facts(scene: &Scene, lane: usize, step: usize) -> &[[String; 2]] {
    let of_lane = scene.facts.iter().rev().find(|fact| fact.lane == lane && fact.step <= step);
    of_lane.map_or(&[], |fact| &fact.rows)
}
