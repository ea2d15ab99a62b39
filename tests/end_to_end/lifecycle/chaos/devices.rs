//! Devices of the node that come, go and change their names.

use anyhow::Result;
use weir_tests::lab::Namespace;

/// How far a spare device has come.
#[derive(Clone, Copy, Debug)]
pub enum SpareDevice {
    /// There is none.
    Gone,
    /// It is up, and has an address.
    Up,
    /// It was set down.
    Down,
    /// It is up under another name.
    Renamed,
}

/// The other one of a device's two names.
pub const fn other_name(device: &str) -> &'static str {
    match device.as_bytes() {
        b"eth0" => "net0",
        b"net0" => "eth0",
        b"pod1" => "cali1",
        _ => "pod1",
    }
}

/// Does with a spare network device what is next; returns how far it is then.
pub fn set_spare_device(node: &Namespace, device: SpareDevice) -> Result<SpareDevice> {
    let (lines, then) = match device {
        SpareDevice::Gone => (
            "link add spare0 type veth peer name spare1
             link set spare1 up
             link set spare0 up
             addr add 192.0.2.77/24 dev spare0
            ",
            SpareDevice::Up,
        ),
        SpareDevice::Up => ("link set spare0 down\n", SpareDevice::Down),
        SpareDevice::Down => {
            ("link set spare0 name spare2\nlink set spare2 up\n", SpareDevice::Renamed)
        }
        SpareDevice::Renamed => ("link del spare2\n", SpareDevice::Gone),
    };
    node.ip(lines)?;
    Ok(then)
}

/// Whether the kernel renames a device that is up, as it does since Linux 6.2
/// (<https://git.kernel.org/torvalds/c/bd039b5ea2a9>).
pub fn renames_live_devices(node: &Namespace) -> Result<bool> {
    node.ip("link add spare0 type veth peer name spare1\nlink set spare0 up\n")?;
    let renamed = node.ip("link set spare0 name spare2\n").is_ok();
    node.ip("link del spare1\n")?;
    Ok(renamed)
}
