//! Flows that packets have established, as clients and backends would: whatever table a build keeps
//! them in, and in whatever form.

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_ebpf::bench::shared::ListedFlow;
use lb_ebpf::cases::Program;
use lb_ebpf::cases::frame::Kind;

use super::object::Object;
use crate::addresses::{self, Location};
use crate::cases::{Case, Flows, Role, Scale};

/// The flows of one family.
pub struct Established {
    /// As packets from the client are.
    pub forward: Vec<ListedFlow>,
    /// As packets from the backend are.
    pub reply: Vec<ListedFlow>,
}

/// Of flows that are to be established, one in so many may find no source port free. It is measured as
/// the flow before it once more.
const ONE_MAY_FAIL_IN: u32 = 10_000;

/// The flows of clients to the frontend.
pub fn forward(family: Family, scale: Scale) -> Vec<ListedFlow> {
    let addresses = addresses::of(family);
    let hosts = addresses::hosts(addresses.client, scale.hosts());
    let destination = addresses::last_word(addresses.frontend.ip());
    let [d0, d1] = addresses.frontend.port().to_be_bytes();
    (0..scale.flows())
        .map(|flow| {
            let port = addresses::FIRST_CLIENT_PORT + (flow % scale.ports()) as u16;
            let source = addresses::last_word(hosts[(flow / scale.ports()) as usize]);
            let [s0, s1] = port.to_be_bytes();
            ListedFlow { source, destination, ports: [s0, s1, d0, d1] }
        })
        .collect()
}

/// Establishes the flows of `family` to the Service that `object` serves: the first packet, its reply,
/// and another from the client.
pub fn establish(
    object: &mut Object,
    (location, protocol): (Location, Protocol),
    family: Family,
    scale: Scale,
    device: u32,
) -> Result<Established> {
    let case = |role| Case::established(location, role, family, protocol, Flows::of(scale));
    let mut open = Template::new(&case(Role::Forward), Kind::Open);
    let mut accept = Template::new(&case(Role::Reply), Kind::Accept);
    let mut data = Template::new(&case(Role::Forward), Kind::Data);
    let mut reply: Vec<ListedFlow> = Vec::with_capacity(scale.flows() as usize);
    let mut failed = 0;
    let forward = forward(family, scale);
    for flow in &forward {
        let (_, out) = object.pass(Program::FromNetwork, device, open.with(flow))?;
        let translated = open.flow(out)?;
        if translated == *flow {
            failed += 1;
            reply.push(*reply.last().context("the first packet came out as it went in")?);
            continue;
        }
        reply.push(translated.reply());
        object.pass(back(location), device, accept.with(&translated.reply()))?;
        object.pass(Program::FromNetwork, device, data.with(flow))?;
    }
    let flows = scale.flows();
    ensure!(failed <= flows / ONE_MAY_FAIL_IN, "{failed} of {flows} flows are not established");
    Ok(Established { forward, reply })
}

/// The program that replies of a backend pass.
const fn back(location: Location) -> Program {
    match location {
        Location::Local => Program::ToDevice,
        Location::Remote => Program::FromNetwork,
    }
}

/// The frames of flows, which differ in three places.
pub struct Template {
    frame: Vec<u8>,
    source: usize,
    destination: usize,
}

impl Template {
    fn new(case: &Case, kind: Kind) -> Self {
        Self::of(case.family, &case.frame_of(kind))
    }

    /// Frames like this one.
    pub fn of(family: Family, frame: &[u8]) -> Self {
        let (source, destination) = addresses::differ_at(family);
        Self { frame: frame.to_vec(), source: source.into(), destination: destination.into() }
    }

    /// The frame of `flow`.
    pub fn with(&mut self, flow: &ListedFlow) -> &[u8] {
        let (source, destination) = (self.source, self.destination);
        self.frame[source..source + 2].copy_from_slice(&flow.source);
        self.frame[destination..destination + 2].copy_from_slice(&flow.destination);
        self.frame[destination + 2..destination + 6].copy_from_slice(&flow.ports);
        &self.frame
    }

    /// The flow of `frame`.
    fn flow(&self, frame: &[u8]) -> Result<ListedFlow> {
        let destination = frame.get(self.destination..self.destination + 6);
        let &[d0, d1, p0, p1, p2, p3] = destination.context("a frame was cut short")? else {
            unreachable!("six bytes are six bytes")
        };
        let source = [frame[self.source], frame[self.source + 1]];
        Ok(ListedFlow { source, destination: [d0, d1], ports: [p0, p1, p2, p3] })
    }
}
