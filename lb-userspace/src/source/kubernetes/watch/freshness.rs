//! How fresh a list has to be. A list that may be older than what was seen would take it back; one
//! that has to be the newest costs the server a read of its whole store.

use kube::api::{ListParams, VersionMatch};

use crate::source::kubernetes::version::Version;

/// Objects on a page of a list.
const PAGE: u32 = 500;

/// How fresh a list has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Freshness {
    /// What the watch cache of the server holds, however old.
    Any,
    /// This version or a newer one.
    NotOlderThan(Version),
    /// What the store holds now.
    Newest,
}

impl Freshness {
    /// Says so in `params`.
    ///
    /// The watch cache has no pages: with the version 0 it ignores a limit, with others a limit makes
    /// the server read its store. A server without a cache pages all of them.
    pub(super) fn apply(&self, params: &mut ListParams, has_cache: bool) {
        let version = match self {
            Self::Any => Some("0"),
            Self::NotOlderThan(version) => Some(version.as_str()),
            Self::Newest => None,
        };
        params.resource_version = version.map(String::from);
        params.version_match = version.map(|_| VersionMatch::NotOlderThan);
        let is_whole = has_cache && matches!(self, Self::NotOlderThan(_));
        params.limit = (!is_whole).then_some(PAGE);
    }
}

/// What decides how fresh the next list has to be.
#[derive(Debug, Default)]
pub(super) struct Seen {
    version: Option<Version>,
    /// The server has not got `version`, or what it has since is of no use.
    is_unavailable: bool,
    /// The first list came in pages, so the server has no watch cache.
    is_paged: bool,
}

impl Seen {
    /// As client-go's reflector decides it, but for what was seen of a list that broke off: pages
    /// count as they come.
    /// <https://github.com/kubernetes/client-go/blob/v0.36.2/tools/cache/reflector.go#L1116>
    pub(super) fn next_list(&self) -> Freshness {
        match &self.version {
            _ if self.is_unavailable => Freshness::Newest,
            None => Freshness::Any,
            Some(version) => Freshness::NotOlderThan(version.clone()),
        }
    }

    /// Whether lists of a version can be had from a watch cache.
    pub(super) fn has_cache(&self) -> bool {
        !self.is_paged
    }

    /// A page of a list, or an event, bears this version.
    pub(super) fn saw(&mut self, version: &Version) {
        self.version = Some(version.clone());
    }

    /// A list of this freshness is complete.
    pub(super) fn listed(&mut self, freshness: &Freshness, is_paged: bool) {
        self.is_unavailable = false;
        if *freshness == Freshness::Any {
            self.is_paged = is_paged;
        }
    }

    /// Nothing but a list of the newest helps: the server has not got what was seen.
    pub(super) fn unavailable(&mut self) {
        self.is_unavailable = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::of(Some(text.into())).unwrap()
    }

    #[test]
    fn after_the_first_list_none_is_older_than_what_was_seen() {
        let mut seen = Seen::default();
        assert_eq!(seen.next_list(), Freshness::Any);
        // The list breaks off after a page.
        seen.saw(&version("7"));
        assert_eq!(seen.next_list(), Freshness::NotOlderThan(version("7")));
    }

    #[test]
    fn a_version_that_is_unavailable_is_not_requested_before_a_list_of_the_newest() {
        let mut seen = Seen::default();
        seen.saw(&version("7"));
        seen.unavailable();
        assert_eq!(seen.next_list(), Freshness::Newest);
        // Its first page alone does not change that.
        seen.saw(&version("5"));
        assert_eq!(seen.next_list(), Freshness::Newest);
        seen.listed(&Freshness::Newest, false);
        assert_eq!(seen.next_list(), Freshness::NotOlderThan(version("5")));
    }

    #[test]
    fn only_a_server_without_a_watch_cache_is_to_page_what_it_may_cache() {
        let limit = |freshness: &Freshness, has_cache| {
            let mut params = ListParams::default();
            freshness.apply(&mut params, has_cache);
            params.limit
        };
        let later = Freshness::NotOlderThan(version("7"));
        assert_eq!(limit(&later, true), None);
        for (freshness, has_cache) in
            [(&later, false), (&Freshness::Any, true), (&Freshness::Newest, true)]
        {
            assert_eq!(limit(freshness, has_cache), Some(PAGE));
        }
    }
}
