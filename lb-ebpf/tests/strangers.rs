//! What a stranger to a flow can do to it who sees none of its packets: guess. And what time does.

use lb_common::address::{Address, Family, Protocol, V4, V6};
use lb_common::conntrack::{State, Ticks};
use lb_common::outcome::Disposition;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{self, BACKEND_PORT, Pod, Target, Topology};
use lb_ebpf::cases::{PAYLOAD, Program};
use lb_ebpf::in_memory::{InMemory, Rows, World};
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::Table;

/// Interface index of the network device.
const DEVICE: u32 = 7;

/// A pod's flow to the Service with the local backend.
struct Flow {
    world: World<Rows>,
    topology: Topology,
    protocol: Protocol,
}

/// Which side of a flow sends.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Backend,
}

impl Flow {
    /// One in each family.
    fn of(protocol: Protocol) -> [Self; 2] {
        Family::ALL.map(|family| {
            let world = topology::world(DEVICE);
            Self { world, topology: Topology { family }, protocol }
        })
    }

    /// One in each family that both sides have established.
    fn established(protocol: Protocol) -> [Self; 2] {
        let flows = Self::of(protocol);
        for flow in &flows {
            flow.send(Side::Client, Kind::Open, |_| {});
            flow.send(Side::Backend, Kind::Accept, |_| {});
            flow.send(Side::Client, Kind::Data, |_| {});
            flow.send(Side::Backend, Kind::Data, |_| {});
            assert!(flow.is_in(Table::Established));
        }
        flows
    }

    /// Sends a packet whose transport header `edit` has changed; it must be translated.
    fn send(&self, side: Side, kind: Kind, edit: impl Fn(&mut [u8])) {
        let client = self.topology.client_pod(40_000);
        let (program, from, to) = match side {
            Side::Client => (Program::FromPod, client, self.topology.frontend(Target::Local)),
            Side::Backend => {
                (Program::ToDevice, self.topology.pod(Pod::Local, BACKEND_PORT), client)
            }
        };
        let mut frame = frame::frame(from, to, self.protocol, kind, PAYLOAD);
        let transport = match self.topology.family {
            Family::V4 => 34,
            Family::V6 => 54,
        };
        edit(&mut frame[transport..]);
        let result = walk(&mut frame, &self.world, program.hook(), &mut Scratch::new());
        assert_eq!(result.outcome.disposition(), Disposition::Translated, "{result:?}");
    }

    fn wait(&self, ticks: u32) {
        self.world.now.set(Ticks(self.world.now.get().0 + ticks));
    }

    fn states(&self, table: Table) -> Vec<State> {
        match self.topology.family {
            Family::V4 => states::<V4>(&self.world, table),
            Family::V6 => states::<V6>(&self.world, table),
        }
    }

    fn is_in(&self, table: Table) -> bool {
        self.states(table).len() == 2
    }

    fn is_over(&self) -> bool {
        let states = self.states(Table::Established);
        assert_eq!(states[0].is_over(), states[1].is_over(), "{states:?}");
        states[0].is_over()
    }
}

fn states<A: Address + InMemory>(world: &World<Rows>, table: Table) -> Vec<State> {
    A::of(world).entries(table).into_values().map(|entry| entry.state).collect()
}

/// Adds to the sequence number of TCP, or the verification tag of SCTP: both stand there.
fn shift_sequence(by: u32) -> impl Fn(&mut [u8]) {
    move |transport| {
        let number = transport.first_chunk::<8>().expect("a transport header")[4..].try_into();
        let shifted = u32::from_be_bytes(number.expect("four bytes")).wrapping_add(by);
        transport[4..8].copy_from_slice(&shifted.to_be_bytes());
    }
}

#[test]
fn a_reset_ends_a_flow_only_if_its_sender_knows_the_flow() {
    for protocol in [Protocol::TCP, Protocol::SCTP] {
        for side in [Side::Client, Side::Backend] {
            for flow in Flow::established(protocol) {
                for guess in [1 << 20, 1 << 31, u32::MAX] {
                    flow.send(side, Kind::Reset, shift_sequence(guess));
                    assert!(!flow.is_over(), "{protocol}, {guess}");
                }
                flow.send(side, Kind::Reset, |_| {});
                assert!(flow.is_over(), "{protocol}");
            }
        }
    }
}

#[test]
fn a_reset_is_known_after_data_has_moved_the_numbers() {
    for flow in Flow::established(Protocol::TCP) {
        flow.wait(1);
        // The backend acknowledges what the client has sent meanwhile.
        let acknowledged = 1_000_000_u32;
        flow.send(Side::Backend, Kind::Data, |tcp| {
            tcp[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        });
        flow.send(Side::Client, Kind::Reset, |_| {});
        assert!(!flow.is_over(), "a number from the past");
        flow.send(Side::Client, Kind::Reset, |tcp| {
            tcp[4..8].copy_from_slice(&acknowledged.to_be_bytes());
        });
        assert!(flow.is_over());
    }
}

#[test]
fn data_under_way_does_not_revive_a_flow_that_was_reset_but_data_long_after_does() {
    for protocol in [Protocol::TCP, Protocol::SCTP] {
        for flow in Flow::established(protocol) {
            flow.send(Side::Client, Kind::Reset, |_| {});
            flow.send(Side::Client, Kind::Data, |_| {});
            flow.wait(2);
            flow.send(Side::Backend, Kind::Data, |_| {});
            assert!(flow.is_over(), "{protocol}");
            flow.wait(1);
            flow.send(Side::Backend, Kind::Data, |_| {});
            assert!(!flow.is_over(), "{protocol}");
        }
    }
}

#[test]
fn a_flow_is_established_by_a_client_that_knows_the_reply() {
    for protocol in [Protocol::TCP, Protocol::SCTP] {
        for flow in Flow::of(protocol) {
            let wrong = |transport: &mut [u8]| {
                let at = if protocol == Protocol::TCP { 8 } else { 4 };
                transport[at] ^= 0x40;
            };
            flow.send(Side::Client, Kind::Open, |_| {});
            flow.send(Side::Backend, Kind::Accept, |_| {});
            flow.send(Side::Client, Kind::Data, wrong);
            assert!(flow.is_in(Table::HalfOpen), "{protocol}: a guess has established a flow");
            flow.send(Side::Client, Kind::Data, |_| {});
            assert!(flow.is_in(Table::Established), "{protocol}");
        }
    }
}

#[test]
fn a_second_syn_replaces_what_the_first_one_was_to_be_acknowledged_with() {
    for flow in Flow::of(Protocol::TCP) {
        flow.send(Side::Client, Kind::Open, shift_sequence(1 << 30));
        flow.send(Side::Backend, Kind::Accept, shift_sequence(1 << 30));
        flow.send(Side::Client, Kind::Open, |_| {});
        flow.send(Side::Backend, Kind::Accept, |_| {});
        flow.send(Side::Client, Kind::Data, |_| {});
        assert!(flow.is_in(Table::Established));
        flow.send(Side::Client, Kind::Reset, |_| {});
        assert!(flow.is_over());
    }
}

#[test]
fn a_datagram_flow_is_established_by_lasting_whether_it_has_replies_or_not() {
    for has_replies in [false, true] {
        for flow in Flow::of(Protocol::UDP) {
            for wait in [0, 0, 1, 1] {
                flow.wait(wait);
                flow.send(Side::Client, Kind::Data, |_| {});
                if has_replies {
                    flow.send(Side::Backend, Kind::Data, |_| {});
                }
                assert!(flow.is_in(Table::HalfOpen));
            }
            flow.wait(1);
            flow.send(Side::Client, Kind::Data, |_| {});
            assert!(flow.is_in(Table::Established));
            flow.send(Side::Backend, Kind::Data, |_| {});
            let states = flow.states(Table::Established);
            assert!(states.iter().all(|state| state.has(State::REPLIED)), "{states:?}");
        }
    }
}
