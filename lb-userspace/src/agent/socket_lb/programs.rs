//! Keeps the socket programs attached where they should be, and knows why they are not.

use std::path::PathBuf;

use tracing::{info, warn};

use crate::config::{Config, SocketBalancing};
use crate::datapath::attach::Attachments;
use crate::datapath::socket_lb::SocketLbError;
use crate::host::cgroup;
use crate::model;

/// Whose sockets are balanced, and by programs on which control group.
#[derive(Debug)]
pub struct SocketLb {
    balancing: SocketBalancing,
    /// The control group that was configured.
    cgroup: Option<PathBuf>,
    /// Nothing is left to attach or detach.
    is_reconciled: bool,
    /// Where the programs are attached.
    attached_to: Option<PathBuf>,
    error: Option<String>,
    /// Why the cookie of our network namespace is not known, if it is not.
    cookie_error: Option<String>,
}

impl SocketLb {
    /// What `config` asks for. Nothing is attached yet.
    pub fn new(config: &Config) -> Self {
        Self {
            balancing: config.socket_balancing,
            cgroup: config.cgroup.clone(),
            is_reconciled: false,
            attached_to: None,
            error: None,
            cookie_error: None,
        }
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
                self.cookie_error = Some(error.to_string());
                model::Sockets::default()
            }
        }
    }

    /// Attaches the programs, or detaches them, unless that is done. An error is logged once and tried
    /// again at the next call.
    pub fn reconcile(&mut self, attachments: &mut Attachments) {
        if self.is_reconciled {
            return;
        }
        self.attached_to = None;
        let error = self.try_reconcile(attachments).err().map(|error| error.to_string());
        if let Some(error) = error.iter().find(|error| self.error.as_ref() != Some(error)) {
            warn!("{error}");
        }
        self.error = error;
    }

    /// Forgets what is known to be attached: the next [`SocketLb::reconcile`] does it again, which mends
    /// what others did.
    pub fn invalidate(&mut self) {
        self.is_reconciled = false;
    }

    /// What failed, and what to do.
    pub const fn error(&self) -> Option<&String> {
        self.error.as_ref()
    }

    /// The control group that the programs are attached to.
    pub const fn cgroup(&self) -> Option<&PathBuf> {
        self.attached_to.as_ref()
    }

    /// The control group that was configured, else the root of the hierarchy.
    fn wanted_cgroup(&self) -> Option<PathBuf> {
        self.cgroup.clone().or_else(|| cgroup::mount_point().map(PathBuf::from))
    }

    fn try_reconcile(&mut self, attachments: &mut Attachments) -> Result<(), SocketLbError> {
        if self.balancing == SocketBalancing::Off {
            if attachments.remove_socket_lb()? {
                info!("socket programs detached");
            }
            self.is_reconciled = true;
            return Ok(());
        }
        let cgroup = self.wanted_cgroup().ok_or(SocketLbError::NoHierarchy)?;
        if let Some(reason) = &self.cookie_error {
            return Err(SocketLbError::Namespace(reason.clone()));
        }
        attachments.reconcile_socket_lb(&cgroup)?;
        self.attached_to = Some(cgroup);
        self.is_reconciled = true;
        Ok(())
    }
}
