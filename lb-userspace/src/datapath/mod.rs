//! What runs in the kernel: the object and how it is loaded ([`loader`]), where its programs are
//! attached on devices ([`attach`]) and control groups ([`socket_lb`]), and the ending of sockets
//! that no program sees ([`sock_destroy`]), and the log of what the programs do ([`log`]).

pub mod attach;
mod error_chain;
pub mod features;
pub mod load_error;
pub mod loader;
pub mod log;
pub mod netns_cookie;
pub mod programs;
pub mod sock_destroy;
pub mod socket_lb;
pub mod successors;
