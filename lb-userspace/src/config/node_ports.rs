//! At which of the node's addresses node ports answer.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use lb_common::address::Family;

/// `--nodeport-addresses`, as kube-proxy means it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum NodePortAddresses {
    /// The node's primary address of each family, from its Node object.
    #[default]
    Primary,
    /// Addresses within these prefixes.
    Within(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Those of the node's own addresses (`own`) at which node ports answer, where `primary` are
    /// its Node object's addresses, the first of a family being the primary one.
    ///
    /// A family of which nothing is said (no prefix of it, or no primary address) is not
    /// restricted: that is kube-proxy's rule, and what `primary` means without a Node object.
    /// Loopback addresses are never among them.
    #[must_use]
    pub fn choose(&self, own: &[IpAddr], primary: &[IpAddr]) -> Vec<IpAddr> {
        own.iter()
            .copied()
            .filter(|address| !address.is_loopback() && self.includes(address, primary))
            .collect()
    }

    fn includes(&self, address: &IpAddr, primary: &[IpAddr]) -> bool {
        let family = Family::of(address);
        match self {
            Self::Primary => primary
                .iter()
                .find(|primary| Family::of(primary) == family)
                .is_none_or(|primary| primary == address),
            Self::Within(prefixes) => {
                let mut of_family = prefixes
                    .iter()
                    .filter(|prefix| Family::of(&prefix.addr()) == family)
                    .peekable();
                of_family.peek().is_none() || of_family.any(|prefix| prefix.contains(address))
            }
        }
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
        parts
            .into_iter()
            .map(|part| part.parse().map_err(|_| NodePortAddressesError::Prefix(part.into())))
            .collect::<Result<_, _>>()
            .map(Self::Within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn check(setting: &str, primary: &[&str], chosen: &[&str]) {
        let own = addresses(&["127.0.0.1", "192.0.2.1", "192.0.2.2", "10.0.0.1", "::1", "fd00::1"]);
        let setting: NodePortAddresses = setting.parse().unwrap();
        assert_eq!(setting.choose(&own, &addresses(primary)), addresses(chosen));
    }

    #[test]
    fn primary_is_the_first_address_of_each_family() {
        check("primary", &["192.0.2.2", "10.0.0.1", "fd00::1"], &["192.0.2.2", "fd00::1"]);
    }

    #[test]
    fn a_family_without_a_primary_address_is_not_restricted() {
        check("primary", &["192.0.2.2"], &["192.0.2.2", "fd00::1"]);
        check("primary", &[], &["192.0.2.1", "192.0.2.2", "10.0.0.1", "fd00::1"]);
    }

    #[test]
    fn a_family_without_a_prefix_is_not_restricted() {
        check("10.0.0.0/8", &[], &["10.0.0.1", "fd00::1"]);
        check("10.0.0.0/8,fd01::/64", &[], &["10.0.0.1"]);
    }

    #[test]
    fn node_ports_never_answer_on_loopback() {
        check("127.0.0.0/8,::1/128", &[], &[]);
        check("0.0.0.0/0", &[], &["192.0.2.1", "192.0.2.2", "10.0.0.1", "fd00::1"]);
    }

    #[test]
    fn what_names_no_addresses_is_refused_with_what_to_write() {
        let error = |text: &str| text.parse::<NodePortAddresses>().unwrap_err().to_string();
        assert!(error("").contains("as in 192.0.2.0/24"));
        assert!(error("10.0.0.1").contains("ADDRESS/LENGTH"));
        assert!(error("primary,10.0.0.0/8").contains("primary alone"));
    }
}
