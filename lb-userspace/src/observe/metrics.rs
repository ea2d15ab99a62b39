//! What the agent counts of itself, under kube-proxy's names where the meaning is the same and
//! under `weir_` where it is Weir's own. What the kernel counts is read at each scrape
//! ([`super::tables`]). docs/metrics.md lists both; a test holds the page to it.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::changes::Changes;
use super::snat_ports::SnatPorts;
use crate::maps::conntrack_gc::Fill;

/// A label with its value.
type Label<T> = [(&'static str, T); 1];

/// A number that is not whole.
type Float = Gauge<f64, AtomicU64>;

/// The agent's own numbers; copies count as one.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What changes cost.
    pub changes: Changes,
    /// From planning to the last write, of plans that failed too.
    pub sync_duration: Histogram,
    /// From the change in the cluster to the kernel.
    pub programming_duration: Histogram,
    /// When a plan last got into the kernel.
    pub synced: Float,
    /// When a change that has to get there last came.
    pub queued: Float,
    /// Changed Services that are not in the kernel yet.
    pub services_pending: Gauge,
    /// Changes of Services.
    pub services: Counter,
    /// Changed EndpointSlices that are not in the kernel yet.
    pub slices_pending: Gauge,
    /// Changes of EndpointSlices.
    pub slices: Counter,
    healthz: Family<Label<u16>, Counter>,
    livez: Family<Label<u16>, Counter>,
    /// 1 once the first complete plan is in the kernel.
    pub ready: Gauge,
    /// Warnings about objects that hold.
    pub object_warnings: Gauge,
    /// Errors of this node that hold.
    pub node_errors: Gauge,
    /// Addresses of health-check ports.
    pub health_checks: Gauge,
    /// Times that one could not be listened on.
    pub health_check_failures: Counter,
    /// Scrapes that lack what the maps hold.
    pub read_failures: Counter,
    write_failures: Family<Label<&'static str>, Counter>,
    conntrack_entries: Family<Label<&'static str>, Gauge>,
    conntrack_capacity: Family<Label<&'static str>, Gauge>,
    /// Conntrack entries removed because their flow was expired.
    pub conntrack_expired: Counter,
    /// Source ports for SNAT.
    pub snat_ports: SnatPorts,
    /// Destroyed UDP sockets of removed backends.
    pub udp_sockets_destroyed: Counter,
    events: Family<Label<&'static str>, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            changes: Changes::default(),
            sync_duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            programming_duration: Histogram::new(programming_buckets()),
            synced: Float::default(),
            queued: Float::default(),
            services_pending: Gauge::default(),
            services: Counter::default(),
            slices_pending: Gauge::default(),
            slices: Counter::default(),
            healthz: Family::default(),
            livez: Family::default(),
            ready: Gauge::default(),
            object_warnings: Gauge::default(),
            node_errors: Gauge::default(),
            health_checks: Gauge::default(),
            health_check_failures: Counter::default(),
            read_failures: Counter::default(),
            write_failures: Family::default(),
            conntrack_entries: Family::default(),
            conntrack_capacity: Family::default(),
            conntrack_expired: Counter::default(),
            snat_ports: SnatPorts::default(),
            udp_sockets_destroyed: Counter::default(),
            events: Family::default(),
        }
    }
}

/// Kube-proxy's, which dashboards and the scalability tests of Kubernetes read.
fn programming_buckets() -> impl Iterator<Item = f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from))
}

impl Metrics {
    /// `/healthz` responded with this status.
    pub fn healthz(&self, code: u16) {
        self.healthz.get_or_create(&[("code", code)]).inc();
    }

    /// `/livez` responded with this status.
    pub fn livez(&self, code: u16) {
        self.livez.get_or_create(&[("code", code)]).inc();
    }

    /// A write to `map` failed.
    pub fn write_failed(&self, map: &'static str) {
        self.write_failures.get_or_create(&[("map", map)]).inc();
    }

    /// Sets how full a conntrack table is.
    pub fn connections(&self, fill: &Fill) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let map = [("map", fill.map)];
        self.conntrack_entries.get_or_create(&map).set(number(fill.entries));
        self.conntrack_capacity.get_or_create(&map).set(number(fill.capacity));
    }

    /// So many Events that were to be written to the cluster have had this `result` since the start.
    pub fn events(&self, result: &'static str, count: u64) {
        let counter = self.events.get_or_create(&[("result", result)]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// A registry of all of these.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        self.register_as_kube_proxy(registry.sub_registry_with_prefix("kubeproxy"));
        self.register_as_weir(registry.sub_registry_with_prefix("weir"));
        let started = Float::default();
        started.set(seconds(SystemTime::now()));
        registry.register(
            "process_start_time_seconds",
            "When this agent started, in seconds since 1970",
            started,
        );
        registry
    }

    fn register_as_kube_proxy(&self, registry: &mut Registry) {
        registry.register(
            "sync_proxy_rules_duration_seconds",
            "Time to plan the node's tables and write what has changed, failed attempts included",
            self.sync_duration.clone(),
        );
        registry.register(
            "network_programming_duration_seconds",
            "Time from a change of a Pod or Service in the cluster until it is in the kernel",
            self.programming_duration.clone(),
        );
        registry.register(
            "sync_proxy_rules_last_timestamp_seconds",
            "When a plan last got into the kernel as a whole, in seconds since 1970",
            self.synced.clone(),
        );
        registry.register(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "When a change that has to get into the kernel last came, in seconds since 1970",
            self.queued.clone(),
        );
        registry.register(
            "sync_proxy_rules_service_changes_pending",
            "Services whose last change is not in the kernel yet",
            self.services_pending.clone(),
        );
        registry.register(
            "sync_proxy_rules_service_changes",
            "Changes of Services",
            self.services.clone(),
        );
        registry.register(
            "sync_proxy_rules_endpoint_changes_pending",
            "EndpointSlices whose last change is not in the kernel yet",
            self.slices_pending.clone(),
        );
        registry.register(
            "sync_proxy_rules_endpoint_changes",
            "Changes of EndpointSlices",
            self.slices.clone(),
        );
        registry.register(
            "proxy_healthz",
            "Responses of /healthz by their HTTP status",
            self.healthz.clone(),
        );
        registry.register(
            "proxy_livez",
            "Responses of /livez by their HTTP status",
            self.livez.clone(),
        );
    }

    fn register_as_weir(&self, registry: &mut Registry) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of weir that runs", build);
        registry.register(
            "ready",
            "1 once the first complete plan is in the kernel, else 0",
            self.ready.clone(),
        );
        registry.register(
            "object_warnings",
            "Warnings about objects of the cluster; weir show services lists them",
            self.object_warnings.clone(),
        );
        registry.register(
            "node_errors",
            "Errors of this node, of devices and of writes to maps; weir show status lists them",
            self.node_errors.clone(),
        );
        registry.register(
            "health_check_listeners",
            "Addresses with a health-check port of a Service (healthCheckNodePort)",
            self.health_checks.clone(),
        );
        registry.register(
            "health_check_listen_failures",
            "Times that such an address could not be listened on; each is tried again",
            self.health_check_failures.clone(),
        );
        self.changes.register(registry);
        self.register_tables(registry);
        registry.register(
            "kubernetes_events",
            "Events about warnings, by result: written, failed, dropped",
            self.events.clone(),
        );
    }

    fn register_tables(&self, registry: &mut Registry) {
        registry.register(
            "map_write_failures",
            "Writes to a map that failed; each is tried again",
            self.write_failures.clone(),
        );
        registry.register(
            "map_read_failures",
            "Scrapes that lack what the maps hold because one could not be read",
            self.read_failures.clone(),
        );
        registry.register(
            "conntrack_entries",
            "Entries in a conntrack table, two per flow, at the last garbage collection",
            self.conntrack_entries.clone(),
        );
        registry.register(
            "conntrack_capacity",
            "Entries that a conntrack table can hold, two per flow",
            self.conntrack_capacity.clone(),
        );
        registry.register(
            "conntrack_entries_expired",
            "Connection entries removed because their flow was over",
            self.conntrack_expired.clone(),
        );
        self.snat_ports.register(registry);
        registry.register(
            "udp_sockets_destroyed",
            "Connected UDP sockets of the node's processes destroyed because their backend was removed",
            self.udp_sockets_destroyed.clone(),
        );
    }
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).as_ref().map_or(0.0, Duration::as_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_are_kube_proxys() {
        let buckets: Vec<f64> = programming_buckets().collect();
        assert_eq!(buckets.len(), 2 + 59 + 12 + 7);
        assert_eq!(buckets[..3], [0.25, 0.5, 1.0]);
        assert_eq!(buckets[buckets.len() - 3..], [240.0, 270.0, 300.0]);
        assert!(buckets.is_sorted());
    }
}
