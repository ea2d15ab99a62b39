//! The agent's life: it checks the node, takes over what is in the kernel, and works until a signal
//! comes; programs and maps stay when it goes.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::info;

use super::event_loop::Body;
use super::runtime_dir::PlaceError;
use crate::config::{Config, Origin};
use crate::datapath::load_error::LoadError;
use crate::host::devices::NetlinkError;
use crate::maps::MapError;
use crate::observe::BindError;
use crate::pins::{PinError, Pins};
use crate::preflight::{Level, Node};
use crate::source::{Kubernetes, Manifests, Source, SourceError};

/// Balances this node's traffic until a signal comes; programs and maps then stay as they are.
///
/// # Errors
/// [`RunError`]; what was in the kernel before still is.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    check_node(&config)?;
    let source = open(&config).await?;
    let mut body = Body::start(&config, source.reporter()).await?;
    let (sender, news) = mpsc::channel(64);
    let source = tokio::spawn(source.run(sender));
    tokio::select! {
        signal = one_of(&mut interrupt, &mut terminate) => {
            info!("{signal}: programs and maps stay in place, traffic goes on");
            Ok(())
        }
        result = body.live(news, source) => result,
    }
}

async fn open(config: &Config) -> Result<Source, SourceError> {
    Ok(match &config.origin {
        Origin::Manifests(paths) => Source::Manifests(Manifests::open(paths)?),
        Origin::Kubernetes(access) => {
            let kubernetes = Kubernetes::open(access.clone(), &config.node_name).await?;
            Source::Kubernetes(kubernetes)
        }
    })
}

async fn one_of(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "interrupted",
        _ = terminate.recv() => "terminated",
    }
}

/// Refuses to start where the programs could not be loaded; the rest is `weir check`'s to say.
fn check_node(config: &Config) -> Result<(), RunError> {
    let findings = Node::local(Pins::at(&config.pin_directory).bpffs()).judge();
    let failed = findings.into_iter().find(|finding| finding.level == Level::Fail);
    failed.map_or(Ok(()), |finding| {
        Err(RunError::Node {
            about: finding.about,
            found: finding.found,
            advice: finding.advice.unwrap_or_default(),
        })
    })
}

/// Why the agent could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The node does not do.
    #[error("{about}: {found}; {advice}")]
    Node {
        /// What it is about.
        about: String,
        /// What there is.
        found: String,
        /// What to change.
        advice: String,
    },
    /// It has no place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The programs could not be loaded.
    #[error(transparent)]
    Object(#[from] LoadError),
    /// A map could not be opened or read.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The pins could not be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The kernel could not be asked for its devices.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The source is lost.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An address cannot be listened on, and it was asked to be.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A flag names a device that is not there.
    #[error("{flag} names {name}, and there is no such device: name one that `ip link` shows")]
    MissingDevice {
        /// The flag.
        flag: &'static str,
        /// The name.
        name: String,
    },
    /// No handler for signals could be set.
    #[error("signals cannot be handled: {0}; report this")]
    Signals(std::io::Error),
    /// A task was ended by a panic.
    #[error("a task of weir ended unexpectedly ({0}): restart weir and report this")]
    Task(#[from] tokio::task::JoinError),
}
