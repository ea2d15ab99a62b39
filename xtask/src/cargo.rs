//! Cargo, for builds within the workspace, and where they go.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use crate::command::fresh;
use crate::workspace::root;

/// The cargo that runs us.
pub fn cargo() -> Command {
    cargo_of(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A cargo of another toolchain.
pub fn cargo_of(program: impl AsRef<OsStr>) -> Command {
    let mut command = fresh(program);
    for kept in ["CARGO_TARGET_DIR", "CARGO_BUILD_JOBS", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.current_dir(root());
    command
}

/// Where builds go.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
