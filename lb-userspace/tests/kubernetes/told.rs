//! A source that watches a server, and all that it has told.

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

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Told {
    events: Receiver<SourceEvent>,
    pub reporter: Reporter,
    pub cluster: Cluster,
    pub changes: Vec<Change>,
    pub warnings: Vec<SourceWarning>,
    /// All warnings there ever were.
    pub complaints: Vec<String>,
    directory: TempDir,
}

/// Short times, so that tests are.
pub fn short_timeouts() -> Timeouts {
    Timeouts {
        response: Duration::from_secs(5),
        watch: Duration::from_secs(20),
        idle: Duration::from_secs(10),
        first_backoff: Duration::from_millis(10),
        longest_backoff: Duration::from_millis(200),
    }
}

impl Told {
    pub async fn by(api: &Api) -> Self {
        Self::with(api, short_timeouts()).await
    }

    pub async fn with(api: &Api, timeouts: Timeouts) -> Self {
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
            complaints: Vec::new(),
            directory,
        }
    }

    /// From now on the kubeconfig has this token.
    pub fn renew_token(&self, api: &Api, token: &str) {
        write_kubeconfig(&self.directory, api, token);
    }

    /// Listens until something holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let listening = async {
            while !holds(self) {
                self.hear().await;
            }
        };
        if timeout(DEADLINE, listening).await.is_err() {
            panic!("never: {what}; told {:#?}, warnings {:?}", self.cluster, self.warnings);
        }
    }

    /// Listens until what was told is what the server holds, and nothing is wrong any more.
    pub async fn until_true(&mut self, api: &Api) {
        let truth = truth(api);
        self.until("what was told is the truth", |told| {
            told.cluster == truth && told.warnings.is_empty()
        })
        .await;
    }

    async fn hear(&mut self) {
        match self.events.recv().await.expect("the source never ends") {
            SourceEvent::Changes(changes) => {
                for change in changes {
                    self.changes.push(change.clone());
                    self.cluster.apply(change);
                }
            }
            SourceEvent::Warnings(warnings) => {
                self.complaints.extend(warnings.iter().map(ToString::to_string));
                self.warnings = warnings;
            }
        }
    }

    /// How many objects were ever taken away.
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

    pub fn has_complained(&self, of: &str) -> bool {
        self.complaints.iter().any(|complaint| complaint.contains(of))
    }
}

/// Lets something come about that no event tells of.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    if timeout(DEADLINE, waiting).await.is_err() {
        panic!("never: {what}");
    }
}

/// What the server holds and proxies see, as manifests would tell it.
pub fn truth(api: &Api) -> Cluster {
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
    let file = directory.path().join("truth.json");
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
current-context: here
clusters: [{{name: here, cluster: {{server: 'http://{}'}}}}]
users: [{{name: weir, user: {{token: {token}}}}}]
contexts: [{{name: here, context: {{cluster: here, user: weir}}}}]
",
        api.address
    );
    std::fs::write(directory.path().join("kubeconfig"), text).unwrap();
}
