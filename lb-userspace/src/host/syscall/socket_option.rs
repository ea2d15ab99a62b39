//! getsockopt(2).

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// getsockopt(2) of an option that reads `value` and overwrites it.
pub(super) fn get(socket: &UdpSocket, level: i32, name: i32, value: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    let value = value.as_mut_ptr().cast();
    // SAFETY: `value` has room for `length` bytes, the kernel writes no more than that, and any bytes
    // are good ones.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value, &raw mut length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
