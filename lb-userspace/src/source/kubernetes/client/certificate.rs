//! What is wrong with the API server's certificate, in words that say what to do.

use std::error::Error;
use std::{fmt, io};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rustls::CertificateError;
use rustls::pki_types::{ServerName, UnixTime};

/// Why the server's certificate is not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) enum CertificateFault {
    /// None of the known CAs has signed it.
    UnknownIssuer,
    /// A CA has signed it that has the name of a known one and another key: kubeadm calls the CAs of all
    /// clusters alike.
    OtherIssuer,
    /// It is a CA's own, most often one that has signed itself.
    IsCa,
    /// It is for other names than the one that the server was called by.
    OtherName {
        /// The name or address that was called.
        called: String,
        /// Those that the certificate has.
        names: Vec<String>,
    },
    /// It is not valid any more, since then.
    Expired(Option<Timestamp>),
    /// It is not valid yet, until then.
    NotYetValid(Option<Timestamp>),
    /// It is for clients, or for other purposes.
    OtherPurpose,
    /// Something else, in the verifier's words.
    Other(String),
}

impl CertificateFault {
    /// The fault for which TLS was not established, if that is why `error` came about.
    pub(super) fn among_causes(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(cause) = next {
            if let Some(rustls::Error::InvalidCertificate(fault)) = cause.downcast_ref() {
                return Some(Self::of(fault));
            }
            // An I/O error is not the cause of what it holds, but the thing itself.
            let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(fault) = held.and_then(|held| Self::among_causes(held)) {
                return Some(fault);
            }
            next = cause.source();
        }
        None
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls may add errors at any time, and has words for each"
    )]
    fn of(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::BadSignature => Self::OtherIssuer,
            CertificateError::NotValidForNameContext { expected, presented } => Self::OtherName {
                called: called(expected),
                names: presented.iter().map(|name| plain(name)).collect(),
            },
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(time(*not_after)),
            CertificateError::NotValidYet => Self::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid(time(*not_before))
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::OtherPurpose
            }
            CertificateError::Other(other)
                if other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) =>
            {
                Self::IsCa
            }
            other => Self::Other(other.to_string()),
        }
    }

    /// What to do.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::UnknownIssuer => {
                "give the kubeconfig the certificate of the CA that signed the server's, as \
                 `certificate-authority-data` or `certificate-authority`; in a pod, check that \
                 --master is this cluster's own API server"
            }
            Self::OtherIssuer => {
                "take the kubeconfig, or its `certificate-authority-data`, from the cluster that this \
                 server is of, anew if its CA was renewed"
            }
            Self::IsCa => {
                "have the API server present a certificate that this CA has signed, with the \
                 server's address as subjectAltName (kube-apiserver --tls-cert-file), and keep the \
                 CA's own in `certificate-authority-data` of the kubeconfig"
            }
            Self::OtherName { .. } => {
                "call the server by one of these names (--master, or `server` of the kubeconfig), \
                 name one as `tls-server-name` in the kubeconfig, or have the server present a \
                 certificate with this one as subjectAltName"
            }
            Self::Expired(_) => {
                "renew the server's certificate (with kubeadm: kubeadm certs renew apiserver, then \
                 restart it); if it is not expired, set this node's clock"
            }
            Self::NotYetValid(_) => {
                "set this node's clock; if it is right, have the API server present a certificate \
                 that is valid by now"
            }
            Self::OtherPurpose => {
                "have the API server present a certificate whose extendedKeyUsage has serverAuth"
            }
            Self::Other(_) => {
                "look at it with `openssl s_client -connect HOST:PORT -showcerts`, and have the \
                 server present one that is right"
            }
        }
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |time: &Option<Timestamp>| {
            time.map_or_else(String::new, |time| {
                time.strftime(" %Y-%m-%d %H:%M:%S UTC").to_string()
            })
        };
        match self {
            Self::UnknownIssuer => f.write_str("its certificate is signed by an unknown CA"),
            Self::OtherIssuer => f.write_str(
                "its certificate is signed by a CA with the name of a known one and another key",
            ),
            Self::IsCa => f.write_str(
                "its certificate is that of a CA, which no server may present as its own",
            ),
            Self::OtherName { called, names } if names.is_empty() => {
                write!(f, "its certificate is for no name at all, and not for {called}")
            }
            Self::OtherName { called, names } => {
                write!(f, "its certificate is for {}, not for {called}", names.join(", "))
            }
            Self::Expired(time) => write!(f, "its certificate has expired{}", at(time)),
            Self::NotYetValid(time) => write!(f, "its certificate is not valid before{}", at(time)),
            Self::OtherPurpose => f.write_str("its certificate is not one for servers"),
            Self::Other(reason) => write!(f, "its certificate cannot be accepted ({reason})"),
        }
    }
}

fn called(name: &ServerName<'_>) -> String {
    name.to_str().into_owned()
}

/// A name without the verifier's words about its kind, as in `DnsName("kubernetes")`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').to_owned()
}

fn time(time: UnixTime) -> Option<Timestamp> {
    Timestamp::UNIX_EPOCH
        .checked_add(SignedDuration::from_secs(time.as_secs().try_into().ok()?))
        .ok()
}

#[cfg(test)]
mod tests;
