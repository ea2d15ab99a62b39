//! Why a request to the API server failed, and what can be done about it.

use std::error::Error;
use std::time::Duration;

use kube::core::Status;

use super::certificate::CertificateFault;

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(in super::super) enum Failure {
    /// 410: that version, or that page, is no longer there.
    #[error("the history requested is gone")]
    Expired,
    /// 504 with a cause of its own: the server's watch cache has not got that version yet.
    #[error("it has not got the version requested")]
    NotYet,
    /// 401: the token or certificate no longer counts.
    #[error(
        "it does not accept the credentials ({0}): renew the token or certificate; the files are \
         read again by themselves"
    )]
    Unauthorized(String),
    /// 403: they count, but not for this.
    #[error("it refuses ({0}): grant what Weir's ClusterRole grants")]
    Forbidden(String),
    /// Another status that is no success.
    #[error("it responds {status} ({message})")]
    Status {
        /// HTTP status.
        status: u16,
        /// What the server says of it.
        message: String,
        /// How long it wants to have no request.
        retry_after: Option<Duration>,
    },
    /// No connection, or one that broke before the response was complete.
    #[error("{0}")]
    Unreachable(String),
    /// The server's certificate is not accepted.
    #[error("{0}")]
    Certificate(CertificateFault),
    /// It did not respond in time.
    #[error("it did not respond within {} s", .0.as_secs_f32())]
    Late(Duration),
    /// The response is not one of Kubernetes.
    #[error("its response cannot be read ({0}): is it an API server?")]
    Unreadable(String),
    /// The credentials cannot be read.
    #[error("{0}")]
    Credentials(String),
}

impl Failure {
    /// How long the server wants to have no request.
    pub(in super::super) fn retry_after(&self) -> Option<Duration> {
        if let Self::Status { retry_after, .. } = self { *retry_after } else { None }
    }

    /// Whether other credentials could help: TLS fails without a status, and the CAs are among them.
    pub(in super::super) fn may_be_credentials(&self) -> bool {
        matches!(self, Self::Unauthorized(_) | Self::Unreachable(_) | Self::Certificate(_))
    }

    /// What to do, where the failure itself does not say.
    pub(in super::super) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(_) | Self::Late(_) | Self::Unreadable(_) => Some(
                "check that this address is that of an API server and is reachable from this node \
                 without any Service (--master)",
            ),
            Self::Certificate(fault) => Some(fault.advice()),
            Self::Status { .. } | Self::Expired | Self::NotYet => {
                Some("check the server's load and its log")
            }
            Self::Unauthorized(_) | Self::Forbidden(_) | Self::Credentials(_) => None,
        }
    }

    /// Whether the server does not know what was requested.
    pub(in super::super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether every request would fail alike.
    pub(in super::super) fn concerns_all(&self) -> bool {
        match self {
            Self::Unauthorized(_)
            | Self::Unreachable(_)
            | Self::Certificate(_)
            | Self::Late(_)
            | Self::Credentials(_) => true,
            Self::Expired
            | Self::NotYet
            | Self::Forbidden(_)
            | Self::Status { .. }
            | Self::Unreadable(_) => false,
        }
    }

    pub(in super::super) fn of_status(status: &Status, header: Option<Duration>) -> Self {
        let message = if status.message.is_empty() { &status.reason } else { &status.message };
        let message = first_line(message);
        let requested = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let requested = (requested > 0).then(|| Duration::from_secs(requested.into()));
        match status.code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden(message),
            410 => Self::Expired,
            504 if is_too_large(status) => Self::NotYet,
            status => Self::Status { status, message, retry_after: header.or(requested) },
        }
    }
}

/// Whether a list is refused for being of a version that is yet to come.
/// <https://github.com/kubernetes/apimachinery/blob/v0.36.2/pkg/apis/meta/v1/types.go#L1127>
fn is_too_large(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "ResourceVersionTooLarge")
}

/// Pages of proxies in between are long.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

/// The innermost cause says most: "connection refused". What is wrong with a certificate has words of its own.
pub(super) fn unreachable(error: &(dyn Error + 'static)) -> Failure {
    if let Some(fault) = CertificateFault::among_causes(error) {
        return Failure::Certificate(fault);
    }
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Failure::Unreachable(cause.to_string())
}
