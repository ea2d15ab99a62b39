//! The HTTP server of health, metrics and health-check ports. It bounds what clients can take of the
//! agent: connections at a time, and how long one may wait for a request. Dropped, it closes every
//! connection: a client that kept one alive gets no more responses.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6V6Only;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// How long to wait for an address that is taken before it is tried again, as kube-proxy does.
const RETRY: Duration = Duration::from_secs(5);

/// How long a connection may take to send its next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections to one server at a time. Where one more comes, the oldest that has no request under way is closed: clients
/// that do nothing cannot keep others out, nor take the agent's file descriptors.
const MOST_CONNECTIONS: usize = 128;

/// A response with its whole body.
pub type Response = http::Response<Full<Bytes>>;

/// What a server does with requests.
pub trait Handler: Send + Sync + 'static {
    /// The response to a request, whose body does not matter.
    fn respond(&self, request: &Parts) -> impl Future<Output = Response> + Send;
}

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

/// A server at an address that a flag sets.
#[derive(Debug)]
pub struct Server<H> {
    flag: &'static str,
    address: SocketAddr,
    handler: H,
    retry: Duration,
}

impl<H: Handler> Server<H> {
    /// A server at `address`, which `flag` sets.
    #[must_use]
    pub const fn new(flag: &'static str, address: SocketAddr, handler: H) -> Self {
        Self { flag, address, handler, retry: RETRY }
    }

    /// The same with another time between tries.
    #[must_use]
    pub fn retrying_every(self, retry: Duration) -> Self {
        Self { retry, ..self }
    }

    /// Listens and starts to serve; where that fails, it is logged once and tried again until it does
    /// not. Ends with the runtime.
    ///
    /// # Errors
    /// With `must_bind`, [`BindError`] if the address cannot be listened on now.
    pub async fn start(self, must_bind: bool) -> Result<(), BindError> {
        match self.bind() {
            Ok(listener) => drop(tokio::spawn(self.serve(listener))),
            Err(error) if must_bind => return Err(error),
            Err(error) => {
                warn!("{error}; it is tried again every {} s", self.retry.as_secs());
                drop(tokio::spawn(self.retry_bind()));
            }
        }
        Ok(())
    }

    fn bind(&self) -> Result<TcpListener, BindError> {
        listen(self.address, false).map_err(|cause| BindError {
            flag: self.flag,
            address: self.address,
            cause,
        })
    }

    async fn retry_bind(self) {
        loop {
            sleep(self.retry).await;
            if let Ok(listener) = self.bind() {
                return self.serve(listener).await;
            }
        }
    }

    async fn serve(self, listener: TcpListener) {
        info!("{}: listening on {}", self.flag, self.address);
        serve(listener, Arc::new(self.handler)).await;
    }
}

/// Listens, with room for a burst of connections: what finds none is tried again by its client after a second.
/// With `one_family` a server of IPv6 leaves IPv4 at its port to another.
pub(super) fn listen(address: SocketAddr, one_family: bool) -> io::Result<TcpListener> {
    const BACKLOG: u32 = 4096;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if one_family && address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections until it is dropped, and their tasks with it.
pub(super) async fn serve<H: Handler>(listener: TcpListener, handler: Arc<H>) {
    let mut tasks = JoinSet::new();
    let mut connections: VecDeque<Client> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if connections.len() == MOST_CONNECTIONS {
                        close_one(&mut connections);
                    }
                    let responds = Arc::default();
                    let conversation = converse(stream, Arc::clone(&handler), Arc::clone(&responds));
                    connections.push_back(Client { task: tasks.spawn(conversation), responds });
                }
                Err(error) => {
                    // Out of file descriptors, say, of which none becomes free by trying on.
                    debug!("no connection accepted: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(ended) = tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                connections.retain(|connection| connection.task.id() != id);
            }
        }
    }
}

/// A client that is connected.
struct Client {
    task: AbortHandle,
    /// Whether a request is under way.
    responds: Arc<AtomicBool>,
}

/// Closes the oldest connection that has no request under way, or the oldest one.
fn close_one(connections: &mut VecDeque<Client>) {
    let is_idle = |connection: &Client| !connection.responds.load(Ordering::Relaxed);
    let index = connections.iter().position(is_idle).unwrap_or(0);
    if let Some(connection) = connections.remove(index) {
        connection.task.abort();
    }
}

async fn converse<H: Handler>(stream: TcpStream, handler: Arc<H>, responds: Arc<AtomicBool>) {
    let respond = service_fn(async |request: hyper::Request<Incoming>| {
        let (request, _) = request.into_parts();
        responds.store(true, Ordering::Relaxed);
        let response = handler.respond(&request).await;
        responds.store(false, Ordering::Relaxed);
        Ok::<_, Infallible>(response)
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    if let Err(error) = connection.serve_connection(TokioIo::new(stream), respond).await {
        debug!("a connection ended: {error}");
    }
}

/// Whether a request only reads.
pub(super) fn is_read(request: &Parts) -> bool {
    request.method == Method::GET || request.method == Method::HEAD
}

/// A response of this status, content type and body.
pub(super) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A response of plain text.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    response(status, "text/plain; charset=utf-8", body)
}

/// No such path.
pub(super) fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "not found\n")
}

/// The path can only be read.
pub(super) fn read_only() -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}
