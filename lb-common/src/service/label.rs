//! The ids of Service ports, and the names behind them.

use core::fmt;

use crate::address::Protocol;

/// Identifies a Service port in the maps of this node; 0 is never used. Its names
/// are in the `SERVICES` map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct ServiceId(pub u32);

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Longest namespace or name that Kubernetes allows for a Service (RFC 1035 label), in bytes.
pub const LABEL_LENGTH: usize = 63;

/// Names of a Service port, each padded with zeroes: the value of `SERVICES`. From it `weir show` and a
/// restarted agent know which Service port an id belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct ServiceLabel {
    /// The Service's namespace.
    pub namespace: [u8; LABEL_LENGTH + 1],
    /// The Service's name.
    pub name: [u8; LABEL_LENGTH + 1],
    /// The name of its port, empty where it has none.
    pub port: [u8; LABEL_LENGTH + 1],
    /// The port's protocol.
    pub protocol: Protocol,
    /// Always zero.
    pub zero: [u8; 3],
}

impl ServiceLabel {
    /// The label for these names, or `None` if one is longer than [`LABEL_LENGTH`] or holds a zero
    /// byte.
    #[must_use]
    pub fn new(namespace: &str, name: &str, port: &str, protocol: Protocol) -> Option<Self> {
        Some(Self {
            namespace: padded(namespace)?,
            name: padded(name)?,
            port: padded(port)?,
            protocol,
            zero: [0; 3],
        })
    }

    /// Namespace, name and port name; what is not UTF-8 reads as empty.
    #[must_use]
    pub fn names(&self) -> (&str, &str, &str) {
        (unpadded(&self.namespace), unpadded(&self.name), unpadded(&self.port))
    }
}

impl fmt::Display for ServiceLabel {
    /// `namespace/name`, and `:port` where the port has a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name, port) = self.names();
        write!(f, "{namespace}/{name}")?;
        if port.is_empty() { Ok(()) } else { write!(f, ":{port}") }
    }
}

impl fmt::Debug for ServiceLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/{}", self.protocol)
    }
}

fn padded(text: &str) -> Option<[u8; LABEL_LENGTH + 1]> {
    let mut bytes = [0; LABEL_LENGTH + 1];
    if text.contains('\0') || text.len() > LABEL_LENGTH {
        return None;
    }
    bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(bytes)
}

fn unpadded(bytes: &[u8]) -> &str {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    core::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::string::{String, ToString};

    #[test]
    fn a_label_returns_its_names() {
        let label = ServiceLabel::new("default", "web", "http", Protocol::TCP).unwrap();
        assert_eq!(label.names(), ("default", "web", "http"));
        assert_eq!(label.to_string(), "default/web:http");
        assert_eq!(
            ServiceLabel::new("default", "web", "", Protocol::TCP).unwrap().to_string(),
            "default/web"
        );
    }

    #[test]
    fn a_label_that_does_not_fit_is_refused() {
        let long: String = core::iter::repeat_n('a', LABEL_LENGTH + 1).collect();
        assert_eq!(ServiceLabel::new("default", &long, "", Protocol::TCP), None);
        assert_eq!(ServiceLabel::new("de\0fault", "web", "", Protocol::TCP), None);
    }
}
