//! Columns by lane, for a terminal: who acts at each step, what came to them and what they sent,
//! and the step in words.

use std::fmt::Write;

use snapline_models::scene::{Arrow, ArrowFate, LaneKind, Scene};

/// How wide a column is.
const WIDTH: usize = 16;

pub(super) fn columns(scene: &Scene, colour: bool) -> String {
    let paint = |text: &str, code: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let numbers = scene.steps.len().to_string().len();
    let mut text = format!("{:numbers$}  ", "");
    for lane in &scene.lanes {
        // Writing to a String does not fail.
        let _ = write!(text, "{}", paint(&cell(&lane.name), "1"));
    }
    text.push('\n');
    let margin = " ".repeat(numbers + 2 + WIDTH * scene.lanes.len() + 1);
    // Arrows by the steps at which they begin and end.
    let mut at: Vec<Vec<&Arrow>> = vec![Vec::new(); scene.steps.len() + 1];
    for arrow in &scene.arrows {
        at[arrow.sent].push(arrow);
        if arrow.until != arrow.sent {
            at[arrow.until].push(arrow);
        }
    }
    for (place, step) in scene.steps.iter().enumerate() {
        let number = place + 1;
        let _ = write!(text, "{number:>numbers$}{} ", if step.fault { "!" } else { " " });
        for lane in 0..scene.lanes.len() {
            let ends = |arrow: &&&Arrow| {
                arrow.until == number && arrow.fate != ArrowFate::UnderWay && arrow.to == lane
            };
            let ended = at[number].iter().find(ends);
            let sent = at[number].iter().find(|it| it.sent == number && it.from == lane);
            let gone = |arrow: &Arrow| matches!(arrow.fate, ArrowFate::Lost | ArrowFate::Failed);
            let mark = match (lane == step.lane, ended, sent) {
                (_, Some(arrow), _) if gone(arrow) => {
                    paint(&cell(&format!("✗ {}", arrow.label)), "31")
                }
                (true, Some(arrow), _) => paint(&cell(&format!("●◀ {}", arrow.label)), "1;36"),
                (true, None, Some(arrow)) => paint(&cell(&format!("●▶ {}", arrow.label)), "1;35"),
                (true, None, None) => paint(&cell("●"), if step.fault { "1;31" } else { "1" }),
                (false, Some(arrow), _) => paint(&cell(&format!("◀ {}", arrow.label)), "36"),
                (false, None, Some(arrow)) => paint(&cell(&format!("▶ {}", arrow.label)), "35"),
                (false, None, None) => cell(rail(scene, lane, number)),
            };
            text.push_str(&mark);
        }
        let mut clauses = step.text.split("; ");
        let said = format!("{} {}", step.actor, clauses.next().unwrap_or_default());
        let said = if step.fault { paint(&said, "31") } else { said };
        let _ = writeln!(text, " {said}");
        for clause in clauses {
            let _ = writeln!(text, "{margin}→ {clause}");
        }
        if let Some(broken) = &scene.broken
            && broken.step == number
        {
            let line = format!("{} is broken: {}", broken.title(), broken.says);
            let _ = writeln!(text, "{margin}{}", paint(&line, "1;31"));
        }
    }
    text.push('\n');
    text.push_str(&scene.ending);
    text
}

/// A lane where nothing happens: whether it lives, and holds an input.
fn rail(scene: &Scene, lane: usize, step: usize) -> &'static str {
    let during =
        |from: usize, until: Option<usize>| from <= step && until.is_none_or(|end| end > step);
    let holds = scene.holds.iter().any(|it| it.lane == lane && during(it.from, it.until));
    let lives = match scene.lanes[lane].kind {
        LaneKind::Storage | LaneKind::External => true,
        LaneKind::Coordinator | LaneKind::Task => {
            scene.lives.iter().any(|it| it.lane == lane && during(it.from, it.until))
        }
    };
    match (holds, lives) {
        (true, _) => "║ holds",
        (false, true) => "│",
        (false, false) => "",
    }
}

/// Text of exactly a column's width, cut where it is longer.
fn cell(text: &str) -> String {
    let count = text.chars().count();
    if count < WIDTH {
        let fill = " ".repeat(WIDTH - count);
        return format!("{text}{fill}");
    }
    text.chars().take(WIDTH - 2).chain(['…', ' ']).collect()
}
