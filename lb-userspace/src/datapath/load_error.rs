//! Why programs could not be loaded.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::programs::ProgramError;
use nix::sys::utsname::uname;

use super::error_chain::causes;
use crate::pins::PinError;

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no object.
    #[error(
        "this weir was built without the BPF object: build it with `cargo xtask build`, or name \
         the object file in WEIR_EBPF_OBJECT"
    )]
    Missing,
    /// The file that should hold the object cannot be read.
    #[error("the BPF object {path} cannot be read: {error}; build it with `cargo xtask build`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The maps that are pinned do not fit.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The object or its maps were refused.
    #[error(
        "the kernel did not take the maps: {0}; smaller tables need less memory (`weir run --help`, \
         Sizes)"
    )]
    Maps(String),
    /// The kernel lacks what no program does without.
    #[error(
        "programs of this kernel (Linux {}) have no atomic compare-and-swap, which the tables of flows need; \
         boot Linux 5.12 or later (docs/kernels.md)",
        release()
    )]
    TooOld,
    /// A program was refused.
    #[error(
        "the kernel (Linux {}) did not take the program {name}: {cause}\nThis is a fault of Weir's, or a \
         kernel that it cannot use: `weir check` says what else this one lacks, docs/kernels.md which \
         ones were seen to do. Report it to Weir's developers, with these lines.",
        release()
    )]
    Program {
        /// Its name.
        name: &'static str,
        /// The last lines of what the kernel says.
        cause: String,
    },
}

impl LoadError {
    pub(super) fn maps(error: &EbpfError) -> Self {
        Self::Maps(causes(error))
    }

    /// The program `name` was refused.
    pub(super) fn program(name: &'static str, error: &ProgramError) -> Self {
        Self::Program { name, cause: last_lines(&error.to_string()) }
    }

    /// The object has no program `name`.
    pub(super) fn no_program(name: &'static str) -> Self {
        Self::Program { name, cause: "it is not in the object".into() }
    }
}

/// The kernel's release, as `uname -r` has it.
fn release() -> String {
    let name = uname().map(|name| name.release().to_string_lossy().into_owned());
    name.unwrap_or_else(|_| "of an unknown version".into())
}

/// The verifier's log can be megabytes; what it refused stands at its end.
fn last_lines(text: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    let end = lines.get(skipped..).unwrap_or_default().join("\n");
    match (skipped, lines.first()) {
        (1.., Some(first)) => format!("{first}\n[{} lines]\n{end}", skipped.saturating_sub(1)),
        (_, _) => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_first_line_and_the_end_are_kept() {
        let log: String = (0..100).map(|i| format!("line {i}\n")).collect();
        let kept = last_lines(&log);
        assert!(kept.starts_with("line 0\n[79 lines]\nline 80\n"), "{kept}");
        assert!(kept.ends_with("line 99"));
        assert_eq!(last_lines("one\ntwo\n"), "one\ntwo");
    }
}
