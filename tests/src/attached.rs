//! The programs on devices, as the kernel lists them, however they were attached.

use std::process::Command;

use anyhow::{Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use lb_userspace::datapath::attach::Tc;

use crate::lab::Node;

/// How many TC programs a device of the calling thread's namespace carries: by links, or by filters of
/// a clsact qdisc, which replace links on kernels before 6.6.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn at_tc(device: &str) -> Result<usize> {
    let mut count = 0;
    for (hook, words) in [(TcAttachType::Ingress, "ingress"), (TcAttachType::Egress, "egress")] {
        // Kernels without links cannot be queried.
        if Tc::of_this_kernel() == Tc::Tcx {
            count += SchedClassifier::query_tcx(device, hook)?.1.len();
        }
        let shown = Command::new("tc").args(["filter", "show", "dev", device, words]).output()?;
        let complaint = String::from_utf8_lossy(&shown.stderr);
        ensure!(shown.status.success(), "`tc filter show dev {device} {words}`: {complaint}");
        count += String::from_utf8_lossy(&shown.stdout).matches("direct-action").count();
    }
    Ok(count)
}

/// How many TC and XDP programs the devices of `node` carry.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn on(node: &Node) -> Result<usize> {
    let tc = node.namespace.run(|| {
        let mut count = 0;
        for device in &nix::net::if_::if_nameindex()? {
            count += at_tc(device.name().to_str()?)?;
        }
        Ok(count)
    })?;
    let links = node.namespace.output("ip", &["-details", "link", "show"])?;
    Ok(tc + links.matches("prog/xdp").count())
}
