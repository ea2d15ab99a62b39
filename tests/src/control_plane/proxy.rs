//! The Service proxy of node1: Weir, or kube-proxy beside it as the reference.

use std::fmt;

use anyhow::{Context, Result, ensure};

use super::ControlPlane;
use super::programs::Process;
use crate::agent::{self, Agent};
use crate::lab::{Lab, Node};
use crate::traffic::{Flow, Origin, Response};

/// Which Service proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proxy {
    /// `weir run --kubeconfig`.
    Weir,
    /// kube-proxy in its nftables mode.
    KubeProxy,
}

/// A Service proxy at work. Dropping it kills it.
#[derive(Debug)]
pub enum Running {
    /// Weir.
    Weir(Agent),
    /// kube-proxy.
    KubeProxy(KubeProxy),
}

/// A running kube-proxy.
#[derive(Debug)]
pub struct KubeProxy(Process);

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weir => "Weir",
            Self::KubeProxy => "kube-proxy (nftables)",
        })
    }
}

impl Proxy {
    /// Starts it on `node`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(self, node: &Node, control_plane: &ControlPlane) -> Result<Running> {
        match self {
            Self::Weir => {
                let kubeconfig = control_plane.kubeconfig().display().to_string();
                let arguments = ["--kubeconfig", &kubeconfig];
                Agent::start_with_source(&agent::binary()?, node, &arguments).map(Running::Weir)
            }
            Self::KubeProxy => {
                start_kube_proxy(node, control_plane).map(KubeProxy).map(Running::KubeProxy)
            }
        }
    }

    /// Whether processes of `node` itself are served: Weir needs a cgroup v2 hierarchy for that.
    #[must_use]
    pub const fn serves_host(self, node: &Node) -> bool {
        match self {
            Self::Weir => node.cgroup.is_some(),
            Self::KubeProxy => true,
        }
    }

    /// Checks that the backend saw the client that this proxy promises. They differ on purpose: Weir
    /// lets a backend on its own node see a client outside, as the reply comes back through it
    /// anyhow; kube-proxy shows its own address to every backend of a NodePort, unless the Service
    /// asks for local backends alone.
    ///
    /// # Errors
    /// If it did not; the error has what was expected.
    pub fn check_client(self, flow: &Flow, lab: &Lab, response: &Response) -> Result<()> {
        match (self, flow.origin) {
            (Self::KubeProxy, Origin::Outside) => {
                let Response { pod, client, own } = response;
                ensure!(client.ip() != own.ip(), "{pod} saw {own}, where node1 should hide it");
                Ok(())
            }
            // As the route to the frontend would have it, and not the one to the backend.
            (Self::KubeProxy, Origin::Host) => {
                let (pod, seen) = (&response.pod, response.client);
                ensure!(lab.node1.owns(seen.ip()), "{pod} saw {seen} instead of node1");
                Ok(())
            }
            // Netfilter gives a flow another source port where its own one is taken towards that pod.
            (Self::KubeProxy, Origin::Pod(client)) if client.name != response.pod => {
                let Response { pod, client, own } = response;
                ensure!(client.ip() == own.ip(), "{pod} saw {client} instead of {own}");
                Ok(())
            }
            (Self::Weir | Self::KubeProxy, _) => flow.check_client(lab, response),
        }
    }
}

impl ControlPlane {
    /// Has kube-proxy, which no longer runs on `node`, remove what it left there.
    ///
    /// # Errors
    /// If it is not to be had, or fails.
    pub fn clean_up_after_kube_proxy(&self, node: &Node) -> Result<()> {
        let program = self.programs.kube_proxy.as_ref().context("there is no kube-proxy")?;
        let program = program.to_str().context("its path is not UTF-8")?;
        node.namespace.output(program, &["--cleanup"]).map(drop)
    }
}

fn start_kube_proxy(node: &Node, control_plane: &ControlPlane) -> Result<Process> {
    let program = control_plane.programs.kube_proxy.as_ref().context("there is no kube-proxy")?;
    let arguments = [
        format!("--kubeconfig={}", control_plane.kubeconfig().display()),
        "--proxy-mode=nftables".into(),
        format!("--hostname-override={}", node.name),
        "--cluster-cidr=10.244.0.0/16,fd44::/16".into(),
        "--nodeport-addresses=primary".into(),
        // These three leave the machine's settings alone.
        "--conntrack-max-per-core=0".into(),
        "--conntrack-tcp-timeout-established=0s".into(),
        "--conntrack-tcp-timeout-close-wait=0s".into(),
    ];
    Process::start(&node.namespace, program, "kube-proxy", &control_plane.folder, &arguments)
}

impl Running {
    /// Its process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        match self {
            Self::Weir(agent) => agent.process(),
            Self::KubeProxy(KubeProxy(process)) => process.id(),
        }
    }

    /// Checks that it has not ended.
    ///
    /// # Errors
    /// If it has; its log is part of the error.
    pub fn check_running(&mut self) -> Result<()> {
        match self {
            Self::Weir(agent) => agent.check_running(),
            Self::KubeProxy(KubeProxy(process)) => process.check_running(),
        }
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        match self {
            Self::Weir(agent) => agent.log(),
            Self::KubeProxy(KubeProxy(process)) => process.log(),
        }
    }
}
