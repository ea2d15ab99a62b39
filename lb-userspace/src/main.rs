//! The agent's binary. To be written.
fn main() {}
