//! Threads for calls of one subtask that may block: several at a time, in any order. A simulator
//! makes the calls on its lanes instead.

use crate::base::error::BoxError;
use crate::base::panic::guarded;
use crate::base::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, lock, thread};
use crate::executor::io_pool::{IoKind, IoPool, IoRequest};

/// Starts a thread of this name that runs this.
pub(crate) type Begin = fn(String, Box<dyn FnOnce() + Send>) -> std::io::Result<()>;

/// Notifies a subtask that it has answers.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a subtask's call threads need of the runtime.
#[derive(Clone)]
pub(crate) struct CallHost {
    pub(crate) io_pool: Arc<IoPool>,
    /// Wakes the subtask: there are answers.
    pub(crate) wake: Wake,
    /// Raised when the attempt is over: calls that were not begun are not made.
    pub(crate) over: Arc<AtomicBool>,
    /// The subtask's index in the job.
    pub(crate) subtask: usize,
    /// Starts a thread: [`begin`], except where there must be none.
    pub(crate) begin: Begin,
}

/// Starts a thread of this name.
///
/// # Errors
/// If the operating system cannot start it.
pub(crate) fn begin(name: String, run: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
    thread::Builder::new().name(name).spawn(run).map(drop)
}

impl std::fmt::Debug for CallHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallHost").field("subtask", &self.subtask).finish_non_exhaustive()
    }
}

/// Opens the client that makes the calls.
type OpenClient<C> = Arc<dyn Fn() -> Result<C, BoxError> + Send + Sync>;

/// A request with its number, and whether its answer is still wanted.
struct CallRequest<Q> {
    number: (u64, u32),
    ask: Q,
    unwanted: Arc<AtomicBool>,
}

/// The outcome of a request: its number, and the answer.
pub(crate) type CallResult<A> = ((u64, u32), Result<A, BoxError>);

/// Makes calls with clients of type `C`, each of which belongs to one thread.
pub(crate) struct CallPool<Q, A, C> {
    host: CallHost,
    open: OpenClient<C>,
    call: fn(&mut C, &Q) -> Result<A, BoxError>,
    answers: Arc<Mutex<Vec<CallResult<A>>>>,
    /// Calls wait here for a thread. Threads end when the sender is gone.
    questions:
        (crossbeam_channel::Sender<CallRequest<Q>>, crossbeam_channel::Receiver<CallRequest<Q>>),
    /// Threads that wait for a request, less the requests that wait for one of them.
    idle: Arc<AtomicUsize>,
    threads: usize,
    most: usize,
}

impl<Q, A, C> CallPool<Q, A, C>
where
    Q: Send + 'static,
    A: Send + 'static,
    C: 'static,
{
    /// At most this many threads, each started when it is needed.
    pub(crate) fn new(
        host: CallHost,
        most: usize,
        open: OpenClient<C>,
        call: fn(&mut C, &Q) -> Result<A, BoxError>,
    ) -> Self {
        let (answers, questions) = (Arc::default(), crossbeam_channel::unbounded());
        let (idle, threads) = (Arc::new(AtomicUsize::new(0)), 0);
        Self { host, open, call, answers, questions, idle, threads, most }
    }

    /// Makes a call. The returned flag, if raised, says that the answer is no longer wanted.
    ///
    /// # Errors
    /// If there is no thread for it, and none can be started.
    pub(crate) fn ask(&mut self, number: (u64, u32), ask: Q) -> std::io::Result<Arc<AtomicBool>> {
        let unwanted = Arc::new(AtomicBool::new(false));
        let question = CallRequest { number, ask, unwanted: Arc::clone(&unwanted) };
        let helper = Caller {
            wake: Arc::clone(&self.host.wake),
            over: Arc::clone(&self.host.over),
            open: Arc::clone(&self.open),
            call: self.call,
            answers: Arc::clone(&self.answers),
        };
        if self.host.io_pool.are_simulated() {
            // On several lanes, so that answers arrive in another order than the requests.
            let lane = self.host.subtask + (number.0 as usize) * 3;
            let over = Arc::clone(&self.host.over);
            let run = move || helper.answer(&mut None, question);
            self.host.io_pool.submit(lane, IoRequest::new(IoKind::LookUp, run).unless(&over));
            return Ok(unwanted);
        }
        let free = |idle: usize| idle.checked_sub(1);
        let waits = self.idle.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).is_ok();
        if !waits && self.threads < self.most {
            let (questions, idle) = (self.questions.1.clone(), Arc::clone(&self.idle));
            let name = format!("snapline-look-up-{}", self.host.subtask);
            let run = move || helper.run(&questions, &idle);
            match (self.host.begin)(name, Box::new(run)) {
                Ok(()) => self.threads += 1,
                Err(error) if self.threads == 0 => return Err(error),
                // The existing threads will get to it.
                Err(_) => {}
            }
        }
        // The receiver is in `self` too, so that the channel is open.
        let _ = self.questions.0.send(question);
        Ok(unwanted)
    }

    /// The answers that have arrived.
    pub(crate) fn answers(&self) -> Vec<CallResult<A>> {
        std::mem::take(&mut *lock(&self.answers))
    }
}

/// What a call needs. Of the runtime it holds only the way to the task, since it may outlive the
/// job. A job is over when its lanes are joined, and they are joined when their last owner is gone.
struct Caller<Q, A, C> {
    wake: Wake,
    over: Arc<AtomicBool>,
    open: OpenClient<C>,
    call: fn(&mut C, &Q) -> Result<A, BoxError>,
    answers: Arc<Mutex<Vec<CallResult<A>>>>,
}

impl<Q, A, C> Caller<Q, A, C> {
    /// On a thread of its own. Its end is not waited for: a call may take for ever.
    fn run(self, questions: &crossbeam_channel::Receiver<CallRequest<Q>>, idle: &AtomicUsize) {
        let mut client = None;
        while let Ok(question) = questions.recv() {
            if !self.over.load(Ordering::Acquire) {
                self.answer(&mut client, question);
            }
            idle.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn answer(&self, client: &mut Option<C>, question: CallRequest<Q>) {
        let CallRequest { number, ask, unwanted } = question;
        if unwanted.load(Ordering::Acquire) {
            return;
        }
        let answer = guarded(|| {
            // Taken out, so that a client whose code panicked is not used again.
            let mut one = match client.take() {
                Some(one) => one,
                None => (self.open)()?,
            };
            let answer = (self.call)(&mut one, &ask);
            *client = Some(one);
            answer
        });
        let mut answers = lock(&self.answers);
        answers.push((number, answer));
        // The notification for the first covers the others too.
        if answers.len() == 1 {
            drop(answers);
            (self.wake)();
        }
    }
}
