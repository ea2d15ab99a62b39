//! What must hold of the source before any test: format, lints, and the arrows of the design.

use anyhow::{Result, bail};

use crate::arrows;
use crate::cargo::cargo;
use crate::command::run;
use crate::workspace::root;

/// Checks everything; stops at the first that fails.
pub fn everything() -> Result<()> {
    arrows()?;
    run(cargo().args(["fmt", "--all", "--check"]), "Run `cargo fmt --all`.")?;
    run(
        cargo().args(["clippy", "--workspace", "--all-targets", "--"]).args(["-D", "warnings"]),
        "Fix what clippy names above; where it is wrong, `#[expect(lint, reason = \"…\")]`.",
    )
}

fn arrows() -> Result<()> {
    eprintln!("$ the arrows of the design");
    let findings = arrows::check(root())?;
    for note in &findings.notes {
        eprintln!("note: {note}");
    }
    for breach in &findings.breaches {
        eprintln!("error: {breach}");
    }
    match findings.breaches.len() {
        0 => Ok(()),
        count => bail!("{count} arrows of the design are broken; each line above says what to do."),
    }
}
