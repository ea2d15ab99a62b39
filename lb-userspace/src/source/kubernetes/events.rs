//! What cannot be honoured in a Service, written as an Event on it, where `kubectl describe` shows
//! it. Best effort: one a second, the rest of a flood is dropped, and failures are counted.
//!
//! An Event's name follows from its text, so that all nodes of a cluster, and an agent that
//! starts again, write the same one: the server refuses the second.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::{ListParams, PostParams};
use kube::core::Request;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::backoff::Timeouts;
use super::client::{self, Failure, Read};
use super::credentials::ApiClient;
use crate::model::{Name, Warning};

/// Time between two Events.
const PACE: Duration = Duration::from_secs(1);

/// Warnings that wait for their Event.
const WAITING: usize = 256;

/// The API takes a kilobyte of text at most.
const LONGEST_NOTE: usize = 1024;

/// How many Events there were.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EventCounts {
    /// Written, or found written already.
    pub written: u64,
    /// Refused by the server, or without a response.
    pub failed: u64,
    /// Not tried, for too many were waiting.
    pub dropped: u64,
}

impl EventCounts {
    /// The counts with the names of their results.
    #[must_use]
    pub const fn by_result(&self) -> [(&'static str, u64); 3] {
        [("written", self.written), ("failed", self.failed), ("dropped", self.dropped)]
    }
}

/// What an Event is for, as scripts that look for Events name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// Something of the object is not honoured.
    NotHonoured,
    /// A node cannot listen on the Service's `healthCheckNodePort`; kube-proxy's word.
    FailedToStartServiceHealthcheck,
}

impl Reason {
    const fn word(self) -> &'static str {
        match self {
            Self::NotHonoured => "NotHonoured",
            Self::FailedToStartServiceHealthcheck => "FailedToStartServiceHealthcheck",
        }
    }

    /// What was tried.
    const fn action(self) -> &'static str {
        match self {
            Self::NotHonoured => "Balance",
            Self::FailedToStartServiceHealthcheck => "Listen",
        }
    }
}

/// An Event to be.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Report {
    service: Name,
    reason: Reason,
    text: String,
}

/// Takes warnings and writes Events.
#[derive(Debug)]
pub struct Reporter {
    queue: Sender<Report>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Reporter {
    pub(super) fn start(api: Arc<ApiClient>, node: &str, timeouts: Timeouts) -> Self {
        let (queue, warnings) = mpsc::channel(WAITING);
        let counts = Arc::new(Counts::default());
        let writer =
            Writer { api, node: node.into(), timeouts, counts: Arc::clone(&counts), fails: false };
        tokio::spawn(writer.run(warnings));
        Self { queue, counts }
    }

    /// Writes an Event if the warning is about a Service. Never waits.
    pub fn report(&self, warning: &Warning) {
        self.report_as(Reason::NotHonoured, warning);
    }

    /// The same for another reason.
    pub fn report_as(&self, reason: Reason, warning: &Warning) {
        let Some(service) = service_of(warning) else {
            return;
        };
        let report = Report { service, reason, text: warning.text.clone() };
        if self.queue.try_send(report).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many Events there were so far.
    #[must_use]
    pub fn counts(&self) -> EventCounts {
        let Counts { written, failed, dropped } = &*self.counts;
        EventCounts {
            written: written.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            dropped: dropped.load(Ordering::Relaxed),
        }
    }
}

/// The Service that a warning is about, such as `Service default/web`.
fn service_of(warning: &Warning) -> Option<Name> {
    let rest = warning.about.strip_prefix("Service ")?;
    let (namespace, name) = rest.split_whitespace().next()?.split_once('/')?;
    Some(Name::new(namespace, name))
}

struct Writer {
    api: Arc<ApiClient>,
    node: String,
    timeouts: Timeouts,
    counts: Arc<Counts>,
    /// Whether the last Event could not be written.
    fails: bool,
}

impl Writer {
    async fn run(mut self, mut warnings: Receiver<Report>) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(report) = warnings.recv().await {
            pace.tick().await;
            match self.write(&report).await {
                Ok(()) => {
                    self.fails = false;
                    self.counts.written.fetch_add(1, Ordering::Relaxed);
                }
                Err(failure) => self.failed(&report.service, &failure),
            }
        }
    }

    fn failed(&mut self, service: &Name, failure: &Failure) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        if std::mem::replace(&mut self.fails, true) {
            debug!("no Event on Service {service}: {failure}");
        } else {
            warn!(
                "no Event can be written on Service {service}: {failure}; `weir show services` has \
                 its text, and more that fail are counted, not logged"
            );
        }
    }

    async fn write(&self, report: &Report) -> Result<(), Failure> {
        let client = self.api.newest().await.client;
        let service = &report.service;
        // `kubectl describe` finds Events by the object's uid.
        let Some(uid) = self.uid(service).await? else {
            return Ok(());
        };
        let body = serde_json::to_vec(&event(report, &uid, &self.node, Timestamp::now()))
            .map_err(|error| Failure::Unreadable(error.to_string()))?;
        let request = Request::new(Event::url_path(&(), Some(&service.namespace)))
            .create(&PostParams::default(), body)
            .map_err(|error| Failure::Unreadable(error.to_string()))?;
        match client::create(&client, request, self.timeouts).await {
            Err(Failure::Status { status: 409, .. }) => Ok(()),
            result => result,
        }
    }

    /// `None` if the Service is gone meanwhile.
    async fn uid(&self, service: &Name) -> Result<Option<String>, Failure> {
        let params = ListParams::default().fields(&format!("metadata.name={}", service.name));
        let request = Request::new(Service::url_path(&(), Some(&service.namespace))).list(&params);
        let request = request.map_err(|error| Failure::Unreadable(error.to_string()))?;
        let client = self.api.newest().await.client;
        let page = client::page::<Service>(&client, request, self.timeouts).await?;
        Ok(page.items.into_iter().find_map(|read| match read {
            Read::Object(service) => service.metadata.uid,
            Read::Unreadable { .. } => None,
        }))
    }
}

fn event(report: &Report, uid: &str, node: &str, now: Timestamp) -> Event {
    let Report { service, reason, text } = report;
    let mut hasher = DefaultHasher::new();
    (uid, text).hash(&mut hasher);
    Event {
        metadata: ObjectMeta {
            namespace: Some(service.namespace.to_string()),
            name: Some(format!("{}.weir-{:016x}", service.name, hasher.finish())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some("Warning".into()),
        reason: Some(reason.word().into()),
        action: Some(reason.action().into()),
        note: Some(text[..text.floor_char_boundary(LONGEST_NOTE)].into()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            namespace: Some(service.namespace.to_string()),
            name: Some(service.name.to_string()),
            uid: Some(uid.into()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("weir".into()),
        reporting_instance: Some(node.chars().take(128).collect()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_warnings_about_services_become_events() {
        let warning = |about: &str| Warning { about: about.into(), text: String::new() };
        assert_eq!(service_of(&warning("Service a/b")), Some(Name::new("a", "b")));
        for about in ["Node node-1", "EndpointSlice a/b", "API server https://10.0.0.1", "Service"]
        {
            assert_eq!(service_of(&warning(about)), None, "{about}");
        }
    }

    #[test]
    fn an_event_s_name_follows_from_its_text_on_every_node() {
        let (early, late) =
            (Timestamp::from_second(0).unwrap(), Timestamp::from_second(9).unwrap());
        let name = |uid, text, node, now| event(&report(text), uid, node, now).metadata.name;
        let first = name("1", "do this", "node-1", early);
        assert_eq!(first, name("1", "do this", "node-2", late));
        assert_ne!(first, name("1", "do that", "node-1", early));
        assert_ne!(first, name("2", "do this", "node-1", early));
    }

    fn report(text: &str) -> Report {
        let service = Name::new("default", "web");
        Report { service, reason: Reason::NotHonoured, text: text.into() }
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        let event = event(&report(&"ü".repeat(LONGEST_NOTE)), "1", "n", Timestamp::UNIX_EPOCH);
        assert_eq!(event.note.unwrap().len(), LONGEST_NOTE);
    }
}
