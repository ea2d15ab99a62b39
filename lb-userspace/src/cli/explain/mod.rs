//! `weir explain`: what it takes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use lb_common::address::{Family, Port, Protocol, endpoint};
use lb_common::service::SourceClass;

use super::Pins;
use super::output::Output;

/// Says what would happen to a packet, and why, step by step. Sends nothing, changes nothing.
#[derive(clap::Args, Clone, PartialEq, Debug)]
#[command(after_help = "\
Examples:
  weir explain 10.244.1.7 10.96.0.10:53/udp
      A pod asks the cluster's DNS.
  weir explain 192.0.2.9:40000 198.51.100.1:30080/tcp --from network
      A client outside dials a node port.
  weir explain [fd00::9]:40000 [fd00:96::1]:80/tcp")]
pub struct Args {
    /// Who sends it; without a port, one that no flow uses
    #[arg(value_name = "SRC[:PORT]")]
    pub sender: Sender,
    /// What it is sent to
    #[arg(value_name = "DST:PORT/PROTO")]
    pub destination: Destination,
    /// How it comes in [default: pod if the sender is behind a pod-facing device, host if it is an
    /// address of this node, else network]
    #[arg(long, value_name = "CLASS", value_parser = source_class())]
    pub from: Option<SourceClass>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Where pins live.
    #[command(flatten)]
    pub pins: Pins,
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

/// Who sends a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// Its address.
    pub address: IpAddr,
    /// Its port, if it matters.
    pub port: Option<Port>,
}

/// What a packet is sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: Port,
    /// The protocol.
    pub protocol: Protocol,
}

/// Text that is no sender or destination.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum AddressError {
    /// Not a sender.
    #[error(
        "{0:?} is no address: write one as 10.0.0.9, 10.0.0.9:40000, fd00::9 or [fd00::9]:40000"
    )]
    Sender(String),
    /// Not an address and port.
    #[error("{0:?} is no address and port: write them as 10.96.0.1:80/tcp or [fd00:96::1]:80/tcp")]
    Destination(String),
    /// Not a protocol.
    #[error("{0:?} is no protocol that Weir balances: write /tcp or /udp after the port")]
    Protocol(String),
    /// One IPv4, one IPv6.
    #[error("one address is IPv4 and the other IPv6: write both of one family")]
    Families,
}

impl FromStr for Sender {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self { address: socket.ip(), port: Some(Port::new(socket.port())) });
        }
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let address = match bracketed {
            Some(inside) => inside.parse::<Ipv6Addr>().map(IpAddr::V6),
            None => text.parse(),
        };
        let address = address.map_err(|_| AddressError::Sender(text.into()))?;
        Ok(Self { address, port: None })
    }
}

impl FromStr for Destination {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (socket, protocol) =
            text.rsplit_once('/').ok_or_else(|| AddressError::Destination(text.into()))?;
        let socket: SocketAddr =
            socket.parse().map_err(|_| AddressError::Destination(text.into()))?;
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::TCP,
            "udp" => Protocol::UDP,
            _ => return Err(AddressError::Protocol(protocol.into())),
        };
        Ok(Self { address: socket.ip(), port: Port::new(socket.port()), protocol })
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => endpoint(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", endpoint(self.address, self.port), self.protocol)
    }
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

    fn parse(words: &str) -> Result<Args, String> {
        Line::try_parse_from(["weir"].into_iter().chain(words.split_whitespace()))
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn senders_are_read_with_and_without_a_port() {
        for text in ["10.0.0.9", "10.0.0.9:40000", "fd00::9", "[fd00::9]:40000"] {
            assert_eq!(text.parse::<Sender>().unwrap().to_string(), text);
        }
        assert_eq!("[fd00::9]".parse::<Sender>().unwrap().to_string(), "fd00::9");
    }

    #[test]
    fn destinations_are_read_in_both_families_and_protocols() {
        for text in ["10.96.0.1:80/tcp", "[fd00:96::1]:53/udp"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        assert_eq!("10.96.0.1:80/TCP".parse::<Destination>().unwrap().protocol, Protocol::TCP);
    }

    #[test]
    fn what_is_no_address_is_refused_with_how_to_write_one() {
        for (words, hint) in [
            ("10.0.0 10.96.0.1:80/tcp", "[fd00::9]:40000"),
            ("10.0.0.9:70000 10.96.0.1:80/tcp", "10.0.0.9:40000"),
            ("[10.0.0.9] 10.96.0.1:80/tcp", "fd00::9"),
            ("10.0.0.9 10.96.0.1:80", "10.96.0.1:80/tcp"),
            ("10.0.0.9 fd00::1:80/tcp", "[fd00:96::1]:80/tcp"),
            ("10.0.0.9 10.96.0.1:80/sctp", "/tcp or /udp"),
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
