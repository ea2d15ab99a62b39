//! Attaches programs to a device for a moment, for the preflight check.

use aya::Ebpf;

use super::tc::Tc;
use super::{clsact, links};
use crate::datapath::error_chain::causes;
use crate::datapath::programs::Program;
use crate::host::devices::Link;
use crate::pins::AttachPoint;

/// Attaches programs at each kind of attach point of the device called `name`, and detaches those again that
/// are attached by links: the device must be ours alone, and go afterwards. Native XDP is left out, which is a
/// matter of a device's driver, and so are programs that are not loaded.
pub fn try_attach(
    ebpf: &mut Ebpf,
    tc: Tc,
    name: &str,
    is_loaded: impl Fn(Program) -> bool,
) -> Vec<(AttachPoint, Result<(), String>)> {
    let index = nix::net::if_::if_nametoindex(name).unwrap_or(0);
    let link = Link { index, name: name.into(), ..Link::default() };
    let mut attach = |point: AttachPoint, program| {
        let result = match (point, tc) {
            (AttachPoint::Ingress | AttachPoint::Egress, Tc::Clsact) => {
                links::tc_program(ebpf, program)
                    .and_then(|program| Ok(clsact::attach(program, name, links::tc_type(point))?))
            }
            (_, _) => links::attach(ebpf, program, &link, point).map(drop),
        };
        (point, result.map_err(|error| causes(&error)))
    };
    let attach_points = [
        (AttachPoint::Ingress, Program::FromNetwork),
        (AttachPoint::Egress, Program::ToDevice),
        (AttachPoint::XdpGeneric, Program::NetworkXdp),
    ];
    let loaded = attach_points.into_iter().filter(|(_, program)| is_loaded(*program));
    loaded.map(|(point, program)| attach(point, program)).collect()
}
