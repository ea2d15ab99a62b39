//! Whether a flow can be begun, as the client's system calls report it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};
use lb_common::address::Protocol;

use super::udp::Caller;
use crate::lab::Namespace;

/// What the client's system calls report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttemptResult {
    /// The server replied.
    Replied,
    /// The connection was refused: `ECONNREFUSED`.
    Refused,
    /// The call is not allowed: `EPERM`.
    Forbidden,
    /// Nothing came within the time.
    NoReply,
}

/// Begins a flow from within `namespace` and waits for a reply or an error until `timeout`.
///
/// # Errors
/// If there is another error.
pub fn attempt(
    namespace: &Namespace,
    server: SocketAddr,
    protocol: Protocol,
    timeout: Duration,
) -> Result<AttemptResult> {
    let result = match protocol {
        Protocol::TCP => namespace.run(|| {
            TcpStream::connect_timeout(&server, timeout)?;
            Ok(())
        }),
        Protocol::UDP => {
            let caller = Caller::connect(namespace, server);
            caller.and_then(|caller| caller.exchange_within(timeout, 1)).map(|_| ())
        }
        other => bail!("no client speaks {other}"),
    };
    let Err(error) = result else {
        return Ok(AttemptResult::Replied);
    };
    match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => Ok(AttemptResult::Refused),
        Some(ErrorKind::PermissionDenied) => Ok(AttemptResult::Forbidden),
        Some(ErrorKind::TimedOut | ErrorKind::WouldBlock) => Ok(AttemptResult::NoReply),
        Some(_) | None => Err(error),
    }
}
