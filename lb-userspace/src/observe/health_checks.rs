//! The servers behind `spec.healthCheckNodePort`: a load balancer asks each node whether it has
//! endpoints of a Service and sends to those that say 200. Which servers there are follows what the
//! agent wants; one that cannot listen is tried again.
//!
//! axum's server is not used: it lets connections live on after it has stopped, and what is asked over
//! one of them after the Service is gone must get no answer, least of all that of before.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt::Ipv6V6Only};
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::{debug, info};

use super::health::{Health, Moment};
use super::metrics::Metrics;
use crate::model::{HealthCheck, HealthChecks, Name, Warning};

/// How long to wait before an address that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long a connection may take to ask its next question.
const SILENCE: Duration = Duration::from_secs(30);

/// Connections to one server at a time; more wait their turn.
const CONNECTIONS: usize = 256;

/// Connections of which nobody has heard yet.
const BACKLOG: u32 = 128;

/// The servers of a node.
#[derive(Debug)]
pub struct HealthCheckServers {
    node: String,
    proxy: Proxy,
    metrics: Metrics,
    retry: Duration,
    open: BTreeMap<HealthCheck, Open>,
}

/// What all of them say of the agent.
#[derive(Clone, Debug)]
struct Proxy {
    health: watch::Receiver<Health>,
    now: fn() -> Moment,
}

/// A server at work; dropped, it closes.
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

    /// Follows what is `wanted` until nobody can want anything any more; `unheard` is what cannot be
    /// listened on, at each time.
    pub async fn run(
        mut self,
        mut wanted: watch::Receiver<HealthChecks>,
        unheard: watch::Sender<Vec<Warning>>,
    ) {
        loop {
            let checks = wanted.borrow_and_update().clone();
            let failures = self.follow(&checks).await;
            let has_failed = !failures.is_empty();
            unheard.send_if_modified(|before| {
                let is_new = *before != failures;
                *before = failures;
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
        let listener = listen(check.address)?;
        let local_endpoints = Arc::new(AtomicUsize::new(count));
        let subject = Subject {
            service: check.service.clone(),
            local_endpoints: Arc::clone(&local_endpoints),
            proxy,
        };
        Ok(Self { local_endpoints, serving: tokio::spawn(serve(listener, Arc::new(subject))) })
    }

    /// When this returns, nobody listens any more, and no connection gets another answer.
    async fn close(mut self) {
        self.serving.abort();
        // It never ends by itself: this is the end that was just asked for.
        let _: Result<_, _> = (&mut self.serving).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // Each family has a server of its own at the same port.
            setsockopt(&socket, Ipv6V6Only, &true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections until it is dropped, and their tasks with it.
async fn serve(listener: TcpListener, subject: Arc<Subject>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, Arc::clone(&subject)))),
                Err(error) => {
                    // Out of file descriptors, say, of which none becomes free by trying on.
                    debug!("Service {}: no connection ({error})", subject.service);
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, subject: Arc<Subject>) {
    let answer = service_fn(async |_| subject.answer());
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    if let Err(error) = connection.serve_connection(TokioIo::new(stream), answer).await {
        debug!("Service {}: a connection ended ({error})", subject.service);
    }
}

/// What one server is asked about.
#[derive(Debug)]
struct Subject {
    service: Name,
    local_endpoints: Arc<AtomicUsize>,
    proxy: Proxy,
}

/// The body of an answer, as kube-proxy writes it.
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

impl Subject {
    /// The answer to whatever is asked.
    fn answer(&self) -> Result<Response<Full<Bytes>>, serde_json::Error> {
        let count = self.local_endpoints.load(Ordering::Relaxed);
        let healthy = self.proxy.health.borrow().keeps_up((self.proxy.now)());
        let body = Body {
            service: BodyService { namespace: &self.service.namespace, name: &self.service.name },
            local_endpoints: count,
            service_proxy_healthy: healthy,
        };
        let mut response = Response::new(Full::new(with_tabs(&body)?.into()));
        if count == 0 || !healthy {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert("x-load-balancing-endpoint-weight", count.into());
        Ok(response)
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
