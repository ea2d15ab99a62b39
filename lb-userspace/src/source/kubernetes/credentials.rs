//! How the API server is reached and with whose rights: a kubeconfig, or the files that Kubernetes
//! mounts into every pod. Both are read anew when they have changed, and whenever the server no
//! longer accepts what they held: tokens expire and certificates are renewed under a running agent.

mod error;
mod plugin;
mod renewal;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hyper_util::client::proxy::matcher::Matcher;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::timeout;
use tracing::debug;

pub use self::error::AccessError;
use self::error::READING;
use self::renewal::Renewal;

/// Where Kubernetes mounts a pod's identity.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a connection may take to come about: an address that swallows packets is as good as
/// one that refuses them.
const CONNECT: Duration = Duration::from_secs(10);

/// So long before they expire, credentials are renewed.
const BEFORE_EXPIRY: SignedDuration = SignedDuration::from_secs(60);

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
        let (mut config, files, has_own_proxy) = match &self.kubeconfig {
            Some(path) => from_kubeconfig(path).await?,
            None => from_service_account(server.clone())?,
        };
        config.cluster_url = server.unwrap_or(config.cluster_url);
        // kube compares NO_PROXY with the proxy's address, not with the server's.
        if !has_own_proxy && !goes_by_proxy(&config.cluster_url, &Matcher::from_env()) {
            config.proxy_url = None;
        }
        config.connect_timeout = Some(CONNECT);
        // Every request is retried by the watch that made it, which also says so.
        config.default_retry = false;
        Ok((config, files))
    }
}

/// Whether the variables `HTTPS_PROXY` and `NO_PROXY` send those who call `server` to a proxy.
fn goes_by_proxy(server: &http::Uri, variables: &Matcher) -> bool {
    variables.intercept(server).is_some()
}

/// What a kubeconfig says, the files it is in, and whether it names a proxy itself.
async fn from_kubeconfig(path: &Path) -> Result<(Config, Files, bool), AccessError> {
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
    let has_own_proxy = names_proxy(&kubeconfig);
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)?;
    Ok((config, files, has_own_proxy))
}

/// Whether the cluster of the current context has a proxy.
fn names_proxy(kubeconfig: &Kubeconfig) -> bool {
    let context = kubeconfig
        .contexts
        .iter()
        .find(|context| Some(&context.name) == kubeconfig.current_context.as_ref())
        .and_then(|named| named.context.as_ref());
    let cluster = context.and_then(|context| {
        kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()
    });
    let proxy = cluster.and_then(|cluster| cluster.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

fn from_service_account(server: Option<http::Uri>) -> Result<(Config, Files, bool), AccessError> {
    let server = match server {
        Some(server) => server,
        None => server_of_environment()?,
    };
    let file = |name| Path::new(SERVICE_ACCOUNT).join(name);
    let mut config = Config::new(server);
    config.root_cert_file = Some(file("ca.crt"));
    config.auth_info =
        AuthInfo { token_file: Some(file("token").display().to_string()), ..AuthInfo::default() };
    Ok((config, Files::now([file("ca.crt"), file("token")].into_iter()), false))
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

/// The client of the API server, and how it is made anew.
#[derive(Debug)]
pub(super) struct ApiClient {
    access: Access,
    /// The server's address, for log lines.
    pub(super) server: String,
    current: Mutex<CredentialVersion>,
    /// Held while credentials are read anew.
    renewal: tokio::sync::Mutex<Renewal>,
    /// How long a plugin may take.
    plugin_limit: Duration,
}

/// A client with the credentials of one moment, and how many there were before it.
#[derive(Clone)]
pub(super) struct CredentialVersion {
    number: u64,
    pub(super) client: Client,
    source: Arc<CredentialSource>,
}

/// Where credentials are from.
#[derive(Debug)]
struct CredentialSource {
    files: Files,
    /// When the plugin says that they expire.
    expires: Option<Timestamp>,
}

impl std::fmt::Debug for CredentialVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialVersion").field("number", &self.number).finish_non_exhaustive()
    }
}

impl CredentialVersion {
    /// Whether they will have expired after this time.
    fn expires_within(&self, time: SignedDuration) -> bool {
        self.source.expires.is_some_and(|expires| expires.duration_since(Timestamp::now()) <= time)
    }
}

impl ApiClient {
    /// Reads the credentials; no request is made yet.
    pub(super) async fn open(access: Access) -> Result<Self, AccessError> {
        Self::open_within(access, READING).await
    }

    /// The same, with this time for a plugin, now and later.
    async fn open_within(access: Access, plugin_limit: Duration) -> Result<Self, AccessError> {
        let (server, client, source) = connect(&access, plugin_limit).await?;
        let version = CredentialVersion { number: 0, client, source: Arc::new(source) };
        let (current, renewal) = (Mutex::new(version), tokio::sync::Mutex::default());
        Ok(Self { access, server, current, renewal, plugin_limit })
    }

    /// The current client, after a check of the files: renewed credentials are used before the old ones
    /// are refused. Those that are about to expire are renewed meanwhile.
    pub(super) async fn newest(self: &Arc<Self>) -> CredentialVersion {
        let version = self.current();
        if version.source.files.have_changed() || version.expires_within(SignedDuration::ZERO) {
            if let Err(error) = self.renew(&version).await {
                debug!("credentials have changed and cannot be read yet: {error}");
            }
        } else if version.expires_within(BEFORE_EXPIRY) {
            let api = Arc::clone(self);
            // Its failure is a warning, and the old ones count still.
            tokio::spawn(async move { api.renew(&version).await });
        }
        self.current()
    }

    /// The current client.
    pub(super) fn current(&self) -> CredentialVersion {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the credentials anew, for those of `old` are refused or expire. What cannot be read changes
    /// nothing; it may be half written. One reads at a time, for all who wait; after a failure nobody does for
    /// a while.
    pub(super) async fn renew(&self, old: &CredentialVersion) -> Result<(), Arc<AccessError>> {
        let mut renewal = self.renewal.lock().await;
        if self.current().number != old.number {
            return Ok(());
        }
        renewal.may_begin()?;
        let read = connect(&self.access, self.plugin_limit).await;
        let (_, client, source) = read.map_err(|error| renewal.failed(error))?;
        renewal.succeeded();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let source = Arc::new(source);
        *current = CredentialVersion { number: old.number + 1, client, source };
        Ok(())
    }
}

/// Reads the files, runs the plugin, and makes a client of what they give.
async fn connect(
    access: &Access,
    plugin_limit: Duration,
) -> Result<(String, Client, CredentialSource), AccessError> {
    let access = access.clone();
    let runtime = tokio::runtime::Handle::current();
    let (mut config, files) = on_a_thread(move || runtime.block_on(access.config())).await?;
    let mut expires = None;
    if let Some(exec) = plugin::of(&config.auth_info).cloned() {
        let written = plugin::run(&exec, &mut config.auth_info, plugin_limit).await;
        let command = plugin::name(&exec).to_owned();
        expires = written.map_err(|cause| AccessError::Plugin { command, cause })?;
    }
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let runtime = tokio::runtime::Handle::current();
    let client = on_a_thread(move || {
        // The client starts a task of its own.
        let _context = runtime.enter();
        Client::try_from(config).map_err(AccessError::Client)
    });
    Ok((server, client.await?, CredentialSource { files, expires }))
}

/// Files may be on a server that does not respond.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AccessError> + Send + 'static,
) -> Result<T, AccessError> {
    let reading = timeout(READING, tokio::task::spawn_blocking(work));
    reading.await.map_err(|_elapsed| AccessError::Late)?.map_err(AccessError::Reading)?
}

#[cfg(test)]
mod tests;
