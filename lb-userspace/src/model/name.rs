//! Names of objects.

use std::fmt;

use internment::ArcIntern;

/// A text that many objects have, such as the name of a node or a namespace: it is stored once, as long as one of them
/// has it.
pub type SharedText = ArcIntern<str>;

/// Namespace and name of a Service, an EndpointSlice or a Pod.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name {
    /// The namespace.
    pub namespace: SharedText,
    /// The name within it.
    pub name: SharedText,
}

impl Name {
    /// The name `namespace/name`.
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        Self { namespace: namespace.as_ref().into(), name: name.as_ref().into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
