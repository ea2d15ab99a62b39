//! Kubernetes objects from files: YAML or JSON, as kubectl prints them. The files are followed:
//! after a change everything is read again, and what differs from before is sent.
//!
//! `snapshot -> files -> cluster -> reader`: what the disk holds, the last good state of each file, the
//! cluster they describe, and how it differs from before. `document` reads one file's text, `pods` stands
//! in for the EndpointSlice controller, `watch` says when to read again.

mod changes;
mod cluster;
mod document;
mod files;
mod object;
mod pods;
mod reader;
mod snapshot;
mod watch;

pub use reader::Manifests;
