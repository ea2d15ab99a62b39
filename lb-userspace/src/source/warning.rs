//! What a source could not read or honour, as values: they are logged once, counted and shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::Warning;

/// A line of a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FilePosition {
    /// The file, by the path it was given or found by.
    pub file: Arc<Path>,
    /// The line, from 1; `None` means the file as a whole.
    pub line: Option<u64>,
}

impl FilePosition {
    /// Line `line` of `file`.
    #[must_use]
    pub fn line(file: &Arc<Path>, line: u64) -> Self {
        Self { file: Arc::clone(file), line: Some(line) }
    }

    /// `file` as a whole.
    #[must_use]
    pub fn whole(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into().into(), line: None }
    }
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// Something of the cluster that is not balanced as it is written, or not known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SourceWarning {
    /// What stands there cannot be read; what was last read from there stays in force.
    Unreadable {
        /// Where.
        position: FilePosition,
        /// Why: a sentence that ends with what to do.
        reason: String,
    },
    /// An object was read, but not all of it is honoured.
    Object {
        /// Where the object stands, if in a file.
        position: Option<FilePosition>,
        /// Which object, what of it, and why.
        warning: Warning,
    },
    /// Objects that Weir does not read, such as Deployments.
    Skipped {
        /// Where the first of them stands.
        position: FilePosition,
        /// Their kind, with the API's version where that matters.
        kind: String,
        /// How many of this kind the file has.
        count: usize,
    },
    /// Changes are noticed late.
    Watch {
        /// Where.
        position: FilePosition,
        /// Why: a sentence that ends with what to do.
        reason: String,
    },
    /// The API server does not respond; what was last listed stays in force.
    Server {
        /// Where it is.
        server: String,
        /// Since when, why, and what to do.
        reason: String,
    },
}

impl From<SourceWarning> for Warning {
    /// As the agent keeps and shows it: about the object where there is one, else about the file.
    fn from(warning: SourceWarning) -> Self {
        let (about, text) = match warning {
            SourceWarning::Object { position, warning } => {
                let position = position.map_or(String::new(), |position| format!(" ({position})"));
                (warning.about, warning.text + &position)
            }
            SourceWarning::Unreadable { position, reason }
            | SourceWarning::Watch { position, reason } => (position.to_string(), reason),
            SourceWarning::Skipped { position, kind, count } => {
                (position.to_string(), skipped(&kind, count))
            }
            SourceWarning::Server { server, reason } => (format!("API server {server}"), reason),
        };
        Self { about, text }
    }
}

fn skipped(kind: &str, count: usize) -> String {
    format!(
        "{count} of kind {kind} skipped: Weir reads Service, EndpointSlice, Node, ServiceCIDR, Pod and \
         List"
    )
}

impl fmt::Display for SourceWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { position, reason } | Self::Watch { position, reason } => {
                write!(f, "{position}: {reason}")
            }
            Self::Object { position, warning } => {
                if let Some(position) = position {
                    write!(f, "{position}: ")?;
                }
                warning.fmt(f)
            }
            Self::Skipped { position, kind, count } => {
                write!(f, "{position}: {}", skipped(kind, *count))
            }
            Self::Server { server, reason } => write!(f, "API server {server}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_about_an_object_stays_about_it_and_names_its_position() {
        let warning = SourceWarning::Object {
            position: Some(FilePosition::line(&Path::new("a.yaml").into(), 3)),
            warning: Warning { about: "Service default/web".into(), text: "do this".into() },
        };
        assert_eq!(warning.to_string(), "a.yaml:3: Service default/web: do this");
        let warning = Warning::from(warning);
        assert_eq!(warning.about, "Service default/web");
        assert_eq!(warning.text, "do this (a.yaml:3)");
    }

    #[test]
    fn a_warning_with_a_file_is_a_warning_about_the_file() {
        let warning = SourceWarning::Unreadable {
            position: FilePosition::whole("a.yaml"),
            reason: "why".into(),
        };
        assert_eq!(warning.to_string(), "a.yaml: why");
        assert_eq!(Warning::from(warning).to_string(), "a.yaml: why");
    }
}
