//! What the agent tells the programs once, in one row.

/// The one row of `SETTINGS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Settings {
    /// First source port for translated flows. The range lies outside the node-port range and
    /// outside `ip_local_port_range`, so it takes no tuple that a socket of this node may get.
    pub first_source_port: u16,
    /// How many ports the range has; 0 until the agent has written the row, and then no flow whose
    /// source must be translated is begun.
    pub source_ports: u16,
}
