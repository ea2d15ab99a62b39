//! ICMP: replies to senders ([`reply`]), and errors about translated packets ([`translate`]).

pub(crate) mod reply;
pub(crate) mod translate;
