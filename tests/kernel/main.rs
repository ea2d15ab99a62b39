//! What must hold in a real kernel: packet by packet, and of what the agent puts there.

mod affinity;
mod agreement;
mod attach;
mod budgets;
mod full_table;
mod handover;
mod loops;
mod maps;
mod matrix;
mod resizing;
mod routes;
mod routing;
mod sockets;
mod stack;
mod testbed;
mod without_agent;
