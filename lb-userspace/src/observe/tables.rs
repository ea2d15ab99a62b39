//! What the kernel counts and holds, read from the maps at each scrape.

mod kernel;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use lb_common::address::Family;
use lb_common::backend::{BackendId, Traffic};
use lb_common::outcome::Outcome;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use tracing::warn;

use crate::maps::MapError;
use crate::maps::conntrack_gc::Fill;
use crate::model::Name;

/// What the maps hold and have counted.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reading {
    /// How many packets ended with each outcome.
    pub packets: Vec<(Outcome, u64)>,
    /// How full each map is; conntrack tables are counted at garbage collection.
    pub fill: Vec<Fill>,
    /// Service ports whose policy allows endpoints of this node alone while there are only others.
    pub no_local: NoLocal,
    /// What went to and came from each backend.
    pub backends: Vec<BackendTraffic>,
}

/// Service ports without an endpoint that their policy allows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NoLocal {
    /// By `internalTrafficPolicy: Local`.
    pub internal: u64,
    /// By `externalTrafficPolicy: Local`.
    pub external: u64,
}

/// What went to and came from a backend since its id was given out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendTraffic {
    /// Its family and its id there.
    pub id: (Family, BackendId),
    /// Tells it from the one that had the id before.
    pub generation: u32,
    /// The Service it serves.
    pub service: Name,
    /// The counts.
    pub traffic: Traffic,
}

/// Where readings come from.
pub trait Reader: fmt::Debug + Send + Sync + 'static {
    /// Reads all there is.
    ///
    /// # Errors
    /// A map could not be read.
    fn read(&self) -> Result<Reading, MapError>;
}

/// Reads at every scrape. A backend's counts go away with it, so what each has added since the last
/// scrape is added up by Service: a sum over those that are left would fall, and a counter may not.
#[derive(Debug)]
pub struct Tables<R> {
    reader: R,
    failures: Counter,
    sums: Mutex<Sums>,
}

/// What is known from scrapes before.
#[derive(Debug, Default)]
struct Sums {
    last: HashMap<(Family, BackendId), (u32, Traffic)>,
    services: BTreeMap<Name, Traffic>,
}

impl<R: Reader> Tables<R> {
    /// Reads from `reader`; scrapes that fail are counted in `failures`.
    pub fn new(reader: R, failures: Counter) -> Self {
        Self { reader, failures, sums: Mutex::default() }
    }
}

impl Sums {
    /// Takes in the counts of all backends there are. A Service without backends is forgotten.
    fn add(&mut self, backends: &[BackendTraffic]) {
        let mut last = HashMap::new();
        let mut services = BTreeMap::new();
        for backend in backends {
            let before = self.last.get(&backend.id).filter(|last| last.0 == backend.generation);
            let before = before.map_or_else(Traffic::default, |(_, traffic)| *traffic);
            let known = || self.services.get(&backend.service).copied().unwrap_or_default();
            let sum: &mut Traffic = services.entry(backend.service.clone()).or_insert_with(known);
            *sum = plus(sum, &minus(&backend.traffic, &before));
            // Most backends of a large cluster get nothing from this node.
            if backend.traffic != Traffic::default() {
                last.insert(backend.id, (backend.generation, backend.traffic));
            }
        }
        services.retain(|_, sum| *sum != Traffic::default());
        (self.last, self.services) = (last, services);
    }
}

fn plus(a: &Traffic, b: &Traffic) -> Traffic {
    combine(a, b, u64::saturating_add)
}

fn minus(a: &Traffic, b: &Traffic) -> Traffic {
    combine(a, b, u64::saturating_sub)
}

fn combine(a: &Traffic, b: &Traffic, how: fn(u64, u64) -> u64) -> Traffic {
    Traffic {
        connections: how(a.connections, b.connections),
        packets: how(a.packets, b.packets),
        bytes: how(a.bytes, b.bytes),
        reply_packets: how(a.reply_packets, b.reply_packets),
        reply_bytes: how(a.reply_bytes, b.reply_bytes),
    }
}

impl<R: Reader> Collector for Tables<R> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = match self.reader.read() {
            Ok(reading) => {
                sums.add(&reading.backends);
                reading
            }
            Err(error) => {
                warn!("metrics are incomplete: {error}");
                self.failures.inc();
                Reading::default()
            }
        };
        let mut metrics = Families(&mut encoder);
        metrics.counter(
            "weir_packets",
            "Packets by how their walk through a program ended; passed-not-a-service is traffic that \
             is none of Weir's business",
            reading.packets.iter().map(|(outcome, count)| ([("outcome", outcome.name())], *count)),
        )?;
        let fill = || reading.fill.iter().map(|fill| ([("map", fill.map)], fill));
        metrics.gauge(
            "weir_map_entries",
            "Entries in use in a map",
            fill().map(|(labels, fill)| (labels, fill.entries)),
        )?;
        metrics.gauge(
            "weir_map_capacity",
            "Entries that a map can hold",
            fill().map(|(labels, fill)| (labels, fill.capacity)),
        )?;
        let NoLocal { internal, external } = reading.no_local;
        metrics.gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Service ports whose traffic policy is Local and that have endpoints, but no local one",
            [("internal", internal), ("external", external)]
                .map(|(policy, count)| ([("traffic_policy", policy)], count)),
        )?;
        services(&mut metrics, &sums.services)
    }
}

/// One series per Service and direction, however many endpoints and ports it has; none for
/// Services that this node has sent nothing to.
fn services(metrics: &mut Families<'_, '_>, services: &BTreeMap<Name, Traffic>) -> fmt::Result {
    let used = services.iter().filter(|(_, traffic)| **traffic != Traffic::default());
    let used: Vec<_> = used
        .map(|(name, traffic)| {
            ([("namespace", &*name.namespace), ("service", &*name.name)], traffic)
        })
        .collect();
    let each = |count: fn(&Traffic) -> u64| {
        used.iter().map(move |(labels, traffic)| (*labels, count(traffic)))
    };
    metrics.counter(
        "weir_service_connections",
        "Flows begun to a Service from this node",
        each(|traffic| traffic.connections),
    )?;
    metrics.counter(
        "weir_service_packets",
        "Packets sent to a Service's backends",
        each(|traffic| traffic.packets),
    )?;
    metrics.counter(
        "weir_service_bytes",
        "Bytes sent to a Service's backends, link headers included",
        each(|traffic| traffic.bytes),
    )?;
    metrics.counter(
        "weir_service_reply_packets",
        "Packets that a Service's backends replied with",
        each(|traffic| traffic.reply_packets),
    )?;
    metrics.counter(
        "weir_service_reply_bytes",
        "Bytes that a Service's backends replied with, link headers included",
        each(|traffic| traffic.reply_bytes),
    )
}

/// Writes metrics of one name each.
struct Families<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Families<'_, '_> {
    fn counter<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}
