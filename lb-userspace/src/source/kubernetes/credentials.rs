//! How the API server is reached and with whose rights: a kubeconfig, or the files that Kubernetes
//! mounts into every pod. Both are read anew when they have changed, and whenever the server no
//! longer accepts what they held: tokens expire and certificates are renewed under a running agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::timeout;
use tracing::debug;

/// Where Kubernetes mounts a pod's identity.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a connection may take to come about: an address that swallows packets is as good as
/// one that refuses them.
const CONNECT: Duration = Duration::from_secs(10);

/// How long credentials may take to be read: a kubeconfig may name a program that asks another server for them.
const READING: Duration = Duration::from_secs(60);

/// How to reach an API server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// A kubeconfig, whose current context counts; without one the pod's own identity is used.
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server, `https://HOST:PORT`; takes precedence over the kubeconfig's and
    /// over the environment's.
    pub server: Option<String>,
}

impl Access {
    /// The identity of the pod that this process runs in, if it runs in one that has an identity.
    #[must_use]
    pub fn of_this_pod(server: Option<String>) -> Option<Self> {
        let is_there = Path::new(SERVICE_ACCOUNT).join("token").is_file();
        is_there.then_some(Self { kubeconfig: None, server })
    }

    async fn config(&self) -> Result<(Config, Files), AccessError> {
        let server = self.server.as_deref().map(parse_server).transpose()?;
        let (mut config, files) = match &self.kubeconfig {
            Some(path) => from_kubeconfig(path).await?,
            None => from_service_account(server.clone())?,
        };
        config.cluster_url = server.unwrap_or(config.cluster_url);
        config.connect_timeout = Some(CONNECT);
        // Every request is retried by the watch that made it, which also says so.
        config.default_retry = false;
        Ok((config, files))
    }
}

async fn from_kubeconfig(path: &Path) -> Result<(Config, Files), AccessError> {
    let wrong =
        |cause: kube::config::KubeconfigError| AccessError::Kubeconfig { path: path.into(), cause };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
    // Those of other contexts count too: one check too many does no harm.
    let users = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let of_users =
        users.flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file]);
    let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let of_clusters = clusters.map(|cluster| &cluster.certificate_authority);
    let named = of_users.chain(of_clusters).flatten().map(PathBuf::from);
    let files = Files::now([path.into()].into_iter().chain(named));
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)?;
    Ok((config, files))
}

fn from_service_account(server: Option<http::Uri>) -> Result<(Config, Files), AccessError> {
    let server = match server {
        Some(server) => server,
        None => server_of_environment()?,
    };
    let file = |name| Path::new(SERVICE_ACCOUNT).join(name);
    let mut config = Config::new(server);
    config.root_cert_file = Some(file("ca.crt"));
    config.auth_info =
        AuthInfo { token_file: Some(file("token").display().to_string()), ..AuthInfo::default() };
    Ok((config, Files::now([file("ca.crt"), file("token")].into_iter())))
}

/// The files that credentials were read from, as they were then.
#[derive(Debug)]
struct Files(Vec<(PathBuf, State)>);

/// When a file was last written, and its length; `None` if there is none.
type State = Option<(SystemTime, u64)>;

impl Files {
    fn now(paths: impl Iterator<Item = PathBuf>) -> Self {
        let with_state = |path: PathBuf| {
            let state = state(&path);
            (path, state)
        };
        Self(paths.map(with_state).collect())
    }

    fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, then)| state(path) != *then)
    }
}

fn state(path: &Path) -> State {
    let file = fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

fn server_of_environment() -> Result<http::Uri, AccessError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = variable("KUBERNETES_SERVICE_HOST").ok_or(AccessError::NoServer)?;
    let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".into());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    parse_server(&format!("https://{host}:{port}"))
}

fn parse_server(text: &str) -> Result<http::Uri, AccessError> {
    let uri: Option<http::Uri> = text.parse().ok();
    let has_scheme = |uri: &http::Uri| matches!(uri.scheme_str(), Some("https" | "http"));
    uri.filter(has_scheme).ok_or_else(|| AccessError::Server(text.into()))
}

/// Why the API server cannot be reached at all.
#[derive(thiserror::Error, Debug)]
pub enum AccessError {
    /// The kubeconfig is not there, or is none.
    #[error(
        "the kubeconfig {} cannot be used ({cause}): give --kubeconfig a file that kubectl accepts",
        path.display()
    )]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: kube::config::KubeconfigError,
    },
    /// No address is known.
    #[error(
        "no address of the API server is known: give one with --master https://HOST:PORT, or run in \
         a pod, where KUBERNETES_SERVICE_HOST names it"
    )]
    NoServer,
    /// The address is none.
    #[error("{0} is no address of an API server: write --master https://HOST:PORT")]
    Server(String),
    /// Certificates or tokens that cannot be used.
    #[error(
        "the certificates or the token for the API server cannot be used ({0}): check the files that \
         the kubeconfig names, or those of the service account"
    )]
    Client(kube::Error),
    /// They do not come.
    #[error(
        "the credentials for the API server did not come within {} s: run the command that the kubeconfig names \
         under `exec` by hand, and see what it waits for",
        READING.as_secs()
    )]
    Late,
    /// The task that reads them was ended by a panic.
    #[error("the reading of credentials ended unexpectedly ({0}): restart weir and report this")]
    Reading(tokio::task::JoinError),
}

/// The client of the API server, and how it is made anew.
#[derive(Debug)]
pub(super) struct ApiClient {
    access: Access,
    /// The server's address, for log lines.
    pub(super) server: String,
    current: Mutex<CredentialVersion>,
}

/// A client with the credentials of one moment, and how many there were before it.
#[derive(Clone)]
pub(super) struct CredentialVersion {
    number: u64,
    pub(super) client: Client,
    /// Where its credentials are from.
    files: Arc<Files>,
}

impl std::fmt::Debug for CredentialVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialVersion").field("number", &self.number).finish_non_exhaustive()
    }
}

impl ApiClient {
    /// Reads the credentials; no request is made yet.
    pub(super) async fn open(access: Access) -> Result<Self, AccessError> {
        let (server, client, files) = connect(&access).await?;
        let version = CredentialVersion { number: 0, client, files: Arc::new(files) };
        Ok(Self { access, server, current: Mutex::new(version) })
    }

    /// The current client, after a check of the files: renewed credentials are used before the old ones
    /// are refused.
    pub(super) async fn newest(&self) -> CredentialVersion {
        let version = self.current();
        if version.files.have_changed()
            && let Err(error) = self.renew(&version).await
        {
            debug!("credentials have changed and cannot be read yet: {error}");
        }
        self.current()
    }

    /// The current client.
    pub(super) fn current(&self) -> CredentialVersion {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the credentials anew, for those of `old` are refused. What cannot be read changes
    /// nothing; it may be half written.
    pub(super) async fn renew(&self, old: &CredentialVersion) -> Result<(), AccessError> {
        if self.current().number != old.number {
            return Ok(());
        }
        let (_, client, files) = connect(&self.access).await?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number == old.number {
            *current = CredentialVersion { number: old.number + 1, client, files: Arc::new(files) };
        }
        Ok(())
    }
}

/// On a thread of its own: files are read, and a kubeconfig may name a program to run.
async fn connect(access: &Access) -> Result<(String, Client, Files), AccessError> {
    let access = access.clone();
    let runtime = tokio::runtime::Handle::current();
    let reading = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let (config, files) = access.config().await?;
            let server = config.cluster_url.to_string();
            let client = Client::try_from(config).map_err(AccessError::Client)?;
            Ok((server.trim_end_matches('/').to_owned(), client, files))
        })
    });
    let read = timeout(READING, reading).await.map_err(|_elapsed| AccessError::Late)?;
    read.map_err(AccessError::Reading)?
}

#[cfg(test)]
mod tests;
