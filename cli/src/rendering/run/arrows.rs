//! What goes from one to another in a recorded run.

use serde_json::Value;
use snapline::trace::format::Marker;
use snapline_models::scene::{Arrow, ArrowFate, ArrowKind, Checkpoint};

use super::words::{checkpoint, message, variant, write};
use super::{COORDINATOR, RunWatcher};

impl RunWatcher<'_> {
    pub(super) fn effects(&mut self, effects: &[Value], place: Option<usize>) {
        let (step, storage) = (self.step, self.storage());
        for effect in effects {
            let (name, inner) = variant(effect);
            let id = checkpoint(effect);
            match (name, place) {
                ("Store", _) => {
                    let arrow = self.send(
                        (COORDINATOR, storage),
                        ArrowKind::Write,
                        write(inner),
                        checkpoint(inner),
                    );
                    self.store.push((inner.to_string(), arrow));
                }
                ("Send", None) => {
                    let Some([to, order]) = inner.as_array().map(Vec::as_slice) else { continue };
                    let Some(to) = to.as_u64().and_then(|to| usize::try_from(to).ok()) else {
                        continue;
                    };
                    if to >= self.tasks() {
                        continue;
                    }
                    let body = order.get("order").unwrap_or(order);
                    let about = checkpoint(body);
                    let known = self.scene.checkpoints.iter().rev().any(|it| Some(it.id) == about);
                    if let (("Trigger", _), Some(id), false) = (variant(body), about, known) {
                        let (until, complete, deleted) = (None, false, None);
                        self.scene.checkpoints.push(Checkpoint {
                            id,
                            from: step,
                            until,
                            complete,
                            deleted,
                        });
                    }
                    if let (("Abort", _), Some(id)) = (variant(body), about)
                        && let Some(it) = self.newest(id).filter(|it| it.until.is_none())
                    {
                        it.until = Some(step);
                    }
                    let ends = (COORDINATOR, 1 + to);
                    let arrow = self.send(ends, ArrowKind::Control, message(order), about);
                    self.letters.push((Some(to), order.to_string(), arrow));
                }
                ("Send", Some(from)) => {
                    let about = inner.get("report").and_then(checkpoint);
                    let arrow = self.send(
                        (1 + from, COORDINATOR),
                        ArrowKind::Control,
                        message(inner),
                        about,
                    );
                    self.letters.push((None, inner.to_string(), arrow));
                }
                ("Snapshot", Some(from)) => {
                    let Some(id) = id else { continue };
                    let label = format!("snapshot for {id}");
                    let arrow = self.send((1 + from, storage), ArrowKind::Write, label, Some(id));
                    self.handed.push((from, id, "snapshot", arrow));
                }
                ("PreCommit", Some(from)) => {
                    let (Some(id), Some(to)) = (id, self.externals[from]) else { continue };
                    let label = format!("prepares transaction {id}");
                    let arrow = self.send((1 + from, to), ArrowKind::Commit, label, Some(id));
                    self.handed.push((from, id, "transaction", arrow));
                }
                _ => {}
            }
        }
    }

    /// A message is heard: the first time its arrow ends, and a further one begins each time after.
    pub(super) fn hear(&mut self, to: Option<usize>, spelled: &Value, applied: bool) {
        let key = spelled.to_string();
        let fate = if applied { ArrowFate::Arrived } else { ArrowFate::Ignored };
        if let Some(at) =
            self.letters.iter().position(|(whose, text, _)| *whose == to && *text == key)
        {
            let (whose, text, arrow) = self.letters.remove(at);
            self.settle(arrow, fate);
            self.heard.push((whose, text, arrow));
            if self.heard.len() > 4_096 {
                self.heard.drain(..2_048);
            }
            return;
        }
        // A sink's aligner and committer receive the same message, one after the other: that is one
        // arrival.
        let step = self.step;
        if let Some((_, _, arrow)) =
            self.heard.iter().rev().find(|(whose, text, _)| *whose == to && *text == key)
        {
            let first = &mut self.scene.arrows[*arrow];
            if first.until + 8 < step {
                let again = Arrow { fate: ArrowFate::Ignored, until: step, ..first.clone() };
                self.scene.arrows.push(again);
            } else if applied {
                first.fate = ArrowFate::Arrived;
            }
        }
    }

    /// A barrier or an end is put on every output.
    pub(super) fn put(&mut self, place: Option<usize>, marker: Marker) {
        let Some(from) = place else { return };
        let (kind, word, id) = match marker {
            Marker::Barrier(id) => (ArrowKind::Barrier, format!("barrier {id}"), Some(id.get())),
            Marker::End => (ArrowKind::End, "end of input".to_owned(), None),
        };
        for channel in self.words.topology.subtasks()[from].outputs.clone() {
            let to = self.words.topology.channels()[channel].to.index();
            let arrow = self.send((1 + from, 1 + to), kind, word.clone(), id);
            self.channels[channel].push((word.clone(), arrow));
        }
    }

    /// The same is taken from an input.
    pub(super) fn take(&mut self, place: Option<usize>, event: &Value) {
        let (name, inner) = variant(event);
        let input =
            inner.get("channel").and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
        let inputs = place.map(|subtask| &self.words.topology.subtasks()[subtask].inputs);
        let Some(&channel) = inputs.zip(input).and_then(|(inputs, input)| inputs.get(input)) else {
            return;
        };
        let word = match (name, checkpoint(event)) {
            ("Barrier", Some(id)) => format!("barrier {id}"),
            _ => "end of input".into(),
        };
        if let Some(at) = self.channels[channel].iter().position(|(other, _)| *other == word) {
            let (_, arrow) = self.channels[channel].remove(at);
            self.settle(arrow, ArrowFate::Arrived);
        }
    }

    pub(super) fn handed_back(
        &mut self,
        place: Option<usize>,
        id: u64,
        what: &'static str,
        fate: ArrowFate,
    ) {
        let same = |it: &(usize, u64, &str, usize)| (Some(it.0), it.1, it.2) == (place, id, what);
        if let Some(at) = self.handed.iter().position(same) {
            let (_, _, _, arrow) = self.handed.remove(at);
            self.settle(arrow, fate);
        }
    }
}
