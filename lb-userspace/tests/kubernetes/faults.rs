//! The faults of the API server.

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

#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub refusals: Vec<Refusal>,
    pub delivery: Delivery,
    /// A watch of a revision that is compacted is refused with 410 at its start, not within the stream.
    pub gone_at_start: bool,
    /// So many pages after the first are refused with 410.
    pub lost_pages: u32,
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
}
