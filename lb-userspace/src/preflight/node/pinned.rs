//! What is pinned on this node, if another release made it or an agent was stopped while it took over.

use std::path::{Path, PathBuf};

use lb_common::layout::VERSION;

use crate::datapath::attach::has_filters;
use crate::pins::{Handover, PinError, Pins};
use crate::preflight::finding::Finding;

/// What the finding is about.
const ABOUT: &str = "pins";

const CANNOT_BE_TAKEN_OVER: &str =
    "it cannot be taken over: weir detach, which ends translated connections, and then weir run";

/// What the maps of a set look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PinnedLayout {
    /// As this release's.
    Own,
    /// As another release's, of this version.
    Other(u32),
    /// It does not say.
    Unknown,
}

/// A set of maps that is pinned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinnedMaps {
    /// Its directory.
    pub directory: PathBuf,
    /// What they look like.
    pub layout: PinnedLayout,
    /// How far they have been handed over to the next set.
    pub handover: Handover,
    /// Whether programs that are attached may use them. Whose maps a filter's program uses is not known, if there are
    /// several sets.
    pub in_use: bool,
}

/// The sets of maps that are pinned, the oldest first; or why they cannot be read.
#[derive(Debug)]
pub struct Pinned(pub Result<Vec<PinnedMaps>, PinError>);

impl Pinned {
    /// Those below `bpffs`.
    #[must_use]
    pub fn local(bpffs: &Path) -> Self {
        let at = Pins::at(&bpffs.join(format!("weir/v{VERSION}")));
        let read = || at.generations()?.iter().map(PinnedMaps::of).collect();
        Self(read())
    }

    /// What is to be done about them.
    #[must_use]
    pub fn judge(&self) -> Finding {
        match &self.0 {
            Ok(sets) => judge_sets(sets),
            Err(PinError::Layout(directory, error)) => Finding::fail(
                ABOUT,
                format!("{}: {error}", directory.display()),
                CANNOT_BE_TAKEN_OVER,
            ),
            Err(error) => Finding::warn(
                ABOUT,
                format!("cannot be read: {error}"),
                "run weir check again, as root: an agent may have been at work on them",
            ),
        }
    }
}

impl PinnedMaps {
    fn of(set: &Pins) -> Result<Self, PinError> {
        let layout = match set.other_layout() {
            None => PinnedLayout::Own,
            Some(_) if set.layout_text()?.is_none() => PinnedLayout::Unknown,
            Some(layout) => PinnedLayout::Other(layout.version),
        };
        let directory = set.directory().into();
        // What cannot be read may be in use.
        let in_use = has_filters().unwrap_or(true) || !set.all_links()?.is_empty();
        Ok(Self { directory, layout, handover: set.handover()?, in_use })
    }
}

fn judge_sets(sets: &[PinnedMaps]) -> Finding {
    // Each hands over to the next one; those behind one that does not are not in use.
    let needed: Vec<&PinnedMaps> =
        sets.iter().filter(|set| set.handover != Handover::Done).collect();
    let in_use = needed.iter().position(|set| set.handover == Handover::None);
    let (needed, unused) = needed.split_at(in_use.map_or(needed.len(), |index| index + 1));
    let Some(newest) = needed.last() else {
        return Finding::ok(ABOUT, "none: `weir run` makes them");
    };
    let directory = newest.directory.display();
    if let [from, ..] = needed
        && needed.len() > 1
    {
        return Finding::warn(
            ABOUT,
            format!("{directory} has not quite taken over from {}", from.directory.display()),
            "connections go on; an agent completes it when it starts: weir run, or delete the agent's pod",
        );
    }
    match newest.layout {
        PinnedLayout::Unknown if sets.len() == 1 && !newest.in_use => Finding::ok(
            ABOUT,
            format!(
                "{directory} is made at this moment, or was only half: `weir run` makes it anew"
            ),
        ),
        PinnedLayout::Unknown => Finding::fail(
            ABOUT,
            format!("{directory} does not say what its maps look like"),
            CANNOT_BE_TAKEN_OVER,
        ),
        PinnedLayout::Other(version) => Finding::warn(
            ABOUT,
            format!(
                "{directory} is {} release's",
                if version > VERSION { "a newer" } else { "another" }
            ),
            "`weir show` and `weir explain` of this release cannot read it; to take over, with all connections: weir run",
        ),
        PinnedLayout::Own if unused.is_empty() && needed.len() == sets.len() => {
            Finding::ok(ABOUT, format!("{directory}, of this release's layout"))
        }
        PinnedLayout::Own => Finding::warn(
            ABOUT,
            format!("beside {directory} there are maps that nothing uses"),
            "they take memory; an agent removes them when it starts: weir run, or delete the agent's pod",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::Layout;
    use crate::preflight::finding::Level;

    fn set(layout: PinnedLayout, handover: Handover) -> PinnedMaps {
        PinnedMaps { directory: "/sys/fs/bpf/weir/v3".into(), layout, handover, in_use: true }
    }

    #[track_caller]
    fn check(sets: &[PinnedMaps], level: Level, found: &str, advice: &str) {
        let finding = Pinned(Ok(sets.into())).judge();
        assert_eq!(finding.level, level, "{finding:?}");
        assert!(finding.found.contains(found), "{finding:?}");
        assert!(finding.advice.as_deref().unwrap_or_default().contains(advice), "{finding:?}");
    }

    #[test]
    fn a_node_that_is_new_or_has_this_release_has_nothing_to_change() {
        check(&[], Level::Ok, "none", "");
        check(&[set(PinnedLayout::Own, Handover::None)], Level::Ok, "of this release's", "");
        let made = PinnedMaps { in_use: false, ..set(PinnedLayout::Unknown, Handover::None) };
        check(&[made], Level::Ok, "makes it anew", "");
    }

    #[test]
    fn another_release_is_named_with_what_takes_over() {
        let other = |version| [set(PinnedLayout::Other(version), Handover::None)];
        check(&other(VERSION + 1), Level::Warn, "a newer release's", "weir run");
        check(&other(VERSION - 1), Level::Warn, "another release's", "weir run");
    }

    #[test]
    fn a_takeover_that_was_begun_is_completed_by_an_agent() {
        let own = set(PinnedLayout::Own, Handover::None);
        let begun = set(PinnedLayout::Other(2), Handover::Begun);
        check(&[begun.clone(), own.clone()], Level::Warn, "not quite taken over", "weir run");
        check(&[begun.clone(), begun, own], Level::Warn, "not quite taken over", "weir run");
    }

    #[test]
    fn maps_that_nothing_uses_are_named() {
        let own = set(PinnedLayout::Own, Handover::None);
        let made = set(PinnedLayout::Other(2), Handover::None);
        check(&[own.clone(), made], Level::Warn, "nothing uses", "weir run");
        let done = set(PinnedLayout::Other(2), Handover::Done);
        check(&[done, own], Level::Warn, "nothing uses", "weir run");
    }

    #[test]
    fn what_cannot_be_taken_over_fails_with_the_command_that_detaches_it() {
        let unknown = set(PinnedLayout::Unknown, Handover::None);
        check(&[unknown], Level::Fail, "does not say", "weir detach");
        let error = Layout::parse("map A one").unwrap_err();
        let finding = Pinned(Err(PinError::Layout("/sys/fs/bpf/weir/v9".into(), error))).judge();
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.found.contains("v9: line 1 "), "{finding:?}");
        assert!(finding.advice.is_some_and(|advice| advice.contains("weir detach")));
    }

    #[test]
    fn pins_that_cannot_be_read_are_not_taken_for_none() {
        let finding = Pinned(Err(PinError::Nothing("/sys/fs/bpf/weir".into()))).judge();
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.advice.is_some_and(|advice| advice.contains("as root")));
    }
}
