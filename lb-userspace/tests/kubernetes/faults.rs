//! The faults of the API server.

use std::time::Duration;

use axum::body::Body;
use futures::{StreamExt, stream};
use tokio::time::sleep;

use crate::store::Store;

/// The time between two pieces of a list that is sent slowly.
const PAUSE: Duration = Duration::from_millis(100);

/// The kind of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    List,
    Watch,
    Create,
}

/// Error responses to so many requests.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub verb: Verb,
    /// Only requests whose path ends so.
    pub path: &'static str,
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<u32>,
    pub times: u32,
}

/// How a watch sends its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Delivery {
    #[default]
    Properly,
    /// The next event is cut in the middle, and the connection closed.
    CutOnce,
    /// A few bytes at a time.
    Slowly,
    /// Each event twice, and the previous one once more.
    Repeatedly,
    /// Not at all: the connection stays open and silent.
    Never,
}

/// What the server's watch cache holds. Lists that name a version are served from it.
#[derive(Clone, Debug, Default)]
pub enum WatchCache {
    /// What the store holds.
    #[default]
    Fresh,
    /// What the store held once.
    Stale(Box<Store>),
    /// Nothing: every list is served from the store, in pages.
    Off,
}

impl WatchCache {
    /// What it holds of this store, if anything.
    pub fn held<'a>(&'a self, store: &'a Store) -> Option<&'a Store> {
        match self {
            Self::Fresh => Some(store),
            Self::Stale(held) => Some(held),
            Self::Off => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub refusals: Vec<Refusal>,
    pub delivery: Delivery,
    /// A watch of a revision that is compacted is refused with 410 at its start, not within the stream.
    pub gone_at_start: bool,
    /// So many pages after the first are refused with 410.
    pub lost_pages: u32,
    pub watch_cache: WatchCache,
    /// Watches send the change with this revision as a line that cannot be read.
    pub garbled: Option<u64>,
    /// Lists are sent in so many pieces, [`PAUSE`] apart; at once if 0.
    pub list_pieces: usize,
    /// The token that is accepted; any if `None`.
    pub token: Option<String>,
}

impl Faults {
    /// The refusal for this request, counted down by one.
    pub fn refusal(&mut self, verb: Verb, path: &str) -> Option<Refusal> {
        let applies = |refusal: &&mut Refusal| {
            refusal.times > 0 && refusal.verb == verb && path.ends_with(refusal.path)
        };
        let refusal = self.refusals.iter_mut().find(applies)?;
        refusal.times -= 1;
        Some(refusal.clone())
    }

    /// The body of a list.
    pub fn list_body(&self, list: String) -> Body {
        if self.list_pieces == 0 {
            return Body::from(list);
        }
        let size = list.len().div_ceil(self.list_pieces);
        let pieces: Vec<_> = list.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
        let slowly = stream::iter(pieces).then(|piece| async {
            sleep(PAUSE).await;
            Ok::<_, std::io::Error>(piece)
        });
        Body::from_stream(slowly)
    }
}
