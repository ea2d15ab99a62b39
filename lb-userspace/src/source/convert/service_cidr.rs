//! ServiceCIDR.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as networking;

use super::address;
use super::warnings::Warnings;
use crate::model::Warning;

/// The ranges of `object`, and what of it is not honoured. As for kube-proxy, its conditions do not
/// matter: while one is being deleted, its addresses are in use still.
pub(crate) fn service_cidr(object: &networking::ServiceCIDR) -> (Vec<IpNet>, Vec<Warning>) {
    let mut warnings =
        Warnings::about("ServiceCIDR", object.metadata.name.as_deref().unwrap_or_default());
    let written = object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    let mut ranges = Vec::new();
    for text in written {
        match range(text) {
            Some(range) if ranges.contains(&range) => {}
            Some(range) => ranges.push(range),
            None => warnings.add(format!(
                "spec.cidrs {text:?} is no range and is left out: write ADDRESS/LENGTH, as in \
                 10.96.0.0/12 or fd00:96::/112"
            )),
        }
    }
    (ranges, warnings.into_list())
}

/// Reads a range as `ParseCIDRSloppy` of `k8s.io/utils/net` does; bits of a host mean nothing.
pub(super) fn range(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let is_number = !length.is_empty() && length.bytes().all(|digit| digit.is_ascii_digit());
    let length = length.parse().ok().filter(|_| is_number)?;
    IpNet::new(address::parse(address)?, length).ok().map(|range| range.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(cidrs: &str) -> (String, Vec<String>) {
        let yaml = format!("metadata: {{name: kubernetes}}\nspec: {{cidrs: {cidrs}}}\n");
        let (ranges, warnings) = service_cidr(&serde_saphyr::from_str(&yaml).unwrap());
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        (ranges.join(" "), warnings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn ranges_come_out_in_one_spelling_each_once() {
        let (ranges, warnings) =
            converted("[010.96.0.1/12, 'FD00:96:0::7/112', 10.96.0.0/12, 192.0.2.1/32]");
        assert_eq!(ranges, "10.96.0.0/12 fd00:96::/112 192.0.2.1/32");
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn what_is_no_range_is_left_out_with_a_warning() {
        for text in ["10.96.0.0", "10.96.0.0/33", "10.96.0.0/", "10.96.0.0/+8", "fd00::/129", "/8"]
        {
            let (ranges, warnings) = converted(&format!("['{text}', 10.96.0.0/12]"));
            assert_eq!(ranges, "10.96.0.0/12", "{text}");
            assert_eq!(
                warnings,
                [format!(
                    "ServiceCIDR kubernetes: spec.cidrs {text:?} is no range and is left out: write \
                     ADDRESS/LENGTH, as in 10.96.0.0/12 or fd00:96::/112"
                )]
            );
        }
    }

    #[test]
    fn one_without_a_spec_has_no_ranges() {
        let object = serde_saphyr::from_str("metadata: {name: kubernetes}").unwrap();
        assert_eq!(service_cidr(&object), (Vec::new(), Vec::new()));
    }
}
