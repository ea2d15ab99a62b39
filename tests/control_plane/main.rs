//! The whole chain under a real control plane: pods, the slices that the controllers write, the
//! Service proxy, packets. What is about Services is run with Weir and with kube-proxy, which is
//! the reference; where they differ on purpose, the case has the reason.

mod health_check;
mod lifecycle;
mod lost_servers;
mod many_services;
mod moving;
mod services;
mod types;
