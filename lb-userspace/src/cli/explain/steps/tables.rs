//! Steps that read the agent's tables.

use lb_common::address::{Address, Family, endpoint};
use lb_common::backend::{Backend, BackendId};
use lb_common::filter::Position;
use lb_common::service::{EmptyPoolReason, Frontend, FrontendRow, IpPolicy};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;

use super::recorder::{Step, Steps};
use crate::cli::explain::node::NodeView;

impl<N: NodeView> Steps<'_, N> {
    pub(super) fn frontend<A: Address>(
        &self,
        frontend: &Frontend<A>,
        row: Option<&FrontendRow>,
    ) -> Step {
        let step = format!("frontend {frontend}");
        let Some(row) = row else {
            return Step::new(step, "none", format!("{frontend} is no frontend"));
        };
        let (service, pool) = (self.service(row.service), row.pool(self.class));
        let gets = match pool.empty_reason() {
            None => format!("a pool of {} slots from {}", pool.length, pool.base),
            Some(EmptyPoolReason::NoEndpoint) => "no endpoint".into(),
            Some(EmptyPoolReason::NoLocalEndpoint) => "no local endpoint".into(),
        };
        let detail = format!(
            "{frontend} is a frontend of {service}; a sender of class {} gets {gets}",
            self.class
        );
        Step::new(step, format!("{service}, {gets}"), detail)
    }

    pub(super) fn source<A: Address>(&self, source: &SourceRange<A>, allowed: bool) -> Step {
        let is_in = if allowed { "is" } else { "is not" };
        let address = source.address;
        if source.service == SourceRange::<A>::CLUSTER {
            let detail = format!("{address} {is_in} within a service CIDR of the cluster");
            return Step::new(format!("service CIDRs {address}"), inside(allowed), detail);
        }
        let service = self.service(source.service);
        let detail = format!("{address} {is_in} within the source ranges of {service}");
        let result = if allowed { "allowed" } else { "not allowed" };
        Step::new(format!("source ranges {address}"), result, detail)
    }

    pub(super) fn slot(&self, index: u32, id: Option<BackendId>) -> Step {
        let result = id.map_or_else(|| "empty".into(), |id| format!("backend {id}"));
        let by = if self.is_call { "drawn for this call" } else { "by the tuple's hash" };
        let detail = format!("slot {index}, {by}: {result}");
        Step::new(format!("slot {index}"), result, detail)
    }

    pub(super) fn filter(&self, position: Position, matches: bool) -> Step {
        let known = self.positions.iter().find(|(known, _)| *known == position);
        let end = known.map_or("of another address", |(_, end)| end.as_str());
        let (result, may) = if matches { ("match", "may") } else { ("no match", "cannot") };
        let detail = format!("there {may} be a {end}, by the filter");
        Step::new(format!("filter {end}"), result, detail)
    }

    pub(super) fn settings(&self, family: Family, settings: &Settings) -> Step {
        let own = match family {
            Family::V4 => settings.own_v4.to_ip(),
            Family::V6 => settings.own_v6.to_ip(),
        };
        let own = if own.is_unspecified() { "none".into() } else { own.to_string() };
        let detail = format!("this node's address, the source of its processes, is {own}");
        Step::new("node address", own, detail)
    }
}

pub(super) fn ip_policy<A: Address>(address: &A, policy: Option<IpPolicy>) -> Step {
    let result = match policy {
        None => "none",
        Some(policy) if policy.rejects() => "cluster IP: other ports are rejected",
        Some(policy) if policy.replies_to_echo() => "Service address",
        Some(_) => "address of this node",
    };
    let detail = format!("the policy of {address}: {result}");
    Step::new(format!("address policy {address}"), result, detail)
}

pub(super) fn service_ranges<A: Address>(address: &A, is_in: bool) -> Step {
    let result = inside(is_in);
    let detail = format!("{address} is {result} the range of all cluster IPs and service CIDRs");
    Step::new(format!("service ranges {address}"), result, detail)
}

pub(super) fn backend<A: Address>(id: BackendId, row: Option<&Backend<A>>) -> Step {
    let result = row.map_or_else(|| "none: its row is free".into(), state_of);
    let detail = format!("backend {id} is {result}");
    Step::new(format!("backend {id}"), result, detail)
}

fn state_of<A: Address>(row: &Backend<A>) -> String {
    let at = endpoint(row.address.to_ip(), row.port);
    let reach = if row.is_local() { "local" } else { "remote" };
    let serving = if row.is_serving() { "serving" } else { "no longer serving" };
    format!("{at}/{}, {reach}, {serving}", row.protocol)
}

const fn inside(is_in: bool) -> &'static str {
    if is_in { "inside" } else { "outside" }
}
