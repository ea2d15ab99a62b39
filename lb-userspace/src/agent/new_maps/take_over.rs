//! Takes over from a release whose maps have another layout, older or newer, while its programs go on, and no packet is
//! lost:
//!
//! 1. Maps of this build's layout are made beside those in use and filled with what these hold, by the names of fields.
//! 2. The programs of the release before leave packets of flows that they do not know to this build's, at once on every
//!    hook: from then on they begin no flow.
//! 3. Flows are copied again, as the programs have changed them and begun others meanwhile. Now this build knows all.
//! 4. Every hook gets this build's programs, one after the other. Marks that the other ones have set last are added.
//! 5. The maps before are removed. Programs that tell the node's sockets which Service they speak to stay beside this
//!    build's, as what is stored with a socket cannot be read.
//!
//! An agent that is stopped before 2 leaves hooks that know nothing of it: the next one drops what was made. From 2 on
//! the next one goes on with it, or, if it is of the release before, takes over in turn. What fails before 2 leaves
//! everything as it is.

use std::time::Instant;

use lb_common::maps::Capacities;
use tracing::{info, warn};

use super::{Devices, RunError};
use crate::config::{Config, DatapathLog, SocketBalancing};
use crate::datapath::attach::{Tc, has_filters};
use crate::datapath::socket_lb;
use crate::host::syscall;
use crate::maps::MapError;
use crate::maps::other_layout::{
    Copied, InUse, check_udp_sockets, copy_flows, copy_fragments, copy_port_hints, copy_udp_sockets,
};
use crate::maps::resize::{copy_clients, copy_contents};
use crate::pins::{Handover, PinError, Pins};

/// Takes over from what is pinned, if that has another layout; returns the pins of this build's maps, which need not be
/// there yet.
///
/// # Errors
/// [`RunError`]; what was in the kernel before goes on.
pub async fn other_layouts(config: &Config, at: &Pins, tc: Tc) -> Result<Pins, RunError> {
    let mut sets = at.generations()?;
    drop_unused(&mut sets)?;
    let Some(newest) = sets.pop() else { return Ok(at.clone()) };
    if !newest.is_own() {
        let to = newest.next();
        sets.push(newest);
        let takeover = TakeOver { before: sets, to };
        let devices = match takeover.begin(config, tc).await {
            Ok(devices) => devices,
            Err(error) => {
                takeover.to.remove_maps()?;
                return Err(error);
            }
        };
        takeover.end(config, devices).await?;
        return Ok(takeover.to);
    }
    if !sets.is_empty() {
        let takeover = TakeOver { before: sets, to: newest };
        // The programs on hooks begin flows in its maps already, and loading takes a while.
        takeover.catch_up()?;
        let devices = takeover.load(config, tc).await?;
        takeover.end(config, devices).await?;
        return Ok(takeover.to);
    }
    Ok(newest)
}

/// Removes what was made beside maps that go on alone, or was made only half, and what is left of maps that nothing needs
/// any more.
fn drop_unused(sets: &mut Vec<Pins>) -> Result<(), PinError> {
    if let [only] = sets.as_slice()
        && only.layout_text()?.is_none()
        && !is_attached(only)?
    {
        only.remove_maps()?;
        sets.clear();
    }
    while let [.., before, newest] = sets.as_slice()
        && before.handover()? == Handover::None
    {
        newest.remove_maps()?;
        sets.pop();
    }
    let mut needed = Vec::new();
    for set in sets.drain(..) {
        if set.handover()? == Handover::Done { set.remove_maps()? } else { needed.push(set) }
    }
    *sets = needed;
    Ok(())
}

/// Whether devices have programs that use the maps of `only`, beside which there are no others.
fn is_attached(only: &Pins) -> Result<bool, PinError> {
    // Filters, which kernels before 6.6 have in place of links, are not pinned.
    let has_filters = has_filters().unwrap_or_else(|error| {
        warn!("the kernel does not list its filters: {error}; maps that may be in use are kept");
        true
    });
    Ok(has_filters || !only.all_links()?.is_empty())
}

/// From one set of maps to the next.
struct TakeOver {
    /// Those before, the oldest first: each hands over to the next.
    before: Vec<Pins>,
    to: Pins,
}

impl TakeOver {
    /// Steps 1 and 2.
    async fn begin(&self, config: &Config, tc: Tc) -> Result<Devices, RunError> {
        let before = self.newest_before()?;
        let (from, to) = (before.directory().display(), self.to.directory().display());
        info!("{from} has another layout: {to} takes over from it");
        let there = before.sizes(&config.capacities)?;
        let wanted = config.sizes.or_keep(there, config.capacities);
        let filled = self.fill(before, config, wanted, tc).await;
        let mut devices = match filled {
            // Other sizes do not mend what is too wide.
            Err(error) if wanted != there && !matches!(error, RunError::TooWide(_)) => {
                warn!("maps keep the sizes they have: {error}");
                self.to.remove_maps()?;
                self.fill(before, config, there, tc).await?
            }
            filled => filled?,
        };
        devices.succeed(before)?;
        // As late as can be: until an agent comes back, new flows must not take the ports of those that are missed.
        self.catch_up()?;
        before.set_handover(Handover::Begun)?;
        Ok(devices)
    }

    /// Makes maps of these sizes, fills them, and loads programs onto them.
    async fn fill(
        &self,
        before: &Pins,
        config: &Config,
        capacities: Capacities,
        tc: Tc,
    ) -> Result<Devices, RunError> {
        let devices = self.load(&Config { capacities, ..config.clone() }, tc).await?;
        copy_contents(before, &self.to)?;
        copy_clients(before, &self.to)?;
        copy_port_hints(before, &self.to)?;
        // They are copied after the handover, when an error would come too late.
        check_udp_sockets(before)?;
        match self.copy_flows(InUse::Old)? {
            Copied { too_wide: 0, without_place: 0, .. } => Ok(devices),
            Copied { too_wide: 0, .. } => Err(no_room().into()),
            Copied { too_wide, .. } => Err(RunError::TooWide(too_wide)),
        }
    }

    /// The maps that are in use until now.
    fn newest_before(&self) -> Result<&Pins, PinError> {
        let newest = self.before.last();
        let newest = newest.ok_or_else(|| PinError::Nothing(self.to.directory().into()))?;
        match newest.layout_text()? {
            Some(_) => Ok(newest),
            None => Err(PinError::UnknownLayout(newest.directory().into())),
        }
    }

    async fn load(&self, config: &Config, tc: Tc) -> Result<Devices, RunError> {
        let there = self.to.capacities(config.capacities.processors)?;
        let capacities = there.unwrap_or(config.capacities);
        let config = Config { capacities, datapath_log: DatapathLog::Off, ..config.clone() };
        Devices::load(&config, &self.to, None, tc).await
    }

    /// Steps 3 to 5.
    async fn end(&self, config: &Config, mut devices: Devices) -> Result<(), RunError> {
        let started = Instant::now();
        let entries = self.catch_up()?;
        for before in &self.before {
            self.to.take_links(before)?;
        }
        let are_known = devices.reconcile().await.is_some();
        for error in devices.errors() {
            warn!("{error}");
        }
        if !are_known || !devices.have_hooks() {
            warn!(
                "the programs of the release before go on where they are, until weir starts again"
            );
            return Ok(());
        }
        wait_for_programs();
        self.copy_flows(InUse::New)?;
        let left = self.leave_sockets(config.socket_balancing);
        wait_for_programs();
        // What the newest one says is the latest.
        for before in left.iter().rev() {
            for copy in [copy_clients, copy_fragments, copy_udp_sockets] {
                // The next start would get no further.
                copy(before, &self.to)
                    .unwrap_or_else(|error| warn!("not all is taken over: {error}"));
            }
        }
        for before in left {
            before.set_handover(Handover::Done)?;
            before.remove_maps()?;
        }
        info!(entries, took = ?started.elapsed(), "taken over from another layout");
        Ok(())
    }

    /// Copies what the programs before have noted since it was copied first; returns how many entries of flows.
    fn catch_up(&self) -> Result<u64, MapError> {
        wait_for_programs();
        let Copied { entries, without_place, too_wide } = self.copy_flows(InUse::Old)?;
        if without_place > 0 {
            warn!("{without_place} entries of flows found no place in the new tables");
        }
        if too_wide > 0 {
            warn!("{}", RunError::TooWide(too_wide));
        }
        for before in self.before.iter().rev() {
            copy_clients(before, &self.to)?;
            copy_port_hints(before, &self.to)?;
            copy_fragments(before, &self.to)?;
        }
        Ok(entries)
    }

    /// Detaches the programs before from the control group, so that they note no more sockets; returns the maps that are
    /// no longer in use.
    fn leave_sockets(&self, balancing: SocketBalancing) -> Vec<&Pins> {
        let mut left = Vec::new();
        for before in &self.before {
            let detached = match balancing {
                SocketBalancing::Off => socket_lb::remove(before).map(drop),
                SocketBalancing::Host | SocketBalancing::All => socket_lb::leave_to_next(before),
            };
            match detached {
                Ok(()) => left.push(before),
                // They would go by maps that nobody writes: the next start tries again.
                Err(error) => warn!("{error}"),
            }
        }
        left
    }

    fn copy_flows(&self, in_use: InUse) -> Result<Copied, MapError> {
        let mut sum = Copied::default();
        for before in &self.before {
            sum += copy_flows(before, &self.to, in_use)?;
        }
        Ok(sum)
    }
}

fn no_room() -> MapError {
    let full = std::io::Error::from_raw_os_error(libc::E2BIG);
    MapError::new(&lb_common::maps::CONNTRACK.v4, "fill", full)
}

/// Waits until every program that runs has ended, so that what it has begun is seen.
fn wait_for_programs() {
    if let Err(error) = syscall::wait_for_programs() {
        warn!("flows that begin at this very moment may be lost: membarrier(2): {error}");
    }
}
