//! Whether the agent keeps up, and whether this node is to get traffic from outside: the state
//! behind `/healthz`, `/livez` and `/readyz`, with kube-proxy's meaning (KEP-3836). It reads no
//! clock; the caller says what time it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::model::Node;

/// A point in time, by the clock that never jumps and by the one on the wall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// For durations.
    pub instant: Instant,
    /// For people.
    pub time: SystemTime,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }
}

/// The health of the agent and of its node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    timeout: Duration,
    /// Since when something is known that is not in the kernel.
    behind_since: Option<Instant>,
    /// When a plan last got into the kernel as a whole.
    applied: Option<SystemTime>,
    node: NodeState,
    is_ready: bool,
}

/// This node's own Node object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NodeState {
    /// Not seen yet, and the source may have none.
    Optional,
    /// It exists.
    Known {
        /// It is going away.
        leaving: bool,
    },
    /// It does not exist, or not any more.
    Absent,
}

/// What a health endpoint responds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthResponse {
    /// 200 rather than 503.
    pub is_ok: bool,
    /// The body.
    pub report: Report,
}

/// The body of `/healthz` and `/livez`; times as RFC 3339.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Now if all is well, else when a plan last got into the kernel.
    pub last_updated: String,
    /// Now.
    pub current_time: String,
    /// Whether this node is to get traffic from outside; `/livez` does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_eligible: Option<bool>,
    /// Whether the agent keeps up, whatever becomes of the node.
    pub healthy: bool,
    /// The same by address family, once a plan got into the kernel. Both families are written
    /// together, so they never differ.
    pub status: BTreeMap<&'static str, FamilyReport>,
}

/// The health of an address family.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyReport {
    /// When a plan last got into the kernel.
    pub last_updated: String,
    /// Whether the agent keeps up.
    pub healthy: bool,
}

/// What kube-proxy says for "never": Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Health {
    /// At the start: healthy, for nothing is late yet. A change that waits `timeout` for the kernel
    /// makes it unhealthy. With `needs_node` this node is to get traffic from outside only once its
    /// Node object is known; without, also while there is none, as in manifests without Nodes.
    #[must_use]
    pub const fn new(timeout: Duration, needs_node: bool) -> Self {
        let node = if needs_node { NodeState::Absent } else { NodeState::Optional };
        Self { timeout, behind_since: None, applied: None, node, is_ready: false }
    }

    /// Something is known that is not in the kernel; the first such moment counts.
    pub fn queued(&mut self, now: Moment) {
        self.behind_since.get_or_insert(now.instant);
    }

    /// A plan is in the kernel.
    pub const fn applied(&mut self, now: Moment) {
        self.behind_since = None;
        self.applied = Some(now.time);
        self.is_ready = true;
    }

    /// This node's Node object is now so.
    pub const fn node(&mut self, node: Option<&Node>) {
        self.node = match (node, self.node) {
            (Some(node), _) => NodeState::Known { leaving: node.leaving },
            (None, NodeState::Optional) => NodeState::Optional,
            (None, NodeState::Known { .. } | NodeState::Absent) => NodeState::Absent,
        };
    }

    /// Whether the first complete plan is in the kernel.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// For load balancers: whether traffic from outside is to come in here.
    #[must_use]
    pub fn healthz(&self, now: Moment) -> HealthResponse {
        let eligible = match self.node {
            NodeState::Optional => true,
            NodeState::Known { leaving } => !leaving,
            NodeState::Absent => false,
        };
        self.response(now, Some(eligible))
    }

    /// For the livenessProbe: whether the agent keeps up. A node that is going away is no reason
    /// to kill the proxy that still serves its last connections.
    #[must_use]
    pub fn livez(&self, now: Moment) -> HealthResponse {
        self.response(now, None)
    }

    /// Whether the agent keeps up: no change has waited too long for the kernel.
    #[must_use]
    pub fn keeps_up(&self, now: Moment) -> bool {
        let late = |since| now.instant.saturating_duration_since(since) >= self.timeout;
        !self.behind_since.is_some_and(late)
    }

    fn response(&self, now: Moment, node_eligible: Option<bool>) -> HealthResponse {
        let healthy = self.keeps_up(now);
        let is_ok = healthy && node_eligible.unwrap_or(true);
        let applied = self.applied.map_or_else(|| NEVER.to_owned(), rfc3339);
        let current_time = rfc3339(now.time);
        let family = FamilyReport { last_updated: applied.clone(), healthy };
        let families = self.applied.map(|_| [("IPv4", family.clone()), ("IPv6", family)]);
        let report = Report {
            last_updated: if is_ok { current_time.clone() } else { applied },
            current_time,
            node_eligible,
            healthy,
            status: families.into_iter().flatten().collect(),
        };
        HealthResponse { is_ok, report }
    }
}

/// A time of before 1970 or after 9999 is that of a clock that was never set.
fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| NEVER.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
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
        assert!(!health.is_ready());
        health.queued(clock.at(1));
        health.applied(clock.at(2));
        assert!(health.healthz(clock.at(100_000)).is_ok);
        assert!(health.is_ready());
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
        assert!(health.livez(clock.at(81)).is_ok && health.is_ready());
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
}
