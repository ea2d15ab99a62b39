//! A watch beside that of the Service proxy: when the API server has sent a change, to whoever watches.

use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{WatchEvent, WatchParams};
use tokio::sync::oneshot;
use weir_tests::control_plane::api::{Api, namespaced};

/// How long the server keeps it open, in seconds; longer than a series of changes takes.
pub const LONGEST: u32 = 290;

/// How long a change may take to come. Generous: it is reached only by failures.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A watch of one slice, on a thread of its own.
pub struct Watch {
    seen: Receiver<(String, Instant)>,
    stop: Option<(oneshot::Sender<()>, JoinHandle<Result<()>>)>,
}

impl Watch {
    /// Begins to watch the slice of this name.
    pub fn begin(api: Api, slice: &str) -> Result<Self> {
        let version = api.get::<EndpointSlice>(slice)?.metadata.resource_version;
        let version = version.context("a slice without a version")?;
        let parameters =
            WatchParams::default().fields(&format!("metadata.name={slice}")).timeout(LONGEST);
        let (sender, seen) = mpsc::channel();
        // A request that changes nothing leaves the version as it is, and nothing is sent.
        let _ = sender.send((version.clone(), Instant::now()));
        let (stop, mut stopped) = oneshot::channel();
        let watch = async move |client| {
            let slices = namespaced::<EndpointSlice>(client);
            let mut events = slices.watch(&parameters, &version).await?.boxed();
            loop {
                let event = tokio::select! {
                    event = events.try_next() => event?,
                    _ = &mut stopped => None,
                };
                let Some(event) = event else { return Ok(()) };
                if let WatchEvent::Modified(EndpointSlice { metadata, .. }) = event {
                    let version = metadata.resource_version.unwrap_or_default();
                    // Whoever is gone has no use for it.
                    let _ = sender.send((version, Instant::now()));
                }
            }
        };
        let thread = thread::spawn(move || api.call(watch));
        Ok(Self { seen, stop: Some((stop, thread)) })
    }

    /// When the slice has come in this version.
    pub fn seen(&self, version: &str) -> Result<Instant> {
        loop {
            let (seen, at) = self.seen.recv_timeout(TIMEOUT).with_context(|| {
                format!("a watch of the API server did not get version {version}")
            })?;
            if seen == version {
                return Ok(at);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stop.take() {
            let _ = stop.send(());
            // Had it failed, a version would have been missing.
            let _ = thread.join();
        }
    }
}
