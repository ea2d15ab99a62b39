//! Chores. To be written.
fn main() {}
