//! What a process's socket is given in the place of what it dials, and what the process is told.

use std::net::SocketAddr;

use lb_common::address::{Address, Port, Protocol, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::outcome::Outcome;
use lb_common::service::{Frontend, FrontendRow, Pool, SourceClass};
use lb_common::settings::InSettings;
use lb_common::socket::{PEERS, Socket};
use lb_common::source_range::SourceRange;
use lb_ebpf::cases::lab::{self, BACKEND_PORT, Dial as Dialled, Lab, Pod};
use lb_ebpf::memory::{FamilyRows, InMemory, Rows, World};
use lb_ebpf::socket::{Call, Dial, Room, concerns, dial};
use lb_ebpf::tables::Tables;

/// The lab in one family.
struct Stage<A> {
    lab: Lab,
    world: World<Rows>,
    rows: fn(&mut Rows) -> &mut FamilyRows<A>,
}

impl<A: InMemory + InSettings> Stage<A>
where
    Rows: Tables<A>,
{
    fn new(rows: fn(&mut Rows) -> &mut FamilyRows<A>) -> Self {
        Self { lab: Lab { family: A::FAMILY }, world: lab::world(7), rows }
    }

    fn end(&self, at: SocketAddr) -> Frontend<A> {
        Frontend::new(lab::address(at.ip()), Port::new(at.port()), Protocol::TCP)
    }

    fn frontend(&self, dialled: Dialled) -> Frontend<A> {
        self.end(self.lab.dial(dialled))
    }

    fn pod(&self, pod: Pod) -> Frontend<A> {
        self.end(self.lab.pod(pod, BACKEND_PORT))
    }

    fn rows(&mut self) -> &mut FamilyRows<A> {
        (self.rows)(&mut self.world.tables)
    }

    fn row(&mut self, dialled: Dialled) -> &mut FrontendRow {
        let frontend = self.frontend(dialled);
        self.rows().frontends.get_mut(&frontend).expect("the lab has this frontend")
    }

    fn call<'a>(&self, dial: Dial, frontend: &'a Frontend<A>) -> Call<'a, A> {
        Call { dial, frontend, class: SourceClass::Host, entropy: 4711 }
    }

    /// The backend that `socket` is given.
    fn dial(&self, socket: &mut Socket<A>, call: Call<'_, A>) -> Result<Frontend<A>, Outcome> {
        let mut room = Room::new();
        dial(socket, &self.world, call, || Some(&mut room)).map(|peer| peer.backend)
    }

    fn connect(&self, at: SocketAddr) -> Result<Frontend<A>, Outcome> {
        let mut socket = Socket::new();
        self.dial(&mut socket, self.call(Dial::Connect, &self.end(at)))
    }
}

/// The frontend that a process is told in the place of `backend`.
fn told<A: Address>(socket: &mut Socket<A>, backend: &Frontend<A>) -> Option<Frontend<A>> {
    socket.latest(|peer| peer.backend == *backend).map(|peer| peer.frontend)
}

/// Runs a test in both families.
macro_rules! in_both_families {
    ($($(#[$doc:meta])* fn $name:ident($stage:ident: $type:ty) $body:block)+) => {
        $(
            #[test]
            fn $name() {
                fn test<A: InMemory + InSettings>(mut $stage: Stage<A>)
                where
                    Rows: Tables<A>,
                {
                    let _ = &mut $stage;
                    $body
                }
                test::<V4>(Stage::new(|rows| &mut rows.v4));
                test::<V6>(Stage::new(|rows| &mut rows.v6));
            }
        )+
    };
}

in_both_families! {
    fn who_connects_to_a_frontend_gets_a_backend_and_is_told_the_frontend(stage: Stage<A>) {
        let mut socket = Socket::new();
        let frontend = stage.frontend(Dialled::Elsewhere);
        assert!(concerns(&stage.world, &frontend));
        let call = stage.call(Dial::Connect, &frontend);
        assert_eq!(stage.dial(&mut socket, call), Ok(stage.pod(Pod::Elsewhere)));
        assert_eq!(told(&mut socket, &stage.pod(Pod::Elsewhere)), Some(frontend));
        assert_eq!(told(&mut socket, &stage.pod(Pod::Here)), None);
        let traffic = A::of(&stage.world).traffic.borrow().clone();
        assert_eq!(traffic[&BackendId(Pod::Elsewhere as u32)].connections, 1);
    }

    fn what_no_backend_serves_ends_as_its_packets_would(stage: Stage<A>) {
        let undefined = SocketAddr::new(stage.lab.dial(Dialled::Here).ip(), 81);
        for (at, outcome) in [
            (stage.lab.dial(Dialled::Nobody), Outcome::RejectedNoEndpoint),
            (stage.lab.dial(Dialled::NobodyHere), Outcome::NoLocalEndpoint),
            (stage.lab.dial(Dialled::Broken), Outcome::NoBackend),
            (undefined, Outcome::RejectedUndefinedPort),
            (stage.lab.unallocated(80), Outcome::UnallocatedAddress),
            (stage.lab.dial(Dialled::Restricted), Outcome::SourceRange),
        ] {
            assert!(concerns(&stage.world, &stage.end(at)));
            assert_eq!(stage.connect(at), Err(outcome), "{at}");
        }
        assert!(!concerns(&stage.world, &stage.end(stage.lab.client(80))));
    }

    fn source_ranges_are_compared_with_the_nodes_own_address(stage: Stage<A>) {
        let service = stage.row(Dialled::Restricted).service;
        let own = SourceRange::of(service, lab::address(stage.lab.node(0).ip()));
        stage.rows().source_ranges.insert(own);
        assert_eq!(stage.connect(stage.lab.dial(Dialled::Restricted)), Ok(stage.pod(Pod::Here)));
    }

    fn datagrams_go_where_the_last_one_went_until_nothing_serves_there(stage: Stage<A>) {
        let row = stage.row(Dialled::Here);
        row.pools = [Pool { base: 0, length: 2 }; 3];
        let frontend = stage.frontend(Dialled::Here);
        let mut socket = Socket::new();
        let mut to = |stage: &Stage<A>, entropy| {
            stage.dial(&mut socket, Call { entropy, ..stage.call(Dial::Datagram, &frontend) })
        };
        let first = to(&stage, 0).unwrap();
        assert!((1..200).all(|entropy| to(&stage, entropy) == Ok(first)));
        let pod = if first == stage.pod(Pod::Here) { Pod::Here } else { Pod::Elsewhere };
        stage.world.tables.retire(pod as u32);
        // Until the agent has written another pool the same backend is chosen; then another one is.
        let other = if pod == Pod::Here { 1 } else { 0 };
        stage.row(Dialled::Here).pools = [Pool { base: other, length: 1 }; 3];
        assert_ne!(to(&stage, 7).unwrap(), first);
    }

    fn of_many_frontends_the_latest_are_remembered(stage: Stage<A>) {
        let template = *stage.row(Dialled::Here);
        let mut socket = Socket::new();
        let pod = stage.pod(Pod::Here);
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
            stage.rows().backends.insert(id, backend);
            stage.world.tables.slots.push(id);
            let base = stage.world.tables.slots.len() as u32 - 1;
            let row = FrontendRow { pools: [Pool { base, length: 1 }; 3], ..template };
            stage.rows().frontends.insert(frontend, row);
            let backend = stage.dial(&mut socket, stage.call(Dial::Datagram, &frontend));
            ends.push((frontend, backend.unwrap()));
        }
        let all: Vec<_> = ends.iter().map(|(_, backend)| told(&mut socket, backend)).collect();
        assert_eq!(all[0], None);
        for (told, (frontend, _)) in all.iter().zip(&ends).skip(1) {
            assert_eq!(*told, Some(*frontend));
        }
    }

    fn answers_of_a_backend_behind_two_frontends_are_those_of_the_one_dialled_last(stage: Stage<A>) {
        let mut socket = Socket::new();
        let pod = stage.pod(Pod::Here);
        let frontends = [Dialled::Here, Dialled::HereToo].map(|dialled| stage.frontend(dialled));
        for frontend in frontends.into_iter().chain(frontends) {
            assert_eq!(stage.dial(&mut socket, stage.call(Dial::Datagram, &frontend)), Ok(pod));
            assert_eq!(told(&mut socket, &pod), Some(frontend));
        }
    }

    fn who_connects_to_a_backend_itself_is_told_the_backend(stage: Stage<A>) {
        let mut socket = Socket::new();
        let (frontend, pod) = (stage.frontend(Dialled::Here), stage.pod(Pod::Here));
        assert_eq!(stage.dial(&mut socket, stage.call(Dial::Connect, &frontend)), Ok(pod));
        assert!(concerns(&stage.world, &pod));
        let itself = stage.call(Dial::Connect, &pod);
        assert_eq!(stage.dial(&mut socket, itself), Err(Outcome::NotAService));
        assert_eq!(told(&mut socket, &pod), None);
    }

    fn a_node_keeps_its_backend_where_the_service_asks_for_affinity(stage: Stage<A>) {
        let row = stage.row(Dialled::Here);
        row.pools = [Pool { base: 0, length: 2 }; 3];
        row.affinity = 100;
        for backend in stage.rows().backends.values_mut() {
            backend.flags |= Backend::<A>::FOR_CLUSTER;
        }
        let frontend = stage.frontend(Dialled::Here);
        let dial = |entropy| {
            let call = Call { entropy, ..stage.call(Dial::Connect, &frontend) };
            stage.dial(&mut Socket::new(), call)
        };
        let first = dial(0).unwrap();
        assert!((1..200).all(|entropy| dial(entropy) == Ok(first)));
    }

    fn what_goes_by_the_clients_address_is_left_to_the_packets_of_a_pods_socket(stage: Stage<A>) {
        stage.row(Dialled::HereToo).affinity = 100;
        for (dialled, end) in [
            (Dialled::Here, Ok(stage.pod(Pod::Here))),
            (Dialled::HereToo, Err(Outcome::LeftToTc)),
            (Dialled::Restricted, Err(Outcome::LeftToTc)),
        ] {
            let frontend = stage.frontend(dialled);
            let call =
                Call { class: SourceClass::Pod, ..stage.call(Dial::Connect, &frontend) };
            assert_eq!(stage.dial(&mut Socket::new(), call), end);
        }
    }

    fn a_datagram_socket_that_is_only_connected_is_refused_by_no_port_that_is_missing(stage: Stage<A>) {
        let at = stage.lab.dial(Dialled::Here);
        let missing = Frontend { protocol: Protocol::UDP, ..stage.end((at.ip(), 81).into()) };
        let outcome = |dial| stage.dial(&mut Socket::new(), stage.call(dial, &missing));
        assert_eq!(outcome(Dial::Connect), Err(Outcome::NotAService));
        assert_eq!(outcome(Dial::Datagram), Err(Outcome::RejectedUndefinedPort));
    }

    fn a_pods_datagram_socket_that_is_connected_is_left_to_its_packets(stage: Stage<A>) {
        let here = stage.frontend(Dialled::Here);
        let udp = Frontend { protocol: Protocol::UDP, ..here };
        for (dial, frontend, end) in [
            (Dial::Connect, &here, Ok(stage.pod(Pod::Here))),
            (Dial::Connect, &udp, Err(Outcome::LeftToTc)),
            // A pod's own server answers it so, where the pod reaches itself by its packets.
            (Dial::Datagram, &Frontend { port: Port::new(40_000), ..udp }, Err(Outcome::LeftToTc)),
        ] {
            let call = Call { class: SourceClass::Pod, ..stage.call(dial, frontend) };
            assert_eq!(stage.dial(&mut Socket::new(), call), end);
        }
    }

    fn sockets_of_one_node_spread_over_all_backends(stage: Stage<A>) {
        stage.row(Dialled::Here).pools = [Pool { base: 0, length: 2 }; 3];
        let (frontend, pod) = (stage.frontend(Dialled::Here), stage.pod(Pod::Here));
        let backends = (0..1000).map(|entropy| {
            let call = Call { entropy, ..stage.call(Dial::Connect, &frontend) };
            stage.dial(&mut Socket::new(), call)
        });
        let here = backends.filter(|backend| *backend == Ok(pod)).count();
        assert!((400..600).contains(&here), "{here} of 1000");
    }
}
