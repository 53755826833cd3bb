//! What users type: a dataflow of streams, built into a job.

mod broadcast;
mod job;
mod join;
mod keyed;
mod lookup;
mod misuse;
mod stream;
mod time;
mod window;

use std::cell::RefCell;
use std::rc::Rc;

pub use broadcast::{BroadcastProcess, Broadcasting};
pub use job::Job;
pub use join::{Between, EitherKeyer, IntervalJoin, Restamp};
pub use keyed::aggregates::{Aggregate, Average, Count, Extreme, Number, Reduce, Sum, SumError};
pub use keyed::{ByFirst, ByFn, Closure, Emit, Emitter, KeyState, Keyed, KeyedProcess};
pub use lookup::{LookingUp, Lookup, OfTimed};
pub use stream::{FromInputs, FromSource, KeyedOutput, KeyedStream, Pipe, Stream};
pub use time::expiry::{Distinct, Expiring, Highest};
pub use time::timed::{
    ConnectedStreams, TimedKeyedOutput, TimedKeyedStream, TimedStream, WindowedStream,
};
pub use time::timers::{
    Both, CoProcess, Input, KeyedTimers, TimeContext, TimedClosure, TimedProcess,
};
pub use time::watermarks::{
    AssignTimestamps, AtEnd, Bounded, Idle, Punctuated, Stamped, Stepwise, WatermarkStrategy,
    Watermarks,
};
pub use window::operator::{DropLate, KeepLate, LateRule, Windows};
pub use window::trigger::{
    AtEventTime, AtProcessingTime, EveryEventTime, EveryProcessingTime, EveryRecords, Firing,
    NoTrigger, Now, Purging, Trigger,
};
pub use window::{
    ByProcessingTime, CountWindow, FoldWindow, GlobalWindows, ProcessWindow, ReduceWindow, Session,
    Sliding, TimeDomain, Tumbling, Unmerged, Window, WindowAssigner, WindowFunction, Windowed,
};

use crate::operator::chain::Identity;
use crate::plan::config::JobConfig;
use crate::plan::graph::Graph;
use crate::plan::spec::BuildError;
use snapline_core::connect::Source;

/// A dataflow being described: sources, operators and sinks. See the [crate's front page](crate)
/// for one.
///
/// ```
/// use snapline::connect::{MemorySink, MemorySource};
/// use snapline::{BuildError, Dataflow, JobConfig};
///
/// let flow = Dataflow::new("doubled");
/// flow.source("numbers", MemorySource::new(vec![1, 2])).map(|n| n * 2).sink("out", MemorySink::new());
/// let job = flow.build(JobConfig::new().parallelism(2)).expect("it is one");
/// assert_eq!(job.topology().operators().len(), 2);
///
/// let nothing = Dataflow::new("nothing").build(JobConfig::new());
/// assert!(matches!(nothing, Err(BuildError::Topology(_))));
/// ```
#[derive(Clone)]
pub struct Dataflow {
    name: String,
    graph: Rc<RefCell<Graph>>,
}

impl std::fmt::Debug for Dataflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dataflow({})", self.name)
    }
}

impl Dataflow {
    /// An empty dataflow. The name is the job's: it is in its checkpoints, and in front of every
    /// message about it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), graph: Rc::default() }
    }

    /// A stream of a source's records.
    pub fn source<S: Source>(
        &self,
        name: &str,
        source: S,
    ) -> Stream<FromSource<S, Identity<S::Record>>> {
        Stream::from_source(Rc::clone(&self.graph), name, source)
    }

    /// Checks the dataflow and the configuration, computes the guarantee, and makes a job of them.
    ///
    /// # Errors
    /// [`BuildError`]: what does not fit, and where.
    pub fn build(self, config: JobConfig) -> Result<Job, BuildError> {
        let graph = std::mem::take(&mut *self.graph.borrow_mut());
        Job::new(self.name, graph, config)
    }
}
