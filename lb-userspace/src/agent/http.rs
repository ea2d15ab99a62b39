//! Starts what others ask the agent by HTTP.

use crate::config::Config;
use crate::maps::kernel::KernelStore;
use crate::observe::{BindError, Moment, Observer, Server, Tables, health_routes, metrics_routes};

/// Starts the servers that `config` asks for; metrics come from `observer` and from `maps`.
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
        let routes = health_routes(observer.health(), observer.metrics().clone(), Moment::now);
        let server = Server::new("--healthz-bind-address", address, routes);
        server.start(servers.must_bind).await?;
    }
    if let Some(address) = servers.metrics.0 {
        let mut registry = observer.metrics().registry();
        let tables = Tables::new(maps, observer.metrics().read_failures.clone());
        registry.register_collector(Box::new(tables));
        let routes = metrics_routes(registry, config.to_json());
        let server = Server::new("--metrics-bind-address", address, routes);
        server.start(servers.must_bind).await?;
    }
    Ok(())
}
