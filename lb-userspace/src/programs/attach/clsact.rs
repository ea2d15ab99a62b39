//! Attaching at TC on kernels before 6.6, by filters of a clsact qdisc. A filter is no link and
//! cannot be pinned; it stays by itself until it is removed, and is known again by its priority
//! and handle, under which its program is replaced in one step.

use std::io;

use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use crate::programs::object::Program;

/// Our filters' handle: one that nobody is given by the kernel, which counts from 1.
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
/// The kernel's answer.
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

/// Removes our filters from the device called `name`; the qdisc stays, others may use it.
///
/// # Errors
/// The kernel's answer; that there is none is no error.
pub fn remove(name: &str) -> Result<bool, TcError> {
    let mut removed = false;
    for at in [TcAttachType::Ingress, TcAttachType::Egress] {
        for program in Program::TC {
            match qdisc_detach_program(name, at, program.name()) {
                Ok(()) => removed = true,
                Err(error) if is_none(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

/// No filter, no qdisc, or no device.
fn is_none(error: &TcError) -> bool {
    let not_found =
        matches!(error, TcError::IoError(error) if error.kind() == io::ErrorKind::NotFound);
    not_found
        || matches!(code(error), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV | libc::ENXIO))
}

/// The kernel's answer in `error`.
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
