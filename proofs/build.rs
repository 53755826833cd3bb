//! Makes the broken twins: the runtime's own files, each with its changes, and the unchanged
//! theorems. A change that does not fit its file any more fails the build, so that a twin differs
//! from the real code in one point.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

#[allow(dead_code, reason = "the runner uses the rest")]
mod twins {
    include!("mutated_sources.rs");

    pub(crate) fn edit(file: &str, mut text: String) -> String {
        for twin in TWINS {
            for edit in twin.edits.iter().filter(|edit| edit.file == file) {
                let places = text.matches(edit.find).count();
                assert!(
                    places == 1,
                    "twin `{}`: {places} times in {file}: {}",
                    twin.name,
                    edit.find
                );
                let on = format!("crate::on(\"{}\")", twin.name);
                text = text.replace(edit.find, &words(edit.with, &on));
            }
        }
        text
    }

    /// `ON`, where it is a word of its own.
    fn words(text: &str, on: &str) -> String {
        let mut made = String::new();
        for part in text.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_') {
            let end = part.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '_');
            made.push_str(if end == "ON" { on } else { end });
            made.push_str(&part[end.len()..]);
        }
        made
    }
}

/// The sources of the crate, from the core, the runtime and here.
const FROM_THE_CORE: [&str; 2] = ["base/sync", "state"];
const FROM_THE_RUNTIME: [&str; 3] = ["channel", "executor/io_pool.rs", "executor/run_loop.rs"];
const FROM_HERE: [&str; 1] = ["theorems"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(snapline_loom)");
    // The runtime's files name it; their parts of the simulation and of SQLite are left out here.
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"sim\", \"sqlite\"))");
    println!("cargo::rerun-if-changed=mutated_sources.rs");
    let features = ["CARGO_FEATURE_LOOM", "CARGO_FEATURE_SHUTTLE"];
    if !features.iter().any(|feature| env::var_os(feature).is_some()) {
        return;
    }
    // Marks a checker's build for the runtime's files: small constants, and no unit tests.
    println!("cargo::rustc-cfg=snapline_loom");
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where this is"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to"));
    for (from, parts) in [
        (here.join("../core/src"), &FROM_THE_CORE[..]),
        (here.join("../src"), &FROM_THE_RUNTIME[..]),
        (here.join("src"), &FROM_HERE[..]),
    ] {
        for part in parts {
            println!("cargo::rerun-if-changed={}", from.join(part).display());
            copy(&from, Path::new(part), &out.join("broken"));
        }
    }
    fs::write(out.join("broken.rs"), tree(&out.join("broken")))
        .expect("the build directory is writable");
}

/// The modules of the twins, laid out as in lib.rs.
fn tree(folder: &Path) -> String {
    let file = |name: &str| format!("#[path = {:?}]\n", folder.join(name).display().to_string());
    format!(
        "pub(crate) use crate::{{protocol, rig, store}};
pub(crate) mod base {{
    pub(crate) use super::sync;
    pub(crate) use crate::base::{{clock, error, watch}};
}}
pub(crate) mod sync {{
    pub(crate) use crate::sync::{{
        Arc, AtomicBool, AtomicU8, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, PoisonError,
        UnsafeCell, fence, lock, nap, thread,
    }};
    {}mod mailbox;
    {}mod parking;
    pub(crate) use mailbox::{{Mailbox, MailboxSender}};
    pub(crate) use parking::{{Parker, Unparker}};
}}
{}mod channel;
{}mod cow;
mod executor {{
    {}pub(crate) mod io_pool;
    {}pub(crate) mod run_loop;
}}
{}mod ring;
{}mod state;
{}pub(crate) mod theorems;
",
        file("base/sync/mailbox.rs"),
        file("base/sync/parking.rs"),
        file("channel/mod.rs"),
        file("state/cow.rs"),
        file("executor/io_pool.rs"),
        file("executor/run_loop.rs"),
        file("channel/ring.rs"),
        file("state/mod.rs"),
        file("theorems/mod.rs"),
    )
}

fn copy(from: &Path, part: &Path, to: &Path) {
    let source = from.join(part);
    if source.is_dir() {
        for entry in fs::read_dir(&source).expect("the folder is readable") {
            let name = entry.expect("the entry is readable").file_name();
            copy(from, &part.join(name), to);
        }
        return;
    }
    let text = fs::read_to_string(&source).expect("sources are UTF-8");
    let name = part.to_string_lossy().replace('\\', "/");
    let text = twins::edit(&name, text).replace("crate::", "crate::broken::");
    let text = text.replace("crate::broken::on(", "crate::on(");
    let target = to.join(part);
    fs::create_dir_all(target.parent().expect("the target is in a folder"))
        .expect("the folder can be made");
    fs::write(target, text).expect("the build directory is writable");
}
