//! Socket addresses as the context of a cgroup program has them: IPv4, IPv6, and IPv4 mapped into IPv6.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::programs::SockAddrContext;
use lb_common::address::{Port, Protocol, V4, V6};
use lb_common::outcome::Outcome;
use lb_common::service::Frontend;
use lb_common::settings::InSettings;

use crate::kernel::flow_table::FlowTable;

/// Protocols as the context has them, in a word.
const TCP: u32 = Protocol::TCP.0 as u32;
const UDP: u32 = Protocol::UDP.0 as u32;

/// An address, port and protocol on the BPF stack, which the compiler writes in words of eight bytes.
#[repr(align(8))]
pub struct Aligned<A>(pub Frontend<A>);

/// The address, port and protocol in the context.
///
/// # Errors
/// The outcome of a call of another protocol.
#[inline(always)]
pub fn read<F: SockAddr>(context: &SockAddrContext) -> Result<Aligned<F::Address>, Outcome> {
    let fields = context.sock_addr;
    // SAFETY: the context is valid; these are plain reads of it, each of a whole field.
    let (port, protocol) = unsafe {
        (
            read_volatile(&raw const (*fields).user_port),
            read_volatile(&raw const (*fields).protocol),
        )
    };
    // Not by its low byte: MPTCP's number (262) ends as TCP's does.
    let protocol = match protocol {
        TCP => Protocol::TCP,
        UDP => Protocol::UDP,
        _ => return Err(Outcome::PassedUnsupportedProtocol),
    };
    let port = Port((port as u16).to_ne_bytes());
    Ok(Aligned(Frontend::new(F::address(fields), port, protocol)))
}

/// The port that the socket of the call has; 0 if it has none.
#[inline(always)]
pub fn own_port(context: &SockAddrContext) -> Port {
    // SAFETY: the context is valid, and has a socket; this is a plain read of a whole field of it.
    Port::new(unsafe {
        read_volatile(&raw const (*(*context.sock_addr).__bindgen_anon_1.sk).src_port)
    } as u16)
}

/// What the UDP socket of the call is connected to; no address and no port if it is not connected.
#[inline(always)]
pub fn peer<F: SockAddr>(context: &SockAddrContext) -> Frontend<F::Address> {
    // SAFETY: the context is valid, and has a socket; these are plain reads of whole fields of it.
    let (socket, port) = unsafe {
        let socket = (*context.sock_addr).__bindgen_anon_1.sk;
        (socket, read_volatile(&raw const (*socket).dst_port))
    };
    Frontend::new(F::peer_address(socket), Port(port.to_ne_bytes()), Protocol::UDP)
}

/// Writes address and port into the context.
#[inline(always)]
pub fn write<F: SockAddr>(context: &SockAddrContext, end: &Frontend<F::Address>) {
    let fields = context.sock_addr;
    F::set_address(fields, &end.address);
    let port = u32::from(u16::from_ne_bytes(end.port.0));
    // SAFETY: the context is valid, and the field is one that may be written.
    unsafe { write_volatile(&raw mut (*fields).user_port, port) };
}

/// How an address stands in the context: in network byte order throughout.
pub trait SockAddr {
    /// Its family.
    type Address: FlowTable + InSettings;
    /// This node's own loopback address.
    fn loopback() -> Self::Address;
    /// Reads the address.
    fn address(fields: *mut bpf_sock_addr) -> Self::Address;
    /// Reads the address that a socket is connected to.
    fn peer_address(socket: *const bpf_sock) -> Self::Address;
    /// Writes the address.
    fn set_address(fields: *mut bpf_sock_addr, address: &Self::Address);
}

/// IPv4 of an IPv4 socket.
pub struct Native;

impl SockAddr for Native {
    type Address = V4;

    #[inline(always)]
    fn loopback() -> V4 {
        V4([127, 0, 0, 1])
    }

    #[inline(always)]
    fn address(fields: *mut bpf_sock_addr) -> V4 {
        // SAFETY: the context is valid, and every program here may read this field.
        V4(unsafe { read_volatile(&raw const (*fields).user_ip4) }.to_ne_bytes())
    }

    #[inline(always)]
    fn peer_address(socket: *const bpf_sock) -> V4 {
        // SAFETY: the context's socket exists while the program runs; a plain read of it.
        V4(unsafe { read_volatile(&raw const (*socket).dst_ip4) }.to_ne_bytes())
    }

    #[inline(always)]
    fn set_address(fields: *mut bpf_sock_addr, address: &V4) {
        // SAFETY: as above, and write it.
        unsafe { write_volatile(&raw mut (*fields).user_ip4, u32::from_ne_bytes(address.0)) };
    }
}

impl SockAddr for V6 {
    type Address = V6;

    #[inline(always)]
    fn loopback() -> V6 {
        V6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    }

    #[inline(always)]
    fn address(fields: *mut bpf_sock_addr) -> V6 {
        V6(bytemuck::cast([0, 1, 2, 3].map(|i| word(fields, i))))
    }

    #[inline(always)]
    fn peer_address(socket: *const bpf_sock) -> V6 {
        // SAFETY: as for IPv4, each word by itself.
        let word =
            |i| unsafe { read_volatile((&raw const (*socket).dst_ip6).cast::<u32>().add(i)) };
        V6(bytemuck::cast([0, 1, 2, 3].map(word)))
    }

    #[inline(always)]
    fn set_address(fields: *mut bpf_sock_addr, address: &V6) {
        let words: [u32; 4] = bytemuck::cast(*address);
        for (i, word) in words.into_iter().enumerate() {
            set_word(fields, i, word);
        }
    }
}

/// An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2): of an IPv6 socket that uses IPv4.
pub struct Mapped;

impl Mapped {
    /// Whether the context has such an address.
    #[inline(always)]
    pub fn is(context: &SockAddrContext) -> bool {
        let [first, second, third] = [0, 1, 2].map(|i| word(context.sock_addr, i));
        first | second == 0 && third == 0xffff_u32.to_be()
    }
}

impl SockAddr for Mapped {
    type Address = V4;

    #[inline(always)]
    fn loopback() -> V4 {
        Native::loopback()
    }

    #[inline(always)]
    fn address(fields: *mut bpf_sock_addr) -> V4 {
        V4(word(fields, 3).to_ne_bytes())
    }

    #[inline(always)]
    fn peer_address(socket: *const bpf_sock) -> V4 {
        Native::peer_address(socket)
    }

    #[inline(always)]
    fn set_address(fields: *mut bpf_sock_addr, address: &V4) {
        set_word(fields, 3, u32::from_ne_bytes(address.0));
    }
}

/// A word of an IPv6 address; `i` is below four.
#[inline(always)]
fn word(fields: *mut bpf_sock_addr, i: usize) -> u32 {
    // SAFETY: the context is valid, the programs that ask may read these fields, and each word by
    // itself; the compiler must not make one read of two.
    unsafe { read_volatile((&raw const (*fields).user_ip6).cast::<u32>().add(i)) }
}

#[inline(always)]
fn set_word(fields: *mut bpf_sock_addr, i: usize, word: u32) {
    // SAFETY: as in `word`, and write them.
    unsafe { write_volatile((&raw mut (*fields).user_ip6).cast::<u32>().add(i), word) };
}
