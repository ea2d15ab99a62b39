//! Port numbers and protocols as the API server checks them.

use lb_common::address::Protocol;

use super::warnings::Warnings;

/// The port `value` of `field`, or a warning why there is none.
pub(crate) fn number(field: &str, value: i32, warnings: &mut Warnings) -> Option<u16> {
    let number = u16::try_from(value).ok().filter(|number| *number != 0);
    if number.is_none() {
        warnings.add(format!(
            "{field} {value} is no port and is left out: write a number from 1 to 65535"
        ));
    }
    number
}

/// The protocol `value` of `field`, TCP if it is absent, or a warning why there is none.
pub(crate) fn protocol(
    field: &str,
    value: Option<&str>,
    warnings: &mut Warnings,
) -> Option<Protocol> {
    match value {
        None | Some("" | "TCP") => Some(Protocol::TCP),
        Some("UDP") => Some(Protocol::UDP),
        Some("SCTP") => Some(Protocol::SCTP),
        Some(other) => {
            warnings.add(format!(
                "{field} {other:?} is no protocol and the port is left out: write TCP, UDP or SCTP"
            ));
            None
        }
    }
}
