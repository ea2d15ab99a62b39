//! The chaos test for minutes instead of seconds, or with the seed of an earlier run.

use anyhow::Result;
use clap::Args;

use crate::build::cargo_for_tests;
use crate::command::run;
use crate::test::build_agent_for_tests;
use crate::tools;

/// How long, and what of it.
#[derive(Args)]
pub struct Choice {
    /// For how long things happen.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// The seed that an earlier run has printed: the same happens in the same order.
    #[arg(long)]
    seed: Option<u64>,
    /// Without Weir, flows go to pods themselves: what is lost then, Weir has not lost.
    #[arg(long)]
    control: bool,
}

/// Runs it; what happens is printed, and in the end what became of the flows.
pub fn run_for(choice: &Choice) -> Result<()> {
    tools::for_the_lab()?;
    build_agent_for_tests()?;
    let mut command = cargo_for_tests()?;
    command
        .env("WEIR_CHAOS_MINUTES", choice.minutes.to_string())
        .envs(choice.seed.map(|seed| ("WEIR_CHAOS_SEED", seed.to_string())))
        .envs(choice.control.then_some(("WEIR_CHAOS_CONTROL", "1")))
        .args(["test", "--workspace", "--test", "end_to_end", "chaos::", "--", "--nocapture"]);
    run(&mut command, "The same seed (--seed) repeats what happened; --control does without Weir.")
}
