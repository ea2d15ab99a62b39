//! After every prefix of a diff, packets go where they went before or where they go afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Address, Family, Protocol, V4, V6, endpoint};
use lb_common::conntrack::HookPoint;
use lb_common::filter;
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::{EmptyPoolReason, Frontend, FrontendRow, ServiceId, SourceClass};
use lb_common::source_range::SourceRange;
use lb_ebpf::world::Tables;
use lb_userspace::maps::contents::InContents;
use lb_userspace::maps::{Contents, Operation, References, diff};
use lb_userspace::plan::plan;
use proptest::prelude::*;

use crate::clusters::{cluster, local_node, settings};
use crate::plans::settle;
use crate::walk::{Ended, Sent, add_routes, node, reply_to, send};

/// What new flows to each frontend get, per source class.
type Picks = BTreeMap<(SocketAddr, Protocol, SourceClass), Pick>;

/// What new flows get.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pick {
    /// The backends of the pool, or the outcome if it is empty.
    to: BTreeSet<Result<SocketAddr, Outcome>>,
    /// Whether the source ranges permit the client of this class.
    admits: bool,
    /// The Service port, by whose ranges that is decided.
    service: ServiceId,
    /// With session affinity: whether the policy is Local.
    affinity: Option<bool>,
    /// The backends that a client may keep under the policy Cluster, and under Local.
    kept: [BTreeSet<SocketAddr>; 2],
}

/// All picks; panics if a row refers to nothing, to another Service's backend, or is not in the filter.
fn picks<A: InContents>(contents: &Contents) -> Picks {
    let mut picks = Picks::new();
    for (frontend, row) in &A::rows(contents).frontends {
        check_filter(contents, frontend);
        for class in SourceClass::ALL {
            let client = client(A::FAMILY, class);
            let pick = Pick {
                to: slots::<A>(contents, row, class),
                admits: !row.is_restricted() || is_within(contents, client, row.service),
                service: row.service,
                affinity: (row.affinity > 0).then(|| row.is_local(class)),
                kept: [false, true].map(|is_local| kept::<A>(contents, row.service, is_local)),
            };
            picks.insert((at(frontend), frontend.protocol, class), pick);
        }
    }
    picks
}

fn slots<A: InContents>(
    contents: &Contents,
    row: &FrontendRow,
    class: SourceClass,
) -> BTreeSet<Result<SocketAddr, Outcome>> {
    let pool = row.pool(class);
    if let Some(reason) = pool.empty_reason() {
        return BTreeSet::from([Err(match reason {
            EmptyPoolReason::NoEndpoint => Outcome::RejectedNoEndpoint,
            EmptyPoolReason::NoLocalEndpoint => Outcome::DroppedNoLocalEndpoint,
        })]);
    }
    let slots = (pool.base..pool.base + pool.length).map(|index| {
        let id = Tables::<A>::slot(contents, index).expect("a slot for every index");
        let backend = Tables::<A>::backend(contents, id).expect("a row for every slot");
        assert_eq!(backend.service, row.service, "another Service's backend");
        assert!(backend.is_serving(), "a pool contains a retired backend");
        Ok(endpoint(backend.address.to_ip(), backend.port))
    });
    slots.collect()
}

fn kept<A: InContents>(
    contents: &Contents,
    service: ServiceId,
    is_local: bool,
) -> BTreeSet<SocketAddr> {
    let rows = A::rows(contents).backends.values();
    let kept =
        rows.filter(|row| row.service == service && row.is_serving() && row.is_for(is_local));
    kept.map(|row| endpoint(row.address.to_ip(), row.port)).collect()
}

/// The client of this class.
fn client(family: Family, class: SourceClass) -> IpAddr {
    let text = match (family, class) {
        (Family::V4, SourceClass::Network) => "203.0.113.9",
        (Family::V4, SourceClass::Pod | SourceClass::Host) => "10.244.0.99",
        (Family::V6, SourceClass::Network) => "2001:db8:ffff::9",
        (Family::V6, SourceClass::Pod | SourceClass::Host) => "fd00:244::99",
    };
    text.parse().unwrap()
}

fn check_filter<A: InContents>(contents: &Contents, frontend: &Frontend<A>) {
    let shows = |position| Tables::<A>::filter_matches(contents, position);
    let position = filter::frontend(&frontend.address, frontend.port, frontend.protocol);
    assert!(shows(position), "the filter hides {frontend}");
    for row in A::rows(contents).backends.values() {
        let position = filter::backend(&row.address, row.port, row.protocol);
        assert!(shows(position), "the filter hides {}:{}", row.address, row.port);
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
        let client = client(Family::of(&destination.ip()), *class);
        Sent {
            source: (client, port).into(),
            destination: *destination,
            protocol: *protocol,
            class: *class,
            hook_point: HookPoint::Ingress,
            opens: true,
        }
    };
    keys.flat_map(|key| (0..FLOWS).map(move |flow| opening(key, port + flow))).collect()
}

/// Flows that are begun with each frontend at a time.
const FLOWS: u16 = 4;

/// Whether a packet ended as it would before, or as it shall after, the change.
fn ends_well(ended: &Ended, sent: &Sent, contents: [&Contents; 2], picks: [&Picks; 2]) -> bool {
    let key = (sent.destination, sent.protocol, sent.class);
    let known: Vec<&Pick> = picks.iter().filter_map(|picks| picks.get(&key)).collect();
    let is_missing = known.len() < picks.len();
    let admissions = admissions(&known, sent.source.ip(), contents);
    match (ended.outcome, ended.outcome.disposition()) {
        (Outcome::DroppedSourceRange, _) => admissions.contains(&false),
        (_, Disposition::Translated) => {
            admissions.contains(&true) && may_get(&known, ended.destination)
        }
        (outcome, _) => {
            // The filter does not tell frontends from backends: what one of the two was, or will be, may
            // begin a direct flow, which ends once there is a frontend.
            let is_direct = outcome == Outcome::PassedDirect;
            let outcome = if is_direct { Outcome::PassedNotAService } else { outcome };
            // What has the frontend does not close its address to it.
            let without = contents.iter().zip(picks).filter(|(_, picks)| !picks.contains_key(&key));
            let mut without = without.map(|(contents, _)| contents);
            let closes = without.any(|c| closed(c, sent.destination.ip()) == outcome);
            let is_verdict = known.iter().any(|pick| pick.to.contains(&Err(outcome)));
            is_verdict && admissions.contains(&true)
                || is_missing && outcome == Outcome::PassedNotAService
                || closes
        }
    }
}

/// Whether the client may be let in, and whether it may be kept out. While a Service port's ranges
/// change all its frontends go by the old ones and the new.
fn admissions(known: &[&Pick], client: IpAddr, contents: [&Contents; 2]) -> BTreeSet<bool> {
    let within = |service| contents.iter().any(|contents| is_within(contents, client, service));
    let of = |pick: &&Pick| [pick.admits, pick.admits || within(pick.service)];
    known.iter().flat_map(of).collect()
}

/// Whether a range of the Service port holds the client.
fn is_within(contents: &Contents, client: IpAddr, service: ServiceId) -> bool {
    match client {
        IpAddr::V4(ip) => contents.source_allowed(&SourceRange::of(service, V4(ip.octets()))),
        IpAddr::V6(ip) => contents.source_allowed(&SourceRange::of(service, V6(ip.octets()))),
    }
}

/// Whether a pool leads to `backend`, or a client may have kept it.
fn may_get(known: &[&Pick], backend: SocketAddr) -> bool {
    let policies = known.iter().filter_map(|pick| pick.affinity);
    let mut kept = policies
        .flat_map(|is_local| known.iter().map(move |pick| &pick.kept[usize::from(is_local)]));
    known.iter().any(|pick| pick.to.contains(&Ok(backend)))
        || kept.any(|set| set.contains(&backend))
}

/// What becomes of a packet to a port of this address that is no frontend.
fn closed(contents: &Contents, address: IpAddr) -> Outcome {
    fn of<A: InContents>(contents: &Contents, address: A) -> Outcome {
        let cidrs = SourceRange::of(SourceRange::<A>::CLUSTER, address);
        match contents.ip_policy(&address) {
            Some(row) if row.rejects() => Outcome::RejectedNoSuchPort,
            None if contents.source_allowed(&cidrs) => Outcome::DroppedUnallocatedAddress,
            Some(_) | None => Outcome::PassedNotAService,
        }
    }
    match address {
        IpAddr::V4(ip) => of(contents, V4(ip.octets())),
        IpAddr::V6(ip) => of(contents, V6(ip.octets())),
    }
}

/// Checks that after every prefix of `operations`, which lead from `before` to `after`, new flows end as before or as after
/// all of them.
pub fn check_prefixes(
    before: &Contents,
    operations: &[Operation],
    after: &Contents,
) -> Result<(), TestCaseError> {
    let (old, new) = (all_picks(before), all_picks(after));
    let mut all = old.clone();
    all.extend(new.clone());
    let mut now = before.clone();
    let mut node = node(now.clone());
    for (step, operation) in (0..).zip(operations) {
        now.apply(operation);
        node.tables.apply(operation);
        add_routes(&mut node);
        let is = all_picks(&now);
        for (frontend, pick) in &is {
            let known: Vec<&Pick> =
                [&old, &new].iter().filter_map(|all| all.get(frontend)).collect();
            let client = client(Family::of(&frontend.0.ip()), frontend.2);
            let admissions = admissions(&known, client, [before, after]);
            let is_right = known.iter().any(|known| known.to == pick.to);
            let admits = admissions.contains(&pick.admits);
            prop_assert!(is_right && admits, "{frontend:?} after {operation:?}");
        }
        let mut both = old.keys().filter(|frontend| new.contains_key(frontend));
        prop_assert!(both.all(|frontend| is.contains_key(frontend)), "a gap");
        for sent in openings(&all, 10_000 + FLOWS * step) {
            let ended = send(&mut node, &sent);
            let is_well = ends_well(&ended, &sent, [before, after], [&old, &new]);
            prop_assert!(is_well, "{sent:?} {ended:?}");
        }
    }
    prop_assert_eq!(&now, after);
    Ok(())
}

proptest! {
    // A case is hundreds of packets after each of dozens of operations.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_prefix_is_safe_for_new_flows(z in cluster(), a in cluster(), b in cluster()) {
        let mut now = settle(&z, &settings(), &Contents::default()).contents;
        now = settle(&a, &settings(), &now).contents;
        let after = plan(&b, &local_node(), &settings(), &now, &now.kept_for_flows()).contents;
        check_prefixes(&now, &diff(&now, &after), &after)?;
    }

    #[test]
    fn every_prefix_keeps_tcp_connections_and_moves_udp_flows_only_to_where_they_may_go(
        a in cluster(), b in cluster(),
    ) {
        let before = settle(&a, &settings(), &Contents::default()).contents;
        let after = plan(&b, &local_node(), &settings(), &before, &References::default()).contents;
        let (old, new) = (all_picks(&before), all_picks(&after));
        let mut node = node(before.clone());
        let mut flows: BTreeMap<Sent, Ended> = BTreeMap::new();
        for sent in openings(&old, 10_000) {
            let began = send(&mut node, &sent);
            if began.outcome.disposition() == Disposition::Translated {
                let reply = reply_to(&node, &began, sent.protocol);
                let back = send(&mut node, &reply);
                prop_assert_eq!((back.source, back.destination), (sent.destination, sent.source));
                let sent = Sent { opens: false, ..sent };
                send(&mut node, &sent);
                flows.insert(sent, began);
            }
        }
        for operation in diff(&before, &after) {
            node.tables.apply(&operation);
            add_routes(&mut node);
            for (sent, began) in &flows {
                let ended = send(&mut node, sent);
                let stays =
                    (ended.source, ended.destination) == (began.source, began.destination);
                let may_move = sent.protocol == Protocol::UDP;
                let moves = may_move && ends_well(&ended, sent, [&before, &after], [&old, &new]);
                prop_assert!(stays || moves, "{sent:?} {ended:?} after {operation:?}");
            }
        }
    }
}
