//! Output to `tracing`: exactly the events and spans of SPEC 15.7, with their fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use snapline::connect::{Generator, MemorySink};
use snapline::{BoxError, Dataflow, Ended, JobConfig, Restart};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

/// The recorded values, by the name of the field.
#[derive(Clone, Default, Debug)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

/// An event, or a span that was closed.
#[derive(Clone, Debug)]
struct Told {
    target: String,
    level: String,
    /// The event's message, or the span's name.
    what: String,
    fields: Fields,
    /// The name of the span around an event; for a span, its parent's name.
    within: Option<String>,
    /// The spans that it follows from.
    follows: Vec<String>,
}

#[derive(Clone, Default)]
struct Ear {
    events: Arc<Mutex<Vec<Told>>>,
    spans: Arc<Mutex<Vec<Told>>>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Ear {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).expect("it is new");
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let metadata = attributes.metadata();
        span.extensions_mut().insert(Told {
            target: metadata.target().to_owned(),
            level: metadata.level().to_string().to_lowercase(),
            what: metadata.name().to_owned(),
            fields,
            within: span.parent().map(|parent| parent.name().to_owned()),
            follows: Vec::new(),
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("it is open");
        let mut extensions = span.extensions_mut();
        values.record(&mut extensions.get_mut::<Told>().expect("it was put there").fields);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let before = context.span(follows).expect("it is open").name().to_owned();
        let span = context.span(id).expect("it is open");
        let mut extensions = span.extensions_mut();
        extensions.get_mut::<Told>().expect("it was put there").follows.push(before);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).expect("it is just closed");
        let told = span.extensions().get::<Told>().expect("it was put there").clone();
        self.spans.lock().expect("no thread panics").push(told);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let what = fields.0.remove("message").unwrap_or_default();
        self.events.lock().expect("no thread panics").push(Told {
            target: event.metadata().target().to_owned(),
            level: event.metadata().level().to_string().to_lowercase(),
            what,
            fields,
            within: context.event_span(event).map(|span| span.name().to_owned()),
            follows: Vec::new(),
        });
    }
}

/// The rows of the two tables of SPEC 15.7, as their cells.
fn rows() -> Vec<Vec<String>> {
    let spec = include_str!("../../docs/spec/runtime.md");
    let start = spec.find("**15.7**").expect("the clause");
    let end = spec[start..].find("**15.8**").expect("the next one") + start;
    let row = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    spec[start..end].lines().filter(|line| line.starts_with("| `snapline")).map(row).collect()
}

/// The texts in backquotes of a cell.
fn quoted(cell: &str) -> BTreeSet<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The row of the tables for this event or span.
#[track_caller]
fn row_of<'a>(rows: &'a [Vec<String>], target: &str, what: &str) -> &'a Vec<String> {
    let is = |row: &&Vec<String>| {
        row[0] == format!("`{target}`")
            && (row[1].starts_with(what) || (what.is_empty() && row[1].starts_with("each")))
    };
    rows.iter().find(is).unwrap_or_else(|| panic!("SPEC 15.7 has no `{what}` of {target}"))
}

/// Runs a job that fails once and takes a checkpoint before and after that.
fn run() -> Ear {
    let ear = Ear::default();
    let layer = ear.clone();
    tracing::subscriber::set_global_default(Registry::default().with(layer)).expect("the first");
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let flow = Dataflow::new("told");
    flow.source("numbers", Generator::new(None, |number| number).rate(1_000))
        .try_map(move |number| match fails.swap(false, Ordering::Relaxed) {
            true => Err::<_, BoxError>("planned".into()),
            false => Ok(number),
        })
        .sink("out", MemorySink::new());
    let config = JobConfig::new()
        .parallelism(1)
        .checkpoint_interval(None)
        .restart(Restart::Fixed { attempts: 1, pause: Duration::from_millis(20) });
    let handle = flow.build(config).expect("it builds").spawn().expect("it starts");
    handle.checkpoint().expect("it completes");
    failing.store(true, Ordering::Relaxed);
    while handle.status().restarts == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    handle.suspend();
    assert_eq!(handle.wait().expect("it is restarted").ended, Ended::Suspended);
    ear
}

/// SPEC 15.7. One test, since a process has one subscriber.
#[test]
fn a_run_is_traced_in_the_events_and_spans_of_the_clause() {
    let ear = run();
    let events = ear.events.lock().expect("no thread panics").clone();
    let spans = ear.spans.lock().expect("no thread panics").clone();
    let rows = rows();
    let ours = |told: &&Told| told.target.starts_with("snapline::");
    for told in events.iter().filter(ours) {
        let row = row_of(&rows, &told.target, &told.what);
        assert!(row[2].contains(&told.level), "{told:?}: {row:?}");
        for field in told.fields.0.keys() {
            assert!(quoted(&row[3]).contains(field.as_str()), "{field} of {told:?}: {row:?}");
        }
        if told.target != "snapline::machine" && !told.fields.0.contains_key("restored") {
            let optional = ["restored"];
            let missing = quoted(&row[3])
                .into_iter()
                .filter(|field| !told.fields.0.contains_key(*field) && !optional.contains(field));
            assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new(), "{told:?}");
        }
    }
    let all = |what: &str| events.iter().filter(|told| told.what == what).collect::<Vec<_>>();
    let field = |told: &Told, name: &str| told.fields.0.get(name).cloned().unwrap_or_default();
    // Events of a checkpoint and of an attempt are in its span and name its job.
    let complete = all("complete");
    assert!(complete.len() >= 2, "{complete:?}");
    for told in &complete {
        assert_eq!(told.within.as_deref(), Some("checkpoint"), "{told:?}");
        assert_eq!(field(told, "job"), "\"told\"");
    }
    assert_eq!(all("acknowledged").len(), 2 * complete.len(), "two subtasks");
    let failed = all("a task failed");
    assert_eq!((failed.len(), failed[0].within.as_deref()), (1, Some("attempt")));
    assert_eq!(field(failed[0], "operator"), "\"numbers\"");
    assert!(field(all("restarting")[0], "cause").contains("planned"));

    let named = |name: &str| spans.iter().filter(|told| told.what == name).collect::<Vec<_>>();
    for span in spans.iter().filter(ours) {
        let row = row_of(&rows, &span.target, &span.what);
        assert_eq!((span.level.as_str(), &span.within), ("info", &None), "{span:?}");
        for field in span.fields.0.keys() {
            assert!(quoted(&row[3]).contains(field.as_str()), "{field} of {span:?}: {row:?}");
        }
    }
    let ended = complete.len() + all("given up").len();
    assert_eq!(named("checkpoint").len(), ended, "a span for each checkpoint");
    for span in named("checkpoint") {
        assert_eq!(span.follows, ["attempt"], "{span:?}");
        let completed = field(span, "completed") == "true";
        let status = if completed { "\"OK\"" } else { "\"ERROR\"" };
        assert_eq!(field(span, "otel.status_code"), status, "{span:?}");
        assert!(
            ["job", "checkpoint", "attempt", "kind", "bytes"]
                .iter()
                .all(|name| span.fields.0.contains_key(*name))
        );
    }
    let attempts: Vec<String> =
        named("attempt").iter().map(|span| field(span, "attempt")).collect();
    assert_eq!(attempts, ["1.1", "1.2"]);
    assert_eq!(field(named("attempt")[1], "restored"), "1");
    assert!(named("attempt").iter().all(|span| span.follows == ["recovery"]));
    let recoveries: Vec<String> =
        named("recovery").iter().map(|span| field(span, "attempt")).collect();
    assert_eq!(recoveries, ["1.1", "1.2"]);
    assert_eq!(field(named("recovery")[1], "pause_ms"), "20.0");
}

/// SPEC 15.7: all events in the sources, whether or not a run reaches them.
#[test]
fn every_event_of_the_sources_is_in_the_clause() {
    let rows = rows();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let servers = ["connectors/http/src/listener", "connectors/http/src/pages.rs"];
    let mut open: Vec<_> =
        ["src", "core/src"].iter().chain(&servers).map(|it| root.join(it)).collect();
    let mut seen = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(path.read_dir().expect("readable").map(|entry| entry.expect("one").path()));
            continue;
        }
        // The simulation emits its own; connectors emit under their modules' paths.
        let apart = ["/src/sim", "/src/connect"];
        let apart = apart.iter().any(|room| path.to_string_lossy().contains(room));
        if apart || path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
        for level in ["trace", "debug", "info", "warn", "error"] {
            for (at, call) in text.match_indices(&format!("tracing::{level}!(")) {
                let mut depth = 1;
                let rest = &text[at + call.len()..];
                let end = rest.find(|letter| {
                    depth += match letter {
                        '(' => 1,
                        ')' => -1,
                        _ => 0,
                    };
                    depth == 0
                });
                let arguments = &rest[..end.expect("a closing parenthesis")];
                let strings: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
                let (target, what) = match strings[..] {
                    [target] => (target, ""),
                    [target, .., what] => (target, what),
                    [] => panic!("{}: no target: {arguments}", path.display()),
                };
                let last = arguments.trim_end().trim_end_matches(',').ends_with('"');
                let row = row_of(&rows, target, if last { what } else { "" });
                assert!(row[2].contains(level), "{arguments}: {row:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 20, "{seen} events were found");
}
