//! The servers over real sockets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::*;

/// How long anything here may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// Servers, and what they read.
struct Fixture {
    servers: HealthCheckServers,
    health: watch::Sender<Health>,
    metrics: Metrics,
}

impl Fixture {
    fn new() -> Self {
        let health = watch::Sender::new(Health::new(Duration::from_secs(60), false));
        let metrics = Metrics::default();
        let servers =
            HealthCheckServers::new("node-1", health.subscribe(), metrics.clone(), Moment::now);
        Self { servers, health, metrics }
    }

    /// Lets them follow these, which can all be listened on.
    async fn follow(&mut self, wanted: &[(&str, SocketAddr, usize)]) {
        assert_eq!(self.servers.follow(&checks(wanted)).await, []);
        assert_eq!(self.metrics.health_checks.get(), wanted.len() as i64);
    }
}

/// Checks by name, address and number of endpoints.
fn checks(checks: &[(&str, SocketAddr, usize)]) -> HealthChecks {
    let check = |(name, address, count): &(&str, SocketAddr, usize)| {
        (HealthCheck { service: Name::new("default", *name), address: *address }, *count)
    };
    checks.iter().map(check).collect()
}

/// An address, and a listener there.
fn taken() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    (listener.local_addr().unwrap(), listener)
}

fn free() -> SocketAddr {
    taken().0
}

/// Head and body of the response to `request`.
async fn send(address: SocketAddr, request: &'static str) -> (String, String) {
    spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn the_response_is_kube_proxys_to_every_path_and_method() {
    let (mut fixture, address) = (Fixture::new(), free());
    fixture.follow(&[("web", address, 2)]).await;
    for request in ["GET /", "GET /healthz?a=b", "POST /any/thing", "DELETE *", "PATCH /"] {
        let (head, body) = send(address, request).await;
        assert!(head.starts_with("http/1.1 200 "), "{request}: {head}");
        for header in [
            "content-type: application/json",
            "x-content-type-options: nosniff",
            "x-load-balancing-endpoint-weight: 2",
        ] {
            assert!(head.lines().any(|line| line == header), "{request}: no {header} in {head}");
        }
        let expected = "{
\t\"service\": {
\t\t\"namespace\": \"default\",
\t\t\"name\": \"web\"
\t},
\t\"localEndpoints\": 2,
\t\"serviceProxyHealthy\": true
}";
        assert_eq!(body, expected, "{request}");
    }
    let (head, body) = send(address, "HEAD /").await;
    assert!(head.starts_with("http/1.1 200 ") && body.is_empty(), "{head} {body}");
}

#[tokio::test]
async fn without_local_endpoints_or_with_an_agent_that_is_late_it_is_503() {
    let (mut fixture, address) = (Fixture::new(), free());
    fixture.follow(&[("web", address, 0)]).await;
    let (head, body) = send(address, "GET /").await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(head.contains("x-load-balancing-endpoint-weight: 0"), "{head}");
    assert!(body.contains("\"localEndpoints\": 0"), "{body}");

    fixture.follow(&[("web", address, 1)]).await;
    assert!(send(address, "GET /").await.0.starts_with("http/1.1 200 "));

    let now = Moment::now();
    let long_ago = Moment { instant: now.instant - Duration::from_secs(60), ..now };
    fixture.health.send_modify(|health| health.queued(long_ago));
    let (head, body) = send(address, "GET /").await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(head.contains("x-load-balancing-endpoint-weight: 1"), "{head}");
    assert!(body.contains("\"serviceProxyHealthy\": false"), "{body}");
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_closed_with_every_connection_to_it() {
    let (mut fixture, address) = (Fixture::new(), free());
    fixture.follow(&[("web", address, 1)]).await;
    let (used, mut silent) = spawn_blocking(move || {
        let mut used = TcpStream::connect(address).unwrap();
        used.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(used, "GET / HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
        let mut first = [0; 15];
        used.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        let mut silent = TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(silent, "GET / HTTP/1.1\r\n").unwrap();
        (used, silent)
    })
    .await
    .unwrap();
    fixture.follow(&[]).await;
    spawn_blocking(move || {
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        // A request that was under way gets no response at all.
        let _: io::Result<_> = write!(silent, "Host: node\r\n\r\n");
        let mut text = Vec::new();
        let _: io::Result<_> = silent.read_to_end(&mut text);
        assert_eq!(text, b"");
        let mut rest = Vec::new();
        let mut used = used;
        let _: io::Result<_> = used.read_to_end(&mut rest);
        assert!(!rest.windows(4).any(|bytes| bytes == b"HTTP"), "a second response");
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_port_passes_from_one_service_to_another_at_once() {
    let (mut fixture, address) = (Fixture::new(), free());
    fixture.follow(&[("web", address, 1)]).await;
    fixture.follow(&[("another", address, 3)]).await;
    assert!(send(address, "GET /").await.1.contains("\"name\": \"another\""));
    assert_eq!(fixture.metrics.health_check_failures.get(), 0);
}

#[tokio::test]
async fn a_port_that_is_taken_is_warned_of_and_tried_until_it_is_free() {
    let (fixture, (address, listener), other) = (Fixture::new(), taken(), free());
    let (_wanted, follow) = watch::channel(checks(&[("other", other, 1), ("web", address, 1)]));
    let (sender, mut failures) = watch::channel(Vec::new());
    let servers = fixture.servers.retrying_every(Duration::from_millis(20));
    tokio::spawn(servers.run(follow, sender));
    let failed = timeout(DEADLINE, failures.wait_for(|warnings| !warnings.is_empty())).await;
    let warning = failed.unwrap().unwrap()[0].to_string();
    let start = format!("Service default/web: node node-1 cannot listen on {address} (");
    assert!(
        warning.starts_with(&start) && warning.contains("another healthCheckNodePort"),
        "{warning}"
    );
    assert!(send(other, "GET /").await.0.starts_with("http/1.1 200 "), "the other does not suffer");
    drop(listener);
    timeout(DEADLINE, failures.wait_for(Vec::is_empty)).await.unwrap().unwrap();
    assert!(send(address, "GET /").await.0.starts_with("http/1.1 200 "));
    assert!(fixture.metrics.health_check_failures.get() > 0);
}
