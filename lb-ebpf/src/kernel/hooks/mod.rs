//! The programs, by the kind of hook that they are attached to.

mod cgroup;
mod datapath_log;
mod sock_addr;
mod tc;
mod xdp;
