//! The keys that are due, by time (SPEC 16.6).

use std::collections::BTreeMap;

use crate::operator::time::Timestamp;

/// Keys by the earliest time at which they are due. It is not state itself: it follows from the
/// state of the keys, and is computed again when that is restored.
#[derive(Debug)]
pub(crate) struct TimerQueue<K>(
    /// By time, then by hash, so that the order does not depend on history; hashes seldom collide.
    BTreeMap<(Timestamp, u64), Vec<K>>,
);

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Eq + Clone> TimerQueue<K> {
    /// A key's earliest time has changed.
    #[inline]
    pub(crate) fn change(
        &mut self,
        hash: u64,
        key: &K,
        before: Option<Timestamp>,
        now: Option<Timestamp>,
    ) {
        if before == now {
            return;
        }
        if let Some(before) = before {
            self.cross_out(before, hash, key);
        }
        if let Some(now) = now {
            self.0.entry((now, hash)).or_default().push(key.clone());
        }
    }

    fn cross_out(&mut self, at: Timestamp, hash: u64, key: &K) {
        if let Some(keys) = self.0.get_mut(&(at, hash)) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.0.remove(&(at, hash));
            }
        }
    }

    /// The earliest time of all.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes out the first key that is due.
    pub(crate) fn pop(&mut self, until: Timestamp) -> Option<(Timestamp, u64, K)> {
        let mut first = self.0.first_entry()?;
        let (at, hash) = *first.key();
        if at > until {
            return None;
        }
        let key = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        // Invariant: no list of keys is empty.
        Some((at, hash, key.expect("a time is on the agenda for a key")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_a_change_replaces() {
        let at = Timestamp::from_millis;
        let mut agenda = TimerQueue::default();
        agenda.change(1, &"a", None, Some(at(5)));
        agenda.change(2, &"b", None, Some(at(3)));
        agenda.change(2, &"c", None, Some(at(3)));
        agenda.change(1, &"a", Some(at(5)), Some(at(2)));
        assert_eq!(agenda.pop(at(1)), None);
        assert_eq!(agenda.pop(at(9)), Some((at(2), 1, "a")));
        agenda.change(2, &"b", Some(at(3)), None);
        assert_eq!(agenda.pop(at(9)), Some((at(3), 2, "c")));
        assert_eq!((agenda.pop(Timestamp::MAX), agenda.next()), (None, None));
    }
}
