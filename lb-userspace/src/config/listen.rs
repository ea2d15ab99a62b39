//! `--healthz-bind-address` and `--metrics-bind-address` as text: `ADDRESS:PORT`, `ADDRESS` alone
//! for the usual port, or nothing for no server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The port of kube-proxy's health server, which load balancers probe.
pub const HEALTHZ_PORT: u16 = 10256;

/// The port of kube-proxy's metrics server.
pub const METRICS_PORT: u16 = 10249;

/// Where to listen; `None` for nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen(pub Option<SocketAddr>);

/// What is served over HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Servers {
    /// Where `/healthz`, `/livez` and `/readyz` are.
    pub healthz: Listen,
    /// Where `/metrics`, `/proxyMode` and `/configz` are.
    pub metrics: Listen,
    /// An address that cannot be listened on ends the agent, instead of being tried again.
    pub must_bind: bool,
    /// A change that has waited this long for the kernel makes the agent unhealthy.
    pub late_after: Duration,
}

/// Text that is no address to listen on.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error(
    "{0:?} is no address to listen on: write ADDRESS:PORT, as in 0.0.0.0:10256 or [::]:10256, or \
     nothing for no server"
)]
pub struct ListenError(String);

impl Default for Servers {
    /// Kube-proxy's: health for everybody, metrics for this node alone.
    fn default() -> Self {
        let at = |ip: Ipv4Addr, port| Listen(Some((ip, port).into()));
        Self {
            healthz: at(Ipv4Addr::UNSPECIFIED, HEALTHZ_PORT),
            metrics: at(Ipv4Addr::LOCALHOST, METRICS_PORT),
            must_bind: false,
            late_after: Duration::from_secs(60),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(f))
    }
}

impl Listen {
    /// Reads `text`, in which `port` is meant where none is written. Port 0 is no server, as for
    /// kube-proxy.
    ///
    /// # Errors
    /// [`ListenError`]
    pub fn parse(text: &str, port: u16) -> Result<Self, ListenError> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = match (bare.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
            (Ok(ip), _) => SocketAddr::new(ip, port),
            (Err(_), Ok(address)) => address,
            (Err(_), Err(_)) => return Err(ListenError(text.into())),
        };
        Ok(Self((address.port() != 0).then_some(address)))
    }

    /// Reads the value of `--healthz-bind-address`.
    ///
    /// # Errors
    /// [`ListenError`]
    pub fn healthz(text: &str) -> Result<Self, ListenError> {
        Self::parse(text, HEALTHZ_PORT)
    }

    /// Reads the value of `--metrics-bind-address`.
    ///
    /// # Errors
    /// [`ListenError`]
    pub fn metrics(text: &str) -> Result<Self, ListenError> {
        Self::parse(text, METRICS_PORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_lack_its_port_and_a_server_its_address() {
        for (text, address) in [
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("127.0.0.1", Some("127.0.0.1:10256")),
            ("[::]:80", Some("[::]:80")),
            ("::", Some("[::]:10256")),
            ("[::1]", Some("[::1]:10256")),
            ("", None),
            ("0.0.0.0:0", None),
        ] {
            let expected = address.map(|address| address.parse().unwrap());
            assert_eq!(Listen::healthz(text), Ok(Listen(expected)), "{text}");
        }
        assert_eq!(Listen::metrics("127.0.0.1").unwrap().0.unwrap().port(), METRICS_PORT);
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for text in ["localhost:80", "1.2.3.4:", ":10256", "1.2.3.4:99999", "::1]:80"] {
            let error = Listen::healthz(text).unwrap_err().to_string();
            assert!(error.contains("write ADDRESS:PORT"), "{error}");
        }
    }
}
