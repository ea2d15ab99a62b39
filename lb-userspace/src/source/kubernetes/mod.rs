//! Kubernetes objects from the API server: Services, EndpointSlices, this node's Node and, where the
//! server has them, ServiceCIDRs are listed and watched, and come out as the same [`Change`](crate::model::Change)s as those of manifests.
//!
//! `access -> request -> watch -> known -> telling`: how the server is reached, one question and its
//! answer, the watch of one kind, which of its objects are told, and all watches together; `events`
//! writes back what cannot be honoured. Whatever becomes of the server, what was told stays told until a complete list says otherwise.

mod aggregate;
mod backoff;
mod client;
mod credentials;
mod events;
mod kind;
mod store;
mod version;
mod watch;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::mpsc::{self, Receiver, Sender};

use self::aggregate::{News, Telling};
use self::credentials::Door;
use self::watch::Watch;
use super::SourceEvent;

pub use backoff::Patience;
pub use credentials::{Access, AccessError};
pub use events::{EventCounts, Reason, Reporter};

/// The objects that an API server holds.
#[derive(Debug)]
pub struct Kubernetes {
    door: Arc<Door>,
    node: String,
    patience: Patience,
}

impl Kubernetes {
    /// The API server that `access` leads to, as the node called `node` sees it; nothing is asked of
    /// it yet.
    ///
    /// # Errors
    ///
    /// The credentials cannot be read.
    pub async fn open(access: Access, node: &str) -> Result<Self, AccessError> {
        let door = Arc::new(Door::open(access).await?);
        Ok(Self { door, node: node.into(), patience: Patience::default() })
    }

    /// With other times than the usual.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Starts to write Events to the same server.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        Reporter::start(Arc::clone(&self.door), &self.node, self.patience)
    }

    /// Tells everything, then every change, until nobody listens.
    pub(super) async fn run(self, events: Sender<SourceEvent>) {
        let (sender, news) = mpsc::channel(16);
        let (door, node, patience) = (&*self.door, self.node.as_str(), self.patience);
        let services = Watch::<Service>::new(door, node, patience, sender.clone());
        let slices = Watch::<EndpointSlice>::new(door, node, patience, sender.clone());
        let nodes = Watch::<Node>::new(door, node, patience, sender.clone());
        let ranges = Watch::<ServiceCIDR>::new(door, node, patience, sender);
        tokio::select! {
            _ = async { tokio::join!(services.run(), slices.run(), nodes.run(), ranges.run()) } => {}
            () = tell(news, &events, Telling::about(&door.server)) => {}
            () = events.closed() => {}
        }
    }
}

async fn tell(mut news: Receiver<News>, events: &Sender<SourceEvent>, mut telling: Telling) {
    while let Some(one) = news.recv().await {
        let changes = telling.changes(one, Timestamp::now());
        // All warnings are told anew when one of them changes: not for each page of a long list.
        let warnings = if news.is_empty() { telling.warnings() } else { None };
        for event in changes.into_iter().chain(warnings) {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}
