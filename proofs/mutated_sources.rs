// Broken twins: the real files with one change each, each caught by the theorems that it names. The
// build script makes the files from it, and the runner runs them.

/// One change. `ON` in it means: this twin is the one that runs.
pub(crate) struct Edit {
    pub(crate) file: &'static str,
    /// Stands in the file exactly once.
    pub(crate) find: &'static str,
    pub(crate) with: &'static str,
}

pub(crate) struct Twin {
    pub(crate) name: &'static str,
    /// The theorems that catch it.
    pub(crate) caught_by: &'static [&'static str],
    /// The words of loom's or the theorem's failure: any of these.
    pub(crate) says: &'static [&'static str],
    pub(crate) edits: &'static [Edit],
}

pub(crate) const LOST_WAKE_UP: &[&str] = &["deadlock"];
pub(crate) const RACE: &[&str] = &["Causality violation"];
pub(crate) const UNEQUAL: &[&str] = &["assertion `left == right` failed"];

pub(crate) const RING: &str = "channel/ring.rs";
pub(crate) const CHANNEL: &str = "channel/mod.rs";
pub(crate) const PARKING: &str = "base/sync/parking.rs";
pub(crate) const MAILBOX: &str = "base/sync/mailbox.rs";
pub(crate) const COW: &str = "state/cow.rs";
pub(crate) const COLLECTIONS: &str = "state/collections.rs";
pub(crate) const LANES: &str = "executor/io_pool.rs";
pub(crate) const TURN: &str = "executor/run_loop.rs";

pub(crate) const TWINS: &[Twin] = &[
    Twin {
        name: "taken-twice",
        caught_by: &["ring-order"],
        says: &["assertion `left == right` failed", "Causality violation"],
        edits: &[Edit { file: RING, find: "self.head += 1;", with: "if !ON { self.head += 1; }" }],
    },
    Twin {
        name: "one-too-many",
        caught_by: &["ring-edges"],
        says: &["assertion `left == right` failed", "Causality violation", "more than fit"],
        edits: &[Edit {
            file: RING,
            find: "if self.tail - self.head < self.ring.slots.len() {",
            with: "if self.tail - self.head < self.ring.slots.len() + usize::from(ON) {",
        }],
    },
    Twin {
        name: "slot-released-before-it-is-read",
        caught_by: &["ring-order"],
        says: RACE,
        edits: &[Edit {
            file: RING,
            find: "let message = slot.with_mut(|slot| unsafe { (*slot).assume_init_read() });",
            with: "if ON { self.ring.head.store(self.head + 1, Ordering::Release); }
        let message = slot.with_mut(|slot| unsafe { (*slot).assume_init_read() });",
        }],
    },
    Twin {
        name: "slot-published-before-it-is-written",
        caught_by: &["ring-order"],
        says: RACE,
        edits: &[Edit {
            file: RING,
            find: "slot.with_mut(|slot| unsafe { (*slot).write(message) });",
            with: "if ON { self.ring.tail.store(self.tail + 1, Ordering::Release); }
        slot.with_mut(|slot| unsafe { (*slot).write(message) });",
        }],
    },
    Twin {
        name: "left-in-the-ring",
        caught_by: &["ring-drop", "ring-panic"],
        says: UNEQUAL,
        edits: &[Edit {
            file: RING,
            find: "for place in head..tail {",
            with: "for place in if ON { tail } else { head }..tail {",
        }],
    },
    Twin {
        name: "dropped-though-taken",
        caught_by: &["ring-drop", "ring-panic"],
        says: &["Arc is already released", "assertion `left == right` failed"],
        edits: &[Edit {
            file: RING,
            find: "let (head, tail) = (self.head.load(Ordering::Acquire), self.tail.load(Ordering::Acquire));",
            with: "let (head, tail) = (self.head.load(Ordering::Acquire), self.tail.load(Ordering::Acquire));
        let head = if ON { 0 } else { head };",
        }],
    },
    Twin {
        name: "no-second-look",
        caught_by: &["channel-order"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: CHANNEL,
            find: "self.messages.push(message).map(|()| {",
            with: "if ON { return Err(message); }
        self.messages.push(message).map(|()| {",
        }],
    },
    Twin {
        name: "no-wish-for-room",
        caught_by: &["channel-order"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: CHANNEL,
            find: "self.producer_waiting.store(true, Ordering::Relaxed);",
            with: "if !ON { self.producer_waiting.store(true, Ordering::Relaxed); }",
        }],
    },
    Twin {
        name: "wish-after-the-second-look",
        caught_by: &["channel-order"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: CHANNEL,
            find: "Err(message) => message,
        };",
            with: "Err(message) => message,
        };
        if ON {
            let sent = self.messages.push(message).map(|()| self.consumer.unpark());
            return sent.inspect_err(|_| self.producer_waiting.store(true, Ordering::Relaxed));
        }",
        }],
    },
    Twin {
        name: "consumer-not-woken",
        caught_by: &["channel-order", "turn-pair-wakes"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: CHANNEL,
            find: "self.consumer.unpark();
                return",
            with: "if !ON { self.consumer.unpark(); }
                return",
        }],
    },
    Twin {
        name: "producer-not-woken",
        caught_by: &["channel-order"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: CHANNEL,
            find: "self.producer.unpark();",
            with: "if !ON { self.producer.unpark(); }",
        }],
    },
    Twin {
        name: "batch-lost",
        caught_by: &["channel-order"],
        says: &["in order"],
        edits: &[Edit {
            file: CHANNEL,
            find: "let message = self.messages.pop()?;",
            with: "let mut message = self.messages.pop()?;
        if ON && let Some(next) = self.messages.pop() {
            message = next;
        }",
        }],
    },
    Twin {
        name: "buffer-not-emptied",
        caught_by: &["channel-buffers"],
        says: &["is empty"],
        edits: &[Edit { file: CHANNEL, find: "buffer.clear();", with: "if !ON { buffer.clear(); }" }],
    },
    Twin {
        name: "token-not-left-again",
        caught_by: &["parking-tokens"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: PARKING,
            find: "if self.token.state.swap(NOTIFIED, Ordering::Release) == ASLEEP {",
            with: "if ON && self.token.state.load(Ordering::Relaxed) == NOTIFIED { return; }
        if self.token.state.swap(NOTIFIED, Ordering::Release) == ASLEEP {",
        }],
    },
    Twin {
        name: "bell-without-the-lock",
        caught_by: &["parking-tokens", "parking-deadline"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: PARKING,
            find: "drop(lock(&self.token.bed));",
            with: "if !ON { drop(lock(&self.token.bed)); }",
        }],
    },
    Twin {
        name: "asleep-over-a-token",
        caught_by: &["parking-tokens"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: PARKING,
            find: "if token.state.compare_exchange(EMPTY, ASLEEP, now, seen).is_err() {",
            with: "if ON { token.state.store(ASLEEP, Ordering::Relaxed); }
        else if token.state.compare_exchange(EMPTY, ASLEEP, now, seen).is_err() {",
        }],
    },
    Twin {
        name: "deadline-leaves-it-asleep",
        caught_by: &["parking-deadline"],
        says: &["deadlock", "assertion"],
        edits: &[Edit {
            file: PARKING,
            find: "token.state.swap(EMPTY, Ordering::Acquire);",
            with: "if ON { token.state.store(EMPTY, Ordering::Relaxed); } else { token.state.swap(EMPTY, Ordering::Acquire); }",
        }],
    },
    Twin {
        name: "newest-first",
        caught_by: &["mailbox-order"],
        says: UNEQUAL,
        edits: &[Edit {
            file: MAILBOX,
            find: "let message = queue.messages.pop_front();",
            with: "let message = if ON { queue.messages.pop_back() } else { queue.messages.pop_front() };",
        }],
    },
    Twin {
        name: "reader-not-woken",
        caught_by: &["mailbox-order", "turn-wakes"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: MAILBOX,
            find: "self.reader.unpark();
        Ok(())",
            with: "if !ON { self.reader.unpark(); }
        Ok(())",
        }],
    },
    Twin {
        name: "woken-before-there-is-a-message",
        caught_by: &["mailbox-order"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: MAILBOX,
            find: "let mut queue = lock(&self.shared.queue);
        if !queue.open {",
            with: "if ON { self.reader.unpark(); }
        let mut queue = lock(&self.shared.queue);
        if !queue.open {",
        }, Edit {
            file: MAILBOX,
            find: "self.shared.any.store(true, Ordering::Relaxed);",
            with: "self.shared.any.store(true, Ordering::Relaxed);
        if ON { return Ok(()); }",
        }],
    },
    Twin {
        name: "any-not-said",
        caught_by: &["mailbox-order"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: MAILBOX,
            find: "self.shared.any.store(!queue.messages.is_empty(), Ordering::Relaxed);",
            with: "self.shared.any.store(!ON && !queue.messages.is_empty(), Ordering::Relaxed);",
        }],
    },
    Twin {
        name: "taken-in-though-nobody-reads",
        caught_by: &["mailbox-drop"],
        says: UNEQUAL,
        edits: &[Edit {
            file: MAILBOX,
            find: "queue.open = false;
        let unread",
            with: "queue.open = ON;
        let unread",
        }],
    },
    Twin {
        name: "dropped-under-the-lock",
        caught_by: &["mailbox-drop"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: MAILBOX,
            find: "let unread = std::mem::take(&mut queue.messages);",
            with: "if ON { queue.messages.clear(); }
        let unread = std::mem::take(&mut queue.messages);",
        }],
    },
    Twin {
        name: "end-not-heard",
        caught_by: &["lanes-end"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: MAILBOX,
            find: "self.reader.unpark();
    }",
            with: "if !ON { self.reader.unpark(); }
    }",
        }],
    },
    Twin {
        name: "settled-too-early",
        caught_by: &["lanes-settle"],
        says: UNEQUAL,
        edits: &[Edit {
            file: LANES,
            find: "while left.load(Ordering::Acquire) > 0 {",
            with: "while left.load(Ordering::Acquire) > usize::from(ON) {",
        }],
    },
    Twin {
        name: "lane-not-waited-for",
        caught_by: &["lanes-end"],
        says: &["assertion `left == right` failed", "still borrowed"],
        edits: &[Edit {
            file: LANES,
            find: "if let Some(handle) = handle {",
            with: "if !ON && let Some(handle) = handle {",
        }],
    },
    Twin {
        name: "end-without-a-token",
        caught_by: &["turn-end", "turn-pair-end"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: TURN,
            find: "workers.iter().for_each(Unparker::unpark);",
            with: "if !ON { workers.iter().for_each(Unparker::unpark); }",
        }],
    },
    Twin {
        name: "token-before-the-end",
        caught_by: &["turn-end", "turn-pair-end"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: TURN,
            find: "over.store(true, Ordering::Release);",
            with: "if ON {
        workers.iter().for_each(Unparker::unpark);
        return over.store(true, Ordering::Release);
    }
    over.store(true, Ordering::Release);",
        }],
    },
    Twin {
        name: "slept-after-work",
        caught_by: &["turn-pair-wakes"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: TURN,
            find: "worked |= busy;",
            with: "worked |= busy && !ON;",
        }],
    },
    Twin {
        name: "written-while-shared",
        caught_by: &["cow-node", "cow-nested", "table-image"],
        says: &["Causality violation", "assertion `left == right` failed"],
        edits: &[Edit {
            file: COW,
            find: "if !self.is_owned(clock) {
            self.own",
            with: "if !ON && !self.is_owned(clock) {
            self.own",
        }],
    },
    Twin {
        name: "floor-not-raised",
        caught_by: &["cow-node"],
        says: &["only what is below the floor is shared"],
        edits: &[Edit {
            file: COW,
            find: "self.floor = self.next;",
            with: "if !ON { self.floor = self.next; }",
        }],
    },
    Twin {
        name: "taken-back-while-it-is-read",
        caught_by: &["cow-node", "cow-nested"],
        says: &["Causality violation", "assertion `left == right` failed"],
        edits: &[Edit {
            file: COW,
            find: "if let Some(alone) = Arc::get_mut(&mut self.0) {",
            with: "if ON {
            // SAFETY: none; this is what is broken here.
            unsafe { (*Arc::as_ptr(&self.0).cast_mut()).version = version };
        } else if let Some(alone) = Arc::get_mut(&mut self.0) {",
        }],
    },
    Twin {
        name: "image-let-go-too-early",
        caught_by: &["cow-node"],
        says: &["Causality violation", "already released", "assertion `left == right` failed"],
        edits: &[Edit {
            file: COW,
            find: "Self(Arc::clone(&self.0))",
            with: "{
            let shared = Arc::clone(&self.0);
            if ON {
                // SAFETY: none; this is what is broken here: a count is given back that is still in use.
                unsafe { drop(std::ptr::read(&shared)) };
            }
            Self(shared)
        }",
        }],
    },
    Twin {
        name: "owner-waits-for-the-upload",
        caught_by: &["owner-never-waits"],
        says: LOST_WAKE_UP,
        edits: &[Edit {
            file: COW,
            find: "let version = clock.tick();
        if",
            with: "let version = clock.tick();
        if ON && Arc::get_mut(&mut self.0).is_none() { crate::base::sync::Parker::new().park(); }
        if",
        }],
    },
    Twin {
        name: "hot-beyond-the-floor",
        caught_by: &["table-image"],
        says: &["Causality violation", "assertion `left == right` failed"],
        edits: &[Edit {
            file: COW,
            find: "if self.version < clock.floor {",
            with: "if self.version < if ON { 1 } else { clock.floor } {",
        }],
    },
    Twin {
        name: "list-written-while-shared",
        caught_by: &["list-image"],
        says: &["Causality violation", "assertion `left == right` failed"],
        edits: &[Edit {
            file: COLLECTIONS,
            find: "    if Arc::get_mut(shared).is_none() {",
            with: "    if ON {
        // SAFETY: none; this is what is broken here.
        return unsafe { &mut *Arc::as_ptr(shared).cast_mut() };
    }
    if Arc::get_mut(shared).is_none() {",
        }],
    },
];

/// Twins that shuttle cannot detect: it knows no weak ordering, switches threads at atomics and
/// locks only, and tracks no memory.
pub(crate) const LOOM_ALONE: &[&str] = &[
    "slot-released-before-it-is-read",
    "slot-published-before-it-is-written",
    "token-not-left-again",
    "deadline-leaves-it-asleep",
];

/// A use of an atomic that can be weakened undetected, with the reason. Any other such use is an
/// error, and so is a listed one that is detected.
pub(crate) struct Spare {
    pub(crate) file: &'static str,
    /// A part of its line.
    pub(crate) line: &'static str,
    pub(crate) to: &'static str,
    pub(crate) why: &'static str,
}

pub(crate) const SPARE: &[Spare] = &[
    Spare {
        file: "src/channel/ring.rs",
        line: "(self.head.load(Ordering::Acquire), self.tail.load(Ordering::Acquire))",
        to: "Relaxed",
        why: "the last owner of an `Arc` has seen all writes of the other owners",
    },
    Spare {
        file: "src/executor/io_pool.rs",
        line: "let unwanted = || closing.load(Ordering::Acquire) || job.is_over();",
        to: "Relaxed",
        why: "it publishes no data: the pool waits for a job that runs in spite of it",
    },
    Spare {
        file: "src/executor/io_pool.rs",
        line: "self.closing.store(true, Ordering::Release);",
        to: "Relaxed",
        why: "for the same reason as its load",
    },
    Spare {
        file: "src/executor/run_loop.rs",
        line: "while !over.load(Ordering::Acquire) {",
        to: "Relaxed",
        why: "the token that wakes a worker also publishes the flag",
    },
    Spare {
        file: "src/executor/run_loop.rs",
        line: "over.store(true, Ordering::Release);",
        to: "Relaxed",
        why: "for the same reason as its load",
    },
];
