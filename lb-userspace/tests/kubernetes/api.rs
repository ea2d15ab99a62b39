//! A scripted API server: lists in pages, watches, Events, over real connections, which it closes when
//! it is stopped.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Response, Uri};
use futures::stream;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::faults::Verb;
use crate::state::{Shared, State};
use crate::store::{NODES, RANGES, Resource, SERVICES, SLICES, Selector};
use crate::watch_stream::WatchStream;

/// A server, running or not.
pub struct Api {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Running>,
}

impl Api {
    /// A server that holds this node and nothing else.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let running = Some(serve(listener, Arc::clone(&shared)));
        let api = Self { address, shared, running };
        api.change(|state| state.store.put(NODES, crate::store::node("node-1", "192.0.2.1")));
        api
    }

    /// Closes every connection and accepts no more.
    pub fn stop(&mut self) {
        self.running.take().expect("it runs").stop();
    }

    /// Accepts connections again.
    pub fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.state().open_watches = 0;
        self.running = Some(serve(listener, Arc::clone(&self.shared)));
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Changes something and notifies the watches.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.shared.changed.send_modify(|count| *count += 1);
    }

    pub fn open_watches(&self) -> usize {
        self.state().open_watches
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

/// A server on a thread of its own; its connections end with it.
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    fn stop(self) {
        let _: Result<(), ()> = self.stop.send(());
        self.thread.join().unwrap();
    }
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> Running {
    let (stop, stopped) = oneshot::channel();
    listener.set_nonblocking(true).unwrap();
    let respond = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let shared = Arc::clone(&shared);
        async move { shared.respond(&method, &uri, &headers, &body) }
    };
    let serving = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::select! {
            ended = axum::serve(listener, Router::new().fallback(respond)) => ended.unwrap(),
            _ = stopped => {}
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    Running { stop, thread: std::thread::spawn(move || runtime.block_on(serving)) }
}

/// A request's query.
#[derive(Debug, Default)]
struct Query {
    selector: Selector,
    is_watch: bool,
    /// What a watch begins after; a list is to be no older.
    revision: u64,
    /// Whether a list says so.
    is_not_older_than: bool,
    seconds: u64,
    limit: usize,
    from: usize,
}

impl Query {
    fn read(uri: &Uri) -> Self {
        let mut query = Self { limit: usize::MAX, ..Self::default() };
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        for (key, value) in pairs {
            match &*key {
                "labelSelector" => query.selector.without = value.strip_prefix('!').map(Into::into),
                "fieldSelector" => {
                    query.selector.name = value.strip_prefix("metadata.name=").map(Into::into);
                }
                "watch" => query.is_watch = value == "true",
                "resourceVersion" => query.revision = value.parse().unwrap(),
                "resourceVersionMatch" => query.is_not_older_than = value == "NotOlderThan",
                "timeoutSeconds" => query.seconds = value.parse().unwrap(),
                "limit" => query.limit = value.parse().unwrap(),
                "continue" => query.from = value.parse().unwrap(),
                "allowWatchBookmarks" => assert_eq!(value, "true"),
                other => panic!("unexpected request for {other}"),
            }
        }
        let path: Vec<&str> = uri.path().split('/').collect();
        let namespace = path.iter().position(|word| *word == "namespaces");
        query.selector.namespace = namespace.map(|at| path[at + 1].to_owned());
        query
    }
}

impl Shared {
    fn respond(
        self: &Arc<Self>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Response<Body> {
        let query = Query::read(uri);
        let verb = match *method {
            Method::POST => Verb::Create,
            _ if query.is_watch => Verb::Watch,
            _ => Verb::List,
        };
        let mut state = self.state.lock().unwrap();
        state.requests.push(format!("{method} {uri}"));
        let given = headers.get("authorization").map(|value| value.to_str().unwrap());
        let token = state.faults.token.as_ref().map(|token| format!("Bearer {token}"));
        if token.is_some() && token.as_deref() != given {
            return refuse(401, "Unauthorized", None);
        }
        if let Some(refusal) = state.faults.refusal(verb, uri.path()) {
            return refuse(refusal.status, "refused by the test", refusal.retry_after);
        }
        match verb {
            Verb::Create => state.create(body),
            Verb::List => state.list(resource(uri), &query),
            Verb::Watch => {
                let is_old = query.revision < state.store.compacted;
                if is_old && state.faults.gone_at_start {
                    return refuse(410, "too old resource version", None);
                }
                let generation = state.generation;
                state.open_watches += 1;
                drop(state);
                self.watch(resource(uri), query, generation, is_old)
            }
        }
    }

    fn watch(
        self: &Arc<Self>,
        resource: Resource,
        query: Query,
        generation: u64,
        is_lost: bool,
    ) -> Response<Body> {
        let until = Instant::now() + Duration::from_secs(query.seconds);
        let watching = WatchStream {
            changed: self.changed.subscribe(),
            shared: Arc::clone(self),
            resource,
            selector: query.selector,
            until,
            sent: query.revision,
            generation,
            is_lost,
            pending: Vec::new(),
            last: None,
        };
        let chunks = stream::unfold(watching, |mut watching| async {
            let chunk = watching.next().await?;
            Some((chunk, watching))
        });
        Response::new(Body::from_stream(chunks))
    }
}

impl State {
    fn create(&mut self, body: &[u8]) -> Response<Body> {
        let event: Value = serde_json::from_slice(body).unwrap();
        let name = &event["metadata"]["name"];
        if self.events.iter().any(|other| other["metadata"]["name"] == *name) {
            return refuse(409, "already exists", None);
        }
        self.events.push(event.clone());
        Response::builder().status(201).body(Body::from(event.to_string())).unwrap()
    }

    fn list(&mut self, resource: Resource, query: &Query) -> Response<Body> {
        if query.from > 0 && self.faults.lost_pages > 0 {
            self.faults.lost_pages -= 1;
            return refuse(410, "the provided continue parameter is too old", None);
        }
        let may_be_cached =
            query.is_not_older_than && (query.revision == 0 || query.limit == usize::MAX);
        let cache = self.faults.watch_cache.held(&self.store).filter(|_| may_be_cached);
        let (store, limit) = cache.map_or((&self.store, query.limit), |held| (held, usize::MAX));
        if query.revision > store.revision {
            return too_large();
        }
        let objects = store.objects(resource, &query.selector);
        let end = objects.len().min(query.from.saturating_add(limit));
        let mut metadata = json!({"resourceVersion": store.revision.to_string()});
        if end < objects.len() {
            metadata["continue"] = json!(end.to_string());
        }
        // Items of a list have no kind and version.
        let items = objects[query.from..end].iter().cloned().map(|mut object| {
            let fields = object.as_object_mut().unwrap();
            fields.remove("kind");
            fields.remove("apiVersion");
            object
        });
        let list = json!({
            "kind": "List", "apiVersion": "v1", "metadata": metadata,
            "items": items.collect::<Vec<_>>(),
        });
        Response::new(self.faults.list_body(list.to_string()))
    }
}

fn resource(uri: &Uri) -> Resource {
    match uri.path() {
        "/api/v1/services" | "/api/v1/namespaces/default/services" => SERVICES,
        "/apis/discovery.k8s.io/v1/endpointslices" => SLICES,
        "/api/v1/nodes" => NODES,
        "/apis/networking.k8s.io/v1/servicecidrs" => RANGES,
        other => panic!("unexpected request for {other}"),
    }
}

/// An error response as the API server sends it; in plain text where it is overloaded.
fn refuse(status: u16, message: &str, retry_after: Option<u32>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
        return response.body(Body::from(message.to_owned())).unwrap();
    }
    let refusal = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "", "code": status,
    });
    response.body(Body::from(refusal.to_string())).unwrap()
}

/// The response to a list that is to be newer than what there is.
fn too_large() -> Response<Body> {
    let cause = json!({
        "reason": "ResourceVersionTooLarge", "message": "Too large resource version",
    });
    let refusal = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Timeout: Too large resource version", "reason": "Timeout", "code": 504,
        "details": {"causes": [cause], "retryAfterSeconds": 1},
    });
    Response::builder().status(504).body(Body::from(refusal.to_string())).unwrap()
}
