//! Lets load balancers' questions be answered: hands what the agent wants to the servers, a task of
//! their own, and hears from them what they cannot listen on.

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::model::{HealthChecks, Warning};
use crate::observe::{HealthCheckServers, Moment, Observer};

/// The servers, seen from the agent.
#[derive(Debug)]
pub(super) struct HealthCheckPorts {
    wanted: watch::Sender<HealthChecks>,
    unheard: watch::Receiver<Vec<Warning>>,
    /// What cannot be listened on, as far as was heard.
    known: Vec<Warning>,
    task: JoinHandle<()>,
}

impl HealthCheckPorts {
    /// Begins, with nothing to answer yet, on the node called `node`.
    pub(super) fn start(node: &str, observer: &Observer) -> Self {
        let (wanted, follow) = watch::channel(HealthChecks::new());
        let (failed, unheard) = watch::channel(Vec::new());
        let metrics = observer.metrics().clone();
        let servers = HealthCheckServers::new(node, observer.health(), metrics, Moment::now);
        let task = tokio::spawn(servers.run(follow, failed));
        Self { wanted, unheard, known: Vec::new(), task }
    }

    /// These are to be answered from now on; what could not be listened on is tried again at once.
    pub(super) fn want(&self, checks: HealthChecks) {
        self.wanted.send_replace(checks);
    }

    /// Waits until something else cannot be listened on than before; what is new about it.
    ///
    /// # Errors
    /// The servers' task was ended by a panic.
    pub(super) async fn changed(&mut self) -> Result<Vec<Warning>, JoinError> {
        if self.unheard.changed().await.is_err() {
            (&mut self.task).await?;
        }
        let now = self.unheard.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.known, now);
        Ok(self.known.iter().filter(|warning| !before.contains(warning)).cloned().collect())
    }

    /// What cannot be listened on.
    pub(super) fn warnings(&self) -> &[Warning] {
        &self.known
    }
}
