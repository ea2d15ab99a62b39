//! Node.

use k8s_openapi::api::core::v1 as core;

use super::{Remarks, address, label_value};
use crate::model::{Node, Remark};

/// The Node that `object` describes, and what of it is not honoured.
pub(crate) fn node(object: &core::Node) -> (Node, Vec<Remark>) {
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut remarks = Remarks::about("Node", &name);
    let written = object.status.as_ref().and_then(|status| status.addresses.as_deref());
    let of_type = |kind: &'static str| {
        written
            .unwrap_or_default()
            .iter()
            .filter(move |address| address.type_ == kind)
            .map(|address| address.address.as_str())
    };
    let texts = of_type("InternalIP").chain(of_type("ExternalIP"));
    let node = Node {
        name,
        addresses: address::list("status.addresses", texts, &mut remarks),
        zone: label_value(&object.metadata, "topology.kubernetes.io/zone")
            .filter(|zone| !zone.is_empty())
            .map(String::from),
    };
    (node, remarks.into_list())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_come_before_external_ones() {
        let object: core::Node = serde_saphyr::from_str(
            "metadata: {name: node-1, labels: {topology.kubernetes.io/zone: a}}
status:
  addresses:
  - {type: Hostname, address: node-1}
  - {type: ExternalIP, address: 198.51.100.1}
  - {type: InternalIP, address: 10.0.0.1}
  - {type: InternalIP, address: 'fd00::1'}
  - {type: InternalIP, address: nonsense}
",
        )
        .unwrap();
        let (node, remarks) = node(&object);
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1", "fd00::1", "198.51.100.1"]);
        assert_eq!(node.zone.as_deref(), Some("a"));
        assert_eq!(remarks.len(), 1);
        assert_eq!(remarks[0].about, "Node node-1");
    }
}
