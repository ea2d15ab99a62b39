//! `weir explain`: what would happen to a packet, or to the system call of a process. It runs the datapath's
//! own code on the live maps and records its steps.

mod args;
mod hooks;
mod live_world;
mod node;
mod packet;
mod programs;
mod service_rule;
mod socket;
mod steps;
#[cfg(test)]
mod tests;
mod trace;
mod walker;

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use lb_common::address::Family;
use lb_common::service::SourceClass;

pub use self::args::{AddressError, Destination, Sender};
use self::live_world::live_world;
use self::node::ThisNode;
use self::trace::{Question, Trace};
use super::output::{Output, json, print_line, yaml};
use crate::agent::runtime_dir;
use crate::maps::MapStore;
use crate::maps::affinity::KernelClients;
use crate::maps::conntrack_gc::KernelFlows;
use crate::maps::kernel::KernelStore;
use crate::pins::Pins;

/// Traces a packet without sending it: the verdict, what decides, and each step. Changes nothing.
#[derive(clap::Args, Clone, PartialEq, Debug)]
#[command(after_help = "\
Examples:
  weir explain 10.244.1.7 10.96.0.10:53/udp
      A pod asks the cluster's DNS.
  weir explain 192.0.2.9:40000 198.51.100.1:30080/tcp --from network
      A client outside uses a node port.
  weir explain 192.0.2.1 10.96.0.1:443/tcp --from host
      A process of this node calls connect, as the kubelet does.
  weir explain [fd00::9]:40000 [fd00:96::1]:80/tcp -o wide
      Each step as a sentence.")]
pub struct Args {
    /// Source of the packet; without a port, one that no flow uses
    #[arg(value_name = "SRC[:PORT]")]
    pub sender: Sender,
    /// Destination of the packet
    #[arg(value_name = "DST:PORT/PROTO")]
    pub destination: Destination,
    /// Source class [default: pod if the source is behind a pod-facing device, host if it is an address of
    /// this node, else network]
    #[arg(long, value_name = "CLASS", value_parser = source_class())]
    pub from: Option<SourceClass>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Where pins live.
    #[command(flatten)]
    pub pins: super::pins::Pins,
}

impl Args {
    /// The family of both addresses.
    ///
    /// # Errors
    ///
    /// They are of different families.
    pub fn family(&self) -> Result<Family, AddressError> {
        let family = Family::of(&self.sender.address);
        if family == Family::of(&self.destination.address) {
            Ok(family)
        } else {
            Err(AddressError::Families)
        }
    }
}

fn source_class() -> impl TypedValueParser<Value = SourceClass> {
    PossibleValuesParser::new(["pod", "network", "host"]).map(|name| match name.as_str() {
        "pod" => SourceClass::Pod,
        "host" => SourceClass::Host,
        _ => SourceClass::Network,
    })
}

/// Explains what would happen to the packet.
///
/// # Errors
///
/// The addresses are of different families, nothing is pinned, or it cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.family()?;
    let pins = Pins::at(&args.pins.directory()).require()?;
    let contents = KernelStore::open(&pins)?.read()?;
    let (flows, clients) = (KernelFlows::open(&pins)?, KernelClients::open(&pins)?);
    let node = ThisNode::ask(runtime_dir::status(pins.directory())?, pins.all_links()?)?;
    let (class, because, device) = match args.from {
        Some(class) => (class, "given by --from".into(), None),
        None => node.class_of(args.sender.address)?,
    };
    let world = live_world(contents.clone(), (&flows, &clients), &node);
    let Args { sender, destination, .. } = args;
    let question = Question { sender, destination, class, because, device };
    // What a process sends is the node's own where it leaves.
    let is_own = question.class == SourceClass::Host && contents.settings.namespace != 0;
    world.is_own_packet.set(is_own);
    let trace = Trace::of(&world, &node, &contents, &question);
    world.backing.failure()?;
    node.failure()?;
    match args.output {
        Output::Json => print_line(json(&trace)?),
        Output::Yaml => print_line(yaml(&trace)?.trim_end()),
        Output::Table => print_line(&trace),
        Output::Wide => print_line(trace.wide()),
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod line {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, String> {
        Line::try_parse_from(["weir"].into_iter().chain(words.split_whitespace()))
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_address_is_refused_with_how_to_write_one() {
        for (words, hint) in [
            ("10.0.0 10.96.0.1:80/tcp", "[fd00::9]:40000"),
            ("10.0.0.9:70000 10.96.0.1:80/tcp", "10.0.0.9:40000"),
            ("[10.0.0.9] 10.96.0.1:80/tcp", "fd00::9"),
            ("10.0.0.9 10.96.0.1:80", "10.96.0.1:80/tcp"),
            ("10.0.0.9 fd00::1:80/tcp", "[fd00:96::1]:80/tcp"),
            ("10.0.0.9 10.96.0.1:80/icmp", "/tcp, /udp or /sctp"),
            ("10.0.0.9 10.96.0.1:80/tcp --from moon", "pod, network, host"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn both_addresses_must_be_of_one_family() {
        let args = parse("10.0.0.9 10.96.0.1:80/tcp --from host").unwrap();
        assert_eq!(args.family(), Ok(Family::V4));
        assert_eq!(args.from, Some(SourceClass::Host));
        let args = parse("fd00::9 10.96.0.1:80/tcp").unwrap();
        assert_eq!(args.family(), Err(AddressError::Families));
    }
}
