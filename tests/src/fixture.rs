//! A lab with everything in it that most tests need: servers in all pods, Weir on node1, and four
//! Services that differ in who serves them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;

use crate::agent::Agent;
use crate::lab::{Lab, Shape};
use crate::manifests::{Manifests, Offer};
use crate::requires;
use crate::traffic::{self, Flow, Origin, Servers, get, probe};

/// A lab at work. Fields are dropped in their order: first the agent, last the lab.
#[derive(Debug)]
pub struct Fixture {
    /// Weir on node1; `None` while a test has taken it out.
    pub agent: Option<Agent>,
    /// The servers of all pods.
    pub servers: Vec<Servers>,
    /// What the agent reads.
    pub manifests: Manifests,
    /// The lab.
    pub lab: Lab,
}

/// Which pods serve a Service of the fixture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServedBy {
    /// node1's pods.
    LocalPods,
    /// node2's pods.
    RemotePods,
    /// node1's first pod alone.
    OnePod,
    /// All pods.
    AllPods,
}

impl ServedBy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::LocalPods, Self::RemotePods, Self::OnePod, Self::AllPods];

    /// The Service in `lab` that is served so.
    #[must_use]
    pub fn offer(self, lab: &Lab) -> Offer<'_> {
        let (name, number, pods) = match self {
            Self::LocalPods => ("local-pods", 11, lab.node1.pods.iter().collect()),
            Self::RemotePods => ("remote-pods", 12, lab.node2.pods.iter().collect()),
            Self::OnePod => ("one-pod", 13, lab.node1.pods.iter().take(1).collect()),
            Self::AllPods => ("all-pods", 14, lab.pods().collect()),
        };
        Offer { name, number, pods }
    }
}

impl Fixture {
    /// Makes a lab of this shape and starts everything in it; `None` if the test is to be skipped.
    ///
    /// # Errors
    /// If something does not start.
    pub fn start(shape: Shape) -> Result<Option<Self>> {
        Self::start_with(shape, &[])
    }

    /// The same with more arguments of `weir run`.
    ///
    /// # Errors
    /// If something does not start.
    pub fn start_with(shape: Shape, arguments: &[&str]) -> Result<Option<Self>> {
        let Some(lab) = requires::lab(shape)? else {
            return Ok(None);
        };
        let servers = traffic::serve(&lab)?;
        let manifests = Manifests::nodes(&lab)?;
        for served in ServedBy::ALL {
            manifests.offer(&served.offer(&lab))?;
        }
        let agent = Agent::start(&lab.node1, &manifests, arguments)?;
        Ok(Some(Self { agent: Some(agent), servers, manifests, lab }))
    }

    /// How many packets had this outcome on node1.
    ///
    /// # Errors
    /// If the agent cannot be asked.
    pub fn counted(&self, outcome: Outcome) -> Result<u64> {
        self.count(&format!("weir_packets_total{{outcome=\"{outcome}\"}}"))
    }

    /// The value of a series of the metrics of node1's agent.
    ///
    /// # Errors
    /// If the agent cannot be asked, or has no such series.
    pub fn count(&self, series: &str) -> Result<u64> {
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_249));
        let text = probe(&self.lab.node1.namespace, metrics, "GET /metrics")?.text();
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(found.with_context(|| format!("no {series} in\n{text}"))?.parse()?)
    }

    /// Checks that a pod of node1, the client outside, and a process of node1 itself where there is
    /// cgroup v2, reach the fixture's Services: in both families, over TCP and UDP.
    ///
    /// # Errors
    /// If one of them gets no response, or a wrong one.
    pub fn check_traffic(&self) -> Result<()> {
        let lab = &self.lab;
        for served in ServedBy::ALL {
            let offer = served.offer(lab);
            for family in Family::ALL {
                let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
                let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
                let of_pod = (Origin::Pod(&lab.node1.pods[0]), cluster_ip);
                let of_host = lab.node1.cgroup.is_some().then_some((Origin::Host, cluster_ip));
                let others = [of_pod, (Origin::Outside, node_port)];
                for (origin, frontend) in others.into_iter().chain(of_host) {
                    for protocol in [Protocol::TCP, Protocol::UDP] {
                        Flow { origin, frontend, protocol }.send(lab, 1000)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a Service and waits until one of its ClusterIPs serves a pod of node1.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn add(&self, offer: &Offer) -> Result<()> {
        const TIMEOUT: Duration = Duration::from_secs(10);
        self.manifests.offer(offer)?;
        let frontend = (offer.cluster_ips().of(Family::V4), Offer::PORT).into();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match get(&self.lab.node1.pods[0].namespace, frontend) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let name = offer.name;
                    return Err(error.context(format!("{name} is not served after {TIMEOUT:?}")));
                }
                Err(_) => {}
            }
        }
    }
}
