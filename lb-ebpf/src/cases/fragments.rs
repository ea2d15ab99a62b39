//! Packets in three fragments, of which the first alone has the ports.

use lb_common::address::Protocol;
use lb_common::fragment::FirstFragment;
use lb_common::outcome::Outcome;

use super::builder::{Addresses, CaseBuilder, Steps, kernel_releases_fragments, limit_is};
use super::case::Case;
use crate::world::RateLimit;

/// The same step with each fragment.
fn each(step: impl Fn(usize) -> Steps) -> Steps {
    (0..3).flat_map(step).collect()
}

impl CaseBuilder {
    /// The cases of this file.
    pub(super) fn fragments(self) -> Vec<Case> {
        if self.protocol == Protocol::SCTP {
            return Vec::new();
        }
        let mut cases = self.fragments_in_order();
        cases.extend(self.fragments_before_the_first());
        cases.extend(self.fragments_that_pass());
        cases
    }

    fn fragments_in_order(self) -> Vec<Case> {
        let Addresses { pod, client, frontend, backend, .. } = self.addresses();
        let Addresses { remote_frontend, remote_backend, snat_source, .. } = self.addresses();
        let (requests, replies) = (self.from_pod(pod), self.to_device(backend));
        let one_by_one = |n| {
            let ingress = self.from_pod(backend).sends_fragment(n, pod);
            let egress = replies.sends_fragment(n, pod);
            [ingress.passes(Outcome::PassedOtherHook), egress.is_replied_as(frontend)].concat()
        };
        vec![
            self.case("fragments follow their first one, in both directions").steps([
                requests.establishes(frontend, backend),
                each(|n| requests.sends_fragment(n, frontend).is_forwarded_to(backend)),
                each(|n| replies.sends_fragment(n, pod).is_replied_as(frontend)),
            ]),
            self.case("a reply's fragments are translated at egress, not at ingress")
                .steps([requests.establishes(frontend, backend), each(one_by_one)]),
            self.case("fragments to a remote backend leave with SNAT").step(each(|n| {
                let fragment = self.from_network(client).sends_fragment(n, remote_frontend);
                fragment.is_snat_to(snat_source, remote_backend)
            })),
        ]
    }

    fn fragments_before_the_first(self) -> Vec<Case> {
        let Addresses { pod, client, frontend, backend, .. } = self.addresses();
        let fragment = |n| self.from_pod(pod).sends_fragment(n, frontend);
        let other_fragment = |n| self.from_pod(client).sends_fragment(n, frontend);
        let lost = Outcome::DroppedFragNotFound;
        vec![
            self.case("fragments that arrive before the first one are queued for it").steps([
                self.from_pod(pod).establishes(frontend, backend),
                fragment(1).is_queued(),
                fragment(2).is_queued(),
                fragment(0).is_forwarded_to(backend),
                kernel_releases_fragments(2),
                fragment(1).is_forwarded_to(backend),
                fragment(2).is_forwarded_to(backend),
            ]),
            self.case("a complete packet's first fragment does not serve the next packet")
                .steps([each(|n| fragment(n).is_forwarded_to(backend)), fragment(2).is_queued()]),
            self.case("fragments that do not fit into the queue are dropped").steps([
                (0..FirstFragment::MAX_QUEUED).flat_map(|_| fragment(1).is_queued()).collect(),
                fragment(1).is_dropped(lost),
                limit_is(RateLimit::FragmentQueue, 0),
                other_fragment(1).is_dropped(lost),
            ]),
        ]
    }

    fn fragments_that_pass(self) -> Vec<Case> {
        let Addresses { pod, client, frontend, .. } = self.addresses();
        let fragment = |n| self.from_pod(pod).sends_fragment(n, client);
        vec![
            self.case("fragments of a packet to no Service pass unchanged").steps([
                fragment(0).passes(Outcome::PassedNotAService),
                fragment(1).passes(Outcome::PassedFragment),
                fragment(2).passes(Outcome::PassedFragment),
            ]),
            self.case("XDP leaves fragments to TC").step(each(|n| {
                let fragment = self.network_xdp(client).sends_fragment(n, frontend);
                fragment.passes(Outcome::PassedLeftToTc)
            })),
        ]
    }
}
