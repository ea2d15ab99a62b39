//! Flows that packets have established, as clients and backends would: whatever table a build keeps
//! them in, and in whatever form.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::conntrack::Ticks;
use lb_ebpf::bench::shared::ListedFlow;
use lb_ebpf::cases::Program;
use lb_ebpf::cases::frame::Kind;
use lb_userspace::maps::conntrack_gc::now;
use weir_tests::wait::until;

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
const ONE_MAY_FAIL_IN: usize = 10_000;

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

/// Establishes the flows of both families to the Service that `object` serves: the first packet, its reply,
/// and another from the client. Of UDP that other one counts only seconds later, until when the flow is half-open:
/// so flows come in groups that find room.
pub fn establish(
    object: &mut Object,
    service: (Location, Protocol),
    scale: Scale,
    device: u32,
) -> Result<BTreeMap<Family, Established>> {
    let mut openings = Family::ALL.map(|family| Opening::new(service, family, scale));
    let waits = service.1 == Protocol::UDP;
    // Each has two entries; where a table is a quarter full, none is evicted.
    let group = scale.capacities().half_open as usize / 8;
    let flows = scale.flows() as usize;
    for first in (0..flows).step_by(group) {
        let range = first..flows.min(first + group);
        for opening in &mut openings {
            opening.open(object, device, range.clone())?;
        }
        if waits {
            let begun = now();
            until("UDP flows are old enough", 4 * UDP_AGE, || {
                ensure!(now().since(begun) >= Ticks::of_seconds(UDP_AGE.as_secs() as u32), "no");
                Ok(())
            })?;
        }
        for opening in &mut openings {
            opening.confirm(object, device, range.clone())?;
        }
    }
    openings.into_iter().map(|opening| Ok((opening.family, opening.finish()?))).collect()
}

/// After this time a client's packet establishes a UDP flow.
const UDP_AGE: Duration = Duration::from_secs(4);

/// The flows of one family while they are established.
struct Opening {
    family: Family,
    location: Location,
    open: Template,
    accept: Template,
    data: Template,
    forward: Vec<ListedFlow>,
    reply: Vec<ListedFlow>,
    failed: u32,
}

impl Opening {
    fn new((location, protocol): (Location, Protocol), family: Family, scale: Scale) -> Self {
        let case = |role| Case::established(location, role, family, protocol, Flows::of(scale));
        Self {
            family,
            location,
            open: Template::new(&case(Role::Forward), Kind::Open),
            accept: Template::new(&case(Role::Reply), Kind::Accept),
            data: Template::new(&case(Role::Forward), Kind::Data),
            forward: forward(family, scale),
            reply: Vec::with_capacity(scale.flows() as usize),
            failed: 0,
        }
    }

    /// Sends the first packets of these flows, and the replies.
    fn open(&mut self, object: &mut Object, device: u32, flows: Range<usize>) -> Result<()> {
        for flow in &self.forward[flows] {
            let (_, out) = object.pass(Program::FromNetwork, device, self.open.with(flow))?;
            let translated = self.open.flow(out)?;
            if translated == *flow {
                self.failed += 1;
                let last = self.reply.last();
                self.reply.push(*last.context("the first packet came out as it went in")?);
                continue;
            }
            self.reply.push(translated.reply());
            let reply = self.accept.with(&translated.reply());
            object.pass(back(self.location), device, reply)?;
        }
        Ok(())
    }

    /// Sends the clients' next packets.
    fn confirm(&mut self, object: &mut Object, device: u32, flows: Range<usize>) -> Result<()> {
        for flow in &self.forward[flows] {
            object.pass(Program::FromNetwork, device, self.data.with(flow))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Established> {
        let (failed, flows) = (self.failed, self.forward.len());
        ensure!(
            failed as usize <= flows / ONE_MAY_FAIL_IN,
            "{failed} of {flows} flows of {} are not established",
            self.family
        );
        Ok(Established { forward: self.forward, reply: self.reply })
    }
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
