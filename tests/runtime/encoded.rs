//! Values of every kind through a checkpoint of a real job (SPEC 14.5, 14.8, 14.9).

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use snapline::connect::{Collect, Generator, MemorySink};
use snapline::state::{Key, StateValue, VerifyState};
use snapline::store::{MemoryStore, Store};
use snapline::{Dataflow, Ended, JobConfig, JobError, KeyState, Restart};

use crate::kit::{assert_ended, in_memory, ms, until, wait};

type Twice = Option<Option<u32>>;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
struct Inside {
    twice: Twice,
    unit: Option<()>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
enum Variant {
    #[default]
    Empty,
    One(Twice),
    Named {
        inside: Inside,
    },
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Pair { left: Twice, right: Option<()> },
    Text(String),
}

impl Default for Untagged {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// A job that puts `value` into its state at the first record of each key, is suspended, and runs
/// again to emit that state.
fn restored<K, V>(key: fn(u64) -> K, value: V) -> Vec<(K, V)>
where
    K: Key + Debug + Sync,
    V: StateValue + Default + PartialEq + Debug,
{
    let (store, sink) = (MemoryStore::new(), MemorySink::<(K, V)>::new());
    let begin = |count: Option<u64>, verify| {
        let flow = Dataflow::new("restored");
        let value = value.clone();
        flow.source(
            "in",
            Generator::new(count, move |number| (key(number % 2), number)).rate(5_000),
        )
        .keyed()
        .process(move |number, state: &mut KeyState<'_, K, Kept<V>>, out| {
            // Records 0 and 1 set the state; the others find it as restored.
            match number {
                0 | 1 => state.value = value.clone(),
                2 | 3 => {}
                _ => out.push((state.key().clone(), state.value.clone())),
            }
        })
        .named("keep")
        .sink("out", sink.clone());
        let config = in_memory(&store).verify_state(verify);
        flow.build(config).expect("builds").spawn().expect("starts")
    };
    let handle = begin(None, VerifyState::All);
    until("a checkpoint is complete", || handle.status().completed > 1);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
    let seen = sink.committed().len();
    let handle = begin(None, VerifyState::Samples);
    until("both keys have gone on", || {
        let new = sink.committed().split_off(seen);
        new.iter().any(|(key, _)| *key != new[0].0)
    });
    handle.cancel();
    assert_ended(wait(handle), Ended::Cancelled);
    sink.committed().split_off(seen)
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Kept<V> {
    value: V,
}

#[track_caller]
fn comes_back<V: StateValue + Default + PartialEq + Debug>(value: V) {
    let all = restored(|key| key, value.clone());
    assert!(!all.is_empty() && all.iter().all(|(_, it)| *it == value), "{value:?}: {:?}", all[0]);
}

#[test]
fn a_some_of_nothing_comes_back_from_a_checkpoint() {
    let inside = || Inside { twice: Some(None), unit: Some(()) };
    comes_back::<Twice>(Some(None));
    comes_back(Some(()));
    comes_back(inside());
    comes_back(vec![Some(None), None, Some(Some(1u32))]);
    comes_back(Variant::One(Some(None)));
    comes_back(Variant::Named { inside: inside() });
    comes_back(Untagged::Pair { left: Some(None), right: Some(()) });
    comes_back((u128::MAX, i128::MIN, 'é'));
}

#[test]
fn a_some_of_nothing_is_another_key_than_none() {
    let keys = restored(|number| if number == 0 { None } else { Some(None::<u32>) }, 7u64);
    for key in [None, Some(None)] {
        let of = |it: &&(Option<Option<u32>>, u64)| it.0 == key;
        assert!(keys.iter().any(|it| of(&it)), "{key:?}");
    }
    assert!(keys.iter().all(|(_, value)| *value == 7));
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Lossy {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

/// Runs a job with such a state, which must fail at its first checkpoint and leave none.
fn refused<V: StateValue + Default>(value: V, config: impl Fn(JobConfig) -> JobConfig) -> String {
    let (store, sink) = (MemoryStore::new(), MemorySink::<u64>::new());
    let flow = Dataflow::new("refused");
    flow.source("in", Generator::new(None, |number| (number, number)).rate(5_000))
        .keyed()
        .process(move |number, state: &mut KeyState<'_, u64, V>, out| {
            **state = value.clone();
            out.push(number);
        })
        .named("keep")
        .sink("out", sink.clone());
    let patient = Restart::Fixed { attempts: 1_000, pause: ms(1) };
    let config = config(in_memory(&store).restart(patient));
    let handle = flow.build(config).expect("builds").spawn().expect("starts");
    until("it has failed", || handle.is_over());
    let restarts = handle.status().restarts;
    let error = wait(handle).expect_err("no checkpoint can be taken");
    assert_eq!(restarts, 0, "no restart can mend it: {error}");
    assert!(store.manifests().expect("readable").is_empty(), "no checkpoint is complete");
    assert!(sink.committed().is_empty());
    match error {
        JobError::Failed(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_read_again_is_refused_by_name_before_a_checkpoint_completes() {
    for which in [VerifyState::Samples, VerifyState::All] {
        let text = refused(Lossy::default(), |config| config.verify_state(which));
        for part in ["`keyed` of operator `keep`", "Lossy", "missing field `name`", "Fix:"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    let chain = (0..1_200).fold(Chain::default(), |inner, _| Chain { next: Some(Box::new(inner)) });
    let text = refused(chain, |config| config);
    assert!(text.contains("`keep` cannot be written: it nests"), "{text}");
}
