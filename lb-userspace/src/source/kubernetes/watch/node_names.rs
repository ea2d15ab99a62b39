//! What the cluster's Nodes are called, for where none has this node's name: the watch sees its own alone.

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::core::{PartialObjectMeta, Request};
use kube::{Client, Resource};

use crate::source::kubernetes::backoff::Timeouts;
use crate::source::kubernetes::client::{self, Failure, Read};

/// Nodes that are listed: names that come close are looked for among them.
const LIMIT: u32 = 1000;

/// The names of the cluster's Nodes; of a large cluster's, the first.
pub(super) async fn node_names(
    client: &Client,
    timeouts: Timeouts,
) -> Result<Vec<String>, Failure> {
    let params = ListParams::default().limit(LIMIT);
    let request = Request::new(Node::url_path(&(), None)).list_metadata(&params);
    let request = request.map_err(|error| Failure::Unreadable(error.to_string()))?;
    let page = client::page::<PartialObjectMeta<Node>>(client, request, timeouts).await?;
    let names = page.items.into_iter().filter_map(|read| match read {
        Read::Object(node) => node.metadata.name,
        Read::Unreadable { name, .. } => Some(name),
    });
    Ok(names.collect())
}
