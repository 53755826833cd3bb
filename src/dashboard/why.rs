//! Which task is late, and why: from each task's metrics to the task to look at.
//!
//! A task whose acknowledgement is missing is seldom the one to blame. It waits for a barrier of
//! another, which waits for room in a channel, whose consumer does not read because ... The chain
//! is followed to its end, where a task works rather than waits.

use std::time::Duration;

use crate::runtime::status::{JobPhase, JobStatus, SubtaskStage, TaskStatus, UnderWayStatus};

/// A step that takes longer than this is reported.
const LONG_STEP: Duration = Duration::from_secs(1);

/// No checkpoint is late earlier than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// A checkpoint that takes this many times as long as usual is late.
const USUAL: u32 = 3;

/// The explanation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Why {
    /// Whether anything is late, or wrong.
    pub(super) late: bool,
    /// The answer, in a sentence.
    pub(super) text: String,
    /// The chain of causes, from the task that is waited for to the task to blame.
    pub(super) chain: Vec<String>,
}

impl Why {
    fn fine(text: String) -> Self {
        Self { late: false, text, chain: Vec::new() }
    }

    fn late(text: String) -> Self {
        Self { late: true, text, chain: Vec::new() }
    }
}

/// A time in words, for people.
pub(super) fn words(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 120.0 => format!("{seconds:.1} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

/// A job at a moment, to reason about.
struct Case<'a> {
    status: &'a JobStatus,
    /// By task: for how long it has been in one step.
    in_one_step: &'a dyn Fn(usize) -> Duration,
}

/// Which task is late, and why.
pub(super) fn why(status: &JobStatus, in_one_step: &dyn Fn(usize) -> Duration) -> Why {
    let case = Case { status, in_one_step };
    let cause = status.restart_history.last();
    match status.phase {
        JobPhase::Starting => {
            return Why::fine(
                "The job is starting: it claims its store and reads the checkpoint to start from."
                    .into(),
            );
        }
        JobPhase::Ended => {
            return match &status.failure {
                Some(failure) => Why::late(format!("The job has failed: {failure}")),
                None => Why::fine("The job has ended.".into()),
            };
        }
        JobPhase::Restoring => {
            let (doing, cause) = match &status.next_try {
                Some(next) => ("waits for its next restart", next.cause.as_str()),
                None => ("is being restored", cause.map_or("", |restart| &restart.cause)),
            };
            return Why::late(format!("The job has failed and {doing}: {cause}"));
        }
        JobPhase::Closing => {
            let text = "The last checkpoint is complete; its output is being committed.";
            let failing = status
                .tasks
                .iter()
                .find_map(|task| task.commit_failure.as_ref().map(|why| (&task.subtask, why)));
            return match failing {
                Some((task, why)) => Why::late(format!("{text} {task} has not committed: {why}.")),
                None => Why::fine(text.into()),
            };
        }
        JobPhase::Running => {}
    }
    if let Some(way) = status.under_way.first() {
        return case.checkpoint(way);
    }
    match (0..status.tasks.len()).max_by_key(|&task| in_one_step(task)) {
        Some(task) if in_one_step(task) >= LONG_STEP => Why::late(case.long_step(task)),
        _ => Why::fine("Nothing is late: no checkpoint is under way.".into()),
    }
}

/// Why one subtask has not acknowledged; empty if it has.
pub(super) fn of_task(
    status: &JobStatus,
    way: &UnderWayStatus,
    task: usize,
    in_one_step: &dyn Fn(usize) -> Duration,
) -> Vec<String> {
    let case = Case { status, in_one_step };
    case.chain(way, task, &mut vec![false; status.tasks.len()])
}

impl Case<'_> {
    fn task(&self, task: usize) -> &TaskStatus {
        &self.status.tasks[task]
    }

    fn name(&self, task: usize) -> &str {
        &self.task(task).subtask
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.status.tasks.iter().position(|task| task.subtask == name)
    }

    fn checkpoint(&self, way: &UnderWayStatus) -> Why {
        let running = words(way.running);
        let name = format!("Checkpoint {}", way.checkpoint);
        let done = self.status.history.iter().filter(|past| past.completed);
        let mut usual: Vec<Duration> = done.map(|past| past.duration).collect();
        usual.sort_unstable();
        let usual = usual.get(usual.len() / 2).copied().unwrap_or_default();
        let late = way.running > PATIENCE.max(usual * USUAL);
        let missing = way.missing.iter().filter_map(|name| self.find(name));
        let chains =
            missing.map(|task| self.chain(way, task, &mut vec![false; self.status.tasks.len()]));
        let chains: Vec<Vec<String>> = chains.filter(|chain| !chain.is_empty()).collect();
        // The task at the end of the most chains is to blame for the most.
        let ends = |end: &String| chains.iter().filter(|chain| chain.last() == Some(end)).count();
        let worst = chains.iter().max_by_key(|chain| chain.last().map_or(0, ends));
        let Some(chain) = worst else {
            let text = match way.missing.is_empty() {
                true => format!(
                    "{name}: all subtasks have acknowledged; its manifest is being written \
                     ({running} so far)."
                ),
                false => format!("{name}: acknowledgements are in flight ({running} so far)."),
            };
            return Why { late, text, chain: Vec::new() };
        };
        let end = chain.last().cloned().unwrap_or_default();
        let verdict = if late { "is late" } else { "is under way" };
        let text = format!("{name} {verdict} ({running} so far): {end}.");
        let chain = if chain.len() > 1 { chain.clone() } else { Vec::new() };
        Why { late, text, chain }
    }

    /// From a subtask whose acknowledgement is missing to the one that works rather than waits.
    fn chain(&self, way: &UnderWayStatus, task: usize, visited: &mut [bool]) -> Vec<String> {
        let Some(stage) = way.stages.get(task) else { return Vec::new() };
        if std::mem::replace(&mut visited[task], true) {
            return Vec::new();
        }
        let name = self.name(task);
        let awaited: Vec<usize> = match stage {
            SubtaskStage::Written { .. } => return Vec::new(),
            SubtaskStage::Failed { .. } => {
                return vec![format!("{name} could not write its snapshot and has declined")];
            }
            SubtaskStage::Writing { since } => {
                // The end of the write is only noticed in a turn: without one the two cases look
                // the same.
                if let Some(blocked) = self.blocked(task) {
                    return blocked;
                }
                return vec![format!("{name} has been writing its snapshot for {}", words(*since))];
            }
            SubtaskStage::Aligning { awaited, .. } => {
                awaited.iter().filter_map(|feeder| self.find(feeder)).collect()
            }
            SubtaskStage::Waiting => {
                self.task(task).inputs.iter().filter_map(|feeder| self.find(feeder)).collect()
            }
        };
        if let Some(blocked) = self.blocked(task) {
            return blocked;
        }
        let passed = |&feeder: &usize| {
            !matches!(
                way.stages.get(feeder),
                Some(SubtaskStage::Waiting | SubtaskStage::Aligning { .. })
            )
        };
        for &feeder in awaited.iter().filter(|feeder| !passed(feeder)) {
            let rest = self.chain(way, feeder, visited);
            if !rest.is_empty() {
                let since = match stage {
                    SubtaskStage::Aligning { since, .. } => {
                        format!(", aligning for {}", words(*since))
                    }
                    _ => String::new(),
                };
                let first = format!("{name} waits for the barrier of {}{since}", self.name(feeder));
                return std::iter::once(first).chain(rest).collect();
            }
        }
        let what = match awaited.iter().find(|feeder| passed(feeder)) {
            Some(&feeder) => format!("the barrier of {}", self.name(feeder)),
            None => "the trigger".into(),
        };
        let mut chain = self.held_up(way, task, visited);
        match chain.first_mut() {
            Some(first) => *first = format!("{first}, so it does not reach {what}"),
            None => chain.push(format!("{name} is processing its input before {what}")),
        }
        chain
    }

    /// Why its worker does not let it step, if it does not.
    fn blocked(&self, task: usize) -> Option<Vec<String>> {
        if (self.in_one_step)(task) >= LONG_STEP {
            return Some(vec![self.long_step(task)]);
        }
        let worker = self.task(task).worker;
        let shares = |&other: &usize| other != task && self.task(other).worker == worker;
        let others = (0..self.status.tasks.len()).filter(shares);
        let other = others.max_by_key(|&other| (self.in_one_step)(other))?;
        ((self.in_one_step)(other) >= LONG_STEP).then(|| {
            let (name, other_name) = (self.name(task), self.name(other));
            let first = format!(
                "{name} waits for its worker thread, which it shares with \
                {other_name}"
            );
            vec![first, self.long_step(other)]
        })
    }

    fn long_step(&self, task: usize) -> String {
        let long = words((self.in_one_step)(task));
        format!("{} has been in one step of its own code for {long}", self.name(task))
    }

    /// Why a task that could step does not read on.
    fn held_up(&self, way: &UnderWayStatus, task: usize, visited: &mut [bool]) -> Vec<String> {
        if !self.task(task).waits_for_room {
            return Vec::new();
        }
        let name = self.name(task);
        let consumes = |&other: &usize| self.task(other).inputs.iter().any(|feeder| feeder == name);
        let consumers: Vec<usize> = (0..self.status.tasks.len()).filter(consumes).collect();
        for &consumer in &consumers {
            // Its barrier has come there and others have not: it is not read on purpose (SPEC 5.2).
            if let Some(SubtaskStage::Aligning { awaited, .. }) = way.stages.get(consumer)
                && !awaited.iter().any(|feeder| feeder == name)
            {
                let rest = self.chain(way, consumer, visited);
                if !rest.is_empty() {
                    let first =
                        format!("{name} waits for room: {} holds its channel", self.name(consumer));
                    return std::iter::once(first).chain(rest).collect();
                }
            }
        }
        for &consumer in &consumers {
            if let Some(blocked) = self.blocked(consumer) {
                let first = format!("{name} waits for room in its output");
                return std::iter::once(first).chain(blocked).collect();
            }
            if self.task(consumer).waits_for_room
                && !std::mem::replace(&mut visited[consumer], true)
            {
                let rest = self.held_up(way, consumer, visited);
                return std::iter::once(format!("{name} waits for room in its output"))
                    .chain(rest)
                    .collect();
            }
        }
        let names: Vec<&str> = consumers.iter().map(|&consumer| self.name(consumer)).collect();
        let rest = format!("{} reads more slowly than {name} writes", names.join(", "));
        vec![format!("{name} waits for room in its output"), rest]
    }
}

#[cfg(test)]
mod tests {
    use snapline_protocol::ids::CheckpointId;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// in/0, in/1 -> map -> out; all on one worker but `out`.
    fn job(stages: [SubtaskStage; 4]) -> JobStatus {
        let names = ["in/0", "in/1", "map", "out"];
        let inputs: [&[&str]; 4] = [&[], &[], &["in/0", "in/1"], &["map"]];
        let task = |place: usize| TaskStatus {
            subtask: names[place].into(),
            operator: names[place].into(),
            worker: place,
            inputs: inputs[place].iter().map(|&name| name.into()).collect(),
            ..TaskStatus::default()
        };
        let acked = |place: &usize| matches!(stages[*place], SubtaskStage::Written { .. });
        let name = |place: usize| names[place].to_owned();
        let under_way = UnderWayStatus {
            checkpoint: CheckpointId::new(7).expect("not 0"),
            kind: None,
            running: 5 * SECOND,
            acknowledged: (0..4).filter(acked).map(name).collect(),
            missing: (0..4).filter(|place| !acked(place)).map(name).collect(),
            stages: stages.to_vec(),
        };
        JobStatus {
            phase: JobPhase::Running,
            under_way: vec![under_way],
            tasks: (0..4).map(task).collect(),
            ..JobStatus::default()
        }
    }

    fn written() -> SubtaskStage {
        SubtaskStage::Written { since: SECOND }
    }

    fn writing() -> SubtaskStage {
        SubtaskStage::Writing { since: 4 * SECOND }
    }

    fn aligning(awaited: &str) -> SubtaskStage {
        SubtaskStage::Aligning { since: 3 * SECOND, awaited: vec![awaited.into()] }
    }

    fn asked(status: &JobStatus, busy: Option<usize>) -> Why {
        why(status, &|task| if Some(task) == busy { 4 * SECOND } else { Duration::ZERO })
    }

    use SubtaskStage::Waiting;

    #[test]
    fn who_writes_a_snapshot_is_named() {
        let why = asked(&job([written(), writing(), written(), written()]), None);
        assert!(why.late);
        assert_eq!(
            why.text,
            "Checkpoint 7 is late (5.0 s so far): in/1 has been writing its snapshot for 4.0 s."
        );
        assert_eq!(why.chain, Vec::<String>::new());
    }

    #[test]
    fn a_chain_is_followed_to_who_works() {
        let status = job([written(), Waiting, aligning("in/1"), Waiting]);
        let why = asked(&status, Some(1));
        assert!(
            why.text.ends_with("in/1 has been in one step of its own code for 4.0 s."),
            "{why:?}"
        );
        let chain =
            of_task(&status, &status.under_way[0], 3, &|task| SECOND * u32::from(task == 1));
        assert_eq!(
            chain,
            [
                "out waits for the barrier of map",
                "map waits for the barrier of in/1, aligning for 3.0 s",
                "in/1 has been in one step of its own code for 1.0 s",
            ]
        );
    }

    #[test]
    fn a_channel_that_is_held_leads_to_the_barrier_it_is_held_for() {
        // in/1 has not taken the trigger since its output is full; map reads neither input fast,
        // out is slow.
        let mut status = job([written(), Waiting, aligning("in/1"), Waiting]);
        status.tasks[1].waits_for_room = true;
        status.tasks[2].waits_for_room = true;
        let why = asked(&status, Some(3));
        assert!(
            why.text.ends_with("out has been in one step of its own code for 4.0 s."),
            "{why:?}"
        );
        // Held on purpose: in/0 waits for room in a channel whose barrier has come.
        let mut status = job([written(), Waiting, aligning("in/1"), Waiting]);
        status.tasks[0].waits_for_room = true;
        let case = Case { status: &status, in_one_step: &|_| Duration::ZERO };
        let chain = case.held_up(&status.under_way[0], 0, &mut [false; 4]);
        assert_eq!(chain[0], "in/0 waits for room: map holds its channel");
        assert_eq!(
            chain.last().map(String::as_str),
            Some("in/1 is processing its input before the trigger")
        );
    }

    #[test]
    fn a_barrier_that_is_in_the_channel_is_not_its_sender_s_fault() {
        let why = asked(&job([written(), written(), Waiting, Waiting]), None);
        assert!(
            why.text.ends_with("map is processing its input before the barrier of in/0."),
            "{why:?}"
        );
    }

    #[test]
    fn who_shares_a_worker_with_a_long_step_has_no_turn() {
        let mut status = job([written(), written(), Waiting, Waiting]);
        status.tasks[0].worker = 2;
        let why = asked(&status, Some(0));
        assert!(why.text.ends_with("in/0 has been in one step of its own code for 4.0 s."));
        assert_eq!(why.chain[1], "map waits for its worker thread, which it shares with in/0");
    }

    #[test]
    fn a_write_whose_end_nobody_has_a_turn_to_see_is_not_to_blame() {
        let mut status = job([written(), written(), written(), writing()]);
        status.tasks[2].worker = 3;
        let why = asked(&status, Some(2));
        assert!(why.text.ends_with("map has been in one step of its own code for 4.0 s."));
        assert_eq!(why.chain[0], "out waits for its worker thread, which it shares with map");
    }

    #[test]
    fn what_is_not_late_is_not_called_late() {
        let mut status = job([written(), writing(), written(), written()]);
        status.under_way[0].running = SECOND;
        let why = asked(&status, None);
        assert!(!why.late && why.text.contains("is under way (1.0 s so far)"), "{why:?}");
        status.under_way.clear();
        assert!(!asked(&status, None).late);
        assert!(
            asked(&status, Some(2)).late,
            "a step that takes long is reported without a checkpoint too"
        );
    }

    #[test]
    fn a_failure_is_no_end_like_others() {
        let mut status = JobStatus { phase: JobPhase::Ended, ..JobStatus::default() };
        assert_eq!(asked(&status, None), Why::fine("The job has ended.".into()));
        status.failure = Some("the disk is gone".into());
        let text = "The job has failed: the disk is gone";
        assert_eq!(asked(&status, None), Why::late(text.into()));
    }

    #[test]
    fn a_full_circle_ends() {
        // It never happens; but the page must not fail if it does.
        let mut status = job([Waiting, Waiting, Waiting, Waiting]);
        for task in &mut status.tasks {
            (task.inputs, task.waits_for_room) = (vec!["map".into(), "out".into()], true);
        }
        assert!(!asked(&status, None).text.is_empty());
    }
}
