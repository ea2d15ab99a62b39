//! `weir run`: checks the node, takes over what is in the kernel, and runs the event loop until a signal
//! comes; programs and maps stay when it goes.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::error::RunError;
use super::event_loop::EventLoop;
use crate::config::{Config, Origin};
use crate::pins::Pins;
use crate::preflight::{Level, Node};
use crate::source::{Kubernetes, Manifests, Source, SourceError};

/// Balances this node's traffic until a signal comes; programs and maps then stay as they are.
///
/// # Errors
/// [`RunError`]; what was in the kernel before still is.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    raise_descriptor_limit();
    check_node(&config)?;
    let source = tokio::select! {
        signal = one_of(&mut interrupt, &mut terminate) => {
            info!("{signal} while the source of objects was opened");
            return Ok(());
        }
        source = open(&config) => source?,
    };
    let mut event_loop = EventLoop::start(config, source.reporter()).await?;
    let (sender, events) = mpsc::channel(64);
    let source = tokio::spawn(source.run(sender));
    tokio::select! {
        signal = one_of(&mut interrupt, &mut terminate) => {
            info!("{signal}: programs and maps stay, traffic goes on");
            Ok(())
        }
        result = event_loop.run(events, source) => result,
    }
}

/// Raises the soft limit of open files to the hard one, as programs do that do not use select(2): a Service may have a
/// server of its own for health checks, and each server takes connections.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!("the limit of open files stays as it is: {error}");
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

/// Refuses to start where the programs could not be loaded; `weir check` reports the rest.
fn check_node(config: &Config) -> Result<(), RunError> {
    let findings = Node::local(Pins::at(&config.pin_directory).bpffs()).judge();
    let failed = findings.into_iter().find(|finding| finding.level == Level::Fail);
    failed.map_or(Ok(()), |finding| {
        Err(RunError::Preflight {
            about: finding.about,
            found: finding.found,
            advice: finding.advice.unwrap_or_default(),
        })
    })
}
