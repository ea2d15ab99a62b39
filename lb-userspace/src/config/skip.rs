//! `--skip` as text: Services as `namespace/name`, and addresses or ranges, separated by commas.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::model::Name;
use crate::plan::Skip;

/// Text that names nothing to leave alone.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error(
    "{0:?} is neither a Service nor an address: write NAMESPACE/NAME, ADDRESS or ADDRESS/LENGTH, as in \
     kube-system/kube-dns or 10.96.0.10"
)]
pub struct SkipError(String);

impl FromStr for Skip {
    type Err = SkipError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut skip = Self::default();
        for item in text.split(',').map(str::trim) {
            if let Some(range) = range(item) {
                skip.addresses.push(range);
            } else {
                let service = service(item).ok_or_else(|| SkipError(item.into()))?;
                skip.services.insert(service);
            }
        }
        Ok(skip)
    }
}

fn range(item: &str) -> Option<IpNet> {
    let of_address = || item.parse::<IpAddr>().ok().map(IpNet::from);
    item.parse::<IpNet>().ok().map(|range| range.trunc()).or_else(of_address)
}

/// Names of Services and namespaces are labels of RFC 1123.
fn service(item: &str) -> Option<Name> {
    let is_label = |label: &str| {
        let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_letter)
    };
    let (namespace, name) = item.split_once('/')?;
    (is_label(namespace) && is_label(name) && !namespace.bytes().all(|b| b.is_ascii_digit()))
        .then(|| Name::new(namespace, name))
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.services.iter().map(ToString::to_string);
        let items: Vec<String> =
            services.chain(self.addresses.iter().map(ToString::to_string)).collect();
        f.write_str(&items.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_addresses_and_ranges_are_distinguished() {
        let skip: Skip = "kube-system/kube-dns, 10.96.0.10,10.97.0.7/16,fd00::a".parse().unwrap();
        assert_eq!(skip.to_string(), "kube-system/kube-dns,10.96.0.10/32,10.97.0.0/16,fd00::a/128");
        assert_eq!(skip.to_string().parse::<Skip>().unwrap(), skip);
    }

    #[test]
    fn what_is_neither_is_refused_with_what_to_write() {
        for text in
            ["", "kube-dns", "kube-system/", "10.96.0", "10.96.0.0/33", "10/8", "a/b/c", "A/b"]
        {
            let error = text.parse::<Skip>().unwrap_err().to_string();
            assert!(error.contains("kube-system/kube-dns or 10.96.0.10"), "{error}");
        }
    }
}
