//! The servers behind `spec.healthCheckNodePort`: a load balancer checks whether each node has
//! endpoints of a Service and sends to those that respond 200. Which servers there are follows the
//! plan; one that cannot listen is tried again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::info;

use super::health::{Health, Moment};
use super::http_server::{Handler, Response, listen, response, serve, text};
use super::metrics::Metrics;
use crate::model::{HealthCheck, HealthChecks, Name, Warning};

/// How long to wait before an address that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The servers of a node.
#[derive(Debug)]
pub struct HealthCheckServers {
    node: String,
    proxy: Proxy,
    metrics: Metrics,
    retry: Duration,
    open: BTreeMap<HealthCheck, Open>,
}

/// The agent's health, which all of them report.
#[derive(Clone, Debug)]
struct Proxy {
    health: watch::Receiver<Health>,
    now: fn() -> Moment,
}

/// A server that runs; dropped, it closes.
#[derive(Debug)]
struct Open {
    local_endpoints: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl HealthCheckServers {
    /// None yet, on the node called `node`; they call the agent healthy while `health` keeps up.
    #[must_use]
    pub fn new(
        node: impl Into<String>,
        health: watch::Receiver<Health>,
        metrics: Metrics,
        now: fn() -> Moment,
    ) -> Self {
        let proxy = Proxy { health, now };
        Self { node: node.into(), proxy, metrics, retry: RETRY, open: BTreeMap::new() }
    }

    /// The same with another time between tries.
    #[must_use]
    pub fn retrying_every(self, retry: Duration) -> Self {
        Self { retry, ..self }
    }

    /// Follows what is `wanted` until its sender is dropped; `failures` gets the ports that cannot be
    /// listened on, whenever they change.
    pub async fn run(
        mut self,
        mut wanted: watch::Receiver<HealthChecks>,
        failures: watch::Sender<Vec<Warning>>,
    ) {
        loop {
            let checks = wanted.borrow_and_update().clone();
            let failed = self.follow(&checks).await;
            let has_failed = !failed.is_empty();
            failures.send_if_modified(|before| {
                let is_new = *before != failed;
                *before = failed;
                is_new
            });
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = sleep(self.retry), if has_failed => {}
            }
        }
    }

    /// Closes before it opens: a port may pass from one Service to another.
    async fn follow(&mut self, wanted: &HealthChecks) -> Vec<Warning> {
        for (check, open) in self.open.extract_if(.., |check, _| !wanted.contains_key(check)) {
            open.close().await;
            info!("Service {}: health checks at {} end", check.service, check.address);
        }
        let mut failures = Vec::new();
        for (check, count) in wanted {
            if let Some(open) = self.open.get(check) {
                open.local_endpoints.store(*count, Ordering::Relaxed);
                continue;
            }
            match Open::new(check, *count, self.proxy.clone()) {
                Ok(open) => {
                    info!("Service {}: health checks at {}", check.service, check.address);
                    self.open.insert(check.clone(), open);
                }
                Err(cause) => {
                    self.metrics.health_check_failures.inc();
                    failures.push(self.failure(check, &cause));
                }
            }
        }
        self.metrics.health_checks.set(i64::try_from(self.open.len()).unwrap_or(i64::MAX));
        failures
    }

    fn failure(&self, check: &HealthCheck, cause: &io::Error) -> Warning {
        let (node, address) = (&self.node, check.address);
        Warning {
            about: format!("Service {}", check.service),
            text: format!(
                "node {node} cannot listen on {address} ({cause}), so load balancers take it for one \
                 without endpoints: end what listens there (`ss -ltnp` shows it) or give the Service \
                 another healthCheckNodePort; it is tried again every {} s",
                self.retry.as_secs_f32()
            ),
        }
    }
}

impl Open {
    fn new(check: &HealthCheck, count: usize, proxy: Proxy) -> io::Result<Self> {
        // Each family has a server of its own at the same port.
        let listener = listen(check.address, true)?;
        let local_endpoints = Arc::new(AtomicUsize::new(count));
        let subject = Subject {
            service: check.service.clone(),
            local_endpoints: Arc::clone(&local_endpoints),
            proxy,
        };
        Ok(Self { local_endpoints, serving: tokio::spawn(serve(listener, Arc::new(subject))) })
    }

    /// When this returns, the port is closed, and no connection gets another response.
    async fn close(mut self) {
        self.serving.abort();
        // It never ends by itself: this is the abort.
        let _: Result<_, _> = (&mut self.serving).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What one server reports on.
#[derive(Debug)]
struct Subject {
    service: Name,
    local_endpoints: Arc<AtomicUsize>,
    proxy: Proxy,
}

/// The body of a response, as kube-proxy writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: BodyService<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct BodyService<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl Handler for Subject {
    /// The same for every path and method.
    async fn respond(&self, _: &Parts) -> Response {
        let count = self.local_endpoints.load(Ordering::Relaxed);
        let healthy = self.proxy.health.borrow().keeps_up((self.proxy.now)());
        let body = Body {
            service: BodyService { namespace: &self.service.namespace, name: &self.service.name },
            local_endpoints: count,
            service_proxy_healthy: healthy,
        };
        let body = match with_tabs(&body) {
            Ok(body) => body,
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        let is_ok = count > 0 && healthy;
        let status = if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = response(status, "application/json", body);
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert("x-load-balancing-endpoint-weight", count.into());
        response
    }
}

fn with_tabs(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
