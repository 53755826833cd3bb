//! Which jobs are run, and how each of their lives ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::kill_points::{POINTS, place};

/// A job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct JobPlan {
    pub(crate) shape: Shape,
    pub(crate) interval: u64,
    pub(crate) retained: usize,
    pub(crate) concurrent: usize,
}

/// What is connected with what.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Shape {
    /// One source, one sink.
    Single,
    /// Two sources, a keyed count, two sinks; everything twice.
    Wide,
    /// Two sources, sorted by event time and counted in windows, with a sink for what is late; everything twice.
    Timed,
    /// A table, and one sink into a database; both twice.
    Database,
    /// State that is forgotten by the clock, and records that wait for what all subtasks are told; two sinks; everything twice.
    Told,
    /// Two sources, joined in three ways, and what is alone; four sinks; everything twice.
    Joined,
    /// Distinct records and their sessions, look-ups that are slow, the highest of what is found; one source by one subtask, four sinks.
    Ranked,
    /// Windows that fire again and again, with what is late beside them; one source by one subtask, three sinks.
    Fired,
    /// Timers and windows by the clock, and a source that is idle at times; two sinks.
    Clocked,
    /// A directory of CSV files, some of them compressed, and a sink whose transactions are several compressed files.
    #[cfg(feature = "formats")]
    Files,
}

impl Shape {
    /// All of them.
    pub(crate) const ALL: &[Self] = &[
        Self::Single,
        Self::Wide,
        Self::Timed,
        Self::Database,
        Self::Told,
        Self::Joined,
        Self::Ranked,
        Self::Fired,
        Self::Clocked,
        #[cfg(feature = "formats")]
        Self::Files,
    ];

    /// How often each of its points is planned, each time in other company.
    const fn rounds(self) -> usize {
        match self {
            Self::Single | Self::Wide | Self::Timed => 2,
            _ => 1,
        }
    }

    /// Where its processes come by: everywhere, but that only one looks anything up.
    pub(crate) fn points(self) -> impl Iterator<Item = usize> {
        let all = POINTS.iter().enumerate();
        let its = all.filter(move |(_, name)| self == Self::Ranked || !name.starts_with("look-up"));
        its.map(|(point, _)| point)
    }
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// The process kills itself when it has come to a point so often.
    Point(usize, u64),
    /// It is killed after so long, wherever it is.
    Random(Duration),
    /// When the job has finished.
    Natural,
}

/// A job and its lives but the last, which is natural.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) job: JobPlan,
    pub(crate) lives: Vec<Life>,
}

impl JobPlan {
    pub(crate) fn to_text(&self, dir: &Path) -> String {
        let Self { shape, interval, retained, concurrent } = self;
        format!("{shape:?} {interval} {retained} {concurrent} {}", dir.display())
    }

    /// # Panics
    /// If it was not written by [`Self::to_text`].
    pub(crate) fn from_text(text: &str) -> (Self, PathBuf) {
        let mut words = text.splitn(5, ' ');
        let mut word = || words.next().expect("five words");
        let shape = word();
        let shape = Shape::ALL.iter().find(|it| format!("{it:?}") == shape);
        let shape = *shape.expect("a shape");
        let mut number = || word().parse::<u64>().expect("a number");
        let (interval, retained, concurrent) = (number(), number() as usize, number() as usize);
        (Self { shape, interval, retained, concurrent }, word().into())
    }
}

/// Numbers that look random and are the same in every run (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Every point in every shape, and random moments.
pub(crate) struct Plans {
    random: Random,
    turn: usize,
}

impl Plans {
    pub(crate) const fn new() -> Self {
        Self { random: Random(1), turn: 0 }
    }

    /// All that are made beforehand.
    pub(crate) fn all(&mut self, shapes: &[Shape]) -> Vec<Plan> {
        let mut plans = Vec::new();
        for &shape in shapes {
            for _ in 0..shape.rounds() {
                for point in shape.points() {
                    plans.push(self.at(shape, point));
                }
                for _ in 0..8 {
                    plans.push(self.at_random(shape));
                }
            }
        }
        plans
    }

    /// A job that is killed at a point.
    pub(crate) fn at(&mut self, shape: Shape, point: usize) -> Plan {
        // What a process comes to while it recovers; `restoring` only where there is something to restore, and a roll-back only where a
        // transaction was prepared for a checkpoint that never was: behind a death between the preparations and the manifest.
        let recovery = ["claim-before", "claim-after", "open-sink", "open-source", "fence-before"];
        let restoring = ["fence-after", "read", "verify-blob", "read-manifest", "roll-back-before"];
        let recovery: Vec<usize> =
            recovery.iter().chain(&restoring).map(|name| place(name)).collect();
        let orphaned = Life::Point(place("put-manifest-before"), 3);
        let job = job(shape, &mut self.random);
        let once =
            ["store", "claim", "reserve", "fence", "open", "roll-back", "read", "verify", "list"];
        let begins = |with: &[&str]| with.iter().any(|begins| POINTS[point].starts_with(begins));
        let count = if begins(&once) { 1 } else { 1 + self.random.below(4) };
        let mut lives = Vec::new();
        if begins(&["read", "verify", "roll-back"]) {
            lives.push(orphaned);
        }
        lives.push(Life::Point(point, count));
        // Twice in a row; or, where that cannot be, as the one before.
        lives.push(Life::Point(point, 1));
        lives.push(Life::Point(recovery[self.turn % recovery.len()], 1));
        lives.push(Life::Random(Duration::from_millis(self.random.below(120))));
        self.turn += 1;
        Plan { job, lives }
    }

    fn at_random(&mut self, shape: Shape) -> Plan {
        let job = job(shape, &mut self.random);
        // Also before the process has come to anything.
        let moment =
            |random: &mut Random| Life::Random(Duration::from_millis(2 + random.below(150)));
        let lives = (0..5).map(|_| moment(&mut self.random)).collect();
        Plan { job, lives }
    }
}

fn job(shape: Shape, random: &mut Random) -> JobPlan {
    let interval = [5, 10, 20][random.below(3) as usize];
    let (retained, concurrent) = (1 + random.below(3) as usize, 1 + random.below(2) as usize);
    JobPlan { shape, interval, retained, concurrent }
}
