//! `--config`: kube-proxy's configuration file (KubeProxyConfiguration, v1alpha1), so that a node's
//! proxy can be changed without its configuration. What means something to Weir is taken; what else
//! it sets is named in a warning.

mod ignored;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::{Spanned, UserMessageFormatter};

use self::ignored::ignored;
use super::listen::{HEALTHZ_PORT, Listen, ListenError, METRICS_PORT};
use crate::plan::NodePortAddresses;

/// What a file says that means something to Weir; `None` where it leaves the default.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct KubeProxyFile {
    /// `hostnameOverride`
    pub node_name: Option<String>,
    /// `healthzBindAddress`; where it is empty and `bindAddress` is of IPv6, `[::]`.
    pub healthz: Option<Listen>,
    /// `metricsBindAddress`; where it is empty and `bindAddress` is of IPv6, `[::1]`.
    pub metrics: Option<Listen>,
    /// `bindAddressHardFail`
    pub must_bind: bool,
    /// `nodePortAddresses`
    pub nodeport_addresses: Option<NodePortAddresses>,
    /// `clientConnection.kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// Flows that can be established at once, out of `conntrack.maxPerCore` and `conntrack.min`.
    pub conntrack: Option<u32>,
    /// `syncPeriod` of the mode in use.
    pub sync_period: Option<Duration>,
    /// Keys that are set and mean nothing to Weir, such as `iptables.masqueradeBit`.
    pub ignored: Vec<String>,
}

/// Why a configuration file cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum KubeProxyError {
    /// It cannot be read.
    #[error("{} cannot be read ({cause}): give --config a file that is there", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// It is malformed.
    #[error("{}:{line}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl KubeProxyFile {
    /// Reads the file at `path` for a machine with so many `cores`.
    ///
    /// # Errors
    /// [`KubeProxyError`]
    pub fn read(path: &Path, cores: u32) -> Result<Self, KubeProxyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| KubeProxyError::Unreadable { path: path.into(), cause })?;
        Self::parse(&text, cores).map_err(|mistake| KubeProxyError::Malformed {
            path: path.into(),
            line: mistake.line,
            reason: mistake.reason,
        })
    }

    fn parse(text: &str, cores: u32) -> Result<Self, Mistake> {
        let keys: Keys = read(text)?;
        keys.check_kind()?;
        let all: BTreeMap<String, Value> = read(text)?;
        let wide = keys.bind_address.as_ref().map(|written| value(written, str::parse::<IpAddr>));
        let is_v6 = wide.transpose()?.flatten().is_some_and(|ip| ip.is_ipv6());
        Ok(Self {
            node_name: keys.hostname_override.filter(|name| !name.is_empty()),
            healthz: listen(&keys.healthz_bind_address, HEALTHZ_PORT, is_v6.then_some("::"))?,
            metrics: listen(&keys.metrics_bind_address, METRICS_PORT, is_v6.then_some("::1"))?,
            must_bind: keys.bind_address_hard_fail.unwrap_or_default(),
            nodeport_addresses: nodeport_addresses(keys.node_port_addresses.unwrap_or_default())?,
            kubeconfig: keys
                .client_connection
                .and_then(|connection| connection.kubeconfig)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            conntrack: keys.conntrack.and_then(|conntrack| conntrack.flows(cores)),
            sync_period: sync_period(keys.mode.as_deref(), keys.iptables, keys.nftables)?,
            ignored: ignored(&all, keys.mode.as_deref()),
        })
    }
}

/// What is wrong with a file.
#[derive(Debug)]
struct Mistake {
    line: u64,
    reason: String,
}

impl Mistake {
    fn at<T>(written: &Spanned<T>, reason: impl fmt::Display) -> Self {
        Self { line: written.referenced.line().max(1), reason: reason.to_string() }
    }
}

/// The keys that mean something to Weir.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    api_version: Option<Spanned<String>>,
    kind: Option<Spanned<String>>,
    bind_address: Option<Spanned<String>>,
    bind_address_hard_fail: Option<bool>,
    client_connection: Option<ClientConnection>,
    conntrack: Option<Conntrack>,
    healthz_bind_address: Option<Spanned<String>>,
    hostname_override: Option<String>,
    iptables: Option<Rules>,
    metrics_bind_address: Option<Spanned<String>>,
    mode: Option<String>,
    nftables: Option<Rules>,
    node_port_addresses: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
struct ClientConnection {
    kubeconfig: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conntrack {
    max_per_core: Option<u32>,
    min: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    sync_period: Option<Spanned<String>>,
}

impl Keys {
    fn check_kind(&self) -> Result<(), Mistake> {
        const KIND: &str = "KubeProxyConfiguration";
        const VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
        for (key, written, expected) in
            [("apiVersion", &self.api_version, VERSION), ("kind", &self.kind, KIND)]
        {
            match written {
                Some(written) if written.value == expected => {}
                Some(written) => {
                    let found = &written.value;
                    let reason = format!("{key} is {found:?}, and only {expected} is read here");
                    return Err(Mistake::at(written, reason));
                }
                None => {
                    let reason = format!(
                        "{key} is missing: --config takes kube-proxy's configuration, write \
                         {key}: {expected}"
                    );
                    return Err(Mistake { line: 1, reason });
                }
            }
        }
        Ok(())
    }
}

impl Conntrack {
    /// As many as kube-proxy would let the kernel track; 0 leaves it alone.
    fn flows(&self, cores: u32) -> Option<u32> {
        let by_cores = self.max_per_core.unwrap_or_default().saturating_mul(cores);
        let flows = if by_cores == 0 { 0 } else { by_cores.max(self.min.unwrap_or_default()) };
        (flows > 0).then(|| flows.clamp(1024, 1 << 20))
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let mut reason = error.render_with_formatter(&UserMessageFormatter);
        let location = error.location();
        if let Some(location) = location {
            let suffix = format!(" at line {}, column {}", location.line(), location.column());
            reason = reason.strip_suffix(&suffix).unwrap_or(&reason).into();
        }
        let line = location.map_or(1, |location| location.line());
        Mistake { line, reason: format!("{reason}: correct it, or leave it out for the default") }
    })
}

/// An empty text is a default, as kube-proxy has it.
fn value<T, E: fmt::Display>(
    written: &Spanned<String>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Mistake> {
    if written.value.is_empty() {
        return Ok(None);
    }
    parse(&written.value).map(Some).map_err(|error| {
        Mistake::at(written, format!("{:?} cannot be taken: {error}", written.value))
    })
}

fn listen(
    written: &Option<Spanned<String>>,
    port: u16,
    default: Option<&str>,
) -> Result<Option<Listen>, Mistake> {
    let listen = match written {
        Some(written) => value(written, |text| Listen::parse(text, port))?,
        None => None,
    };
    let fallback = || default.map(|text| Listen::parse(text, port)).transpose();
    let at_default = |error: ListenError| Mistake { line: 1, reason: error.to_string() };
    listen.map_or_else(|| fallback().map_err(at_default), |listen| Ok(Some(listen)))
}

/// None means what it means without a file: `primary`.
fn nodeport_addresses(written: Vec<Spanned<String>>) -> Result<Option<NodePortAddresses>, Mistake> {
    let Some(first) = written.first() else {
        return Ok(None);
    };
    for one in &written {
        value(one, str::parse::<NodePortAddresses>)?;
    }
    let all: Vec<&str> = written.iter().map(|one| one.value.as_str()).collect();
    all.join(",").parse().map(Some).map_err(|error| Mistake::at(first, error))
}

fn sync_period(
    mode: Option<&str>,
    iptables: Option<Rules>,
    nftables: Option<Rules>,
) -> Result<Option<Duration>, Mistake> {
    let rules = if mode == Some("nftables") { nftables } else { iptables };
    let Some(written) = rules.and_then(|rules| rules.sync_period) else {
        return Ok(None);
    };
    let parse = |text: &str| {
        let positive = |span: jiff::SignedDuration| Duration::try_from(span).ok();
        text.parse().ok().and_then(positive).ok_or("write a duration, as in 30s or 1m30s")
    };
    Ok(value(&written, parse)?.filter(|period| !period.is_zero()))
}

#[cfg(test)]
mod tests;
