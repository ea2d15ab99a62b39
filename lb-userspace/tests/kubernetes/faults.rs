//! What an API server can do wrong, as switches.

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    List,
    Watch,
    Create,
}

/// An answer that is none, so many times.
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

/// How a watch's lines are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Manner {
    #[default]
    Properly,
    /// The next line is cut off in the middle, and the connection with it.
    CutOnce,
    /// A few bytes at a time.
    Slowly,
    /// Each line twice, and the one before once more.
    Repeatedly,
    /// Not at all: the connection stands and says nothing.
    Never,
}

#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub refusals: Vec<Refusal>,
    pub manner: Manner,
    /// A watch from before the history is refused with 410 at its start, not within the stream.
    pub gone_at_start: bool,
    /// So many pages after the first are refused with 410.
    pub lost_pages: u32,
    /// The tokens that count; any, if there are none.
    pub token: Option<String>,
}

impl Faults {
    /// The refusal that this request meets, used up by one.
    pub fn refusal(&mut self, verb: Verb, path: &str) -> Option<Refusal> {
        let meets = |refusal: &&mut Refusal| {
            refusal.times > 0 && refusal.verb == verb && path.ends_with(refusal.path)
        };
        let refusal = self.refusals.iter_mut().find(meets)?;
        refusal.times -= 1;
        Some(refusal.clone())
    }
}
