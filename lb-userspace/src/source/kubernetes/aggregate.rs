//! Puts together what the watches report: changes in their order, [`Change::Synced`] once all
//! have listed, and all warnings that hold.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tracing::info;

use super::kind::Kind;
use super::update::{WatchState, WatchUpdate};
use crate::model::{Change, Name, Warning};
use crate::source::event::SourceEvent;
use crate::source::warning::SourceWarning;

/// Everything the watches have reported, as far as it matters later.
#[derive(Debug)]
pub(super) struct Aggregator {
    server: String,
    listed: BTreeSet<Kind>,
    warnings: BTreeMap<(Kind, Name), Vec<Warning>>,
    /// The server as a whole does not respond.
    outage: Option<Outage>,
    /// The watches that noticed it.
    cut_off: BTreeSet<Kind>,
    /// Since when, and why, one watch alone fails.
    failing: BTreeMap<Kind, (Timestamp, Why)>,
    /// The warnings sent last.
    sent: Vec<SourceWarning>,
    is_stale: bool,
}

/// All watches fail together, but not at the same moment and not in the same words: the first to
/// notice counts for all, so that an outage is one warning from its beginning to its end.
#[derive(Debug)]
struct Outage {
    since: Timestamp,
    noticed_by: Kind,
    why: Why,
    /// The reasons, and when each was reported last: those that alternate are not reported each time.
    reported: BTreeMap<String, Timestamp>,
}

/// After this time a reason that comes again is reported again.
const REPORT_AGAIN: SignedDuration = SignedDuration::from_mins(2);

/// Why the server does not respond, and what to do where that does not say.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Why {
    reason: String,
    advice: Option<&'static str>,
}

impl Aggregator {
    pub(super) fn about(server: &str) -> Self {
        Self {
            server: server.into(),
            listed: BTreeSet::new(),
            warnings: BTreeMap::new(),
            outage: None,
            cut_off: BTreeSet::new(),
            failing: BTreeMap::new(),
            sent: Vec::new(),
            is_stale: false,
        }
    }

    /// Takes an update in; returns the changes to send.
    pub(super) fn changes(&mut self, update: WatchUpdate, now: Timestamp) -> Option<SourceEvent> {
        for (name, warnings) in update.warnings {
            let key = (update.kind, name);
            let before = if warnings.is_empty() {
                self.warnings.remove(&key)
            } else {
                self.warnings.insert(key.clone(), warnings)
            };
            self.is_stale |= before.as_ref() != self.warnings.get(&key);
        }
        let mut changes = update.changes;
        match update.state {
            Some(WatchState::Failed { reason, advice, concerns_all: true }) => {
                self.failing.remove(&update.kind);
                self.cut_off(update.kind, now, Why { reason, advice });
            }
            Some(WatchState::Failed { reason, advice, concerns_all: false }) => {
                self.reconnected(update.kind);
                self.failed(update.kind, now, Why { reason, advice });
                if update.kind.is_optional() {
                    changes.extend(self.listed(update.kind));
                }
            }
            Some(WatchState::Reached) => self.reached(update.kind),
            Some(WatchState::Listed) => {
                self.reached(update.kind);
                changes.extend(self.listed(update.kind));
            }
            None => {}
        }
        (!changes.is_empty()).then_some(SourceEvent::Changes(changes))
    }

    /// The warnings that hold, if they are not those sent last.
    pub(super) fn warnings(&mut self) -> Option<SourceEvent> {
        if !std::mem::take(&mut self.is_stale) {
            return None;
        }
        let warnings = self.warnings.values().flatten().cloned();
        let warnings = warnings.map(|warning| SourceWarning::Object { position: None, warning });
        let warnings: Vec<SourceWarning> = self.of_server().into_iter().chain(warnings).collect();
        let is_new = warnings != self.sent;
        self.sent.clone_from(&warnings);
        is_new.then_some(SourceEvent::Warnings(warnings))
    }

    /// Everything of `kind` has been listed, or will not be.
    fn listed(&mut self, kind: Kind) -> Option<Change> {
        let is_new = self.listed.insert(kind);
        (is_new && self.listed.len() == Kind::ALL.len()).then_some(Change::Synced)
    }

    fn cut_off(&mut self, kind: Kind, now: Timestamp, why: Why) {
        self.cut_off.insert(kind);
        let Some(outage) = &mut self.outage else {
            let reported = BTreeMap::from([(why.reason.clone(), now)]);
            self.outage = Some(Outage { since: now, noticed_by: kind, why, reported });
            self.is_stale = true;
            return;
        };
        outage.reported.retain(|_, last| now.duration_since(*last) < REPORT_AGAIN);
        if outage.noticed_by == kind && !outage.reported.contains_key(&why.reason) {
            outage.reported.insert(why.reason.clone(), now);
            outage.why = why;
            self.is_stale = true;
        }
    }

    /// The server as a whole responds to this watch; returns whether it did not before.
    fn reconnected(&mut self, kind: Kind) -> bool {
        let was_cut_off = self.cut_off.remove(&kind);
        if was_cut_off && self.cut_off.is_empty() {
            self.outage = None;
            self.is_stale = true;
        }
        was_cut_off
    }

    fn failed(&mut self, kind: Kind, now: Timestamp, why: Why) {
        let (_, before) = self.failing.entry(kind).or_insert_with(|| {
            self.is_stale = true;
            (now, why.clone())
        });
        if *before != why {
            *before = why;
            self.is_stale = true;
        }
    }

    fn reached(&mut self, kind: Kind) {
        let was_failing = self.failing.remove(&kind).is_some();
        self.is_stale |= was_failing;
        let is_back = self.reconnected(kind) || was_failing;
        if is_back && self.cut_off.is_empty() && self.failing.is_empty() {
            info!("the API server {} responds again", self.server);
        }
    }

    fn of_server(&self) -> Vec<SourceWarning> {
        let outage = self.outage.iter().map(|outage| self.warning("", outage.since, &outage.why));
        let alone = self
            .failing
            .iter()
            .map(|(kind, (since, why))| self.warning(&format!(" about {kind}"), *since, why));
        outage.chain(alone).collect()
    }

    fn warning(&self, about: &str, since: Timestamp, why: &Why) -> SourceWarning {
        let effect = if self.listed.len() == Kind::ALL.len() {
            "what is in the kernel stays, and changes are not seen"
        } else {
            "nothing is changed in the kernel before it responds"
        };
        let since = since.strftime("%Y-%m-%d %H:%M:%S UTC");
        let reason = &why.reason;
        let advice = why.advice.map_or_else(String::new, |advice| format!(": {advice}"));
        let reason = format!(
            "no response{about} since {since}: {reason}; {effect}. Weir tries again by itself{advice}"
        );
        SourceWarning::Server { server: self.server.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn failure(kind: Kind, reason: &str, concerns_all: bool) -> WatchUpdate {
        let (reason, advice) = (reason.into(), Some("look there"));
        WatchUpdate::state(kind, WatchState::Failed { reason, advice, concerns_all })
    }

    fn warnings(aggregator: &mut Aggregator) -> Option<Vec<String>> {
        let SourceEvent::Warnings(warnings) = aggregator.warnings()? else {
            panic!("only warnings");
        };
        Some(warnings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn synced_comes_once_after_every_watch_has_listed() {
        let mut aggregator = Aggregator::about("https://10.0.0.1");
        let mut synced = 0;
        for kind in Kind::ALL.into_iter().chain(Kind::ALL).flat_map(|kind| [kind, kind]) {
            let found = aggregator.changes(WatchUpdate::state(kind, WatchState::Listed), at(0));
            synced += usize::from(found == Some(SourceEvent::Changes(vec![Change::Synced])));
            assert_eq!(synced == 1, aggregator.listed.len() == Kind::ALL.len());
        }
        assert_eq!(synced, 1);
    }

    #[test]
    fn what_all_works_without_is_not_waited_for_once_the_server_refuses_it() {
        let mut aggregator = Aggregator::about("https://10.0.0.1");
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_optional()) {
            assert_eq!(
                aggregator.changes(WatchUpdate::state(kind, WatchState::Listed), at(0)),
                None
            );
        }
        assert_eq!(aggregator.changes(failure(Kind::ServiceCidr, "refused", true), at(1)), None);
        let found = aggregator.changes(failure(Kind::ServiceCidr, "it refuses", false), at(2));
        assert_eq!(found, Some(SourceEvent::Changes(vec![Change::Synced])));
        let found = warnings(&mut aggregator).unwrap();
        assert!(found[0].contains("no response about ServiceCIDRs since"), "{found:?}");
    }

    #[test]
    fn an_outage_is_one_warning_from_its_beginning_to_its_end() {
        let mut aggregator = Aggregator::about("https://10.0.0.1");
        assert_eq!(warnings(&mut aggregator), None);
        for (second, kind, reason) in
            [(0, Kind::Slice, "refused"), (1, Kind::Service, "reset"), (2, Kind::Node, "refused")]
        {
            aggregator.changes(failure(kind, reason, true), at(second));
        }
        let found = warnings(&mut aggregator).unwrap();
        assert_eq!(found.len(), 1);
        let start = "API server https://10.0.0.1: no response since 1970-01-01 00:00:00 \
                     UTC: refused; nothing is changed";
        assert!(found[0].starts_with(start), "{}", found[0]);
        assert!(found[0].ends_with(". Weir tries again by itself: look there"), "{}", found[0]);
        aggregator.changes(failure(Kind::Slice, "reset", true), at(3));
        assert!(warnings(&mut aggregator).unwrap()[0].contains("UTC: reset; "));
        for (second, reason) in [(4, "refused"), (5, "reset"), (6, "refused")] {
            aggregator.changes(failure(Kind::Slice, reason, true), at(second));
            assert_eq!(warnings(&mut aggregator), None, "reported already");
        }
        aggregator.changes(failure(Kind::Slice, "refused", true), at(200));
        assert!(warnings(&mut aggregator).unwrap()[0].contains("UTC: refused; "), "it is so again");
        aggregator.changes(failure(Kind::Service, "late", true), at(209));
        aggregator.changes(WatchUpdate::state(Kind::Slice, WatchState::Reached), at(210));
        aggregator.changes(WatchUpdate::state(Kind::Node, WatchState::Reached), at(210));
        assert_eq!(warnings(&mut aggregator), None);
        aggregator.changes(WatchUpdate::state(Kind::Service, WatchState::Reached), at(211));
        assert_eq!(warnings(&mut aggregator).unwrap(), [""; 0]);
    }

    #[test]
    fn what_one_watch_alone_meets_is_a_warning_of_its_own() {
        let mut aggregator = Aggregator::about("https://10.0.0.1");
        aggregator.changes(failure(Kind::Slice, "it refuses", false), at(0));
        let found = warnings(&mut aggregator).unwrap();
        assert!(found[0].contains("no response about EndpointSlices since"), "{found:?}");
        aggregator.changes(failure(Kind::Slice, "refused", true), at(1));
        let found = warnings(&mut aggregator).unwrap();
        assert!(found.len() == 1 && found[0].contains("no response since"), "{found:?}");
    }

    #[test]
    fn a_warning_holds_until_its_object_is_other_or_gone() {
        let mut aggregator = Aggregator::about("https://10.0.0.1");
        let name = Name::new("default", "web");
        let mut update = WatchUpdate::of(Kind::Service);
        let warning = Warning { about: "Service default/web".into(), text: "do this".into() };
        update.warnings.push((name.clone(), vec![warning]));
        aggregator.changes(update, at(0));
        assert_eq!(warnings(&mut aggregator).unwrap(), ["Service default/web: do this"]);
        let mut update = WatchUpdate::of(Kind::Slice);
        update.forget(&name);
        aggregator.changes(update, at(0));
        assert_eq!(warnings(&mut aggregator), None);
        let mut update = WatchUpdate::of(Kind::Service);
        update.forget(&name);
        aggregator.changes(update, at(0));
        assert_eq!(warnings(&mut aggregator).unwrap(), [""; 0]);
    }
}
