//! The repository as the rules see it, and what breaks one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// Something that breaks a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Violation {
    /// What it is about, in the words that `not_yet` lists it by.
    pub subject: String,
    /// Where it is and what to do instead.
    pub message: String,
}

/// The files of the repository, and the text of those that are read.
#[derive(Default)]
pub struct Tree {
    /// By their path from the top.
    pub files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the repository under `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.add(root, "")?;
        Ok(tree)
    }

    fn add(&mut self, root: &Path, folder: &str) -> Result<()> {
        let entries = root.join(folder);
        for entry in std::fs::read_dir(&entries)
            .with_context(|| format!("cannot read the folder {}", entries.display()))?
        {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if entry.file_type()?.is_dir() {
                if !["target", ".git"].contains(&name.as_str()) {
                    self.add(root, &path)?;
                }
                continue;
            }
            let is_read = path.ends_with(".rs") || path.ends_with(".md");
            let text = if is_read {
                std::fs::read_to_string(root.join(&path))
                    .with_context(|| format!("cannot read {path}"))?
            } else {
                String::new()
            };
            self.files.insert(path, text);
        }
        Ok(())
    }

    /// The file of this path, if there is one.
    pub fn file(&self, path: &str) -> Option<&str> {
        self.files.get_key_value(path).map(|(file, _)| file.as_str())
    }

    /// The text of a file, if there is one.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// The paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Every Rust file with its text.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.files.iter().filter(|(file, _)| file.ends_with(".rs"));
        files.map(|(file, text)| (file.as_str(), text.as_str()))
    }
}
