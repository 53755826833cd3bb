//! A dataflow before it runs: nodes and typed edges.

use std::collections::VecDeque;
use std::time::Duration;

use snapline_protocol::ids::TxnId;
use snapline_protocol::topology::{Role, Wiring};

use crate::base::error::BoxError;
use crate::base::fault::{Faults, Mutation};
use crate::base::sync::{Arc, Mutex, Unparker, lock};
use crate::channel::{Receiver, Sender, channel};
use crate::operator::body::{ChainOperator, POSITION, SourceOperator, TaskOperator, restore_time};
use crate::operator::chain::{OperatorChain, TaskContext};
use crate::operator::key::Keyer;
use crate::operator::output::{Output, OutputChannel};
use crate::operator::route::{
    Branch, Broadcast, CloneRoute, Exchange, Fork, RoundRobin, Route, Split, SplitRecord,
};
use crate::operator::sink::{COMMITTABLES, SinkOperator};
use crate::operator::time::Timestamp;
use crate::operator::watermark_merger::WatermarkMerger;
use crate::plan::spec::BuildError;
use crate::state::{Keys, Restored};
use snapline_core::connect::{Classify, Delivery, Source, SourceReader, TwoPhaseSink};

/// How much is done, or waits, at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferSizes {
    /// Messages a channel holds: enough for a burst of small batches, few enough that a barrier
    /// does not wait long.
    pub(crate) channel: usize,
    /// Records in a batch; `None`: by their size.
    pub(crate) batch: Option<usize>,
    /// Records a source reads in one step, to begin with: fewer if a step takes long, more if it
    /// takes no time.
    pub(crate) read: usize,
    /// Steps after which partial batches are sent although there is more to do, so that a channel
    /// with few records gets them soon.
    pub(crate) flush_every: u32,
    pub(crate) faults: Faults,
}

impl Default for BufferSizes {
    fn default() -> Self {
        Self { channel: 16, batch: None, read: 1024, flush_every: 64, faults: Faults::default() }
    }
}

/// The ends of an edge's channels that are not taken yet, by producer and by consumer.
struct Ends<T> {
    sizing: BufferSizes,
    /// Its edge in the topology.
    edge: usize,
    senders: Vec<Vec<Sender<T>>>,
    receivers: Vec<Vec<Receiver<T>>>,
}

/// An edge between two nodes, with the type of its records.
pub(crate) struct Edge<T>(Mutex<Ends<T>>);

impl<T: Send> Edge<T> {
    pub(crate) fn new() -> Arc<Self> {
        let (sizing, senders, receivers) = (BufferSizes::default(), Vec::new(), Vec::new());
        Arc::new(Self(Mutex::new(Ends { sizing, edge: 0, senders, receivers })))
    }

    fn outboxes(&self, producer: usize) -> Vec<OutputChannel<T>> {
        let mut ends = lock(&self.0);
        let (batch, edge) = (ends.sizing.batch, ends.edge);
        let senders = std::mem::take(&mut ends.senders[producer]);
        let mut outboxes: Vec<_> =
            senders.into_iter().map(|sender| OutputChannel::new(sender, batch, edge)).collect();
        let faults = ends.sizing.faults;
        let last = outboxes.len().saturating_sub(1);
        for (place, outbox) in outboxes.iter_mut().enumerate() {
            // A fault of one output is planted in the first, or in the last.
            let spared = (faults.is_active(Mutation::PartialFanOut) && place > 0)
                || (faults.is_active(Mutation::BarrierSkipsOutput) && place < last);
            if !spared {
                outbox.faults = faults;
            }
        }
        outboxes
    }

    fn receivers(&self, consumer: usize) -> Vec<Receiver<T>> {
        std::mem::take(&mut lock(&self.0).receivers[consumer])
    }
}

/// An edge of any record type.
pub(crate) trait Connect: Send + Sync {
    /// Makes the channels of an attempt, of this edge of the topology, between subtasks whose
    /// workers these wake.
    fn connect(
        &self,
        edge: usize,
        wiring: Wiring,
        sizing: BufferSizes,
        producers: &[Unparker],
        consumers: &[Unparker],
    );
}

impl<T: Send> Connect for Edge<T> {
    fn connect(
        &self,
        edge: usize,
        wiring: Wiring,
        sizing: BufferSizes,
        producers: &[Unparker],
        consumers: &[Unparker],
    ) {
        let mut ends = lock(&self.0);
        (ends.sizing, ends.edge) = (sizing, edge);
        ends.senders = producers.iter().map(|_| Vec::new()).collect();
        ends.receivers = consumers.iter().map(|_| Vec::new()).collect();
        for (from, producer) in producers.iter().enumerate() {
            for (to, consumer) in consumers.iter().enumerate() {
                if wiring == Wiring::AllToAll || from == to {
                    let (sender, receiver) =
                        channel(sizing.channel, producer.clone(), consumer.clone());
                    ends.senders[from].push(sender);
                    ends.receivers[to].push(receiver);
                }
            }
        }
    }
}

/// An edge of a dataflow.
pub(crate) struct EdgeSpec {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Records go by key, or to all, so that every producer needs every consumer.
    pub(crate) keyed: bool,
    pub(crate) edge: Arc<dyn Connect>,
}

/// A task operator ready to step.
pub struct OpenedOperator {
    pub(crate) body: Box<dyn TaskOperator>,
    /// A sink's committables in the checkpoint it is restored from, ascending.
    pub(crate) pending: Vec<TxnId>,
}

/// Opens a task operator, on the thread of its worker; takes as long as reading its state takes.
pub(crate) type OpenOperator = Box<
    dyn FnOnce(&TaskContext, Option<&mut Restored<'_>>) -> Result<OpenedOperator, BoxError> + Send,
>;

/// Makes the operators of a node's subtasks.
pub trait OperatorFactory: Send + Sync {
    /// Takes the ends of a subtask's channels.
    fn make(&self, index: usize, keys: Keys) -> OpenOperator;

    /// Finds its connectors' own errors among others.
    fn classify(&self) -> Classify;
}

/// A node of a dataflow.
pub(crate) struct OperatorNode {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) parallelism: Option<usize>,
    pub(crate) make: Arc<dyn OperatorFactory>,
    /// How many edges must go out of it: each branch of a fork is one.
    pub(crate) outputs: usize,
    /// A source: whether it is replayable.
    pub(crate) replayable: Option<bool>,
    /// A sink: how it delivers.
    pub(crate) delivery: Option<Delivery>,
    /// A sink: how long the external system keeps an uncommitted transaction; `None` for ever.
    pub(crate) transaction_timeout: Option<Duration>,
}

/// Nodes and edges, as far as they have been described.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<OperatorNode>,
    pub(crate) edges: Vec<EdgeSpec>,
    /// The sources' names, in the order in which they were described, and whether their streams are
    /// consumed.
    pub(crate) sources: Vec<(String, bool)>,
    /// Errors found in the description.
    pub(crate) wrong: Vec<BuildError>,
}

impl Graph {
    /// Adds a source; returns its index among the sources.
    pub(crate) fn begin(&mut self, source: &str) -> usize {
        self.sources.push((source.to_owned(), false));
        self.sources.len() - 1
    }

    /// A name for an operator without one.
    pub(crate) fn unused_name(&self, like: &str) -> String {
        let taken = |name: &str| self.nodes.iter().any(|node| node.name == name);
        let mut names = std::iter::once(like.to_owned())
            .chain((2..).map(|number: u64| format!("{like}-{number}")));
        // Invariant: the chain is endless and the nodes are not.
        names.find(|name| !taken(name)).expect("one name of endlessly many is free")
    }
}

/// Makes the route of a node's subtask.
pub trait MakeRoute<T>: Clone + Send + Sync + 'static {
    type Route: Route<T>;

    fn make(&self, producer: usize, keys: Keys) -> Self::Route;
}

/// Makes plain routes.
pub(crate) struct MakeRoundRobin<T>(pub(crate) Arc<Edge<T>>);

impl<T> Clone for MakeRoundRobin<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> MakeRoute<T> for MakeRoundRobin<T> {
    type Route = RoundRobin<T>;

    fn make(&self, producer: usize, _keys: Keys) -> RoundRobin<T> {
        RoundRobin::new(self.0.outboxes(producer))
    }
}

/// Makes routes by key.
pub(crate) struct MakeExchange<T, K> {
    pub(crate) edge: Arc<Edge<T>>,
    pub(crate) keyer: K,
}

impl<T, K: Clone> Clone for MakeExchange<T, K> {
    fn clone(&self) -> Self {
        Self { edge: Arc::clone(&self.edge), keyer: self.keyer.clone() }
    }
}

impl<T: Send + 'static, K: Keyer<T>> MakeRoute<T> for MakeExchange<T, K> {
    type Route = Exchange<T, K>;

    fn make(&self, producer: usize, keys: Keys) -> Exchange<T, K> {
        Exchange::new(self.keyer.clone(), keys, self.edge.outboxes(producer))
    }
}

/// Makes routes to several edges.
pub(crate) struct MakeFork<T>(pub(crate) Vec<Arc<Edge<T>>>);

impl<T> Clone for MakeFork<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone + Send + 'static> MakeRoute<T> for MakeFork<T> {
    type Route = Fork<T>;

    fn make(&self, producer: usize, _keys: Keys) -> Fork<T> {
        let branch = |edge: &Arc<Edge<T>>| {
            Box::new(CloneRoute(RoundRobin::new(edge.outboxes(producer)))) as Box<dyn Branch<T>>
        };
        let batch = self.0.first().and_then(|edge| lock(&edge.0).sizing.batch);
        Fork::new(self.0.iter().map(branch).collect(), batch)
    }
}

/// Makes routes to every subtask.
pub(crate) struct MakeBroadcast<T>(pub(crate) Arc<Edge<T>>);

impl<T> Clone for MakeBroadcast<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone + Send + 'static> MakeRoute<T> for MakeBroadcast<T> {
    type Route = Broadcast<T>;

    fn make(&self, producer: usize, _keys: Keys) -> Broadcast<T> {
        Broadcast::new(self.0.outboxes(producer))
    }
}

/// Makes routes to one of two edges.
pub(crate) struct MakeSplit<L, R>(pub(crate) Arc<Edge<L>>, pub(crate) Arc<Edge<R>>);

impl<L, R> Clone for MakeSplit<L, R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), Arc::clone(&self.1))
    }
}

impl<T: SplitRecord> MakeRoute<T> for MakeSplit<T::Left, T::Right> {
    type Route = Split<RoundRobin<T::Left>, RoundRobin<T::Right>>;

    fn make(&self, producer: usize, _keys: Keys) -> Self::Route {
        let (left, right) = (self.0.outboxes(producer), self.1.outboxes(producer));
        Split::new(RoundRobin::new(left), RoundRobin::new(right))
    }
}

/// Makes the operators of a source's subtasks.
pub(crate) struct MakeSource<S, L, M> {
    pub(crate) source: Mutex<S>,
    pub(crate) logic: Mutex<L>,
    pub(crate) route: M,
}

impl<S, L, M> OperatorFactory for MakeSource<S, L, M>
where
    S: Source,
    S::Reader: SourceReader<Record = L::In, Position = S::Position>,
    L: OperatorChain<In = S::Record>,
    M: MakeRoute<L::Out>,
{
    fn classify(&self) -> Classify {
        |error| S::classify(error).or_else(|| L::classify(error))
    }

    fn make(&self, index: usize, keys: Keys) -> OpenOperator {
        let source = lock(&self.source).clone();
        let mut logic = lock(&self.logic).clone();
        let mut output = Output::new(self.route.make(index, keys));
        Box::new(move |context, mut restored| {
            let operator = context.place.operator.clone();
            let position = match restored.as_deref_mut() {
                Some(restored) => restored.single(&operator, POSITION)?,
                None => None,
            };
            let reader = source.open(&context.place, position)?;
            let replay_positions =
                snapline_protocol::retention::ReplayPositions::new(context.retained);
            let (_, emitted) = restore_time(&operator, restored.as_deref_mut())?;
            let emitted =
                emitted.filter(|_| !context.faults.is_active(Mutation::WatermarkForgotten));
            logic.open(context, restored)?;
            output.resume(emitted);
            let body = Box::new(SourceOperator {
                operator,
                reader,
                replay_positions,
                logic,
                output,
                read: 0,
                in_hand: 0,
            });
            Ok(OpenedOperator { body, pending: Vec::new() })
        })
    }
}

/// Makes the operators of subtasks with inputs.
pub(crate) struct MakeOperator<L: OperatorChain, M> {
    pub(crate) inputs: Vec<Arc<Edge<L::In>>>,
    pub(crate) logic: Mutex<L>,
    pub(crate) route: M,
}

impl<L: OperatorChain, M: MakeRoute<L::Out>> OperatorFactory for MakeOperator<L, M> {
    fn classify(&self) -> Classify {
        L::classify
    }

    fn make(&self, index: usize, keys: Keys) -> OpenOperator {
        let mut logic = lock(&self.logic).clone();
        let inputs = self.inputs.iter().flat_map(|edge| edge.receivers(index)).collect();
        let mut output = Output::new(self.route.make(index, keys));
        Box::new(move |context, mut restored| {
            let operator = context.place.operator.clone();
            let inputs: Vec<_> = inputs;
            let mut watermarks = WatermarkMerger::new(inputs.len(), context.faults);
            let (received, emitted) = restore_time(&operator, restored.as_deref_mut())?;
            let (received, emitted) = match context.faults.is_active(Mutation::WatermarkForgotten) {
                true => (None, None),
                false => (received, emitted),
            };
            logic.open(context, restored)?;
            if let Some(received) = received {
                logic.resume(Timestamp::from_millis(received.watermark));
            }
            watermarks.resume(received);
            output.resume(emitted);
            let (marks, firing, in_hand) = (VecDeque::new(), false, 0);
            let body = ChainOperator {
                operator,
                inputs,
                watermarks,
                marks,
                firing,
                logic,
                output,
                in_hand,
            };
            Ok(OpenedOperator { body: Box::new(body), pending: Vec::new() })
        })
    }
}

/// Makes the operators of a sink's subtasks.
pub(crate) struct MakeSink<S: TwoPhaseSink> {
    pub(crate) inputs: Vec<Arc<Edge<S::Record>>>,
    pub(crate) sink: Mutex<S>,
}

impl<S: TwoPhaseSink> OperatorFactory for MakeSink<S> {
    fn classify(&self) -> Classify {
        S::classify
    }

    fn make(&self, index: usize, _keys: Keys) -> OpenOperator {
        let sink = lock(&self.sink).clone();
        let inputs = self.inputs.iter().flat_map(|edge| edge.receivers(index)).collect();
        Box::new(move |context, restored| {
            let operator = context.place.operator.clone();
            let committables: Option<Vec<(TxnId, S::Committable)>> = match restored {
                Some(restored) => restored.single(&operator, COMMITTABLES)?,
                None => None,
            };
            let (writer, committer) = sink.open(&context.place)?;
            let committables: std::collections::BTreeMap<_, _> =
                committables.into_iter().flatten().collect();
            let pending = committables.keys().copied().collect();
            let body = SinkOperator {
                operator,
                attempt: context.place.attempt,
                inputs,
                writer,
                committer: Arc::new(Mutex::new(committer)),
                committables,
                written: 0,
                in_hand: 0,
                trouble: Arc::default(),
            };
            Ok(OpenedOperator { body: Box::new(body), pending })
        })
    }
}
