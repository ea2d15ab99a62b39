//! What a source could not read or honour, as values: they are logged once, counted and shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::Remark;

/// A line of a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The file, by the path it was given or found by.
    pub file: Arc<Path>,
    /// The line, from 1; `None` means the file as a whole.
    pub line: Option<u64>,
}

impl Place {
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// Something of the cluster that is not balanced as it is written, or not known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Problem {
    /// What stands here cannot be read; what was last read from here stays in force.
    Unreadable {
        /// Where.
        place: Place,
        /// Why: a sentence that ends with what to do.
        reason: String,
    },
    /// An object was read, but not all of it is honoured.
    Remark {
        /// Where the object stands, if in a file.
        place: Option<Place>,
        /// Which object, what of it, and why.
        remark: Remark,
    },
    /// Objects that Weir does not read, such as Deployments.
    Skipped {
        /// Where the first of them stands.
        place: Place,
        /// Their kind, with the API's version where that matters.
        kind: String,
        /// How many of this kind the file has.
        count: usize,
    },
    /// Changes are noticed late.
    Watch {
        /// Where.
        place: Place,
        /// Why: a sentence that ends with what to do.
        reason: String,
    },
}

impl From<&Problem> for Remark {
    /// The same about the object or, where it is no object's, about the place.
    fn from(problem: &Problem) -> Self {
        let (place, text) = match problem {
            Problem::Remark { remark, .. } => return remark.clone(),
            Problem::Unreadable { place, reason } | Problem::Watch { place, reason } => {
                (place, reason.clone())
            }
            Problem::Skipped { place, kind, count } => (place, skipped(kind, *count)),
        };
        Self { about: place.to_string(), text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { place, reason } | Self::Watch { place, reason } => {
                write!(f, "{place}: {reason}")
            }
            Self::Remark { place, remark } => {
                if let Some(place) = place {
                    write!(f, "{place}: ")?;
                }
                remark.fmt(f)
            }
            Self::Skipped { place, kind, count } => {
                write!(f, "{place}: {}", skipped(kind, *count))
            }
        }
    }
}

fn skipped(kind: &str, count: usize) -> String {
    format!("{count} of kind {kind} skipped: Weir reads Service, EndpointSlice, Node, Pod and List")
}
