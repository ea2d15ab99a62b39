//! What must hold in a real kernel: packet by packet, and of what the agent puts there.

mod agreement;
mod attach;
mod bare;
mod budgets;
mod maps;
mod matrix;
mod place;
mod stack;
