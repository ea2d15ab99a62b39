//! A lab under a control plane with everything in it that most tests need: servers in all pods, the
//! pods known to the API server, a Service proxy on node1, and the same four Services as without a
//! control plane.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::address::{Family, Protocol};

use super::ControlPlane;
use super::proxy::{Proxy, Running};
use crate::fixture::ServedBy;
use crate::lab::{Lab, Pod, Shape};
use crate::manifests::Offer;
use crate::requires;
use crate::traffic::{self, Flow, Origin, Servers};
use crate::wait::until;

/// How long a change may take from the API to packets. Generous: it is reached only by failures.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// A lab at work. Fields are dropped in their order.
#[derive(Debug)]
pub struct Fixture {
    /// node1's proxy.
    pub running: Running,
    /// Which one it is.
    pub proxy: Proxy,
    /// The servers of all pods.
    pub servers: Vec<Servers>,
    /// Where the proxy gets its objects.
    pub control_plane: ControlPlane,
    /// The lab.
    pub lab: Lab,
}

impl Fixture {
    /// Makes a lab and starts everything in it; `None` if the test is to be skipped.
    ///
    /// # Errors
    /// If something does not start.
    pub fn start(proxy: Proxy) -> Result<Option<Self>> {
        Self::start_shape(proxy, Shape::default())
    }

    /// The same for a lab of this shape.
    ///
    /// # Errors
    /// If something does not start.
    pub fn start_shape(proxy: Proxy, shape: Shape) -> Result<Option<Self>> {
        let Some((lab, programs)) = requires::control_plane(proxy, shape)? else {
            return Ok(None);
        };
        let servers = traffic::serve(&lab)?;
        let control_plane = ControlPlane::start(&lab, programs)?;
        let api = &control_plane.api;
        [&lab.node1, &lab.node2].into_iter().try_for_each(|node| api.join(node))?;
        lab.pods().try_for_each(|pod| api.run_pod(pod))?;
        for served in ServedBy::ALL {
            api.offer(&served.offer(&lab), lab.pods())?;
        }
        let running = proxy.start(&lab.node1, &control_plane)?;
        let fixture = Self { running, proxy, servers, control_plane, lab };
        for served in ServedBy::ALL {
            fixture.until_offered(&served.offer(&fixture.lab))?;
        }
        Ok(Some(fixture))
    }

    /// Makes or changes the Service of `offer`, and waits until exactly its pods serve it.
    ///
    /// # Errors
    /// If they do not in time.
    pub fn offer(&self, offer: &Offer) -> Result<()> {
        self.control_plane.api.offer(offer, self.lab.pods())?;
        self.until_offered(offer)
    }

    /// Waits until exactly the pods of `offer` serve it, in both families, at its ClusterIPs and node
    /// ports.
    ///
    /// # Errors
    /// If they do not in time.
    pub fn until_offered(&self, offer: &Offer) -> Result<()> {
        self.flows(offer).iter().try_for_each(|flow| self.until_served_by(flow, &offer.pods))
    }

    /// The flows by which `offer` is reached over TCP: from a pod and from a process of the node to its
    /// ClusterIPs, and from outside to its node ports.
    #[must_use]
    pub fn flows(&self, offer: &Offer) -> Vec<Flow<'_>> {
        let lab = &self.lab;
        let flow = |origin, frontend| Flow { origin, frontend, protocol: Protocol::TCP };
        let of_family = |family| {
            let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
            let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
            let host = self.proxy.serves_host(&lab.node1).then(|| flow(Origin::Host, cluster_ip));
            let pod = flow(Origin::Pod(&lab.node1.pods[0]), cluster_ip);
            [pod, flow(Origin::Outside, node_port)].into_iter().chain(host)
        };
        Family::ALL.into_iter().flat_map(of_family).collect()
    }

    /// Waits until `flow`, begun again and again, is served by each of `pods` and by no other.
    ///
    /// # Errors
    /// If it is not in time.
    pub fn until_served_by(&self, flow: &Flow, pods: &[&Pod]) -> Result<()> {
        let wanted: BTreeSet<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        until(&format!("{wanted:?} serve {flow}"), TIMEOUT, || {
            let mut seen = BTreeSet::new();
            for _ in 0..8 * wanted.len() {
                let response = flow.ask(&self.lab, 1)?;
                ensure!(wanted.contains(response.pod.as_str()), "{} serves it", response.pod);
                self.proxy.check_client(flow, &self.lab, &response)?;
                seen.insert(response.pod);
            }
            ensure!(seen.iter().eq(&wanted), "of them only {seen:?} serve it");
            Ok(())
        })
    }

    /// Waits until `flow` is served no more.
    ///
    /// # Errors
    /// If it still is after some time.
    pub fn until_unserved(&self, flow: &Flow) -> Result<()> {
        until(&format!("nobody serves {flow}"), TIMEOUT, || {
            if let Ok(response) = flow.ask(&self.lab, 1) {
                anyhow::bail!("{} serves it", response.pod);
            }
            Ok(())
        })
    }
}
