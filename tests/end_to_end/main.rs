//! What users are promised, one file per promise, in namespaces with real clients and servers.

mod addresses;
mod flows;
mod lifecycle;
mod operations;
mod policies;
