//! Resource versions. They are numbers that grow with the store (KEP-5504), which distinguishes a
//! store that was restored to an older state from one that went on.

use std::fmt;

use super::client::Failure;

/// A version of the store: where a watch stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Version(String);

impl Version {
    /// The version that a list bears.
    pub(super) fn of(version: Option<String>) -> Result<Self, Failure> {
        let version = version.filter(|version| !version.is_empty());
        version.map(Self).ok_or_else(|| Failure::Unreadable("a list without a version".into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this one is older. Of versions that are no numbers nothing is known.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        let number = |version: &Self| version.0.parse::<u128>().ok();
        number(self).zip(number(other)).is_some_and(|(this, other)| this < other)
    }

    /// Takes the version of the next event. The same one again means no change; an older one cannot
    /// be, unless the history is not the one that was listened to so far.
    pub(super) fn advance(&mut self, next: Option<String>) -> Result<(), Failure> {
        let next = Self::of(next)?;
        if next.is_before(self) {
            return Err(Failure::Expired);
        }
        *self = next;
        Ok(())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::of(Some(text.into())).unwrap()
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("9").is_before(&version("10")));
        assert!(!version("10").is_before(&version("10")));
        assert!(!version("a").is_before(&version("b")));
    }

    #[test]
    fn a_version_advances_and_an_older_one_means_a_lost_history() {
        let mut at = version("7");
        at.advance(Some("7".into())).unwrap();
        at.advance(Some("9".into())).unwrap();
        assert_eq!(at.advance(Some("8".into())), Err(Failure::Expired));
        assert_eq!(at, version("9"));
        assert!(at.advance(None).is_err());
    }
}
