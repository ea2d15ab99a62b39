//! Programs of a cgroup: they stand in connect(2), sendmsg(2), recvmsg(2) and getpeername(2) of the
//! processes in it.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_set_retval,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use lb_common::address::{Port, Protocol, V4, V6};
use lb_common::outcome::{Ending, Outcome};
use lb_common::service::{Frontend, SourceClass};
use lb_common::settings::InSettings;
use lb_common::socket::Dialled;
use lb_ebpf::socket::{self, Call, Dial, concerns};
use lb_ebpf::tables::Tables;

use super::features;
use super::maps::{DIALLED, FamilyMaps, NAMESPACE, SETTINGS};
use super::world::{Kernel, count_call};

/// The call goes on.
const ALLOW: i32 = 1;
/// The call fails: with `EPERM`, unless another error is set.
const DENY: i32 = 0;

const ECONNREFUSED: i32 = 111;

/// Protocols as the context has them, in a word.
const TCP: u32 = Protocol::TCP.0 as u32;
const UDP: u32 = Protocol::UDP.0 as u32;

/// connect(2) to an IPv4 address.
#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    dial::<Plain>(&context, Dial::Connect)
}

/// connect(2) to an IPv6 address.
#[cgroup_sock_addr(connect6)]
pub fn connect6(context: SockAddrContext) -> i32 {
    if Mapped::is(&context) {
        dial::<Mapped>(&context, Dial::Connect)
    } else {
        dial::<V6>(&context, Dial::Connect)
    }
}

/// sendmsg(2) to an IPv4 address by UDP.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(context: SockAddrContext) -> i32 {
    dial::<Plain>(&context, Dial::Datagram)
}

/// sendmsg(2) to an IPv6 address by UDP. Mapped addresses are none: they come by `sendmsg4`.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(context: SockAddrContext) -> i32 {
    dial::<V6>(&context, Dial::Datagram)
}

/// recvmsg(2) from an IPv4 address by UDP.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(context: SockAddrContext) -> i32 {
    tell::<Plain>(&context)
}

/// recvmsg(2) from an IPv6 address by UDP.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(context: SockAddrContext) -> i32 {
    if Mapped::is(&context) { tell::<Mapped>(&context) } else { tell::<V6>(&context) }
}

/// getpeername(2) of a socket with an IPv4 peer.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(context: SockAddrContext) -> i32 {
    tell::<Plain>(&context)
}

/// getpeername(2) of a socket with an IPv6 peer.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(context: SockAddrContext) -> i32 {
    if Mapped::is(&context) { tell::<Mapped>(&context) } else { tell::<V6>(&context) }
}

/// connect(2) to an IPv4 address, while the agent asks for the cookie of its network namespace.
#[cgroup_sock_addr(connect4)]
pub fn own_namespace(context: SockAddrContext) -> i32 {
    if let Some(question) = NAMESPACE.get_ptr_mut(0) {
        // SAFETY: the kernel keeps the element there; the agent, whose call alone is answered, writes it
        // before it connects and reads it afterwards. The context is this program's own.
        unsafe {
            if (*question).socket == bpf_get_socket_cookie(context.as_ptr()) {
                (*question).namespace = bpf_get_netns_cookie(context.as_ptr());
            }
        }
    }
    ALLOW
}

/// A process dials an address: puts a backend in the place of a frontend.
#[inline(always)]
fn dial<F: Form>(context: &SockAddrContext, dial: Dial) -> i32 {
    let Some(class) = class(context) else { return ALLOW };
    let outcome = match replace::<F>(context, class, dial) {
        Ok(()) => Outcome::ForwardedSocket,
        Err(outcome) => outcome,
    };
    count_call(outcome);
    match outcome.ending() {
        Ending::Translated | Ending::Passed => ALLOW,
        Ending::Answered => {
            // Where the kernel lets no error be set, the call fails with `EPERM`.
            if features::sets_errors() {
                // SAFETY: the helper takes a plain number. What it answers is the error that was set
                // before, by a program of somebody else.
                unsafe { bpf_set_retval(-ECONNREFUSED) };
            }
            DENY
        }
        Ending::Held | Ending::Dropped => DENY,
    }
}

#[inline(always)]
fn replace<F: Form>(
    context: &SockAddrContext,
    class: SourceClass,
    dial: Dial,
) -> Result<(), Outcome> {
    let frontend = end::<F>(context)?;
    let kernel = Kernel::new(context.as_ptr(), 0, false);
    if !concerns(&kernel, &frontend.0) {
        return Err(Outcome::NotAService);
    }
    // SAFETY: the context's socket is there while the program runs, and locked, so nobody else has a
    // reference to what is kept of it.
    let socket = unsafe { F::Address::SOCKETS.get_or_insert_ptr_mut(context, None).as_mut() };
    let Some(socket) = socket else {
        // Without memory for it nothing can be dialled by way of a Service, but everything else.
        let is_frontend = kernel.frontend(&frontend.0).is_some();
        return Err(if is_frontend { Outcome::TableFull } else { Outcome::NotAService });
    };
    // SAFETY: as above; it is asked for once.
    let room = || unsafe { F::Address::ROOMS.get_or_insert_ptr_mut(context, None).as_mut() };
    // SAFETY: the helper takes nothing.
    let entropy = unsafe { bpf_get_prandom_u32() } as u16;
    let call = Call { dial, frontend: &frontend.0, class, entropy };
    let is_noted = matches!(dial, Dial::Connect) && frontend.0.protocol == Protocol::UDP;
    let dialled = match socket::dial(socket, &kernel, call, room) {
        Ok(peer) => {
            set_end::<F>(context, &peer.backend);
            if is_noted {
                note(context, Some(&Dialled::of(peer)));
            }
            Ok(())
        }
        Err(outcome) => {
            if is_noted {
                note(context, None);
            }
            Err(outcome)
        }
    };
    give_room_back::<F>(context);
    dialled
}

/// Notes where a UDP socket is connected in the place of a frontend, if it is: no program sees its
/// datagrams, so the agent has to end it once nobody serves there any more.
#[inline(always)]
fn note(context: &SockAddrContext, dialled: Option<&Dialled>) {
    // SAFETY: the context is this program's own.
    let cookie = unsafe { bpf_get_socket_cookie(context.as_ptr()) };
    // Refused for want of memory, the socket stays where it is until its process dials again; of most
    // sockets there is nothing to forget.
    let _refused = match dialled {
        Some(dialled) => DIALLED.insert(&cookie, dialled, u64::from(BPF_ANY)),
        None => DIALLED.remove(&cookie),
    };
}

/// Most sockets dial once.
#[inline(always)]
fn give_room_back<F: Form>(context: &SockAddrContext) {
    // SAFETY: the context's socket is there, and no reference to what is kept of it any more. That
    // there was no room is no error.
    let _none = unsafe {
        let socket = (*context.sock_addr).__bindgen_anon_1.sk;
        F::Address::ROOMS.delete(socket)
    };
}

/// A process is told an address: puts the frontend that it has dialled in the place of a backend.
#[inline(always)]
fn tell<F: Form>(context: &SockAddrContext) -> i32 {
    if class(context).is_none() {
        return ALLOW;
    }
    // SAFETY: as in `replace`.
    let socket = unsafe { F::Address::SOCKETS.get_ptr_mut(context).as_mut() };
    let Ok(backend) = end::<F>(context) else { return ALLOW };
    match socket.and_then(|socket| socket.latest(|peer| peer.backend == backend.0)) {
        Some(peer) => {
            set_end::<F>(context, &peer.frontend);
            count_call(Outcome::RepliedSocket);
        }
        None => count_call(Outcome::NotAService),
    }
    ALLOW
}

/// Who calls; `None` if its sockets are not balanced.
#[inline(always)]
fn class(context: &SockAddrContext) -> Option<SourceClass> {
    let settings = SETTINGS.get(0)?;
    // SAFETY: the context is this program's own.
    let namespace = unsafe { bpf_get_netns_cookie(context.as_ptr()) };
    if settings.namespace == 0 {
        None
    } else if namespace == settings.namespace {
        Some(SourceClass::Host)
    } else if settings.balances_pods_sockets() {
        Some(SourceClass::Pod)
    } else {
        None
    }
}

/// An end on the BPF stack, which the compiler writes in words of eight bytes.
#[repr(align(8))]
struct Aligned<A>(Frontend<A>);

/// The end that the context speaks of.
#[inline(always)]
fn end<F: Form>(context: &SockAddrContext) -> Result<Aligned<F::Address>, Outcome> {
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
        _ => return Err(Outcome::NotTransport),
    };
    let port = Port((port as u16).to_ne_bytes());
    Ok(Aligned(Frontend::new(F::address(fields), port, protocol)))
}

/// Makes the context speak of another end.
#[inline(always)]
fn set_end<F: Form>(context: &SockAddrContext, end: &Frontend<F::Address>) {
    let fields = context.sock_addr;
    F::set_address(fields, &end.address);
    let port = u32::from(u16::from_ne_bytes(end.port.0));
    // SAFETY: the context is valid, and the field is one that may be written.
    unsafe { write_volatile(&raw mut (*fields).user_port, port) };
}

/// How an address stands in the context: in network byte order throughout.
trait Form {
    type Address: FamilyMaps + InSettings;
    fn address(fields: *mut bpf_sock_addr) -> Self::Address;
    fn set_address(fields: *mut bpf_sock_addr, address: &Self::Address);
}

/// IPv4 by itself.
struct Plain;

impl Form for Plain {
    type Address = V4;

    #[inline(always)]
    fn address(fields: *mut bpf_sock_addr) -> V4 {
        // SAFETY: the context is valid, and every program here may read this field.
        V4(unsafe { read_volatile(&raw const (*fields).user_ip4) }.to_ne_bytes())
    }

    #[inline(always)]
    fn set_address(fields: *mut bpf_sock_addr, address: &V4) {
        // SAFETY: as above, and write it.
        unsafe { write_volatile(&raw mut (*fields).user_ip4, u32::from_ne_bytes(address.0)) };
    }
}

impl Form for V6 {
    type Address = V6;

    #[inline(always)]
    fn address(fields: *mut bpf_sock_addr) -> V6 {
        V6(bytemuck::cast([0, 1, 2, 3].map(|i| word(fields, i))))
    }

    #[inline(always)]
    fn set_address(fields: *mut bpf_sock_addr, address: &V6) {
        let words: [u32; 4] = bytemuck::cast(*address);
        for (i, word) in words.into_iter().enumerate() {
            set_word(fields, i, word);
        }
    }
}

/// IPv4 in IPv6's clothes (RFC 4291, section 2.5.5.2): of an IPv6 socket that speaks IPv4.
struct Mapped;

impl Mapped {
    #[inline(always)]
    fn is(context: &SockAddrContext) -> bool {
        let [first, second, third] = [0, 1, 2].map(|i| word(context.sock_addr, i));
        first | second == 0 && third == 0xffff_u32.to_be()
    }
}

impl Form for Mapped {
    type Address = V4;

    #[inline(always)]
    fn address(fields: *mut bpf_sock_addr) -> V4 {
        V4(word(fields, 3).to_ne_bytes())
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
