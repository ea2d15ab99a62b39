//! The cluster: Services without selectors, and a slice for each. All are served by the same ten pods
//! of the lab, so every one can be asked; to the agent each Service has ten backends of its own.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::PostParams;
use lb_common::address::Family;
use serde_json::{Value, json};
use weir_tests::control_plane::api::{Api, Object, namespaced};
use weir_tests::lab::{Lab, Pod};
use weir_tests::traffic::{HTTP_PORT, get};
use weir_tests::wait::until;

/// Endpoints of each Service: the lab's pods.
pub const ENDPOINTS: usize = 10;

/// How long a change may take. Generous: it is reached only by failures.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Requests to the API server at a time.
const AT_A_TIME: usize = 32;

/// The port on every ClusterIP.
const PORT: u16 = 80;

/// A lab's cluster with all its objects.
pub struct Cluster<'a> {
    lab: &'a Lab,
    api: &'a Api,
    /// The Services' addresses, in the order of their names.
    addresses: Vec<std::net::IpAddr>,
}

impl<'a> Cluster<'a> {
    /// Registers the nodes and makes the Services and their slices.
    pub fn make(lab: &'a Lab, api: &'a Api, services: u32) -> Result<Self> {
        [&lab.node1, &lab.node2].into_iter().try_for_each(|node| api.join(node))?;
        let made: Vec<Service> = create(api, (0..services).map(service))?;
        let all: Vec<&Pod> = lab.pods().collect();
        let slices = (0..services).map(|number| slice(&name(number), &all));
        create::<EndpointSlice>(api, slices)?;
        let address =
            |service: Service| service.spec.and_then(|spec| spec.cluster_ip)?.parse().ok();
        let addresses = made.into_iter().map(address).collect::<Option<_>>();
        Ok(Self { lab, api, addresses: addresses.context("a Service has no address")? })
    }

    /// Checks that Services from all over the list are served, the last one among them.
    pub fn check_all(&self) -> Result<()> {
        let step = (self.addresses.len() / 100).max(1);
        self.addresses.iter().rev().step_by(step).try_for_each(|address| {
            let pod = &self.lab.node1.pods[0].namespace;
            get(pod, (*address, PORT).into()).map(drop)
        })
    }

    /// Gives one Service another single endpoint, again and again, each time after `quiet`; returns how
    /// long it took from the request to the API server until a new connection ended at the right pod.
    pub fn follow_changes(&self, changes: u32, quiet: Duration) -> Result<Vec<Duration>> {
        let pods = [&self.lab.node1.pods[1], &self.lab.node2.pods[0]];
        // The first leaves one endpoint of many, one of which may be the right one by chance.
        let turns = pods.into_iter().cycle().take(changes as usize + 1);
        let follow = |pod| {
            thread::sleep(quiet);
            self.follow_change(pod)
        };
        let mut times = turns.map(follow).collect::<Result<Vec<_>>>()?;
        times.remove(0);
        Ok(times)
    }

    fn follow_change(&self, pod: &Pod) -> Result<Duration> {
        let last = self.addresses.len() - 1;
        let frontend = (self.addresses[last], PORT).into();
        let begun = Instant::now();
        let fields = json!({"endpoints": [endpoint(pod)]});
        self.api.merge::<EndpointSlice>(&name(last as u32), &fields)?;
        until(&format!("{} alone serves {frontend}", pod.name), TIMEOUT, || {
            let response = get(&self.lab.node1.pods[0].namespace, frontend)?;
            ensure!(response.pod == pod.name, "{} serves it", response.pod);
            Ok(begun.elapsed())
        })
    }
}

/// Makes objects, many at a time; returns them in the order of `objects`.
fn create<T: Object + Sync + serde::Serialize>(
    api: &Api,
    objects: impl Iterator<Item = Value> + Send,
) -> Result<Vec<T>> {
    let objects = objects.map(serde_json::from_value).collect::<Result<Vec<T>, _>>()?;
    api.call(async |client| {
        stream::iter(&objects)
            .map(|object| {
                let kind = namespaced::<T>(client.clone());
                async move { kind.create(&PostParams::default(), object).await }
            })
            .buffered(AT_A_TIME)
            .try_collect()
            .await
    })
}

fn name(number: u32) -> String {
    format!("many-{number:05}")
}

fn service(number: u32) -> Value {
    json!({
        "metadata": {"name": name(number)},
        "spec": {"ports": [{"name": "http", "port": PORT, "targetPort": HTTP_PORT}]},
    })
}

fn slice(service: &str, pods: &[&Pod]) -> Value {
    json!({
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": HTTP_PORT}],
        "endpoints": pods.iter().map(|pod| endpoint(pod)).collect::<Vec<_>>(),
    })
}

fn endpoint(pod: &Pod) -> Value {
    json!({
        "addresses": [pod.addresses.of(Family::V4).to_string()],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": pod.node,
    })
}
