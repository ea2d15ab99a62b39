//! Collects what could not be honoured in one object.

use std::fmt;

use crate::model::Warning;

/// The warnings about one object.
#[derive(Debug)]
pub(crate) struct Warnings {
    about: String,
    list: Vec<Warning>,
}

impl Warnings {
    /// No warnings yet about the object of this kind and name.
    pub(crate) fn about(kind: &str, name: impl fmt::Display) -> Self {
        Self { about: format!("{kind} {name}"), list: Vec::new() }
    }

    /// One more: a sentence that ends with what to do.
    pub(crate) fn add(&mut self, text: impl Into<String>) {
        self.list.push(Warning { about: self.about.clone(), text: text.into() });
    }

    /// All of them.
    pub(crate) fn into_list(self) -> Vec<Warning> {
        self.list
    }
}
