//! The paths of the health server and of the metrics server.

use std::sync::Arc;

use http::header::{ACCEPT, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::exposition::exposition;
use super::health::{Health, HealthResponse, Moment, NotReady};
use super::http_server::{Handler, Response, is_read, not_found, read_only, response, text};
use super::metrics::Metrics;

/// `/healthz`, `/livez` and `/readyz`.
#[derive(Debug)]
pub struct HealthEndpoints {
    health: watch::Receiver<Health>,
    metrics: Metrics,
    now: fn() -> Moment,
}

impl HealthEndpoints {
    /// The endpoints that report `health`, by the clock `now`, and count responses in `metrics`.
    #[must_use]
    pub const fn new(
        health: watch::Receiver<Health>,
        metrics: Metrics,
        now: fn() -> Moment,
    ) -> Self {
        Self { health, metrics, now }
    }

    fn healthz(&self) -> Response {
        let response = report(&self.health.borrow().healthz((self.now)()));
        self.metrics.healthz(response.status().as_u16());
        response
    }

    fn livez(&self) -> Response {
        let response = report(&self.health.borrow().livez((self.now)()));
        self.metrics.livez(response.status().as_u16());
        response
    }

    fn readyz(&self) -> Response {
        let reason = match self.health.borrow().ready((self.now)()) {
            Ok(()) => return text(StatusCode::OK, "ok"),
            Err(NotReady::NoPlan) => "the first complete plan is not in the kernel yet\n",
            Err(NotReady::NoHooks) => {
                "programs are missing at a device or at the control group: the log says why, and `weir show \
                 status`\n"
            }
        };
        text(StatusCode::SERVICE_UNAVAILABLE, reason)
    }
}

impl Handler for HealthEndpoints {
    async fn respond(&self, request: &Parts) -> Response {
        let respond = match request.uri.path() {
            "/healthz" => Self::healthz,
            "/livez" => Self::livez,
            "/readyz" => Self::readyz,
            _ => return not_found(),
        };
        if is_read(request) { respond(self) } else { read_only() }
    }
}

fn report(health: &HealthResponse) -> Response {
    let status = if health.is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = match serde_json::to_vec(&health.report) {
        Ok(body) => response(status, "application/json", body),
        Err(error) => failed(&error),
    };
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// `/metrics`, `/proxyMode`, `/healthz` and `/configz`.
#[derive(Debug)]
pub struct MetricsEndpoints {
    registry: Arc<Registry>,
    settings: String,
}

impl MetricsEndpoints {
    /// The metrics of `registry`, and these settings.
    #[must_use]
    pub fn new(registry: Registry, settings: &Value) -> Self {
        Self { registry: Arc::new(registry), settings: settings.to_string() }
    }

    /// The maps are read on a thread of its own: a large cluster's take longer than the event loop may
    /// stand still.
    async fn scrape(&self, headers: &HeaderMap) -> Response {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (accept, registry) = (accept.to_owned(), Arc::clone(&self.registry));
        match spawn_blocking(move || exposition(&registry, &accept)).await {
            Ok(Ok((content_type, text))) => response(StatusCode::OK, content_type, text),
            Ok(Err(error)) => failed(&error),
            Err(error) => failed(&error),
        }
    }
}

impl Handler for MetricsEndpoints {
    async fn respond(&self, request: &Parts) -> Response {
        let path = request.uri.path();
        if !["/metrics", "/proxyMode", "/healthz", "/configz"].contains(&path) {
            return not_found();
        }
        if !is_read(request) {
            return read_only();
        }
        match path {
            "/metrics" => self.scrape(&request.headers).await,
            "/proxyMode" => text(StatusCode::OK, "weir"),
            "/configz" => response(StatusCode::OK, "application/json", self.settings.clone()),
            _ => text(StatusCode::OK, "ok"),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    let reason = format!("no response can be written ({error}): report this\n");
    text(StatusCode::INTERNAL_SERVER_ERROR, reason)
}

#[cfg(test)]
mod tests;
