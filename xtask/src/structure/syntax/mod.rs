//! Rust files as far as the rules look at them.

mod items;
mod parser;
mod source;

pub use parser::parse;
pub use source::{Module, Source, Use};
