//! One kind's watch as a state machine: list, watch from there, and after every failure the next
//! thing that can be right. It never ends by itself and never removes what a list did not miss.
//!
//! kube-runtime's watcher is not used: where the start of a watch answers 410 it asks for the same
//! version for ever, and it says nothing of a server whose history went back.

use std::marker::PhantomData;
use std::time::Duration;

use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::aggregate::{News, State};
use super::backoff::{Backoff, Patience};
use super::client::{self, End, Failure, Line, Lines};
use super::credentials::{Door, Key};
use super::kind::Watched;
use super::store::Known;
use super::version::Version;

/// Objects on a page of a list.
const PAGE: u32 = 500;

/// What to do next.
#[derive(Debug)]
enum Step {
    /// Ask for everything there is.
    List,
    /// Ask whether the server still knows this version: it may have been restored to an older state,
    /// and would then be silent about everything up to the version it had.
    Check(Version),
    /// Listen to what happens from this version on.
    Watch(Version),
}

/// The watch of one kind.
pub(super) struct Watch<'a, K> {
    door: &'a Door,
    node: &'a str,
    patience: Patience,
    news: Sender<News>,
    known: Known,
    backoff: Backoff,
    kind: PhantomData<K>,
}

impl<'a, K: Watched> Watch<'a, K> {
    pub(super) fn new(
        door: &'a Door,
        node: &'a str,
        patience: Patience,
        news: Sender<News>,
    ) -> Self {
        let backoff = Backoff::new(patience);
        Self { door, node, patience, news, known: Known::default(), backoff, kind: PhantomData }
    }

    /// Watches for as long as somebody listens.
    pub(super) async fn run(mut self) {
        let mut step = Step::List;
        while !self.news.is_closed() {
            let key = self.door.newest_key().await;
            step = match step {
                Step::List => match self.list(&key).await {
                    Ok(version) => Step::Watch(version),
                    Err(failure) => self.fail(&key, failure, None).await,
                },
                Step::Check(version) => match self.newest(&key).await {
                    Ok(newest) if newest.is_before(&version) => {
                        debug!(%version, %newest, "the history of {} went back", K::KIND);
                        Step::List
                    }
                    Ok(_) => Step::Watch(version),
                    Err(failure) => self.fail(&key, failure, Some(version)).await,
                },
                Step::Watch(version) => self.watch(&key, version).await,
            };
        }
    }

    /// All there is, page by page; what was known and is not listed is gone.
    async fn list(&mut self, key: &Key) -> Result<Version, Failure> {
        match self.pages(key, Some(PAGE)).await {
            // Pages lapse where reading them takes minutes: the whole takes one answer.
            Err(Failure::Expired) => self.pages(key, None).await,
            result => result,
        }
    }

    async fn pages(&mut self, key: &Key, limit: Option<u32>) -> Result<Version, Failure> {
        let selection = K::selection(self.node);
        let mut params = ListParams {
            label_selector: selection.labels,
            field_selector: selection.fields,
            limit,
            ..ListParams::default()
        };
        self.known.begin_list();
        loop {
            let request = list_request::<K>(&params)?;
            let page = client::page::<K>(&key.client, request, self.patience).await?;
            let news = self.known_page(page.items);
            self.tell(news).await;
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let mut news = self.known.end_list::<K>();
                news.state = Some(State::Listed);
                self.tell(news).await;
                return Version::of(page.metadata.resource_version);
            }
        }
    }

    /// The version of the store as it is now.
    async fn newest(&mut self, key: &Key) -> Result<Version, Failure> {
        let selection = K::selection(self.node);
        let params = ListParams {
            label_selector: selection.labels,
            field_selector: selection.fields,
            limit: Some(1),
            ..ListParams::default()
        };
        let request = list_request::<K>(&params)?;
        let page = client::page::<K>(&key.client, request, self.patience).await?;
        self.answers().await;
        Version::of(page.metadata.resource_version)
    }

    async fn watch(&mut self, key: &Key, mut version: Version) -> Step {
        let begun = Instant::now();
        let opened = match watch_request::<K>(self.node, self.patience, &version) {
            Ok(request) => client::watch(&key.client, request, self.patience).await,
            Err(failure) => Err(failure),
        };
        let mut lines = match opened {
            Ok(lines) => lines,
            Err(Failure::Expired) => return self.expired().await,
            Err(failure) => return self.fail(key, failure, Some(version)).await,
        };
        self.answers().await;
        match self.listen(&mut lines, &mut version).await {
            Ok(End::Closed) if begun.elapsed() >= self.patience.watch => Step::Watch(version),
            Ok(end) => {
                debug!(?end, "the watch of {} ended early", K::KIND);
                sleep(self.backoff.after_failure(None)).await;
                Step::Check(version)
            }
            Err(Failure::Expired) => self.expired().await,
            Err(failure) => self.fail(key, failure, Some(version)).await,
        }
    }

    /// Tells what comes until nothing comes any more.
    async fn listen(&mut self, lines: &mut Lines, version: &mut Version) -> Result<End, Failure> {
        loop {
            let batch = match lines.next().await {
                Ok(batch) => batch,
                Err(end) => return Ok(end),
            };
            let mut news = News::of(K::KIND);
            let result = batch.iter().try_for_each(|line| self.hear(line, version, &mut news));
            self.tell(news).await;
            result?;
            self.backoff.reset();
        }
    }

    fn hear(&mut self, line: &[u8], version: &mut Version, news: &mut News) -> Result<(), Failure> {
        match Line::<K>::read(line) {
            Line::Exists(read, at) => {
                version.advance(at)?;
                self.known.exists(read, news);
            }
            Line::Gone(read, at) => {
                version.advance(at)?;
                self.known.gone(read, news);
            }
            Line::Bookmark(at) => version.advance(Some(at))?,
            Line::Error(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The history from where we were is gone. Waits first: a server that forgets at once must not
    /// be asked for everything again at once, nor by all nodes at the same moment.
    async fn expired(&mut self) -> Step {
        debug!("the history of {} is lost", K::KIND);
        sleep(self.backoff.after_failure(None)).await;
        Step::List
    }

    /// Says that the server did not answer, waits, and goes on from `version`.
    async fn fail(&mut self, key: &Key, failure: Failure, version: Option<Version>) -> Step {
        if K::KIND.is_optional() && failure.is_unknown() {
            return self.none().await;
        }
        let mut failure = failure;
        if failure.may_be_credentials()
            && let Err(error) = self.door.renew(key).await
        {
            failure = Failure::Credentials(error.to_string());
        }
        let wait = self.backoff.after_failure(failure.retry_after());
        debug!(?wait, "no answer about {}: {failure}", K::KIND);
        let concerns_all = failure.concerns_all();
        let state = State::Unanswered { reason: failure.to_string(), concerns_all };
        self.tell(News::state(K::KIND, state)).await;
        sleep(wait).await;
        version.map_or(Step::List, Step::Check)
    }

    /// The server has nothing of this kind, and may have once it is another version.
    async fn none(&mut self) -> Step {
        debug!("the server has no {}", K::KIND);
        self.known.begin_list();
        let mut news = self.known.end_list::<K>();
        news.state = Some(State::Listed);
        self.tell(news).await;
        self.backoff.reset();
        sleep(self.patience.watch).await;
        Step::List
    }

    async fn answers(&self) {
        self.tell(News::state(K::KIND, State::Answers)).await;
    }

    fn known_page(&mut self, items: Vec<client::Read<K>>) -> News {
        let mut news = self.known.page(items);
        news.state = Some(State::Answers);
        news
    }

    async fn tell(&self, news: News) {
        if !news.is_empty() {
            // Nobody listens any more: `run` sees it too.
            let _: Result<_, _> = self.news.send(news).await;
        }
    }
}

fn list_request<K: Watched>(params: &ListParams) -> Result<http::Request<Vec<u8>>, Failure> {
    let request = Request::new(K::url_path(&(), None)).list(params);
    request.map_err(|error| Failure::Unreadable(error.to_string()))
}

fn watch_request<K: Watched>(
    node: &str,
    patience: Patience,
    version: &Version,
) -> Result<http::Request<Vec<u8>>, Failure> {
    let selection = K::selection(node);
    let params = WatchParams {
        label_selector: selection.labels,
        field_selector: selection.fields,
        timeout: u32::try_from(patience.watch.max(Duration::from_secs(1)).as_secs()).ok(),
        bookmarks: true,
        send_initial_events: false,
    };
    let request = Request::new(K::url_path(&(), None)).watch(&params, version.as_str());
    request.map_err(|error| Failure::Unreadable(error.to_string()))
}
