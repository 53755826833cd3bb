//! The input of the command: traces of the model, topologies and settings.

use snapline::settings::Settings;
use snapline_models::explore::{MarkSet, TransitionSystem};
use snapline_models::file::read_scenario;
use snapline_models::model::Model;
use snapline_models::scenario::{Faults, Scenario};
use snapline_models::trace::Trace;
use snapline_models::walk::ByHand;
use snapline_models::{configs, topologies};

use crate::{seed, shown};

/// Words of traces of the model.
pub const TRACE: &[&str] = &[
    "\"mutant\": \"no-alignment\"",
    "\"law\": \"progress\"",
    "{\"action\": {\"emit\": {\"task\": 0}}},",
    "{\"action\": \"read\"},",
    "\"parallelism\": 256",
    "\"records\": 255",
    "\"capacity\": 0",
    "null",
    "\\u001b",
];

/// Words of topologies.
pub const TOPOLOGY: &[&str] = &[
    "[[operator]]\n",
    "[[edge]]\n",
    "[faults]\n",
    "[sink]\n",
    "name = \"in\"\n",
    "role = \"source\"\n",
    "role = \"sink\"\n",
    "parallelism = 256\n",
    "records = 255\n",
    "wiring = \"all-to-all\"\n",
    "sink = \"producer-with-timeout\"\n",
    "mode = \"at-least-once\"\n",
    "stop = \"drain\"\n",
    "retained = 1\n",
    "id-block = 1\n",
    "\"\\u001b[2J\"",
];

/// Words of settings.
pub const SETTINGS: &[&str] = &[
    "parallelism = 4\n",
    "workers = 1\n",
    "checkpoint_interval = \"5s\"\n",
    "restart = \"fixed\"\n",
    "restart_attempts = 5\n",
    "restart_pause = \"1M\"\n",
    "directory = \"d\"\n",
    "key_groups = 32768\n",
    "hang_timeout = \"never\"\n",
    "18446744073709551615ns",
    "JOB__CHECKPOINT_INTERVAL=1s\n",
    "JOB_PARALLELISM=1\n",
    "JOB__",
    "\"\\u001b[2J\"",
    "\u{0}",
];

/// The longest walk.
const STEPS: usize = 24;

/// A trace of the model: an accepted trace is written unchanged, and replayed.
pub fn trace(bytes: &[u8]) {
    let Some((_, Ok(text))) = bytes.split_first().map(|(_, rest)| ((), std::str::from_utf8(rest)))
    else {
        return;
    };
    let trace = match Trace::read(text) {
        Ok(trace) => trace,
        Err(error) => return shown(&error),
    };
    assert_eq!(Trace::read(&trace.write()).expect("a written trace can be read"), trace);
    match trace.replay() {
        Ok(replay) => shown(&replay.claim),
        Err(error) => shown(&error),
    }
}

fn small(name: &str) -> Scenario {
    let faults = Faults { crashes: 1, ..Faults::default() };
    Scenario { faults, ..Scenario::new(name, topologies::chain()) }
}

/// Seeds of [`trace`].
#[must_use]
pub fn traces() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let scenarios = configs::all().into_iter().map(|config| config.scenario).step_by(5);
    for (scenario, steps) in [small("chain"), small("longer")].into_iter().chain(scenarios).zip(1..)
    {
        let mut walk = ByHand::new(scenario, None).expect("the scenario can be built");
        walk.wander(steps as u64, steps * 3);
        seeds.push(seed(0, walk.trace().write().as_bytes()));
    }
    seeds
}

/// A topology: an accepted one can be walked through, and is kept by a trace.
pub fn topology(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let scenario = match read_scenario(text, "mine") {
        Ok(scenario) => scenario,
        Err(error) => return shown(&error),
    };
    let model = Model::new(scenario.clone(), None).expect("the scenario was built before");
    let (mut world, mut marks, mut enabled) = (model.initial(), MarkSet::new(), Vec::new());
    let mut steps = Vec::new();
    while steps.len() < STEPS {
        enabled.clear();
        model.actions(&world, &mut enabled);
        let place = usize::from(*mode) + steps.len() * 7;
        let Some(&action) = enabled.get(place % enabled.len().max(1)) else { break };
        world = model.apply(&world, &action, &mut marks);
        // The broken laws depend on the sink; reporting them must work.
        let _ = model.violations(&world);
        steps.push(action);
    }
    let trace = Trace { scenario, mutant: None, law: None, steps };
    let again = Trace::read(&trace.write()).expect("a written trace can be read");
    assert_eq!(again, trace);
    assert_eq!(again.replay().expect("a walked trace can be replayed").last, world);
}

/// Seeds of [`topology`].
#[must_use]
pub fn topologies() -> Vec<Vec<u8>> {
    let chain = r#"
mode = "exactly-once"
records = 2
checkpoints = 1
sink = "atomic-rename"

[[operator]]
name = "in"
role = "source"
parallelism = 1

[[operator]]
name = "out"
role = "sink"

[[edge]]
from = "in"
to = "out"
wiring = "forward"

[faults]
crashes = 2
"#;
    let wide = r#"
records = 1
capacity = 2
stop = "drain"
shared = true
operator = [{ name = "a", role = "source", parallelism = 2 }, { name = "b", role = "transform", parallelism = 2 }, { name = "c", role = "sink" }]
edge = [{ from = "a", to = "b", wiring = "all-to-all" }, { from = "b", to = "c", wiring = "all-to-all" }]
[sink]
prepared = "until-timeout"
commit = "blind"
fences = true
[queued]
triggers = true
[faults]
losses = 1
"#;
    [chain, wide]
        .iter()
        .flat_map(|text| [seed(0, text.as_bytes()), seed(5, text.as_bytes())])
        .collect()
}

/// Settings: TOML, and after a zero byte the variables of an environment, a line each.
pub fn settings(bytes: &[u8]) {
    let Some((_, Ok(text))) = bytes.split_first().map(|(_, rest)| ((), std::str::from_utf8(rest)))
    else {
        return;
    };
    let (toml, lines) = text.split_once('\0').unwrap_or((text, ""));
    let variables = || {
        let lines = lines.lines().filter_map(|line| line.split_once('='));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    let read = || Settings::new().toml("job.toml", toml)?.variables("JOB", variables());
    let settings = match read() {
        Ok(settings) => settings,
        Err(error) => return shown(&error),
    };
    match settings.config() {
        Ok(config) => {
            let again = read()
                .and_then(|settings| settings.config())
                .expect("the settings were read before");
            assert_eq!(format!("{again:?}"), format!("{config:?}"));
            for warning in config.warnings() {
                shown(&warning);
            }
        }
        Err(error) => shown(&error),
    }
}

/// Seeds of [`settings`].
#[must_use]
pub fn some_settings() -> Vec<Vec<u8>> {
    [
        "parallelism = 4\ncheckpoint_interval = \"5s\"\n\0JOB__WORKERS=2\nJOB_PARALLELISM=1\nJOB_PORT=80\n",
        "restart = \"fixed\"\nrestart_attempts = 5\nrestart_pause = \"10ms\"\n",
        "restart = \"exponential\"\n",
        "checkpoint_interval = \"never\"\ndirectory = \"kept/d\"\nkey_groups = 16\nretained = 2\n",
        "# nothing\n",
    ]
    .map(|text| seed(0, text.as_bytes()))
    .to_vec()
}
