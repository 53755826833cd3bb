//! A Mermaid sequence diagram, for where Markdown is shown.

use std::fmt::Write;

use snapline_models::scene::{ArrowFate, Scene};

pub(super) fn sequence(scene: &Scene) -> String {
    let mut text = String::from("sequenceDiagram\n");
    for (place, lane) in scene.lanes.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = writeln!(text, "    participant l{place} as {}", plain(&lane.name));
    }
    for (place, step) in scene.steps.iter().enumerate() {
        let number = place + 1;
        for arrow in scene.arrows.iter().filter(|arrow| arrow.until == number) {
            let line = match arrow.fate {
                ArrowFate::Arrived | ArrowFate::Twice => "->>",
                // With an open head.
                ArrowFate::Late | ArrowFate::Ignored => "-)",
                ArrowFate::Lost | ArrowFate::Failed => "--x",
                ArrowFate::UnderWay => continue,
            };
            let (from, to, label) = (arrow.from, arrow.to, plain(&arrow.label));
            let _ = writeln!(text, "    l{from}{line}l{to}: {label}");
        }
        let mark = if step.fault { "! " } else { "" };
        let told = plain(step.text.split("; ").next().unwrap_or(&step.text));
        let _ = writeln!(text, "    Note over l{}: {number}. {mark}{told}", step.lane);
    }
    if let Some(broken) = &scene.broken {
        let last = scene.lanes.len().saturating_sub(1);
        let says = plain(&broken.says);
        let _ = writeln!(text, "    Note over l0,l{last}: {} is broken: {says}", broken.title());
    }
    text
}

/// Text that means nothing to Mermaid.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ';' | '#' | ':' | '<' | '>' | '%' | '\n' | '\r' => ' ',
            other => other,
        })
        .collect()
}
