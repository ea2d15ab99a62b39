//! What a Service's spec asks for beyond being served.

mod affinity;
mod health_check;
mod source_ranges;
mod traffic_policies;
