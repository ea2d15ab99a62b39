//! Addresses as the API server reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::warnings::Warnings;

/// Reads an address as `ParseIPSloppy` of `k8s.io/utils/net` does: leading zeros of a decimal byte
/// mean nothing, and an IPv4 address mapped into IPv6 is that IPv4 address. `None` if it is none.
pub(super) fn parse(text: &str) -> Option<IpAddr> {
    let address = match text.rsplit_once(':') {
        None => IpAddr::V4(dotted(text)?),
        Some((head, tail)) if tail.contains('.') => {
            let mapped: Ipv6Addr = format!("{head}:{}", dotted(tail)?).parse().ok()?;
            IpAddr::V6(mapped)
        }
        Some(_) => IpAddr::V6(text.parse().ok()?),
    };
    Some(address.to_canonical())
}

fn dotted(text: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        let digits = parts.next()?;
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let significant = digits.trim_start_matches('0');
        *byte = if significant.is_empty() { 0 } else { significant.parse().ok()? };
    }
    parts.next().is_none().then(|| Ipv4Addr::from(bytes))
}

/// The addresses of `field` in their order, each once; those that are none, or that no packet may
/// be sent to, are left out with a warning.
pub(crate) fn list<'a>(
    field: &str,
    texts: impl IntoIterator<Item = &'a str>,
    warnings: &mut Warnings,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in texts {
        if let Some(address) = usable(field, text, warnings)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

/// The address `text` of `field`, or a warning why there is none.
pub(super) fn usable(field: &str, text: &str, warnings: &mut Warnings) -> Option<IpAddr> {
    let Some(address) = parse(text) else {
        warnings.add(format!(
            "{field} {text:?} is no IP address and is left out: write one as 192.0.2.1 or fd00::1"
        ));
        return None;
    };
    if let Some(nature) = special(address) {
        warnings.add(format!(
            "{field} {address} is {nature} and is left out: write one that other hosts can reach"
        ));
        return None;
    }
    Some(address)
}

/// What `address` is if packets of other hosts cannot be for it: `ValidateNonSpecialIP` of
/// `k8s.io/kubernetes/pkg/apis/core/validation`, and every multicast address.
fn special(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if link_local {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse(text).map(|a| a.to_string()).as_deref(), expected, "{text}");
    }

    #[test]
    fn leading_zeros_are_decimal_and_mean_nothing() {
        check("192.000.002.010", Some("192.0.2.10"));
        check("010.08.00000009.0", Some("10.8.9.0"));
        check("::ffff:010.0.0.01", Some("10.0.0.1"));
    }

    #[test]
    fn an_ipv4_address_mapped_into_ipv6_is_that_ipv4_address() {
        check("::ffff:192.0.2.1", Some("192.0.2.1"));
        check("::ffff:c000:201", Some("192.0.2.1"));
    }

    #[test]
    fn ipv6_addresses_come_out_in_one_spelling() {
        check("FD00:0:0:0::1", Some("fd00::1"));
        check("fd00::0001", Some("fd00::1"));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "",
            ".",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.-4",
            "1.2.3.+4",
            "1..2.3",
            " 1.2.3.4",
            "1.2.3.4/32",
            "fe80::1%eth0",
            ":",
            ":1.2.3.4",
            "a.b.c.d",
            "fd00",
            "0x7f.0.0.1",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn addresses_that_no_other_host_reaches_are_left_out() {
        let mut warnings = Warnings::about("Service", "default/web");
        let texts =
            ["192.0.2.1", "127.0.0.1", "::1", "0.0.0.0", "fe80::1", "224.0.0.1", "192.0.2.01"];
        let addresses = list("spec.externalIPs", texts, &mut warnings);
        assert_eq!(addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        let warnings = warnings.into_list();
        assert_eq!(warnings.len(), 5);
        assert_eq!(
            warnings[0].to_string(),
            "Service default/web: spec.externalIPs 127.0.0.1 is a loopback address and is left \
             out: write one that other hosts can reach"
        );
    }
}
