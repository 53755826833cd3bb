//! The snapline command.
fn main() {}
