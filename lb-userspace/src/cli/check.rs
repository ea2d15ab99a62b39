//! `weir check`: preflight checks of this kernel and this node, without an agent.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::Table;
use serde::Serialize;
use tokio::runtime::Builder;

use super::output::{Output, Report, print, table};
use super::pins::Pins;
use crate::config::{DeviceNames, TableSizes, XdpMode, capacities};
use crate::datapath::attach::xdp;
use crate::host::devices::Netlink;
use crate::host::devices::{Device, Link, Selection, classify};
use crate::host::{meminfo, processors};
use crate::preflight::{
    Cilium, Finding, Firewall, Hardening, Kernel, KernelConntrack, Level, Memory, Node, Pinned,
    Traces,
};

/// Checks whether Weir can run on this kernel and this node, and what to change. Changes nothing itself.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "\
Examples:
  weir check
  weir check --network-devices eth0 -o json

Exit status: 0 if `weir run` with the same flags would work, else 1.")]
pub struct Args {
    /// Devices that face the network, as for `weir run`
    #[arg(long, value_name = "GLOB,..")]
    pub network_devices: Option<DeviceNames>,
    /// Devices that face pods, as for `weir run`
    #[arg(long, value_name = "GLOB,..")]
    pub pod_devices: Option<DeviceNames>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Where pins live.
    #[command(flatten)]
    pub pins: Pins,
}

/// Runs the checks and prints the findings.
///
/// # Errors
///
/// The findings could not be printed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut node = Node::local(&args.pins.bpffs);
    let kernel = Kernel::try_out();
    let takes_programs = kernel.refused.as_ref().is_ok_and(Vec::is_empty);
    let selection =
        Selection { network: args.network_devices.clone(), pods: args.pod_devices.clone() };
    let links = links();
    if let Ok(links) = &links {
        let routed = routed(links, &selection);
        node.strict_devices.retain(|name| routed.contains(&name.as_str()));
    }
    let mut findings = kernel.judge(node.is_capable());
    findings.extend(Hardening::local().judge(takes_programs));
    findings.extend(node.judge());
    findings.push(Pinned::local(&args.pins.bpffs).judge());
    findings.push(of_memory());
    findings.extend(Firewall::local().judge(&node.families));
    findings.push(KernelConntrack::local().judge());
    findings.extend(Traces::local().judge());
    findings.extend(links.as_deref().ok().and_then(|links| Cilium::local(links).judge()));
    findings.extend(match &links {
        Ok(links) => of_devices(links, &selection),
        Err(error) => vec![Finding::fail("devices", format!("{error:#}"), "see above")],
    });
    let fails = findings.iter().any(|finding| finding.level == Level::Fail);
    print(&Findings(findings), args.output)?;
    Ok(ExitCode::from(u8::from(fails)))
}

/// What memory the maps take with their default sizes.
fn of_memory() -> Finding {
    let read = || -> io::Result<Memory> {
        let (node, processors) = (meminfo::total()?, processors::count()?);
        Ok(Memory { node, maps: capacities(TableSizes::default(), node, processors) })
    };
    read().map_or_else(
        |error| Finding::fail("memory", format!("unknown: {error}"), "mount /proc and /sys"),
        |memory| memory.judge(),
    )
}

fn links() -> anyhow::Result<Vec<Link>> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime that reads devices: report this")?;
    Ok(runtime.block_on(async { Netlink::open()?.links().await })?)
}

/// The names of devices whose packets meet the node's routes: those with a role, and the bridges, bonds
/// and VRFs that they are ports of, which the packets seem to come in by.
fn routed<'a>(links: &'a [Link], selection: &Selection) -> Vec<&'a str> {
    let devices = classify(links, selection).into_iter().filter(|device| device.role.is_some());
    let indexes: Vec<u32> = devices
        .flat_map(|device| [Some(device.link.index), device.link.port_of])
        .flatten()
        .collect();
    let is_routed = |link: &&Link| indexes.contains(&link.index);
    links.iter().filter(is_routed).map(|link| link.name.as_str()).collect()
}

/// The devices with a role, and names in flags that match none.
fn of_devices(links: &[Link], selection: &Selection) -> Vec<Finding> {
    let devices = classify(links, selection);
    let mut findings: Vec<Finding> = devices.iter().filter_map(of_device).collect();
    if findings.is_empty() {
        findings.push(Finding::warn(
            "devices",
            "no device faces the network or a pod",
            "name them with --network-devices and --pod-devices",
        ));
    }
    for (flag, name) in selection.unmatched(links) {
        let advice = "name one that `ip link` shows";
        findings.push(if name.contains(['*', '?', '[']) {
            Finding::warn(flag, format!("no device matches {name}"), advice)
        } else {
            Finding::fail(flag, format!("there is no device {name}"), advice)
        });
    }
    findings
}

fn of_device(device: &Device) -> Option<Finding> {
    let role = device.role?;
    let xdp = match xdp::attach_point(device, XdpMode::Auto) {
        Ok(_) => "XDP if the driver supports it, and TC",
        Err(_) => "TC",
    };
    let found = format!("faces {role}: {}; {xdp}", device.reason);
    Some(Finding::ok(&device.link.name, found))
}

/// The results of all checks.
#[derive(Serialize)]
#[serde(transparent)]
struct Findings(Vec<Finding>);

impl Report for Findings {
    fn table(&self, _: bool) -> Table {
        let row = |finding: &Finding| {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            let advice = finding.advice.clone().unwrap_or_default();
            [level.into(), finding.about.clone(), finding.found.clone(), advice]
        };
        table(&["", "CHECK", "FOUND", "WHAT TO CHANGE"], self.0.iter().map(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DefaultRoutes;

    fn eth0() -> Link {
        Link {
            index: 2,
            name: "eth0".into(),
            default_routes: DefaultRoutes { v4: true, v6: false },
            ..Link::default()
        }
    }

    #[test]
    fn devices_with_a_role_are_listed_and_their_absence_is_warned_of() {
        let found = of_devices(&[eth0()], &Selection::default());
        let [finding] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(finding.level, Level::Ok);
        assert!(finding.found.contains("the default route leaves by it"));
        let [none] = of_devices(&[], &Selection::default()).try_into().unwrap();
        assert_eq!(none.level, Level::Warn);
    }

    #[test]
    fn a_strict_filter_matters_at_devices_with_a_role_and_at_the_bridges_they_are_ports_of() {
        let link = |index, name: &str, kind: &str| Link {
            index,
            name: name.into(),
            kind: kind.into(),
            ..Link::default()
        };
        let port =
            Link { port_of: Some(3), has_peer_in_other_netns: true, ..link(4, "veth1", "veth") };
        let links = [eth0(), link(3, "cni0", "bridge"), port, link(5, "dummy0", "dummy")];
        assert_eq!(routed(&links, &Selection::default()), ["eth0", "cni0", "veth1"]);
    }

    #[test]
    fn a_device_that_a_flag_names_and_that_is_not_there_fails() {
        let of = |names: &str| {
            let selection = Selection { network: Some(names.parse().unwrap()), pods: None };
            of_devices(&[eth0()], &selection).into_iter().map(|f| f.level).max()
        };
        assert_eq!(of("eth0"), Some(Level::Ok));
        assert_eq!(of("eth0,eth7"), Some(Level::Fail));
        assert_eq!(of("eth0,wan*"), Some(Level::Warn));
    }

    #[test]
    fn the_table_says_what_to_change() {
        let findings = [Finding::fail("bpffs", "none", "mount one")];
        let text = Findings(findings.into()).table(false).to_string();
        assert!(text.contains("FAIL") && text.contains("mount one"), "{text}");
    }
}
