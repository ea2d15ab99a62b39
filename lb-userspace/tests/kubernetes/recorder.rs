//! A running source and a record of its events.

use std::time::Duration;

use lb_userspace::model::{Change, Cluster};
use lb_userspace::source::{
    Access, Kubernetes, Manifests, Reporter, Source, SourceEvent, SourceWarning, Timeouts,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::timeout;

use crate::api::Api;
use crate::store::{NODES, RANGES, SERVICES, SLICES, Selector};

/// How long a test waits for anything.
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Recorder {
    events: Receiver<SourceEvent>,
    pub reporter: Reporter,
    pub cluster: Cluster,
    /// Every change so far.
    pub changes: Vec<Change>,
    /// The warnings that hold now.
    pub warnings: Vec<SourceWarning>,
    /// Every warning so far.
    pub all_warnings: Vec<String>,
    directory: TempDir,
}

/// Short timeouts, for short tests.
pub fn short_timeouts() -> Timeouts {
    Timeouts {
        response: Duration::from_secs(5),
        watch: Duration::from_secs(20),
        idle: Duration::from_secs(10),
        first_backoff: Duration::from_millis(10),
        longest_backoff: Duration::from_millis(200),
    }
}

impl Recorder {
    pub async fn start(api: &Api) -> Self {
        Self::with_timeouts(api, short_timeouts()).await
    }

    pub async fn with_timeouts(api: &Api, timeouts: Timeouts) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_kubeconfig(&directory, api, "first");
        let path = directory.path().join("kubeconfig");
        let access = Access { kubeconfig: Some(path), server: None };
        let kubernetes = Kubernetes::open(access, "node-1").await.unwrap();
        let source = Source::Kubernetes(kubernetes.with_timeouts(timeouts));
        let reporter = source.reporter().unwrap();
        let (sender, events) = mpsc::channel(64);
        tokio::spawn(source.run(sender));
        Self {
            events,
            reporter,
            cluster: Cluster::default(),
            changes: Vec::new(),
            warnings: Vec::new(),
            all_warnings: Vec::new(),
            directory,
        }
    }

    /// Writes this token into the kubeconfig.
    pub fn renew_token(&self, api: &Api, token: &str) {
        write_kubeconfig(&self.directory, api, token);
    }

    /// Receives events until a condition holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let receiving = async {
            while !holds(self) {
                self.receive().await;
            }
        };
        if timeout(DEADLINE, receiving).await.is_err() {
            panic!("timed out: {what}; cluster {:#?}, warnings {:?}", self.cluster, self.warnings);
        }
    }

    /// Receives events until the cluster equals the server's objects and there are no warnings.
    pub async fn until_synced(&mut self, api: &Api) {
        let expected = objects_of(api);
        self.until("the source has synced", |recorder| {
            recorder.cluster == expected && recorder.warnings.is_empty()
        })
        .await;
    }

    async fn receive(&mut self) {
        match self.events.recv().await.expect("the source runs for ever") {
            SourceEvent::Changes(changes) => {
                for change in changes {
                    self.changes.push(change.clone());
                    self.cluster.apply(change);
                }
            }
            SourceEvent::Warnings(warnings) => {
                self.all_warnings.extend(warnings.iter().map(ToString::to_string));
                self.warnings = warnings;
            }
        }
    }

    /// How many objects were removed so far.
    pub fn removals(&self) -> usize {
        let is_removal = |change: &&Change| {
            matches!(
                change,
                Change::ServiceGone(_)
                    | Change::SliceGone(_)
                    | Change::NodeGone(_)
                    | Change::ServiceCidrGone(_)
            )
        };
        self.changes.iter().filter(is_removal).count()
    }

    pub fn has_warned_of(&self, text: &str) -> bool {
        self.all_warnings.iter().any(|warning| warning.contains(text))
    }
}

/// Waits for a condition that no event announces.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    if timeout(DEADLINE, waiting).await.is_err() {
        panic!("timed out: {what}");
    }
}

/// The server's objects that are for proxies, as read from a manifest.
pub fn objects_of(api: &Api) -> Cluster {
    let without = |label: &str| Selector { without: Some(label.into()), ..Selector::default() };
    let this_node = Selector { name: Some("node-1".into()), ..Selector::default() };
    let state = api.state();
    let services =
        state.store.objects(SERVICES, &without("service.kubernetes.io/service-proxy-name"));
    let slices = state.store.objects(SLICES, &without("service.kubernetes.io/headless"));
    let nodes = state.store.objects(NODES, &this_node);
    let ranges = state.store.objects(RANGES, &Selector::default());
    let items = [services, slices, nodes, ranges].concat();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("objects.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(&file, list.to_string()).unwrap();
    let (_, events) = Manifests::open(&[file]).unwrap().read();
    let mut cluster = Cluster::default();
    for event in events {
        if let SourceEvent::Changes(changes) = event {
            for change in changes {
                cluster.apply(change);
            }
        }
    }
    cluster
}

fn write_kubeconfig(directory: &TempDir, api: &Api, token: &str) {
    let text = format!(
        "apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: 'http://{}'}}}}]
users: [{{name: weir, user: {{token: {token}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: weir}}}}]
",
        api.address
    );
    std::fs::write(directory.path().join("kubeconfig"), text).unwrap();
}
