//! Attaches the programs to the devices and keeps them attached. Links are pinned, so what is attached
//! stays when the agent goes; the next one takes each link over and replaces its program in one
//! step, without a packet in between. Every device is on its own: what fails at one is reported, tried
//! again, and changes nothing at another.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use lb_common::maps::Capacities;

use super::links::{self, AttachError};
use super::tc::Tc;
use super::{clsact, xdp};
use crate::config::{DatapathLog, XdpMode};
use crate::datapath::error_chain::causes;
use crate::datapath::load_error::LoadError;
use crate::datapath::loader::{Object, Old};
use crate::datapath::log::{self, LogError};
use crate::datapath::netns_cookie;
use crate::datapath::programs::Program;
use crate::datapath::socket_lb::{self, SocketLbError};
use crate::datapath::successors;
use crate::host::devices::{Device, LinkLayer};
use crate::model::{DeviceRole, NodeDevice};
use crate::pins::{AttachPoint, PinError, Pins};

/// The programs, and where they are.
#[derive(Debug)]
pub struct Attachments {
    object: Object,
    pins: Pins,
    xdp: XdpMode,
    tc: Tc,
    /// What this agent has attached or taken over.
    attached: BTreeMap<(u32, AttachPoint), Program>,
    /// Devices whose driver has refused XDP, and why.
    xdp_refused: BTreeMap<u32, String>,
}

/// A device and what is attached to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachedDevice {
    /// The device.
    pub device: Device,
    /// Where our programs are on it.
    pub attach_points: Vec<AttachPoint>,
    /// Why XDP is not among them.
    pub without_xdp: Option<String>,
    /// What failed, and what to do.
    pub errors: Vec<String>,
}

impl AttachedDevice {
    /// The device as the plan sees it.
    #[must_use]
    pub fn to_node_device(&self) -> NodeDevice {
        self.device.to_node_device(self.attach_points.contains(&AttachPoint::XdpNative))
    }
}

impl Attachments {
    /// Loads the programs onto the maps in `pins`, and `old` ones while these are resized; attaches nothing yet.
    ///
    /// # Errors
    /// Every [`LoadError`].
    pub fn load(
        pins: Pins,
        capacities: &Capacities,
        old: Option<&Old<'_>>,
        xdp: XdpMode,
        tc: Tc,
        log: DatapathLog,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            object: Object::load(&pins, capacities, old, log)?,
            pins,
            xdp,
            tc,
            attached: BTreeMap::new(),
            xdp_refused: BTreeMap::new(),
        })
    }

    /// Starts to print what the loaded programs log, if they do.
    ///
    /// # Errors
    /// The log could not be opened.
    pub fn start_log(&mut self, log: DatapathLog) -> Result<(), LogError> {
        match log {
            DatapathLog::Off => Ok(()),
            DatapathLog::Debug | DatapathLog::Trace => log::start(&mut self.object.ebpf),
        }
    }

    /// Has the programs of the release that works on `before` hand packets over to these, once `HANDOVER` says so.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn succeed(&mut self, before: &Pins) -> Result<(), LoadError> {
        successors::set(&mut self.object, before)
    }

    /// Why no device has XDP, if the kernel refused that program alone.
    #[must_use]
    pub const fn without_xdp(&self) -> Option<&LoadError> {
        self.object.without_xdp.as_ref()
    }

    /// Makes what is attached what `devices` call for, and nothing else: attaches, replaces what an
    /// earlier agent attached, and detaches what is stale.
    ///
    /// # Errors
    /// The pins could not be listed. What fails at one device stands in its [`AttachedDevice`].
    pub fn reconcile(&mut self, devices: &[Device]) -> Result<Vec<AttachedDevice>, PinError> {
        let present: BTreeSet<u32> = devices.iter().map(|d| d.link.index).collect();
        self.attached.retain(|(index, _), _| present.contains(index));
        self.xdp_refused.retain(|index, _| present.contains(index));
        let mut pinned: BTreeMap<u32, Vec<AttachPoint>> = BTreeMap::new();
        for (index, point) in self.pins.all_links()? {
            pinned.entry(index).or_default().push(point);
        }
        for index in pinned.keys().filter(|index| !present.contains(index)) {
            for point in pinned.get(index).into_iter().flatten() {
                // The link is dead with its device: nothing is left to detach.
                self.pins.remove_link(*index, *point)?;
            }
        }
        let none = Vec::new();
        let pinned = |index| pinned.get(&index).unwrap_or(&none);
        Ok(devices
            .iter()
            .map(|device| self.reconcile_device(device, pinned(device.link.index)))
            .collect())
    }

    /// Forgets what is known to be attached: the next [`Attachments::reconcile`] replaces every
    /// program, which mends what others detached, and tries XDP again where it was refused.
    pub fn forget(&mut self) {
        self.attached.clear();
        self.xdp_refused.clear();
    }

    /// The cookie of our network namespace; `cgroup` is a control group that this process is below.
    ///
    /// # Errors
    /// That it cannot be found out.
    pub fn namespace_cookie(&mut self, cgroup: Option<&Path>) -> io::Result<u64> {
        netns_cookie::cookie(&mut self.object.ebpf, cgroup)
    }

    /// Attaches the programs for processes' sockets to the control group at `cgroup`.
    ///
    /// # Errors
    /// [`SocketLbError`]; what was attached there still is.
    pub fn reconcile_socket_lb(&mut self, cgroup: &Path) -> Result<(), SocketLbError> {
        socket_lb::reconcile(&mut self.object.ebpf, &self.pins, cgroup)
    }

    /// Detaches them; returns whether any was attached.
    ///
    /// # Errors
    /// [`SocketLbError::Pin`]
    pub fn remove_socket_lb(&self) -> Result<bool, SocketLbError> {
        socket_lb::remove(&self.pins)
    }

    fn reconcile_device(&mut self, device: &Device, pinned: &[AttachPoint]) -> AttachedDevice {
        let index = device.link.index;
        let mut attached = AttachedDevice {
            device: device.clone(),
            attach_points: Vec::new(),
            without_xdp: None,
            errors: Vec::new(),
        };
        let (wanted, without_xdp) = self.wanted(device);
        attached.without_xdp = without_xdp;
        for point in pinned.iter().filter(|point| !wanted.contains_key(point)) {
            self.attached.remove(&(index, *point));
            if let Err(error) = links::detach(&self.pins.link(index, *point)) {
                attached.errors.push(format!(
                    "{point} of {} cannot be detached: {error}; it is tried again",
                    device.link.name
                ));
            }
        }
        if self.tc == Tc::Clsact && device.role.is_none() {
            attached.errors.extend(clsact::remove(&device.link.name).err().map(|e| e.to_string()));
        }
        for (point, program) in wanted {
            match self.attach(device, point, program) {
                Ok(()) => attached.attach_points.push(point),
                Err(error) if error.is_gone() => {}
                Err(error) if point.is_xdp() => self.note_refused_xdp(&mut attached, &error),
                Err(error) => attached.errors.push(format!(
                    "{point} of {}: nothing could be attached: {}; it is tried again, `weir check` says what \
                     may be missing",
                    device.link.name,
                    causes(&error)
                )),
            }
        }
        attached
    }

    /// The attach points of a device and the program for each, and why XDP is not among them.
    fn wanted(&self, device: &Device) -> (BTreeMap<AttachPoint, Program>, Option<String>) {
        let (ingress, egress) = match (device.role, device.link.link_layer) {
            (None, _) => return (BTreeMap::new(), None),
            (Some(DeviceRole::Network), LinkLayer::None) => {
                (Program::FromNetworkL3, Program::ToDeviceL3)
            }
            (Some(DeviceRole::Pod), _) => (Program::FromPod, Program::ToDevice),
            (Some(DeviceRole::Network), _) => (Program::FromNetwork, Program::ToDevice),
        };
        let mut wanted =
            BTreeMap::from([(AttachPoint::Ingress, ingress), (AttachPoint::Egress, egress)]);
        let without_xdp = match xdp::attach_point(device, self.xdp) {
            Err(reason) => Some(reason.to_owned()),
            Ok(point) => {
                let unloaded = self.object.without_xdp.as_ref().map(ToString::to_string);
                let reason = unloaded.or_else(|| self.xdp_refused.get(&device.link.index).cloned());
                if reason.is_none() {
                    wanted.insert(point, Program::NetworkXdp);
                }
                reason
            }
        };
        (wanted, without_xdp)
    }

    fn note_refused_xdp(&mut self, attached: &mut AttachedDevice, error: &AttachError) {
        let name = &attached.device.link.name;
        let reason = match error.code() {
            Some(libc::EOPNOTSUPP) => format!("the driver of {name} has no native XDP: TC alone"),
            Some(libc::EBUSY | libc::EEXIST) => {
                format!("another XDP program is on {name} (`ip link show {name}`): TC alone")
            }
            Some(libc::ERANGE) => {
                format!("the MTU of {name} is larger than its driver's buffers for XDP: TC alone")
            }
            Some(_) | None => format!("{name} did not take XDP: {}; TC alone", causes(error)),
        };
        if self.xdp != XdpMode::Auto {
            attached.errors.push(format!("{reason}; with --xdp auto or off that is no error"));
        }
        self.xdp_refused.insert(attached.device.link.index, reason.clone());
        attached.without_xdp = Some(reason);
    }

    fn attach(
        &mut self,
        device: &Device,
        point: AttachPoint,
        program: Program,
    ) -> Result<(), AttachError> {
        let key = (device.link.index, point);
        let pin = self.pins.link(device.link.index, point);
        let by_link = point.is_xdp() || self.tc == Tc::Tcx;
        let is_there = !by_link || pin.exists();
        if is_there && self.attached.get(&key) == Some(&program) {
            return Ok(());
        }
        self.object.require(program)?;
        let ebpf = &mut self.object.ebpf;
        if by_link {
            links::reconcile(ebpf, program, &device.link, point, &pin)?;
        } else {
            let at = links::tc_type(point);
            clsact::attach(links::tc_program(ebpf, program)?, &device.link.name, at)?;
        }
        self.attached.insert(key, program);
        Ok(())
    }
}
