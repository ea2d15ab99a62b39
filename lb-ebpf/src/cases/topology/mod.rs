//! Where the cases happen: a node with two pods, a remote node with one, an external client behind a
//! router, and Services. The kernel tests build the same with namespaces and routes.

mod addresses;
mod world;

pub use self::addresses::{
    BACKEND_PORT, MTU, NODE_LINK, Pod, ROUTER_LINK, SNAT_TIERS, Target, Topology, UNLUCKY_PORT,
    address, tuple,
};
pub use self::world::{rows, world, world_with_sockets};
