//! What holds for all clusters: the invariants of plan, diff and agent.

#[path = "../walk/mod.rs"]
mod walk;

mod agent;
mod clusters;
mod order;
mod plans;
