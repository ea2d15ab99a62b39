//! Node.

use k8s_openapi::api::core::v1 as core;

use super::address;
use super::metadata::label_value;
use super::warnings::Warnings;
use crate::model::{Node, Warning};

/// The Node that `object` describes, and what of it is not honoured.
pub(crate) fn node(object: &core::Node) -> (Node, Vec<Warning>) {
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut warnings = Warnings::about("Node", &name);
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
        addresses: address::list("status.addresses", texts, &mut warnings),
        zone: label_value(&object.metadata, "topology.kubernetes.io/zone")
            .filter(|zone| !zone.is_empty())
            .map(String::from),
        leaving: is_leaving(object),
    };
    (node, warnings.into_list())
}

/// As kube-proxy's health server sees it: the effect of the taint does not matter.
fn is_leaving(object: &core::Node) -> bool {
    let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    object.metadata.deletion_timestamp.is_some()
        || taints.iter().any(|taint| taint.key == "ToBeDeletedByClusterAutoscaler")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_leaving_once_it_is_being_deleted_or_the_autoscaler_has_marked_it() {
        for (yaml, leaving) in [
            ("metadata: {name: a}", false),
            ("metadata: {name: a}\nspec: {taints: [{key: other, effect: NoExecute}]}", false),
            ("metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}", true),
            (
                "metadata: {name: a}\nspec:\n  taints:\n  - {key: other, effect: NoSchedule}\n  - {key: ToBeDeletedByClusterAutoscaler, value: '1', effect: PreferNoSchedule}",
                true,
            ),
        ] {
            let object = serde_saphyr::from_str(yaml).unwrap();
            assert_eq!(node(&object).0.leaving, leaving, "{yaml}");
        }
    }

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
        let (node, warnings) = node(&object);
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1", "fd00::1", "198.51.100.1"]);
        assert_eq!(node.zone.as_deref(), Some("a"));
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].about, "Node node-1");
    }
}
