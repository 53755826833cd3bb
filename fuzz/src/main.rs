//! Writes the initial files for libFuzzer: the seeds of each target, in a directory of its name,
//! and the words, as a dictionary.
//!
//! ```text
//! snapline-fuzz DIRECTORY   # and the targets' names on standard output
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use snapline_fuzz::TARGETS;

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other(
            "the directory for the seeds is missing; pass it as the argument",
        ));
    };
    for target in TARGETS {
        let seeds = directory.join(target.name);
        fs::create_dir_all(&seeds)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(seeds.join(format!("seed-{number}")), seed)?;
        }
        let entry = |word: &&str| {
            let bytes: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{bytes}\"\n")
        };
        let words: String = target.words.iter().map(entry).collect();
        fs::write(directory.join(format!("{}.dict", target.name)), words)?;
        writeln!(io::stdout(), "{}", target.name)?;
    }
    Ok(())
}
