//! `weir show`: what is in the kernel, read from the pinned maps. What no map holds, such as the agent's
//! warnings, is read from the status that the agent writes. No agent needs to run.

mod backends;
mod clients;
mod conntrack;
mod devices;
mod frontends;
mod maps;
mod services;
mod snapshot;
mod status;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use lb_common::outcome::Outcome;

use self::backends::Backends;
use self::clients::Clients;
use self::conntrack::Writer;
use self::devices::Devices;
use self::frontends::Frontends;
use self::maps::Maps;
use self::services::Services;
use self::snapshot::{Only, Snapshot};
use self::status::Status;
use super::output::{Output, print, readable};
use crate::maps::MapStore;
use crate::maps::affinity::KernelClients;
use crate::maps::conntrack_gc::{KernelFlows, now};
use crate::maps::kernel::KernelStore;
use crate::pins::Pins;

/// Shows what the maps in the kernel hold.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "\
Examples:
  weir show services
  weir show conntrack -o wide
  weir show backends -o json | jq '.[] | select(.local)'")]
pub struct Args {
    /// What to show
    #[arg(value_enum, value_name = "WHAT")]
    pub what: What,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Only those of this Service; for services, frontends, backends, conntrack and clients
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    pub service: Option<String>,
    /// Where pins live.
    #[command(flatten)]
    pub pins: super::pins::Pins,
}

/// What can be shown.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Service ports and their backends
    Services,
    /// Frontends, and which backends each source class gets
    Frontends,
    /// Backends: address, location, traffic
    Backends,
    /// Conntrack entries: flows and their states
    Conntrack,
    /// Clients with session affinity, and their backends
    Clients,
    /// Maps: entries, capacity, memory
    Maps,
    /// Devices and the programs on them
    Devices,
    /// A summary: what runs, how full the maps are, outcomes of packets
    Status,
}

/// Prints it.
///
/// # Errors
///
/// Nothing is pinned, or it cannot be read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let pins = Pins::at(&args.pins.directory()).require()?;
    if args.what == What::Conntrack {
        stream(args, &pins)?;
        return Ok(ExitCode::SUCCESS);
    }
    let snapshot = Snapshot::read(&pins)?;
    let only = Only(args.service.clone());
    match args.what {
        What::Services => print(&Services::of(&snapshot, &only), args.output),
        What::Frontends => print(&Frontends::of(&snapshot, &only), args.output),
        What::Backends => print(&Backends::of(&snapshot, &only), args.output),
        What::Conntrack => Ok(()),
        What::Clients => print(&clients(&pins, &snapshot, &only)?, args.output),
        What::Maps => print(&Maps::of(&snapshot, &maps::sizes(&pins)?), args.output),
        What::Devices => print(&Devices::of(&snapshot, &pins.all_links()?), args.output),
        What::Status => {
            let status = Status::of(&snapshot, &maps::sizes(&pins)?, &outcomes(&pins)?);
            print(&status, args.output)
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the flows as they are read.
fn stream(args: &Args, pins: &Pins) -> anyhow::Result<()> {
    let contents = KernelStore::open(pins)?.read()?;
    let tables = KernelFlows::open(pins)?;
    let only = Only(args.service.clone());
    let mut to = BufWriter::new(io::stdout().lock());
    let mut writer = Writer::new(&contents, &only, args.output, now(), &mut to);
    let written = writer
        .family(tables.v4())
        .and_then(|()| writer.family(tables.v6()))
        .and_then(|()| Ok(writer.end()?))
        .and_then(|()| Ok(to.flush()?));
    match written {
        Err(error) => match error.downcast::<io::Error>() {
            Ok(error) => Ok(readable(Err(error))?),
            Err(error) => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

fn clients(pins: &Pins, snapshot: &Snapshot, only: &Only) -> anyhow::Result<Clients> {
    let (tables, mut clients) = (KernelClients::open(pins)?, Clients::default());
    clients.add(&snapshot.contents, only, now(), tables.all_v4()?);
    clients.add(&snapshot.contents, only, now(), tables.all_v6()?);
    Ok(clients)
}

fn outcomes(pins: &Pins) -> anyhow::Result<Vec<(Outcome, u64)>> {
    let store = KernelStore::open(pins)?;
    Outcome::ALL.iter().map(|outcome| Ok((*outcome, store.outcomes(*outcome)?))).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn all_kinds_and_formats_are_taken() {
        for what in What::value_variants() {
            for output in Output::value_variants() {
                let (what_name, output_name) =
                    (what.to_possible_value().unwrap(), output.to_possible_value().unwrap());
                let line = Line::try_parse_from([
                    "weir",
                    what_name.get_name(),
                    "-o",
                    output_name.get_name(),
                ]);
                let args = line.unwrap().args;
                assert_eq!((args.what, args.output), (*what, *output));
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_with_those_there_are() {
        let error = Line::try_parse_from(["weir", "pods"]).unwrap_err().to_string();
        assert!(error.contains("services, frontends, backends, conntrack"), "{error}");
    }
}
