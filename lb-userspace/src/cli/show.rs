//! `weir show`: what it takes.

use clap::ValueEnum;

use super::Pins;

/// Shows what is in the kernel now.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "\
Examples:
  weir show services
  weir show connections -o wide
  weir show backends -o json | jq '.[] | select(.local)'")]
pub struct Args {
    /// What to show
    #[arg(value_enum, value_name = "WHAT")]
    pub what: What,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Where pins live.
    #[command(flatten)]
    pub pins: Pins,
}

/// What there is to show.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Service ports and their backends
    Services,
    /// What clients dial, and who gets which backends
    Frontends,
    /// What packets are sent to
    Backends,
    /// Flows and how far they have come
    Connections,
    /// Maps: entries, capacity, memory
    Maps,
    /// Devices and the programs on them
    Devices,
    /// The whole in a few lines: what runs, how full, how packets ended
    Status,
}

/// How output is written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Output {
    /// A table as wide as the terminal
    #[default]
    Table,
    /// A table with every column
    Wide,
    /// JSON, for programs
    Json,
    /// YAML, for programs
    Yaml,
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
        assert!(error.contains("services, frontends, backends, connections"), "{error}");
    }
}
