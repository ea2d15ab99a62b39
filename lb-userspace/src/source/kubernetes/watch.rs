//! One kind's watch as a state machine: list, watch from there, and after every failure the next
//! thing that can be right. It never ends by itself and never removes what a list did not miss.
//!
//! kube-runtime's watcher is not used: where the start of a watch fails with 410 it requests the same
//! version for ever, and it does not notice a server whose history went back.

mod bad_lines;
mod freshness;
mod list;
mod node_names;
mod requests;

use std::marker::PhantomData;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};
use tracing::debug;

use self::bad_lines::BadLines;
use self::freshness::Seen;
use self::node_names::node_names;
use self::requests::watch_request;
use super::backoff::{Backoff, Timeouts};
use super::client::{self, End, Failure, Line, Lines};
use super::credentials::{ApiClient, CredentialVersion};
use super::kind::{Kind, Watched};
use super::store::Store;
use super::update::{WatchState, WatchUpdate};
use super::version::Version;
use crate::model::{Name, missing_node};

/// What to do next.
#[derive(Debug)]
enum Step {
    /// List everything there is.
    List,
    /// Check whether the server still knows this version: it may have been restored to an older state,
    /// and would then send nothing of everything up to the version it had.
    Check(Version),
    /// Watch what happens from this version on.
    Watch(Version),
}

/// The watch of one kind.
pub(super) struct Watch<'a, K> {
    api: &'a Arc<ApiClient>,
    node: &'a str,
    timeouts: Timeouts,
    updates: Sender<WatchUpdate>,
    store: Store,
    seen: Seen,
    bad_lines: BadLines,
    backoff: Backoff,
    kind: PhantomData<K>,
}

impl<'a, K: Watched> Watch<'a, K> {
    pub(super) fn new(
        api: &'a Arc<ApiClient>,
        node: &'a str,
        timeouts: Timeouts,
        updates: Sender<WatchUpdate>,
    ) -> Self {
        Self {
            api,
            node,
            timeouts,
            updates,
            store: Store::default(),
            seen: Seen::default(),
            bad_lines: BadLines::default(),
            backoff: Backoff::new(timeouts),
            kind: PhantomData,
        }
    }

    /// Watches until the receiver is dropped.
    pub(super) async fn run(mut self) {
        let mut step = Step::List;
        while !self.updates.is_closed() {
            let credentials = self.api.newest().await;
            step = match step {
                Step::List => match self.list(&credentials).await {
                    Ok(version) => Step::Watch(version),
                    Err(failure) => self.fail(&credentials, failure, None).await,
                },
                Step::Check(version) => match self.newest(&credentials).await {
                    Ok(newest) if newest.is_before(&version) => {
                        debug!(%version, %newest, "the history of {} went back", K::KIND);
                        self.seen.unavailable();
                        Step::List
                    }
                    Ok(_) => Step::Watch(version),
                    Err(failure) => self.fail(&credentials, failure, Some(version)).await,
                },
                Step::Watch(version) => self.watch(&credentials, version).await,
            };
        }
    }

    async fn watch(&mut self, credentials: &CredentialVersion, mut version: Version) -> Step {
        if K::KIND == Kind::Node && self.store.is_empty() {
            self.look_for_names(credentials).await;
        }
        let begun = Instant::now();
        let opened = match watch_request::<K>(self.node, self.timeouts, &version) {
            Ok(request) => client::watch(&credentials.client, request, self.timeouts).await,
            Err(failure) => Err(failure),
        };
        let mut lines = match opened {
            Ok(lines) => lines,
            Err(Failure::Expired) => return self.expired().await,
            Err(failure) => return self.fail(credentials, failure, Some(version)).await,
        };
        self.reached().await;
        let result = self.read_lines(&mut lines, &mut version).await;
        self.seen.saw(&version);
        match result {
            Ok(End::Closed) if begun.elapsed() >= self.timeouts.watch => Step::Watch(version),
            Ok(end) => {
                debug!(?end, "the watch of {} ended early", K::KIND);
                sleep(self.backoff.after_failure(None)).await;
                Step::Check(version)
            }
            Err(Failure::Expired) => self.expired().await,
            Err(failure) => {
                let is_list_due = self.bad_lines.is_list_due(&version, &failure);
                if is_list_due {
                    // A watch cache that is behind would lead back to the same line.
                    self.seen.unavailable();
                }
                self.fail(credentials, failure, (!is_list_due).then_some(version)).await
            }
        }
    }

    /// Warns if there are Nodes, and none has this node's name. It holds until there is one that has.
    async fn look_for_names(&self, credentials: &CredentialVersion) {
        match node_names(&credentials.client, self.timeouts).await {
            Ok(names) => {
                let warning = missing_node(self.node, names.iter().map(String::as_str));
                let mut update = WatchUpdate::of(K::KIND);
                update.warnings.push((Name::new("", self.node), warning.into_iter().collect()));
                self.send(update).await;
            }
            Err(failure) => debug!("no response about the names of Nodes: {failure}"),
        }
    }

    /// Sends what comes until the stream ends.
    async fn read_lines(
        &mut self,
        lines: &mut Lines,
        version: &mut Version,
    ) -> Result<End, Failure> {
        loop {
            let batch = match lines.next().await {
                Ok(batch) => batch,
                Err(end) => return Ok(end),
            };
            let mut update = WatchUpdate::of(K::KIND);
            let result = batch.iter().try_for_each(|line| self.on_line(line, version, &mut update));
            self.send(update).await;
            result?;
            self.backoff.reset();
        }
    }

    fn on_line(
        &mut self,
        line: &[u8],
        version: &mut Version,
        update: &mut WatchUpdate,
    ) -> Result<(), Failure> {
        match Line::<K>::read(line) {
            Line::Exists(read, at) => {
                version.advance(at)?;
                self.store.exists(read, update);
            }
            Line::Gone(read, at) => {
                version.advance(at)?;
                self.store.gone(read, update);
            }
            Line::Bookmark(at) => version.advance(Some(at))?,
            Line::Error(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The history from where we were is gone. Waits first: a server that forgets at once must not
    /// have to list everything again at once, nor by all nodes at the same moment.
    async fn expired(&mut self) -> Step {
        debug!("the history of {} is lost", K::KIND);
        sleep(self.backoff.after_failure(None)).await;
        Step::List
    }

    /// Reports that the server did not respond, waits, and goes on from `version`.
    async fn fail(
        &mut self,
        credentials: &CredentialVersion,
        failure: Failure,
        version: Option<Version>,
    ) -> Step {
        if K::KIND.is_optional() && failure.is_unknown() {
            return self.on_unknown_kind().await;
        }
        let mut failure = failure;
        if failure.may_be_credentials()
            && let Err(error) = self.api.renew(credentials).await
        {
            failure = Failure::Credentials(error.to_string());
        }
        let wait = self.backoff.after_failure(failure.retry_after());
        debug!(?wait, "no response about {}: {failure}", K::KIND);
        self.send(WatchUpdate::failed(K::KIND, &failure)).await;
        sleep(wait).await;
        version.map_or(Step::List, Step::Check)
    }

    /// The server has nothing of this kind, and may have once it is another version.
    async fn on_unknown_kind(&mut self) -> Step {
        debug!("the server has no {}", K::KIND);
        self.store.begin_list();
        let mut update = self.store.end_list::<K>();
        update.state = Some(WatchState::Listed);
        self.send(update).await;
        self.backoff.reset();
        sleep(self.timeouts.watch).await;
        Step::List
    }

    async fn reached(&self) {
        self.send(WatchUpdate::state(K::KIND, WatchState::Reached)).await;
    }

    async fn send(&self, update: WatchUpdate) {
        if !update.is_empty() {
            // The receiver is dropped: `run` sees it too.
            let _: Result<_, _> = self.updates.send(update).await;
        }
    }
}
