//! A drawing as SVG, for papers and slides: the page's diagram, whole, with its own colours.

use std::fmt::Write;

use snapline_models::scene::{Arrow, ArrowFate, ArrowKind, LaneKind, Scene};

const GUTTER: usize = 40;
const LANE: usize = 120;
const ROW: usize = 26;
const TOP: usize = 40;
/// How wide a letter is, roughly.
const LETTER: usize = 6;

pub(super) fn drawing(scene: &Scene) -> String {
    let x = |lane: usize| GUTTER + LANE * lane + LANE / 2;
    let y = |step: usize| TOP + ROW * step + ROW / 2;
    let text_at = GUTTER + LANE * scene.lanes.len() + 10;
    let longest = scene.steps.iter().map(|step| step.text.chars().count() + 16).max();
    let width = text_at + LETTER * longest.unwrap_or(0).max(40);
    let height = y(scene.steps.len()) + ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (place, lane) in scene.lanes.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"20\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
            x(place),
            escaped(&lane.name)
        );
        let _ = writeln!(
            svg,
            "<line x1=\"{at}\" y1=\"{TOP}\" x2=\"{at}\" y2=\"{}\" stroke=\"#dcded9\"/>",
            height - ROW / 2,
            at = x(place)
        );
    }
    for life in &scene.lives {
        let fill = match scene.lanes[life.lane].kind {
            LaneKind::Coordinator => "#ece4f6",
            LaneKind::Task => "#dbe7f5",
            LaneKind::Storage => "#e4efe3",
            LaneKind::External => "#f6ead9",
        };
        let (from, until) = (y(life.from), y(life.until.unwrap_or(scene.steps.len())));
        let fill = match life.old {
            true => "none\" stroke=\"#626a71\" stroke-dasharray=\"3 3",
            false => fill,
        };
        let _ = writeln!(
            svg,
            "<rect x=\"{}\" y=\"{from}\" width=\"18\" height=\"{}\" rx=\"3\" fill=\"{fill}\"><title>{}</title></rect>",
            x(life.lane) - 9,
            (until - from).max(2),
            escaped(&life.label)
        );
        if life.crashed {
            let at = (x(life.lane), until);
            let _ = writeln!(svg, "{}", cross(at, 7));
        }
    }
    for hold in &scene.holds {
        let (from, until) = (y(hold.from), y(hold.until.unwrap_or(scene.steps.len())));
        let side = if hold.feeder < hold.lane { x(hold.lane) - 14 } else { x(hold.lane) + 10 };
        let _ = writeln!(
            svg,
            "<rect x=\"{side}\" y=\"{from}\" width=\"4\" height=\"{}\" fill=\"#e0a100\"/>",
            (until - from).max(4)
        );
    }
    for arrow in scene.arrows.iter().filter(|arrow| arrow.from != arrow.to) {
        let from = (x(arrow.from), y(arrow.sent));
        let _ = writeln!(svg, "{}", line(arrow, from, (x(arrow.to), y(arrow.until))));
    }
    for (place, step) in scene.steps.iter().enumerate() {
        let number = place + 1;
        let fill = if step.fault { "#b3261e" } else { "#1c2024" };
        let _ = writeln!(
            svg,
            "<text x=\"6\" y=\"{at}\" fill=\"#63696f\">{number}</text><circle cx=\"{cx}\" cy=\"{cy}\" r=\"4\" fill=\"{fill}\"/>\
             <text x=\"{text_at}\" y=\"{at}\" fill=\"{fill}\">{name} {text}</text>",
            at = y(number) + 4,
            cx = x(step.lane),
            cy = y(number),
            name = escaped(&step.actor),
            text = escaped(&step.text)
        );
    }
    if let Some(broken) = &scene.broken {
        let _ = writeln!(
            svg,
            "<rect x=\"1\" y=\"{}\" width=\"{}\" height=\"{ROW}\" fill=\"none\" stroke=\"#b3261e\" stroke-width=\"2\"/>\n\
             <text x=\"{text_at}\" y=\"20\" fill=\"#b3261e\" font-weight=\"bold\">{}: {}</text>",
            y(broken.step) - ROW / 2,
            width - 2,
            escaped(&broken.title()),
            escaped(&broken.says)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// An arrow from the edge of a bar to the edge of another; what never arrives ends on its way.
fn line(arrow: &Arrow, from: (usize, usize), to: (usize, usize)) -> String {
    let colour = match arrow.kind {
        ArrowKind::Record | ArrowKind::End => "#8a9299",
        ArrowKind::Barrier => "#0b62bd",
        ArrowKind::Control => "#7446ad",
        ArrowKind::Write => "#2f7d32",
        ArrowKind::Commit => "#a96300",
    };
    let dashes = match arrow.fate {
        ArrowFate::Arrived | ArrowFate::Ignored | ArrowFate::Twice => "",
        ArrowFate::Late => " stroke-dasharray=\"14 3\"",
        ArrowFate::Lost => " stroke-dasharray=\"2 4\"",
        ArrowFate::Failed => " stroke-dasharray=\"8 3 2 3\"",
        ArrowFate::UnderWay => " stroke-dasharray=\"6 4\"",
    };
    let wide = match (arrow.fate, arrow.kind) {
        (ArrowFate::Twice, _) => 4,
        (_, ArrowKind::Barrier) => 2,
        _ => 1,
    };
    // A drawing is smaller than 2^52 points.
    let point = |(x, y): (usize, usize)| (x as f64, y as f64);
    let ((x1, y1), (x2, y2)) = (point(from), point(to));
    let edge = (x2 - x1).signum() * 9.0;
    let part = if matches!(arrow.fate, ArrowFate::Lost | ArrowFate::UnderWay) { 0.6 } else { 1.0 };
    let x1 = x1 + edge;
    let (x2, y2) = (x1 + (x2 - edge - x1) * part, y1 + (y2 - y1) * part);
    let mut drawn = format!(
        "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{wide}\"{dashes}><title>{}</title></line>",
        escaped(&arrow.label)
    );
    if matches!(arrow.fate, ArrowFate::Lost | ArrowFate::Failed) {
        // Not below zero: lanes and rows begin further in.
        drawn += &cross((x2 as usize, y2 as usize), 5);
        return drawn;
    }
    let angle = (y2 - y1).atan2(x2 - x1);
    let back = |by: f64| (x2 - 9.0 * (angle + by).cos(), y2 - 9.0 * (angle + by).sin());
    let ((ax, ay), (bx, by)) = (back(0.4), back(-0.4));
    let fill = if arrow.fate == ArrowFate::Ignored { "#ffffff" } else { colour };
    drawn += &format!(
        "<path d=\"M{x2:.1} {y2:.1}L{ax:.1} {ay:.1}L{bx:.1} {by:.1}Z\" fill=\"{fill}\" stroke=\"{colour}\"/>"
    );
    drawn
}

fn cross((x, y): (usize, usize), size: usize) -> String {
    let (left, right, up, down) = (x - size, x + size, y - size, y + size);
    format!(
        "<path d=\"M{left} {up}L{right} {down}M{right} {up}L{left} {down}\" stroke=\"#b3261e\" stroke-width=\"2\"/>"
    )
}

/// Text that is no markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
