//! Socket load balancing: the programs of a cgroup, called at connect(2), sendmsg(2), recvmsg(2) and
//! getpeername(2) of the processes in it.

use core::ptr::read_volatile;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_set_retval,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use lb_common::address::{Port, Protocol, V6};
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::{Frontend, SourceClass};
use lb_common::socket::UdpConnected;
use lb_ebpf::socket_lb::{self, Call, CallKind, may_be_service};
use lb_ebpf::world::Tables;

use super::sock_addr::{Mapped, Native, SockAddr, own_port, peer, read, write};
use crate::kernel::context::{Context, count_call};
use crate::kernel::features;
use crate::kernel::maps::{FamilyMaps, NAMESPACE, SETTINGS, UDP_CONNECTED};

/// The call goes on.
const ALLOW: i32 = 1;
/// The call fails: with `EPERM`, unless another error is set.
const DENY: i32 = 0;

const ECONNREFUSED: i32 = 111;

/// connect(2) to an IPv4 address.
#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    select::<Native>(&context, CallKind::Connect)
}

/// connect(2) to an IPv6 address.
#[cgroup_sock_addr(connect6)]
pub fn connect6(context: SockAddrContext) -> i32 {
    if Mapped::is(&context) {
        select::<Mapped>(&context, CallKind::Connect)
    } else {
        select::<V6>(&context, CallKind::Connect)
    }
}

/// sendmsg(2) to an IPv4 address by UDP.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(context: SockAddrContext) -> i32 {
    select::<Native>(&context, CallKind::Sendmsg)
}

/// sendmsg(2) to an IPv6 address by UDP. IPv4-mapped addresses go to `sendmsg4`.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(context: SockAddrContext) -> i32 {
    select::<V6>(&context, CallKind::Sendmsg)
}

/// recvmsg(2) from an IPv4 address by UDP.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(context: SockAddrContext) -> i32 {
    restore_peer::<Native>(&context)
}

/// recvmsg(2) from an IPv6 address by UDP.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(context: SockAddrContext) -> i32 {
    if Mapped::is(&context) {
        restore_peer::<Mapped>(&context)
    } else {
        restore_peer::<V6>(&context)
    }
}

/// getpeername(2) of a socket with an IPv4 peer.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(context: SockAddrContext) -> i32 {
    restore_peer::<Native>(&context)
}

/// getpeername(2) of a socket with an IPv6 peer.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(context: SockAddrContext) -> i32 {
    if Mapped::is(&context) {
        restore_peer::<Mapped>(&context)
    } else {
        restore_peer::<V6>(&context)
    }
}

/// connect(2) to an IPv4 address, while the agent asks for the cookie of its network namespace.
#[cgroup_sock_addr(connect4)]
pub fn own_namespace(context: SockAddrContext) -> i32 {
    if let Some(question) = NAMESPACE.get_ptr_mut(0) {
        // SAFETY: the kernel keeps the element there; the agent, whose call alone counts here, writes it
        // before it connects and reads it afterwards. The context is this program's own.
        unsafe {
            if (*question).socket == bpf_get_socket_cookie(context.as_ptr()) {
                (*question).namespace = bpf_get_netns_cookie(context.as_ptr());
            }
        }
    }
    ALLOW
}

/// A process connects or sends to an address: replaces a frontend by a backend.
#[inline(always)]
fn select<F: SockAddr>(context: &SockAddrContext, kind: CallKind) -> i32 {
    let Some(class) = class(context) else { return ALLOW };
    let outcome = match replace::<F>(context, class, kind) {
        Ok(()) => Outcome::SocketConnected,
        Err(outcome) => outcome,
    };
    count_call(outcome);
    match outcome.disposition() {
        Disposition::Translated | Disposition::Passed => ALLOW,
        Disposition::IcmpReplied => refuse::<F>(context, kind),
        Disposition::Queued | Disposition::Dropped => DENY,
    }
}

/// Has the call fail with `ECONNREFUSED`. Where the kernel lets no error be set, a TCP socket goes to a port of this
/// node itself that refuses it: port 0, at which nothing can listen. A datagram fails with `EPERM` there.
#[inline(always)]
fn refuse<F: SockAddr>(context: &SockAddrContext, kind: CallKind) -> i32 {
    if features::sets_errors() {
        // SAFETY: the helper takes a plain number. It returns the error that another program has set before.
        unsafe { bpf_set_retval(-ECONNREFUSED) };
        return DENY;
    }
    if !matches!(kind, CallKind::Connect) || !may_use_loopback(context) {
        return DENY;
    }
    write::<F>(context, &Frontend::new(F::loopback(), Port::new(0), Protocol::TCP));
    ALLOW
}

/// Whether this is a TCP socket that may send by the loopback device: one that is bound to no device.
#[inline(always)]
fn may_use_loopback(context: &SockAddrContext) -> bool {
    // SAFETY: the context and its socket exist while the program runs; these are plain reads of whole fields.
    unsafe {
        let fields = context.sock_addr;
        let socket = (*fields).__bindgen_anon_1.sk;
        read_volatile(&raw const (*fields).protocol) == u32::from(Protocol::TCP.0)
            && !socket.is_null()
            && read_volatile(&raw const (*socket).bound_dev_if) == 0
    }
}

#[inline(always)]
fn replace<F: SockAddr>(
    context: &SockAddrContext,
    class: SourceClass,
    kind: CallKind,
) -> Result<(), Outcome> {
    let frontend = read::<F>(context)?;
    let kernel = Context::new(context.as_ptr(), 0, false);
    if !may_be_service(&kernel, &frontend.0) {
        return Err(Outcome::PassedNotAService);
    }
    // SAFETY: the helper takes nothing.
    let entropy = unsafe { bpf_get_prandom_u32() } as u16;
    let call = Call { kind, frontend: &frontend.0, class, own_port: own_port(context), entropy };
    if socket_lb::is_left_to_packets(&kernel, &call)
        || matches!(kind, CallKind::Sendmsg) && peer::<F>(context) == frontend.0
    {
        return Err(Outcome::PassedLeftToTc);
    }
    // SAFETY: the context's socket exists while the program runs, and is locked, so no other reference
    // to its storage exists.
    let socket = unsafe { F::Address::SOCK_REV_NAT.get_or_insert_ptr_mut(context, None).as_mut() };
    let Some(socket) = socket else {
        // Without memory for it what is sent to a Service is left to its packets.
        let is_frontend = kernel.frontend(&frontend.0).is_some();
        return Err(if is_frontend {
            socket_lb::or_left(&kernel, &call, Outcome::DroppedConntrackFull)
        } else {
            Outcome::PassedNotAService
        });
    };
    // SAFETY: as above; it is asked for once.
    let scratch =
        || unsafe { F::Address::SOCK_SCRATCH.get_or_insert_ptr_mut(context, None).as_mut() };
    let is_stored = matches!(kind, CallKind::Connect) && frontend.0.protocol == Protocol::UDP;
    let selected = match socket_lb::select(socket, &kernel, call, scratch) {
        Ok(peer) => {
            write::<F>(context, &peer.backend);
            if is_stored {
                store_connected(context, Some(&UdpConnected::of(peer)));
            }
            Ok(())
        }
        Err(outcome) => {
            if is_stored {
                store_connected(context, None);
            }
            Err(outcome)
        }
    };
    free_scratch::<F>(context);
    selected
}

/// Stores the backend that a UDP socket is connected to instead of a frontend: no program sees its
/// datagrams, so the agent has to destroy it once the backend no longer serves.
#[inline(always)]
fn store_connected(context: &SockAddrContext, connected: Option<&UdpConnected>) {
    // SAFETY: the context is this program's own.
    let cookie = unsafe { bpf_get_socket_cookie(context.as_ptr()) };
    // Refused for want of memory, the socket keeps its backend until its process connects again; for
    // most sockets there is nothing to remove.
    let _refused = match connected {
        Some(connected) => UDP_CONNECTED.insert(&cookie, connected, u64::from(BPF_ANY)),
        None => UDP_CONNECTED.remove(&cookie),
    };
}

/// Frees the scratch space of a call: most sockets connect once.
#[inline(always)]
fn free_scratch<F: SockAddr>(context: &SockAddrContext) {
    // SAFETY: the context's socket exists, and no reference to its scratch space does any more. That
    // it had none is no error.
    let _none = unsafe {
        let socket = (*context.sock_addr).__bindgen_anon_1.sk;
        F::Address::SOCK_SCRATCH.delete(socket)
    };
}

/// A process asks for an address: replaces a backend by the frontend that it connected or sent to.
#[inline(always)]
fn restore_peer<F: SockAddr>(context: &SockAddrContext) -> i32 {
    if class(context).is_none() {
        return ALLOW;
    }
    // SAFETY: as in `replace`.
    let socket = unsafe { F::Address::SOCK_REV_NAT.get_ptr_mut(context).as_mut() };
    let Ok(backend) = read::<F>(context) else { return ALLOW };
    match socket.and_then(|socket| socket.latest(|peer| peer.backend == backend.0)) {
        Some(peer) => {
            write::<F>(context, &peer.frontend);
            count_call(Outcome::SocketPeerRestored);
        }
        None => count_call(Outcome::PassedNotAService),
    }
    ALLOW
}

/// The class of the calling process; `None` if its sockets are not balanced.
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
