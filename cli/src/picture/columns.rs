//! Columns by lane, for a terminal.

use std::fmt::Write;

use snapline_models::scene::{Fate, Scene};

/// How wide a column is.
const WIDTH: usize = 14;

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
    for (place, step) in scene.steps.iter().enumerate() {
        let number = place + 1;
        let _ = write!(text, "{number:>numbers$}{} ", if step.fault { "!" } else { " " });
        for lane in 0..scene.lanes.len() {
            let arrives = |to: &snapline_models::scene::Arrow| {
                to.until == number && to.fate != Fate::UnderWay && to.to == lane
            };
            let arrived = scene.arrows.iter().find(|arrow| arrives(arrow));
            let sent = scene.arrows.iter().find(|arrow| arrow.sent == number && arrow.from == lane);
            let mark = match (lane == step.lane, arrived, sent) {
                (true, _, _) if step.fault => paint(&cell("✗"), "31;1"),
                (true, _, _) => paint(&cell("●"), "1"),
                (false, Some(arrow), _) => match arrow.fate {
                    Fate::Arrived | Fate::Twice => {
                        paint(&cell(&format!("◀ {}", arrow.label)), "36")
                    }
                    _ => paint(&cell(&format!("✗ {}", arrow.label)), "31"),
                },
                (false, None, Some(arrow)) => paint(&cell(&format!("▶ {}", arrow.label)), "35"),
                (false, None, None) => cell("│"),
            };
            text.push_str(&mark);
        }
        let said = format!("{} {}", step.actor, step.text);
        let said = if step.fault { paint(&said, "31") } else { said };
        let _ = writeln!(text, " {said}");
        if let Some(broken) = &scene.broken
            && broken.step == number
        {
            let line = format!("{} is broken: {}", broken.title(), broken.says);
            let _ = writeln!(text, "{:numbers$}  {}", "", paint(&line, "31;1"));
        }
    }
    text.push('\n');
    text.push_str(&scene.ending);
    text
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
