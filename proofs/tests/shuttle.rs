//! Runs the theorems; see the crate's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    snapline_proofs::main()
}
