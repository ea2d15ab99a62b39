//! The cluster: Services without selectors, and a slice for each. All are served by the same ten pods
//! of the lab, so every one can be asked; to the agent each Service has ten backends of its own.

use std::net::{IpAddr, SocketAddr, TcpStream};
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
use weir_tests::traffic::{Client, HTTP_PORT, Response};
use weir_tests::wait::until_timed;

/// Endpoints of each Service: the lab's pods.
pub const ENDPOINTS: usize = 10;

/// How long a change may take. Generous: it is reached only by failures.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Within this time a connection is accepted where there is a proxy.
const SOON: Duration = Duration::from_millis(50);

/// Requests to the API server at a time.
const AT_A_TIME: usize = 32;

/// The port on every ClusterIP.
const PORT: u16 = 80;

/// A lab's cluster with all its objects.
pub struct Cluster<'a> {
    lab: &'a Lab,
    api: &'a Api,
    /// The Services' addresses, in the order of their names.
    addresses: Vec<IpAddr>,
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

    /// Waits until the Service that was made last is served, then checks that those all over the list are.
    pub fn until_served(
        &self,
        mut check_running: impl FnMut() -> Result<()> + Send,
    ) -> Result<Instant> {
        let pod = &self.lab.node1.pods[0].namespace;
        let served = pod.run(|| {
            until_timed("the last Service is served", TIMEOUT, || {
                check_running()?;
                // Without a proxy nobody replies, and what is sent again belongs to the same flow.
                TcpStream::connect_timeout(&self.last(), SOON)?;
                ask(self.last())?;
                Ok(Instant::now())
            })
        })?;
        let step = (self.addresses.len() / 100).max(1);
        let some = self.addresses.iter().rev().step_by(step);
        pod.run(|| {
            some.map(|address| (*address, PORT).into()).try_for_each(|to| ask(to).map(drop))
        })?;
        Ok(served)
    }

    /// The frontend of the Service that was made last.
    pub fn last(&self) -> SocketAddr {
        (self.addresses[self.addresses.len() - 1], PORT).into()
    }

    /// The name of that Service, and of its slice.
    pub fn last_name(&self) -> String {
        name(self.addresses.len() as u32 - 1)
    }

    /// Gives the last Service `pod` as its one endpoint; returns the version that the slice has then.
    pub fn change(&self, pod: &Pod) -> Result<String> {
        let fields = json!({"endpoints": [endpoint(pod)]});
        let slice = self.api.merge::<EndpointSlice>(&self.last_name(), &fields)?;
        slice.metadata.resource_version.context("a slice without a version")
    }

    /// Waits until new connections to the last Service end at `pod`; returns since when.
    pub fn until_served_by(&self, pod: &Pod) -> Result<Instant> {
        let frontend = self.last();
        self.lab.node1.pods[0].namespace.run(|| {
            until_timed(&format!("{} alone serves {frontend}", pod.name), TIMEOUT, || {
                let response = ask(frontend)?;
                ensure!(response.pod == pod.name, "{} serves it", response.pod);
                Ok(Instant::now())
            })
        })
    }
}

/// Opens a connection from the calling thread's namespace, and asks which pod it ends at.
fn ask(frontend: SocketAddr) -> Result<Response> {
    Client::connect_here(frontend)?.exchange(0)
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
