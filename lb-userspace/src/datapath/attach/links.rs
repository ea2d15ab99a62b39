//! One program at one attach point by a pinned link. The pin keeps the link attached when no process holds it;
//! a process that opens the pin may replace the link's program in one step.

use std::fs;
use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{TcAttachOptions, TcError};
use aya::programs::xdp::{XdpError, XdpMode};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp};
use aya::{Ebpf, pin};

use super::clsact;
use crate::datapath::load_error::LoadError;
use crate::datapath::loader::loaded;
use crate::datapath::programs::Program;
use crate::host::devices::Link;
use crate::host::syscall;
use crate::pins::AttachPoint;

/// Why a program could not be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It could not be attached or replaced.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The link that is pinned could not be opened.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The new link could not be pinned.
    #[error(transparent)]
    Pin(#[from] pin::PinError),
    /// A filter could not be attached or removed.
    #[error(transparent)]
    Tc(#[from] TcError),
    /// A pin could not be removed.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The object lacks the program.
    #[error("the object has no program {0}")]
    Missing(&'static str),
}

impl AttachError {
    /// The errno, where it was the kernel that refused.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Program(ProgramError::SyscallError(error))
            | Self::Link(LinkError::SyscallError(error))
            | Self::Pin(pin::PinError::SyscallError(error)) => error.io_error.raw_os_error(),
            Self::Program(ProgramError::TcError(error)) | Self::Tc(error) => clsact::code(error),
            Self::Program(
                ProgramError::XdpError(XdpError::NetlinkError(error))
                | ProgramError::NetlinkError(error),
            ) => error.raw_os_error(),
            Self::Program(ProgramError::UnknownInterface { .. }) => Some(libc::ENODEV),
            Self::File(error) => error.raw_os_error(),
            Self::Program(_) | Self::Link(_) | Self::Pin(_) | Self::Load(_) | Self::Missing(_) => {
                None
            }
        }
    }

    /// The device went away meanwhile; the kernel has said so or is about to.
    pub fn is_gone(&self) -> bool {
        matches!(self.code(), Some(libc::ENODEV | libc::ENXIO))
    }
}

/// Attaches `program` at `point` of `device` by the link pinned at `pin`, which is taken over if it is
/// there and made if not.
///
/// # Errors
/// [`AttachError`]; a program that was attached still is.
pub fn reconcile(
    ebpf: &mut Ebpf,
    program: Program,
    device: &Link,
    point: AttachPoint,
    pin: &Path,
) -> Result<(), AttachError> {
    if pin.exists() && replace(ebpf, program, pin)? {
        return Ok(());
    }
    // The pin holds the link from here on.
    drop(attach(ebpf, program, device, point)?.pin(pin)?);
    Ok(())
}

/// Attaches `program` to `point` of `device` for as long as the link that is returned.
///
/// # Errors
/// [`AttachError`]
pub fn attach(
    ebpf: &mut Ebpf,
    program: Program,
    device: &Link,
    point: AttachPoint,
) -> Result<FdLink, AttachError> {
    match point {
        AttachPoint::Ingress | AttachPoint::Egress => attach_tcx(ebpf, program, device, point),
        AttachPoint::XdpNative => attach_xdp(ebpf, program, device, XdpMode::Driver),
        AttachPoint::XdpGeneric => attach_xdp(ebpf, program, device, XdpMode::Skb),
    }
}

/// Detaches the link pinned at `pin` at once and removes the pin.
///
/// # Errors
/// The system's errno.
pub fn detach(pin: &Path) -> io::Result<()> {
    match syscall::detach_pinned_link(pin) {
        // Its device is gone, and with it what was attached.
        Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::remove_file(pin)
}

/// Replaces the program that the link pinned at `pin` runs by `program`; `false` if that link
/// is of a device that is gone, whose pin is then removed.
fn replace(ebpf: &mut Ebpf, program: Program, pin: &Path) -> Result<bool, AttachError> {
    let link = FdLink::from(PinnedLink::from_pin(pin)?);
    let replaced = if program == Program::NetworkXdp {
        let (program, link) = (xdp_program(ebpf, program)?, link.try_into()?);
        program.attach_to_link(link).and_then(|id| program.take_link(id)).map(drop)
    } else {
        let (program, link) = (tc_program(ebpf, program)?, link.try_into()?);
        program.attach_to_link(link).and_then(|id| program.take_link(id)).map(drop)
    };
    match replaced.map_err(AttachError::from) {
        Err(error) if error.code() == Some(libc::ENOLINK) => {
            fs::remove_file(pin)?;
            Ok(false)
        }
        replaced => replaced.map(|()| true),
    }
}

/// First on the way in and last on the way out, so that programs of others, such as a network
/// plugin's policies, see pods' real addresses in both directions.
fn attach_tcx(
    ebpf: &mut Ebpf,
    program: Program,
    device: &Link,
    point: AttachPoint,
) -> Result<FdLink, AttachError> {
    let order = match point {
        AttachPoint::Egress => LinkOrder::last(),
        AttachPoint::Ingress | AttachPoint::XdpNative | AttachPoint::XdpGeneric => {
            LinkOrder::first()
        }
    };
    let (program, options) = (tc_program(ebpf, program)?, TcAttachOptions::TcxOrder(order));
    let id = program.attach_with_options(&device.name, tc_type(point), options)?;
    Ok(program.take_link(id)?.try_into()?)
}

fn attach_xdp(
    ebpf: &mut Ebpf,
    program: Program,
    device: &Link,
    mode: XdpMode,
) -> Result<FdLink, AttachError> {
    let program = xdp_program(ebpf, program)?;
    let id = program.attach_to_if_index(device.index, mode)?;
    Ok(program.take_link(id)?.try_into()?)
}

/// The side of TC that a attach point is at.
pub const fn tc_type(point: AttachPoint) -> TcAttachType {
    match point {
        AttachPoint::Egress => TcAttachType::Egress,
        AttachPoint::Ingress | AttachPoint::XdpNative | AttachPoint::XdpGeneric => {
            TcAttachType::Ingress
        }
    }
}

/// A program for TC.
///
/// # Errors
/// [`AttachError::Missing`]
pub fn tc_program(ebpf: &mut Ebpf, program: Program) -> Result<&mut SchedClassifier, AttachError> {
    let found = loaded(ebpf, program);
    Ok(found.ok_or(AttachError::Missing(program.name()))?.try_into()?)
}

fn xdp_program(ebpf: &mut Ebpf, program: Program) -> Result<&mut Xdp, AttachError> {
    let found = loaded(ebpf, program);
    Ok(found.ok_or(AttachError::Missing(program.name()))?.try_into()?)
}
