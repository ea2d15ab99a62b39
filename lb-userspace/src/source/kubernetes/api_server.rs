//! The API server as a source: one watch a kind, and what they yield together.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::aggregate::Aggregator;
use super::backoff::Timeouts;
use super::credentials::{Access, AccessError, ApiClient};
use super::events::Reporter;
use super::update::WatchUpdate;
use super::watch::Watch;
use crate::source::event::SourceEvent;

/// The objects that an API server holds.
#[derive(Debug)]
pub struct Kubernetes {
    api: Arc<ApiClient>,
    node: String,
    timeouts: Timeouts,
}

impl Kubernetes {
    /// The API server that `access` leads to, as the node called `node` sees it; no request
    /// is made yet.
    ///
    /// # Errors
    ///
    /// The credentials cannot be read.
    pub async fn open(access: Access, node: &str) -> Result<Self, AccessError> {
        let api = Arc::new(ApiClient::open(access).await?);
        Ok(Self { api, node: node.into(), timeouts: Timeouts::default() })
    }

    /// With other times than the default ones.
    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// Starts to write Events to the same server.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        Reporter::start(Arc::clone(&self.api), &self.node, self.timeouts)
    }

    /// Sends everything, then every change, until the receiver is dropped.
    pub(crate) async fn run(self, events: Sender<SourceEvent>) {
        let (sender, updates) = mpsc::channel(16);
        let (api, node, timeouts) = (&self.api, self.node.as_str(), self.timeouts);
        let services = Watch::<Service>::new(api, node, timeouts, sender.clone());
        let slices = Watch::<EndpointSlice>::new(api, node, timeouts, sender.clone());
        let nodes = Watch::<Node>::new(api, node, timeouts, sender.clone());
        let ranges = Watch::<ServiceCIDR>::new(api, node, timeouts, sender);
        tokio::select! {
            _ = async { tokio::join!(services.run(), slices.run(), nodes.run(), ranges.run()) } => {}
            () = forward(updates, &events, Aggregator::about(&api.server)) => {}
            () = events.closed() => {}
        }
    }
}

async fn forward(
    mut updates: Receiver<WatchUpdate>,
    events: &Sender<SourceEvent>,
    mut aggregator: Aggregator,
) {
    while let Some(update) = updates.recv().await {
        let changes = aggregator.changes(update, Timestamp::now());
        // All warnings are sent again when one of them changes: not for each page of a long list.
        let warnings = if updates.is_empty() { aggregator.warnings() } else { None };
        for event in changes.into_iter().chain(warnings) {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}
