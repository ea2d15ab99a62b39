//! The API server's part: lists in pages, and watches that send what is changed.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::runtime::Builder;
use tokio::sync::{broadcast, oneshot};
use weir_tests::lab::Node;

use super::objects::{Size, endpoints, name, service, slice};

/// The revision of all objects at first.
const REVISION: u64 = 1_000_000;

/// A server in a namespace, on a thread of its own.
pub struct Server {
    shared: Arc<Shared>,
    kubeconfig: NamedTempFile,
    stop: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

struct Shared {
    size: Size,
    node: String,
    /// The slices that were changed, by the number of the Service; what is listed has them.
    changed: Mutex<BTreeMap<String, String>>,
    /// Lines of watches of slices.
    lines: broadcast::Sender<Bytes>,
    watches: AtomicUsize,
}

/// What is asked for of a list or watch.
#[derive(Default)]
struct Parameters {
    is_watch: bool,
    limit: Option<u32>,
    from: u32,
}

impl Parameters {
    fn of(uri: &Uri) -> Self {
        let mut parameters = Self::default();
        let pairs = uri.query().unwrap_or_default().split('&');
        for (key, value) in pairs.filter_map(|pair| pair.split_once('=')) {
            match key {
                "watch" => parameters.is_watch = value == "true",
                "limit" => parameters.limit = value.parse().ok(),
                "continue" => parameters.from = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        parameters
    }
}

impl Server {
    /// Starts it on `node`, with a cluster of this size.
    pub fn start(node: &Node, size: Size) -> Result<Self> {
        let listener = node.namespace.run(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            size,
            node: node.name.to_owned(),
            changed: Mutex::default(),
            lines: broadcast::Sender::new(1 << 16),
            watches: AtomicUsize::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let router = Router::new().fallback(respond).with_state(Arc::clone(&shared));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let serving = async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                return;
            };
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                _ = stopped => {}
            }
        };
        let thread = std::thread::spawn(move || runtime.block_on(serving));
        let kubeconfig = kubeconfig(address)?;
        Ok(Self { shared, kubeconfig, stop: Some((stop, thread)) })
    }

    pub fn kubeconfig(&self) -> &Path {
        self.kubeconfig.path()
    }

    /// Checks that the agent watches Services, slices and its Node.
    pub fn check_watched(&self) -> Result<()> {
        let watches = self.shared.watches.load(Ordering::SeqCst);
        ensure!(watches >= 3, "{watches} watches are open");
        Ok(())
    }

    /// Gives the slice of the Service with this name another text.
    pub fn change(&self, name: String, slice: String) {
        let line = format!("{{\"type\":\"MODIFIED\",\"object\":{slice}}}\n");
        if let Ok(mut changed) = self.shared.changed.lock() {
            changed.insert(name, slice);
        }
        // Without a watch nobody gets it, and the benchmark fails for what is missing.
        let _ = self.shared.lines.send(line.into());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stop.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

fn kubeconfig(address: SocketAddr) -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    let named = |kind: &str, value: Value| json!([{"name": "bench", kind: value}]);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": named("cluster", json!({"server": format!("http://{address}")})),
        "contexts": named("context", json!({"cluster": "bench", "user": "bench"})),
        "users": named("user", json!({})),
    });
    std::fs::write(file.path(), config.to_string()).context("cannot write the kubeconfig")?;
    Ok(file)
}

async fn respond(State(shared): State<Arc<Shared>>, uri: Uri) -> Response<Body> {
    let parameters = Parameters::of(&uri);
    match (uri.path(), parameters.is_watch) {
        (
            "/api/v1/services" | "/apis/discovery.k8s.io/v1/endpointslices" | "/api/v1/nodes",
            true,
        ) => shared.watch(uri.path().ends_with("endpointslices")),
        ("/api/v1/services", false) => {
            shared.list(&parameters, shared.size.services, |n| service(n, REVISION).to_string())
        }
        ("/apis/discovery.k8s.io/v1/endpointslices", false) => {
            shared.list(&parameters, shared.size.services, |n| shared.slice(n))
        }
        ("/api/v1/nodes", false) => shared.list(&parameters, 1, |_| shared.node()),
        _ => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "not here", "reason": "NotFound", "code": 404,
            });
            let mut response = Response::new(Body::from(status.to_string()));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

impl Shared {
    fn node(&self) -> String {
        json!({
            "metadata": {"name": self.node, "resourceVersion": REVISION.to_string(), "uid": "node"},
            "spec": {},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.11"}]},
        })
        .to_string()
    }

    fn slice(&self, number: u32) -> String {
        let changed = self.changed.lock().ok();
        let changed = changed.and_then(|all| all.get(&name(number)).cloned());
        changed
            .unwrap_or_else(|| slice(number, &endpoints(number, self.size), REVISION).to_string())
    }

    fn list(
        &self,
        parameters: &Parameters,
        count: u32,
        item: impl Fn(u32) -> String,
    ) -> Response<Body> {
        let from = parameters.from;
        let to = count.min(from.saturating_add(parameters.limit.unwrap_or(u32::MAX)));
        let mut metadata = json!({"resourceVersion": REVISION.to_string()});
        if to < count {
            metadata["continue"] = json!(to.to_string());
        }
        let items = (from..to).map(item).collect::<Vec<_>>().join(",");
        let list = format!(
            "{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{metadata},\"items\":[{items}]}}"
        );
        Response::new(Body::from(list))
    }

    fn watch(self: &Arc<Self>, is_of_slices: bool) -> Response<Body> {
        let lines = self.lines.subscribe();
        self.watches.fetch_add(1, Ordering::SeqCst);
        let lines = futures::stream::unfold(lines, move |mut lines| async move {
            if !is_of_slices {
                std::future::pending::<()>().await;
            }
            // One that has lost lines ends: the benchmark fails for what is missing.
            let line = lines.recv().await.ok()?;
            Some((Ok::<_, std::convert::Infallible>(line), lines))
        });
        Response::new(Body::from_stream(lines))
    }
}
