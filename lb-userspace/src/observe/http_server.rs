//! The two HTTP servers: health for load balancers and probes, metrics for this node alone. Each is
//! a task of its own; an address that is taken is tried again until it is free.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::health::{Answer, Health, Moment};
use super::metrics::{Metrics, exposition};

/// How long to wait for an address that is taken before it is tried again, as kube-proxy does.
const RETRY: Duration = Duration::from_secs(5);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} ({cause}): if kube-proxy still runs on this node, stop it, else give \
     {flag} another address"
)]
pub struct BindError {
    flag: &'static str,
    address: SocketAddr,
    cause: io::Error,
}

/// A server to be.
#[derive(Debug)]
pub struct Server {
    flag: &'static str,
    address: SocketAddr,
    routes: Router,
    retry: Duration,
}

impl Server {
    /// A server of `routes` at `address`, which `flag` sets.
    #[must_use]
    pub const fn new(flag: &'static str, address: SocketAddr, routes: Router) -> Self {
        Self { flag, address, routes, retry: RETRY }
    }

    /// The same with another time between tries.
    #[must_use]
    pub fn retrying_every(self, retry: Duration) -> Self {
        Self { retry, ..self }
    }

    /// Listens and begins to serve; where that fails, it is said once and tried again until it does
    /// not. Ends with the runtime.
    ///
    /// # Errors
    /// With `must_bind`, [`BindError`] if the address cannot be listened on now.
    pub async fn start(self, must_bind: bool) -> Result<(), BindError> {
        match self.bind().await {
            Ok(listener) => drop(tokio::spawn(self.serve(listener))),
            Err(error) if must_bind => return Err(error),
            Err(error) => {
                warn!("{error}; it is tried again every {} s", self.retry.as_secs());
                drop(tokio::spawn(self.insist()));
            }
        }
        Ok(())
    }

    async fn bind(&self) -> Result<TcpListener, BindError> {
        TcpListener::bind(self.address).await.map_err(|cause| BindError {
            flag: self.flag,
            address: self.address,
            cause,
        })
    }

    async fn insist(self) {
        loop {
            sleep(self.retry).await;
            if let Ok(listener) = self.bind().await {
                return self.serve(listener).await;
            }
        }
    }

    async fn serve(self, listener: TcpListener) {
        info!("{}: listening on {}", self.flag, self.address);
        // It goes on after errors of single connections, and never ends by itself.
        if let Err(error) = axum::serve(listener, self.routes).await {
            warn!("{}: {error}; restart weir", self.flag);
        }
    }
}

/// What the health server knows.
#[derive(Clone)]
struct Probed {
    health: watch::Receiver<Health>,
    metrics: Metrics,
    now: fn() -> Moment,
}

/// `/healthz`, `/livez` and `/readyz`.
pub fn health_routes(
    health: watch::Receiver<Health>,
    metrics: Metrics,
    now: fn() -> Moment,
) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Probed { health, metrics, now })
}

async fn healthz(State(probed): State<Probed>) -> Response {
    let answer = probed.health.borrow().healthz((probed.now)());
    let response = respond(answer);
    probed.metrics.healthz(response.status().as_u16());
    response
}

async fn livez(State(probed): State<Probed>) -> Response {
    let answer = probed.health.borrow().livez((probed.now)());
    let response = respond(answer);
    probed.metrics.livez(response.status().as_u16());
    response
}

fn respond(answer: Answer) -> Response {
    let status = if answer.is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(X_CONTENT_TYPE_OPTIONS, "nosniff")], Json(answer.report)).into_response()
}

async fn readyz(State(probed): State<Probed>) -> Response {
    if probed.health.borrow().is_ready() {
        "ok".into_response()
    } else {
        let reason = "the first complete plan is not in the kernel yet\n";
        (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
    }
}

/// `/metrics` of `registry`, `/proxyMode`, `/healthz` and `/configz` with these settings.
pub fn metrics_routes(registry: Registry, settings: Value) -> Router {
    let registry = Arc::new(registry);
    Router::new()
        .route("/metrics", get(move |headers| scrape(Arc::clone(&registry), headers)))
        .route("/proxyMode", get(async || "weir"))
        .route("/healthz", get(async || "ok"))
        .route("/configz", get(async move || Ok::<_, Infallible>(Json(settings.clone()))))
}

/// The maps are read on a thread of its own: a large cluster's take longer than the agent's loop may
/// stand still.
async fn scrape(registry: Arc<Registry>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accept = accept.to_owned();
    match spawn_blocking(move || exposition(&registry, &accept)).await {
        Ok(Ok((content_type, text))) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    let reason = format!("metrics cannot be written ({error}): report this\n");
    (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
}
