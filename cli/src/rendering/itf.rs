//! The informal trace format that Apalache and Quint tools read
//! (<https://apalache-mc.org/docs/adr/015adr-trace.html>): a variable for each lane, a function
//! from names to what there is to know of it, and what happened.

use serde_json::{Map, Value, json};
use snapline_models::scene::{Lane, LaneKind, Scene};

pub(super) fn itf(scene: &Scene) -> String {
    let mut names: Vec<String> = Vec::new();
    for lane in &scene.lanes {
        let name = variable(lane);
        // `a.0` and `a_0` are spelled alike.
        let alike = names.iter().filter(|other| **other == name).count();
        names.push(if alike == 0 { name } else { format!("{name}_{}", names.len()) });
    }
    let mut current: Vec<Value> = vec![map(&[]); names.len()];
    let mut facts = scene.facts.iter().peekable();
    let mut states = Vec::new();
    for step in 0..=scene.steps.len() {
        while let Some(fact) = facts.next_if(|fact| fact.step <= step) {
            current[fact.lane] = map(&fact.rows);
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
    vars.extend(names.iter().cloned());
    let mut types = Map::new();
    types.insert("action".into(), "Str".into());
    types.extend(names.iter().map(|name| (name.clone(), "Str -> Str".into())));
    let meta = json!({
        "format": "ITF",
        "format-description": "https://apalache-mc.org/docs/adr/015adr-trace.html",
        "source": scene.title,
        "description": "a path of snapline's model; maps of strings are also for human readers",
        "varTypes": types,
        "status": scene.broken.as_ref().map_or("ok", |_| "violation"),
    });
    let trace = json!({ "#meta": meta, "vars": vars, "states": states });
    // Invariant: values made of strings and numbers are JSON.
    serde_json::to_string_pretty(&trace).expect("a value is JSON") + "\n"
}

/// A function from names to values: not a record, as what there is to know of a task that is not
/// there has other names.
fn map(rows: &[[String; 2]]) -> Value {
    json!({ "#map": rows })
}

/// A lane's name as an identifier that is no word of TLA+ or Quint.
fn variable(lane: &Lane) -> String {
    let one = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = lane.name.chars().map(one).collect();
    if lane.kind == LaneKind::Task { format!("task_{name}") } else { name }
}
