//! Addresses, ports, protocols and the tuple they form.

mod ip;
mod port;
mod tuple;

pub use self::ip::{Address, Family, V4, V6};
pub use self::port::{Port, Ports, Protocol};
pub use self::tuple::{Tuple, endpoint};
