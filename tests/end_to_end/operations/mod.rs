//! What operators run, read and depend on.

mod api_server;
mod bad_input;
mod capabilities;
mod check;
mod datapath_log;
mod every_kernel;
mod explain;
mod full_tables;
mod lab;
mod observe;
