//! Both servers over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::model::Node;
use crate::observe::http_server::Server;
use crate::observe::observer::Observer;
use crate::observe::observer::tests::{Maps, expect_lines, observer, reading, scraped};
use crate::observe::tables::Tables;

/// How long anything here may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// An HTTP response.
struct Received {
    status: u16,
    headers: String,
    body: String,
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends a request once the server listens.
async fn get(address: SocketAddr, path: &'static str) -> Received {
    request(address, "GET", path).await
}

async fn request(address: SocketAddr, method: &'static str, path: &'static str) -> Received {
    let blocking = spawn_blocking(move || {
        let started = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(error) => assert!(started.elapsed() < DEADLINE, "{address}: {error}"),
            }
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let text = blocking.await.unwrap();
    let (headers, body) = text.split_once("\r\n\r\n").unwrap();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Received { status, headers: headers.to_lowercase(), body: body.into() }
}

async fn serving(endpoints: impl Handler) -> SocketAddr {
    let address = free_address();
    Server::new("--test", address, endpoints).start(true).await.unwrap();
    address
}

fn health_of(observer: &Observer, now: fn() -> Moment) -> HealthEndpoints {
    HealthEndpoints::new(observer.health(), observer.metrics().clone(), now)
}

#[tokio::test]
async fn health_is_reported_as_kube_proxy_does() {
    let mut observer = observer();
    let address = serving(health_of(&observer, Moment::now)).await;

    assert_eq!(get(address, "/readyz").await.status, 503);
    let received = get(address, "/healthz").await;
    assert_eq!(received.status, 200);
    assert!(received.headers.contains("content-type: application/json"), "{}", received.headers);
    assert!(received.headers.contains("x-content-type-options: nosniff"), "{}", received.headers);
    assert_eq!(received.json()["nodeEligible"], json!(true));

    observer.applied(Moment::now());
    let received = get(address, "/readyz").await;
    assert_eq!((received.status, received.body.contains("programs are missing")), (503, true));
    observer.hooks(true, Moment::now());
    assert_eq!(get(address, "/readyz").await.status, 200);

    let mut node = Node { name: "n".into(), addresses: Vec::new(), zone: None, leaving: true };
    observer.node(Some(&node));
    let received = get(address, "/healthz").await;
    assert_eq!((received.status, &received.json()["healthy"]), (503, &json!(true)));
    assert_eq!(received.json()["nodeEligible"], json!(false));
    let received = get(address, "/livez").await;
    assert_eq!((received.status, received.json().get("nodeEligible")), (200, None));

    node.leaving = false;
    observer.node(Some(&node));
    assert_eq!(get(address, "/healthz").await.status, 200);
    assert_eq!(get(address, "/unknown").await.status, 404);
    assert_eq!(request(address, "POST", "/healthz").await.status, 405);
    expect_lines(
        &scraped(&observer, reading()),
        &[
            "kubeproxy_proxy_healthz_total{code=\"200\"} 2",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
            "kubeproxy_proxy_livez_total{code=\"200\"} 1",
        ],
    );
}

#[tokio::test]
async fn an_agent_that_does_not_keep_up_is_unhealthy_on_both() {
    fn late() -> Moment {
        let now = Moment::now();
        Moment { instant: now.instant + Duration::from_secs(61), ..now }
    }
    let observer = observer();
    observer.behind(Moment::now());
    let address = serving(health_of(&observer, late)).await;
    for path in ["/healthz", "/livez"] {
        let received = get(address, path).await;
        assert_eq!((received.status, &received.json()["healthy"]), (503, &json!(false)));
    }
}

#[tokio::test]
async fn metrics_mode_and_settings_are_where_kube_proxy_has_them() {
    let observer = observer();
    let mut registry = observer.metrics().registry();
    let tables = Tables::new(Maps(reading()), observer.metrics().read_failures.clone());
    registry.register_collector(Box::new(tables));
    let address = serving(MetricsEndpoints::new(registry, &json!({"weir": {"xdp": "auto"}}))).await;

    let received = get(address, "/metrics").await;
    assert!(
        received.headers.contains("content-type: text/plain; version=0.0.4"),
        "{}",
        received.headers
    );
    expect_lines(
        &received.body,
        &[
            "weir_packets_total{outcome=\"dropped-conntrack-full\"} 3",
            "weir_map_entries{map=\"BACKENDS_V4\"} 2",
            "weir_map_capacity{map=\"BACKENDS_V4\"} 10",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"} 2",
            "weir_service_packets_total{namespace=\"default\",service=\"web\"} 10",
        ],
    );
    let mode = get(address, "/proxyMode").await;
    assert_eq!((mode.status, mode.body.as_str()), (200, "weir"));
    assert!(mode.headers.contains("content-type: text/plain"), "{}", mode.headers);
    assert_eq!(get(address, "/healthz").await.body, "ok");
    assert_eq!(get(address, "/configz").await.json(), json!({"weir": {"xdp": "auto"}}));
}

#[tokio::test]
async fn an_address_that_is_taken_is_served_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let observer = observer();
    let server = |endpoints| {
        Server::new("--healthz-bind-address", address, endpoints)
            .retrying_every(Duration::from_millis(5))
    };
    let endpoints = || health_of(&observer, Moment::now);
    let error = server(endpoints()).start(true).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    assert!(error.contains("kube-proxy") && error.contains("--healthz-bind-address"), "{error}");

    server(endpoints()).start(false).await.unwrap();
    drop(taken);
    assert_eq!(get(address, "/livez").await.status, 200);
}

/// Clients that connect and do nothing, and clients that never end a request.
#[tokio::test]
async fn five_thousand_idle_and_slow_connections_keep_nobody_out() {
    const CONNECTIONS: usize = 5000;
    let observer = observer();
    let address = serving(health_of(&observer, Moment::now)).await;
    assert_eq!(get(address, "/healthz").await.status, 200);
    let held = spawn_blocking(move || {
        let connect = |number| {
            let mut stream = TcpStream::connect(address).unwrap();
            if number % 2 == 1 {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: no").unwrap();
            }
            stream
        };
        (0..CONNECTIONS).map(connect).collect::<Vec<_>>()
    })
    .await
    .unwrap();
    let started = Instant::now();
    assert_eq!(get(address, "/healthz").await.status, 200);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "health takes {took:?}");
    // All but as many as there may be are closed.
    let is_open = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open = held.iter().filter(|stream| is_open(stream)).count();
    assert!(open <= 128, "{open} are open");
}
