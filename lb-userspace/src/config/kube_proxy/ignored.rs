//! The keys of a file that mean nothing to Weir.

use std::collections::BTreeMap;

use serde_json::Value;

/// Keys that are read, at the top level.
const KNOWN: [&str; 8] = [
    "apiVersion",
    "kind",
    "bindAddress",
    "bindAddressHardFail",
    "healthzBindAddress",
    "hostnameOverride",
    "metricsBindAddress",
    "nodePortAddresses",
];

/// Keys that are read, within others.
const NESTED: [&str; 3] = ["clientConnection.kubeconfig", "conntrack.maxPerCore", "conntrack.min"];

/// The keys that are set to something and not read, with the path to them. kubeadm writes out every
/// key there is, most of them empty.
pub(super) fn ignored(all: &BTreeMap<String, Value>, mode: Option<&str>) -> Vec<String> {
    let rules = if mode == Some("nftables") { "nftables" } else { "iptables" };
    let mut keys = Vec::new();
    for (key, value) in all.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str())) {
        if let Value::Object(inner) = value {
            let inner = inner.iter().filter(|(_, value)| is_set(value));
            keys.extend(inner.map(|(name, _)| format!("{key}.{name}")));
        } else if is_set(value) {
            keys.push(key.clone());
        }
    }
    let read =
        |key: &String| NESTED.contains(&key.as_str()) || *key == format!("{rules}.syncPeriod");
    keys.retain(|key| !read(key));
    keys
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !["", "0", "0s"].contains(&text.as_str()),
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => values.values().any(is_set),
    }
}
