//! Requests to the kernel by netlink(7) that no library makes for us.

use std::io;

use rtnetlink::packet_core::{NetlinkBuffer, NlasIterator};
use rtnetlink::sys::Socket;

/// Bytes of `struct nlmsghdr`, `include/uapi/linux/netlink.h`.
const HEADER: usize = 16;

/// Sends a request and hands the payload of each reply to `read`. `flags` says besides `NLM_F_REQUEST`
/// what is wanted: `NLM_F_DUMP` or `NLM_F_ACK`.
///
/// # Errors
/// The kernel's errno.
pub fn request(
    protocol: isize,
    kind: u16,
    flags: i32,
    request: &[u8],
    mut read: impl FnMut(&[u8]),
) -> io::Result<()> {
    let socket = Socket::new(protocol)?;
    socket.send(&message(kind, flags, request), 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if read_datagram(&datagram, &mut read)? == Part::Last {
            return Ok(());
        }
    }
}

fn message(kind: u16, flags: i32, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message.extend(payload);
    let length = message.len() as u32;
    let mut packet = NetlinkBuffer::new(message.as_mut_slice());
    packet.set_length(length);
    packet.set_message_type(kind);
    packet.set_flags((libc::NLM_F_REQUEST | flags) as u16);
    message
}

#[derive(PartialEq, Eq, Debug)]
enum Part {
    MoreToCome,
    Last,
}

/// Reads the messages of one datagram.
fn read_datagram(mut datagram: &[u8], read: &mut impl FnMut(&[u8])) -> io::Result<Part> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(io::Error::other)?;
        match libc::c_int::from(message.message_type()) {
            // What fails amid a list is reported at its end.
            libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                let code =
                    message.payload().first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                // Of a list that is whole, some say at its end how long it is.
                let code = code.min(0);
                let error = || io::Error::from_raw_os_error(code.saturating_neg());
                return if code == 0 { Ok(Part::Last) } else { Err(error()) };
            }
            _ => read(message.payload()),
        }
        let next = message.length().next_multiple_of(4) as usize;
        datagram = datagram.get(next..).unwrap_or_default();
    }
    Ok(Part::MoreToCome)
}

/// An attribute, as the kernel reads and writes it: filled up to a multiple of four bytes.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The values of all `attributes` of this kind. What cannot be read ends them.
pub fn values(attributes: &[u8], kind: u16) -> impl Iterator<Item = &[u8]> {
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .filter(move |attribute| attribute.kind() == kind)
        .filter_map(|attribute| {
            let length = usize::from(attribute.length());
            attribute.into_inner().get(4..length)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_a_datagram_is_read_up_to_the_last() {
        let mut datagram = message(7, 0, b"four");
        datagram.extend(message(7, 0, b"more"));
        let mut found = Vec::new();
        let mut read = |payload: &[u8]| found.push(payload.to_vec());
        assert_eq!(read_datagram(&datagram, &mut read).unwrap(), Part::MoreToCome);
        datagram.extend(message(libc::NLMSG_DONE as u16, 0, &[0; 4]));
        assert_eq!(read_datagram(&datagram, &mut read).unwrap(), Part::Last);
        assert_eq!(found, [b"four", b"more", b"four", b"more"]);
    }

    #[test]
    fn an_error_message_is_the_kernel_s_errno_and_zero_is_an_ack() {
        let reply = |code: i32| message(libc::NLMSG_ERROR as u16, 0, &code.to_ne_bytes());
        let error = read_datagram(&reply(-libc::EPERM), &mut |_| {}).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!(read_datagram(&reply(0), &mut |_| {}).unwrap(), Part::Last);
        assert!(read_datagram(&reply(i32::MIN), &mut |_| {}).is_err());
        let done = |code: i32| message(libc::NLMSG_DONE as u16, 0, &code.to_ne_bytes());
        let error = read_datagram(&done(-libc::ENOENT), &mut |_| {}).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert_eq!(read_datagram(&done(7), &mut |_| {}).unwrap(), Part::Last);
    }

    #[test]
    fn what_is_cut_short_is_refused_and_never_read_beyond() {
        let whole = message(7, 0, &[2, 0, 0, 0]);
        for length in 1..whole.len() {
            assert!(read_datagram(&whole[..length], &mut |_| {}).is_err(), "{length}");
        }
        let attributes = [attribute(1, b"one"), attribute(2, b"two!"), attribute(1, b"")].concat();
        for length in 0..=attributes.len() {
            assert!(values(&attributes[..length], 1).count() <= 2);
        }
        assert_eq!(values(&attributes, 1).collect::<Vec<_>>(), [&b"one"[..], b""]);
    }
}
