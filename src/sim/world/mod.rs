//! The simulated world: processes that run the production code, a disk, external systems, the
//! control network, the time. The possible next steps are a list of [`Choice`]s; the only operation
//! on the world is to make one of them.
//!
//! Longer than 500 lines: what may happen and what comes of it are read side by side.

pub mod stage;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use snapline_protocol::coordinator::{Phase, Stop, Timer};
use snapline_protocol::ids::{Attempt, SubtaskId};
use snapline_protocol::message::{Order, Report, ToCoordinator};
use snapline_protocol::recovery::Decision;

use super::choice::{Choice, LaneOwner};
use super::external::Systems;
use super::fault::{Fault, FaultPlan};
use super::hooks::{Hooks, Posted, Queues};
use super::oracle::{Oracle, Reference};
use super::{Build, Env};
use crate::base::clock::Clock;
use crate::base::fault::Faults;
use crate::base::fault::Mutation;
use crate::base::sync::{Arc, AtomicBool, Ordering};
use crate::connect::{ConnectError, classify_as};
use crate::executor::io_pool::IoKind;
use crate::executor::platform::Platform;
use crate::executor::platform::SimHooks;
use crate::fs::simulated::{Host, Random, SimDisk, Trouble};
use crate::plan::config::Restart;
use crate::plan::graph::BufferSizes;
use crate::runtime::attempt::report;
use crate::runtime::coordinator::Driver;
use crate::runtime::events::{Beside, DriverEvent, UserCommand};
use crate::runtime::failure::TaskFailure;
use crate::runtime::handle::{Ended, JobError};
use crate::runtime::status::StatusBoard;
use crate::runtime::task::{Step, TaskEvent};
use crate::runtime::worker::{Address, Worker};
use crate::store::{LocalStore, Store, StoreError, Takeover};
use crate::trace::MemoryTrace;

/// Where jobs keep their checkpoints.
pub(super) const STORE: &str = "/store";

/// The mark of a job that was suspended.
const SUSPENDED: &str = "suspended and run again";

/// The time that passes with every choice.
const TICK: Duration = Duration::from_micros(20);

/// The configuration of a run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) plan: FaultPlan,
    pub(crate) mutant: Option<Mutation>,
    /// Pipelines have one in this many of their records.
    pub(crate) shrink: usize,
    /// Whether each step is written down.
    pub(crate) tell: bool,
    /// Whether all runs of the job are recorded, and their traces replayed.
    pub(crate) replay: bool,
    /// The number of steps after which the run ends; only the record until then is checked.
    pub(crate) limit: Option<u64>,
}

impl Setup {
    /// A run without faults.
    pub(crate) const fn calm(seed: u64) -> Self {
        let plan = FaultPlan::calm();
        Self { seed, plan, mutant: None, shrink: 1, tell: false, replay: true, limit: None }
    }
}

/// The job's configuration in a run, drawn by its seed: none of it may make a difference to the
/// output.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    sizing: BufferSizes,
    workers: usize,
    lanes: usize,
    concurrent: usize,
    tolerable: u32,
    retained: usize,
    interval: Duration,
    /// The coordinator takes in its process's events once in this many steps, or when nothing else
    /// can be done.
    attention: u64,
}

impl Tuning {
    fn draw(random: &mut Random, mutant: Option<Mutation>) -> Self {
        let sizing = BufferSizes {
            channel: [1, 2, 4][random.below(3)],
            batch: Some([1, 2, 5][random.below(3)]),
            read: [1, 2, 7][random.below(3)],
            flush_every: [1, 3, 64][random.below(3)],
            faults: Faults::plant(mutant),
        };
        Self {
            sizing,
            workers: 1 + random.below(3),
            lanes: [1, 2, 3, 8][random.below(4)],
            concurrent: 1 + random.below(3),
            tolerable: [0, 1, 3][random.below(3)],
            retained: 1 + random.below(2),
            interval: Duration::from_micros([300, 1_000, 3_000, 10_000][random.below(4)]),
            attention: [1, 1, 1, 64][random.below(4)],
        }
    }
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Breach(pub(crate) String);

/// Counts of events, by name, so that a count of zero can be reported too.
pub(crate) type Marks = BTreeMap<&'static str, u64>;

/// A message of the control network.
enum Letter {
    Order(Posted),
    Report(ToCoordinator, Beside),
}

struct Hand {
    worker: Worker,
    number: usize,
    attempt: Attempt,
    over: Arc<AtomicBool>,
    asleep: bool,
    /// When it wants to be woken, as far as its tasks have said since they last worked.
    until: Option<Instant>,
    /// Which of its tasks found nothing to do since it last worked.
    idle: Vec<bool>,
}

struct Process {
    number: u64,
    host: Host,
    platform: Platform,
    seam: Arc<Hooks>,
    driver: Option<Driver>,
    coordinator: crossbeam_channel::Sender<DriverEvent>,
    hands: Vec<Hand>,
    notices: VecDeque<DriverEvent>,
    letters: Vec<Letter>,
    /// Where messages to the tasks of the latest attempt were last addressed.
    addresses: BTreeMap<SubtaskId, (Attempt, Address)>,
    /// It dies of a loss of power; this number decides what survives.
    power: Option<u64>,
    /// A later process has begun.
    zombie: bool,
}

impl Process {
    fn queues(&self, lane: LaneOwner) -> (Arc<Queues>, usize) {
        let mut queues = self.seam.all_queues();
        match lane {
            LaneOwner::Store => (queues.swap_remove(0), 0),
            LaneOwner::Task(lane) => (queues.swap_remove(1), lane),
        }
    }
}

pub(crate) struct World<'a> {
    build: Build<'a>,
    setup: Setup,
    tuning: Tuning,
    clock: Clock,
    disk: SimDisk,
    systems: Systems,
    processes: Vec<Process>,
    lives: u64,
    faults: u32,
    oracle: Oracle<'a>,
    pub(crate) marks: Marks,
    pub(crate) trace: Vec<String>,
    pub(crate) steps: u64,
    pub(crate) digest: u64,
    /// How the job ended.
    over: Option<Ended>,
    /// Tasks or coordinators were left to run on beside others.
    stranded: bool,
    /// Whether the oracle checks after every step.
    watched: bool,
    /// An external system has dropped what it had prepared; only a [`stage`] makes one do so.
    dropped: bool,
    /// The job has failed because of that, which is its end.
    lossy: bool,
    /// Records of all runs.
    pub(crate) recorded: MemoryTrace,
}

impl<'a> World<'a> {
    pub(crate) fn new(build: Build<'a>, setup: Setup, reference: Option<&'a Reference>) -> Self {
        let recorded = MemoryTrace::new();
        recorded.watch_sinks();
        let tuning = Tuning::draw(&mut Random::new(setup.seed ^ 0x7541), setup.mutant);
        Self {
            build,
            tuning,
            clock: Clock::simulated(),
            disk: SimDisk::new(),
            systems: Systems::default(),
            processes: Vec::new(),
            lives: 0,
            faults: 0,
            oracle: Oracle::new(reference),
            marks: Marks::new(),
            trace: Vec::new(),
            steps: 0,
            digest: 0,
            over: None,
            stranded: false,
            watched: true,
            dropped: false,
            lossy: false,
            recorded,
            setup,
        }
    }

    /// One choice in this many is a fault.
    pub(crate) const fn every(&self) -> usize {
        self.setup.plan.every
    }

    /// Whether the job has ended, in the newest process.
    pub(crate) const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Whether the run ends here, though the job does not.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.setup.limit.is_some_and(|limit| self.steps >= limit)
    }

    /// Whether the recording is to be replayed.
    pub(crate) const fn replays(&self) -> bool {
        self.setup.replay
    }

    /// Whether a coordinator is claiming the store: a good moment for another to begin beside it.
    pub(crate) fn is_beginning(&self) -> bool {
        let claiming = |driver: &Driver| driver.machine().phase() == Phase::Claiming;
        self.setup.plan.has(Fault::Zombie)
            && self.processes.last().is_some_and(|it| it.driver.as_ref().is_some_and(claiming))
    }

    /// The number of faults.
    pub(crate) const fn faults(&self) -> u32 {
        self.faults
    }

    fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_default() += 1;
    }

    fn env(&self, host: &Host) -> Env {
        Env {
            disk: self.disk.clone(),
            systems: self.systems.clone(),
            host: host.clone(),
            mutant: self.setup.mutant,
            shrink: self.setup.shrink,
            directories: self.oracle.directories(),
        }
    }

    // ---- what may happen

    /// The next steps that are no fault; faults are [`World::mishaps`].
    pub(crate) fn enabled(&self, choices: &mut Vec<Choice>) {
        choices.clear();
        let now = self.clock.now();
        for (process, it) in self.processes.iter().enumerate() {
            self.enabled_in(process, it, now, choices);
        }
        if self.over.is_none() && !self.processes.iter().any(|it| it.driver.is_some() && !it.zombie)
        {
            choices.push(Choice::Start);
        }
        if self.steps.is_multiple_of(self.tuning.attention) || choices.is_empty() {
            let told = |(process, it): (usize, &Process)| {
                (it.driver.is_some() && !it.notices.is_empty())
                    .then_some(Choice::Notice { process })
            };
            choices.extend(self.processes.iter().enumerate().filter_map(told));
        }
        if choices.is_empty() && self.next_moment().is_some() {
            choices.push(Choice::Wait);
        }
    }

    fn enabled_in(&self, process: usize, it: &Process, now: Instant, choices: &mut Vec<Choice>) {
        if let Some(driver) = &it.driver {
            let due = driver.armed().filter(|&(_, at)| at <= now);
            choices.extend(due.map(|(timer, _)| Choice::Fire { process, timer }));
        }
        choices.extend((0..it.letters.len()).map(|letter| Choice::Deliver { process, letter }));
        for (worker, hand) in it.hands.iter().enumerate() {
            let mailbox = hand.worker.mailbox();
            if hand.worker.unopened() > 0 {
                choices.push(Choice::Open { process, worker });
            } else if hand.asleep {
                if mailbox.parker().is_called() || hand.until.is_some_and(|until| until <= now) {
                    choices.push(Choice::Wake { process, worker });
                }
            } else {
                if mailbox.has_any() {
                    choices.push(Choice::Hear { process, worker });
                }
                for (task, idle) in hand.idle.iter().enumerate().filter(|(_, idle)| !**idle) {
                    debug_assert!(!idle, "one that is idle waits for the others");
                    let inputs = hand.worker.open_tasks()[task].inputs().max(1);
                    let step = |input| Choice::Step { process, worker, task, input };
                    choices.extend((0..inputs).map(step));
                }
            }
        }
        for (place, queues) in it.seam.all_queues().iter().enumerate() {
            for (lane, front) in queues.fronts().into_iter().enumerate() {
                let Some(front) = front.filter(|front| front.due <= now) else { continue };
                let lane = if place == 0 { LaneOwner::Store } else { LaneOwner::Task(lane) };
                if front.work == IoKind::Conclude && !self.is_settled(it) {
                    continue;
                }
                choices.push(Choice::Finish { process, lane, trouble: None });
                if !front.begun
                    && self.setup.plan.has(Fault::Slow)
                    && front.work != IoKind::Conclude
                {
                    choices.push(Choice::Begin { process, lane, pause: Duration::ZERO });
                }
            }
        }
    }

    /// Whether the tasks' I/O lanes have nothing left to do.
    fn is_settled(&self, it: &Process) -> bool {
        self.setup.mutant == Some(Mutation::ConcludedEarly) || it.seam.all_queues()[1].is_empty()
    }

    /// The next time at which more can be done than now.
    fn next_moment(&self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut soonest = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        for it in &self.processes {
            if let Some(driver) = &it.driver {
                driver.armed().for_each(|(_, at)| soonest(at));
            }
            for hand in it.hands.iter().filter(|hand| hand.asleep) {
                hand.until.into_iter().for_each(&mut soonest);
            }
            for queues in it.seam.all_queues() {
                for front in queues.fronts().into_iter().flatten() {
                    if front.work != IoKind::Conclude {
                        soonest(front.due);
                    }
                }
            }
        }
        next.filter(|&next| next > self.clock.now())
    }

    /// A fault, if the run may have one more and the one drawn can happen now.
    pub(crate) fn mishap(&self, random: &mut Random) -> Option<Choice> {
        let plan = &self.setup.plan;
        if self.faults >= plan.most || plan.on.is_empty() || self.over.is_some() {
            return None;
        }
        let mut fault = plan.on[random.below(plan.on.len())];
        if self.is_beginning() && random.once_in(2) {
            fault = Fault::Zombie;
        }
        if self.processes.is_empty() {
            return None;
        }
        let process = random.below(self.processes.len());
        let it = &self.processes[process];
        let running =
            it.driver.as_ref().is_some_and(|driver| driver.machine().phase() == Phase::Running);
        match fault {
            Fault::Lose | Fault::Duplicate if it.letters.is_empty() => None,
            Fault::Lose => Some(Choice::Lose { process, letter: random.below(it.letters.len()) }),
            Fault::Duplicate => {
                Some(Choice::Duplicate { process, letter: random.below(it.letters.len()) })
            }
            Fault::CrashTask if it.hands.is_empty() => None,
            Fault::CrashTask => {
                Some(Choice::CrashTask { process, worker: random.below(it.hands.len()) })
            }
            Fault::FalseAlarm => running.then_some(Choice::FalseAlarm { process }),
            Fault::CrashCoordinator => {
                it.driver.is_some().then_some(Choice::CrashCoordinator { process })
            }
            Fault::Kill | Fault::Power => {
                let power = (fault == Fault::Power).then(|| random.next());
                let lane = match random.once_in(2) {
                    true => self.busy(it, random),
                    false => None,
                };
                let after = random.below(if lane.is_some() { 10 } else { 16 }) as u64;
                Some(Choice::Kill { process, lane, after, power })
            }
            Fault::Zombie => (self.processes.len() < 3).then_some(Choice::Beside),
            Fault::Trouble => self.trouble(process, it, random),
            Fault::FireEarly => {
                let mut timers: Vec<_> =
                    it.driver.iter().flat_map(Driver::armed).map(|(timer, _)| timer).collect();
                // A timer that aborts a checkpoint finds more than one that begins a checkpoint.
                let aborts = |timer: &Timer| matches!(timer, Timer::Timeout(_));
                if timers.iter().any(aborts) && random.once_in(2) {
                    timers.retain(aborts);
                }
                let some = !timers.is_empty();
                some.then(|| Choice::Fire { process, timer: timers[random.below(timers.len())] })
            }
            Fault::Suspend => running.then_some(Choice::Stop { process, stop: Stop::Suspend }),
            Fault::Drain => running.then_some(Choice::Stop { process, stop: Stop::Drain }),
            Fault::Slow => None,
        }
    }

    /// Makes a choice fail; steps that others depend on fail more often.
    pub(crate) fn worsened(&self, choice: Choice, random: &mut Random) -> Option<Choice> {
        match choice {
            Choice::Finish { process, lane, trouble: None } => {
                self.broken_off(process, lane, random)
            }
            // Long enough for another attempt to begin meanwhile.
            Choice::Begin { process, lane, .. } if random.once_in(3) => {
                let pause = Duration::from_millis([1, 5, 20][random.below(3)]);
                Some(Choice::Begin { process, lane, pause })
            }
            Choice::Deliver { process, letter } => self.lost(process, letter, random),
            _ => None,
        }
    }

    /// A message that ends something is lost more often than others: no later one of its kind would
    /// replace the last.
    fn lost(&self, process: usize, letter: usize, random: &mut Random) -> Option<Choice> {
        let ends = match &self.processes[process].letters[letter] {
            Letter::Order(posted) => matches!(posted.message.order, Order::Complete(_)),
            Letter::Report(message, _) => matches!(message.report, Report::Resolved { .. }),
        };
        let plan = &self.setup.plan;
        let may = ends && plan.has(Fault::Lose) && self.faults < plan.most;
        (may && random.once_in(4)).then_some(Choice::Lose { process, letter })
    }

    /// An I/O request that others depend on fails more often than others, or is cut short by a
    /// death.
    fn broken_off(&self, process: usize, lane: LaneOwner, random: &mut Random) -> Option<Choice> {
        use std::io::ErrorKind::{Other, PermissionDenied, StorageFull};
        let plan = &self.setup.plan;
        let (queues, number) = self.processes[process].queues(lane);
        let work = queues.fronts()[number].map(|front| front.work);
        let rarely = match work {
            Some(IoKind::Manifest) => 4,
            // Most deletions have nothing to delete.
            Some(IoKind::Collect) if self.oracle.kept() > self.tuning.retained => 2,
            Some(IoKind::Commit) => 6,
            Some(IoKind::Collect) => 12,
            _ => return None,
        };
        if self.faults >= plan.most || !random.once_in(rarely) {
            return None;
        }
        let ways: Vec<Fault> = [Fault::Trouble, Fault::Kill, Fault::Power]
            .into_iter()
            .filter(|&fault| plan.has(fault))
            .collect();
        if ways.is_empty() {
            return None;
        }
        let span = if random.once_in(2) { 6 } else { 24 };
        let mut after = random.below(span) as u64;
        // A manifest is named with the fourth change, and the name made durable with the fifth.
        // Between them it is unknown whether the manifest is there.
        if work == Some(IoKind::Manifest) && random.once_in(2) {
            after = 3 + random.below(2) as u64;
        }
        let (lane, way) = (Some(lane), ways[random.below(ways.len())]);
        if way != Fault::Trouble {
            let power = (way == Fault::Power).then(|| random.next());
            return Some(Choice::Kill { process, lane, after, power });
        }
        let kinds =
            [(StorageFull, false), (PermissionDenied, false), (Other, false), (Other, true)];
        let (kind, late) = kinds[random.below(kinds.len())];
        let at = if work != Some(IoKind::Manifest) && random.once_in(2) { 0 } else { after };
        let trouble = Some((at, Trouble { kind, late }));
        lane.map(|lane| Choice::Finish { process, lane, trouble })
    }

    /// A lane that has something to do now; with an even chance one whose request others depend on.
    fn busy(&self, it: &Process, random: &mut Random) -> Option<LaneOwner> {
        let now = self.clock.now();
        let (mut due, mut weighty) = (Vec::new(), Vec::new());
        for (place, queues) in it.seam.all_queues().iter().enumerate() {
            for (lane, front) in queues.fronts().into_iter().enumerate() {
                let Some(front) = front.filter(|front| front.due <= now) else { continue };
                let lane = if place == 0 { LaneOwner::Store } else { LaneOwner::Task(lane) };
                match front.work {
                    IoKind::Conclude => {}
                    IoKind::Manifest | IoKind::Commit | IoKind::Collect => {
                        weighty.push(lane);
                        due.push(lane);
                    }
                    _ => due.push(lane),
                }
            }
        }
        if !weighty.is_empty() && random.once_in(2) {
            return Some(weighty[random.below(weighty.len())]);
        }
        (!due.is_empty()).then(|| due[random.below(due.len())])
    }

    fn trouble(&self, process: usize, it: &Process, random: &mut Random) -> Option<Choice> {
        use std::io::ErrorKind::{Other, PermissionDenied, StorageFull};
        let lane = self.busy(it, random)?;
        // A refused request has no effect; the effect of other failures is unknown.
        let kinds =
            [(StorageFull, false), (PermissionDenied, false), (Other, false), (Other, true)];
        let (kind, late) = kinds[random.below(kinds.len())];
        let at = if random.once_in(2) { 0 } else { random.below(9) as u64 };
        Some(Choice::Finish { process, lane, trouble: Some((at, Trouble { kind, late })) })
    }

    // ---- making it happen

    /// Makes a choice happen, and what follows of itself.
    ///
    /// # Errors
    /// What is wrong after it.
    pub(crate) fn apply(&mut self, choice: Choice) -> Result<(), Breach> {
        self.steps += 1;
        self.clock.advance(TICK);
        self.digest = crate::state::hash(&(self.digest, choice));
        if self.setup.tell {
            let at = self.clock.elapsed().as_secs_f64() * 1e3;
            self.trace.push(format!(
                "{:>5} {at:>10.3} ms  {choice:?}{}",
                self.steps,
                self.about(choice)
            ));
        }
        match choice {
            Choice::Start => {
                self.mark("processes");
                self.start()?;
            }
            Choice::Open { process, worker } => {
                self.work(process, worker, |hand| {
                    let opened = hand.worker.open_next();
                    hand.idle = vec![false; hand.worker.open_tasks().len()];
                    opened.map(|_| ())
                });
            }
            Choice::Hear { process, worker } => self.work(process, worker, |hand| {
                hand.idle.fill(false);
                hand.until = None;
                hand.worker.take_next_event()
            }),
            Choice::Step { process, worker, task, input } => {
                self.work(process, worker, |hand| step(hand, task, input));
            }
            Choice::Wake { process, worker } => {
                let hand = &mut self.processes[process].hands[worker];
                hand.worker.mailbox().parker().try_park();
                hand.asleep = false;
                hand.until = None;
                hand.idle.fill(false);
            }
            Choice::Begin { process, lane, pause } => {
                self.mark("slow writes");
                let (queues, lane) = self.processes[process].queues(lane);
                queues.begin(lane, pause);
            }
            Choice::Finish { process, lane, trouble } => self.finish(process, lane, trouble),
            Choice::Notice { process } => self.notice(process)?,
            Choice::Deliver { process, letter } => {
                let letter = self.processes[process].letters.remove(letter);
                self.deliver(process, letter);
            }
            Choice::Duplicate { process, letter } => {
                self.fault("control messages doubled");
                let again = match &self.processes[process].letters[letter] {
                    Letter::Order(Posted { subtask, address, message }) => {
                        let (subtask, message) = (*subtask, *message);
                        Letter::Order(Posted { subtask, address: address.clone(), message })
                    }
                    Letter::Report(message, beside) => Letter::Report(*message, beside.clone()),
                };
                self.deliver(process, again);
            }
            Choice::Lose { process, letter } => {
                self.fault("control messages lost");
                drop(self.processes[process].letters.remove(letter));
            }
            Choice::Fire { process, timer } => {
                let now = self.clock.now();
                if let Some(driver) = &mut self.processes[process].driver {
                    let early = driver.armed().any(|(armed, at)| armed == timer && at > now);
                    driver.fire(timer);
                    if early {
                        self.fault("timers fired early");
                    }
                }
            }
            Choice::Wait => self.wait()?,
            Choice::CrashTask { process, worker } => {
                self.fault("workers crashed");
                let hand = self.processes[process].hands.remove(worker);
                self.failed(process, hand.number, hand.attempt, "crashing");
            }
            Choice::FalseAlarm { process } => {
                self.fault("false alarms");
                let it = &self.processes[process];
                if let Some(attempt) = it.driver.as_ref().map(|driver| driver.machine().attempt()) {
                    self.failed(process, 0, attempt, "being thought dead");
                }
            }
            Choice::CrashCoordinator { process } => {
                self.fault("coordinators crashed");
                self.stranded = true;
                let it = &mut self.processes[process];
                let (queues, _) = it.queues(LaneOwner::Store);
                queues.clear();
                it.notices.clear();
                it.letters.retain(|letter| matches!(letter, Letter::Order(_)));
                drop(it.driver.take());
            }
            Choice::Kill { process, lane, after, power } => {
                self.faults += 1;
                let it = &mut self.processes[process];
                it.power = power;
                it.host.dies_after(after);
                if let Some(lane) = lane {
                    self.finish(process, lane, None);
                }
            }
            Choice::Beside => {
                self.fault("processes beside another");
                self.stranded = true;
                self.start()?;
            }
            Choice::Stop { process, stop } => {
                self.fault(if stop == Stop::Drain { "drains" } else { "suspensions" });
                if let Some(driver) = &mut self.processes[process].driver {
                    driver.take(DriverEvent::UserCommand(UserCommand::Stop(stop)));
                }
            }
        }
        self.settle()
    }

    fn fault(&mut self, name: &'static str) {
        self.faults += 1;
        self.mark(name);
    }

    /// The subject of a step, for the trace.
    fn about(&self, choice: Choice) -> String {
        let letter = |process: usize, letter: usize| match &self.processes[process].letters[letter]
        {
            Letter::Order(posted) => format!(": {:?} to {:?}", posted.message, posted.subtask),
            Letter::Report(message, _) => format!(": {message:?}"),
        };
        match choice {
            Choice::Deliver { process, letter: place }
            | Choice::Lose { process, letter: place }
            | Choice::Duplicate { process, letter: place } => letter(process, place),
            Choice::Finish { process, lane, .. } | Choice::Begin { process, lane, .. } => {
                let (queues, lane) = self.processes[process].queues(lane);
                let front = queues.fronts()[lane];
                front.map_or(String::new(), |front| format!(": {}", front.work.doing()))
            }
            Choice::Step { process, worker, task, .. } => {
                let hand = &self.processes[process].hands[worker];
                let identity = hand.worker.open_tasks()[task].identity();
                format!(": `{}` {} of {}", identity.operator, identity.index, identity.attempt)
            }
            Choice::Notice { process } => match self.processes[process].notices.front() {
                Some(DriverEvent::Stored { op, result, .. }) => format!(": {op:?} {result:?}"),
                Some(DriverEvent::Failed(failure)) => format!(": {failure}"),
                Some(DriverEvent::SourceEnded { subtask, .. }) => {
                    format!(": {subtask:?} has ended")
                }
                Some(DriverEvent::Claimed(first, _)) => format!(": claimed from {first:?}"),
                Some(DriverEvent::Recovered(decision, _)) => format!(": {decision:?}"),
                Some(DriverEvent::Unread(error)) => format!(": {error}"),
                Some(DriverEvent::Concluded(attempt)) => format!(": {attempt} concluded"),
                _ => String::new(),
            },
            _ => String::new(),
        }
    }

    fn start(&mut self) -> Result<(), Breach> {
        self.lives += 1;
        let host = Host::default();
        let env = self.env(&host);
        let mut job = match (self.build)(&env) {
            Ok(job) => job,
            Err(error) => return Err(Breach(format!("the pipeline cannot be built: {error}"))),
        };
        let guarantee = job.guarantee().level;
        let Some(spec) = job.spec_mut() else {
            return Err(Breach("the pipeline returned a job that is in use elsewhere".to_owned()));
        };
        let tuning = self.tuning;
        spec.sizing = tuning.sizing;
        spec.workers = tuning.workers;
        spec.config.upload_threads = tuning.lanes;
        spec.config.max_concurrent = tuning.concurrent;
        spec.config.tolerable_failures = tuning.tolerable;
        spec.config.retained = tuning.retained;
        spec.config.interval = Some(tuning.interval);
        spec.config.min_pause = Duration::ZERO;
        spec.config.recording = self.setup.replay.then(|| self.recorded.clone().into());
        // Long against everything that is done: a timeout that fires early is a fault, and counted.
        spec.config.timeout = Duration::from_millis(500);
        spec.config.restart =
            Restart::Fixed { attempts: u32::MAX, pause: Duration::from_micros(500) };
        self.oracle.job(guarantee, spec.transactional());
        let spec = job.into_spec();
        for it in &mut self.processes {
            it.zombie = true;
        }
        let mut files = self.disk.files(&host);
        files.faults = Faults::plant(self.setup.mutant);
        let store = LocalStore::open_on(Box::new(files), Path::new(STORE), Takeover::Depose);
        let store: Arc<dyn Store> = match store {
            Ok(store) => Arc::new(store),
            Err(error) => return self.broken(&error),
        };
        let seam = Hooks::new(self.clock.clone(), self.setup.mutant, self.lives);
        let hooks: Arc<dyn SimHooks> = Arc::clone(&seam) as _;
        let faults = Faults::plant(self.setup.mutant);
        let platform = Platform { clock: self.clock.clone(), hooks: Some(hooks), faults };
        let (sender, notices) = crossbeam_channel::unbounded();
        let coordinator = sender.clone();
        let driver = Driver::start(
            spec,
            store,
            StatusBoard::default(),
            (sender, notices),
            platform.clone(),
            Some(Arc::clone(&seam) as _),
            false,
        );
        let driver = match driver {
            Ok(driver) => driver,
            Err(JobError::Store(error)) => return self.broken(&error),
            Err(error) => return Err(Breach(format!("the job cannot be started: {error}"))),
        };
        self.processes.push(Process {
            number: self.lives,
            host,
            platform,
            seam,
            driver: Some(driver),
            coordinator,
            hands: Vec::new(),
            notices: VecDeque::new(),
            letters: Vec::new(),
            addresses: BTreeMap::new(),
            power: None,
            zombie: false,
        });
        Ok(())
    }

    /// Handles a store that cannot be used: the only excuse is trouble of the disk.
    fn broken(&self, error: &StoreError) -> Result<(), Breach> {
        match error {
            StoreError::Io { .. } | StoreError::Fenced(_) if self.faults > 0 => Ok(()),
            error => Err(Breach(format!("the store: {error}"))),
        }
    }

    fn work(
        &mut self,
        process: usize,
        worker: usize,
        act: impl FnOnce(&mut Hand) -> Result<(), TaskFailure>,
    ) {
        let it = &mut self.processes[process];
        let hand = &mut it.hands[worker];
        match act(hand) {
            Ok(()) => {
                // A worker that has taken in all messages and whose tasks are all idle sleeps,
                // unless it was called meanwhile.
                let opened = hand.worker.unopened() == 0;
                if opened && !hand.worker.mailbox().has_any() && hand.idle.iter().all(|idle| *idle)
                {
                    hand.asleep = true;
                }
            }
            Err(failure) => {
                drop(it.hands.remove(worker));
                report(&it.platform, &it.coordinator, failure);
                self.mark("tasks failed");
            }
        }
    }

    fn failed(&mut self, process: usize, subtask: usize, attempt: Attempt, doing: &'static str) {
        let it = &self.processes[process];
        let (operator, cause) = ("(a worker)".to_owned(), "a simulated fault".into());
        let classify = classify_as::<ConnectError>;
        let failure = TaskFailure { operator, subtask, attempt, doing, cause, at: None, classify };
        report(&it.platform, &it.coordinator, failure);
    }

    fn finish(&mut self, process: usize, lane: LaneOwner, trouble: Option<(u64, Trouble)>) {
        let it = &self.processes[process];
        let (queues, lane) = it.queues(lane);
        let work = queues.fronts()[lane].map(|front| front.work);
        let (host, before) = (it.host.clone(), it.host.changes().1);
        host.fails_after(trouble);
        queues.finish(lane);
        host.fails_after(None);
        match work {
            Some(IoKind::Snapshot) => self.mark("snapshots written"),
            Some(IoKind::Manifest) => self.mark("manifests put"),
            Some(IoKind::Commit) => self.mark("commit calls"),
            Some(IoKind::Collect) => self.mark("deletions"),
            Some(IoKind::RollBack) => self.mark("sinks fenced"),
            _ => {}
        }
        if host.changes().1 > before {
            self.fault(match work {
                Some(IoKind::Snapshot) => "troubles of snapshots",
                Some(IoKind::Prepare) => "troubles of preparations",
                Some(IoKind::Commit) => "troubles of commits",
                Some(IoKind::RollBack) => "troubles of roll-backs",
                Some(IoKind::Manifest) => "troubles of manifests",
                Some(IoKind::Claim) => "troubles of claims",
                Some(IoKind::Collect) => "troubles of deletions",
                _ => "other troubles",
            });
        }
    }

    fn notice(&mut self, process: usize) -> Result<(), Breach> {
        let it = &mut self.processes[process];
        let (Some(notice), Some(driver)) = (it.notices.pop_front(), &mut it.driver) else {
            return Ok(());
        };
        let mut wrong = None;
        if let DriverEvent::Failed(failure) = &notice {
            let cause = failure.to_string();
            if cause.contains("panicked") || self.faults == 0 {
                wrong = Some(Breach(format!("a task failed: {cause}")));
            }
        }
        let recovered = matches!(&notice, DriverEvent::Recovered(Ok(_), _));
        if let DriverEvent::Recovered(Ok(Decision::Restore { permit, .. }), _) = &notice
            && !self.oracle.is_durable(&self.disk, permit.checkpoint())
        {
            wrong = Some(Breach(format!(
                "recovery builds on checkpoint {}, which a loss of power would take (SPEC 13.7)",
                permit.checkpoint()
            )));
        }
        driver.take(notice);
        if recovered {
            self.mark("recoveries");
        }
        wrong.map_or(Ok(()), Err)
    }

    fn deliver(&mut self, process: usize, letter: Letter) {
        let it = &mut self.processes[process];
        match letter {
            Letter::Order(Posted { subtask, address, message }) => {
                // A message that comes late reaches the tasks of a later attempt.
                match it.addresses.get(&subtask) {
                    Some((attempt, latest)) if *attempt > message.attempt => {
                        latest.send(TaskEvent::Control(message));
                        self.mark("orders of an earlier attempt");
                    }
                    _ => address.send(TaskEvent::Control(message)),
                }
            }
            Letter::Report(message, part) => {
                let Some(driver) = &mut it.driver else { return };
                let late = message.attempt != driver.machine().attempt();
                driver.take(DriverEvent::Report(message, part));
                if late {
                    self.mark("reports of an earlier attempt");
                } else if matches!(message.report, Report::Decline { .. }) {
                    self.mark("declines");
                }
            }
        }
    }

    /// Advances the time to the next moment. Workers that sleep must have nothing to do.
    fn wait(&mut self) -> Result<(), Breach> {
        for it in &mut self.processes {
            let now = self.clock.now();
            for hand in &mut it.hands {
                if hand.until.is_some_and(|until| until <= now) {
                    continue;
                }
                if hand.worker.mailbox().has_any() {
                    return Err(Breach(format!(
                        "a wake-up was lost: worker {} of {} sleeps with news in its mailbox",
                        hand.number, hand.attempt
                    )));
                }
                for task in hand.worker.tasks() {
                    let identity = task.identity().clone();
                    if let Ok(Step::Worked) = task.step() {
                        return Err(Breach(format!(
                            "a wake-up was lost: `{}` {} of {} sleeps though it has something to do",
                            identity.operator, identity.index, identity.attempt
                        )));
                    }
                }
            }
        }
        if let Some(next) = self.next_moment() {
            self.clock.advance(next.saturating_duration_since(self.clock.now()));
        }
        Ok(())
    }

    /// Does what follows of itself: dead processes are removed, messages are sent, attempts that
    /// are over end, jobs too.
    fn settle(&mut self) -> Result<(), Breach> {
        self.bury();
        for process in 0..self.processes.len() {
            let it = &mut self.processes[process];
            let posted = it.seam.take_posted();
            for posted in posted {
                let attempt = posted.message.attempt;
                it.addresses.insert(posted.subtask, (attempt, posted.address.clone()));
                it.letters.push(Letter::Order(posted));
            }
            it.hands.retain(|hand| !hand.over.load(Ordering::Acquire));
            for seated in it.seam.take_seated() {
                let attempt = seated.attempt;
                if seated.over.load(Ordering::Acquire) {
                    continue;
                }
                for (number, worker) in seated.workers.into_iter().enumerate() {
                    let over = Arc::clone(&seated.over);
                    let (asleep, until, idle) = (false, None, Vec::new());
                    it.hands.push(Hand { worker, number, attempt, over, asleep, until, idle });
                }
            }
            while let Some(notice) = it.driver.as_ref().and_then(Driver::next_notice) {
                match notice {
                    DriverEvent::Report(message, part) => {
                        it.letters.push(Letter::Report(message, part))
                    }
                    notice => it.notices.push_back(notice),
                }
            }
        }
        if self.watched {
            self.oracle.on_event(&self.disk, &self.recorded.of_sinks())?;
            self.oracle.look(&self.disk, &self.systems, &mut self.marks)?;
        }
        while let Some(process) =
            self.processes.iter().position(|it| it.driver.as_ref().is_some_and(Driver::has_ended))
        {
            self.ended(process)?;
        }
        Ok(())
    }

    /// Removes the processes that died.
    fn bury(&mut self) {
        while let Some(process) = self.processes.iter().position(|it| it.host.is_dead()) {
            let power = self.processes[process].power;
            match power {
                None => {
                    self.mark("processes killed");
                    self.remove(process);
                }
                Some(seed) => {
                    self.mark("losses of power");
                    if self.disk.volatile() > 0 {
                        self.mark("losses of power with something to lose");
                    }
                    while !self.processes.is_empty() {
                        self.remove(0);
                    }
                    self.disk.lose_power(&mut Random::new(seed));
                    self.oracle.power_lost();
                }
            }
        }
    }

    /// Removes a process, with all that it had in memory.
    fn remove(&mut self, process: usize) {
        let it = self.processes.remove(process);
        it.host.kill();
        for queues in it.seam.all_queues() {
            queues.clear();
        }
        drop(it);
    }

    fn ended(&mut self, process: usize) -> Result<(), Breach> {
        let it = &mut self.processes[process];
        let (newest, number) = (!it.zombie, it.number);
        let Some(end) = it.driver.take().and_then(Driver::conclude) else { return Ok(()) };
        let end = end.map(|outcome| outcome.ended);
        if self.setup.tell {
            self.trace.push(format!("{:>5} process {number} ends: {end:?}", ""));
        }
        // Its tasks have ended, and its lanes only finish what they have begun.
        let it = &self.processes[process];
        it.seam.all_queues().iter().for_each(|queues| queues.close());
        self.remove(process);
        match end {
            Ok(Ended::Suspended) => self.mark(SUSPENDED),
            Ok(ended) => {
                if newest {
                    self.over = Some(ended);
                }
            }
            Err(JobError::Deposed) => self.mark("deposed"),
            Err(JobError::DataLoss { .. }) if self.dropped => self.lossy = true,
            Err(JobError::Failed(_) | JobError::Checkpoints { .. }) if self.faults > 0 => {
                self.mark("jobs failed");
            }
            Err(JobError::Store(error)) => {
                self.mark("stores given up");
                self.broken(&error)?;
            }
            Err(error) => return Err(Breach(format!("the job failed: {error}"))),
        }
        Ok(())
    }

    // ---- the end

    /// Checks what the job left when it is over; then runs it once more, which must find nothing to
    /// do, and checks again.
    pub(crate) fn close(&mut self, limit: u64) -> Result<(), Breach> {
        let Some(ended) = self.over else { return Ok(()) };
        self.oracle.complete(ended)?;
        while !self.processes.is_empty() {
            self.remove(0);
        }
        if !self.stranded {
            self.oracle.nothing_left(&self.disk, &self.systems, self.tuning.retained, false)?;
        }
        // What zombies left after the end is the next process's to clear away.
        self.over = None;
        self.setup.plan = FaultPlan::calm();
        let mut random = Random::new(self.setup.seed);
        super::run::go_on(self, &mut random, limit)?;
        if self.is_cut_off() {
            return Ok(());
        }
        while !self.processes.is_empty() {
            self.remove(0);
        }
        self.oracle.complete(ended)?;
        self.oracle.nothing_left(&self.disk, &self.systems, self.tuning.retained, true)?;
        *self.marks.entry("commits repeated").or_default() += self.systems.repeated();
        self.digest = crate::state::hash(&(self.digest, self.oracle.summary()));
        Ok(())
    }

    /// The committed output.
    pub(crate) fn into_reference(self) -> Reference {
        self.oracle.into_reference()
    }

    /// Describes which task waits for what.
    pub(crate) fn waiting(&self) -> String {
        let mut text = String::new();
        for it in &self.processes {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n  process {}{}: ",
                it.number,
                if it.zombie { " (zombie)" } else { "" }
            );
            match &it.driver {
                Some(driver) => {
                    let machine = driver.machine();
                    let timers: Vec<_> = driver.armed().map(|(timer, _)| timer).collect();
                    let under_way: Vec<_> = machine.under_way().collect();
                    let _ = write!(
                        text,
                        "coordinator {:?} of {}, under way {under_way:?}, newest {:?}, resolved {}, timers {timers:?}",
                        machine.phase(),
                        machine.attempt(),
                        machine.newest(),
                        machine.is_resolved()
                    );
                }
                None => text.push_str("no coordinator"),
            }
            for hand in &it.hands {
                let state = if hand.asleep { "asleep" } else { "awake" };
                let _ = write!(text, "; worker {} of {} {state}", hand.number, hand.attempt);
                let names =
                    hand.worker.open_tasks().iter().map(|task| {
                        format!("{}-{}", task.identity().operator, task.identity().index)
                    });
                let _ = write!(text, " ({})", names.collect::<Vec<_>>().join(", "));
            }
            let _ = write!(text, "; {} letters, {} notices", it.letters.len(), it.notices.len());
            for queues in it.seam.all_queues() {
                for front in queues.fronts().into_iter().flatten() {
                    let _ = write!(text, "; a lane is to be {}", front.work.doing());
                }
            }
        }
        text
    }
}

fn step(hand: &mut Hand, task: usize, input: usize) -> Result<(), TaskFailure> {
    let it = &mut hand.worker.tasks()[task];
    if it.inputs() > 0 {
        it.turn_to(input);
    }
    let step = it.step()?;
    match step {
        Step::Worked => {
            hand.idle.fill(false);
            hand.until = None;
        }
        Step::Idle => hand.idle[task] = true,
        Step::Until(until) => {
            hand.idle[task] = true;
            hand.until = Some(hand.until.map_or(until, |soonest| soonest.min(until)));
        }
    }
    Ok(())
}
