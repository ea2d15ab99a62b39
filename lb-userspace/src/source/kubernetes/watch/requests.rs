//! The requests of a watch.

use std::error::Error;
use std::time::Duration;

use http::uri::InvalidUri;
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
    let unreadable = |error: &dyn Error| Failure::Unreadable(error.to_string());
    // kube leaves the version out where it is 0 and there is a limit, which only servers without a
    // watch cache honour: so the limit is added to the version.
    let is_cached = params.resource_version.as_deref() == Some("0");
    let limit = params.limit.filter(|_| is_cached && params.continue_token.is_none());
    let params = ListParams { limit: params.limit.filter(|_| limit.is_none()), ..params.clone() };
    let request = Request::new(K::url_path(&(), None)).list(&params);
    let mut request = request.map_err(|error| unreadable(&error))?;
    if let Some(limit) = limit {
        let uri = format!("{}&limit={limit}", request.uri());
        *request.uri_mut() = uri.parse().map_err(|error: InvalidUri| unreadable(&error))?;
    }
    Ok(request)
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
