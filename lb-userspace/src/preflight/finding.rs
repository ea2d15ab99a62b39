//! A judgement, for people and for programs.

use serde::Serialize;

/// How a requirement is met.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Met.
    Ok,
    /// Weir runs, but not everything will be as one expects.
    Warn,
    /// Weir cannot run.
    Fail,
}

/// One requirement, and how this node meets it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What it is about.
    pub about: String,
    /// How it is met.
    pub level: Level,
    /// What there is.
    pub found: String,
    /// What to change, if anything.
    pub advice: Option<String>,
}

impl Finding {
    /// Nothing to change.
    pub fn ok(about: &str, found: impl Into<String>) -> Self {
        Self::new(about, Level::Ok, found, None)
    }

    /// Something that had better be changed.
    pub fn warn(about: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(about, Level::Warn, found, Some(advice.into()))
    }

    /// Something that has to be changed.
    pub fn fail(about: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(about, Level::Fail, found, Some(advice.into()))
    }

    fn new(about: &str, level: Level, found: impl Into<String>, advice: Option<String>) -> Self {
        Self { about: about.into(), level, found: found.into(), advice }
    }
}
