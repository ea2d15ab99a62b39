//! Programs come onto devices, are replaced in place, follow devices that come and go, and leave
//! nothing behind.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::links::PinnedLink;
use aya::util::KernelVersion;
use lb_common::maps::{Capacities, FRONTENDS, LAYOUT, LayoutText};
use lb_userspace::config::{DatapathLog, XdpMode};
use lb_userspace::datapath::attach::{
    AttachedDevice, Attachments, Tc, has_filters, remove_filters,
};
use lb_userspace::datapath::features::Features;
use lb_userspace::datapath::load_error::LoadError;
use lb_userspace::host::devices::Netlink;
use lb_userspace::host::devices::{Device, Selection, classify};
use lb_userspace::pins::AttachPoint;
use lb_userspace::pins::PinError;
use lb_userspace::preflight::{Level, Pinned};
use weir_tests::lab::{Lab, Node};
use weir_tests::{attached, requires};

use super::without_agent::{SMALL, lab, pins};

const BOTH: [AttachPoint; 2] = [AttachPoint::Ingress, AttachPoint::Egress];

fn devices() -> Result<Vec<Device>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let links = runtime.block_on(async { Netlink::open()?.links().await })?;
    Ok(classify(&links, &Selection::default()))
}

/// The programs on the devices of the calling thread's namespace, attached by a new agent.
fn attach(node: &Node, xdp: XdpMode, tc: Tc) -> Result<(Attachments, Vec<AttachedDevice>)> {
    let mut attachments = Attachments::load(pins(node), &SMALL, None, xdp, tc, DatapathLog::Off)?;
    let attached = attachments.reconcile(&devices()?)?;
    Ok((attachments, attached))
}

fn on<'a>(attached: &'a [AttachedDevice], device: &str) -> Result<&'a AttachedDevice> {
    let found = attached.iter().find(|attached| attached.device.link.name == device);
    found.with_context(|| format!("{device} is not among the devices"))
}

/// Ids of the link at `point` of a device, and of the program it runs.
fn link(node: &Node, attached: &AttachedDevice, point: AttachPoint) -> Result<(u32, u32)> {
    let pin = pins(node).link(attached.device.link.index, point);
    let link = aya::programs::links::FdLink::from(PinnedLink::from_pin(pin)?);
    let info = link.info()?;
    Ok((info.id(), info.program_id()))
}

/// Runs `test` on node1 of a lab, within its namespace.
fn on_node(test: impl FnOnce(&Lab, &Node) -> Result<()> + Send) -> Result<()> {
    let Some(lab) = lab()? else {
        return Ok(());
    };
    lab.node1.namespace.run(|| test(&lab, &lab.node1))
}

#[test]
fn the_next_agent_takes_every_link_over_and_replaces_its_program_in_place() -> Result<()> {
    if !requires::links_at_tc()? {
        return Ok(());
    }
    on_node(|_, node| {
        let (first, attached) = attach(node, XdpMode::Auto, Tc::of_this_kernel())?;
        let mut before = Vec::new();
        for device in ["eth0", "pod1"] {
            let attached = on(&attached, device)?;
            ensure!(attached.attach_points == BOTH, "{attached:?}");
            ensure!(attached.errors.is_empty(), "{attached:?}");
            for point in BOTH {
                before.push(link(node, attached, point)?);
            }
        }
        // As after kill -9: links stay by their pins alone.
        drop(first);
        ensure!(attached::at_tc("eth0")? == 2, "the agent took its programs along");

        let (mut second, attached) = attach(node, XdpMode::Auto, Tc::of_this_kernel())?;
        let mut after = Vec::new();
        for device in ["eth0", "pod1"] {
            for point in BOTH {
                after.push(link(node, on(&attached, device)?, point)?);
            }
        }
        for ((link, program), (later_link, later_program)) in before.iter().zip(&after) {
            ensure!(link == later_link, "a link was made anew instead of taken over");
            ensure!(program != later_program, "a program was not replaced");
        }
        ensure!(attached::at_tc("pod1")? == 2, "programs were added, not replaced");
        ensure!(
            second.reconcile(&devices()?)? == attached,
            "nothing has changed, and something is done"
        );
        Ok(())
    })
}

#[test]
fn a_device_that_went_and_came_back_has_its_programs_again() -> Result<()> {
    on_node(|_, node| {
        let (mut attachments, attached) = attach(node, XdpMode::Auto, Tc::of_this_kernel())?;
        let gone = on(&attached, "pod1")?.clone();
        node.namespace.ip("link del pod1")?;
        let attached = attachments.reconcile(&devices()?)?;
        ensure!(on(&attached, "pod1").is_err());
        let pin = pins(node).link(gone.device.link.index, AttachPoint::Ingress);
        ensure!(!pin.exists(), "the pin of a dead link stays");

        let peer = format!("peer name eth0 netns {}", node.pods[0].namespace.name());
        node.namespace.ip(&format!("link add pod1 type veth {peer}"))?;
        let attached = attachments.reconcile(&devices()?)?;
        ensure!(on(&attached, "pod1")?.attach_points == BOTH, "{attached:?}");
        ensure!(on(&attached, "pod1")?.errors.is_empty(), "{attached:?}");
        ensure!(attached::at_tc("pod1")? == 2);
        Ok(())
    })
}

#[test]
fn the_pin_of_a_device_that_died_unseen_is_replaced_by_a_link_to_the_one_that_has_its_index()
-> Result<()> {
    if !requires::links_at_tc()? {
        return Ok(());
    }
    on_node(|_, node| {
        let (first, attached) = attach(node, XdpMode::Auto, Tc::of_this_kernel())?;
        let index = on(&attached, "pod1")?.device.link.index;
        drop(first);
        node.namespace.ip(&format!(
            "link del pod1
             link add eth1 index {index} type veth peer name other
             addr add 203.0.113.1/24 dev eth1"
        ))?;
        let (_, attached) = attach(node, XdpMode::Auto, Tc::of_this_kernel())?;
        ensure!(on(&attached, "eth1")?.attach_points == BOTH, "{attached:?}");
        ensure!(on(&attached, "eth1")?.errors.is_empty(), "{attached:?}");
        ensure!(attached::at_tc("eth1")? == 2);
        Ok(())
    })
}

#[test]
fn what_others_detach_comes_back() -> Result<()> {
    if !requires::links_at_tc()? {
        return Ok(());
    }
    on_node(|_, node| {
        let (mut attachments, attached) = attach(node, XdpMode::Auto, Tc::of_this_kernel())?;
        let pin = pins(node).link(on(&attached, "pod1")?.device.link.index, AttachPoint::Egress);
        std::fs::remove_file(&pin)?;
        // The kernel detaches a link without a pin when it gets to it; until then it does not take
        // the same program again.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let attached = attachments.reconcile(&devices()?)?;
            let pod = on(&attached, "pod1")?;
            if pod.attach_points == BOTH {
                break;
            }
            ensure!(pod.errors.iter().any(|text| text.contains("File exists")), "{pod:?}");
            ensure!(Instant::now() < deadline, "the pod's egress does not come back: {pod:?}");
        }
        ensure!(pin.exists());
        ensure!(attached::at_tc("pod1")? == 2);
        Ok(())
    })
}

#[test]
fn xdp_is_attached_where_it_is_asked_for_and_changes_its_mode_with_the_flag() -> Result<()> {
    on_node(|_, node| {
        for (mode, expected) in [
            (XdpMode::Native, Some(AttachPoint::XdpNative)),
            (XdpMode::Generic, Some(AttachPoint::XdpGeneric)),
            (XdpMode::Native, Some(AttachPoint::XdpNative)),
            (XdpMode::Off, None),
            (XdpMode::Auto, None),
        ] {
            let (_, attached) = attach(node, mode, Tc::of_this_kernel())?;
            let eth0 = on(&attached, "eth0")?;
            let xdp = eth0.attach_points.iter().copied().find(|point| point.is_xdp());
            ensure!(xdp == expected, "{mode:?}: {eth0:?}");
            ensure!(eth0.errors.is_empty(), "{mode:?}: {eth0:?}");
            let shown = node.namespace.output("ip", &["link", "show", "eth0"])?;
            ensure!(shown.contains("prog/xdp") == expected.is_some(), "{mode:?}: {shown}");
            ensure!(!on(&attached, "pod1")?.attach_points.iter().any(|point| point.is_xdp()));
        }
        Ok(())
    })
}

#[test]
fn a_device_that_does_not_take_xdp_is_left_to_tc_and_harms_no_other() -> Result<()> {
    on_node(|_, node| {
        node.namespace.ip("link add br0 type bridge
             link add wan type veth peer name other
             link set wan master br0
             addr add 203.0.113.1/24 dev br0")?;
        let (_, attached) = attach(node, XdpMode::Native, Tc::of_this_kernel())?;
        let br0 = on(&attached, "br0")?;
        ensure!(br0.attach_points == BOTH, "{br0:?}");
        ensure!(br0.errors.len() == 1, "{br0:?}");
        ensure!(on(&attached, "eth0")?.attach_points.contains(&AttachPoint::XdpNative));
        Ok(())
    })
}

#[test]
fn without_links_filters_are_attached_replaced_and_removed() -> Result<()> {
    on_node(|_, node| {
        ensure!(!has_filters()?, "no filter is there yet");
        for _ in 0..2 {
            let (_, attached) = attach(node, XdpMode::Off, Tc::Clsact)?;
            for device in ["eth0", "pod1"] {
                ensure!(on(&attached, device)?.attach_points == BOTH, "{attached:?}");
                for direction in ["ingress", "egress"] {
                    let shown = filters(node, device, direction)?;
                    ensure!(shown.matches("direct-action").count() == 1, "{device}: {shown}");
                }
            }
        }
        ensure!(remove_filters("eth0")?, "there was nothing to remove");
        ensure!(!remove_filters("eth0")?, "something was left");
        ensure!(has_filters()?, "pod1 has filters");
        ensure!(!filters(node, "eth0", "ingress")?.contains("direct-action"));
        for device in devices()? {
            remove_filters(&device.link.name)?;
        }
        ensure!(!has_filters()?, "all were removed");
        Ok(())
    })
}

/// Before Linux 6.6 programs are attached and no link is pinned.
#[test]
fn maps_that_filters_go_by_are_in_use_whatever_they_say_of_themselves() -> Result<()> {
    on_node(|_, node| {
        let (attachments, _) = attach(node, XdpMode::Off, Tc::Clsact)?;
        drop(attachments);
        let pins = pins(node);
        ensure!(pins.all_links()?.is_empty(), "filters are no links");
        let layout = MapData::from_pin(pins.map(&LAYOUT))?;
        let mut layout = Array::<_, LayoutText>::try_from(Map::Array(layout))?;
        layout.set(0, [0; 2048], 0)?;
        let level = || Pinned::local(&node.bpffs).judge().level;
        ensure!(level() == Level::Fail, "{:?}", Pinned::local(&node.bpffs));
        for device in devices()? {
            remove_filters(&device.link.name)?;
        }
        ensure!(level() == Level::Ok, "{:?}", Pinned::local(&node.bpffs));
        Ok(())
    })
}

fn filters(node: &Node, device: &str, direction: &str) -> Result<String> {
    node.namespace.output("tc", &["filter", "show", "dev", device, direction])
}

#[test]
fn maps_of_another_size_are_refused_and_left_as_they_are() -> Result<()> {
    on_node(|_, node| {
        drop(attach(node, XdpMode::Off, Tc::of_this_kernel())?);
        let pin = pins(node).map(&FRONTENDS.v4);
        let before = MapInfo::from_pin(&pin)?;
        let larger = Capacities { frontends: 2048, ..SMALL };
        let refused = Attachments::load(
            pins(node),
            &larger,
            None,
            XdpMode::Off,
            Tc::of_this_kernel(),
            DatapathLog::Off,
        );
        let Err(LoadError::Pins(error @ PinError::OtherMap { .. })) = refused else {
            anyhow::bail!("not refused as another map: {refused:?}");
        };
        let message = error.to_string();
        ensure!(message.contains("1024") && message.contains("2048"), "{message}");
        ensure!(message.contains("FRONTENDS_V4") && message.contains("weir detach"), "{message}");
        ensure!(MapInfo::from_pin(&pin)?.id() == before.id());
        Ok(())
    })
}

#[test]
fn maps_that_the_kernel_cannot_make_leave_no_pin_that_would_bind_the_next_try() -> Result<()> {
    on_node(|_, node| {
        let absurd = Capacities { conntrack: u32::MAX, ..SMALL };
        let refused = Attachments::load(
            pins(node),
            &absurd,
            None,
            XdpMode::Off,
            Tc::of_this_kernel(),
            DatapathLog::Off,
        );
        let Err(LoadError::Maps(message)) = refused else {
            anyhow::bail!("not refused for its maps: {refused:?}");
        };
        ensure!(message.contains("CONNTRACK_V") && message.contains("os error"), "{message}");
        for map in lb_common::maps::pinned() {
            ensure!(!pins(node).map(map).exists(), "{} is left", map.name);
        }
        attach(node, XdpMode::Off, Tc::of_this_kernel())?;
        Ok(())
    })
}

/// Kernels before 6.16 may have the flag too, in a stable release; from there on all do.
#[test]
fn a_kernel_that_takes_the_flag_for_ipv6_checksums_is_known_by_asking_it() -> Result<()> {
    on_node(|_, _| {
        let is_sure = KernelVersion::current()? >= KernelVersion::new(6, 16, 0);
        ensure!(!is_sure || Features::of_this_kernel().checksum_flags != 0);
        Ok(())
    })
}

#[test]
fn removing_all_pins_detaches_every_program_at_once() -> Result<()> {
    if !requires::links_at_tc()? {
        return Ok(());
    }
    on_node(|_, node| {
        drop(attach(node, XdpMode::Native, Tc::of_this_kernel())?);
        // Two devices, one of them with XDP; where the module `ipip` is loaded there is tunl0 as well.
        let links = pins(node).all_links()?.len();
        ensure!(links >= 5, "{links} links");
        let removed = pins(node).remove_all()?;
        ensure!(removed.len() == lb_common::maps::pinned().count() + links, "{removed:?}");
        ensure!(attached::at_tc("eth0")? + attached::at_tc("pod1")? == 0);
        ensure!(!node.bpffs.join("weir").exists());
        Ok(())
    })
}
