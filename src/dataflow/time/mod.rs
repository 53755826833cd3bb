//! Operators of event time.

/// The part of an [`OperatorChain`](crate::operator::chain::OperatorChain) that is the same for every
/// operator that fires by event time and by the clock. The operator has `watermark`, `processing`,
/// `late` and `ended`, and says what `fire_event_time` and `fire_processing_time` do.
macro_rules! fires_by_both_clocks {
    () => {
        fn mark<C: Flow<Self::Out>>(&mut self, mark: Mark, out: &mut C) -> Ending {
            if let Mark::Watermark(watermark) = mark {
                self.watermark = Timestamp::from_millis(watermark);
                return self.fire(out);
            }
            out.mark(mark);
            Ending::Done
        }

        fn fire<C: Flow<Self::Out>>(&mut self, out: &mut C) -> Ending {
            let ending = self.fire_event_time(out);
            if ending == Ending::Done {
                out.mark(Mark::Watermark(self.watermark.millis()));
            }
            ending
        }

        fn wake(&self) -> Option<Timestamp> {
            self.processing.next()
        }

        fn due<C: Flow<Self::Out>>(&mut self, now: Timestamp, out: &mut C) {
            // What is left is as due as it was, and fires in the next step.
            let _ = self.fire_processing_time(now, out);
        }

        fn resume(&mut self, watermark: Timestamp) {
            self.watermark = watermark;
        }

        fn late(&self) -> u64 {
            self.late
        }

        fn end<C: Flow<Self::Out>>(&mut self, out: &mut C) -> Ending {
            self.ended = true;
            if self.fire_processing_time(Timestamp::MAX, out) == Ending::More {
                return Ending::More;
            }
            self.watermark = Timestamp::MAX;
            self.fire_event_time(out)
        }
    };
}
pub(crate) use fires_by_both_clocks;

pub(crate) mod expiry;
pub(crate) mod timed;
pub(crate) mod timer_queue;
pub(crate) mod timers;
pub(crate) mod watermarks;
