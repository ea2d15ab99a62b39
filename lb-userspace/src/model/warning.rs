//! Warnings about objects.

use std::fmt;

/// What could not be honoured in one of the cluster's objects, and why. It is logged once when it
/// appears, counted, and shown by `weir show services`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Warning {
    /// The object, such as `Service default/web`.
    pub about: String,
    /// What is not done, and why: a sentence that ends with what to do where something can be done.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.text)
    }
}
