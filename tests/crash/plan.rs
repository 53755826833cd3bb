//! The jobs to run, and the end of each of their lives.

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

/// The topology of a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Shape {
    /// One source, one sink.
    Single,
    /// Two sources, a keyed count, two sinks; everything twice.
    Wide,
    /// Two sources, sorted by event time and counted in windows, with a sink for late records;
    /// everything twice.
    Timed,
    /// A table, and one sink into a database; both twice.
    Database,
    /// State that expires by processing time, and records that wait for broadcast rules; two sinks;
    /// everything twice.
    Told,
    /// Two sources, joined in three ways, and records without a partner; four sinks; everything
    /// twice.
    Joined,
    /// Distinct records and their sessions, slow look-ups, the highest of the results; one source
    /// by one subtask, four sinks.
    Ranked,
    /// Windows that fire repeatedly, with late records as a side output; one source by one subtask,
    /// three sinks.
    Fired,
    /// Timers and windows by processing time, and a source that is idle at times; two sinks.
    Clocked,
    /// A directory of CSV files, some of them compressed, and a sink whose transactions are several
    /// compressed files.
    #[cfg(feature = "formats")]
    Files,
}

impl Shape {
    /// All shapes.
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

    /// The number of plans for each of its points, each combined with other ends.
    const fn rounds(self) -> usize {
        match self {
            Self::Single | Self::Wide | Self::Timed => 2,
            _ => 1,
        }
    }

    /// The points that its processes pass: all, except that only one shape looks anything up.
    pub(crate) fn points(self) -> impl Iterator<Item = usize> {
        let all = POINTS.iter().enumerate();
        let its = all.filter(move |(_, name)| self == Self::Ranked || !name.starts_with("look-up"));
        its.map(|(point, _)| point)
    }
}

/// The end of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// The process kills itself the n-th time it reaches a point.
    Point(usize, u64),
    /// The process is killed after this time, wherever it is.
    Random(Duration),
    /// The job finishes.
    Natural,
}

/// A job and its lives except the last, which is natural.
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

/// Pseudo-random numbers, the same in every run (splitmix64).
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

/// Plans for every point in every shape, and for random moments.
pub(crate) struct Plans {
    random: Random,
    turn: usize,
}

impl Plans {
    pub(crate) const fn new() -> Self {
        Self { random: Random(1), turn: 0 }
    }

    /// All plans that are made beforehand.
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
        // Points of a recovering process. `restoring` needs a checkpoint to restore. A roll-back
        // needs a transaction prepared for a checkpoint that never completed: after a death between
        // the preparations and the manifest.
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
        // Also before the process has reached any point.
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
