//! The steps of a walk, for whoever wants to see them: [`Traced`] is a world around a world that hands
//! every question with its answer, and every write, to a [`Tracer`]. `weir explain` prints them; the
//! kernel programs log them where `--datapath-log trace` asks for it.

mod step;
mod summary;
mod traced;
mod traced_conntrack;

pub use self::step::{Step, Tracer};
pub use self::summary::{StepKind, Summary};
pub use self::traced::Traced;
