//! The observer's metrics.

use lb_common::address::Family;
use lb_common::backend::{BackendId, Traffic};
use lb_common::outcome::Outcome;

use super::*;
use crate::maps::conntrack_gc::Fill;
use crate::model::EndpointSlice;
use crate::observe::exposition::exposition;
use crate::observe::tables::{BackendTraffic, NoLocal, Reader, Reading, Tables};

#[derive(Debug)]
pub struct Maps(pub Reading);

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

pub fn reading() -> Reading {
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

pub fn observer() -> Observer {
    Observer::new(Health::new(Duration::from_secs(60), false), Moment::now())
}

/// The text that a scrape gets.
pub fn scraped(observer: &Observer, maps: Reading) -> String {
    let mut registry = observer.metrics().registry();
    let tables = Tables::new(Maps(maps), observer.metrics().read_failures.clone());
    registry.register_collector(Box::new(tables));
    exposition(&registry, "").unwrap().1
}

#[track_caller]
pub fn expect_lines(text: &str, lines: &[&str]) {
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
    observer.hooks(true, now);
    assert!(observer.is_ready(now));
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
fn programming_the_kernel_is_timed_from_the_clusters_change_and_only_once() {
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
    observer.gc_finished(&GcRun { tables, ..GcRun::default() });
    let text = scraped(&observer, reading());
    let there: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|rest| rest.split_once(' ').unwrap())
        .collect();
    let page = include_str!("../../../../docs/metrics.md");
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
