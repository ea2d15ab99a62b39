//! Flows of the design's table, and what a backend must see of each.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_common::address::Protocol;

use super::{Caller, Client, Response, TIMEOUT, ask};
use crate::lab::{Lab, Namespace, Pod};
use crate::wait::until;

/// Who begins a flow.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A pod of node1.
    Pod(&'a Pod),
    /// The client outside the cluster.
    Outside,
    /// A process of node1 itself.
    Host,
}

/// A flow to a frontend.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// Who begins it.
    pub origin: Origin<'a>,
    /// The frontend's address and port.
    pub frontend: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl<'a> Origin<'a> {
    /// Where it lives.
    #[must_use]
    pub const fn namespace(self, lab: &'a Lab) -> &'a Namespace {
        match self {
            Self::Pod(pod) => &pod.namespace,
            Self::Outside => &lab.client,
            Self::Host => &lab.node1.namespace,
        }
    }
}

impl Flow<'_> {
    /// Begins the flow anew, sends `length` bytes (at least one), has them back, and checks what the
    /// backend saw.
    ///
    /// # Errors
    /// If there is no response, it is not what was sent, or the backend saw another client than it
    /// should.
    pub fn send(&self, lab: &Lab, length: usize) -> Result<Response> {
        self.exchange(lab, length).with_context(|| format!("{length} bytes, {self}"))
    }

    fn exchange(&self, lab: &Lab, length: usize) -> Result<Response> {
        let response = self.ask(lab, length)?;
        self.check_client(lab, &response)?;
        Ok(response)
    }

    /// The same for a datagram that may be lost at first: where packets are too large for a link behind
    /// the first one, their sender learns of it by losing some.
    ///
    /// # Errors
    /// If there is never a reply, or the backend saw another client than it should.
    pub fn send_patiently(&self, lab: &Lab, length: usize) -> Result<Response> {
        const TRY: Duration = Duration::from_millis(200);
        let caller = Caller::connect(self.origin.namespace(lab), self.frontend)?;
        let response = until("there is a reply", TIMEOUT, || caller.exchange_within(TRY, length));
        let response = response.with_context(|| self.to_string())?;
        self.check_client(lab, &response)?;
        Ok(response)
    }

    /// The same as [`Flow::send`], whatever client the backend saw.
    ///
    /// # Errors
    /// If there is no response, or it is not what was sent.
    pub fn ask(&self, lab: &Lab, length: usize) -> Result<Response> {
        let namespace = self.origin.namespace(lab);
        match self.protocol {
            Protocol::TCP => Client::connect(namespace, self.frontend)?.exchange(length),
            Protocol::UDP => ask(namespace, self.frontend, length),
            other => bail!("no client speaks {other}"),
        }
    }

    /// Checks that the backend saw the client the design promises: itself, but for hairpins and for
    /// flows from outside to a backend on another node.
    ///
    /// # Errors
    /// If it did not; the error has what was expected.
    pub fn check_client(&self, lab: &Lab, response: &Response) -> Result<()> {
        let (pod, seen, own) = (&response.pod, response.client, response.own);
        let is_local = lab.node1.pods.iter().any(|candidate| candidate.name == *pod);
        match self.origin {
            Origin::Pod(client) if client.name == *pod => ensure!(
                seen.ip() != own.ip(),
                "{pod} reached itself and saw its own address, to which its kernel would not reply"
            ),
            Origin::Outside if !is_local => ensure!(
                lab.node1.owns(seen.ip()),
                "{pod} saw {seen}, where an address of node1 must hide {own}"
            ),
            // Where a datagram leaves by another device than the route to the frontend says, it gets that one's address.
            Origin::Host if self.protocol == Protocol::UDP && !is_local => ensure!(
                lab.node1.owns(seen.ip()),
                "{pod} saw {seen}, which is not an address of node1 as {own} is"
            ),
            Origin::Pod(_) | Origin::Outside | Origin::Host => {
                ensure!(seen == own, "{pod} saw {seen} instead of {own}");
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Flow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let origin = match self.origin {
            Origin::Pod(pod) => &pod.name,
            Origin::Outside => "outside",
            Origin::Host => "node1",
        };
        write!(f, "{origin} > {}/{}", self.frontend, self.protocol)
    }
}
