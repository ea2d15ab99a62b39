//! The storage of the API server: objects, one revision over all of them, and their history.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A resource by the last word of its path.
pub type Resource = &'static str;

pub const SERVICES: Resource = "services";
pub const SLICES: Resource = "endpointslices";
pub const NODES: Resource = "nodes";
pub const RANGES: Resource = "servicecidrs";

/// Namespace and name.
pub type Key = (String, String);

/// A change of an object.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    pub revision: u64,
    pub resource: Resource,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

#[derive(Clone, Debug, Default)]
pub struct Store {
    pub revision: u64,
    objects: BTreeMap<(Resource, Key), Value>,
    pub history: Vec<HistoryEntry>,
    /// The history up to this revision is gone.
    pub compacted: u64,
}

impl Store {
    pub fn put(&mut self, resource: Resource, mut object: Value) {
        let key = key(&object);
        self.revision += 1;
        let before = self.objects.get(&(resource, key.clone())).cloned();
        let uid = before.as_ref().map_or_else(
            || json!(format!("uid-{}", self.revision)),
            |before| before["metadata"]["uid"].clone(),
        );
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.objects.insert((resource, key), object.clone());
        self.record(resource, before, Some(object));
    }

    /// Deletes an object, which is in the namespace `default` if its kind has any.
    pub fn delete(&mut self, resource: Resource, name: &str) {
        let namespace = if [NODES, RANGES].contains(&resource) { "" } else { "default" };
        let key = (namespace.to_owned(), name.to_owned());
        let before = self.objects.remove(&(resource, key)).expect("it is there");
        self.revision += 1;
        self.record(resource, Some(before), None);
    }

    fn record(&mut self, resource: Resource, before: Option<Value>, after: Option<Value>) {
        let revision = self.revision;
        self.history.push(HistoryEntry { revision, resource, before, after });
    }

    /// All objects of a resource that are selected, in the order of their keys.
    pub fn objects(&self, resource: Resource, selector: &Selector) -> Vec<Value> {
        let of_resource = self.objects.iter().filter(|((of, _), _)| *of == resource);
        of_resource
            .map(|(_, object)| object)
            .filter(|object| selector.matches(object))
            .cloned()
            .collect()
    }

    /// Drops the history.
    pub fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.revision;
    }

    /// The events of a watch after `revision`.
    pub fn since(
        &self,
        resource: Resource,
        selector: &Selector,
        revision: u64,
    ) -> Vec<(u64, Value)> {
        let entries =
            self.history.iter().filter(|h| h.resource == resource && h.revision > revision);
        entries.filter_map(|h| Some((h.revision, watch_event(h, selector)?))).collect()
    }
}

/// The watch event of a change. A change of labels is an addition or a removal for a watch that selects
/// by them; a removal has a revision of its own.
fn watch_event(entry: &HistoryEntry, selector: &Selector) -> Option<Value> {
    let taken = |object: &Option<Value>| object.clone().filter(|object| selector.matches(object));
    let (kind, mut object) = match (taken(&entry.before), taken(&entry.after)) {
        (None, Some(after)) => ("ADDED", after),
        (Some(_), Some(after)) => ("MODIFIED", after),
        (Some(before), None) => ("DELETED", before),
        (None, None) => return None,
    };
    object["metadata"]["resourceVersion"] = json!(entry.revision.to_string());
    Some(json!({"type": kind, "object": object}))
}

/// What a request selects.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// A label that must not be there.
    pub without: Option<String>,
    pub name: Option<String>,
    pub namespace: Option<String>,
}

impl Selector {
    fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let is = |field, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| metadata[field] == json!(wanted))
        };
        is("name", &self.name)
            && is("namespace", &self.namespace)
            && self.without.as_ref().is_none_or(|label| metadata["labels"].get(label).is_none())
    }
}

fn key(object: &Value) -> Key {
    let text = |field| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

pub fn service(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "labels": {}},
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
    })
}

pub fn slice(name: &str, service: &str, address: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    })
}

pub fn node(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {}},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

pub fn range(name: &str, cidrs: &[&str]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": name}, "spec": {"cidrs": cidrs},
    })
}

/// With a label that hides it from proxies.
pub fn labelled(mut object: Value, label: &str) -> Value {
    object["metadata"]["labels"][label] = json!("");
    object
}
