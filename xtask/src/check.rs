//! What must hold of the source before any test: its structure, format and lints.

use anyhow::{Result, bail};

use crate::cargo::cargo;
use crate::command::run;
use crate::structure;
use crate::workspace::root;

/// Checks everything; stops at the first that fails.
pub fn everything() -> Result<()> {
    check_structure()?;
    run(cargo().args(["fmt", "--all", "--check"]), "Run `cargo fmt --all`.")?;
    run(
        cargo().args(["clippy", "--workspace", "--all-targets", "--"]).args(["-D", "warnings"]),
        "Fix what clippy names above; where it is wrong, `#[expect(lint, reason = \"…\")]`.",
    )
}

fn check_structure() -> Result<()> {
    eprintln!("$ the structure of the source: imports, circles, names, documented paths, sizes");
    let violations = structure::check(root())?;
    for violation in &violations {
        eprintln!("error: {violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => bail!("{count} violations of the structure; each above says what to do."),
    }
}
