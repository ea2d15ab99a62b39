//! What users are promised, one file per promise, in namespaces with real clients and servers.

mod the_lab;
