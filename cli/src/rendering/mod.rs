//! Pictures of a trace: a page that explains itself, a drawing, a sequence diagram, a file for
//! other tools, columns for a terminal. What they show is a [`Scene`], of the model or of recorded
//! runs; none of them knows the World or a machine.

mod columns;
mod drawing;
mod itf;
pub(crate) mod page;
mod run;
mod sequence;
mod side_by_side;

use std::path::{Path, PathBuf};

use snapline::trace::RunTrace;
use snapline_models::scenario::Setup;
use snapline_models::scene::{Scene, scene};
use snapline_models::trace::Trace;
use snapline_models::walk::{shorten, under};

use crate::args::{RenderArgs, RenderFormat, ShowArgs};
use crate::table::counted;
use crate::{CommandError, Exit, Terminal, read};
use page::{Document, Produced, Story};

/// What a picture is of.
enum RenderInput {
    Model(PathBuf, Trace),
    Runs(Scene),
}

/// `snapline trace render`.
///
/// # Errors
/// If the trace cannot be read or replayed, or the output cannot be written.
pub(crate) fn render(args: &RenderArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let subject = subject(&args.traces)?;
    let (text, steps) = match args.format() {
        RenderFormat::Page => {
            let document = document(args, subject)?;
            let steps = document.stories.first().map_or(0, |story| story.scene.steps.len());
            (page::page(&document), steps)
        }
        RenderFormat::Svg => drawn(subject, drawing::drawing)?,
        RenderFormat::Mermaid => drawn(subject, sequence::sequence)?,
        RenderFormat::Itf => match subject {
            RenderInput::Model(path, trace) => {
                let scene = told(&path, &trace)?;
                (itf::itf(&scene), scene.steps.len())
            }
            RenderInput::Runs(_) => {
                return Err(CommandError::Usage(
                    "--itf needs a trace of the model: ITF states name the contents of the store \
                     and the external systems, which a recorded run does not have"
                        .into(),
                ));
            }
        },
    };
    match &args.output {
        None => write!(terminal.out(), "{text}")?,
        Some(path) => {
            std::fs::write(path, &text).map_err(|error| {
                CommandError::Usage(format!("cannot write {}: {error}", path.display()))
            })?;
            let (steps, bytes) =
                (counted(steps as u64, "step"), counted(text.len() as u64, "byte"));
            writeln!(terminal.out(), "{}: {steps}, {bytes}", path.display())?;
        }
    }
    Ok(Exit::Good)
}

/// `snapline trace show`.
///
/// # Errors
/// If the trace cannot be read or replayed, or the output cannot be written.
pub(crate) fn show(args: &ShowArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let scene = match subject(&args.traces)? {
        RenderInput::Model(path, trace) => told(&path, &trace)?,
        RenderInput::Runs(scene) => scene,
    };
    let colour = terminal.colour();
    write!(terminal.out(), "{}", columns::columns(&scene, colour))?;
    Ok(Exit::Good)
}

/// The most steps that a drawing has: a larger one is unreadable.
const DRAWN: usize = 2_000;

fn drawn(
    subject: RenderInput,
    draw: fn(&Scene) -> String,
) -> Result<(String, usize), CommandError> {
    let scene = match subject {
        RenderInput::Model(path, trace) => told(&path, &trace)?,
        RenderInput::Runs(scene) => scene,
    };
    let steps = scene.steps.len();
    if steps > DRAWN {
        return Err(CommandError::Usage(format!(
            "a drawing has at most {DRAWN} steps, and this trace has {steps}; draw a page \
             instead, without --svg and --mermaid"
        )));
    }
    Ok((draw(&scene), steps))
}

/// The page of a trace of the model, as other commands link it: its shortest story first. `file` is
/// where the trace is, for the commands that the page shows.
///
/// # Errors
/// If the trace cannot be replayed.
pub(crate) fn story_page(trace: &Trace, file: &Path) -> Result<String, CommandError> {
    let mut document = stories(file, trace, false)?;
    document.commands = commands(file, trace);
    Ok(page::page(&document))
}

fn document(args: &RenderArgs, subject: RenderInput) -> Result<Document, CommandError> {
    let only_model = |flag: &str| {
        CommandError::Usage(format!(
            "{flag} needs a trace of the model, and this is a recorded run"
        ))
    };
    let (path, trace) = match subject {
        RenderInput::Model(path, trace) => (path, trace),
        RenderInput::Runs(_) if args.compare_correct => {
            return Err(only_model("--compare-correct"));
        }
        RenderInput::Runs(_) if args.production => return Err(only_model("--production")),
        RenderInput::Runs(scene) => {
            let mut document = match &args.compare {
                None => Document::of(scene),
                Some(other) => {
                    let RenderInput::Runs(second) = self::subject(std::slice::from_ref(other))?
                    else {
                        return Err(of_a_kind(other));
                    };
                    let first = args.traces.first().map_or("the first".into(), |path| stem(path));
                    side_by_side::by_number([
                        Story::new(first, scene),
                        Story::new(stem(other), second),
                    ])
                }
            };
            let paths: Vec<String> = args.traces.iter().map(|path| quoted(path)).collect();
            let command = format!("snapline trace replay {}", paths.join(" "));
            document.commands = vec![["replay it on fresh machines".into(), command]];
            return Ok(document);
        }
    };
    let mut document = if let Some(other) = &args.compare {
        let RenderInput::Model(_, second) = self::subject(std::slice::from_ref(other))? else {
            return Err(of_a_kind(other));
        };
        let sides = [
            Story::new(stem(&path), told(&path, &trace)?),
            Story::new(stem(other), told(other, &second)?),
        ];
        side_by_side::by_number(sides)
    } else if args.compare_correct {
        let Some(mutant) = trace.mutant else {
            return Err(CommandError::Usage(format!(
                "{}: the trace has no wrong rule, so there is no correct protocol to compare it \
                 with",
                path.display()
            )));
        };
        let wrong = |error: &dyn std::fmt::Display| {
            CommandError::Usage(format!("{}: {error}", path.display()))
        };
        let (correct, places) = under(&trace, None).map_err(|error| wrong(&error))?;
        let sides = [
            Story::new(format!("with {}", mutant.name()), told(&path, &trace)?),
            Story::new("the correct protocol", told(&path, &correct)?),
        ];
        side_by_side::by_schedule(sides, &places)
    } else {
        stories(&path, &trace, args.production)?
    };
    document.commands = commands(&path, &trace);
    if args.production && document.compare.is_some() {
        document.production = production(0, &trace);
    }
    Ok(document)
}

/// The label of a path where two traces are side by side.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn of_a_kind(other: &Path) -> CommandError {
    CommandError::Usage(format!(
        "{}: cannot compare a trace of the model with a recorded run; name two of the same kind",
        other.display()
    ))
}

/// The shortest story first, followed by the full trace if that is longer. Each is replayed on
/// production, if that is wanted.
fn stories(path: &Path, trace: &Trace, on_production: bool) -> Result<Document, CommandError> {
    // A trace that breaks no law cannot be minimised, and is shown in full.
    let short = shorten(trace).ok().filter(|short| short.steps.len() < trace.steps.len());
    let all = trace.steps.len();
    let (labels, traces) = match &short {
        None => (vec!["the trace".to_owned()], vec![trace]),
        Some(short) => {
            let steps = |number: usize| counted(number as u64, "step");
            let few = format!("the shortest story, {}", steps(short.steps.len()));
            (vec![few, format!("the full trace, {}", steps(all))], vec![short, trace])
        }
    };
    let (mut stories, mut parts, mut produced) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (label, trace)) in labels.into_iter().zip(traces).enumerate() {
        if on_production {
            produced.extend(production(place, trace));
        }
        let scene = told(path, trace)?;
        parts.push(parting(path, trace, &scene)?);
        stories.push(Story::new(label, scene));
    }
    let mut document = Document::new(stories);
    (document.parts, document.production) = (parts, produced);
    Ok(document)
}

/// Where the correct protocol would have gone another way.
fn parting(
    path: &Path,
    trace: &Trace,
    scene: &Scene,
) -> Result<Option<page::Divergence>, CommandError> {
    match under(trace, None) {
        Ok((correct, places)) if trace.mutant.is_some() => {
            Ok(side_by_side::parting(scene, &told(path, &correct)?, &places))
        }
        _ => Ok(None),
    }
}

fn commands(path: &Path, trace: &Trace) -> Vec<[String; 2]> {
    let file = quoted(path);
    let mut commands =
        vec![["replay it in the model".into(), format!("snapline trace replay {file}")]];
    if trace.mutant.is_some_and(|mutant| crate::production_replay::planted(mutant).is_some()) {
        let command = format!("snapline trace replay --production {file}");
        commands.push(["replay it on the production code".into(), command]);
    }
    if trace.mutant.is_some() {
        let command = format!("snapline trace render --compare-correct -o compared.html {file}");
        commands.push(["see it next to the correct protocol".into(), command]);
    }
    commands
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        return text;
    }
    let text = text.replace('\'', "'\\''");
    if text.starts_with('-') { format!("'./{text}'") } else { format!("'{text}'") }
}

/// What production came to with the schedule of a story.
fn production(story: usize, trace: &Trace) -> Vec<Produced> {
    let produced = |says, step| Produced { story, says, step };
    match crate::production_replay::replay(trace) {
        Err(why) => vec![produced(format!("Not replayed on production code: {why}"), why.step())],
        Ok(played) => {
            let with = match &played.broken {
                Some((step, what)) => produced(
                    format!(
                        "With the wrong rule in the engine, {} is broken on production code too, \
                         after step {step}: {what}",
                        played.law.name()
                    ),
                    Some(*step),
                ),
                None => produced(
                    format!(
                        "With the wrong rule in the engine, {} HOLDS on production code, unlike \
                         in the model",
                        played.law.name()
                    ),
                    None,
                ),
            };
            let possible = format!("{} of {} steps are possible", played.sound_steps, played.steps);
            let without = match played.wrong.as_slice() {
                [] => format!(
                    "Without the rule {possible}; then the job ends, and its output is correct"
                ),
                wrong => {
                    format!("WITHOUT the rule {possible}, and it is wrong: {}", wrong.join("; "))
                }
            };
            vec![with, produced(without, played.differs)]
        }
    }
}

/// Reads what there is to draw: one trace of the model, or runs of a job.
fn subject(paths: &[PathBuf]) -> Result<RenderInput, CommandError> {
    let mut runs = Vec::new();
    for path in paths {
        if crate::trace::is_of_a_run(path)? {
            runs.push(path);
        }
    }
    match (paths, runs.len()) {
        ([path], 0) => {
            let wrong = |error: &dyn std::fmt::Display| {
                CommandError::Usage(format!("{}: {error}", path.display()))
            };
            let trace = Trace::read(&read(path)?).map_err(|error| wrong(&error))?;
            Ok(RenderInput::Model(path.clone(), trace))
        }
        (_, some) if some == paths.len() => {
            let traces = RunTrace::read_all(paths)
                .map_err(|error| CommandError::Usage(error.to_string()))?;
            run::scene_of_runs(&traces).map(RenderInput::Runs).map_err(CommandError::Usage)
        }
        _ => Err(CommandError::Usage(
            "several paths must all be recorded runs of one job; draw a trace of the model by \
             itself"
                .into(),
        )),
    }
}

/// Replays a trace of the model, and draws it.
fn told(path: &Path, trace: &Trace) -> Result<Scene, CommandError> {
    let wrong =
        |error: &dyn std::fmt::Display| CommandError::Usage(format!("{}: {error}", path.display()));
    // A step that is not possible is reported, not left out.
    trace.replay().map_err(|error| wrong(&error))?;
    let setup = Setup::new(trace.scenario.clone(), trace.mutant).map_err(|error| wrong(&error))?;
    Ok(scene(&setup, trace))
}
