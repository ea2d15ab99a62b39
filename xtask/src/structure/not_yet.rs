//! What still breaks a rule. The list only shrinks: what is mended must be taken out, and what is new
//! must be right.

/// What breaks a rule and is let pass until it is mended, by its subject.
pub const NOT_YET: &[&str] = &[
    // Import circles that are not yet broken up.
    "circle lb-userspace/src/cli/explain/socket.rs lb-userspace/src/cli/explain/trace.rs",
    // Types that bear a retired word.
    // Documented paths.
    // Functions that are too long.
    "function lb-userspace/src/cli/explain/steps.rs words",
    // Files that are too long.
    "file lb-userspace/src/cli/explain/steps.rs",
    "file lb-userspace/src/cli/explain/trace.rs",
    // Folders that hold too many files.
];
