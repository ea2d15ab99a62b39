//! An API server as far as a source can tell: lists in pages, watches, Events; over real
//! connections, which it drops when it is stopped.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Response, Uri};
use futures::stream;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::faults::{Faults, Verb};
use crate::store::{NODES, RANGES, Resource, SERVICES, SLICES, Selector, Store};
use crate::stream::Watching;

/// A server, running or not.
pub struct Api {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Running>,
}

pub struct Shared {
    pub state: Mutex<State>,
    /// Counts what may interest those who watch.
    bell: watch::Sender<u64>,
}

#[derive(Default)]
pub struct State {
    pub store: Store,
    pub faults: Faults,
    /// Method and path with query of every request.
    pub requests: Vec<String>,
    /// Events that were written.
    pub events: Vec<Value>,
    /// Watches from before are cut.
    pub generation: u64,
    pub open_watches: usize,
}

impl State {
    /// Cuts all watches.
    pub fn cut(&mut self) {
        self.generation += 1;
    }

    pub fn count(&self, part: &str) -> usize {
        self.requests.iter().filter(|request| request.contains(part)).count()
    }
}

impl Api {
    /// A server that holds this node and nothing else.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), bell: watch::Sender::default() });
        let running = Some(serve(listener, Arc::clone(&shared)));
        let api = Self { address, shared, running };
        api.change(|state| state.store.put(NODES, crate::store::node("node-1", "192.0.2.1")));
        api
    }

    /// Drops every connection and takes no more.
    pub fn stop(&mut self) {
        self.running.take().expect("it runs").stop();
    }

    /// Takes connections again.
    pub fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.state().open_watches = 0;
        self.running = Some(serve(listener, Arc::clone(&self.shared)));
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Changes something, and lets those who watch see it.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.shared.bell.send_modify(|count| *count += 1);
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

/// A server on a thread of its own; with it end its connections.
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
    let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(&method, &uri, &headers, &body) }
    };
    let serving = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::select! {
            ended = axum::serve(listener, Router::new().fallback(answer)) => ended.unwrap(),
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
    revision: u64,
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
                "timeoutSeconds" => query.seconds = value.parse().unwrap(),
                "limit" => query.limit = value.parse().unwrap(),
                "continue" => query.from = value.parse().unwrap(),
                "allowWatchBookmarks" => assert_eq!(value, "true"),
                other => panic!("nobody should ask for {other}"),
            }
        }
        let path: Vec<&str> = uri.path().split('/').collect();
        let namespace = path.iter().position(|word| *word == "namespaces");
        query.selector.namespace = namespace.map(|at| path[at + 1].to_owned());
        query
    }
}

impl Shared {
    fn answer(
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
            return refuse(refusal.status, "told to refuse", refusal.retry_after);
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
        let watching = Watching {
            bell: self.bell.subscribe(),
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
        let objects = self.store.objects(resource, &query.selector);
        let end = objects.len().min(query.from.saturating_add(query.limit));
        let mut metadata = json!({"resourceVersion": self.store.revision.to_string()});
        if end < objects.len() {
            metadata["continue"] = json!(end.to_string());
        }
        // Kind and version stand at the list alone.
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
        Response::new(Body::from(list.to_string()))
    }
}

fn resource(uri: &Uri) -> Resource {
    match uri.path() {
        "/api/v1/services" | "/api/v1/namespaces/default/services" => SERVICES,
        "/apis/discovery.k8s.io/v1/endpointslices" => SLICES,
        "/api/v1/nodes" => NODES,
        "/apis/networking.k8s.io/v1/servicecidrs" => RANGES,
        other => panic!("nobody should ask for {other}"),
    }
}

/// As the API server refuses; where it is overloaded, in plain text.
fn refuse(status: u16, message: &str, retry_after: Option<u32>) -> Response<Body> {
    let mut answer = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        answer = answer.header("retry-after", seconds);
        return answer.body(Body::from(message.to_owned())).unwrap();
    }
    let told = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "", "code": status,
    });
    answer.body(Body::from(told.to_string())).unwrap()
}
