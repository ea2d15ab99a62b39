//! The agent's body: one loop that carries events to [`Agent::on`] and does what it answers. Files
//! and devices are heard elsewhere and come in by channels; map writes take microseconds and are
//! done on the spot; the sweep of the connection tables, which may take longer, runs on a thread of
//! its own.

use std::collections::VecDeque;
use std::future::pending;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tracing::{debug, info, warn};

use super::health_checks::HealthCheckPorts;
use super::http;
use super::log;
use super::run::RunError;
use super::runtime_dir::Place;
use super::socket_lb::Sockets;
use super::state_machine::{Agent, Effect, Event};
use super::status::{DeviceStatus, Status};
use crate::config::{Config, ExternalIps, Origin};
use crate::datapath::attach::{AttachedDevice, Attachments, Tc};
use crate::host::devices::{Netlink, Selection, classify};
use crate::host::snat_ports;
use crate::maps::conntrack_gc::{self, KernelFlows, Sweep};
use crate::maps::kernel::KernelStore;
use crate::maps::{MapError, MapStore, Operation};
use crate::model::{self, Change, Warning};
use crate::observe::{Health, Moment, Observer};
use crate::pins::Pins;
use crate::plan;
use crate::source::{EventCounts, Reason, Reporter, SourceError, SourceEvent};

/// How often flows that are over are forgotten; the shortest of their timeouts is as long.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// How soon devices are looked at again where something was not taken.
const LOOK_AGAIN_IN: Duration = Duration::from_secs(2);

/// A plan waits this many times as long as the one before it took, so that a storm of changes takes
/// no more than a fourth of a processor, ...
const REST: u32 = 3;

/// ... but no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// How often maps, devices and links are looked at without news, so that what others changed heals.
const REREAD_EVERY: Duration = Duration::from_secs(180);

/// The agent with its hands and ears.
pub struct Body {
    agent: Agent,
    store: KernelStore,
    attachments: Attachments,
    sockets: Sockets,
    netlink: Netlink,
    selection: Selection,
    attached: Vec<AttachedDevice>,
    /// What the last write failed for.
    failure: Option<String>,
    /// Whether that is still to be logged, together with when it is tried again.
    is_untold: bool,
    /// When devices are to be looked at again.
    look_again: Option<Instant>,
    /// When the next tick is due.
    wake: Option<Instant>,
    /// No tick is due before this.
    rested: Instant,
    /// The sweep under way, which gives the tables back.
    sweeping: Option<JoinHandle<(KernelFlows, Result<Sweep, MapError>)>>,
    /// The tables, between sweeps.
    flows: Option<KernelFlows>,
    place: Place,
    said: Status,
    /// Who tells the cluster what could not be honoured.
    reporter: Option<Reporter>,
    observer: Observer,
    health_checks: HealthCheckPorts,
}

impl Body {
    /// Takes over what is in the kernel, or makes it. `config` is of a node that does.
    ///
    /// # Errors
    /// [`RunError`]; what was in the kernel before still is.
    pub async fn start(config: &Config, reporter: Option<Reporter>) -> Result<Self, RunError> {
        let pins = Pins::at(&config.pin_directory);
        let place = Place::take(&config.pin_directory)?;
        let netlink = Netlink::open()?;
        let selection =
            Selection { network: config.network_devices.clone(), pods: config.pod_devices.clone() };
        check_names(&netlink, &selection).await?;
        let tc = Tc::of_this_kernel();
        let mut attachments = Attachments::load(pins.clone(), &config.capacities, config.xdp, tc)?;
        log::loaded(config, tc, attachments.without_xdp());
        let store = KernelStore::open(&pins)?;
        let mut sockets = Sockets::new(config, &pins)?;
        let settings = settings(config, sockets.for_plan(&mut attachments));
        let agent = Agent::new(&config.node_name, settings, store.read()?);
        let said = Status {
            process: std::process::id(),
            started: seconds_since_1970(),
            version: env!("CARGO_PKG_VERSION").into(),
            node: config.node_name.clone(),
            tc: tc.to_string(),
            socket_balancing: config.socket_balancing.to_string(),
            ..Status::default()
        };
        place.say(&said)?;
        // Manifests need not hold a Node; an API server has this one until it is deleted.
        let needs_node = matches!(config.origin, Origin::Kubernetes(_));
        let health = Health::new(config.servers.late_after, needs_node);
        let observer = Observer::new(health, Moment::now());
        http::start(config, &observer, KernelStore::open(&pins)?).await?;
        Ok(Self {
            agent,
            store,
            attachments,
            sockets,
            netlink,
            selection,
            attached: Vec::new(),
            failure: None,
            is_untold: false,
            look_again: None,
            wake: None,
            rested: Instant::now(),
            sweeping: None,
            flows: Some(KernelFlows::open(&pins)?),
            place,
            said,
            reporter,
            health_checks: HealthCheckPorts::start(&config.node_name, &observer),
            observer,
        })
    }

    /// The loop; it ends when the source does.
    ///
    /// # Errors
    /// [`RunError`]; what is in the kernel stays.
    pub async fn live(
        &mut self,
        mut news: Receiver<SourceEvent>,
        mut source: JoinHandle<Result<(), SourceError>>,
    ) -> Result<(), RunError> {
        self.look_at_devices().await;
        let mut sweeps = every(SWEEP_EVERY);
        sweeps.reset_immediately();
        let mut rereads = every(REREAD_EVERY);
        loop {
            tokio::select! {
                Some(event) = news.recv() => self.hear(event),
                ended = &mut source => return Ok(ended??),
                changed = self.netlink.changed() => {
                    changed?;
                    self.look_at_devices().await;
                }
                () = due(self.look_again) => self.look_at_devices().await,
                () = due(self.wake) => {
                    self.wake = None;
                    self.carry(Event::Tick);
                }
                _ = sweeps.tick() => self.begin_sweep(),
                swept = result(&mut self.sweeping) => self.end_sweep(swept?),
                _ = rereads.tick() => self.reread().await,
                unheard = self.health_checks.changed() => self.cannot_listen(&unheard?),
            }
            self.say();
        }
    }

    fn hear(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                for change in changes {
                    if !self.agent.cluster().knows(&change) {
                        self.observer.heard(&change, Moment::now());
                    }
                    if change == Change::Synced {
                        debug!("the source has told everything there is");
                    }
                    self.carry(Event::Cluster(change));
                }
                self.observer.node(self.agent.cluster().nodes.get(&self.said.node));
            }
            SourceEvent::Warnings(warnings) => {
                let warnings = warnings.into_iter().map(Warning::from).collect();
                self.carry(Event::Source(warnings));
            }
        }
    }

    /// Carries an event to the agent, does what it answers, and carries what comes of that.
    fn carry(&mut self, event: Event) {
        let (plans, begun) = (self.agent.plans(), Instant::now());
        let is_tick = matches!(event, Event::Tick);
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.agent.on(event) {
                match effect {
                    Effect::WakeIn(time) => self.wake_in(time),
                    Effect::Write(operations) => events.push_back(self.write(&operations)),
                    Effect::Ready => log::ready(),
                    Effect::Warning(warning) => {
                        warn!("{warning}");
                        self.reporter.iter().for_each(|reporter| reporter.report(&warning));
                    }
                }
            }
        }
        if is_tick {
            let took = begun.elapsed();
            self.observer.planned(took);
            self.rest(took);
        }
        if self.agent.plans() > plans {
            self.observer.applied(Moment::now());
            self.health_checks.want(self.agent.health_checks());
            self.end_stranded_sockets();
        }
        if self.agent.is_behind() {
            self.observer.behind(Moment::now());
        }
    }

    /// A plan took this long: the next one waits, one that is asked for already too.
    fn rest(&mut self, took: Duration) {
        self.rested = Instant::now() + (took * REST).min(LONGEST_REST);
        self.wake = self.wake.map(|wake| wake.max(self.rested));
    }

    fn wake_in(&mut self, time: Duration) {
        self.wake = Some((Instant::now() + time).max(self.rested));
        if let Some(failure) = &self.failure
            && self.is_untold
        {
            warn!(again_in = ?time, "{failure}");
            self.is_untold = false;
        }
    }

    fn write(&mut self, operations: &[Operation]) -> Event {
        let mut done = 0;
        for operation in operations {
            if let Err(error) = self.store.apply(operation) {
                self.observer.failed(&error);
                self.failure = Some(error.to_string());
                self.is_untold = true;
                return Event::Written { done, result: Err(error) };
            }
            done += 1;
        }
        self.failure = None;
        info!(operations = done, "maps written");
        Event::Written { done, result: Ok(()) }
    }

    /// Brings programs onto the devices there are, and tells the agent of them. What fails here is
    /// tried again soon.
    async fn look_at_devices(&mut self) {
        self.look_again = Some(Instant::now() + LOOK_AGAIN_IN);
        let links = match self.netlink.links().await {
            Ok(links) => links,
            Err(error) => return warn!("{error}"),
        };
        let attached = match self.attachments.reconcile(&classify(&links, &self.selection)) {
            Ok(attached) => attached,
            Err(error) => return warn!("{error}"),
        };
        self.sockets.bring(&mut self.attachments);
        let fine = attached.iter().all(|attached| attached.errors.is_empty());
        if fine && self.sockets.error().is_none() {
            self.look_again = None;
        }
        log::of_devices(&self.attached, &attached);
        let devices = attached.iter().filter_map(AttachedDevice::to_node_device).collect();
        self.attached = attached;
        self.carry(Event::Devices(devices));
    }

    fn begin_sweep(&mut self) {
        let Some(flows) = self.flows.take() else {
            return;
        };
        self.carry(Event::SweepBegun);
        self.sweeping = Some(tokio::task::spawn_blocking(move || {
            let swept = flows.sweep(conntrack_gc::now());
            (flows, swept)
        }));
    }

    fn end_sweep(&mut self, (flows, swept): (KernelFlows, Result<Sweep, MapError>)) {
        self.sweeping = None;
        self.flows = Some(flows);
        match swept {
            Ok(sweep) => {
                debug!(entries = sweep.entries, removed = sweep.removed, "swept");
                self.observer.swept(&sweep);
                self.carry(Event::Swept(sweep.referenced));
                // One that dialled while a plan was being written.
                self.end_stranded_sockets();
            }
            Err(error) => warn!("{error}"),
        }
    }

    fn end_stranded_sockets(&mut self) {
        let ended = self.sockets.end_stranded(self.agent.contents());
        self.observer.metrics().udp_sockets_ended.inc_by(ended);
    }

    fn cannot_listen(&self, unheard: &[Warning]) {
        for warning in unheard {
            warn!("{warning}");
            let reason = Reason::FailedToStartServiceHealthcheck;
            self.reporter.iter().for_each(|reporter| reporter.report_as(reason, warning));
        }
    }

    async fn reread(&mut self) {
        self.attachments.forget();
        self.sockets.forget();
        self.look_at_devices().await;
        match self.store.read() {
            Ok(contents) => {
                if contents != *self.agent.contents() {
                    warn!("the maps do not hold what was written: somebody else wrote to them");
                }
                self.carry(Event::Reread(contents));
            }
            Err(error) => warn!("{error}"),
        }
    }

    /// Says how the agent is, if that has changed. Nobody reading it is no reason to stop.
    fn say(&mut self) {
        if let Some(reporter) = &self.reporter {
            let EventCounts { written, failed, dropped } = reporter.counts();
            for (result, count) in [("written", written), ("failed", failed), ("dropped", dropped)]
            {
                self.observer.metrics().events(result, count);
            }
        }
        let of_devices = self.attached.iter().flat_map(|a| &a.errors);
        let warnings = self.agent.warnings().chain(self.health_checks.warnings());
        let status = Status {
            ready: self.agent.is_ready(),
            warnings: warnings.map(Into::into).collect(),
            errors: of_devices.chain(self.sockets.error()).chain(&self.failure).cloned().collect(),
            cgroup: self.sockets.cgroup().cloned(),
            devices: self.attached.iter().filter_map(DeviceStatus::of).collect(),
            ..self.said.clone()
        };
        if status != self.said {
            if let Err(error) = self.place.say(&status) {
                warn!("{error}");
            }
            self.observer.counts(status.warnings.len(), status.errors.len());
            self.said = status;
        }
    }
}

fn settings(config: &Config, sockets: model::Sockets) -> plan::Settings {
    plan::Settings {
        nodeport_addresses: config.nodeport_addresses.clone(),
        capacities: config.capacities,
        honours_external_ips: config.external_ips == ExternalIps::Honour,
        snat_ports: snat_ports::of_this_node(),
        sockets,
    }
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

async fn result<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => pending().await,
    }
}

fn seconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
