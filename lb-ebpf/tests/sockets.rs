//! Socket load balancing: the backend that a call gets, and the peer that the process sees.

use std::net::SocketAddr;

use lb_common::address::{Address, Port, Protocol, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::outcome::Outcome;
use lb_common::service::{Frontend, FrontendRow, IpPolicy, Pool, SourceClass};
use lb_common::settings::InSettings;
use lb_common::socket::{PEERS, SocketRevNat};
use lb_common::source_range::SourceRange;
use lb_ebpf::cases::topology::{self, BACKEND_PORT, Pod, Target, Topology};
use lb_ebpf::in_memory::{FamilyRows, InMemory, Rows, World};
use lb_ebpf::socket_lb::{Call, CallKind, Scratch, may_be_service, select};
use lb_ebpf::world::Tables;

/// The lab in one family.
struct Fixture<A> {
    topology: Topology,
    world: World<Rows>,
    rows: fn(&mut Rows) -> &mut FamilyRows<A>,
}

impl<A: InMemory + InSettings> Fixture<A>
where
    Rows: Tables<A>,
{
    fn new(rows: fn(&mut Rows) -> &mut FamilyRows<A>) -> Self {
        Self { topology: Topology { family: A::FAMILY }, world: topology::world(7), rows }
    }

    fn end(&self, at: SocketAddr) -> Frontend<A> {
        Frontend::new(topology::address(at.ip()), Port::new(at.port()), Protocol::TCP)
    }

    fn frontend(&self, target: Target) -> Frontend<A> {
        self.end(self.topology.frontend(target))
    }

    fn pod(&self, pod: Pod) -> Frontend<A> {
        self.end(self.topology.pod(pod, BACKEND_PORT))
    }

    fn rows(&mut self) -> &mut FamilyRows<A> {
        (self.rows)(&mut self.world.tables)
    }

    fn row(&mut self, target: Target) -> &mut FrontendRow {
        let frontend = self.frontend(target);
        self.rows().frontends.get_mut(&frontend).expect("the lab has this frontend")
    }

    fn call<'a>(&self, kind: CallKind, frontend: &'a Frontend<A>) -> Call<'a, A> {
        Call { kind, frontend, class: SourceClass::Host, own_port: Port::new(0), entropy: 4711 }
    }

    /// The backend that `socket` gets.
    fn select(
        &self,
        socket: &mut SocketRevNat<A>,
        call: Call<'_, A>,
    ) -> Result<Frontend<A>, Outcome> {
        let mut scratch = Scratch::new();
        select(socket, &self.world, call, || Some(&mut scratch)).map(|peer| peer.backend)
    }

    fn connect(&self, at: SocketAddr) -> Result<Frontend<A>, Outcome> {
        let mut socket = SocketRevNat::new();
        self.select(&mut socket, self.call(CallKind::Connect, &self.end(at)))
    }
}

/// The frontend that a process sees in place of `backend`.
fn restored<A: Address>(
    socket: &mut SocketRevNat<A>,
    backend: &Frontend<A>,
) -> Option<Frontend<A>> {
    socket.latest(|peer| peer.backend == *backend).map(|peer| peer.frontend)
}

/// Runs a test in both families.
macro_rules! in_both_families {
    ($($(#[$doc:meta])* fn $name:ident($fixture:ident: $type:ty) $body:block)+) => {
        $(
            #[test]
            fn $name() {
                fn test<A: InMemory + InSettings>(mut $fixture: Fixture<A>)
                where
                    Rows: Tables<A>,
                {
                    let _ = &mut $fixture;
                    $body
                }
                test::<V4>(Fixture::new(|rows| &mut rows.v4));
                test::<V6>(Fixture::new(|rows| &mut rows.v6));
            }
        )+
    };
}

in_both_families! {
    fn a_connect_to_a_frontend_gets_a_backend_and_sees_the_frontend(fixture: Fixture<A>) {
        let mut socket = SocketRevNat::new();
        let frontend = fixture.frontend(Target::Remote);
        assert!(may_be_service(&fixture.world, &frontend));
        let call = fixture.call(CallKind::Connect, &frontend);
        assert_eq!(fixture.select(&mut socket, call), Ok(fixture.pod(Pod::Remote)));
        assert_eq!(restored(&mut socket, &fixture.pod(Pod::Remote)), Some(frontend));
        assert_eq!(restored(&mut socket, &fixture.pod(Pod::Local)), None);
        let traffic = A::of(&fixture.world).traffic.borrow().clone();
        assert_eq!(traffic[&BackendId(Pod::Remote as u32)].connections, 1);
    }

    fn what_is_rejected_fails_and_what_is_dropped_is_left_to_its_packets(fixture: Fixture<A>) {
        let undefined = SocketAddr::new(fixture.topology.frontend(Target::Local).ip(), 81);
        for (at, outcome) in [
            (fixture.topology.frontend(Target::NoEndpoints), Outcome::RejectedNoEndpoint),
            (fixture.topology.frontend(Target::NoLocalEndpoints), Outcome::PassedLeftToTc),
            (fixture.topology.frontend(Target::Broken), Outcome::PassedLeftToTc),
            (undefined, Outcome::RejectedNoSuchPort),
            (fixture.topology.unallocated(80), Outcome::PassedLeftToTc),
            (fixture.topology.frontend(Target::Restricted), Outcome::PassedLeftToTc),
        ] {
            assert!(may_be_service(&fixture.world, &fixture.end(at)));
            assert_eq!(fixture.connect(at), Err(outcome), "{at}");
        }
        assert!(!may_be_service(&fixture.world, &fixture.end(fixture.topology.client(80))));
    }

    fn what_is_dropped_at_an_address_of_the_node_itself_fails(fixture: Fixture<A>) {
        for (target, outcome) in [
            (Target::NoLocalEndpoints, Outcome::DroppedNoLocalEndpoint),
            (Target::Restricted, Outcome::DroppedSourceRange),
        ] {
            let frontend = fixture.frontend(target);
            fixture.rows().ip_policies.insert(frontend.address, IpPolicy { flags: 0 });
            for kind in [CallKind::Connect, CallKind::Sendmsg] {
                let call = fixture.call(kind, &frontend);
                assert_eq!(fixture.select(&mut SocketRevNat::new(), call), Err(outcome));
            }
        }
        // The packets of a pod come in by its device, whatever they are sent to.
        let frontend = fixture.frontend(Target::NoLocalEndpoints);
        let call = Call { class: SourceClass::Pod, ..fixture.call(CallKind::Connect, &frontend) };
        assert_eq!(fixture.select(&mut SocketRevNat::new(), call), Err(Outcome::PassedLeftToTc));
    }

    fn source_ranges_are_compared_with_the_nodes_own_address(fixture: Fixture<A>) {
        let service = fixture.row(Target::Restricted).service;
        let own = SourceRange::of(service, topology::address(fixture.topology.node(0).ip()));
        fixture.rows().source_ranges.insert(own);
        assert_eq!(fixture.connect(fixture.topology.frontend(Target::Restricted)), Ok(fixture.pod(Pod::Local)));
    }

    fn datagrams_go_where_the_last_one_went_until_nothing_serves_there(fixture: Fixture<A>) {
        let row = fixture.row(Target::Local);
        row.pools = [Pool { base: 0, length: 2 }; 3];
        let frontend = fixture.frontend(Target::Local);
        let mut socket = SocketRevNat::new();
        let mut to = |fixture: &Fixture<A>, entropy| {
            fixture.select(&mut socket, Call { own_port: Port::new(0), entropy, ..fixture.call(CallKind::Sendmsg, &frontend) })
        };
        let first = to(&fixture, 0).unwrap();
        assert!((1..200).all(|entropy| to(&fixture, entropy) == Ok(first)));
        let pod = if first == fixture.pod(Pod::Local) { Pod::Local } else { Pod::Remote };
        fixture.world.tables.retire(pod as u32);
        // Until the agent has written another pool the same backend is chosen; then another one is.
        let other = if pod == Pod::Local { 1 } else { 0 };
        fixture.row(Target::Local).pools = [Pool { base: other, length: 1 }; 3];
        assert_ne!(to(&fixture, 7).unwrap(), first);
    }

    fn of_many_frontends_the_latest_are_remembered(fixture: Fixture<A>) {
        let template = *fixture.row(Target::Local);
        let mut socket = SocketRevNat::new();
        let pod = fixture.pod(Pod::Local);
        let mut ends = Vec::new();
        for number in 0..PEERS as u32 + 1 {
            // A Service of its own, and a backend of its own.
            let port = 1000 + number as u16;
            let frontend = Frontend::new(pod.address, Port::new(port + 1000), Protocol::TCP);
            let backend = Backend {
                address: pod.address,
                port: Port::new(port),
                protocol: Protocol::TCP,
                flags: Backend::<A>::SERVING,
                generation: 1,
                service: template.service,
            };
            let id = BackendId(100 + number);
            fixture.rows().backends.insert(id, backend);
            fixture.world.tables.slots.push(id);
            let base = fixture.world.tables.slots.len() as u32 - 1;
            let row = FrontendRow { pools: [Pool { base, length: 1 }; 3], ..template };
            fixture.rows().frontends.insert(frontend, row);
            let backend = fixture.select(&mut socket, fixture.call(CallKind::Sendmsg, &frontend));
            ends.push((frontend, backend.unwrap()));
        }
        let all: Vec<_> = ends.iter().map(|(_, backend)| restored(&mut socket, backend)).collect();
        assert_eq!(all[0], None);
        for (restored, (frontend, _)) in all.iter().zip(&ends).skip(1) {
            assert_eq!(*restored, Some(*frontend));
        }
    }

    fn replies_of_a_backend_behind_two_frontends_count_as_those_of_the_one_used_last(fixture: Fixture<A>) {
        let mut socket = SocketRevNat::new();
        let pod = fixture.pod(Pod::Local);
        let frontends = [Target::Local, Target::LocalToo].map(|target| fixture.frontend(target));
        for frontend in frontends.into_iter().chain(frontends) {
            assert_eq!(fixture.select(&mut socket, fixture.call(CallKind::Sendmsg, &frontend)), Ok(pod));
            assert_eq!(restored(&mut socket, &pod), Some(frontend));
        }
    }

    fn a_connect_to_a_backend_itself_sees_the_backend(fixture: Fixture<A>) {
        let mut socket = SocketRevNat::new();
        let (frontend, pod) = (fixture.frontend(Target::Local), fixture.pod(Pod::Local));
        assert_eq!(fixture.select(&mut socket, fixture.call(CallKind::Connect, &frontend)), Ok(pod));
        assert!(may_be_service(&fixture.world, &pod));
        let itself = fixture.call(CallKind::Connect, &pod);
        assert_eq!(fixture.select(&mut socket, itself), Err(Outcome::PassedNotAService));
        assert_eq!(restored(&mut socket, &pod), None);
    }

    fn a_node_keeps_its_backend_where_the_service_asks_for_affinity(fixture: Fixture<A>) {
        let row = fixture.row(Target::Local);
        row.pools = [Pool { base: 0, length: 2 }; 3];
        row.affinity = 100;
        for backend in fixture.rows().backends.values_mut() {
            backend.flags |= Backend::<A>::FOR_CLUSTER;
        }
        let frontend = fixture.frontend(Target::Local);
        let dial = |entropy| {
            let call = Call { own_port: Port::new(0), entropy, ..fixture.call(CallKind::Connect, &frontend) };
            fixture.select(&mut SocketRevNat::new(), call)
        };
        let first = dial(0).unwrap();
        assert!((1..200).all(|entropy| dial(entropy) == Ok(first)));
    }

    fn what_goes_by_the_clients_address_is_left_to_the_packets_of_a_pods_socket(fixture: Fixture<A>) {
        fixture.row(Target::LocalToo).affinity = 100;
        for (target, end) in [
            (Target::Local, Ok(fixture.pod(Pod::Local))),
            (Target::LocalToo, Err(Outcome::PassedLeftToTc)),
            (Target::Restricted, Err(Outcome::PassedLeftToTc)),
        ] {
            let frontend = fixture.frontend(target);
            let call =
                Call { class: SourceClass::Pod, ..fixture.call(CallKind::Connect, &frontend) };
            assert_eq!(fixture.select(&mut SocketRevNat::new(), call), end);
        }
    }

    fn a_datagram_socket_that_is_only_connected_is_refused_by_no_port_that_is_missing(fixture: Fixture<A>) {
        let at = fixture.topology.frontend(Target::Local);
        let missing = Frontend { protocol: Protocol::UDP, ..fixture.end((at.ip(), 81).into()) };
        let outcome = |dial| fixture.select(&mut SocketRevNat::new(), fixture.call(dial, &missing));
        assert_eq!(outcome(CallKind::Connect), Err(Outcome::PassedNotAService));
        assert_eq!(outcome(CallKind::Sendmsg), Err(Outcome::RejectedNoSuchPort));
    }

    fn a_pods_datagram_socket_that_is_connected_is_left_to_its_packets(fixture: Fixture<A>) {
        let here = fixture.frontend(Target::Local);
        let udp = Frontend { protocol: Protocol::UDP, ..here };
        for (dial, frontend, end) in [
            (CallKind::Connect, &here, Ok(fixture.pod(Pod::Local))),
            (CallKind::Connect, &udp, Err(Outcome::PassedLeftToTc)),
            // A pod's own server answers it so, where the pod reaches itself by its packets.
            (CallKind::Sendmsg, &Frontend { port: Port::new(40_000), ..udp }, Err(Outcome::PassedLeftToTc)),
        ] {
            let call = Call { class: SourceClass::Pod, ..fixture.call(dial, frontend) };
            assert_eq!(fixture.select(&mut SocketRevNat::new(), call), end);
        }
    }

    fn sockets_of_one_node_spread_over_all_backends(fixture: Fixture<A>) {
        fixture.row(Target::Local).pools = [Pool { base: 0, length: 2 }; 3];
        let (frontend, pod) = (fixture.frontend(Target::Local), fixture.pod(Pod::Local));
        let backends = (0..1000).map(|entropy| {
            let call = Call { own_port: Port::new(0), entropy, ..fixture.call(CallKind::Connect, &frontend) };
            fixture.select(&mut SocketRevNat::new(), call)
        });
        let here = backends.filter(|backend| *backend == Ok(pod)).count();
        assert!((400..600).contains(&here), "{here} of 1000");
    }
}
