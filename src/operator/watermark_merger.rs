//! Merges the event time of a task's inputs into its own (SPEC 16.3).

use serde::{Deserialize, Serialize};

use crate::base::fault::{Faults, Mutation};
use crate::channel::Mark;

/// The event time of a channel or a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WatermarkStatus {
    /// In milliseconds; the smallest number before the first watermark.
    pub(crate) watermark: i64,
    pub(crate) idle: bool,
}

impl Default for WatermarkStatus {
    fn default() -> Self {
        Self { watermark: i64::MIN, idle: false }
    }
}

impl WatermarkStatus {
    /// Applies a mark; returns whether it changes anything. A watermark never goes back.
    pub(crate) fn note(&mut self, mark: Mark) -> bool {
        let before = *self;
        match mark {
            Mark::Watermark(watermark) => self.watermark = self.watermark.max(watermark),
            Mark::Idle => self.idle = true,
            Mark::Active => self.idle = false,
        }
        *self != before
    }

    /// Marks that rebuild this status at a new receiver. An idle one sends `Idle` first, so that
    /// its watermark does not count.
    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark> + use<> {
        let watermark = (self.watermark > i64::MIN).then_some(Mark::Watermark(self.watermark));
        let idle = self.idle.then_some(Mark::Idle);
        let active = (!self.idle).then_some(Mark::Active);
        idle.into_iter().chain(watermark).chain(active)
    }
}

/// One input.
#[derive(Clone, Copy, Debug)]
struct InputState {
    standing: WatermarkStatus,
    /// It has caught up with the task, so that its watermark counts. One that was idle may lag when
    /// it comes back.
    counts: bool,
    ended: bool,
}

/// The watermark of a task: the minimum of its inputs', never less than it was.
#[derive(Clone, Debug)]
pub(crate) struct WatermarkMerger {
    inputs: Vec<InputState>,
    /// `None` before the first mark.
    standing: Option<WatermarkStatus>,
    faults: Faults,
}

impl WatermarkMerger {
    pub(crate) fn new(inputs: usize, faults: Faults) -> Self {
        let input = InputState { standing: WatermarkStatus::default(), counts: true, ended: false };
        Self { inputs: vec![input; inputs], standing: None, faults }
    }

    /// The status of the task.
    pub(crate) const fn standing(&self) -> Option<WatermarkStatus> {
        self.standing
    }

    /// Resumes from this status. The inputs repeat theirs (SPEC 16.4); until then they hold the
    /// watermark back.
    pub(crate) const fn resume(&mut self, standing: Option<WatermarkStatus>) {
        self.standing = standing;
    }

    fn now(&self) -> WatermarkStatus {
        self.standing.unwrap_or_default()
    }

    /// Takes in an input's mark; returns the task's marks that follow.
    pub(crate) fn take(&mut self, input: usize, mark: Mark) -> impl Iterator<Item = Mark> + use<> {
        let before = self.now();
        if let (true, Mark::Watermark(watermark)) =
            (self.faults.is_active(Mutation::AnyWatermark), mark)
        {
            self.advance(watermark);
            return emitted(before, self.now());
        }
        let at = &mut self.inputs[input];
        if self.faults.is_active(Mutation::IdleForEver) && at.standing.idle {
            return emitted(before, before);
        }
        at.standing.note(mark);
        let watermark = at.standing.watermark;
        match mark {
            Mark::Watermark(_) if at.standing.idle => {}
            Mark::Watermark(_) => {
                at.counts |= watermark >= before.watermark;
                // The input speaks, and is not idle: so the task is active. Usually it is already
                // (16.4), but a restored task may have other inputs than before (15.6).
                if let Some(standing) = &mut self.standing {
                    standing.idle = false;
                }
                self.least();
            }
            Mark::Active => {
                at.counts = watermark >= before.watermark;
                self.standing.get_or_insert_default().idle = false;
                self.least();
            }
            Mark::Idle => {
                at.counts = false;
                self.without(watermark == before.watermark);
            }
        }
        emitted(before, self.now())
    }

    /// An input has ended: the task no longer waits for it. If all have, the task's end is next,
    /// and this returns no mark.
    pub(crate) fn end(&mut self, input: usize) -> impl Iterator<Item = Mark> + use<> {
        let before = self.now();
        let at = &mut self.inputs[input];
        let held = at.counts && !at.ended;
        (at.ended, at.counts) = (true, false);
        // A task without event time emits no mark.
        let timed = self.standing.is_some()
            || self.inputs.iter().any(|input| input.standing != WatermarkStatus::default());
        if timed && self.inputs.iter().any(|input| !input.ended) {
            self.without(held);
        }
        emitted(before, self.now())
    }

    /// An input that may have held the others back no longer counts.
    fn without(&mut self, held: bool) {
        let live = |input: &&InputState| !input.ended;
        if self.inputs.iter().filter(live).any(|input| !input.standing.idle) {
            if held {
                self.least();
            }
            return;
        }
        if held {
            let most = self.inputs.iter().filter(live).map(|input| input.standing.watermark).max();
            self.advance(most.unwrap_or(i64::MIN));
        }
        self.standing.get_or_insert_default().idle = true;
    }

    fn least(&mut self) {
        let counting = self.inputs.iter().filter(|input| input.counts && !input.ended);
        if let Some(least) = counting.map(|input| input.standing.watermark).min() {
            self.advance(least);
        }
    }

    fn advance(&mut self, watermark: i64) {
        self.standing.get_or_insert_default().note(Mark::Watermark(watermark));
    }
}

/// The changes, as marks: first the watermark.
fn emitted(before: WatermarkStatus, now: WatermarkStatus) -> impl Iterator<Item = Mark> + use<> {
    let watermark = (now.watermark > before.watermark).then_some(Mark::Watermark(now.watermark));
    let status = (now.idle != before.idle).then_some(match now.idle {
        true => Mark::Idle,
        false => Mark::Active,
    });
    watermark.into_iter().chain(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mark::{Active, Idle, Watermark};

    fn told(watermarks: &mut WatermarkMerger, input: usize, mark: Mark) -> Vec<Mark> {
        watermarks.take(input, mark).collect()
    }

    /// SPEC 16.3
    #[test]
    fn the_watermark_is_the_least_of_the_inputs() {
        let mut watermarks = WatermarkMerger::new(2, Faults::default());
        assert_eq!(told(&mut watermarks, 0, Watermark(10)), []);
        assert_eq!(told(&mut watermarks, 1, Watermark(5)), [Watermark(5)]);
        assert_eq!(told(&mut watermarks, 1, Watermark(20)), [Watermark(10)]);
        assert_eq!(told(&mut watermarks, 1, Watermark(15)), [], "it never goes back");
        assert_eq!(watermarks.end(0).collect::<Vec<_>>(), [Watermark(20)]);
        assert_eq!(watermarks.end(1).collect::<Vec<_>>(), [], "the task's end is next");
    }

    /// SPEC 16.3
    #[test]
    fn idle_inputs_hold_nothing_back_and_count_again_when_they_have_caught_up() {
        let mut watermarks = WatermarkMerger::new(2, Faults::default());
        told(&mut watermarks, 0, Watermark(10));
        assert_eq!(told(&mut watermarks, 1, Idle), [Watermark(10)]);
        assert_eq!(told(&mut watermarks, 1, Active), []);
        assert_eq!(told(&mut watermarks, 1, Watermark(3)), [], "it lags, and does not count");
        assert_eq!(told(&mut watermarks, 0, Watermark(12)), [Watermark(12)]);
        assert_eq!(told(&mut watermarks, 1, Watermark(12)), []);
        assert_eq!(told(&mut watermarks, 0, Watermark(30)), [], "it counts again");
        // All idle: the input that held back goes last, and the most advanced counts.
        assert_eq!(told(&mut watermarks, 0, Idle), []);
        assert_eq!(told(&mut watermarks, 1, Idle), [Watermark(30), Idle]);
        assert_eq!(told(&mut watermarks, 0, Active), [Active]);
    }

    /// SPEC 16.3: an input that has ended does not affect the others.
    #[test]
    fn an_end_is_no_watermark_where_others_are_idle() {
        let mut watermarks = WatermarkMerger::new(2, Faults::default());
        told(&mut watermarks, 0, Watermark(10));
        told(&mut watermarks, 1, Watermark(4));
        assert_eq!(told(&mut watermarks, 1, Idle), [Watermark(10)]);
        assert_eq!(watermarks.end(0).collect::<Vec<_>>(), [Idle]);
        assert_eq!(watermarks.standing(), Some(WatermarkStatus { watermark: 10, idle: true }));
    }

    /// SPEC 15.6, 16.4: a task that was idle and is restored with another input is active when that
    /// input speaks.
    #[test]
    fn a_restored_valve_hears_an_input_that_it_did_not_have_before() {
        let mut watermarks = WatermarkMerger::new(1, Faults::default());
        watermarks.resume(Some(WatermarkStatus { watermark: 10, idle: true }));
        assert_eq!(told(&mut watermarks, 0, Watermark(5)), [Active]);
        assert_eq!(told(&mut watermarks, 0, Watermark(12)), [Watermark(12)]);
    }

    /// SPEC 16.1
    #[test]
    fn who_never_heard_of_event_time_is_told_nothing() {
        let mut watermarks = WatermarkMerger::new(2, Faults::default());
        assert_eq!(watermarks.end(0).collect::<Vec<_>>(), []);
        assert_eq!(watermarks.end(1).collect::<Vec<_>>(), []);
        assert_eq!(watermarks.standing(), None);
    }

    /// SPEC 16.4: a merger that is restored and gets its inputs' marks again continues as the one
    /// before.
    #[test]
    fn a_restored_valve_goes_on_as_the_one_before() {
        use proptest::prelude::*;
        let mark = prop_oneof![
            3 => (0i64..40).prop_map(Watermark),
            1 => Just(Idle),
            1 => Just(Active),
        ];
        let emitted = || proptest::collection::vec((0usize..3, mark.clone()), 0..40);
        proptest!(|(before in emitted(), after in emitted())| {
            let mut watermarks = WatermarkMerger::new(3, Faults::default());
            let mut producers: [Option<WatermarkStatus>; 3] = [None; 3];
            // A producer sends changes, and no watermark while it is idle.
            let news = |producer: &mut Option<WatermarkStatus>, mark| {
                let mut standing = producer.unwrap_or_default();
                let news = !(standing.idle && matches!(mark, Watermark(_))) && standing.note(mark);
                if news {
                    *producer = Some(standing);
                }
                news
            };
            for (input, mark) in before {
                if news(&mut producers[input], mark) {
                    told(&mut watermarks, input, mark);
                }
            }
            let mut restored = WatermarkMerger::new(3, Faults::default());
            restored.resume(watermarks.standing());
            for (input, standing) in producers.iter().enumerate() {
                for mark in standing.iter().flat_map(WatermarkStatus::marks) {
                    prop_assert_eq!(told(&mut restored, input, mark), [], "nothing new is said");
                }
            }
            prop_assert_eq!(restored.standing(), watermarks.standing());
            for (input, mark) in after {
                if news(&mut producers[input], mark) {
                    let (one, other) = (told(&mut watermarks, input, mark), told(&mut restored, input, mark));
                    prop_assert_eq!(one, other, "{:?} {:?}", watermarks, restored);
                }
            }
        });
    }
}
