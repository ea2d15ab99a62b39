//! The observer, and both servers over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use axum::Router;
use lb_common::address::Family;
use lb_common::backend::{BackendId, Traffic};
use lb_common::outcome::Outcome;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::*;
use crate::maps::conntrack_gc::Fill;
use crate::model::EndpointSlice;

/// How long anything here may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Maps(Reading);

impl Reader for Maps {
    fn read(&self) -> Result<Reading, MapError> {
        Ok(self.0.clone())
    }
}

fn backend(id: u32, generation: u32, packets: u64) -> BackendTraffic {
    BackendTraffic {
        id: (Family::V4, BackendId(id)),
        generation,
        service: Name::new("default", "web"),
        traffic: Traffic { packets, ..Traffic::default() },
    }
}

fn reading() -> Reading {
    Reading {
        packets: Outcome::ALL.iter().map(|outcome| (*outcome, 3)).collect(),
        fill: vec![Fill { map: "BACKENDS_V4", entries: 2, capacity: 10 }],
        no_local: NoLocal { internal: 1, external: 2 },
        backends: vec![backend(1, 1, 10)],
    }
}

fn slice(triggered: Option<Duration>) -> Change {
    Change::Slice(EndpointSlice {
        name: Name::new("default", "web-1"),
        service: Name::new("default", "web"),
        family: Family::V4,
        headless: false,
        ports: Vec::new(),
        endpoints: Vec::new(),
        triggered,
    })
}

fn observer() -> Observer {
    Observer::new(Health::new(Duration::from_secs(60), false), Moment::now())
}

/// The text that a scrape gets.
fn scraped(observer: &Observer, maps: Reading) -> String {
    let mut registry = observer.metrics().registry();
    let tables = Tables::new(Maps(maps), observer.metrics().read_failures.clone());
    registry.register_collector(Box::new(tables));
    exposition(&registry, "").unwrap().1
}

#[track_caller]
fn expect_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no line {line} in\n{text}");
    }
}

#[test]
fn changes_are_pending_until_a_plan_is_in_the_kernel() {
    let mut observer = observer();
    let now = Moment::now();
    observer.changed(&slice(None), now);
    observer.changed(&slice(None), now);
    observer.changed(&Change::ServiceGone(Name::new("default", "web")), now);
    expect_lines(
        &scraped(&observer, reading()),
        &[
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 1",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
            "kubeproxy_sync_proxy_rules_service_changes_pending 1",
            "weir_ready 0",
        ],
    );
    observer.applied(now);
    expect_lines(
        &scraped(&observer, reading()),
        &[
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "weir_ready 1",
        ],
    );
}

#[test]
fn the_way_into_the_kernel_is_timed_from_the_clusters_change_and_only_once() {
    let mut observer = observer();
    let start = Moment::now();
    let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap();
    // Before the agent watched; then two seconds before the plan was in the kernel.
    let later = start.time + Duration::from_secs(10);
    observer.changed(&slice(Some(since_1970(start.time) - Duration::from_secs(100))), start);
    observer.changed(&slice(Some(since_1970(later))), start);
    for _ in 0..2 {
        let time = later + Duration::from_millis(1500);
        observer.applied(Moment { time, ..start });
    }
    let histogram = "kubeproxy_network_programming_duration_seconds";
    expect_lines(
        &scraped(&observer, reading()),
        &[
            &format!("{histogram}_count 1"),
            &format!("{histogram}_bucket{{le=\"1.0\"}} 0"),
            &format!("{histogram}_bucket{{le=\"2.0\"}} 1"),
        ],
    );
}

#[test]
fn a_services_counts_do_not_fall_when_a_backend_goes_or_its_id_is_given_out_anew() {
    let observer = observer();
    let maps = std::sync::Arc::new(std::sync::Mutex::new(Reading::default()));
    #[derive(Debug)]
    struct Changing(std::sync::Arc<std::sync::Mutex<Reading>>);
    impl Reader for Changing {
        fn read(&self) -> Result<Reading, MapError> {
            Ok(self.0.lock().unwrap().clone())
        }
    }
    let mut registry = observer.metrics().registry();
    let failures = observer.metrics().read_failures.clone();
    registry.register_collector(Box::new(Tables::new(Changing(maps.clone()), failures)));
    let expect = |backends: Vec<BackendTraffic>, packets: Option<u64>| {
        maps.lock().unwrap().backends = backends;
        let text = exposition(&registry, "").unwrap().1;
        let series = "weir_service_packets_total{namespace=\"default\",service=\"web\"}";
        let found = text.lines().find_map(|line| line.strip_prefix(series));
        assert_eq!(found.map(|value| value.trim().parse().unwrap()), packets, "{text}");
    };
    expect(vec![backend(1, 1, 0)], None);
    expect(vec![backend(1, 1, 10), backend(2, 1, 5)], Some(15));
    expect(vec![backend(2, 1, 6)], Some(16));
    expect(vec![backend(1, 2, 3), backend(2, 1, 6)], Some(19));
    expect(vec![], None);
}

#[test]
fn a_map_that_cannot_be_read_is_counted_and_costs_the_scrape_nothing_else() {
    #[derive(Debug)]
    struct Broken;
    impl Reader for Broken {
        fn read(&self) -> Result<Reading, MapError> {
            let cause = std::io::Error::from_raw_os_error(libc::EPERM);
            Err(MapError::Refused { map: "SLOTS", operation: "read", cause })
        }
    }
    let observer = observer();
    let mut registry = observer.metrics().registry();
    let failures = observer.metrics().read_failures.clone();
    registry.register_collector(Box::new(Tables::new(Broken, failures)));
    exposition(&registry, "").unwrap();
    let text = exposition(&registry, "").unwrap().1;
    let failures: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("weir_map_read_failures_total "))
        .unwrap()
        .parse()
        .unwrap();
    assert!(failures >= 1, "{text}");
}

#[test]
fn events_are_counted_by_what_became_of_them() {
    let observer = observer();
    for total in [2, 2, 5] {
        observer.metrics().events("failed", total);
    }
    let text = scraped(&observer, reading());
    assert!(text.contains("\nweir_kubernetes_events_total{result=\"failed\"} 5\n"), "{text}");
}

/// docs/metrics.md has a row `| name | type | ...` for each family.
#[test]
fn the_page_of_metrics_lists_what_there_is_and_nothing_else() {
    let observer = observer();
    // A family has no line of its own before its first series.
    observer.metrics().healthz(200);
    observer.metrics().livez(200);
    observer.metrics().write_failed("SLOTS");
    observer.metrics().events("written", 1);
    let tables = vec![Fill { map: "CONNTRACK_V4", entries: 2, capacity: 10 }];
    observer.gc_finished(&Sweep { tables, ..Sweep::default() });
    let text = scraped(&observer, reading());
    let there: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|rest| rest.split_once(' ').unwrap())
        .collect();
    let page = include_str!("../../../docs/metrics.md");
    let listed: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split_once("` | "))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap()))
        .filter(|(name, _)| !name.starts_with('/'))
        .collect();
    let missing: Vec<_> = there.difference(&listed).collect();
    let surplus: Vec<_> = listed.difference(&there).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "add to docs/metrics.md: {missing:?}; remove from it: {surplus:?}"
    );
}

/// An HTTP answer.
struct Heard {
    status: u16,
    headers: String,
    body: String,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Asks until somebody answers.
async fn ask(address: SocketAddr, path: &'static str) -> Heard {
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
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let text = blocking.await.unwrap();
    let (headers, body) = text.split_once("\r\n\r\n").unwrap();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Heard { status, headers: headers.to_lowercase(), body: body.into() }
}

async fn serving(routes: Router) -> SocketAddr {
    let address = free_address();
    Server::new("--test", address, routes).start(true).await.unwrap();
    address
}

fn health_of(observer: &Observer, now: fn() -> Moment) -> Router {
    health_routes(observer.health(), observer.metrics().clone(), now)
}

#[tokio::test]
async fn health_is_answered_as_kube_proxy_does() {
    let mut observer = observer();
    let address = serving(health_of(&observer, Moment::now)).await;

    assert_eq!(ask(address, "/readyz").await.status, 503);
    let heard = ask(address, "/healthz").await;
    assert_eq!(heard.status, 200);
    assert!(heard.headers.contains("content-type: application/json"), "{}", heard.headers);
    assert!(heard.headers.contains("x-content-type-options: nosniff"), "{}", heard.headers);
    assert_eq!(heard.json()["nodeEligible"], json!(true));

    observer.applied(Moment::now());
    assert_eq!(ask(address, "/readyz").await.status, 200);

    let mut node = Node { name: "n".into(), addresses: Vec::new(), zone: None, leaving: true };
    observer.node(Some(&node));
    let heard = ask(address, "/healthz").await;
    assert_eq!((heard.status, &heard.json()["healthy"]), (503, &json!(true)));
    assert_eq!(heard.json()["nodeEligible"], json!(false));
    let heard = ask(address, "/livez").await;
    assert_eq!((heard.status, heard.json().get("nodeEligible")), (200, None));

    node.leaving = false;
    observer.node(Some(&node));
    assert_eq!(ask(address, "/healthz").await.status, 200);
    assert_eq!(ask(address, "/elsewhere").await.status, 404);
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
        let heard = ask(address, path).await;
        assert_eq!((heard.status, &heard.json()["healthy"]), (503, &json!(false)));
    }
}

#[tokio::test]
async fn metrics_mode_and_settings_are_where_kube_proxy_has_them() {
    let observer = observer();
    let mut registry = observer.metrics().registry();
    let tables = Tables::new(Maps(reading()), observer.metrics().read_failures.clone());
    registry.register_collector(Box::new(tables));
    let address = serving(metrics_routes(registry, json!({"weir": {"xdp": "auto"}}))).await;

    let heard = ask(address, "/metrics").await;
    assert!(heard.headers.contains("content-type: text/plain; version=0.0.4"), "{}", heard.headers);
    expect_lines(
        &heard.body,
        &[
            "weir_packets_total{outcome=\"dropped-conntrack-full\"} 3",
            "weir_map_entries{map=\"BACKENDS_V4\"} 2",
            "weir_map_capacity{map=\"BACKENDS_V4\"} 10",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"} 2",
            "weir_service_packets_total{namespace=\"default\",service=\"web\"} 10",
        ],
    );
    let mode = ask(address, "/proxyMode").await;
    assert_eq!((mode.status, mode.body.as_str()), (200, "weir"));
    assert!(mode.headers.contains("content-type: text/plain"), "{}", mode.headers);
    assert_eq!(ask(address, "/healthz").await.body, "ok");
    assert_eq!(ask(address, "/configz").await.json(), json!({"weir": {"xdp": "auto"}}));
}

#[tokio::test]
async fn an_address_that_is_taken_is_served_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let observer = observer();
    let server = |routes| {
        Server::new("--healthz-bind-address", address, routes)
            .retrying_every(Duration::from_millis(5))
    };
    let routes = || health_of(&observer, Moment::now);
    let error = server(routes()).start(true).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    assert!(error.contains("kube-proxy") && error.contains("--healthz-bind-address"), "{error}");

    server(routes()).start(false).await.unwrap();
    drop(taken);
    assert_eq!(ask(address, "/livez").await.status, 200);
}
