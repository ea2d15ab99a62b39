//! `--nodeport-addresses` as text: `primary`, `localhost`, `all` and prefixes, separated by commas.

use std::fmt;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::plan::NodePortAddresses;

/// Text that names no addresses.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error(
    "{0:?} is no prefix: write ADDRESS/LENGTH, as in 192.0.2.0/24 or fd00::/64, or primary, localhost or all"
)]
pub struct NodePortAddressesError(String);

impl FromStr for NodePortAddresses {
    type Err = NodePortAddressesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut addresses = Self { primary: false, localhost: false, within: Vec::new() };
        for part in text.split(',').map(str::trim) {
            match part {
                "primary" => addresses.primary = true,
                "localhost" => addresses.localhost = true,
                "all" => addresses.within.extend(everything()),
                _ => {
                    let range: IpNet =
                        part.parse().map_err(|_| NodePortAddressesError(part.into()))?;
                    addresses.within.push(range.trunc());
                }
            }
        }
        Ok(addresses)
    }
}

/// The ranges of everything, in each family.
fn everything() -> [IpNet; 2] {
    [Ipv4Net::default().into(), Ipv6Net::default().into()]
}

impl fmt::Display for NodePortAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.primary, "primary"), (self.localhost, "localhost")];
        let words =
            words.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word.to_owned());
        let parts: Vec<String> = words.chain(self.within.iter().map(ToString::to_string)).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in [
            "primary",
            "localhost",
            "10.0.0.0/8",
            "192.0.2.0/24,fd00::/64",
            "primary,localhost,192.0.2.0/24",
        ] {
            assert_eq!(text.parse::<NodePortAddresses>().unwrap().to_string(), text);
        }
        let read = |text: &str| text.parse::<NodePortAddresses>().unwrap().to_string();
        assert_eq!(read("192.0.2.7/24, fd00::1/64"), "192.0.2.0/24,fd00::/64");
        assert_eq!(read("all"), "0.0.0.0/0,::/0");
        assert_eq!(read("10.0.0.0/8,primary"), "primary,10.0.0.0/8");
    }

    #[test]
    fn what_names_no_addresses_is_refused_with_what_to_write() {
        let error = |text: &str| text.parse::<NodePortAddresses>().unwrap_err().to_string();
        for text in ["", "10.0.0.1", "primary,", "everything"] {
            assert!(error(text).contains("as in 192.0.2.0/24"));
            assert!(error(text).contains("primary, localhost or all"));
        }
    }
}
