//! The house's sizes: where a limit pinches, a noun is missing. Told as notes, never a failure.

use std::path::Path;

use anyhow::{Context, Result};

const LINES_OF_A_FILE: usize = 300;
const FILES_OF_A_FOLDER: usize = 9;

/// What is large about `file`, whose content is `text`.
pub fn notes(file: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LINES_OF_A_FILE + LINES_OF_A_FILE / 4).then(|| {
        format!(
            "{file} has {lines} lines; the house aims at {LINES_OF_A_FILE}. Which noun is missing?"
        )
    })
}

/// The source folders of the workspace under `root` that hold too many files.
pub fn crowded_folders(root: &Path) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for package in ["lb-common/src", "lb-ebpf/src", "lb-userspace/src", "tests/src", "xtask/src"] {
        visit(root, Path::new(package), &mut notes)?;
    }
    Ok(notes)
}

fn visit(root: &Path, folder: &Path, notes: &mut Vec<String>) -> Result<()> {
    let mut files = 0;
    let entries = std::fs::read_dir(root.join(folder))
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            visit(root, &folder.join(entry.file_name()), notes)?;
        } else {
            files += 1;
        }
    }
    if files > FILES_OF_A_FOLDER + 2 {
        notes.push(format!(
            "{} holds {files} files; the house aims at {FILES_OF_A_FOLDER}. Which folder is missing?",
            folder.display()
        ));
    }
    Ok(())
}
