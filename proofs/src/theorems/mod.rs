//! Statements that hold in every schedule. Loom runs each, and shuttle larger cases; on the
//! runtime's files as they are, and on the broken twins.

mod channel;
mod lanes;
mod mailbox;
mod parking;
mod ring;
mod snapshot;
mod turn;

use crate::rig::Theorem;

/// All theorems. Bounds and sizes are chosen by running time: proofs/README.md lists them.
pub(crate) const ALL: &[Theorem] = &[
    Theorem { name: "ring-order", preemptions: [None, None], sizes: [3, 4, 20], run: ring::order },
    Theorem { name: "ring-edges", preemptions: [None, None], sizes: [3, 5, 20], run: ring::edges },
    Theorem { name: "ring-drop", preemptions: [None, None], sizes: [3, 4, 6], run: ring::dropped },
    Theorem { name: "ring-panic", preemptions: [None, None], sizes: [3, 4, 6], run: ring::panics },
    Theorem {
        name: "channel-order",
        preemptions: [Some(3), Some(4)],
        sizes: [1, 2, 10],
        run: channel::order,
    },
    Theorem {
        name: "channel-buffers",
        preemptions: [Some(4), Some(4)],
        sizes: [2, 3, 10],
        run: channel::buffers,
    },
    Theorem {
        name: "parking-tokens",
        preemptions: [Some(3), Some(3)],
        sizes: [2, 3, 4],
        run: parking::tokens,
    },
    Theorem {
        name: "parking-deadline",
        preemptions: [Some(3), Some(3)],
        sizes: [2, 3, 4],
        run: parking::deadline,
    },
    Theorem {
        name: "mailbox-order",
        preemptions: [Some(3), Some(3)],
        sizes: [1, 2, 8],
        run: mailbox::order,
    },
    Theorem {
        name: "mailbox-drop",
        preemptions: [Some(5), Some(5)],
        sizes: [2, 3, 8],
        run: mailbox::dropped,
    },
    Theorem {
        name: "lanes-settle",
        preemptions: [Some(2), Some(3)],
        sizes: [2, 2, 8],
        run: lanes::settle,
    },
    Theorem {
        name: "lanes-end",
        preemptions: [Some(3), Some(5)],
        sizes: [3, 3, 8],
        run: lanes::end,
    },
    Theorem {
        name: "turn-wakes",
        preemptions: [Some(3), Some(4)],
        sizes: [2, 2, 8],
        run: turn::wakes,
    },
    Theorem {
        name: "turn-pair-wakes",
        preemptions: [Some(2), Some(3)],
        sizes: [2, 2, 8],
        run: turn::pair_wakes,
    },
    Theorem {
        name: "turn-pair-end",
        preemptions: [Some(2), Some(3)],
        sizes: [2, 2, 8],
        run: turn::pair_ends,
    },
    Theorem {
        name: "turn-end",
        preemptions: [Some(4), Some(4)],
        sizes: [1, 2, 8],
        run: turn::ends,
    },
    Theorem { name: "cow-node", preemptions: [None, None], sizes: [3, 4, 8], run: snapshot::node },
    Theorem {
        name: "cow-nested",
        preemptions: [Some(5), None],
        sizes: [2, 2, 8],
        run: snapshot::nested,
    },
    Theorem {
        name: "table-image",
        preemptions: [None, Some(4)],
        sizes: [2, 3, 8],
        run: snapshot::table,
    },
    Theorem {
        name: "list-image",
        preemptions: [None, Some(4)],
        sizes: [2, 3, 8],
        run: snapshot::list,
    },
    Theorem {
        name: "owner-never-waits",
        preemptions: [None, None],
        sizes: [3, 4, 8],
        run: snapshot::never_waits,
    },
];
