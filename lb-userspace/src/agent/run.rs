//! The agent's body: one loop that carries events to [`Agent::on`] and does what it answers. Files,
//! devices and signals are heard elsewhere and come in by channels; map writes take microseconds
//! and are done on the spot; the sweep of the connection tables, which may take longer, runs on a
//! thread of its own.

use std::collections::VecDeque;
use std::future::pending;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tracing::{debug, error, info, warn};

use super::place::{Place, PlaceError};
use super::status::{DeviceStatus, Status};
use super::{Agent, Effect, Event};
use crate::config::{Config, Origin};
use crate::maps::connections::{self, KernelFlows, Sweep};
use crate::maps::kernel::KernelStore;
use crate::maps::{MapError, MapStore, Operation};
use crate::model::{Change, Remark};
use crate::plan;
use crate::programs::attach::{Attached, Attachments, Tc};
use crate::programs::devices::{Selection, classify};
use crate::programs::netlink::{Netlink, NetlinkError};
use crate::programs::object::ObjectError;
use crate::programs::pins::{PinError, Pins};
use crate::programs::ports;
use crate::programs::requirements::{Level, Node};
use crate::source::{Kubernetes, Manifests, Reporter, Source, SourceError, SourceEvent};

/// How often flows that are over are forgotten: half of the shortest timeout is soon enough.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// How often maps, devices and links are looked at without news, so that what others changed heals.
const REREAD_EVERY: Duration = Duration::from_secs(180);

/// Why the agent could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The node does not do.
    #[error("{about}: {found}; {advice}")]
    Node {
        /// What it is about.
        about: String,
        /// What there is.
        found: String,
        /// What to change.
        advice: String,
    },
    /// It has no place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The programs could not be loaded.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A map could not be opened or read.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The pins could not be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The kernel could not be asked for its devices.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The source is lost.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A flag names a device that is not there.
    #[error("{flag} names {name}, and there is no such device: name one that `ip link` shows")]
    MissingDevice {
        /// The flag.
        flag: &'static str,
        /// The name.
        name: String,
    },
    /// No handler for signals could be set.
    #[error("signals cannot be handled: {0}; report this")]
    Signals(std::io::Error),
    /// A task was ended by a panic.
    #[error("a task of weir ended unexpectedly ({0}): restart weir and report this")]
    Task(#[from] tokio::task::JoinError),
}

/// Balances this node's traffic until a signal comes; programs and maps then stay as they are.
///
/// # Errors
/// [`RunError`]; what was in the kernel before still is.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let source = open(&config).await?;
    let mut body = Body::start(&config).await?;
    body.reporter = source.reporter();
    let (sender, news) = mpsc::channel(64);
    let source = tokio::spawn(source.run(sender));
    tokio::select! {
        signal = one_of(&mut interrupt, &mut terminate) => {
            info!("{signal}: programs and maps stay in place, traffic goes on");
            Ok(())
        }
        result = body.live(news, source) => result,
    }
}

async fn open(config: &Config) -> Result<Source, SourceError> {
    Ok(match &config.origin {
        Origin::Manifests(paths) => Source::Manifests(Manifests::open(paths)?),
        Origin::Kubernetes(access) => {
            let kubernetes = Kubernetes::open(access.clone(), &config.node_name).await?;
            Source::Kubernetes(Box::new(kubernetes))
        }
    })
}

async fn one_of(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "interrupted",
        _ = terminate.recv() => "terminated",
    }
}

/// The agent with its hands and ears.
struct Body {
    agent: Agent,
    store: KernelStore,
    attachments: Attachments,
    netlink: Netlink,
    selection: Selection,
    attached: Vec<Attached>,
    /// What the last write failed for.
    failure: Option<String>,
    /// When the next tick is due.
    wake: Option<Instant>,
    /// The sweep under way, which gives the tables back.
    sweeping: Option<JoinHandle<(KernelFlows, Result<Sweep, MapError>)>>,
    /// The tables, between sweeps.
    flows: Option<KernelFlows>,
    place: Place,
    said: Status,
    /// Who tells the cluster what could not be honoured.
    reporter: Option<Reporter>,
}

impl Body {
    /// Takes over what is in the kernel, or makes it.
    async fn start(config: &Config) -> Result<Self, RunError> {
        let pins = Pins::at(&config.pin_directory);
        check_node(&pins)?;
        let place = Place::take(&config.pin_directory)?;
        let netlink = Netlink::open()?;
        let selection =
            Selection { network: config.network_devices.clone(), pods: config.pod_devices.clone() };
        check_names(&netlink, &selection).await?;
        let tc = Tc::of_this_kernel();
        let attachments = Attachments::load(pins.clone(), &config.capacities, config.xdp, tc)?;
        let store = KernelStore::open(&pins)?;
        let agent = Agent::new(&config.node_name, settings(config), store.read()?);
        let said = Status {
            process: std::process::id(),
            started: seconds_since_1970(),
            version: env!("CARGO_PKG_VERSION").into(),
            node: config.node_name.clone(),
            tc: tc.to_string(),
            ..Status::default()
        };
        place.say(&said)?;
        Ok(Self {
            agent,
            store,
            attachments,
            netlink,
            selection,
            attached: Vec::new(),
            failure: None,
            wake: None,
            sweeping: None,
            flows: Some(KernelFlows::open(&pins)?),
            place,
            said,
            reporter: None,
        })
    }

    /// The loop.
    async fn live(
        &mut self,
        mut news: Receiver<SourceEvent>,
        mut source: JoinHandle<Result<(), SourceError>>,
    ) -> Result<(), RunError> {
        self.look_at_devices().await?;
        let mut sweeps = every(SWEEP_EVERY);
        let mut rereads = every(REREAD_EVERY);
        loop {
            tokio::select! {
                Some(event) = news.recv() => self.hear(event),
                ended = &mut source => return Ok(ended??),
                changed = self.netlink.changed() => {
                    changed?;
                    self.look_at_devices().await?;
                }
                () = due(self.wake) => {
                    self.wake = None;
                    self.carry(Event::Tick);
                }
                _ = sweeps.tick() => self.begin_sweep(),
                swept = result(&mut self.sweeping) => self.end_sweep(swept?),
                _ = rereads.tick() => self.reread().await?,
            }
            self.say()?;
        }
    }

    fn hear(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                for change in changes {
                    if change == Change::Synced {
                        debug!("the source has told everything there is");
                    }
                    self.carry(Event::Cluster(change));
                }
            }
            SourceEvent::Problems(problems) => {
                let remarks = problems.into_iter().map(Remark::from).collect();
                self.carry(Event::Source(remarks));
            }
        }
    }

    /// Carries an event to the agent, does what it answers, and carries what comes of that.
    fn carry(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.agent.on(event) {
                match effect {
                    Effect::WakeIn(time) => self.wake = Some(Instant::now() + time),
                    Effect::Write(operations) => events.push_back(self.write(&operations)),
                    Effect::Ready => ready(),
                    Effect::Remark(remark) => {
                        warn!("{remark}");
                        self.reporter.iter().for_each(|reporter| reporter.report(&remark));
                    }
                }
            }
        }
    }

    fn write(&mut self, operations: &[Operation]) -> Event {
        let mut done = 0;
        for operation in operations {
            if let Err(error) = self.store.apply(operation) {
                warn!("{error}");
                self.failure = Some(error.to_string());
                return Event::Written { done, result: Err(error) };
            }
            done += 1;
        }
        self.failure = None;
        info!(operations = done, "maps written");
        Event::Written { done, result: Ok(()) }
    }

    /// Brings programs onto the devices there are, and tells the agent of them.
    async fn look_at_devices(&mut self) -> Result<(), RunError> {
        let links = match self.netlink.links().await {
            Ok(links) => links,
            Err(error) => {
                // Devices went away while they were listed: news of that are on their way.
                warn!("{error}");
                return Ok(());
            }
        };
        let attached = self.attachments.bring(&classify(&links, &self.selection))?;
        tell(&self.attached, &attached);
        let devices = attached.iter().filter_map(Attached::to_node_device);
        let devices = devices.collect();
        self.attached = attached;
        self.carry(Event::Devices(devices));
        Ok(())
    }

    fn begin_sweep(&mut self) {
        let Some(flows) = self.flows.take() else {
            return;
        };
        self.carry(Event::SweepBegun);
        self.sweeping = Some(tokio::task::spawn_blocking(move || {
            let swept = flows.sweep(connections::now());
            (flows, swept)
        }));
    }

    fn end_sweep(&mut self, (flows, swept): (KernelFlows, Result<Sweep, MapError>)) {
        self.sweeping = None;
        self.flows = Some(flows);
        match swept {
            Ok(sweep) => {
                debug!(entries = sweep.entries, removed = sweep.removed, "swept");
                self.carry(Event::Swept(sweep.referenced));
            }
            Err(error) => warn!("{error}"),
        }
    }

    async fn reread(&mut self) -> Result<(), RunError> {
        self.attachments.forget();
        self.look_at_devices().await?;
        match self.store.read() {
            Ok(contents) => {
                if contents != *self.agent.contents() {
                    warn!("the maps do not hold what was written: somebody else wrote to them");
                }
                self.carry(Event::Reread(contents));
            }
            Err(error) => warn!("{error}"),
        }
        Ok(())
    }

    /// Says how the agent is, if that has changed.
    fn say(&mut self) -> Result<(), PlaceError> {
        let of_devices = self.attached.iter().flat_map(|a| &a.problems);
        let status = Status {
            ready: self.agent.is_ready(),
            remarks: self.agent.remarks().map(Into::into).collect(),
            problems: of_devices.chain(&self.failure).cloned().collect(),
            devices: self.attached.iter().filter_map(DeviceStatus::of).collect(),
            ..self.said.clone()
        };
        if status != self.said {
            self.place.say(&status)?;
            self.said = status;
        }
        Ok(())
    }
}

fn settings(config: &Config) -> plan::Settings {
    plan::Settings {
        nodeport_addresses: config.nodeport_addresses.clone(),
        capacities: config.capacities,
        source_ports: ports::of_this_node(),
    }
}

/// Refuses to start where the programs could not be loaded; the rest is `weir check`'s to say.
fn check_node(pins: &Pins) -> Result<(), RunError> {
    let findings = Node::here(pins.bpffs()).judge();
    let failed = findings.into_iter().find(|finding| finding.level == Level::Fail);
    failed.map_or(Ok(()), |finding| {
        Err(RunError::Node {
            about: finding.about,
            found: finding.found,
            advice: finding.advice.unwrap_or_default(),
        })
    })
}

/// A device that a flag names in full has to be there; a pattern may fit one that comes later.
async fn check_names(netlink: &Netlink, selection: &Selection) -> Result<(), RunError> {
    for (flag, name) in selection.unmatched(&netlink.links().await?) {
        if !name.contains(['*', '?', '[']) {
            return Err(RunError::MissingDevice { flag, name });
        }
        warn!("{flag}: no device fits {name} yet");
    }
    Ok(())
}

/// Logs what has changed about devices.
fn tell(before: &[Attached], after: &[Attached]) {
    for attached in after.iter().filter(|attached| !before.contains(attached)) {
        for problem in &attached.problems {
            error!("{problem}");
        }
        let link = &attached.device.link;
        let known = before.iter().find(|b| b.device.link.index == link.index);
        let hooks = known.map(|known| (&known.hooks, known.device.role));
        if hooks.is_some_and(|known| known == (&attached.hooks, attached.device.role)) {
            continue;
        }
        if let Some(role) = attached.device.role {
            let hooks: Vec<&str> = attached.hooks.iter().map(|hook| hook.name()).collect();
            let (name, hooks) = (&link.name, hooks.join(","));
            info!(%hooks, reason = attached.device.reason, "{name} faces {role}");
        } else if known.is_some_and(|known| known.device.role.is_some()) {
            info!("{} is left alone: {}", link.name, attached.device.reason);
        }
    }
}

fn ready() {
    info!("ready");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!("systemd could not be told: {error}");
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn due(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

async fn result<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => pending().await,
    }
}

fn seconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
