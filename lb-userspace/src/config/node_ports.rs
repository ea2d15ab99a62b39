//! `--nodeport-addresses` as text: `primary`, or prefixes separated by commas.

use std::fmt;
use std::str::FromStr;

use crate::plan::NodePortAddresses;

/// Text that names no addresses.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum NodePortAddressesError {
    /// Not a prefix.
    #[error(
        "{0:?} is no prefix: write ADDRESS/LENGTH, as in 192.0.2.0/24 or fd00::/64, or primary alone"
    )]
    Prefix(String),
    /// `primary` beside prefixes.
    #[error("primary does not go with prefixes: write primary alone, or prefixes alone")]
    Mixed,
}

impl FromStr for NodePortAddresses {
    type Err = NodePortAddressesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts == ["primary"] {
            return Ok(Self::Primary);
        }
        if parts.contains(&"primary") {
            return Err(NodePortAddressesError::Mixed);
        }
        let prefix = |part: &str| {
            let prefix = part.parse().map_err(|_| NodePortAddressesError::Prefix(part.into()));
            prefix.map(|prefix: ipnet::IpNet| prefix.trunc())
        };
        parts.into_iter().map(prefix).collect::<Result<_, _>>().map(Self::Within)
    }
}

impl fmt::Display for NodePortAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Within(prefixes) => {
                for (i, prefix) in prefixes.iter().enumerate() {
                    write!(f, "{}{prefix}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["primary", "10.0.0.0/8", "192.0.2.0/24,fd00::/64"] {
            assert_eq!(text.parse::<NodePortAddresses>().unwrap().to_string(), text);
        }
        let loose: NodePortAddresses = "192.0.2.7/24, fd00::1/64".parse().unwrap();
        assert_eq!(loose.to_string(), "192.0.2.0/24,fd00::/64");
    }

    #[test]
    fn what_names_no_addresses_is_refused_with_what_to_write() {
        let error = |text: &str| text.parse::<NodePortAddresses>().unwrap_err().to_string();
        assert!(error("").contains("as in 192.0.2.0/24"));
        assert!(error("10.0.0.1").contains("ADDRESS/LENGTH"));
        assert!(error("primary,10.0.0.0/8").contains("primary alone"));
    }
}
