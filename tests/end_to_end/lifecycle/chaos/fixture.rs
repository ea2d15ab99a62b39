//! A lab in which all may change, its agent, and the agent's source of objects.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, binary, weir};
use weir_tests::lab::{Attachment, Lab, Shape, addresses};
use weir_tests::manifests::{Manifests, Offer, Rules};
use weir_tests::refusals::Refusals;
use weir_tests::requires;
use weir_tests::traffic::{Servers, get, serve};
use weir_tests::wait::until;

use super::devices::{SpareDevice, renames_live_devices};
use super::objects::Objects;
use super::tables::{compare, meaning};

/// Pods of each node that serve, and which flows may go to.
const SERVING: u8 = 2;

/// How long the agent may take to get its maps right once it is left alone.
const SETTLING: Duration = Duration::from_secs(60);

/// What goes on, and all that may change. Fields are dropped in their order.
pub struct Chaos {
    /// Without Weir: what is lost then, the events alone have lost.
    pub is_control: bool,
    pub agent: Option<Agent>,
    /// After how many more events an agent is started.
    pub returns_in: u32,
    /// Whether the folder of objects was away since the agent was started, which it does not without.
    pub was_away: bool,
    /// The logs of those that were killed.
    pub logs: Vec<String>,
    pub rng: fastrand::Rng,
    pub refusals: Refusals,
    pub objects: Objects,
    /// Of the Services in use, which have more endpoints than at first.
    pub has_spares: [bool; 3],
    pub network_device: &'static str,
    pub pod_device: &'static str,
    pub spare_device: SpareDevice,
    pub renames_live_devices: bool,
    pub has_address: bool,
    /// The servers of the pod that comes and goes.
    pub pod: Option<Servers>,
    _servers: Vec<Servers>,
    pub lab: Lab,
}

/// The Services in use: with backends on node1, on node2, and on both.
pub fn offers(lab: &Lab, has_spares: [bool; 3]) -> [Offer<'_>; 3] {
    let serving = usize::from(SERVING);
    let (local, remote) = (&lab.node1.pods, &lab.node2.pods);
    let [of_local, of_remote, of_both] =
        has_spares.map(|has| if has { serving + 1 } else { serving });
    let offer = |name, number, local_pods: usize, remote_pods: usize| {
        let pods = local[..local_pods].iter().chain(&remote[..remote_pods]).collect();
        Offer { name, number, pods }
    };
    [
        offer("local", 21, of_local, 0),
        offer("remote", 22, 0, of_remote),
        offer("both", 23, of_both, of_both),
    ]
}

impl Chaos {
    pub fn start(seed: u64, is_control: bool) -> Result<Option<Self>> {
        let pods = SERVING + 1;
        let mut rng = fastrand::Rng::with_seed(seed);
        // Without offloads XDP may send, and does.
        let has_xdp = rng.bool();
        let shape = Shape {
            local_pods: pods,
            remote_pods: pods,
            attachment: if rng.bool() { Attachment::Routed } else { Attachment::Bridged },
            offloads: !has_xdp,
            delivers_xdp_tx: has_xdp,
            ..Shape::default()
        };
        println!("{shape:?}");
        let Some(lab) = requires::lab(shape)? else {
            return Ok(None);
        };
        let node = &lab.node1.namespace;
        // Another address in the same network, which takes over its routes while the node's own is away.
        let addresses::Addresses { v4, v6 } = addresses::node(77);
        node.set(&[("net/ipv4/conf/all/promote_secondaries", "1")])?;
        node.ip(&format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0\n"))?;
        if shape.attachment == Attachment::Bridged {
            // A bridge takes the address of one of its ports, unless it was given one; pods know it by that.
            let own = node.link_address("cni0")?.map(|byte| format!("{byte:02x}")).join(":");
            node.ip(&format!("link set cni0 address {own}"))?;
        }
        let renames_live_devices = renames_live_devices(node)?;
        let manifests = Manifests::nodes(&lab)?;
        for offer in offers(&lab, [false; 3]) {
            manifests.offer(&offer)?;
        }
        let objects = Objects::new(manifests)?;
        let mut chaos = Self {
            is_control,
            agent: None,
            returns_in: 0,
            was_away: false,
            logs: Vec::new(),
            rng,
            refusals: Refusals::default(),
            objects,
            has_spares: [false; 3],
            network_device: "eth0",
            pod_device: "pod1",
            spare_device: SpareDevice::Gone,
            renames_live_devices,
            has_address: false,
            pod: None,
            _servers: serve(&lab)?,
            lab,
        };
        if !is_control {
            chaos.start_agent()?;
        }
        if let Some(agent) = &mut chaos.agent {
            agent.wait_for("ready")?;
        }
        Ok(Some(chaos))
    }

    /// What agents have logged as errors, each once.
    pub fn errors(&self) -> BTreeSet<String> {
        let logs = self.logs.iter().cloned().chain(self.agent.as_ref().map(Agent::log));
        let mut errors = BTreeSet::new();
        for log in logs {
            let lines = log.lines().filter_map(|line| line.split_once(" ERROR "));
            errors.extend(lines.map(|(_, error)| error.to_owned()));
        }
        errors
    }

    fn arguments(&self) -> &'static [&'static str] {
        if self.lab.shape.delivers_xdp_tx { &["--xdp", "native"] } else { &[] }
    }

    fn start_agent(&mut self) -> Result<()> {
        let mut command = self.lab.node1.namespace.command(binary()?)?;
        self.refusals.over(&mut command)?;
        self.refusals.switch(false);
        self.was_away = self.objects.is_away();
        let manifests = self.objects.manifests();
        let agent = Agent::begin_command(command, &self.lab.node1, manifests, self.arguments())?;
        self.agent = Some(agent);
        Ok(())
    }

    /// Starts the agent again in time, and refuses some of its writes once its programs are loaded: it cannot load them
    /// without the maps that it fills for that, and would have to be started again.
    pub fn look_after_agent(&mut self) -> Result<()> {
        let Some(agent) = &mut self.agent else {
            if self.is_control {
                return Ok(());
            }
            if self.returns_in > 0 {
                self.returns_in -= 1;
                return Ok(());
            }
            return self.start_agent();
        };
        let Err(error) = agent.check_running() else {
            if !agent.lines("programs loaded").is_empty() {
                self.refusals.switch(true);
            }
            return Ok(());
        };
        ensure!(self.was_away, "{error:#}");
        self.agent = None;
        Ok(())
    }

    /// Has the source as it should be, lets all writes succeed, and waits until the agent that runs has put everything right.
    pub fn settle(&mut self) -> Result<()> {
        self.objects.set_away(false)?;
        self.objects.mend()?;
        self.refusals.switch(false);
        if self.agent.as_mut().is_none_or(|agent| agent.check_running().is_err()) {
            self.start_agent()?;
        }
        self.agent.as_mut().context("no agent")?.wait_for("ready")?;
        let pods = self.lab.pods().take(1).collect();
        let last = Offer { name: "last", number: 99, pods };
        self.objects.offer(&last, &Rules::default())?;
        let frontend = (last.cluster_ips().of(Family::V4), Offer::PORT).into();
        until("the last Service is served", SETTLING, || {
            get(&self.lab.node1.pods[1].namespace, frontend)
        })?;
        until("the agent has no errors", SETTLING, || {
            let status = weir(&self.lab.node1, &["show", "status", "-o", "json"])?;
            let status: serde_json::Value = serde_json::from_str(&status)?;
            let errors = &status["errors"];
            ensure!(errors.as_array().is_some_and(Vec::is_empty), "{status:#}");
            Ok(())
        })
    }

    pub fn check_tables(&mut self) -> Result<()> {
        let node = &self.lab.node1;
        let agent = self.agent.take().context("no agent")?;
        let log = agent.log();
        agent.end(Signal::SIGTERM)?;
        let found = meaning(node)?;
        weir(node, &["detach"])?;
        let agent = Agent::start(node, self.objects.manifests(), self.arguments())?;
        let wanted = meaning(node)?;
        println!("the maps mean {} lines", found.len());
        self.agent = Some(agent);
        compare(&found, &wanted).with_context(|| format!("the log of the one before:\n{log}"))
    }
}
