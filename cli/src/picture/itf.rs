//! The informal trace format that Apalache and Quint tools read (<https://apalache-mc.org/docs/adr/015adr-trace.html>): a variable for each
//! lane, a record of its facts, and what happened.

use serde_json::{Map, Value, json};
use snapline_models::scene::Scene;

pub(super) fn itf(scene: &Scene) -> String {
    let names: Vec<String> = scene.lanes.iter().map(|lane| variable(&lane.name)).collect();
    let mut current: Vec<Value> = vec![Value::Object(Map::new()); names.len()];
    let mut facts = scene.facts.iter().peekable();
    let mut states = Vec::new();
    for step in 0..=scene.steps.len() {
        while let Some(fact) = facts.next_if(|fact| fact.step <= step) {
            let rows = fact.rows.iter().enumerate().map(|(place, [name, value])| {
                // A record names each once.
                let seen = fact.rows[..place].iter().filter(|[other, _]| other == name).count();
                let name = if seen == 0 { name.clone() } else { format!("{name} {}", seen + 1) };
                (name, Value::String(value.clone()))
            });
            current[fact.lane] = Value::Object(rows.collect());
        }
        let mut state = Map::new();
        state.insert("#meta".into(), json!({ "index": step }));
        let happened = step.checked_sub(1).map_or("init".into(), |place| {
            let step = &scene.steps[place];
            format!("{} {}", step.actor, step.text)
        });
        state.insert("action".into(), Value::String(happened));
        for (name, value) in names.iter().zip(&current) {
            state.insert(name.clone(), value.clone());
        }
        states.push(Value::Object(state));
    }
    let mut vars = vec!["action".to_owned()];
    vars.extend(names);
    let meta = json!({
        "format": "ITF",
        "format-description": "https://apalache-mc.org/docs/adr/015adr-trace.html",
        "source": scene.title,
        "status": scene.broken.as_ref().map_or("ok", |_| "violation"),
    });
    let trace = json!({ "#meta": meta, "vars": vars, "states": states });
    // Invariant: values made of strings and numbers are JSON.
    serde_json::to_string_pretty(&trace).expect("a value is JSON") + "\n"
}

/// A lane's name as an identifier.
fn variable(name: &str) -> String {
    let one = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(one).collect()
}
