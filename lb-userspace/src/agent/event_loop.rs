//! The event loop: one task that hands events to [`Agent::on`] and does what it returns. The source and
//! the HTTP servers are tasks of their own and come in by channels; map writes take microseconds and are
//! done on the spot; conntrack garbage collection runs on a thread of its own.

mod dispatch;
mod intervals;
mod map_writer;
mod plan_timer;
mod readiness;
mod settings;
mod status_file;

use std::fs::File;

use nix::fcntl::Flock;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use self::intervals::{GC_INTERVAL, REREAD_INTERVAL, every};
use self::map_writer::MapWriter;
use self::plan_timer::PlanTimer;
use self::readiness::Readiness;
use self::settings::{settings, snat_tiers};
use self::status_file::StatusFile;
use super::devices::Devices;
use super::error::RunError;
use super::gc::ConntrackGc;
use super::http::{self, HealthCheckPorts};
use super::log;
use super::new_maps;
use super::runtime_dir::RuntimeDir;
use super::socket_lb::StaleUdpSockets;
use super::state_machine::{Agent, Event};
use super::status::Status;
use crate::config::{Config, Origin};
use crate::datapath::attach::Tc;
use crate::host::syscall::trim_heap;
use crate::maps::MapError;
use crate::maps::conntrack_gc::GcRun;
use crate::maps::kernel::KernelStore;
use crate::model::{Change, Warning};
use crate::observe::{Health, Moment, Observer};
use crate::pins::Pins;
use crate::source::{Reason, Reporter, SourceError, SourceEvent};

/// The agent and what it works on.
pub struct EventLoop {
    agent: Agent,
    maps: MapWriter,
    plan_timer: PlanTimer,
    devices: Devices,
    stale_udp: StaleUdpSockets,
    gc: ConntrackGc,
    status: StatusFile,
    /// Writes warnings to the cluster as Events.
    reporter: Option<Reporter>,
    observer: Observer,
    health_checks: HealthCheckPorts,
    readiness: Readiness,
    /// Others see by it that an agent works on what is pinned.
    _lock: Flock<File>,
}

impl EventLoop {
    /// Takes over what is in the kernel, or makes it. The preflight check of `config`'s node is done.
    ///
    /// # Errors
    /// [`RunError`]; what was in the kernel before still is.
    pub async fn start(config: Config, reporter: Option<Reporter>) -> Result<Self, RunError> {
        let pins = Pins::at(&config.pin_directory);
        let runtime_dir = RuntimeDir::lock(&config.pin_directory)?;
        pins.create_home()?;
        let lock = pins.lock()?;
        let tc = Tc::of_this_kernel();
        let (pins, capacities) = new_maps::prepare(&config, &pins, tc).await?;
        let config = &Config { capacities, pin_directory: pins.directory().into(), ..config };
        let mut devices = Devices::load(config, &pins, None, tc).await?;
        trim_heap();
        log::loaded(config, tc, devices.without_xdp());
        let maps = MapWriter::new(KernelStore::open(&pins)?);
        let stale_udp = StaleUdpSockets::open(&pins)?;
        let settings = settings(config, devices.sockets_for_plan());
        let agent = Agent::new(&config.node_name, settings, maps.read()?);
        let status = StatusFile::create(runtime_dir, Status::of_start(config, tc))?;
        // Manifests need not hold a Node; an API server has this one until it is deleted.
        let needs_node = matches!(config.origin, Origin::Kubernetes(_));
        let health = Health::new(config.servers.late_after, needs_node);
        let observer = Observer::new(health, Moment::now());
        http::start(config, &observer, KernelStore::open(&pins)?).await?;
        Ok(Self {
            agent,
            maps,
            plan_timer: PlanTimer::new(),
            devices,
            stale_udp,
            gc: ConntrackGc::open(&pins)?,
            status,
            reporter,
            health_checks: HealthCheckPorts::start(&config.node_name, &observer),
            observer,
            readiness: Readiness::default(),
            _lock: lock,
        })
    }

    /// The loop; it ends when the source does.
    ///
    /// # Errors
    /// [`RunError`]; what is in the kernel stays.
    pub async fn run(
        &mut self,
        mut events: Receiver<SourceEvent>,
        mut source: JoinHandle<Result<(), SourceError>>,
    ) -> Result<(), RunError> {
        self.reconcile_devices().await;
        let mut gc = every(GC_INTERVAL);
        gc.reset_immediately();
        let mut rereads = every(REREAD_INTERVAL);
        loop {
            tokio::select! {
                Some(event) = events.recv() => self.on_source_event(event),
                ended = &mut source => return Ok(ended??),
                changed = self.devices.changed() => {
                    changed?;
                    self.reconcile_devices().await;
                }
                () = self.plan_timer.due() => self.dispatch(Event::Tick),
                _ = gc.tick() => {
                    self.read_local_ports();
                    self.start_gc();
                }
                finished = self.gc.finished() => self.on_gc_finished(finished?),
                _ = rereads.tick() => self.reread().await,
                failures = self.health_checks.changed() => {
                    let reason = Reason::FailedToStartServiceHealthcheck;
                    failures?.iter().for_each(|failure| self.warn(reason, failure));
                }
                () = self.status.due() => {
                    self.publish_status();
                    continue;
                }
            }
            self.status.update_soon();
        }
    }

    fn on_source_event(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                for mut change in changes {
                    self.agent.mark_skipped(&mut change);
                    if !self.agent.cluster().knows(&change) {
                        self.observer.changed(&change, Moment::now());
                    }
                    if change == Change::Synced {
                        debug!("the source has listed everything");
                    }
                    self.dispatch(Event::Cluster(change));
                }
                self.observer.node(self.agent.cluster().nodes.get(self.status.node()));
            }
            SourceEvent::Warnings(warnings) => {
                let warnings = warnings.into_iter().map(Warning::from).collect();
                self.dispatch(Event::Source(warnings));
            }
        }
    }

    fn warn(&self, reason: Reason, warning: &Warning) {
        warn!("{warning}");
        self.reporter.iter().for_each(|reporter| reporter.report_as(reason, warning));
    }

    async fn reconcile_devices(&mut self) {
        if let Some(devices) = self.devices.reconcile().await {
            self.observer.hooks(self.devices.have_programs(), Moment::now());
            self.dispatch(Event::RoutesBySource(self.devices.routes_by_source()));
            self.dispatch(Event::Devices(devices));
        }
    }

    /// Which ports the kernel gives to sockets may be changed at any time, without notice.
    fn read_local_ports(&mut self) {
        let tiers = snat_tiers(self.agent.cluster());
        self.observer.metrics().snat_ports.offer(&tiers);
        self.dispatch(Event::SnatPorts(tiers));
    }

    fn start_gc(&mut self) {
        if self.gc.is_idle() {
            self.dispatch(Event::GcStarted);
            self.gc.start();
        }
    }

    fn on_gc_finished(&mut self, result: Result<GcRun, MapError>) {
        match result {
            Ok(run) => {
                debug!(entries = run.entries, removed = run.removed, "conntrack collected");
                self.observer.gc_finished(&run);
                self.dispatch(Event::GcFinished(run.referenced));
                // A socket that was connected while a plan was being written.
                self.destroy_stale_sockets();
            }
            Err(error) => warn!("{error}"),
        }
    }

    /// Where no program sees a process connect, its sockets are left alone.
    fn destroy_stale_sockets(&mut self) {
        let contents = self.agent.contents();
        if self.devices.socket_lb().cgroup().is_some() && contents.settings.namespace != 0 {
            let destroyed = self.stale_udp.destroy(contents);
            self.observer.metrics().udp_sockets_destroyed.inc_by(destroyed);
        }
    }

    async fn reread(&mut self) {
        self.devices.invalidate();
        self.reconcile_devices().await;
        match self.maps.read() {
            Ok(contents) => {
                if contents != *self.agent.contents() {
                    warn!("the maps do not hold what was written: another process wrote to them");
                }
                self.dispatch(Event::Reread(Box::new(contents)));
                trim_heap();
            }
            Err(error) => warn!("{error}"),
        }
    }

    fn publish_status(&mut self) {
        if let Some(reporter) = &self.reporter {
            for (result, count) in reporter.counts().by_result() {
                self.observer.metrics().events(result, count);
            }
        }
        let warnings = self.agent.warnings().chain(self.health_checks.warnings());
        let warnings = warnings.map(Into::into).collect::<Vec<_>>();
        let errors = self.devices.errors().chain(self.maps.error()).cloned().collect::<Vec<_>>();
        self.observer.counts(warnings.len(), errors.len());
        let is_ready = self.readiness.update(&self.observer);
        self.status.publish(|status| Status {
            ready: is_ready,
            warnings,
            errors,
            cgroup: self.devices.socket_lb().cgroup().cloned(),
            devices: self.devices.status(),
            ..status
        });
    }
}
