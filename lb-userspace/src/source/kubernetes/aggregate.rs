//! Puts what the watches have to say together: changes in their order, [`Change::Synced`] once all
//! have listed, and all warnings that hold.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use tracing::info;

use super::kind::Kind;
use crate::model::{Change, Name, Warning};
use crate::source::{SourceEvent, SourceWarning};

/// What a watch has to say.
#[derive(Debug)]
pub(super) struct News {
    kind: Kind,
    pub(super) changes: Vec<Change>,
    /// The warnings about an object; they take the place of those before.
    pub(super) warnings: Vec<(Name, Vec<Warning>)>,
    pub(super) state: Option<State>,
}

/// How it goes between a watch and the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It answers.
    Answers,
    /// It answers, and everything has been told once.
    Listed,
    /// It does not answer, or does not answer what was asked.
    Unanswered {
        /// Why not.
        reason: String,
        /// Whether all watches meet the same.
        concerns_all: bool,
    },
}

impl News {
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, changes: Vec::new(), warnings: Vec::new(), state: None }
    }

    pub(super) fn state(kind: Kind, state: State) -> Self {
        Self { state: Some(state), ..Self::of(kind) }
    }

    /// Nothing is to be warned about this object any more.
    pub(super) fn forget(&mut self, name: &Name) {
        self.warnings.push((name.clone(), Vec::new()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.warnings.is_empty() && self.state.is_none()
    }
}

/// Everything the watches have said, as far as it matters later.
#[derive(Debug)]
pub(super) struct Telling {
    server: String,
    listed: BTreeSet<Kind>,
    warnings: BTreeMap<(Kind, Name), Vec<Warning>>,
    /// The server as a whole does not answer.
    outage: Option<Outage>,
    /// The watches that noticed it.
    cut_off: BTreeSet<Kind>,
    /// Since when, and why, one watch alone has no answer.
    unanswered: BTreeMap<Kind, (Timestamp, String)>,
    /// What was told last.
    told: Vec<SourceWarning>,
    is_stale: bool,
}

/// All watches fail together, but not at the same moment and not in the same words: the first to
/// notice speaks for all, so that an outage is one warning from its beginning to its end.
#[derive(Debug)]
struct Outage {
    since: Timestamp,
    noticed_by: Kind,
    reason: String,
}

impl Telling {
    pub(super) fn about(server: &str) -> Self {
        Self {
            server: server.into(),
            listed: BTreeSet::new(),
            warnings: BTreeMap::new(),
            outage: None,
            cut_off: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            told: Vec::new(),
            is_stale: false,
        }
    }

    /// Takes news in; answers with the changes to tell.
    pub(super) fn changes(&mut self, news: News, now: Timestamp) -> Option<SourceEvent> {
        for (name, warnings) in news.warnings {
            let key = (news.kind, name);
            let before = if warnings.is_empty() {
                self.warnings.remove(&key)
            } else {
                self.warnings.insert(key.clone(), warnings)
            };
            self.is_stale |= before.as_ref() != self.warnings.get(&key);
        }
        let mut changes = news.changes;
        match news.state {
            Some(State::Unanswered { reason, concerns_all: true }) => {
                self.unanswered.remove(&news.kind);
                self.cut_off(news.kind, now, reason);
            }
            Some(State::Unanswered { reason, concerns_all: false }) => {
                self.reached(news.kind);
                self.unanswered(news.kind, now, reason);
                if news.kind.is_optional() {
                    changes.extend(self.listed(news.kind));
                }
            }
            Some(State::Answers) => self.answers(news.kind),
            Some(State::Listed) => {
                self.answers(news.kind);
                changes.extend(self.listed(news.kind));
            }
            None => {}
        }
        (!changes.is_empty()).then_some(SourceEvent::Changes(changes))
    }

    /// The warnings that hold, if they are not those told last.
    pub(super) fn warnings(&mut self) -> Option<SourceEvent> {
        if !std::mem::take(&mut self.is_stale) {
            return None;
        }
        let warnings = self.warnings.values().flatten().cloned();
        let warnings = warnings.map(|warning| SourceWarning::Object { position: None, warning });
        let warnings: Vec<SourceWarning> = self.of_server().into_iter().chain(warnings).collect();
        let is_new = warnings != self.told;
        self.told.clone_from(&warnings);
        is_new.then_some(SourceEvent::Warnings(warnings))
    }

    /// All there is of `kind` has been told, or will not be.
    fn listed(&mut self, kind: Kind) -> Option<Change> {
        let is_new = self.listed.insert(kind);
        (is_new && self.listed.len() == Kind::ALL.len()).then_some(Change::Synced)
    }

    fn cut_off(&mut self, kind: Kind, now: Timestamp, reason: String) {
        self.cut_off.insert(kind);
        let outage = self.outage.get_or_insert_with(|| Outage {
            since: now,
            noticed_by: kind,
            reason: String::new(),
        });
        if outage.noticed_by == kind && outage.reason != reason {
            outage.reason = reason;
            self.is_stale = true;
        }
    }

    /// The server as a whole answers this watch; whether it did not before.
    fn reached(&mut self, kind: Kind) -> bool {
        let was_cut_off = self.cut_off.remove(&kind);
        if was_cut_off && self.cut_off.is_empty() {
            self.outage = None;
            self.is_stale = true;
        }
        was_cut_off
    }

    fn unanswered(&mut self, kind: Kind, now: Timestamp, reason: String) {
        let entry = self.unanswered.entry(kind).or_insert_with(|| (now, String::new()));
        self.is_stale |= entry.1 != reason;
        entry.1 = reason;
    }

    fn answers(&mut self, kind: Kind) {
        let was_unanswered = self.unanswered.remove(&kind).is_some();
        self.is_stale |= was_unanswered;
        let is_back = self.reached(kind) || was_unanswered;
        if is_back && self.cut_off.is_empty() && self.unanswered.is_empty() {
            info!("the API server {} answers again", self.server);
        }
    }

    fn of_server(&self) -> Vec<SourceWarning> {
        let outage = self.outage.iter().map(|outage| {
            let advice = "check that this address is that of an API server and is reachable from \
                          this node without any Service (--master)";
            self.warning("", outage.since, &outage.reason, advice)
        });
        let alone = self.unanswered.iter().map(|(kind, (since, reason))| {
            let advice = "check the server's load and Weir's rights";
            self.warning(&format!(" about {kind}"), *since, reason, advice)
        });
        outage.chain(alone).collect()
    }

    fn warning(&self, about: &str, since: Timestamp, reason: &str, advice: &str) -> SourceWarning {
        let effect = if self.listed.len() == Kind::ALL.len() {
            "what is in the kernel stays, and changes are not seen"
        } else {
            "nothing is changed in the kernel before it answers"
        };
        let since = since.strftime("%Y-%m-%d %H:%M:%S UTC");
        let reason = format!(
            "has given no answer{about} since {since}: {reason}; {effect}. Weir asks again by \
             itself: {advice}"
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

    fn unanswered(kind: Kind, reason: &str, concerns_all: bool) -> News {
        News::state(kind, State::Unanswered { reason: reason.into(), concerns_all })
    }

    fn warnings(telling: &mut Telling) -> Option<Vec<String>> {
        let SourceEvent::Warnings(warnings) = telling.warnings()? else {
            panic!("only warnings");
        };
        Some(warnings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn synced_comes_once_after_every_watch_has_listed() {
        let mut telling = Telling::about("https://10.0.0.1");
        let mut synced = 0;
        for kind in Kind::ALL.into_iter().chain(Kind::ALL).flat_map(|kind| [kind, kind]) {
            let told = telling.changes(News::state(kind, State::Listed), at(0));
            synced += usize::from(told == Some(SourceEvent::Changes(vec![Change::Synced])));
            assert_eq!(synced == 1, telling.listed.len() == Kind::ALL.len());
        }
        assert_eq!(synced, 1);
    }

    #[test]
    fn what_all_works_without_is_not_waited_for_once_the_server_refuses_it() {
        let mut telling = Telling::about("https://10.0.0.1");
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_optional()) {
            assert_eq!(telling.changes(News::state(kind, State::Listed), at(0)), None);
        }
        assert_eq!(telling.changes(unanswered(Kind::ServiceCidr, "refused", true), at(1)), None);
        let told = telling.changes(unanswered(Kind::ServiceCidr, "it refuses", false), at(2));
        assert_eq!(told, Some(SourceEvent::Changes(vec![Change::Synced])));
        let told = warnings(&mut telling).unwrap();
        assert!(told[0].contains("no answer about ServiceCIDRs since"), "{told:?}");
    }

    #[test]
    fn an_outage_is_one_warning_from_its_beginning_to_its_end() {
        let mut telling = Telling::about("https://10.0.0.1");
        assert_eq!(warnings(&mut telling), None);
        for (second, kind, reason) in
            [(0, Kind::Slice, "refused"), (1, Kind::Service, "reset"), (2, Kind::Node, "refused")]
        {
            telling.changes(unanswered(kind, reason, true), at(second));
        }
        let told = warnings(&mut telling).unwrap();
        assert_eq!(told.len(), 1);
        let start = "API server https://10.0.0.1: has given no answer since 1970-01-01 00:00:00 \
                     UTC: refused; nothing is changed";
        assert!(told[0].starts_with(start), "{}", told[0]);
        telling.changes(unanswered(Kind::Service, "late", true), at(9));
        telling.changes(News::state(Kind::Slice, State::Answers), at(10));
        telling.changes(News::state(Kind::Node, State::Answers), at(10));
        assert_eq!(warnings(&mut telling), None);
        telling.changes(News::state(Kind::Service, State::Answers), at(11));
        assert_eq!(warnings(&mut telling).unwrap(), [""; 0]);
    }

    #[test]
    fn what_one_watch_alone_meets_is_a_warning_of_its_own() {
        let mut telling = Telling::about("https://10.0.0.1");
        telling.changes(unanswered(Kind::Slice, "it refuses", false), at(0));
        let told = warnings(&mut telling).unwrap();
        assert!(told[0].contains("no answer about EndpointSlices since"), "{told:?}");
        telling.changes(unanswered(Kind::Slice, "refused", true), at(1));
        let told = warnings(&mut telling).unwrap();
        assert!(told.len() == 1 && told[0].contains("no answer since"), "{told:?}");
    }

    #[test]
    fn a_warning_holds_until_its_object_is_other_or_gone() {
        let mut telling = Telling::about("https://10.0.0.1");
        let name = Name::new("default", "web");
        let mut news = News::of(Kind::Service);
        let warning = Warning { about: "Service default/web".into(), text: "do this".into() };
        news.warnings.push((name.clone(), vec![warning]));
        telling.changes(news, at(0));
        assert_eq!(warnings(&mut telling).unwrap(), ["Service default/web: do this"]);
        let mut news = News::of(Kind::Slice);
        news.forget(&name);
        telling.changes(news, at(0));
        assert_eq!(warnings(&mut telling), None);
        let mut news = News::of(Kind::Service);
        news.forget(&name);
        telling.changes(news, at(0));
        assert_eq!(warnings(&mut telling).unwrap(), [""; 0]);
    }
}
