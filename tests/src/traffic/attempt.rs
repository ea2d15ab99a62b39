//! What becomes of the first packet of a flow, as the program that sends it is told.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};
use lb_common::address::Protocol;

use super::udp::Caller;
use crate::lab::Namespace;

/// What the sender is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttemptResult {
    /// Somebody answers.
    Replied,
    /// Nobody is there: `ECONNREFUSED`.
    Refused,
    /// It may not: `EPERM`.
    Forbidden,
    /// Nothing.
    NoReply,
}

/// Begins a flow from within `namespace` and waits for `timeout` to be told what becomes of it.
///
/// # Errors
/// If the sender is told something else.
pub fn attempt(
    namespace: &Namespace,
    server: SocketAddr,
    protocol: Protocol,
    timeout: Duration,
) -> Result<AttemptResult> {
    let told = match protocol {
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
    let Err(error) = told else {
        return Ok(AttemptResult::Replied);
    };
    match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => Ok(AttemptResult::Refused),
        Some(ErrorKind::PermissionDenied) => Ok(AttemptResult::Forbidden),
        Some(ErrorKind::TimedOut | ErrorKind::WouldBlock) => Ok(AttemptResult::NoReply),
        Some(_) | None => Err(error),
    }
}
