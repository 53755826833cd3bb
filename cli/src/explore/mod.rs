//! `snapline explore`: the World, walked by hand in a browser, on this machine.
//!
//! The server keeps nothing but the configuration: each request carries the steps so
//! far and the next action, and the answer shows the result. Going back means sending fewer steps,
//! two windows do not disturb each other, and an impossible path is refused. The guard
//! (loopback, token, Host, limits) is that of the dashboard, see [`snapline_http::pages`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use snapline_http::pages::{Answer, Listen, Server, Site, Verb};
use snapline_models::check::describe_stop;
use snapline_models::configs;
use snapline_models::explore::Bounds;
use snapline_models::laws::Law;
use snapline_models::mutants::Mutant;
use snapline_models::scenario::Scenario;
use snapline_models::scene::scene;
use snapline_models::walk::{ByHand, Hunted};
use snapline_models::world::Action;
use snapline_models::world::rule::WrongRule;

use crate::args::ExploreArgs;
use crate::names::unknown;
use crate::rendering::page::{self, Document};
use crate::table::counted;
use crate::{CommandError, Exit, Terminal};

const STYLE: &str = include_str!("live.css");
const SCRIPT: &str = include_str!("live.js");

/// What a page that is served may do beyond one in a file: ask its own server.
const FILE_POLICY: &str = "default-src 'none';";
const SERVED_POLICY: &str = "default-src 'none'; connect-src 'self';";

/// The longest path: a page of a longer one would be slow to make at every step.
const MAX_STEPS: usize = 2_000;

/// How far one search looks. The page can ask again, and does not go back to the start for that.
const HUNT_TIME: Duration = Duration::from_secs(3);
const HUNT_STATES: u64 = 400_000;

/// Between two looks at Ctrl-C.
const POLL: Duration = Duration::from_millis(50);

/// Carries the command out, until Ctrl-C.
///
/// # Errors
/// If the configuration or mutant is not known, or no port can be had.
pub fn run(args: &ExploreArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let mutant = args.mutant.as_deref().map(find_mutant).transpose()?;
    let scenario = match (&args.name, mutant) {
        (Some(name), _) => find_scenario(name)?,
        // Where it is at home, so that there is something to see.
        (None, Some(mutant)) => (Mutant::of(mutant).scenario)(),
        (None, None) => {
            return Err(CommandError::Usage(
                "name a configuration (`snapline check --list` shows them), or a wrong rule with \
                 --mutant (see `snapline mutants --list`)"
                    .into(),
            ));
        }
    };
    let pages = ExplorerSite::new(scenario, mutant, terminal.stop())?;
    let listen = Listen::loopback(args.port);
    let server = Server::start("snapline-explore", &listen, pages).map_err(|error| {
        CommandError::Usage(format!("cannot serve on port {} of 127.0.0.1: {error}", args.port))
    })?;
    let out = terminal.out();
    writeln!(out, "{}", server.url())?;
    out.flush()?;
    terminal
        .complain("open this address in a browser on this machine; Ctrl-C ends the command\n")?;
    while !terminal.is_stopped() {
        std::thread::sleep(POLL);
    }
    drop(server);
    Ok(Exit::Good)
}

/// The pages of a configuration, of which a search ends at once: for fuzz targets.
///
/// # Errors
/// If the configuration is not known.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn site(name: &str) -> Result<impl Site, CommandError> {
    ExplorerSite::new(find_scenario(name)?, None, Arc::new(AtomicBool::new(true)))
}

fn find_mutant(name: &str) -> Result<WrongRule, CommandError> {
    WrongRule::find(name).ok_or_else(|| {
        let known: Vec<&str> = WrongRule::ALL.iter().map(|mutant| mutant.name()).collect();
        CommandError::Usage(unknown("mutant", name, &known))
    })
}

fn find_scenario(name: &str) -> Result<Scenario, CommandError> {
    let all = configs::all();
    let known: Vec<&str> = all.iter().map(|config| config.scenario.name.as_str()).collect();
    match known.iter().position(|other| *other == name) {
        Some(place) => Ok(all[place].scenario.clone()),
        None => Err(CommandError::Usage(unknown("configuration", name, &known))),
    }
}

/// A request of the page.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The steps so far.
    steps: Vec<Action>,
    /// The action after them.
    #[serde(default)]
    then: NextAction,
}

/// The action after the steps.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum NextAction {
    /// No action: only show the state.
    #[default]
    Look,
    /// Search for a state in which another law is broken.
    Hunt,
    /// Take `steps` random steps.
    Wander { seed: u64, steps: usize },
}

struct ExplorerSite {
    scenario: Scenario,
    mutant: Option<WrongRule>,
    stop: Arc<AtomicBool>,
    front: String,
}

impl ExplorerSite {
    fn new(
        scenario: Scenario,
        mutant: Option<WrongRule>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, CommandError> {
        let walk = ByHand::new(scenario.clone(), mutant)
            .map_err(|error| CommandError::Usage(error.to_string()))?;
        let front = front(&document(&walk));
        Ok(Self { scenario, mutant, stop, front })
    }

    fn step(&self, body: &[u8]) -> Result<Value, String> {
        let asked: Asked = serde_json::from_slice(body)
            .map_err(|error| format!("the request is not a path: {error}"))?;
        let most = |steps: usize| match steps > MAX_STEPS {
            true => {
                Err(format!("a path of {steps} steps is too long; the limit is {MAX_STEPS} steps"))
            }
            false => Ok(()),
        };
        most(asked.steps.len())?;
        let mut walk = ByHand::after(self.scenario.clone(), self.mutant, &asked.steps)
            .map_err(|error| error.to_string())?;
        let note = match asked.then {
            NextAction::Look => String::new(),
            NextAction::Hunt => self.hunt(&mut walk),
            NextAction::Wander { seed, steps } => {
                most(asked.steps.len().saturating_add(steps))?;
                match walk.wander(seed, steps) {
                    0 => "Only faults can happen here.".into(),
                    taken => format!("{} at random (seed {seed}).", counted(taken as u64, "step")),
                }
            }
        };
        Ok(told(&walk, &note))
    }

    fn hunt(&self, walk: &mut ByHand) -> String {
        let bounds = Bounds {
            timeout: Some(HUNT_TIME),
            max_states: Some(HUNT_STATES),
            stop: Some(Arc::clone(&self.stop)),
            ..Bounds::default()
        };
        let before = walk.steps().len();
        match walk.hunt(&bounds) {
            Hunted::Found(law) => {
                let steps = walk.steps().len() - before;
                format!(
                    "After {}, by a shortest path, L{} {} is broken.",
                    counted(steps as u64, "step"),
                    law.number(),
                    law.name()
                )
            }
            Hunted::Nothing(states) => {
                format!(
                    "From here no other law can break; all reachable states were explored, {}.",
                    counted(states, "state")
                )
            }
            Hunted::Stopped(reason, states) => format!(
                "No violation was found in {} from here, and later states are unknown: {}.",
                counted(states, "state"),
                describe_stop(reason)
            ),
        }
    }
}

/// The walk so far as a page shows it.
fn document(walk: &ByHand) -> Document {
    let trace = walk.trace();
    Document::of(scene(walk.setup(), &trace))
}

fn told(walk: &ByHand, note: &str) -> Value {
    let choices = walk.choices().into_iter().map(|choice| {
        json!({
            "action": choice.action,
            "actor": choice.line.actor,
            "text": choice.line.text,
            "fault": choice.line.fault,
            "breaks": choice.breaks.iter().map(|law| law.name()).collect::<Vec<_>>(),
        })
    });
    let broken = walk.broken();
    let laws = Law::ALL.iter().map(|law| {
        json!({
            "number": law.number(),
            "name": law.name(),
            "says": law.broken(),
            "broken": broken.contains(law),
        })
    });
    json!({
        "document": document(walk),
        "steps": walk.steps(),
        "choices": choices.collect::<Vec<_>>(),
        "laws": laws.collect::<Vec<_>>(),
        "done": walk.is_done(),
        "stuck": walk.is_stuck(),
        "note": note,
        "trace": walk.trace().write(),
        "name": walk.setup().scenario.name,
    })
}

/// The page of a file, with what it takes to be led by a server.
fn front(document: &Document) -> String {
    let page = page::page(document).replacen(FILE_POLICY, SERVED_POLICY, 1);
    let live = format!("<style>\n{STYLE}</style>\n<script>\n{SCRIPT}</script>\n</body>");
    match page.rsplit_once("</body>") {
        Some((before, after)) => format!("{before}{live}{after}"),
        None => page + &live,
    }
}

impl Site for ExplorerSite {
    fn verb(&self, page: &str) -> Option<Verb> {
        match page {
            "" => Some(Verb::Get),
            "step" => Some(Verb::Post),
            _ => None,
        }
    }

    fn answer(&mut self, page: &str, body: &[u8]) -> Answer {
        match page {
            "step" => match self.step(body) {
                Ok(told) => Answer::json(told.to_string()),
                Err(why) => Answer::wrong(why),
            },
            _ => Answer::html(self.front.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(mutant: &str) -> ExplorerSite {
        let mutant = find_mutant(mutant).expect("the mutant exists");
        ExplorerSite::new((Mutant::of(mutant).scenario)(), Some(mutant), Arc::default())
            .expect("the scenario is valid")
    }

    fn asked(pages: &ExplorerSite, steps: &Value, then: &Value) -> Result<Value, String> {
        pages.step(json!({ "steps": steps, "then": then }).to_string().as_bytes())
    }

    #[test]
    fn the_front_page_may_ask_its_server_and_nobody_else() {
        let front = pages("no-alignment").front;
        assert_eq!(front.matches("connect-src 'self'").count(), 1);
        assert!(front.contains("default-src 'none'; connect-src 'self'; style-src"));
        assert_eq!(front.matches("</body>").count(), 1);
        assert!(front.contains("id=\"live\""), "the page has a place for the live document");
    }

    #[test]
    fn a_path_is_walked_choice_by_choice_and_back() {
        let pages = pages("no-alignment");
        let mut told = asked(&pages, &json!([]), &json!("look")).expect("the first state is shown");
        assert_eq!(told["laws"].as_array().map(Vec::len), Some(16));
        for step in 1..=10 {
            let mut steps = told["steps"].as_array().cloned().expect("a list");
            steps.push(told["choices"][0]["action"].clone());
            told =
                asked(&pages, &json!(steps), &json!("look")).expect("the chosen step is possible");
            assert_eq!(
                told["document"]["stories"][0]["scene"]["steps"].as_array().map(Vec::len),
                Some(step)
            );
        }
        let back = json!(told["steps"].as_array().expect("a list")[..4]);
        let there = asked(&pages, &back, &json!("look")).expect("the steps are possible");
        assert_eq!(there["steps"], back);
    }

    #[test]
    fn a_hunt_shows_the_law_that_breaks_and_its_trace_replays() {
        let pages = pages("no-alignment");
        let told = asked(&pages, &json!([]), &json!("hunt")).expect("the first state is shown");
        let broken: Vec<&Value> = told["laws"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|law| law["broken"] == true)
            .collect();
        assert_eq!(broken[0]["name"], "cut-clean", "{}", told["note"]);
        let text = told["trace"].as_str().expect("a text");
        let trace = snapline_models::trace::Trace::read(text).expect("a trace");
        assert_eq!(trace.law, Some(Law::CutClean));
        assert!(trace.replay().expect("every step is possible").broken.contains(&Law::CutClean));
        assert_eq!(told["document"]["stories"][0]["scene"]["broken"]["name"], "cut-clean");
    }

    #[test]
    fn chance_is_a_function_of_its_seed_and_bounded() {
        let pages = pages("no-fence");
        let wander = |seed: u64, steps: usize| {
            asked(&pages, &json!([]), &json!({ "wander": { "seed": seed, "steps": steps } }))
        };
        let once = wander(3, 12).expect("the walk is possible");
        assert_eq!(once["steps"], wander(3, 12).expect("the walk is possible")["steps"]);
        assert!(wander(3, MAX_STEPS + 1).is_err());
    }

    #[test]
    fn what_cannot_be_asked_is_refused_in_words() {
        let pages = pages("no-fence");
        for body in [
            "",
            "[]",
            "{}",
            "{\"steps\": 7}",
            "{\"steps\": [], \"then\": \"delete\"}",
            "{\"steps\": [], \"more\": 1}",
            "{\"steps\": [\"<script>\"]}",
            "\u{0}",
        ] {
            let why = pages.step(body.as_bytes()).expect_err(body);
            assert!(why.starts_with("the request is not a path"), "{body}: {why}");
        }
        let early = asked(&pages, &json!(["conclude"]), &json!("look"));
        assert!(early.expect_err("not yet").contains("not possible"));
        let long = json!(vec!["stop"; MAX_STEPS + 1]);
        assert!(
            asked(&pages, &long, &json!("look")).expect_err("too long").contains("the limit is")
        );
    }
}
