//! Brings the programs onto the devices and keeps them there. Links are pinned, so what is attached
//! stays when the agent goes; the next one takes each link over and replaces its program in one
//! step, without a packet in between. Every device is on its own: what fails at one is told, tried
//! again, and changes nothing at another.

mod clsact;
pub mod hooks;
mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;

use aya::Ebpf;
use aya::programs::tc::TcError;
use lb_common::maps::Capacities;

pub use hooks::Hook;

use crate::config::XdpMode;
use crate::datapath::error_chain::causes;
use crate::datapath::loader::{Object, ObjectError, Program};
use crate::datapath::netns_cookie;
use crate::datapath::socket_lb::{self, SocketError};
use crate::host::devices::{Device, Link};
use crate::host::syscall;
use crate::model::{DeviceRole, NodeDevice};
use crate::pins::{PinError, Pins};
use links::AttachError;

/// The programs, and where they are.
#[derive(Debug)]
pub struct Attachments {
    object: Object,
    pins: Pins,
    xdp: XdpMode,
    tc: Tc,
    /// What this agent has attached or taken over.
    done: BTreeMap<(u32, Hook), Program>,
    /// Devices whose driver has refused XDP, and why.
    refused: BTreeMap<u32, String>,
}

/// How programs are attached at TC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tc {
    /// By links, since Linux 6.6: pinned, replaced in one step, in an order with those of others.
    Tcx,
    /// By filters of a clsact qdisc, which stay until they are removed.
    Clsact,
}

impl Tc {
    /// What this kernel has, found out by asking it.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        if syscall::has_tcx() { Self::Tcx } else { Self::Clsact }
    }
}

impl fmt::Display for Tc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// What became of one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The device.
    pub device: Device,
    /// Where our programs are on it.
    pub hooks: Vec<Hook>,
    /// Why XDP is not among them.
    pub without_xdp: Option<String>,
    /// What is not as it should be, and what to do.
    pub errors: Vec<String>,
}

impl Attached {
    /// The device as the plan sees it.
    #[must_use]
    pub fn to_node_device(&self) -> Option<NodeDevice> {
        self.device.to_node_device(self.hooks.contains(&Hook::XdpNative))
    }
}

impl Attachments {
    /// Loads the programs onto the maps in `pins`; attaches nothing yet.
    ///
    /// # Errors
    /// Every [`ObjectError`].
    pub fn load(
        pins: Pins,
        capacities: &Capacities,
        xdp: XdpMode,
        tc: Tc,
    ) -> Result<Self, ObjectError> {
        Ok(Self {
            object: Object::load(&pins, capacities)?,
            pins,
            xdp,
            tc,
            done: BTreeMap::new(),
            refused: BTreeMap::new(),
        })
    }

    /// Why no device has XDP, if the kernel refused that program alone.
    #[must_use]
    pub const fn without_xdp(&self) -> Option<&ObjectError> {
        self.object.without_xdp.as_ref()
    }

    /// Makes what is attached what `devices` call for, and nothing else: attaches, replaces what an
    /// earlier agent attached, and detaches what has no place any more.
    ///
    /// # Errors
    /// The pins could not be listed. What one device does not take stands in its [`Attached`].
    pub fn bring(&mut self, devices: &[Device]) -> Result<Vec<Attached>, PinError> {
        let present: BTreeSet<u32> = devices.iter().map(|d| d.link.index).collect();
        self.done.retain(|(index, _), _| present.contains(index));
        self.refused.retain(|index, _| present.contains(index));
        let mut pinned: BTreeMap<u32, Vec<Hook>> = BTreeMap::new();
        for (index, hook) in self.pins.all_links()? {
            pinned.entry(index).or_default().push(hook);
        }
        for index in pinned.keys().filter(|index| !present.contains(index)) {
            for hook in pinned.get(index).into_iter().flatten() {
                // The link is dead with its device: nothing is left to detach.
                self.pins.remove_link(*index, *hook)?;
            }
        }
        let none = Vec::new();
        let pinned = |index| pinned.get(&index).unwrap_or(&none);
        Ok(devices.iter().map(|device| self.bring_one(device, pinned(device.link.index))).collect())
    }

    /// Forgets what is known to be attached: the next [`Attachments::bring`] replaces every
    /// program, which heals what others detached, and tries XDP again where it was refused.
    pub fn forget(&mut self) {
        self.done.clear();
        self.refused.clear();
    }

    /// The cookie of our network namespace; `cgroup` is a control group that this process is below.
    ///
    /// # Errors
    /// That it cannot be found out.
    pub fn namespace_cookie(&mut self, cgroup: Option<&Path>) -> io::Result<u64> {
        netns_cookie::cookie(&mut self.object.ebpf, cgroup)
    }

    /// Brings the programs for processes' sockets to the control group at `cgroup`.
    ///
    /// # Errors
    /// [`SocketError`]; what was attached there still is.
    pub fn bring_sockets(&mut self, cgroup: &Path) -> Result<(), SocketError> {
        socket_lb::bring(&mut self.object.ebpf, &self.pins, cgroup)
    }

    /// Detaches them; returns whether any was attached.
    ///
    /// # Errors
    /// [`SocketError::Pin`]
    pub fn remove_sockets(&self) -> Result<bool, SocketError> {
        socket_lb::remove(&self.pins)
    }

    fn bring_one(&mut self, device: &Device, pinned: &[Hook]) -> Attached {
        let index = device.link.index;
        let mut attached = Attached {
            device: device.clone(),
            hooks: Vec::new(),
            without_xdp: None,
            errors: Vec::new(),
        };
        let (wanted, without_xdp) = self.wanted(device);
        attached.without_xdp = without_xdp;
        for hook in pinned.iter().filter(|hook| !wanted.contains_key(hook)) {
            self.done.remove(&(index, *hook));
            if let Err(error) = links::detach(&self.pins.link(index, *hook)) {
                attached.errors.push(format!(
                    "{hook} of {} cannot be detached: {error}; it is tried again",
                    device.link.name
                ));
            }
        }
        if self.tc == Tc::Clsact && device.role.is_none() {
            attached.errors.extend(clsact::remove(&device.link.name).err().map(|e| e.to_string()));
        }
        for (hook, program) in wanted {
            match self.attach(device, hook, program) {
                Ok(()) => attached.hooks.push(hook),
                Err(error) if error.is_gone() => {}
                Err(error) if hook.is_xdp() => self.note_refused_xdp(&mut attached, &error),
                Err(error) => attached.errors.push(format!(
                    "{hook} of {} cannot be taken: {}; it is tried again, `weir check` says what \
                     may be missing",
                    device.link.name,
                    causes(&error)
                )),
            }
        }
        attached
    }

    /// The hooks of a device and the program for each, and why XDP is not among them.
    fn wanted(&self, device: &Device) -> (BTreeMap<Hook, Program>, Option<String>) {
        let ingress = match device.role {
            None => return (BTreeMap::new(), None),
            Some(DeviceRole::Pod) => Program::FromPod,
            Some(DeviceRole::Network) => Program::FromNetwork,
        };
        let mut wanted =
            BTreeMap::from([(Hook::Ingress, ingress), (Hook::Egress, Program::ToDevice)]);
        let without_xdp = match hooks::xdp(device, self.xdp) {
            Err(reason) => Some(reason.to_owned()),
            Ok(hook) => {
                let unloaded = self.object.without_xdp.as_ref().map(ToString::to_string);
                let reason = unloaded.or_else(|| self.refused.get(&device.link.index).cloned());
                if reason.is_none() {
                    wanted.insert(hook, Program::NetworkXdp);
                }
                reason
            }
        };
        (wanted, without_xdp)
    }

    fn note_refused_xdp(&mut self, attached: &mut Attached, error: &AttachError) {
        let name = &attached.device.link.name;
        let reason = match error.code() {
            Some(libc::EOPNOTSUPP) => format!("the driver of {name} has no native XDP: TC alone"),
            Some(libc::EBUSY | libc::EEXIST) => {
                format!("another XDP program is on {name} (`ip link show {name}`): TC alone")
            }
            Some(_) | None => format!("{name} did not take XDP: {}; TC alone", causes(error)),
        };
        if self.xdp != XdpMode::Auto {
            attached.errors.push(format!("{reason}; --xdp auto or off asks for no more than that"));
        }
        self.refused.insert(attached.device.link.index, reason.clone());
        attached.without_xdp = Some(reason);
    }

    fn attach(&mut self, device: &Device, hook: Hook, program: Program) -> Result<(), AttachError> {
        let key = (device.link.index, hook);
        let pin = self.pins.link(device.link.index, hook);
        let by_link = hook.is_xdp() || self.tc == Tc::Tcx;
        let is_there = !by_link || pin.exists();
        if is_there && self.done.get(&key) == Some(&program) {
            return Ok(());
        }
        let ebpf = &mut self.object.ebpf;
        if by_link {
            links::bring(ebpf, program, &device.link, hook, &pin)?;
        } else {
            let at = links::tc_type(hook);
            clsact::attach(links::tc_program(ebpf, program)?, &device.link.name, at)?;
        }
        self.done.insert(key, program);
        Ok(())
    }
}

/// Puts programs on each kind of hook of the device called `name`, and takes those away again that are
/// put there by links: the device is to be nobody else's, and to go. Native XDP is left out, which is a
/// matter of a device's driver, and so are programs that are not loaded.
pub fn try_on(
    ebpf: &mut Ebpf,
    tc: Tc,
    name: &str,
    is_loaded: impl Fn(Program) -> bool,
) -> Vec<(Hook, Result<(), String>)> {
    let index = nix::net::if_::if_nametoindex(name).unwrap_or(0);
    let link = Link { index, name: name.into(), ..Link::default() };
    let mut put = |hook: Hook, program| {
        let result = match (hook, tc) {
            (Hook::Ingress | Hook::Egress, Tc::Clsact) => links::tc_program(ebpf, program)
                .and_then(|program| Ok(clsact::attach(program, name, links::tc_type(hook))?)),
            (_, _) => links::attach(ebpf, program, &link, hook).map(drop),
        };
        (hook, result.map_err(|error| causes(&error)))
    };
    let hooks = [
        (Hook::Ingress, Program::FromNetwork),
        (Hook::Egress, Program::ToDevice),
        (Hook::XdpGeneric, Program::NetworkXdp),
    ];
    let loaded = hooks.into_iter().filter(|(_, program)| is_loaded(*program));
    loaded.map(|(hook, program)| put(hook, program)).collect()
}

/// Removes what stands in for links on older kernels from the device called `name`; returns whether
/// there was something.
///
/// # Errors
/// The kernel's answer.
pub fn remove_filters(name: &str) -> Result<bool, TcError> {
    clsact::remove(name)
}
