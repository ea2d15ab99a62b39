//! One request to the API server and its response: a page of a list, or a watch as a stream of
//! lines. Every error is a [`Failure`].

mod certificate;
mod failure;

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::core::{ListMeta, ObjectList, Status, WatchEvent};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

pub(super) use self::failure::Failure;
use self::failure::unreachable;
use super::backoff::Timeouts;

type Request = http::Request<Vec<u8>>;

/// An object as it was read, or what is known of one that could not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Read<K> {
    /// The object.
    Object(K),
    /// Its namespace and name, and why it cannot be read.
    Unreadable { namespace: String, name: String, reason: String },
}

impl<K: DeserializeOwned> Read<K> {
    fn from_value(value: Value) -> Self {
        let text = |field| value["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        match K::deserialize(value) {
            Ok(object) => Self::Object(object),
            Err(error) => Self::Unreadable { namespace, name, reason: error.to_string() },
        }
    }
}

/// A page of a list.
pub(super) struct Page<K> {
    pub(super) metadata: ListMeta,
    pub(super) items: Vec<Read<K>>,
}

/// Requests a page.
pub(super) async fn page<K: DeserializeOwned + Clone>(
    client: &Client,
    request: Request,
    timeouts: Timeouts,
) -> Result<Page<K>, Failure> {
    let late = |_| Failure::Late(timeouts.response);
    let mut body = timeout(timeouts.response, send(client, request)).await.map_err(late)??;
    let mut bytes = Vec::new();
    // A list that comes whole may take long: how long, the server limits.
    while let Some(frame) = timeout(timeouts.response, body.frame()).await.map_err(late)? {
        if let Ok(data) = frame.map_err(|error| unreachable(&error))?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    if let Ok(list) = serde_json::from_slice::<ObjectList<K>>(&bytes) {
        let items = list.items.into_iter().map(Read::Object).collect();
        return Ok(Page { metadata: list.metadata, items });
    }
    // One object that cannot be read must not hide all others.
    let list: ObjectList<Value> =
        serde_json::from_slice(&bytes).map_err(|error| Failure::Unreadable(error.to_string()))?;
    let items = list.items.into_iter().map(Read::from_value).collect();
    Ok(Page { metadata: list.metadata, items })
}

/// Sends an object to be created.
pub(super) async fn create(
    client: &Client,
    request: Request,
    timeouts: Timeouts,
) -> Result<(), Failure> {
    let response = async {
        send(client, request).await?.collect_bytes().await.map_err(|error| unreachable(&error))
    };
    let late = |_| Failure::Late(timeouts.response);
    timeout(timeouts.response, response).await.map_err(late)?.map(drop)
}

/// Opens a watch.
pub(super) async fn watch(
    client: &Client,
    mut request: Request,
    timeouts: Timeouts,
) -> Result<Lines, Failure> {
    // Decoders of compressed streams may hold lines back.
    let identity = http::HeaderValue::from_static("identity");
    request.headers_mut().insert(http::header::ACCEPT_ENCODING, identity);
    let late = |_| Failure::Late(timeouts.response);
    let body = timeout(timeouts.response, send(client, request)).await.map_err(late)??;
    Ok(Lines { body, rest: Vec::new(), idle: timeouts.idle })
}

async fn send(client: &Client, request: Request) -> Result<Body, Failure> {
    let response = client.send(request.map(Body::from)).await;
    let response = response.map_err(|error| unreachable(&error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let header = response.headers().get(http::header::RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let bytes = response.into_body().collect_bytes().await.unwrap_or_default();
    // Proxies, and the API server when it is overloaded, respond in plain text.
    let mut failure: Status = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Status::failure(&String::from_utf8_lossy(&bytes), status.as_str()));
    failure.code = status.as_u16();
    Err(Failure::of_status(&failure, seconds.map(Duration::from_secs)))
}

/// A watch's stream, line by line.
pub(super) struct Lines {
    body: Body,
    /// The beginning of a line.
    rest: Vec<u8>,
    idle: Duration,
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The server ended it.
    Closed,
    /// It broke.
    Cut,
    /// No line came for too long.
    Silent,
}

impl Lines {
    /// The lines that have come since, at least one; those that come together come together. A line
    /// that is cut off is no line.
    pub(super) async fn next(&mut self) -> Result<VecDeque<Vec<u8>>, End> {
        let deadline = Instant::now() + self.idle;
        loop {
            let frame = timeout_at(deadline, self.body.frame()).await.map_err(|_| End::Silent)?;
            let Ok(data) = frame.ok_or(End::Closed)?.map_err(|_| End::Cut)?.into_data() else {
                continue;
            };
            self.rest.extend_from_slice(&data);
            if let Some(end) = data.iter().rposition(|byte| *byte == b'\n') {
                let partial = self.rest.split_off(self.rest.len() - (data.len() - end - 1));
                let whole = std::mem::replace(&mut self.rest, partial);
                let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                return Ok(lines.map(<[u8]>::to_vec).collect());
            }
        }
    }
}

/// A line of a watch.
#[derive(Debug)]
pub(super) enum Line<K> {
    /// This object exists now, and is so.
    Exists(Read<K>, Option<String>),
    /// This object is gone.
    Gone(Read<K>, Option<String>),
    /// Nothing up to this version concerns this watch.
    Bookmark(String),
    /// The server gives up.
    Error(Failure),
}

impl<K: DeserializeOwned + kube::Resource> Line<K> {
    /// Reads a line; one that is none says that the stream cannot be trusted.
    pub(super) fn read(line: &[u8]) -> Self {
        match serde_json::from_slice::<WatchEvent<K>>(line) {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                let version = object.meta().resource_version.clone();
                Self::Exists(Read::Object(object), version)
            }
            Ok(WatchEvent::Deleted(object)) => {
                let version = object.meta().resource_version.clone();
                Self::Gone(Read::Object(object), version)
            }
            Ok(WatchEvent::Bookmark(bookmark)) => {
                Self::Bookmark(bookmark.metadata.resource_version)
            }
            Ok(WatchEvent::Error(status)) => Self::Error(Failure::of_status(&status, None)),
            Err(error) => Self::read_leniently(line)
                .unwrap_or_else(|| Self::Error(Failure::Unreadable(error.to_string()))),
        }
    }

    fn read_leniently(line: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(line).ok()?;
        let object = event.get("object")?.clone();
        let version = object["metadata"]["resourceVersion"].as_str().map(String::from);
        object["metadata"]["name"].as_str()?;
        let read = Read::from_value(object);
        match event["type"].as_str()? {
            "ADDED" | "MODIFIED" => Some(Self::Exists(read, version)),
            "DELETED" => Some(Self::Gone(read, version)),
            _ => None,
        }
    }
}
