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
    is_planned: bool,
    hooks: Hooks,
}

/// How long programs may be missing somewhere before an agent that was ready is not any more: devices come and go, and
/// what fails is tried again.
pub const GRACE: Duration = Duration::from_secs(30);

/// Whether the programs are attached wherever they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hooks {
    /// Never yet.
    NotYet,
    /// They are.
    Attached,
    /// Not any more, since then.
    MissingSince(Instant),
}

/// Why an agent is not ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotReady {
    /// The first complete plan is not in the kernel.
    NoPlan,
    /// Programs are missing.
    NoHooks,
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
        Self {
            timeout,
            behind_since: None,
            applied: None,
            node,
            is_planned: false,
            hooks: Hooks::NotYet,
        }
    }

    /// Something is known that is not in the kernel; the first such moment counts.
    pub fn queued(&mut self, now: Moment) {
        self.behind_since.get_or_insert(now.instant);
    }

    /// A plan is in the kernel.
    pub const fn applied(&mut self, now: Moment) {
        self.behind_since = None;
        self.applied = Some(now.time);
        self.is_planned = true;
    }

    /// This node's Node object is now so.
    pub const fn node(&mut self, node: Option<&Node>) {
        self.node = match (node, self.node) {
            (Some(node), _) => NodeState::Known { leaving: node.leaving },
            (None, NodeState::Optional) => NodeState::Optional,
            (None, NodeState::Known { .. } | NodeState::Absent) => NodeState::Absent,
        };
    }

    /// Whether every device with a role has its programs now, and the sockets' programs are where they should be.
    pub const fn hooks(&mut self, are_attached: bool, now: Moment) {
        self.hooks = match (are_attached, self.hooks) {
            (true, _) => Hooks::Attached,
            (false, Hooks::Attached) => Hooks::MissingSince(now.instant),
            (false, hooks) => hooks,
        };
    }

    /// Whether the first complete plan is in the kernel, and the programs are attached, or were less than [`GRACE`] ago.
    ///
    /// # Errors
    /// What is missing.
    pub fn ready(&self, now: Moment) -> Result<(), NotReady> {
        let in_grace = |since| now.instant.saturating_duration_since(since) < GRACE;
        match self.hooks {
            _ if !self.is_planned => Err(NotReady::NoPlan),
            Hooks::Attached => Ok(()),
            Hooks::MissingSince(since) if in_grace(since) => Ok(()),
            Hooks::NotYet | Hooks::MissingSince(_) => Err(NotReady::NoHooks),
        }
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
mod tests;
