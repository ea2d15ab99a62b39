//! Attaching at TC on kernels before 6.6, by filters of a clsact qdisc. A filter is no link and
//! cannot be pinned; it stays by itself until it is removed, and is known again by its priority
//! and handle, under which its program is replaced in one step.

use std::io;

use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use crate::datapath::programs::Program;
use crate::host::netlink;

/// Our filters' handle: one that the kernel, which counts from 1, gives to no filter.
const HANDLE: TcHandle = TcHandle::new(0, 0x7765);

/// Filters run in the order of their priority. Those that name none get 49152 and below.
const fn priority(at: TcAttachType) -> u16 {
    match at {
        TcAttachType::Egress => 50_000,
        TcAttachType::Ingress | TcAttachType::Custom(_) => 1,
    }
}

/// Attaches `program` to the device called `name`, or replaces ours that is there.
///
/// # Errors
/// The kernel's errno.
pub fn attach(
    program: &mut SchedClassifier,
    name: &str,
    at: TcAttachType,
) -> Result<(), ProgramError> {
    match qdisc_add_clsact(name) {
        Err(error) if code(&error) != Some(libc::EEXIST) => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let ours = SchedClassifierLink::attached(name, at, priority(at), HANDLE, None)
        .map_err(TcError::from)?;
    let id = match program.attach_to_link(ours) {
        Err(ProgramError::TcError(error)) if code(&error) == Some(libc::ENOENT) => {
            let options = NlOptions { priority: priority(at), handle: HANDLE, classid: None };
            program.attach_with_options(name, at, TcAttachOptions::Netlink(options))?
        }
        replaced => replaced?,
    };
    // Dropped, it would remove the filter.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Removes our filters from the device called `name`, and the qdisc unless it holds filters of others.
///
/// # Errors
/// The kernel's errno; that there is none is no error.
pub fn remove(name: &str) -> Result<bool, TcError> {
    let mut removed = false;
    for at in [TcAttachType::Ingress, TcAttachType::Egress] {
        let names = |program: Program| [program.name(), program.name_with_log()];
        for program in Program::TC.into_iter().chain(Program::L3).flat_map(names) {
            match qdisc_detach_program(name, at, program) {
                Ok(()) => removed = true,
                Err(error) if is_none(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    if removed {
        // Left there it does no harm, and the filters are gone.
        let _stays = remove_empty_qdisc(name);
    }
    Ok(removed)
}

/// Whether a device of this network namespace has a filter of ours: as no link, it is not pinned.
///
/// # Errors
/// The kernel's errno.
pub fn has_filters() -> io::Result<bool> {
    // `TCA_KIND` (include/uapi/linux/rtnetlink.h).
    const KIND: u16 = 1;
    let mut found = false;
    for device in nix::net::if_::if_nameindex()?.iter() {
        list(device.index(), |filter| {
            // `struct tcmsg`, whose third word is the handle, and attributes.
            let Some((message, attributes)) = filter.split_first_chunk::<20>() else { return };
            let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = *message;
            let is_bpf = netlink::values(attributes, KIND).any(|kind| kind == b"bpf\0");
            found |= is_bpf && u32::from_ne_bytes([a, b, c, d]) == u32::from(HANDLE);
        })?;
    }
    Ok(found)
}

/// Lists the filters on both sides of a device; one that is gone has none.
fn list(device: u32, mut read: impl FnMut(&[u8])) -> io::Result<()> {
    // `RTM_GETTFILTER`; the parents of clsact's filters on either side (include/uapi/linux/pkt_sched.h).
    const LIST_FILTERS: u16 = 46;
    const SIDES: [u32; 2] = [0xffff_fff2, 0xffff_fff3];
    for side in SIDES {
        let request = message(device, 0, side);
        let dump = libc::NLM_F_DUMP;
        netlink::request(NETLINK_ROUTE, LIST_FILTERS, dump, request.as_flattened(), &mut read)?;
    }
    Ok(())
}

/// `struct tcmsg`: family and padding, device, handle, parent, info.
fn message(device: u32, handle: u32, parent: u32) -> [[u8; 4]; 5] {
    [0, device, handle, parent, 0].map(u32::to_ne_bytes)
}

/// Removes the clsact qdisc of the device called `name` if no filter is left in it. That it was made by
/// another program that has not filled it yet cannot be seen, nor can a filter that is added in the same
/// moment.
fn remove_empty_qdisc(name: &str) -> io::Result<()> {
    // `RTM_DELQDISC` (include/uapi/linux/rtnetlink.h); clsact's own parent and handle
    // (include/uapi/linux/pkt_sched.h).
    const DELETE_QDISC: u16 = 37;
    const CLSACT: u32 = 0xffff_fff1;
    const HANDLE: u32 = 0xffff_0000;
    let Ok(device) = nix::net::if_::if_nametoindex(name) else {
        // Gone, and the qdisc with it.
        return Ok(());
    };
    let mut filters = 0;
    list(device, |_| filters += 1)?;
    if filters > 0 {
        return Ok(());
    }
    let request = message(device, HANDLE, CLSACT);
    let ack = libc::NLM_F_ACK;
    match netlink::request(NETLINK_ROUTE, DELETE_QDISC, ack, request.as_flattened(), |_| ()) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// No filter, no qdisc, or no device.
fn is_none(error: &TcError) -> bool {
    let not_found =
        matches!(error, TcError::IoError(error) if error.kind() == io::ErrorKind::NotFound);
    not_found
        || matches!(code(error), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV | libc::ENXIO))
}

/// The errno in `error`.
#[must_use]
pub fn code(error: &TcError) -> Option<i32> {
    match error {
        TcError::NetlinkError(error) => error.raw_os_error(),
        TcError::IoError(error) => error.raw_os_error(),
        TcError::NulError(_)
        | TcError::AlreadyAttached
        | TcError::InvalidTcxAttach(_)
        | TcError::InvalidLinkOperation => None,
    }
}
