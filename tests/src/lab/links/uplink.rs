//! How a node is attached to its network: by a card alone, or by a device upon it that has the node's addresses. The
//! card is a veth, as everywhere in a lab; the device that has the addresses is always called `eth0`.

/// The device by which a node is attached to its network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uplink {
    /// The card itself.
    Card,
    /// A bond with the card as its one port. A kernel module is needed.
    Bond,
    /// A VLAN of the card. A kernel module is needed.
    Vlan,
    /// A bridge with the card as its one port, as libvirt and Proxmox have it.
    Bridge,
    /// A macvlan device of the card.
    Macvlan,
}

/// What the card is called where another device has the addresses.
const CARD: &str = "nic0";

/// The number of the VLAN.
const VLAN: u16 = 5;

impl Uplink {
    /// Makes `eth0` upon the card, which is `eth0` before.
    pub(crate) fn of_node(self) -> String {
        let upon = |device: &str| {
            format!(
                "link set eth0 name {CARD}
                 link set {CARD} up
                 link add link {CARD} name eth0 type {device}
                "
            )
        };
        let over = |device: &str| {
            format!(
                "link set eth0 name {CARD}
                 link add name eth0 type {device}
                 link set {CARD} master eth0
                 link set {CARD} up
                "
            )
        };
        match self {
            Self::Card => String::new(),
            Self::Bond => over("bond mode active-backup miimon 100"),
            Self::Bridge => over("bridge"),
            Self::Vlan => upon(&format!("vlan id {VLAN}")),
            Self::Macvlan => upon("macvlan mode bridge"),
        }
    }

    /// Makes the other end of the card, `device`, a port of the nodes' bridge.
    pub(crate) fn of_network(self, device: &str) -> String {
        match self {
            Self::Vlan => format!(
                "link set {device} up
                 link add link {device} name {device}.{VLAN} type vlan id {VLAN}
                 link set {device}.{VLAN} master nodes up
                "
            ),
            Self::Card | Self::Bond | Self::Bridge | Self::Macvlan => {
                format!("link set {device} master nodes up\n")
            }
        }
    }
}
