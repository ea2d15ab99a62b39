//! The state of this node in a few lines: the agent, how much is in the maps, the outcomes of packets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use comfy_table::Table;
use lb_common::outcome::Outcome;
use serde::Serialize;

use super::maps::MapSize;
use super::snapshot::Snapshot;
use crate::agent::status::{Status as AgentStatus, WarningText};
use crate::cli::output::{Report, table};

/// The state of this node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Status {
    /// Whether an agent runs.
    running: bool,
    /// The agent that runs, or the one that last did.
    agent: Option<Agent>,
    /// Service ports.
    services: u64,
    /// Frontends of both families.
    frontends: u64,
    /// Backends of both families, including those that drain.
    backends: u64,
    /// Flows in conntrack, by family.
    conntrack: BTreeMap<&'static str, Conntrack>,
    /// Outcomes of packets, since the maps were made.
    outcomes: Vec<OutcomeCount>,
    /// Warnings about objects, as the agent last published them.
    warnings: Vec<WarningText>,
    /// Errors of this node, as the agent last published them.
    errors: Vec<String>,
}

/// The agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Agent {
    process: u32,
    /// Seconds since 1970.
    started: u64,
    version: String,
    node: String,
    ready: bool,
    /// `tcx` or `clsact`
    tc: String,
    /// `host`, `all` or `off`
    socket_balancing: String,
    /// The cgroup whose processes' sockets are balanced.
    cgroup: Option<PathBuf>,
}

/// The flows of one family.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Conntrack {
    /// Flows in the table of established ones.
    established: u64,
    /// Flows it can hold.
    capacity: u64,
    /// Flows in the table of half-open ones.
    half_open: u64,
}

/// The packets of one outcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OutcomeCount {
    outcome: &'static str,
    packets: u64,
    sentence: &'static str,
}

impl Status {
    /// The status that `snapshot`, the maps' `sizes` and the counted `outcomes` add up to.
    pub fn of(
        snapshot: &Snapshot,
        sizes: &BTreeMap<&'static str, MapSize>,
        outcomes: &[(Outcome, u64)],
    ) -> Self {
        let Snapshot { contents, status, is_running, .. } = snapshot;
        let published = status.clone().unwrap_or_default();
        Self {
            running: *is_running,
            agent: status.as_ref().map(Agent::of),
            services: contents.services.len() as u64,
            frontends: (contents.v4.frontends.len() + contents.v6.frontends.len()) as u64,
            backends: (contents.v4.backends.len() + contents.v6.backends.len()) as u64,
            conntrack: BTreeMap::from([
                ("IPv4", Conntrack::of(snapshot, sizes, ["CONNTRACK_V4", "HALF_OPEN_V4"])),
                ("IPv6", Conntrack::of(snapshot, sizes, ["CONNTRACK_V6", "HALF_OPEN_V6"])),
            ]),
            outcomes: outcomes.iter().map(OutcomeCount::of).collect(),
            warnings: published.warnings,
            errors: published.errors,
        }
    }

    fn agent_line(&self) -> [String; 3] {
        let Some(agent) = &self.agent else {
            return ["agent".into(), "none".into(), "start `weir run`".into()];
        };
        let Agent { process, version, node, tc, .. } = agent;
        let about = format!("version {version}, node {node}, {tc}");
        let (state, about) = match (self.running, agent.ready) {
            (true, true) => ("ready", format!("process {process}, {about}")),
            (true, false) => ("starting", format!("process {process}, {about}")),
            (false, _) => {
                ("stopped", format!("traffic goes on, changes are not applied; was {about}"))
            }
        };
        ["agent".into(), state.into(), about]
    }
}

impl Agent {
    fn sockets_line(&self) -> [String; 3] {
        let about = match &self.cgroup {
            Some(cgroup) => format!("backend at connect and sendmsg, cgroup {}", cgroup.display()),
            None => "not balanced: processes of the node reach no Service".into(),
        };
        ["sockets".into(), self.socket_balancing.clone(), about]
    }

    fn of(published: &AgentStatus) -> Self {
        Self {
            process: published.process,
            started: published.started,
            version: published.version.clone(),
            node: published.node.clone(),
            ready: published.ready,
            tc: published.tc.clone(),
            socket_balancing: published.socket_balancing.clone(),
            cgroup: published.cgroup.clone(),
        }
    }
}

impl Conntrack {
    fn of(
        snapshot: &Snapshot,
        sizes: &BTreeMap<&'static str, MapSize>,
        [established, half_open]: [&str; 2],
    ) -> Self {
        // A flow has two entries.
        let flows =
            |name| snapshot.flows.entries.get(name).copied().unwrap_or_default().div_ceil(2);
        let capacity = sizes.get(established).map_or(0, |size| size.capacity);
        Self {
            established: flows(established),
            capacity: u64::from(capacity / 2),
            half_open: flows(half_open),
        }
    }
}

impl OutcomeCount {
    fn of((outcome, packets): &(Outcome, u64)) -> Self {
        Self { outcome: outcome.name(), packets: *packets, sentence: outcome.sentence() }
    }
}

impl Report for Status {
    /// Outcomes that no packet had are shown in the wide form alone.
    fn table(&self, wide: bool) -> Table {
        let mut rows = vec![self.agent_line()];
        rows.extend(self.agent.iter().map(Agent::sockets_line));
        let counts = [
            ("services", self.services),
            ("frontends", self.frontends),
            ("backends", self.backends),
        ];
        rows.extend(counts.map(|(name, count)| [name.into(), count.to_string(), String::new()]));
        for (family, conntrack) in &self.conntrack {
            let Conntrack { established, capacity, half_open } = conntrack;
            rows.push([
                format!("conntrack {family}"),
                established.to_string(),
                format!("flows established, of {capacity}; {half_open} half-open"),
            ]);
        }
        let shown = self.outcomes.iter().filter(|count| wide || count.packets > 0);
        rows.extend(shown.map(|OutcomeCount { outcome, packets, sentence }| {
            [(*outcome).into(), packets.to_string(), (*sentence).into()]
        }));
        table(&["WHAT", "STATE", "MEANING"], rows)
    }

    fn notes(&self, _: bool) -> Vec<String> {
        let errors = self.errors.iter().map(|error| format!("error: {error}"));
        let warning =
            |warning: &WarningText| format!("warning: {}: {}", warning.about, warning.text);
        errors.chain(self.warnings.iter().map(warning)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{json, trimmed};

    fn sample(snapshot: &Snapshot) -> Status {
        let sizes = [("CONNTRACK_V4", MapSize { capacity: 64, memory: None })].into();
        let outcomes = [(Outcome::Forwarded, 50), (Outcome::RejectedNoEndpoint, 0)];
        Status::of(snapshot, &sizes, &outcomes)
    }

    #[test]
    fn the_status_has_agent_counts_and_outcomes() {
        let status = sample(&Snapshot::sample());
        let notes = status.notes(false).join("\n");
        insta::assert_snapshot!(format!("{}{notes}", trimmed(&status.table(false))));
        assert!(status.table(true).to_string().contains("rejected-no-endpoint"));
    }

    #[test]
    fn the_fields_of_the_status_are_these() {
        insta::assert_snapshot!(json(&sample(&Snapshot::sample())).unwrap());
    }

    #[test]
    fn an_agent_that_has_ended_is_shown_as_stopped() {
        let stopped = Snapshot { is_running: false, ..Snapshot::sample() };
        assert_eq!(sample(&stopped).agent_line()[1], "stopped");
        let never = Snapshot { status: None, ..stopped };
        assert_eq!(sample(&never).agent_line()[1], "none");
    }
}
