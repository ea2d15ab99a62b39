//! Whether a frame from the network is for this node by its destination link address. The stack drops IP
//! packets in frames for others (`ip_rcv`, `ip6_rcv_core`) and forwards none that came as link-layer broadcast
//! or multicast (`ip_forward`, `ip6_forward`): both are left to it.

use aya_ebpf::bindings::__sk_buff;
use lb_common::device::Device;
use lb_ebpf::packet::Packet;
use lb_ebpf::world::AcceptedLink;

use super::context::Context;
use super::maps::DEVICES;
use super::packet_access;

/// `PACKET_HOST`, include/uapi/linux/if_packet.h: to the device's own address.
const PACKET_HOST: u32 = 0;
/// `PACKET_OTHERHOST`: to another host's.
const PACKET_OTHERHOST: u32 = 3;

/// At TC the kernel has compared already (`eth_type_trans`). The port of a bridge gets frames for the
/// bridge, whose address may be another: the row of such a port says which.
#[inline(always)]
pub fn is_taken_by_stack(context: &Context) -> bool {
    let skb = context.context.cast::<__sk_buff>();
    // SAFETY: at TC the context is a socket buffer; a plain read of it.
    match unsafe { (*skb).pkt_type } {
        PACKET_HOST => true,
        PACKET_OTHERHOST => is_port_of_own_bridge(skb, context.device),
        _ => false,
    }
}

/// Few frames are for others. In line, the verifier would walk all that follows once more for this path.
#[inline(never)]
fn is_port_of_own_bridge(skb: *mut __sk_buff, device: u32) -> bool {
    // SAFETY: the program's context, and there is no other reference into the packet.
    let Some(destination) = (unsafe { packet_access::of_skb::<6>(skb, 0) }) else { return false };
    row(device).is_some_and(|row| row.link == [0; 6] || row.link == *destination)
}

/// At XDP the device's row has its address. A device without one is not restricted: either it takes frames
/// of any address, or its row is still to be written, and the stack decides about what is left to TC.
#[inline(always)]
pub fn is_own<P: Packet + ?Sized>(
    context: &Context,
    frame: &mut P,
    accepted: &mut AcceptedLink,
) -> bool {
    let Some(destination) = frame.header::<6>(0) else { return false };
    let this = AcceptedLink::new(context.device, *destination);
    if *accepted == this {
        return true;
    }
    let Some(row) = row(context.device) else { return true };
    if row.link == *destination {
        *accepted = this;
        return true;
    }
    row.link == [0; 6]
}

/// The row of `device`.
#[inline(always)]
fn row(device: u32) -> Option<&'static Device> {
    // SAFETY: the kernel keeps the element readable until the program ends. The agent replaces rows by
    // whole elements, so what is read is of one row.
    DEVICES.get_ptr(&device).map(|row| unsafe { &*row })
}
