//! The invariants of plan, diff and agent, for arbitrary clusters.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

#[path = "../settings/mod.rs"]
mod settings;
#[path = "../walk/mod.rs"]
mod walk;

mod agent;
mod clusters;
mod order;
mod plans;
mod touched;
