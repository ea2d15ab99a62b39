//! EndpointSlice.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::discovery::v1 as discovery;
use lb_common::address::Family;

use super::metadata::{has_label, label_value, name};
use super::warnings::Warnings;
use super::{address, port};
use crate::model::{Endpoint, EndpointPort, EndpointSlice, Hints, Name, SharedText, Warning};

/// The label that names a slice's Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The label of slices that are not for proxies.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// The annotation that says when the change of a Service or Pod happened that the slice follows.
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The slice that `object` describes, or `None` if it is for no proxy; and what of it is not
/// honoured.
pub(crate) fn slice(object: &discovery::EndpointSlice) -> (Option<EndpointSlice>, Vec<Warning>) {
    let own = name(&object.metadata);
    let mut warnings = Warnings::about("EndpointSlice", &own);
    let family = family(&object.address_type, &mut warnings);
    let service = service_name(object, &own, &mut warnings);
    let slice = family.zip(service).map(|(family, service)| EndpointSlice {
        name: own,
        service,
        family,
        headless: has_label(&object.metadata, HEADLESS_LABEL),
        ports: ports(object, &mut warnings),
        endpoints: endpoints(object, family, &mut warnings),
        triggered: triggered(object, &mut warnings),
    });
    (slice, warnings.into_list())
}

fn family(address_type: &str, warnings: &mut Warnings) -> Option<Family> {
    match address_type {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        "FQDN" => {
            warnings.add(
                "its addresses are DNS names, which no proxy sends packets to: it is left out; give \
                 the Service endpoints with IP addresses",
            );
            None
        }
        other => {
            warnings.add(format!(
                "addressType {other:?} is none and the slice is left out: write IPv4 or IPv6"
            ));
            None
        }
    }
}

fn service_name(
    object: &discovery::EndpointSlice,
    own: &Name,
    warnings: &mut Warnings,
) -> Option<Name> {
    let label = label_value(&object.metadata, SERVICE_LABEL).filter(|value| !value.is_empty());
    if label.is_none() {
        warnings.add(format!(
            "it belongs to no Service and is left out: name one in the label {SERVICE_LABEL}"
        ));
    }
    label.map(|service| Name::new(&own.namespace, service))
}

fn triggered(object: &discovery::EndpointSlice, warnings: &mut Warnings) -> Option<Duration> {
    let written = object.metadata.annotations.as_ref()?.get(TRIGGER_ANNOTATION)?;
    let Ok(time) = written.parse::<jiff::Timestamp>() else {
        warnings.add(format!(
            "annotation {TRIGGER_ANNOTATION} is {written:?}, which is no time, and is not counted: \
             write it as in 2026-01-31T12:00:00Z"
        ));
        return None;
    };
    Duration::try_from(time.as_duration()).ok()
}

fn ports(object: &discovery::EndpointSlice, warnings: &mut Warnings) -> Vec<EndpointPort> {
    let mut ports = Vec::new();
    for written in object.ports.iter().flatten() {
        let Some(number) = written.port.filter(|number| *number != 0) else {
            warnings.add(
                "a port without a number means all ports, which no proxy balances: it is left out; \
                 give it a number",
            );
            continue;
        };
        let protocol = port::protocol("ports.protocol", written.protocol.as_deref(), warnings);
        let port = port::number("ports.port", number, warnings);
        if let (Some(protocol), Some(port)) = (protocol, port) {
            ports.push(EndpointPort {
                name: written.name.as_deref().unwrap_or_default().into(),
                protocol,
                port,
            });
        }
    }
    ports.shrink_to_fit();
    ports
}

fn endpoints(
    object: &discovery::EndpointSlice,
    family: Family,
    warnings: &mut Warnings,
) -> Vec<Endpoint> {
    let written = object.endpoints.iter().flatten();
    let mut endpoints: Vec<_> =
        written.filter_map(|written| endpoint(written, family, warnings)).collect();
    // There may be a million of them.
    endpoints.shrink_to_fit();
    endpoints
}

fn endpoint(
    written: &discovery::Endpoint,
    family: Family,
    warnings: &mut Warnings,
) -> Option<Endpoint> {
    let Some(text) = written.addresses.first() else {
        warnings.add("an endpoint without addresses is left out: give it one");
        return None;
    };
    let address = address::usable("endpoints.addresses", text, warnings)?;
    if Family::of(&address) != family {
        warnings.add(format!(
            "address family mismatch: endpoint {address} is not {family} as addressType says, and is \
             left out; put it into a slice of its own family"
        ));
        return None;
    }
    let conditions = written.conditions.clone().unwrap_or_default();
    let hints = written.hints.clone().unwrap_or_default();
    Some(Endpoint {
        address,
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node: written.node_name.as_deref().map(Into::into),
        hints: Hints::of(
            in_order(hints.for_zones.into_iter().flatten().map(|hint| hint.name)),
            in_order(hints.for_nodes.into_iter().flatten().map(|hint| hint.name)),
        ),
    })
}

fn in_order(names: impl Iterator<Item = String>) -> Vec<SharedText> {
    let names: BTreeSet<String> = names.collect();
    names.iter().map(|name| SharedText::from(name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use lb_common::address::Protocol;

    use super::*;

    fn convert(yaml: &str) -> (Option<EndpointSlice>, Vec<String>) {
        let (slice, warnings) = slice(&serde_saphyr::from_str(yaml).unwrap());
        (slice, warnings.into_iter().map(|warning| warning.text).collect())
    }

    #[test]
    fn what_is_absent_is_filled_in_as_the_api_server_does() {
        let (slice, warnings) = convert(
            "metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.1.1, 10.244.1.2]}]
",
        );
        assert_eq!(warnings, [""; 0]);
        let slice = slice.unwrap();
        assert_eq!(slice.name, Name::new("default", "web-1"));
        assert_eq!(slice.service, Name::new("default", "web"));
        assert_eq!(
            slice.ports,
            [EndpointPort { name: "".into(), protocol: Protocol::TCP, port: 80 }]
        );
        let [endpoint] = slice.endpoints.as_slice() else {
            panic!("one endpoint, of the first address alone");
        };
        assert!(endpoint.ready && endpoint.serving && !endpoint.terminating);
        assert_eq!(endpoint.node, None);
        assert!(!slice.headless);
    }

    #[test]
    fn conditions_node_and_hints_are_taken_as_written() {
        let (slice, _) = convert(
            "metadata:
  name: web-1
  namespace: shop
  labels: {kubernetes.io/service-name: web, service.kubernetes.io/headless: ''}
addressType: IPv6
endpoints:
- addresses: ['fd00::1']
  nodeName: node-1
  conditions: {ready: false, serving: true, terminating: true}
  hints: {forZones: [{name: b}, {name: a}], forNodes: [{name: node-1}]}
",
        );
        let slice = slice.unwrap();
        assert!(slice.headless);
        assert_eq!(slice.service, Name::new("shop", "web"));
        let endpoint = &slice.endpoints[0];
        assert!(!endpoint.ready && endpoint.serving && endpoint.terminating);
        assert_eq!(endpoint.node.as_deref(), Some("node-1"));
        assert_eq!(endpoint.zone_hints(), ["a", "b"].map(SharedText::from));
        assert_eq!(endpoint.node_hints(), ["node-1"].map(SharedText::from));
    }

    #[test]
    fn the_time_of_the_last_change_is_carried_along_or_warned_on() {
        let of = |time: &str| {
            convert(&format!(
                "metadata:
  name: web-1
  labels: {{kubernetes.io/service-name: web}}
  annotations: {{endpoints.kubernetes.io/last-change-trigger-time: '{time}'}}
addressType: IPv4
endpoints: []
"
            ))
        };
        let (slice, warnings) = of("2026-01-31T12:00:00.25Z");
        assert_eq!(slice.unwrap().triggered, Some(Duration::from_millis(1_769_860_800_250)));
        assert_eq!(warnings, [""; 0]);
        let (slice, warnings) = of("yesterday");
        assert_eq!(slice.unwrap().triggered, None);
        assert!(warnings[0].contains("\"yesterday\", which is no time"), "{warnings:?}");
    }

    #[test]
    fn an_endpoint_of_the_other_family_or_with_a_bad_address_is_left_out() {
        let (slice, warnings) = convert(
            "metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: ['fd00::1']}
- {addresses: [10.244.1.300]}
- {addresses: []}
- {addresses: [10.244.001.010]}
",
        );
        assert_eq!(slice.unwrap().endpoints.len(), 1);
        assert_eq!(warnings.len(), 3);
        assert!(warnings[0].starts_with("address family mismatch: endpoint fd00::1 is not IPv4"));
        assert!(warnings[1].contains("\"10.244.1.300\" is no IP address"));
        assert!(warnings[2].contains("without addresses"));
    }

    #[test]
    fn ports_that_cannot_be_balanced_are_left_out() {
        let (slice, warnings) = convert(
            "metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: all}, {port: 0}, {port: 65536}, {port: -1}, {port: 9, protocol: SCTP}, {port: 9, protocol: tcp}, {port: 53, protocol: UDP}]
endpoints: []
",
        );
        let protocols = slice.unwrap().ports.into_iter().map(|port| port.protocol);
        assert_eq!(protocols.collect::<Vec<_>>(), [Protocol::SCTP, Protocol::UDP]);
        assert_eq!(warnings.len(), 5);
        assert!(warnings[2].contains("from 1 to 65535"));
        assert!(warnings[4].contains("write TCP, UDP or SCTP"));
    }

    #[test]
    fn a_slice_that_no_proxy_can_use_is_left_out_with_what_to_do() {
        for (yaml, hint) in [
            (
                "metadata: {name: a}\naddressType: IPv4\nendpoints: []\n",
                "kubernetes.io/service-name",
            ),
            (
                "metadata: {name: a, labels: {kubernetes.io/service-name: web}}\naddressType: FQDN\nendpoints: []\n",
                "DNS names",
            ),
            (
                "metadata: {name: a, labels: {kubernetes.io/service-name: web}}\naddressType: ipv4\nendpoints: []\n",
                "write IPv4 or IPv6",
            ),
        ] {
            let (slice, warnings) = convert(yaml);
            assert_eq!(slice, None);
            assert!(warnings[0].contains(hint), "{warnings:?}");
        }
    }
}
