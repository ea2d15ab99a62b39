//! Keeps the programs attached to the node's devices, and those for sockets to the control group.

mod roles;

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::warn;

use self::roles::Roles;
use super::error::RunError;
use super::log;
use super::socket_lb::SocketLb;
use super::status::DeviceStatus;
use crate::config::Config;
use crate::datapath::attach::{AttachedDevice, Attachments, Tc};
use crate::datapath::load_error::LoadError;
use crate::datapath::loader::Old;
use crate::host::devices::{Netlink, NetlinkError, Selection, classify, exists, name};
use crate::model::{NodeDevice, Sockets};
use crate::pins::{AttachPoint, Pins};

/// How soon a reconciliation that left errors is repeated.
const RETRY_IN: Duration = Duration::from_secs(2);

/// The node's devices and what is attached to them.
pub struct Devices {
    netlink: Netlink,
    selection: Selection,
    attachments: Attachments,
    attached: Vec<AttachedDevice>,
    socket_lb: SocketLb,
    roles: Roles,
    routes_by_source: bool,
    retry_at: Option<Instant>,
}

impl Devices {
    /// Loads the programs onto the maps in `pins`, and `old` ones while these are resized. Nothing is attached yet.
    ///
    /// # Errors
    /// [`RunError`]; what was in the kernel before still is.
    pub async fn load(
        config: &Config,
        pins: &Pins,
        old: Option<&Old<'_>>,
        tc: Tc,
    ) -> Result<Self, RunError> {
        let mut netlink = Netlink::open()?;
        let selection =
            Selection { network: config.network_devices.clone(), pods: config.pod_devices.clone() };
        check_names(&mut netlink, &selection).await?;
        let datapath_log = config.datapath_log;
        let (pins, capacities) = (pins.clone(), &config.capacities);
        let mut attachments =
            Attachments::load(pins, capacities, old, config.xdp, tc, datapath_log)?;
        attachments.start_log(datapath_log)?;
        Ok(Self {
            netlink,
            selection,
            attachments,
            attached: Vec::new(),
            socket_lb: SocketLb::new(config),
            roles: Roles::default(),
            routes_by_source: false,
            retry_at: None,
        })
    }

    /// Has the programs of the release that works on `before` hand packets over to these, once `HANDOVER` says so.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn succeed(&mut self, before: &Pins) -> Result<(), LoadError> {
        self.attachments.succeed(before)
    }

    /// Why no device has XDP, if the kernel refused that program alone.
    pub const fn without_xdp(&self) -> Option<&LoadError> {
        self.attachments.without_xdp()
    }

    /// What the plan must know of socket load balancing.
    pub fn sockets_for_plan(&mut self) -> Sockets {
        self.socket_lb.for_plan(&mut self.attachments)
    }

    /// Socket load balancing, as it is attached now.
    pub const fn socket_lb(&self) -> &SocketLb {
        &self.socket_lb
    }

    /// Waits until devices have changed, or what failed is due to be tried again. The future may be
    /// dropped and made anew; nothing is missed.
    ///
    /// # Errors
    /// [`NetlinkError::Closed`]
    pub async fn changed(&mut self) -> Result<(), NetlinkError> {
        let retry = async {
            match self.retry_at {
                Some(time) => sleep_until(time).await,
                None => pending().await,
            }
        };
        tokio::select! {
            changed = self.netlink.changed() => changed,
            () = retry => Ok(()),
        }
    }

    /// Attaches and detaches what the devices that are there now call for; returns them as the plan sees
    /// them, or nothing if they could not be listed. What fails is tried again soon.
    pub async fn reconcile(&mut self) -> Option<Vec<NodeDevice>> {
        self.retry_at = Some(Instant::now() + RETRY_IN);
        let links = self.netlink.links().await.inspect_err(|error| warn!("{error}")).ok()?;
        let is_listed = |index| links.iter().any(|link| link.index == index);
        // The kernel may be interrupted while it lists devices.
        if let Some(left_out) =
            self.roles.indices().find(|index| !is_listed(*index) && exists(*index))
        {
            warn!("the kernel's list of devices lacks {}: it is read again", name(left_out));
            return None;
        }
        let rules = self.netlink.has_rules_for_sources().await;
        self.routes_by_source = rules.inspect_err(|error| warn!("{error}")).ok()?;
        let mut devices = classify(&links, &self.selection);
        let settles_at = self.roles.settle(&mut devices, Instant::now());
        let attached = self.attachments.reconcile(&devices);
        let attached = attached.inspect_err(|error| warn!("{error}")).ok()?;
        self.socket_lb.reconcile(&mut self.attachments);
        log::device_changes(&self.attached, &attached);
        self.attached = attached;
        if self.errors().next().is_none() {
            self.retry_at = settles_at;
        }
        Some(self.attached.iter().map(AttachedDevice::to_node_device).collect())
    }

    /// Whether which way a packet goes may depend on its source address, as of the last reconciliation.
    pub const fn routes_by_source(&self) -> bool {
        self.routes_by_source
    }

    /// Forgets what is known to be attached: the next [`Devices::reconcile`] attaches everything again,
    /// which mends what others changed, and lists all routes again.
    pub fn invalidate(&mut self) {
        self.netlink.forget_routing();
        self.attachments.forget();
        self.socket_lb.invalidate();
    }

    /// Whether every device with a role has programs on both sides, and the control group has those for sockets, unless
    /// these are switched off.
    pub fn have_programs(&self) -> bool {
        self.have_hooks() && self.socket_lb.error().is_none()
    }

    /// Whether every device with a role has programs on both sides.
    pub fn have_hooks(&self) -> bool {
        let has_both = |device: &AttachedDevice| {
            [AttachPoint::Ingress, AttachPoint::Egress]
                .iter()
                .all(|point| device.device.role.is_none() || device.attach_points.contains(point))
        };
        self.attached.iter().all(has_both)
    }

    /// What failed, and what to do.
    pub fn errors(&self) -> impl Iterator<Item = &String> {
        self.attached.iter().flat_map(|device| &device.errors).chain(self.socket_lb.error())
    }

    /// The devices with a role.
    pub fn status(&self) -> Vec<DeviceStatus> {
        self.attached.iter().filter_map(DeviceStatus::of).collect()
    }
}

/// A device that a flag names in full has to be there; a pattern may fit one that comes later.
async fn check_names(netlink: &mut Netlink, selection: &Selection) -> Result<(), RunError> {
    for (flag, name) in selection.unmatched(&netlink.links().await?) {
        if !name.contains(['*', '?', '[']) {
            return Err(RunError::MissingDevice { flag, name });
        }
        warn!("{flag}: no device fits {name} yet");
    }
    Ok(())
}
