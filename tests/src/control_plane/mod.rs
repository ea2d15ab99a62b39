//! A real Kubernetes control plane within a lab: etcd, kube-apiserver and the controllers that write
//! EndpointSlices. They run where the lab's router is, so nodes reach the API server by its address;
//! the test plays the kubelet.

pub mod api;
pub mod fixture;
pub mod kubelet;
mod programs;
pub mod proxy;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::addresses::NODE_GATEWAY;
use crate::lab::{Lab, Namespace};
use crate::wait::until;
use api::Api;
use programs::Process;
pub use programs::Programs;

/// How long a control plane may take to become ready; a few seconds where the machine is idle.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The port of the API server.
const API_PORT: u16 = 6443;

/// Where etcd listens, within the router's namespace.
const STORE: &str = "http://127.0.0.1:2379";

/// A running control plane. Dropping it kills its processes; its files go with the lab.
#[derive(Debug)]
pub struct ControlPlane {
    /// Its API server, as an administrator calls it.
    pub api: Api,
    controllers: Option<Process>,
    api_server: Option<Process>,
    store: Option<Process>,
    programs: Programs,
    namespace: Namespace,
    folder: PathBuf,
}

impl ControlPlane {
    /// Starts a control plane and waits until it serves. The lab's nodes and pods are not registered
    /// yet.
    ///
    /// # Errors
    /// If one of its processes does not start; the end of its log is part of the error.
    pub fn start(lab: &Lab, programs: Programs) -> Result<Self> {
        let folder = lab.folder().join("control-plane");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("tokens.csv"), TOKENS)?;
        for user in [User::Administrator, User::Proxy] {
            fs::write(user.kubeconfig(&folder), user.yaml(&folder))?;
        }
        // The API server makes its certificate itself, and a client cannot be made without.
        let namespace = lab.network.clone();
        let store = Some(start_store(&namespace, &programs, &folder)?);
        let mut api_server = start_api_server(&namespace, &programs, &folder)?;
        until("the API server has a certificate", TIMEOUT, || {
            api_server.check_running()?;
            // The key is written once the certificate is complete; a client reads that once.
            fs::exists(private_key(&folder))?.then_some(()).context("not yet")
        })?;
        let api = Api::new(&namespace, &User::Administrator.kubeconfig(&folder))?;
        let api_server = Some(api_server);
        let mut this =
            Self { api, controllers: None, api_server, store, programs, namespace, folder };
        this.wait_until_it_serves()?;
        this.start_controllers()?;
        Ok(this)
    }

    /// What a Service proxy is given to reach the API server: it may read what kube-proxy may.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        User::Proxy.kubeconfig(&self.folder)
    }

    /// Another client of the API server, for a thread of its own.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub fn another_client(&self) -> Result<Api> {
        Api::new(&self.namespace, &User::Administrator.kubeconfig(&self.folder))
    }

    /// Kills the API server.
    pub fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts the API server that was killed, and waits until it serves.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_api_server(&mut self) -> Result<()> {
        let server = start_api_server(&self.namespace, &self.programs, &self.folder)?;
        self.api_server = Some(server);
        // The connections of the old client ended with the old server.
        self.api = Api::new(&self.namespace, &User::Administrator.kubeconfig(&self.folder))?;
        self.wait_until_it_serves()
    }

    /// Copies what the store holds, as a backup. Everything is stopped meanwhile.
    ///
    /// # Errors
    /// If it cannot be copied, or does not start again.
    pub fn back_up(&mut self) -> Result<()> {
        self.while_stopped(copy_folder)
    }

    /// Puts the backup in the store's place: the API server then serves an older state, and counts
    /// on from there.
    ///
    /// # Errors
    /// If there is none, or the control plane does not start again.
    pub fn restore(&mut self) -> Result<()> {
        self.while_stopped(|data, backup| {
            fs::remove_dir_all(data)?;
            copy_folder(backup, data)
        })
    }

    fn while_stopped(&mut self, work: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<()> {
        self.controllers = None;
        self.api_server = None;
        self.store = None;
        work(&data(&self.folder), &self.folder.join("backup"))?;
        self.store = Some(start_store(&self.namespace, &self.programs, &self.folder)?);
        self.start_api_server()?;
        self.start_controllers()
    }

    fn wait_until_it_serves(&mut self) -> Result<()> {
        let Self { api, api_server, store, .. } = self;
        until("the API server serves", TIMEOUT, || {
            for process in [&mut *api_server, store].into_iter().flatten() {
                process.check_running()?;
            }
            api.get_text("/readyz")?;
            // Made by the server itself, a moment after it is ready; objects need it.
            api.get_text("/api/v1/namespaces/default")?;
            Ok(())
        })
    }

    fn start_controllers(&mut self) -> Result<()> {
        let kubeconfig = User::Administrator.kubeconfig(&self.folder);
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--controllers={CONTROLLERS}"),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
            format!("--cert-dir={}", self.folder.join("controllers").display()),
            // The defaults spare a cluster's API server, and would make a thousand Services last.
            "--kube-api-qps=2000".into(),
            "--kube-api-burst=4000".into(),
            "--concurrent-service-endpoint-syncs=20".into(),
        ];
        let (program, folder) = (&self.programs.controllers, &self.folder);
        let process = Process::start(
            &self.namespace,
            program,
            "kube-controller-manager",
            folder,
            &arguments,
        )?;
        self.controllers = Some(process);
        Ok(())
    }
}

/// What writes slices. Without those for nodes' lives, Nodes need no heartbeat.
const CONTROLLERS: &str = "endpointslice-controller,endpointslice-mirroring-controller,\
                           endpoints-controller,namespace-controller";

fn start_store(namespace: &Namespace, programs: &Programs, folder: &Path) -> Result<Process> {
    const PEERS: &str = "http://127.0.0.1:2380";
    let arguments = [
        format!("--data-dir={}", data(folder).display()),
        format!("--listen-client-urls={STORE}"),
        format!("--advertise-client-urls={STORE}"),
        format!("--listen-peer-urls={PEERS}"),
        format!("--initial-advertise-peer-urls={PEERS}"),
        format!("--initial-cluster=default={PEERS}"),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ];
    Process::start(namespace, &programs.etcd, "etcd", folder, &arguments)
}

fn start_api_server(namespace: &Namespace, programs: &Programs, folder: &Path) -> Result<Process> {
    let address = NODE_GATEWAY.v4;
    let (certificates, key) = (folder.join("certificates"), private_key(folder));
    let arguments = [
        format!("--etcd-servers={STORE}"),
        format!("--bind-address={address}"),
        format!("--advertise-address={address}"),
        format!("--secure-port={API_PORT}"),
        format!("--cert-dir={}", certificates.display()),
        "--service-cluster-ip-range=10.96.0.0/16,fd96::/112".into(),
        "--authorization-mode=RBAC".into(),
        format!("--token-auth-file={}", folder.join("tokens.csv").display()),
        // Pods need an account of their own otherwise.
        "--disable-admission-plugins=ServiceAccount".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-signing-key-file={}", key.display()),
        format!("--service-account-key-file={}", key.display()),
        "--endpoint-reconciler-type=none".into(),
    ];
    Process::start(namespace, &programs.api_server, "kube-apiserver", folder, &arguments)
}

/// The API server's certificate, made by itself and good for its address, and who signed it.
fn certificate(folder: &Path) -> PathBuf {
    folder.join("certificates/apiserver.crt")
}

fn private_key(folder: &Path) -> PathBuf {
    folder.join("certificates/apiserver.key")
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, to) = (from.join(entry?.file_name()), to);
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &to)?;
        } else {
            fs::copy(&path, &to).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// Who may call the API server, by tokens that are worth nothing outside a lab.
const TOKENS: &str = "administrator,administrator,1,system:masters\nproxy,system:kube-proxy,2\n";

#[derive(Clone, Copy, Debug)]
enum User {
    Administrator,
    /// Upstream's rules allow it what a Service proxy needs.
    Proxy,
}

impl User {
    const fn token(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Proxy => "proxy",
        }
    }

    fn kubeconfig(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.kubeconfig", self.token()))
    }

    fn yaml(self, folder: &Path) -> String {
        let token = self.token();
        format!(
            "apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster:
    server: https://{}:{API_PORT}
    certificate-authority: {}
users:
- name: {token}
  user: {{token: {token}}}
contexts:
- name: lab
  context: {{cluster: lab, user: {token}}}
current-context: lab
",
            NODE_GATEWAY.v4,
            certificate(folder).display()
        )
    }
}
