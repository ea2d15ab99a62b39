//! Why the kernel's devices and routes could not be read.

use std::io;
use std::time::Duration;

/// How long the kernel may take to list everything.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// Why a request to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be opened.
    #[error("no netlink socket could be opened: {0}; `weir check` says what is missing")]
    Open(io::Error),
    /// A request failed.
    #[error("the kernel did not list its {what}: {error}; it is tried again")]
    Request {
        /// What was requested.
        what: &'static str,
        /// The cause.
        error: rtnetlink::Error,
    },
    /// The kernel was interrupted by a change.
    #[error("the kernel's list of {what} is not complete, as they changed: it is read again")]
    Interrupted {
        /// What was requested.
        what: &'static str,
    },
    /// The kernel does not answer.
    #[error("the kernel did not list its devices within {} s; it is asked again", ANSWER.as_secs())]
    Late,
    /// The socket is closed.
    #[error("the netlink socket has closed: restart weir")]
    Closed,
}

pub(super) fn request_failed(what: &'static str) -> impl Fn(rtnetlink::Error) -> NetlinkError {
    move |error| NetlinkError::Request { what, error }
}
