//! `snapline demo`: a word count in a process that is killed repeatedly.

pub mod child;
mod early;
mod life;
mod text;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use snapline::trace::{RunTrace, replay};

use crate::args::DemoArgs;
use crate::table::{TextTable, counted, grouped};
use crate::terminal::CLEAR;
use crate::{CommandError, Exit, Terminal};
use life::{ChildProcess, LifeEnd};
use text::Comparison;

/// Words a second that any machine of today counts with ease: the text is repeated until there are
/// so many for each second.
const WORDS_PER_SECOND: u64 = 160_000;

/// The least that the time between two kills is planned to be.
const LEAST_LIFE: Duration = Duration::from_millis(700);

/// How long a life may take to show progress.
const PATIENCE: Duration = Duration::from_secs(60);

fn checkpoints(dir: &Path) -> PathBuf {
    dir.join("checkpoints")
}

fn output(dir: &Path) -> PathBuf {
    dir.join("output")
}

fn traces(dir: &Path) -> PathBuf {
    dir.join("trace")
}

/// Numbers that look random and are the same for the same seed (splitmix64).
struct SplitMix64(u64);

impl SplitMix64 {
    /// From 0 up to, not including, 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What the job does, undisturbed.
struct DemoPlan {
    inputs: Vec<PathBuf>,
    passes: u64,
    lines: u64,
    rate: u64,
    /// How long it takes at that rate.
    duration: Duration,
}

/// What all lives came to.
#[derive(Default)]
struct DemoTally {
    kills: u64,
    restarts: u64,
    checkpoints: u64,
    read: u64,
}

/// Carries out `snapline demo`.
///
/// # Errors
/// [`CommandError`] if the text cannot be read, the directory is not empty, or a process cannot be
/// started.
pub fn run(args: &DemoArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let inputs = text::inputs(&args.input)?;
    let lines = text::lines(&inputs)?;
    let counts = text::count(&lines);
    let words: u64 = counts.values().sum();
    let lives = u32::try_from(args.kills + 1).unwrap_or(u32::MAX);
    let duration = args.seconds.max(LEAST_LIFE * lives);
    let wanted = (WORDS_PER_SECOND as f64 * args.seconds.as_secs_f64()) as u64;
    let passes = wanted.div_ceil(words).max(1);
    let total = lines.len() as u64 * passes;
    let rate = ((total as f64 / duration.as_secs_f64()).ceil() as u64).max(1);
    let work = DemoPlan { inputs, passes, lines: total, rate, duration };
    drop(lines);

    let place = DemoDirectory::make(args.dir.as_deref())?;
    let began = Instant::now();
    let tally = live(args, &work, &place.dir, terminal);
    // To read the output and the traces takes its time, and looks at no signal.
    let stopped = terminal.heed_no_more();
    let tally = match tally {
        Ok(Some(tally)) if !stopped => tally,
        Ok(_) => {
            place.leave(terminal, false)?;
            terminal.complain("stopped; the process was killed\n")?;
            return Ok(Exit::Stopped);
        }
        Err(failure) => {
            place.leave(terminal, true)?;
            return Err(failure);
        }
    };
    let took = began.elapsed();
    let came = text::compare(&output(&place.dir), &counts, work.passes).map_err(|error| {
        CommandError::Damaged(format!(
            "the output in {} cannot be read: {error}",
            place.dir.display()
        ))
    })?;
    tell(&tally, &work, &came, took, terminal)?;
    let conforms = replayed(&place.dir, terminal)?;
    let right = (came.duplicates, came.lost) == (0, 0);
    let killed = tally.kills == args.kills;
    if !right {
        for example in &came.examples {
            writeln!(terminal.out(), "  {example}")?;
        }
        if args.unsafe_sink {
            writeln!(
                terminal.out(),
                "the control was detected, as expected: its sink commits before checkpoints \
                 complete"
            )?;
        }
    } else if args.unsafe_sink {
        writeln!(
            terminal.out(),
            "the control was not detected: no kill hit between a commit and its checkpoint; try \
             more --kills"
        )?;
    }
    if !killed {
        let (kills, wanted) = (tally.kills, args.kills);
        writeln!(
            terminal.out(),
            "the job ended after {kills} of {wanted} kills; give it more --seconds"
        )?;
    }
    let right = right && conforms;
    place.leave(terminal, !right || !killed)?;
    Ok(if right && killed { Exit::Good } else { Exit::Bad })
}

/// Holds what was recorded of all lives against the protocol; says whether it is as it must be.
fn replayed(dir: &Path, terminal: &mut Terminal<'_>) -> Result<bool, CommandError> {
    let traces = RunTrace::read_all(&[traces(dir)]);
    let traces = traces.map_err(|error| CommandError::Damaged(error.to_string()))?;
    match replay(&traces) {
        Ok(replayed) => {
            // The last line of a process that was killed may be torn: no part of its run, and no
            // news here.
            let runs = counted(replayed.tally.runs, "recorded run");
            writeln!(
                terminal.out(),
                "every step of {runs} was replayed, and the protocol allows it"
            )?;
            Ok(true)
        }
        Err(difference) => {
            writeln!(terminal.out(), "the protocol does not allow a step of the recorded runs:")?;
            writeln!(terminal.out(), "{difference}")?;
            Ok(false)
        }
    }
}

/// Runs the job through all its lives; `None` if it was stopped by Ctrl-C.
fn live(
    args: &DemoArgs,
    work: &DemoPlan,
    dir: &Path,
    terminal: &mut Terminal<'_>,
) -> Result<Option<DemoTally>, CommandError> {
    let mut random = SplitMix64(args.seed);
    let mut tally = DemoTally::default();
    let slice = work.duration / u32::try_from(args.kills + 1).unwrap_or(u32::MAX);
    loop {
        // Lives that are killed are shorter than an even share, so that there is something left to
        // do for the last one. What is read again makes the job longer, never shorter.
        let last = tally.kills == args.kills;
        let due = (!last).then(|| slice.mul_f64(0.4 + 0.6 * random.fraction()));
        let mut life = ChildProcess::begin(args, work, dir)?;
        let end = life.watch(due, args.unsafe_sink, |report| {
            show(args, work, &tally, report, terminal);
            terminal.is_stopped()
        })?;
        tally.read += life.report().read;
        tally.checkpoints += life.report().completed;
        match end {
            LifeEnd::Stopped => {
                clear(terminal);
                return Ok(None);
            }
            LifeEnd::Finished => {
                clear(terminal);
                return Ok(Some(tally));
            }
            LifeEnd::Killed => {
                tally.kills += 1;
                tally.restarts += 1;
                if !terminal.rewrites() {
                    let (kill, kills) = (tally.kills, args.kills);
                    let read = grouped(tally.read);
                    let checkpoints = counted(tally.checkpoints, "checkpoint");
                    // The demonstration continues if its progress cannot be written.
                    let _ = terminal.complain(&format!(
                        "kill {kill} of {kills}: {read} lines read, {checkpoints} completed\n"
                    ));
                }
            }
            LifeEnd::Failed(said) => {
                clear(terminal);
                let life = tally.restarts + 1;
                return Err(CommandError::Damaged(format!(
                    "the job failed in life {life}: {said}"
                )));
            }
        }
    }
}

/// Shows how far the job is, on a terminal.
fn show(
    args: &DemoArgs,
    work: &DemoPlan,
    tally: &DemoTally,
    report: &child::ChildStatus,
    terminal: &mut Terminal<'_>,
) {
    if !terminal.rewrites() {
        return;
    }
    // How many, not their numbers: those leave a gap at each restart, as a process reserves them in
    // blocks.
    let checkpoints = counted(tally.checkpoints + report.completed, "checkpoint");
    let (read, lines) = (grouped(tally.read + report.read), grouped(work.lines));
    let (kills, wanted, restarts) = (tally.kills, args.kills, tally.restarts);
    // As above.
    let _ = terminal.complain(&format!(
        "{CLEAR}{read} lines read of {lines}, {checkpoints} completed, {kills} of {wanted} kills, \
         {restarts} restarts"
    ));
}

fn clear(terminal: &mut Terminal<'_>) {
    if terminal.rewrites() {
        let _ = terminal.complain(CLEAR);
    }
}

fn tell(
    tally: &DemoTally,
    work: &DemoPlan,
    came: &Comparison,
    took: Duration,
    terminal: &mut Terminal<'_>,
) -> Result<(), CommandError> {
    let replayed = tally.read.saturating_sub(work.lines);
    let verdict = if (came.duplicates, came.lost) == (0, 0) { "exactly once" } else { "WRONG" };
    let header = [
        "kills",
        "restarts",
        "checkpoints",
        "lines read",
        "read again",
        "words out",
        "duplicates",
        "lost",
        "seconds",
        "verdict",
    ];
    let mut table = TextTable::new(&header, 0..9);
    let numbers = [
        tally.kills,
        tally.restarts,
        tally.checkpoints,
        tally.read,
        replayed,
        came.lines,
        came.duplicates,
        came.lost,
    ];
    let mut row: Vec<String> = numbers.map(grouped).into();
    row.push(format!("{:.1}", took.as_secs_f64()));
    row.push(verdict.into());
    table.row(row);
    table.write(terminal.out())?;
    Ok(())
}

/// Where checkpoints and output are.
struct DemoDirectory {
    dir: PathBuf,
    /// Whether it is removed at the end.
    temporary: bool,
}

impl DemoDirectory {
    fn make(wanted: Option<&Path>) -> Result<Self, CommandError> {
        let (dir, temporary) = match wanted {
            Some(dir) => (dir.to_owned(), false),
            None => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let name = format!(
                    "snapline-demo-{}-{}",
                    std::process::id(),
                    since.map_or(0, |since| since.as_nanos())
                );
                (std::env::temp_dir().join(name), true)
            }
        };
        let refuse = |error: std::io::Error| {
            CommandError::Usage(format!("cannot use {}: {error}", dir.display()))
        };
        std::fs::create_dir_all(&dir).map_err(refuse)?;
        if std::fs::read_dir(&dir).map_err(refuse)?.next().is_some() {
            return Err(CommandError::Usage(format!(
                "{} is not empty: name a new directory",
                dir.display()
            )));
        }
        Ok(Self { dir, temporary })
    }

    /// Removes it, unless it is to be kept.
    fn leave(&self, terminal: &mut Terminal<'_>, wrong: bool) -> Result<(), CommandError> {
        if wrong || !self.temporary {
            writeln!(
                terminal.out(),
                "checkpoints, output and traces are in {}",
                self.dir.display()
            )?;
        } else if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            terminal.complain(&format!("cannot remove {}: {error}\n", self.dir.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_below_one_and_the_seeds() {
        let drawn = |seed| {
            let mut random = SplitMix64(seed);
            (0..1_000).map(|_| random.fraction()).collect::<Vec<_>>()
        };
        assert!(drawn(1).iter().all(|fraction| (0.0..1.0).contains(fraction)));
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
