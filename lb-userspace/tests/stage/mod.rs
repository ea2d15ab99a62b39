//! Where a scenario is played: a node with a real source, a real agent and maps that fail.
//!
//! The node is `node-1`. Its network device `eth0` (1) has 192.0.2.1 and 2001:db8::1, a tunnel
//! `vxlan0` (2) 10.244.0.0, and behind `veth7` (7) is a pod. Settings are lines such as
//! `slots 100`, `frontends 5`, `backends 9`, `nodeport-addresses 10.0.0.0/8`,
//! `external-ips ignore` and `socket-balancing host`.

use std::collections::VecDeque;

use lb_common::address::{V4, V6};
use lb_common::conntrack::Ticks;
use lb_common::maps::Capacities;
use lb_ebpf::in_memory::{InMemory, World};
use lb_ebpf::world::Table;
use lb_userspace::agent::{Agent, Effect, Event};
use lb_userspace::maps::in_memory::FaultyStore;
use lb_userspace::maps::{BackendSet, Contents, MapStore, Operation};
use lb_userspace::model::{DeviceRole, HealthCheck, NodeDevice, Sockets, SourcePorts, Warning};
use lb_userspace::plan::{NodePortAddresses, Settings};
use lb_userspace::source::{Manifests, SourceEvent};
use tempfile::TempDir;

use crate::walk::{node, reach};

pub struct Stage {
    settings: Settings,
    directory: TempDir,
    manifests: Option<Manifests>,
    /// All that the source has told, for an agent that starts later.
    told: Vec<SourceEvent>,
    devices: Vec<NodeDevice>,
    agent: Agent,
    store: FaultyStore,
    /// The node that packets are sent through.
    pub world: World<Contents>,
}

impl Stage {
    pub fn new(seed: u64) -> Self {
        let settings = settings();
        Self {
            agent: Agent::new("node-1", settings.clone(), Contents::default()),
            settings,
            directory: tempfile::tempdir().unwrap(),
            manifests: None,
            told: Vec::new(),
            devices: devices(),
            store: FaultyStore::new(seed),
            world: node(Contents::default()),
        }
    }

    pub fn set(&mut self, lines: &str) -> Option<String> {
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(' ').expect("a name and a value");
            let number = || value.parse().expect("a number");
            let room = &mut self.settings.capacities;
            match name {
                "slots" => room.slots = number(),
                "frontends" => room.frontends = number(),
                "backends" => room.backends = number(),
                "nodeport-addresses" => {
                    let ranges = value.split(',').map(|range| range.parse().unwrap());
                    self.settings.nodeport_addresses = NodePortAddresses::Within(ranges.collect());
                }
                "socket-balancing" => {
                    let namespace = u64::from(value == "host");
                    self.settings.sockets = Sockets { namespace, of_pods: false };
                }
                "external-ips" => self.settings.honours_external_ips = value == "honour",
                _ => panic!("a setting called {name:?}"),
            }
        }
        self.agent = Agent::new("node-1", self.settings.clone(), Contents::default());
        None
    }

    /// Lets these be the objects, and all come of it that may.
    pub fn objects(&mut self, yaml: &str) -> Option<String> {
        let file = self.directory.path().join("cluster.yaml");
        std::fs::write(&file, yaml).unwrap();
        let manifests = self.manifests.take();
        let manifests = manifests.unwrap_or_else(|| Manifests::open(&[file]).unwrap());
        let (manifests, news) = manifests.read();
        self.manifests = Some(manifests);
        self.told.extend(news.iter().cloned());
        let mut events = vec![Event::Devices(self.devices.clone())];
        events.extend(events_of(&news, self.directory.path().to_str().unwrap()));
        self.play(events);
        self.check_restart();
        None
    }

    /// Lets these be the addresses of the network device.
    pub fn addresses(&mut self, lines: &str) -> Option<String> {
        let addresses = lines.lines().filter(|line| !line.is_empty());
        self.devices[0].addresses = addresses.map(|ip| ip.parse().unwrap()).collect();
        self.play(vec![Event::Devices(self.devices.clone())]);
        self.check_restart();
        None
    }

    /// An agent that starts now must find nothing to do.
    fn check_restart(&self) {
        let read = self.store.read().unwrap();
        assert_eq!(&read, self.agent.contents(), "what the agent believes is what the maps hold");
        let mut agent = Agent::new("node-1", self.settings.clone(), read);
        let mut effects = agent.on(Event::Devices(self.devices.clone()));
        for event in events_of(&self.told, "") {
            effects.extend(agent.on(event));
        }
        effects.extend(agent.on(Event::Tick));
        assert!(effects.contains(&Effect::Ready), "a restart writes nothing: {effects:?}");
    }

    /// Lets the connection tables be swept.
    pub fn sweep(&mut self) -> Option<String> {
        let referenced =
            BackendSet { v4: referenced::<V4>(&self.world), v6: referenced::<V6>(&self.world) };
        // A write that fails loses what the sweep has found.
        for _ in 0..20 {
            self.play(vec![Event::GcStarted, Event::GcFinished(referenced.clone())]);
        }
        None
    }

    /// Lets time pass, said as `10 seconds`.
    pub fn wait(&mut self, time: &str) -> Option<String> {
        let seconds = time.strip_suffix(" seconds").expect("a number of seconds");
        let ticks = Ticks::of_seconds(seconds.parse().unwrap());
        self.world.now.set(Ticks(self.world.now.get().0 + ticks));
        None
    }

    fn play(&mut self, events: Vec<Event>) {
        let mut events = VecDeque::from(events);
        while let Some(event) = events.pop_front() {
            let effects = self.agent.on(event);
            for effect in effects {
                match effect {
                    Effect::Write(operations) => events.push_front(self.write(&operations)),
                    Effect::WakeIn(_) => events.push_back(Event::Tick),
                    Effect::Ready | Effect::Warn(_) => {}
                }
            }
        }
        self.world.tables = self.store.read().unwrap();
        reach(&mut self.world);
    }

    fn write(&mut self, operations: &[Operation]) -> Event {
        for (done, operation) in operations.iter().enumerate() {
            if let Err(error) = self.store.apply(operation) {
                return Event::Written { done, result: Err(error) };
            }
        }
        Event::Written { done: operations.len(), result: Ok(()) }
    }

    pub fn warnings(&self) -> String {
        self.agent.warnings().map(|warning| format!("{warning}\n")).collect()
    }

    pub fn health_checks(&self) -> String {
        let line = |(check, count): (&HealthCheck, &usize)| {
            format!("{} at {}: {count}\n", check.service, check.address)
        };
        self.agent.health_checks().iter().map(line).collect()
    }

    pub fn contents(&self) -> String {
        self.store.read().unwrap().to_string()
    }
}

fn events_of(news: &[SourceEvent], directory: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for event in news {
        match event {
            SourceEvent::Changes(changes) => {
                events.extend(changes.iter().cloned().map(Event::Cluster));
            }
            SourceEvent::Warnings(warnings) => {
                let warnings = warnings.iter().cloned().map(Warning::from);
                let named = warnings.map(|warning| Warning {
                    about: warning.about.replace(&format!("{directory}/"), ""),
                    text: warning.text.replace(&format!("{directory}/"), ""),
                });
                events.push(Event::Source(named.collect()));
            }
        }
    }
    events
}

fn referenced<A: InMemory>(
    world: &World<Contents>,
) -> std::collections::BTreeSet<lb_common::backend::BackendId> {
    let tables = [Table::HalfOpen, Table::Established].map(|table| A::of(world).entries(table));
    tables.iter().flat_map(|entries| entries.values()).map(|entry| entry.backend).collect()
}

fn settings() -> Settings {
    Settings {
        nodeport_addresses: NodePortAddresses::Primary,
        capacities: Capacities {
            services: 1000,
            frontends: 1000,
            slots: 100_000,
            backends: 1000,
            conntrack: 1000,
            half_open: 1000,
            affinity: 1000,
        },
        honours_external_ips: true,
        snat_ports: SourcePorts { first: 61_000, count: 4536 },
        sockets: Sockets::default(),
    }
}

fn devices() -> Vec<NodeDevice> {
    let device = |index, name: &str, role, addresses: &[&str]| NodeDevice {
        index,
        name: name.to_owned(),
        role,
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        mtu: 0,
        xdp_sends: index == 1,
    };
    vec![
        device(1, "eth0", DeviceRole::Network, &["192.0.2.1", "2001:db8::1"]),
        device(2, "vxlan0", DeviceRole::Network, &["10.244.0.0"]),
        device(7, "veth7", DeviceRole::Pod, &[]),
    ]
}
