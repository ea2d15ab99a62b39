//! Weir's agent. Data passes through the folders in this order:
//! `source -> model -> plan -> maps (diff) -> kernel`, driven by `agent`. `datapath` loads and
//! attaches what runs in the kernel, `pins` is where that stays, `host` is the node, `preflight`
//! judges it; `cli` is what people type, `observe` what they read.

pub mod agent;
pub mod cli;
pub mod config;
pub mod datapath;
pub mod host;
pub mod maps;
pub mod model;
pub mod observe;
pub mod pins;
pub mod plan;
pub mod preflight;
pub mod source;
