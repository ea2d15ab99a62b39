//! The test as the nodes' kubelet: Nodes and Pods are objects of the API whose status describes the
//! lab's namespaces. The controllers then write the slices.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{self, Service};
use kube::api::{Patch, PatchParams};
use lb_common::address::Family;
use serde_json::{Value, json};

use super::api::Api;
use crate::lab::{Node, Pod};
use crate::manifests::Offer;
use crate::traffic::{ECHO_PORT, HTTP_PORT};

impl Api {
    /// Registers `node` with its addresses.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn join(&self, node: &Node) -> Result<()> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}},
        });
        let address = |family| json!({"type": "InternalIP", "address": node.addresses.of(family).to_string()});
        let status = json!({"status": {
            "addresses": Family::ALL.map(address),
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        self.call(async |client| {
            let nodes: kube::Api<v1::Node> = kube::Api::all(client);
            let forced = PatchParams::apply("kubelet").force();
            nodes.patch(node.name, &forced, &Patch::Apply(&object)).await?;
            let merge = PatchParams::default();
            nodes.patch_status(node.name, &merge, &Patch::Merge(&status)).await
        })
        .with_context(|| format!("cannot register {}", node.name))?;
        Ok(())
    }

    /// Has `pod` run on its node, ready.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn run_pod(&self, pod: &Pod) -> Result<()> {
        let object = json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "nodeName": pod.node,
                "containers": [{"name": "web", "image": "example.org/web"}],
            },
        });
        self.apply::<v1::Pod>(&pod.name, &object)?;
        self.set_ready(pod, true)
    }

    /// Says whether `pod` is ready, with its addresses.
    ///
    /// # Errors
    /// If it is not there.
    pub fn set_ready(&self, pod: &Pod, ready: bool) -> Result<()> {
        self.merge_status::<v1::Pod>(&pod.name, &status(pod, ready))?;
        Ok(())
    }

    /// Has `pod` begin to end: it is terminating until [`Api::remove_pod`].
    ///
    /// # Errors
    /// If it is not there.
    pub fn terminate_pod(&self, pod: &Pod) -> Result<()> {
        self.delete::<v1::Pod>(&pod.name, 600)
    }

    /// Removes `pod` at once.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove_pod(&self, pod: &Pod) -> Result<()> {
        self.delete::<v1::Pod>(&pod.name, 0)
    }

    /// Makes the Service of `offer`, or changes it, so that exactly the offer's pods among `all`
    /// serve it: the others lose the label that it selects by.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn offer<'a>(&self, offer: &Offer, all: impl Iterator<Item = &'a Pod>) -> Result<()> {
        for pod in all {
            let serves = offer.pods.iter().any(|serving| serving.name == pod.name);
            let value = if serves { json!("yes") } else { Value::Null };
            let labels = json!({"metadata": {"labels": {label(offer): value}}});
            self.merge::<v1::Pod>(&pod.name, &labels)?;
        }
        self.apply::<Service>(offer.name, &service(offer))?;
        Ok(())
    }
}

fn status(pod: &Pod, ready: bool) -> Value {
    let word = if ready { "True" } else { "False" };
    let condition = |kind| json!({"type": kind, "status": word});
    let conditions = ["Ready", "ContainersReady"].map(condition);
    let addresses = Family::ALL.map(|family| json!({"ip": pod.addresses.of(family).to_string()}));
    json!({"status": {
        "phase": "Running",
        "podIP": pod.addresses.v4.to_string(),
        "podIPs": addresses,
        "conditions": conditions,
    }})
}

/// The label by which pods serve `offer`.
fn label(offer: &Offer) -> String {
    format!("serves-{}", offer.name)
}

/// The Service of `offer`: of type NodePort, in both families, selecting its pods by their label.
#[must_use]
pub fn service(offer: &Offer) -> Value {
    let port = |name, protocol, target: u16| {
        json!({
            "name": name,
            "protocol": protocol,
            "port": Offer::PORT,
            "targetPort": target,
            "nodePort": offer.node_port(),
        })
    };
    json!({"spec": {
        "type": "NodePort",
        "selector": {label(offer): "yes"},
        "clusterIP": offer.cluster_ips().v4.to_string(),
        "clusterIPs": Family::ALL.map(|family| offer.cluster_ips().of(family).to_string()),
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack",
        "ports": [port("http", "TCP", HTTP_PORT), port("echo", "UDP", ECHO_PORT)],
    }})
}
