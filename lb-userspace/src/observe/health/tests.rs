use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);

struct Clock(Moment);

impl Clock {
    fn new() -> Self {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800);
        Self(Moment { instant: Instant::now(), time })
    }

    fn at(&self, seconds: u64) -> Moment {
        let since = Duration::from_secs(seconds);
        Moment { instant: self.0.instant + since, time: self.0.time + since }
    }
}

fn node(leaving: bool) -> Node {
    Node { name: "node-1".into(), addresses: Vec::new(), zone: None, leaving }
}

#[test]
fn it_is_healthy_before_the_first_plan_and_idle_for_ever() {
    let clock = Clock::new();
    let mut health = Health::new(TIMEOUT, false);
    assert!(health.healthz(clock.at(0)).is_ok && health.livez(clock.at(100_000)).is_ok);
    assert_eq!(health.ready(clock.at(0)), Err(NotReady::NoPlan));
    health.queued(clock.at(1));
    health.applied(clock.at(2));
    assert!(health.healthz(clock.at(100_000)).is_ok);
    assert_eq!(health.ready(clock.at(2)), Err(NotReady::NoHooks));
    health.hooks(true, clock.at(3));
    assert_eq!(health.ready(clock.at(3)), Ok(()));
}

#[test]
fn missing_programs_are_forgiven_for_a_while_by_an_agent_that_was_ready() {
    let clock = Clock::new();
    let mut health = Health::new(TIMEOUT, false);
    health.applied(clock.at(1));
    health.hooks(false, clock.at(2));
    assert_eq!(health.ready(clock.at(3)), Err(NotReady::NoHooks));
    health.hooks(true, clock.at(4));
    health.hooks(false, clock.at(10));
    health.hooks(false, clock.at(30));
    assert_eq!(health.ready(clock.at(39)), Ok(()));
    assert_eq!(health.ready(clock.at(40)), Err(NotReady::NoHooks));
    health.hooks(true, clock.at(41));
    assert_eq!(health.ready(clock.at(41)), Ok(()));
    assert!(health.livez(clock.at(40)).is_ok, "a restart would not mend it");
}

#[test]
fn a_change_that_waits_too_long_makes_it_unhealthy_until_it_is_in_the_kernel() {
    let clock = Clock::new();
    let mut health = Health::new(TIMEOUT, false);
    health.applied(clock.at(5));
    health.queued(clock.at(10));
    health.queued(clock.at(60));
    assert!(health.livez(clock.at(69)).is_ok);
    let response = health.livez(clock.at(70));
    assert!(!response.is_ok && !response.report.healthy);
    assert_eq!(response.report.last_updated, "2026-01-31T12:00:05Z");
    assert_eq!(response.report.current_time, "2026-01-31T12:01:10Z");
    assert!(response.report.status.values().all(|family| !family.healthy));
    health.applied(clock.at(80));
    assert!(health.livez(clock.at(81)).is_ok);
}

#[test]
fn a_node_that_is_leaving_or_gone_gets_no_traffic_but_keeps_its_proxy() {
    let clock = Clock::new();
    let mut health = Health::new(TIMEOUT, true);
    let mut expect = |change: Option<Option<&Node>>, eligible: bool| {
        if let Some(node) = change {
            health.node(node);
        }
        let response = health.healthz(clock.at(1));
        assert_eq!(response.is_ok, eligible);
        assert_eq!(response.report.node_eligible, Some(eligible));
        assert!(response.report.healthy, "the node says nothing about the agent");
        assert!(health.livez(clock.at(1)).is_ok);
    };
    expect(None, false);
    expect(Some(Some(&node(false))), true);
    expect(Some(Some(&node(true))), false);
    expect(Some(Some(&node(false))), true);
    expect(Some(None), false);
}

#[test]
fn where_the_source_has_no_nodes_none_is_missed_until_one_was_there() {
    let clock = Clock::new();
    let mut health = Health::new(TIMEOUT, false);
    health.node(None);
    assert!(health.healthz(clock.at(1)).is_ok);
    health.node(Some(&node(false)));
    health.node(None);
    assert!(!health.healthz(clock.at(1)).is_ok);
}

#[test]
fn the_body_is_kube_proxys() {
    let clock = Clock::new();
    let mut health = Health::new(TIMEOUT, false);
    let body = |response: HealthResponse| serde_json::to_string(&response.report).unwrap();
    assert_eq!(
        body(health.livez(clock.at(0))),
        r#"{"lastUpdated":"2026-01-31T12:00:00Z","currentTime":"2026-01-31T12:00:00Z","healthy":true,"status":{}}"#
    );
    health.applied(clock.at(1));
    assert_eq!(
        body(health.healthz(clock.at(2))),
        concat!(
            r#"{"lastUpdated":"2026-01-31T12:00:02Z","currentTime":"2026-01-31T12:00:02Z","#,
            r#""nodeEligible":true,"healthy":true,"status":{"#,
            r#""IPv4":{"lastUpdated":"2026-01-31T12:00:01Z","healthy":true},"#,
            r#""IPv6":{"lastUpdated":"2026-01-31T12:00:01Z","healthy":true}}}"#
        )
    );
}

#[test]
fn what_was_never_in_the_kernel_has_kube_proxys_zero_time() {
    let clock = Clock::new();
    let mut health = Health::new(TIMEOUT, false);
    health.queued(clock.at(0));
    let response = health.livez(clock.at(60));
    assert!(!response.is_ok);
    assert_eq!(response.report.last_updated, NEVER);
}
