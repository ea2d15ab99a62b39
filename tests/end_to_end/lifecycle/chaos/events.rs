//! What happens while flows go on, each in itself such that the kernel alone would lose nothing of them.

use anyhow::Result;
use lb_common::address::Family;
use nix::sys::signal::Signal;
use weir_tests::lab::addresses;
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::Servers;

use super::devices::{other_name, set_spare_device};
use super::fixture::{Chaos, offers};

/// An event: what the log calls it, and what is done.
pub type Event = (&'static str, fn(&mut Chaos) -> Result<()>);

/// What an event is called that some rounds are without.
pub const KILL: &str = "the agent is killed";

/// All of them; those that are there twice happen twice as often.
pub const EVENTS: &[Event] = &[
    (KILL, kill_agent),
    (KILL, kill_agent),
    ("a file holds garbage, or is mended", spoil_or_mend),
    ("a file holds garbage, or is mended", spoil_or_mend),
    ("the folder of objects goes or comes", take_or_return_folder),
    ("the folder of objects goes or comes", take_or_return_folder),
    ("a pod starts or stops", start_or_stop_pod),
    ("a pod starts or stops", start_or_stop_pod),
    ("another Service changes", change_another_service),
    ("another Service changes", change_another_service),
    ("another Service changes", change_another_service),
    ("the Services in use get or lose endpoints", change_endpoints),
    ("the Services in use get or lose endpoints", change_endpoints),
    ("the network device is renamed", rename_network_device),
    ("a pod's device is renamed", rename_pod_device),
    ("a spare device changes", change_spare_device),
    ("a spare device changes", change_spare_device),
    ("a spare device changes", change_spare_device),
    ("another address comes or goes", add_or_remove_address),
    ("the node's address moves away and back", move_address),
    ("the node's address is renewed", renew_address),
];

fn kill_agent(chaos: &mut Chaos) -> Result<()> {
    // Drawn in any case, so that all that follows is the same whenever an agent ends by itself.
    let returns_in = chaos.rng.u32(0..4);
    let Some(agent) = chaos.agent.take() else {
        return Ok(());
    };
    chaos.returns_in = returns_in;
    chaos.logs.push(agent.log());
    agent.end(Signal::SIGKILL).map(drop)
}

fn spoil_or_mend(chaos: &mut Chaos) -> Result<()> {
    if chaos.objects.is_spoiled() {
        return chaos.objects.mend();
    }
    chaos.objects.spoil(&mut chaos.rng)
}

fn take_or_return_folder(chaos: &mut Chaos) -> Result<()> {
    let is_away = !chaos.objects.is_away();
    chaos.was_away |= is_away;
    chaos.objects.set_away(is_away)
}

/// A pod with a Service of its own, which often goes later than the pod, as it does in a cluster.
fn start_or_stop_pod(chaos: &mut Chaos) -> Result<()> {
    const NAME: &str = "short-lived";
    if chaos.pod.take().is_some() {
        return chaos.lab.stop_pod();
    }
    chaos.lab.start_pod()?;
    let pod = &chaos.lab.node1.pods[chaos.lab.node1.pods.len() - 1];
    chaos.pod = Some(Servers::start(&pod.namespace, &pod.name)?);
    if chaos.rng.bool() {
        return chaos.objects.remove(NAME);
    }
    let offer = Offer { name: NAME, number: 30, pods: vec![pod] };
    chaos.objects.offer(&offer, &Rules::default())
}

/// Makes, changes or removes a Service that nobody uses.
fn change_another_service(chaos: &mut Chaos) -> Result<()> {
    const NAMES: [&str; 5] = ["other-1", "other-2", "other-3", "other-4", "other-5"];
    const SPECS: [&str; 4] = [
        "sessionAffinity: ClientIP",
        "internalTrafficPolicy: Local",
        "externalTrafficPolicy: Local",
        "loadBalancerSourceRanges: [10.0.0.0/8, 'fd00::/8']",
    ];
    let rng = &mut chaos.rng;
    let index = rng.usize(..NAMES.len());
    let name = NAMES[index];
    if chaos.objects.has(name) && rng.u8(..3) == 0 {
        return chaos.objects.remove(name);
    }
    let spec = SPECS.into_iter().filter(|_| rng.bool()).collect();
    let rules = Rules { spec, is_balanced: rng.bool(), leaving: Vec::new() };
    let pods = chaos.lab.pods().filter(|_| rng.bool()).collect();
    let offer = Offer { name, number: 40 + index as u8, pods };
    chaos.objects.offer(&offer, &rules)
}

/// Adds pods to a Service that flows go through, or takes them out again. Connections to them, if there are some by then,
/// go on; no other flow is theirs.
fn change_endpoints(chaos: &mut Chaos) -> Result<()> {
    let index = chaos.rng.usize(..chaos.has_spares.len());
    chaos.has_spares[index] ^= true;
    let offer = &offers(&chaos.lab, chaos.has_spares)[index];
    chaos.objects.offer(offer, &Rules::default())
}

/// With its flows and all else that it has, where the kernel renames devices that are up.
fn rename_network_device(chaos: &mut Chaos) -> Result<()> {
    chaos.network_device = rename(chaos, chaos.network_device)?;
    Ok(())
}

/// The device of a pod that serves.
fn rename_pod_device(chaos: &mut Chaos) -> Result<()> {
    chaos.pod_device = rename(chaos, chaos.pod_device)?;
    Ok(())
}

fn rename(chaos: &Chaos, device: &'static str) -> Result<&'static str> {
    if !chaos.renames_live_devices {
        return Ok(device);
    }
    let name = other_name(device);
    chaos.lab.node1.namespace.ip(&format!("link set {device} name {name}"))?;
    Ok(name)
}

/// A network device that carries nothing comes, goes down and up, gets another name, and goes.
fn change_spare_device(chaos: &mut Chaos) -> Result<()> {
    chaos.spare_device = set_spare_device(&chaos.lab.node1.namespace, chaos.spare_device)?;
    Ok(())
}

/// An address of the network device that nobody uses.
fn add_or_remove_address(chaos: &mut Chaos) -> Result<()> {
    let (verb, device) = (if chaos.has_address { "del" } else { "add" }, chaos.network_device);
    // Deprecated, or connections of the node would begin with it, and end with it.
    let lifetime = if chaos.has_address { "" } else { "preferred_lft 0" };
    chaos.has_address ^= true;
    let addresses::Addresses { v4, v6 } = addresses::node(88);
    chaos.lab.node1.namespace.ip(&format!(
        "addr {verb} {v4}/24 dev {device}
         addr {verb} {v6}/64 dev {device} {lifetime}
        "
    ))
}

/// The address that flows use leaves the network device and comes back, behind the others there. The loopback device has
/// it meanwhile: it is the node's own throughout, or the kernel would reply to nobody who asks for it.
fn move_address(chaos: &mut Chaos) -> Result<()> {
    let device = chaos.network_device;
    let lines = Family::ALL.map(|family| {
        let (address, all, net) = match family {
            Family::V4 => (chaos.lab.node1.addresses.of(family), 32, 24),
            Family::V6 => (chaos.lab.node1.addresses.of(family), 128, 64),
        };
        format!(
            "addr add {address}/{all} dev lo
             addr del {address}/{net} dev {device}
             addr add {address}/{net} dev {device}
             addr del {address}/{all} dev lo
            "
        )
    });
    chaos.lab.node1.namespace.ip(&lines.concat())
}

/// As a DHCP client does.
fn renew_address(chaos: &mut Chaos) -> Result<()> {
    let (device, own) = (chaos.network_device, chaos.lab.node1.addresses);
    let seconds = chaos.rng.u32(3000..4000);
    chaos.lab.node1.namespace.ip(&format!(
        "addr change {}/24 dev {device} valid_lft {seconds} preferred_lft {seconds}
         addr change {}/64 dev {device} valid_lft {seconds} preferred_lft {seconds}
        ",
        own.v4, own.v6
    ))
}
