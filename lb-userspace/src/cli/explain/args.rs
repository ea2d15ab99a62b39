//! Source and destination of a packet, as they are typed.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use lb_common::address::{Port, Protocol, endpoint};

/// The source of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// Its address.
    pub address: IpAddr,
    /// Its port, if one is given.
    pub port: Option<Port>,
}

/// The destination of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: Port,
    /// The protocol.
    pub protocol: Protocol,
}

/// Text that is no source or destination.
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
    #[error("{0:?} is no protocol that Weir balances: write /tcp, /udp or /sctp after the port")]
    Protocol(String),
    /// One IPv4, one IPv6.
    #[error("one address is IPv4 and the other IPv6: give both of one family")]
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
            "sctp" => Protocol::SCTP,
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
    use super::*;

    #[test]
    fn senders_are_read_with_and_without_a_port() {
        for text in ["10.0.0.9", "10.0.0.9:40000", "fd00::9", "[fd00::9]:40000"] {
            assert_eq!(text.parse::<Sender>().unwrap().to_string(), text);
        }
        assert_eq!("[fd00::9]".parse::<Sender>().unwrap().to_string(), "fd00::9");
    }

    #[test]
    fn destinations_are_read_in_both_families_and_protocols() {
        for text in ["10.96.0.1:80/tcp", "[fd00:96::1]:53/udp", "10.96.0.1:5060/sctp"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        assert_eq!("10.96.0.1:80/TCP".parse::<Destination>().unwrap().protocol, Protocol::TCP);
    }
}
