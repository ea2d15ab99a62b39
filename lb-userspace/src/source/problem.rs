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
    /// The API server gives no answer; what was last known stays in force.
    Server {
        /// Where it is.
        server: String,
        /// Since when, why, and what to do.
        reason: String,
    },
}

impl From<Problem> for Remark {
    /// As the agent keeps and shows it: about the object where there is one, else about the place.
    fn from(problem: Problem) -> Self {
        let (about, text) = match problem {
            Problem::Remark { place, remark } => {
                let place = place.map_or(String::new(), |place| format!(" ({place})"));
                (remark.about, remark.text + &place)
            }
            Problem::Unreadable { place, reason } | Problem::Watch { place, reason } => {
                (place.to_string(), reason)
            }
            Problem::Skipped { place, kind, count } => (place.to_string(), skipped(&kind, count)),
            Problem::Server { server, reason } => (format!("API server {server}"), reason),
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
            Self::Server { server, reason } => write!(f, "API server {server}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_about_an_object_stays_about_it_and_names_its_place() {
        let problem = Problem::Remark {
            place: Some(Place::line(&Path::new("a.yaml").into(), 3)),
            remark: Remark { about: "Service default/web".into(), text: "do this".into() },
        };
        assert_eq!(problem.to_string(), "a.yaml:3: Service default/web: do this");
        let remark = Remark::from(problem);
        assert_eq!(remark.about, "Service default/web");
        assert_eq!(remark.text, "do this (a.yaml:3)");
    }

    #[test]
    fn a_problem_with_a_file_is_a_remark_about_the_file() {
        let problem = Problem::Unreadable { place: Place::whole("a.yaml"), reason: "why".into() };
        assert_eq!(problem.to_string(), "a.yaml: why");
        assert_eq!(Remark::from(problem).to_string(), "a.yaml: why");
    }
}
