//! Keeps the programs for processes' sockets where they should be, and knows why they are not.

use std::collections::HashSet;
use std::path::PathBuf;

use lb_common::socket::UdpConnected;
use tracing::{info, warn};

use super::stale_udp::{Stranded, stranded};
use crate::config::{Config, SocketBalancing};
use crate::datapath::attach::Attachments;
use crate::datapath::sock_destroy::{Connected, UdpSockets};
use crate::datapath::socket_lb::SocketLbError;
use crate::host::cgroup;
use crate::maps::Contents;
use crate::model;
use crate::pins::{PinError, Pins};

/// How many sockets that were ended at a frontend are remembered; most of them are gone by then.
const MOST_TOLD: usize = 1 << 16;

/// Whose sockets are balanced, and by programs on which control group.
pub struct Sockets {
    balancing: SocketBalancing,
    cgroup: Option<PathBuf>,
    /// Everything is as it should be.
    is_done: bool,
    /// Where the programs are.
    cgroup_taken: Option<PathBuf>,
    error: Option<String>,
    /// Why the cookie of our network namespace is not known, if it is not.
    no_cookie: Option<String>,
    /// Those of UDP that are connected.
    udp: UdpSockets,
    /// Why some of them that are stranded go on, if they do.
    not_ended: Option<String>,
    /// Cookies of those that were ended because they were at a frontend.
    told: HashSet<u64>,
}

impl Sockets {
    /// What `config` asks for, with maps in `pins`. Nothing is attached yet.
    ///
    /// # Errors
    /// [`PinError::Map`]
    pub fn new(config: &Config, pins: &Pins) -> Result<Self, PinError> {
        Ok(Self {
            balancing: config.socket_balancing,
            cgroup: config.cgroup.clone(),
            is_done: false,
            cgroup_taken: None,
            error: None,
            no_cookie: None,
            udp: UdpSockets::open(pins)?,
            not_ended: None,
            told: HashSet::new(),
        })
    }

    /// What the plan must know of it.
    pub fn for_plan(&mut self, attachments: &mut Attachments) -> model::Sockets {
        let of_pods = match self.balancing {
            SocketBalancing::Host => false,
            SocketBalancing::All => true,
            SocketBalancing::Off => return model::Sockets::default(),
        };
        match attachments.namespace_cookie(self.wanted_cgroup().as_deref()) {
            Ok(namespace) => model::Sockets { namespace, of_pods },
            Err(error) => {
                self.no_cookie = Some(error.to_string());
                model::Sockets::default()
            }
        }
    }

    /// Brings the programs where they should be, or away, unless that is done. What fails is told once
    /// and tried again at the next call.
    pub fn bring(&mut self, attachments: &mut Attachments) {
        if self.is_done {
            return;
        }
        self.cgroup_taken = None;
        let error = self.try_bring(attachments).err().map(|error| error.to_string());
        if let Some(error) = error.iter().find(|error| self.error.as_ref() != Some(error)) {
            warn!("{error}");
        }
        self.error = error;
    }

    /// Forgets what is known to be attached: the next [`Sockets::bring`] does it again, which heals
    /// what others did.
    pub fn forget(&mut self) {
        self.is_done = false;
    }

    /// What is not as it should be, and what to do.
    pub const fn error(&self) -> Option<&String> {
        self.error.as_ref()
    }

    /// The control group that the programs are on.
    pub const fn cgroup(&self) -> Option<&PathBuf> {
        self.cgroup_taken.as_ref()
    }

    /// Ends UDP sockets that are connected where nobody serves any more, by these contents of the maps;
    /// returns how many.
    pub fn end_stranded(&mut self, contents: &Contents) -> u64 {
        // Where no program sees a process dial, whom it has dialled is none of our business.
        if self.cgroup_taken.is_none() || contents.settings.namespace == 0 {
            return 0;
        }
        let mut ended = 0;
        let told = &mut self.told;
        let is_to_end = |socket: &Connected, dialled: Option<&UdpConnected>| {
            match stranded(socket.peer, dialled, contents) {
                Some(Stranded::BackendGone) => true,
                // One that no program sees dial would be at the frontend again at once.
                Some(Stranded::AtFrontend) => told.insert(socket.cookie),
                None => false,
            }
        };
        let result = self.udp.destroy(is_to_end, &mut ended);
        if self.told.len() > MOST_TOLD {
            self.told.clear();
        }
        if ended > 0 {
            info!(ended, "UDP sockets told that whom they speak to is gone");
        }
        let failure = result.err().map(|error| {
            format!(
                "UDP sockets of the node's own processes that speak to pods that are gone cannot be \
                 ended: {error}; they go on until their processes dial again"
            )
        });
        if let Some(failure) =
            failure.iter().find(|failure| self.not_ended.as_ref() != Some(failure))
        {
            warn!("{failure}");
        }
        self.not_ended = failure;
        ended
    }

    /// The control group that was named, else the root of the hierarchy.
    fn wanted_cgroup(&self) -> Option<PathBuf> {
        self.cgroup.clone().or_else(|| cgroup::mount_point().map(PathBuf::from))
    }

    fn try_bring(&mut self, attachments: &mut Attachments) -> Result<(), SocketLbError> {
        if self.balancing == SocketBalancing::Off {
            if attachments.remove_socket_lb()? {
                info!("programs for processes' sockets detached");
            }
            self.is_done = true;
            return Ok(());
        }
        let cgroup = self.wanted_cgroup().ok_or(SocketLbError::NoHierarchy)?;
        if let Some(reason) = &self.no_cookie {
            return Err(SocketLbError::Namespace(reason.clone()));
        }
        attachments.reconcile_socket_lb(&cgroup)?;
        self.cgroup_taken = Some(cgroup);
        self.is_done = true;
        Ok(())
    }
}
