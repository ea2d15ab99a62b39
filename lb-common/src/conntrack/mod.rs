//! Conntrack entries: what is remembered of a flow to a backend.
//!
//! A flow has two entries: the original one, keyed by the tuple of the client's packets as they arrive,
//! and the reply one, keyed by the tuple of the backend's packets as they arrive. Each holds the tuple
//! its packets leave with, so each leads to the other: the key of the other entry is the rewritten tuple
//! reversed. Both are inserted, change state and are removed together.
//!
//! A flow to a backend itself, not through a Service, has the same two entries. They change nothing, but
//! others can see that its reply tuple is taken.
//!
//! A flow begins in `HALF_OPEN_*`, a small table that evicts the oldest, and moves to `CONNTRACK_*` once its backend has
//! replied and its client has sent again; so a flood of packets without reply, or of spoofed ones,
//! never costs an established flow its entry.

mod entry;
mod state;
pub mod table;
mod ticks;

pub use self::entry::{ConntrackEntry, EXPECTED_STEP, HookPoint};
pub use self::state::State;
pub use self::ticks::Ticks;
