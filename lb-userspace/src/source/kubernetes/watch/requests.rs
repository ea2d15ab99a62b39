//! The requests of a watch.

use std::time::Duration;

use kube::api::{ListParams, WatchParams};
use kube::core::Request;

use crate::source::kubernetes::backoff::Timeouts;
use crate::source::kubernetes::client::Failure;
use crate::source::kubernetes::kind::Watched;
use crate::source::kubernetes::version::Version;

/// Lists what `params` select.
pub(super) fn list_request<K: Watched>(
    params: &ListParams,
) -> Result<http::Request<Vec<u8>>, Failure> {
    let request = Request::new(K::url_path(&(), None)).list(params);
    request.map_err(|error| Failure::Unreadable(error.to_string()))
}

/// Watches what this node selects, from `version` on.
pub(super) fn watch_request<K: Watched>(
    node: &str,
    timeouts: Timeouts,
    version: &Version,
) -> Result<http::Request<Vec<u8>>, Failure> {
    let selection = K::selection(node);
    let params = WatchParams {
        label_selector: selection.labels,
        field_selector: selection.fields,
        timeout: u32::try_from(timeouts.watch.max(Duration::from_secs(1)).as_secs()).ok(),
        bookmarks: true,
        send_initial_events: false,
    };
    let request = Request::new(K::url_path(&(), None)).watch(&params, version.as_str());
    request.map_err(|error| Failure::Unreadable(error.to_string()))
}
