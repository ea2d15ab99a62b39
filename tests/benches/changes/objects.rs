//! The objects of a large cluster, as the API server's text.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, Error, Result};
use serde_json::{Value, json};

/// Services, and endpoints of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    pub services: u32,
    pub endpoints: u32,
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (services, endpoints) = text.split_once('x').context("write it as 10000x10")?;
        Ok(Self { services: services.parse()?, endpoints: endpoints.parse()? })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.services, self.endpoints)
    }
}

/// Services that churn touches.
const MANY: u32 = 10_000;

pub fn name(number: u32) -> String {
    format!("many-{number:05}")
}

pub fn service(number: u32, revision: u64) -> Value {
    json!({
        "metadata": metadata(number, "", revision),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip(number), "clusterIPs": [cluster_ip(number)],
            "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            "selector": {"app": name(number)},
        },
        "status": {"loadBalancer": {}},
    })
}

/// Metadata as large as those of real objects.
fn metadata(number: u32, suffix: &str, revision: u64) -> Value {
    let uid = format!("0f3c6a52-6d0e-4c43-9d5b-{number:012}");
    json!({
        "name": format!("{}{suffix}", name(number)), "namespace": "default", "uid": uid,
        "resourceVersion": revision.to_string(), "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"kubernetes.io/service-name": name(number), "app": name(number)},
        "managedFields": [{
            "manager": "kube-controller-manager", "operation": "Update", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:addressType": {}, "f:endpoints": {}, "f:metadata": {"f:labels": {}}, "f:ports": {}},
        }],
    })
}

pub fn slice(number: u32, endpoints: &[Ipv4Addr], revision: u64) -> Value {
    let endpoint = |address: &Ipv4Addr| {
        json!({
            "addresses": [address.to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", u32::from(*address) % 5000),
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("pod-{address}")},
        })
    };
    json!({
        "metadata": metadata(number, "-abcde", revision),
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// Addresses from 10.96.0.0 on.
fn cluster_ip(number: u32) -> String {
    Ipv4Addr::from(0x0a60_0001 + number).to_string()
}

/// Addresses from 10.128.0.0 on.
pub fn endpoints(number: u32, size: Size) -> Vec<Ipv4Addr> {
    let first = 0x0a80_0000 + number * size.endpoints;
    (first..first + size.endpoints).map(Ipv4Addr::from).collect()
}

/// Changes of endpoints, each of which takes the place of another.
pub struct Changes {
    size: Size,
    /// Changes so far.
    made: u32,
    /// The endpoints of the Services that were changed.
    changed: BTreeMap<u32, Vec<Ipv4Addr>>,
}

impl Changes {
    pub const fn new(size: Size) -> Self {
        Self { size, made: 0, changed: BTreeMap::new() }
    }

    /// Name and text of the slice of the last Service, with another endpoint.
    pub fn next(&mut self) -> (String, String) {
        self.change(self.size.services - 1)
    }

    /// The same of one of many Services, another one each time.
    pub fn next_of_many(&mut self) -> (String, String) {
        // A step that has no factor in common with the number of Services visits all of them.
        self.change((self.made * 7919) % self.size.services.min(MANY))
    }

    fn change(&mut self, service: u32) -> (String, String) {
        let size = self.size;
        let of = self.changed.entry(service).or_insert_with(|| endpoints(service, size));
        let oldest = self.made as usize % of.len();
        // From 10.224.0.0 on, again and again, as addresses of pods are used again.
        of[oldest] = Ipv4Addr::from(0x0ae0_0000 + self.made % (1 << 16));
        self.made += 1;
        let slice = slice(service, of, 1_000_000 + u64::from(self.made));
        (name(service), slice.to_string())
    }

    /// The endpoints of some Services that were changed.
    pub fn latest(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.changed.values().rev().take(100).flatten().copied()
    }
}
