//! Weir's agent. Data passes through the folders in this order:
//! `source -> model -> plan -> maps (diff) -> kernel`, driven by `agent`; `programs` loads and
//! attaches what runs in the kernel, `cli` is what people type, `observe` what they read.

pub mod agent;
pub mod cli;
pub mod config;
pub mod maps;
pub mod model;
pub mod observe;
pub mod plan;
pub mod programs;
pub mod source;
mod syscall;
