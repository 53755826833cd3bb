//! What each thread of the runtime is doing, and since when. A thread that hangs is found and
//! named, and the wait for it ends (SPEC 15.13).

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::base::panic::guarded;
use crate::base::sync::{Arc, Mutex, lock, nap};

/// The longest sleep of a thread that waits for another's end.
const NAP: Duration = Duration::from_millis(5);

/// What one thread is doing. Clones watch the same thread.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Doing>>);

#[derive(Clone, Copy, Default)]
enum Doing {
    /// Nothing that can hang: it waits for work.
    #[default]
    Waiting,
    /// This operation since then, for this subtask if it is a subtask's.
    Busy(&'static str, Option<usize>, Instant),
    /// It has ended.
    Gone,
    /// It hung, and is not waited for any more.
    Left,
}

/// A thread that hangs: what it is doing, for which subtask, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Hung {
    /// The operation.
    pub doing: &'static str,
    /// The subtask, if it works for one.
    pub subtask: Option<usize>,
    /// Since it began.
    pub time: Duration,
}

thread_local! {
    /// The watch of this thread, if it is watched.
    static MINE: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

impl Watch {
    /// Runs a thread under this watch, to its end.
    pub fn over<R>(&self, run: impl FnOnce() -> R) -> R {
        /// Whether the thread returns or panics.
        struct End(Watch);
        impl Drop for End {
            fn drop(&mut self) {
                *lock(&self.0.0) = Doing::Gone;
            }
        }
        let _end = End(self.clone());
        MINE.set(Some(self.clone()));
        run()
    }

    /// What it has been doing for longer than this.
    pub fn hung(&self, limit: Duration) -> Option<Hung> {
        match *lock(&self.0) {
            Doing::Busy(doing, subtask, since) => {
                let time = since.elapsed();
                (time > limit).then_some(Hung { doing, subtask, time })
            }
            Doing::Waiting | Doing::Gone | Doing::Left => None,
        }
    }

    /// The process, or its machine, was suspended: the thread's time limit starts again.
    pub fn thaw(&self) {
        if let Doing::Busy(_, _, since) = &mut *lock(&self.0) {
            *since = Instant::now();
        }
    }

    /// Waits until the thread has ended, which it does as soon as its operation returns. `false` if
    /// it has not ended within this time, counted from then.
    pub fn gone_by(&self, since: Instant, limit: Duration) -> bool {
        let mut pause = Duration::from_micros(50);
        while !matches!(*lock(&self.0), Doing::Gone) {
            if since.elapsed() > limit {
                return false;
            }
            beat();
            nap(pause);
            pause = (pause * 2).min(NAP);
        }
        true
    }

    /// Waits until the thread has ended, which it does as soon as its operation returns.
    ///
    /// # Errors
    /// [`Hung`] if that takes longer than this: the thread is left, and not waited for again.
    pub fn gone(&self, limit: Duration) -> Result<(), Hung> {
        let mut pause = Duration::from_micros(50);
        loop {
            let hung = self.hung(limit);
            let mut doing = lock(&self.0);
            match *doing {
                Doing::Gone => return Ok(()),
                Doing::Left => {
                    return Err(Hung { doing: "ending", subtask: None, time: limit });
                }
                Doing::Waiting | Doing::Busy(..) => {
                    if let Some(hung) = hung {
                        *doing = Doing::Left;
                        return Err(hung);
                    }
                }
            }
            drop(doing);
            beat();
            nap(pause);
            pause = (pause * 2).min(NAP);
        }
    }
}

/// How often a watching thread checks for an operation that hangs for this long.
pub fn every(limit: Duration) -> Duration {
    (limit / 4).clamp(Duration::from_millis(1), Duration::from_secs(1))
}

/// Whether the watching thread itself was suspended since its last check: then the other threads
/// were too, and no operation hangs for that reason.
pub fn stood_still(last: Instant, every: Duration) -> bool {
    last.elapsed() > every * 2 + Duration::from_secs(1)
}

/// Changes what this thread is doing, unless it was abandoned.
fn change(to: impl FnOnce(Doing) -> Doing) {
    MINE.with_borrow(|mine| {
        if let Some(mine) = mine {
            let mut doing = lock(&mine.0);
            if !matches!(*doing, Doing::Left) {
                *doing = to(*doing);
            }
        }
    });
}

/// This thread begins an operation that can hang.
pub fn begin(doing: &'static str, subtask: Option<usize>) {
    change(|_| Doing::Busy(doing, subtask, Instant::now()));
}

/// This thread makes progress with its operation: the time limit starts again.
pub fn beat() {
    change(|doing| match doing {
        Doing::Busy(doing, subtask, _) => Doing::Busy(doing, subtask, Instant::now()),
        other => other,
    });
}

/// The last guard around work on a lane: a panic that was not caught before does not end the
/// thread, and is reported.
pub fn guard(doing: &'static str, run: impl FnOnce()) {
    let ran = guarded(|| {
        run();
        Ok(())
    });
    if let Err(what) = ran {
        tracing::error!(target: "snapline::lane", doing, %what, "a lane panicked and continues");
    }
}

/// This thread waits for work.
pub fn wait() {
    change(|_| Doing::Waiting);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::thread;

    const SOON: Duration = Duration::from_millis(5);
    const LATE: Duration = Duration::from_secs(3600);

    #[test]
    fn a_thread_that_hangs_is_named_and_left_and_one_that_ends_is_waited_for() {
        let (watch, (go, wait_for)) = (Watch::default(), crossbeam_channel::bounded::<()>(1));
        let theirs = watch.clone();
        let run = move || {
            theirs.over(|| {
                begin("reading", Some(3));
                wait_for.recv().expect("it is released");
            });
        };
        let thread = thread::spawn(run);
        let hung = loop {
            if let Some(hung) = watch.hung(SOON) {
                break hung;
            }
        };
        assert_eq!((hung.doing, hung.subtask), ("reading", Some(3)));
        assert!(hung.time > SOON && watch.hung(LATE).is_none());
        watch.gone(SOON).expect_err("it hangs");
        watch.gone(LATE).expect_err("it was left: it is not waited for again");
        go.send(()).expect("it waits");
        thread.join().expect("no panic");
        watch.gone(SOON).expect("it has ended all the same");
    }

    #[test]
    fn a_process_that_stood_still_does_not_hang() {
        let watch = Watch::default();
        let theirs = watch.clone();
        watch.over(|| {
            begin("writing", None);
            nap(SOON);
            assert!(theirs.hung(Duration::ZERO).is_some_and(|hung| hung.time >= SOON));
            let at = Instant::now();
            theirs.thaw();
            assert!(theirs.hung(Duration::ZERO).is_none_or(|hung| hung.time <= at.elapsed()));
        });
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).expect("a clock");
        assert!(stood_still(ago(4), Duration::from_secs(1)));
        assert!(!stood_still(ago(2), Duration::from_secs(1)));
    }

    #[test]
    fn progress_is_no_hanging_and_a_panic_is_an_end() {
        let watch = Watch::default();
        let theirs = watch.clone();
        let run = move || {
            theirs.over(|| {
                begin("deleting", None);
                nap(SOON);
                let before = theirs.hung(Duration::ZERO).expect("it has begun").time;
                assert!(before >= SOON);
                let at = Instant::now();
                beat();
                let hung = theirs.hung(Duration::ZERO);
                assert!(hung.is_none_or(|hung| hung.time <= at.elapsed()), "it begins again");
                panic!("at the end");
            });
        };
        let thread = thread::spawn(run);
        watch.gone(LATE).expect("it ends");
        let payload = thread.join().expect_err("it panicked");
        assert_eq!(payload.downcast_ref(), Some(&"at the end"));
    }
}
