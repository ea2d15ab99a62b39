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
    /// Each version with when it came; the error that ended the watch.
    seen: Receiver<Result<(String, Instant)>>,
    stop: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
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
        let _ = sender.send(Ok((version.clone(), Instant::now())));
        let of_error = sender.clone();
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
                let slice = match event {
                    WatchEvent::Modified(slice) => slice,
                    WatchEvent::Added(_) | WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {
                        continue;
                    }
                    WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
                };
                let version = slice.metadata.resource_version.context("a slice without a version");
                // Whoever is gone has no use for it.
                let _ = sender.send(version.map(|version| (version, Instant::now())));
            }
        };
        let thread = thread::spawn(move || {
            if let Err(error) = api.call(watch) {
                let _ = of_error.send(Err(error));
            }
        });
        Ok(Self { seen, stop: Some((stop, thread)) })
    }

    /// When the slice has come in this version.
    pub fn seen(&self, version: &str) -> Result<Instant> {
        loop {
            let seen = self.seen.recv_timeout(TIMEOUT).map_err(anyhow::Error::from).flatten();
            let (seen, at) = seen.with_context(|| {
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
            // Its error was sent; a panic has been printed.
            let _ = thread.join();
        }
    }
}
