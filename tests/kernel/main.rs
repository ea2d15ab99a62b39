//! What must hold in a real kernel, packet by packet.

mod agreement;
mod budgets;
mod place;
