//! Lines of a watch that cannot be read: the same version leads to the same line again, however often
//! it is watched from.

use crate::source::kubernetes::client::Failure;
use crate::source::kubernetes::version::Version;

/// How often one line may fail before a list has to lead past it.
const TRIES: u32 = 3;

/// The line that failed last.
#[derive(Debug, Default)]
pub(super) struct BadLines {
    /// The version that it comes after.
    after: Option<Version>,
    times: u32,
}

impl BadLines {
    /// The line after this version failed once more: whether to list instead of watching from there
    /// again. What an overloaded server sends in place of a line says nothing of the line.
    pub(super) fn is_list_due(&mut self, after: &Version, failure: &Failure) -> bool {
        if matches!(failure, Failure::Status { status: 429, .. }) {
            return false;
        }
        if self.after.as_ref() != Some(after) {
            *self = Self { after: Some(after.clone()), times: 0 };
        }
        self.times += 1;
        let is_due = self.times == TRIES;
        if is_due {
            self.times = 0;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::of(Some(text.into())).unwrap()
    }

    #[test]
    fn every_third_failure_after_one_version_makes_a_list_due() {
        let mut lines = BadLines::default();
        let failure = Failure::Unreadable("no object".into());
        let mut failed = |after| lines.is_list_due(&version(after), &failure);
        assert_eq!([failed("7"), failed("7"), failed("8"), failed("8"), failed("8")], {
            [false, false, false, false, true]
        });
        assert_eq!([failed("8"), failed("8"), failed("8")], [false, false, true]);
    }

    #[test]
    fn an_overloaded_server_is_not_made_to_list() {
        let mut lines = BadLines::default();
        let failure = Failure::Status { status: 429, message: String::new(), retry_after: None };
        assert!((0..9).all(|_| !lines.is_list_due(&version("7"), &failure)));
    }
}
