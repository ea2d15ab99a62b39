//! After every prefix of a diff, packets go where they went before or where they shall go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_common::address::{Address, Protocol, V4, V6, endpoint};
use lb_common::connection::Place;
use lb_common::outcome::{Ending, Outcome};
use lb_common::service::{Frontend, SourceClass};
use lb_ebpf::tables::Tables;
use lb_userspace::maps::contents::Rows;
use lb_userspace::maps::world::{MemoryConnections, Surroundings};
use lb_userspace::maps::{BackendSet, Contents, diff};
use lb_userspace::plan::plan;
use proptest::prelude::*;

use crate::clusters::{cluster, here, settings};
use crate::plans::settle;
use crate::walk::{Ended, Sent, one_way_out, send};

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
                    lb_common::service::Verdict::NoEndpoint => Outcome::NoEndpoint,
                    lb_common::service::Verdict::NoLocalEndpoint => Outcome::NoLocalEndpoint,
                }));
            }
            for index in pool.base..pool.base + pool.length {
                let id = Tables::<A>::slot(contents, index).expect("a slot for every index");
                let backend = Tables::<A>::backend(contents, id).expect("a row for every slot");
                assert_eq!(backend.service, row.service, "another Service's backend");
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

/// The first packets of flows to every frontend from pods and from outside.
fn openings(picks: &Picks) -> Vec<Sent> {
    let mut openings = Vec::new();
    for (frontend, protocol, class) in picks.keys() {
        if *class == SourceClass::Host {
            continue;
        }
        let client = match (frontend, class) {
            (SocketAddr::V4(_), SourceClass::Network) => "203.0.113.9:0",
            (SocketAddr::V4(_), _) => "10.244.0.99:0",
            (SocketAddr::V6(_), SourceClass::Network) => "[2001:db8:ffff::9]:0",
            (SocketAddr::V6(_), _) => "[fd00:244::99]:0",
        };
        for port in 40_000..40_004 {
            let mut source: SocketAddr = client.parse().unwrap();
            source.set_port(port);
            openings.push(Sent {
                source,
                destination: *frontend,
                protocol: *protocol,
                class: *class,
                opens: true,
                place: Place::Ingress,
            });
        }
    }
    openings
}

fn ends_well(ended: &Ended, sent: &Sent, allowed: &[&Picks]) -> bool {
    let to = match ended.outcome.ending() {
        Ending::Translated => Ok(ended.destination),
        Ending::Passed | Ending::Dropped => Err(ended.outcome),
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
    fn every_prefix_is_safe_for_new_flows(a in cluster(), b in cluster()) {
        let mut now = settle(&a, &settings(), &Contents::default()).contents;
        let after = plan(&b, &here(), &settings(), &now, &BackendSet::default()).contents;
        let (old, new) = (all_picks(&now), all_picks(&after));
        let mut all = old.clone();
        all.extend(new.clone());
        let openings = openings(&all);
        for operation in diff(&now, &after) {
            now.apply(&operation);
            let is = all_picks(&now);
            for (frontend, picks) in &is {
                let allowed = [old.get(frontend), new.get(frontend)];
                prop_assert!(allowed.contains(&Some(picks)), "{frontend:?} after {operation:?}");
            }
            let both = old.keys().filter(|frontend| new.contains_key(frontend));
            prop_assert!(both.clone().all(|frontend| is.contains_key(frontend)), "a gap");
            for sent in &openings {
                let ended = send(&now, &MemoryConnections::default(), &one_way_out(), sent);
                prop_assert!(ends_well(&ended, sent, &[&old, &new]), "{sent:?} {ended:?}");
            }
        }
        prop_assert_eq!(now, after);
    }

    #[test]
    fn every_prefix_keeps_tcp_connections_and_moves_udp_flows_only_to_where_they_may_go(
        a in cluster(), b in cluster(),
    ) {
        let mut now = settle(&a, &settings(), &Contents::default()).contents;
        let after = plan(&b, &here(), &settings(), &now, &BackendSet::default()).contents;
        let (old, new) = (all_picks(&now), all_picks(&after));
        let (connections, surroundings): (_, Surroundings) =
            (MemoryConnections::default(), one_way_out());
        let mut flows: BTreeMap<Sent, Ended> = BTreeMap::new();
        for sent in openings(&old) {
            let ended = send(&now, &connections, &surroundings, &sent);
            if ended.outcome.ending() == Ending::Translated {
                let answer = ended.answer(&connections, sent.protocol);
                let back = send(&now, &connections, &surroundings, &answer);
                prop_assert_eq!((back.source, back.destination), (sent.destination, sent.source));
                let sent = Sent { opens: false, ..sent };
                send(&now, &connections, &surroundings, &sent);
                flows.insert(sent, ended);
            }
        }
        for operation in diff(&now, &after) {
            now.apply(&operation);
            for (sent, began) in &flows {
                let ended = send(&now, &connections, &surroundings, sent);
                if sent.protocol == Protocol::TCP {
                    prop_assert_eq!((ended.source, ended.destination), (began.source, began.destination));
                } else {
                    let stays = ended.destination == began.destination;
                    prop_assert!(stays || ends_well(&ended, sent, &[&old, &new]), "{sent:?} {ended:?}");
                }
            }
        }
    }
}
