//! The agent's HTTP servers: health and metrics, and the health-check ports of Services, which follow
//! the plan. Each is a task of its own.

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::config::Config;
use crate::host::syscall::trim_heap;
use crate::maps::MapError;
use crate::maps::kernel::KernelStore;
use crate::model::{HealthChecks, Warning};
use crate::observe::{
    BindError, HealthCheckServers, HealthEndpoints, MetricsEndpoints, Moment, Observer, Reader,
    Reading, Server, Tables,
};

/// Starts the servers of health and metrics that `config` asks for; metrics come from `observer` and from
/// `maps`.
///
/// # Errors
/// [`BindError`] where an address has to be free and is not.
pub(super) async fn start(
    config: &Config,
    observer: &Observer,
    maps: KernelStore,
) -> Result<(), BindError> {
    let servers = &config.servers;
    if let Some(address) = servers.healthz.0 {
        let endpoints =
            HealthEndpoints::new(observer.health(), observer.metrics().clone(), Moment::now);
        let server = Server::new("--healthz-bind-address", address, endpoints);
        server.start(servers.must_bind).await?;
    }
    if let Some(address) = servers.metrics.0 {
        let mut registry = observer.metrics().registry();
        let tables = Tables::new(ReadSeldom(maps), observer.metrics().read_failures.clone());
        registry.register_collector(Box::new(tables));
        let endpoints = MetricsEndpoints::new(registry, &config.to_json());
        let server = Server::new("--metrics-bind-address", address, endpoints);
        server.start(servers.must_bind).await?;
    }
    Ok(())
}

/// The maps, read at long intervals: what a reading took besides its result is given back to the system.
#[derive(Debug)]
struct ReadSeldom(KernelStore);

impl Reader for ReadSeldom {
    fn read(&self) -> Result<Reading, MapError> {
        let reading = Reader::read(&self.0);
        trim_heap();
        reading
    }
}

/// The health-check ports of Services.
#[derive(Debug)]
pub(super) struct HealthCheckPorts {
    wanted: watch::Sender<HealthChecks>,
    failures: watch::Receiver<Vec<Warning>>,
    /// The ports that cannot be listened on, as last received.
    failed: Vec<Warning>,
    task: JoinHandle<()>,
}

impl HealthCheckPorts {
    /// Starts with no port, on the node called `node`.
    pub(super) fn start(node: &str, observer: &Observer) -> Self {
        let (wanted, follow) = watch::channel(HealthChecks::new());
        let (failed, failures) = watch::channel(Vec::new());
        let metrics = observer.metrics().clone();
        let servers = HealthCheckServers::new(node, observer.health(), metrics, Moment::now);
        let task = tokio::spawn(servers.run(follow, failed));
        Self { wanted, failures, failed: Vec::new(), task }
    }

    /// These are the ports from now on.
    pub(super) fn set(&self, checks: HealthChecks) {
        self.wanted.send_if_modified(|wanted| {
            let is_new = *wanted != checks;
            *wanted = checks;
            is_new
        });
    }

    /// Waits until other ports than before cannot be listened on; returns the new ones.
    ///
    /// # Errors
    /// The servers' task was ended by a panic.
    pub(super) async fn changed(&mut self) -> Result<Vec<Warning>, JoinError> {
        if self.failures.changed().await.is_err() {
            (&mut self.task).await?;
        }
        let now = self.failures.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.failed, now);
        Ok(self.failed.iter().filter(|warning| !before.contains(warning)).cloned().collect())
    }

    /// The ports that cannot be listened on.
    pub(super) fn warnings(&self) -> &[Warning] {
        &self.failed
    }
}
