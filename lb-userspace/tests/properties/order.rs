//! After every prefix of a diff, packets go where they went before or where they shall go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lb_common::address::{Address, Protocol, V4, V6, endpoint};
use lb_common::connection::Place;
use lb_common::outcome::{Ending, Outcome};
use lb_common::service::{Frontend, SourceClass};
use lb_ebpf::tables::Tables;
use lb_userspace::maps::contents::Rows;
use lb_userspace::maps::{BackendSet, Contents, diff};
use lb_userspace::plan::plan;
use proptest::prelude::*;

use crate::clusters::{cluster, here, settings};
use crate::plans::settle;
use crate::walk::{Ended, Sent, answer, node, reach, send};

/// Where new flows to each frontend may go, per source class: every slot of its pool.
type Picks = BTreeMap<(SocketAddr, Protocol, SourceClass), BTreeSet<Result<SocketAddr, Outcome>>>;

/// All picks; fails if a row leads nowhere, to another's backend, or past the filter.
fn picks<A: Rows>(contents: &Contents) -> Picks {
    let mut picks = Picks::new();
    for (frontend, row) in &A::rows(contents).frontends {
        check_filter(contents, frontend);
        for class in SourceClass::ALL {
            let pool = row.pool(class);
            let mut to = BTreeSet::new();
            if let Some(verdict) = pool.verdict() {
                to.insert(Err(match verdict {
                    lb_common::service::Verdict::NoEndpoint => Outcome::RejectedNoEndpoint,
                    lb_common::service::Verdict::NoLocalEndpoint => Outcome::NoLocalEndpoint,
                }));
            }
            for index in pool.base..pool.base + pool.length {
                let id = Tables::<A>::slot(contents, index).expect("a slot for every index");
                let backend = Tables::<A>::backend(contents, id).expect("a row for every slot");
                assert_eq!(backend.service, row.service, "another Service's backend");
                assert!(backend.is_serving(), "UDP flows would be given it again and again");
                to.insert(Ok(endpoint(backend.address.to_ip(), backend.port)));
            }
            picks.insert((at(frontend), frontend.protocol, class), to);
        }
    }
    picks
}

fn check_filter<A: Rows>(contents: &Contents, frontend: &Frontend<A>) {
    let rows = A::rows(contents).backends.values();
    let backends = rows.map(|row| (row.address, row.port, row.protocol));
    let frontend = (frontend.address, frontend.port, frontend.protocol);
    for (address, port, protocol) in backends.chain([frontend]) {
        let position = lb_common::filter::position(&address, port, protocol);
        assert!(Tables::<A>::may_concern(contents, position), "the filter hides {address}:{port}");
    }
}

fn at<A: Address>(frontend: &Frontend<A>) -> SocketAddr {
    endpoint(frontend.address.to_ip(), frontend.port)
}

fn all_picks(contents: &Contents) -> Picks {
    let mut picks = picks::<V4>(contents);
    picks.extend(self::picks::<V6>(contents));
    picks
}

/// The first packets of flows to every frontend from pods and from outside, from client ports that
/// begin at `port`.
fn openings(picks: &Picks, port: u16) -> Vec<Sent> {
    let keys = picks.keys().filter(|(_, _, class)| *class != SourceClass::Host);
    let opening = |(destination, protocol, class): &(SocketAddr, Protocol, SourceClass), port| {
        let client: IpAddr = match (destination, class) {
            (SocketAddr::V4(_), SourceClass::Network) => Ipv4Addr::new(203, 0, 113, 9).into(),
            (SocketAddr::V4(_), _) => Ipv4Addr::new(10, 244, 0, 99).into(),
            (SocketAddr::V6(_), SourceClass::Network) => "2001:db8:ffff::9".parse().unwrap(),
            (SocketAddr::V6(_), _) => "fd00:244::99".parse().unwrap(),
        };
        Sent {
            source: (client, port).into(),
            destination: *destination,
            protocol: *protocol,
            class: *class,
            place: Place::Ingress,
            opens: true,
        }
    };
    keys.flat_map(|key| (0..FLOWS).map(move |flow| opening(key, port + flow))).collect()
}

/// Flows that are begun with each frontend at a time.
const FLOWS: u16 = 4;

fn ends_well(ended: &Ended, sent: &Sent, allowed: &[&Picks]) -> bool {
    let to = match ended.outcome.ending() {
        Ending::Translated => Ok(ended.destination),
        Ending::Passed | Ending::Answered | Ending::Dropped => Err(ended.outcome),
    };
    let key = (sent.destination, sent.protocol, sent.class);
    allowed.iter().any(|picks| match picks.get(&key) {
        Some(picks) => picks.contains(&to),
        None => to == Err(Outcome::NotAService),
    })
}

proptest! {
    // A case is hundreds of packets after each of dozens of operations.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_prefix_is_safe_for_new_flows(z in cluster(), a in cluster(), b in cluster()) {
        let mut now = settle(&z, &settings(), &Contents::default()).contents;
        now = settle(&a, &settings(), &now).contents;
        let after = plan(&b, &here(), &settings(), &now, &now.retired()).contents;
        let (old, new) = (all_picks(&now), all_picks(&after));
        let mut all = old.clone();
        all.extend(new.clone());
        let mut node = node(now.clone());
        for (step, operation) in (0..).zip(diff(&now, &after)) {
            now.apply(&operation);
            node.tables.apply(&operation);
            reach(&mut node);
            let is = all_picks(&now);
            for (frontend, picks) in &is {
                let allowed = [old.get(frontend), new.get(frontend)];
                prop_assert!(allowed.contains(&Some(picks)), "{frontend:?} after {operation:?}");
            }
            let both = old.keys().filter(|frontend| new.contains_key(frontend));
            prop_assert!(both.clone().all(|frontend| is.contains_key(frontend)), "a gap");
            for sent in openings(&all, 10_000 + FLOWS * step) {
                let ended = send(&mut node, &sent);
                prop_assert!(ends_well(&ended, &sent, &[&old, &new]), "{sent:?} {ended:?}");
            }
        }
        prop_assert_eq!(now, after);
    }

    #[test]
    fn every_prefix_keeps_tcp_connections_and_moves_udp_flows_only_to_where_they_may_go(
        a in cluster(), b in cluster(),
    ) {
        let before = settle(&a, &settings(), &Contents::default()).contents;
        let after = plan(&b, &here(), &settings(), &before, &BackendSet::default()).contents;
        let (old, new) = (all_picks(&before), all_picks(&after));
        let mut node = node(before.clone());
        let mut flows: BTreeMap<Sent, Ended> = BTreeMap::new();
        for sent in openings(&old, 10_000) {
            let began = send(&mut node, &sent);
            if began.outcome.ending() == Ending::Translated {
                let answer = answer(&node, &began, sent.protocol);
                let back = send(&mut node, &answer);
                prop_assert_eq!((back.source, back.destination), (sent.destination, sent.source));
                let sent = Sent { opens: false, ..sent };
                send(&mut node, &sent);
                flows.insert(sent, began);
            }
        }
        for operation in diff(&before, &after) {
            node.tables.apply(&operation);
            reach(&mut node);
            for (sent, began) in &flows {
                let ended = send(&mut node, sent);
                let stays =
                    (ended.source, ended.destination) == (began.source, began.destination);
                let may_move = sent.protocol == Protocol::UDP;
                let moves = may_move && ends_well(&ended, sent, &[&old, &new]);
                prop_assert!(stays || moves, "{sent:?} {ended:?} after {operation:?}");
            }
        }
    }
}
