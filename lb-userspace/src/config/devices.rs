//! Device names by pattern: `eth0,ens*`.

use std::fmt;
use std::str::FromStr;

use glob::Pattern;

/// Patterns of device names, as `--network-devices` and `--pod-devices` take them: comma separated,
/// `*` for any characters, `?` for one, `[ab]` for one of several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceNames(Vec<Pattern>);

impl DeviceNames {
    /// Whether a device of this name is meant.
    #[must_use]
    pub fn contains(&self, device: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(device))
    }

    /// The patterns that match none of `devices`: likely misspelt, or devices that are not there.
    pub fn unmatched<'a>(
        &'a self,
        devices: &'a [impl AsRef<str>],
    ) -> impl Iterator<Item = &'a str> + 'a {
        self.0
            .iter()
            .filter(|pattern| !devices.iter().any(|device| pattern.matches(device.as_ref())))
            .map(Pattern::as_str)
    }
}

impl fmt::Display for DeviceNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pattern) in self.0.iter().enumerate() {
            write!(f, "{}{pattern}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Text that is no list of device names.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum DeviceNamesError {
    /// Nothing between two commas, or nothing at all.
    #[error(
        "a device name is missing: write names or patterns separated by commas, as in eth0,ens*"
    )]
    Empty,
    /// Longer than a device's name can be.
    #[error(
        "{0} is longer than the 15 characters of a device name: write one that `ip link` shows"
    )]
    TooLong(String),
    /// Not a pattern.
    #[error(
        "{0} is no pattern ({1}): write * for any characters, ? for one, [ab] for one of several"
    )]
    Pattern(String, &'static str),
}

impl FromStr for DeviceNames {
    type Err = DeviceNamesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|name| pattern(name.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn pattern(name: &str) -> Result<Pattern, DeviceNamesError> {
    if name.is_empty() {
        return Err(DeviceNamesError::Empty);
    }
    // IFNAMSIZ counts the terminating zero. A pattern may be longer than what it matches.
    if name.len() >= libc::IFNAMSIZ && !name.contains(['*', '[']) {
        return Err(DeviceNamesError::TooLong(name.into()));
    }
    Pattern::new(name).map_err(|error| DeviceNamesError::Pattern(name.into(), error.msg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_device_names() {
        let devices: DeviceNames = "eth0, ens*,wan?".parse().unwrap();
        for device in ["eth0", "ens", "ens18f0", "wan1"] {
            assert!(devices.contains(device), "{device}");
        }
        for device in ["eth", "eth01", "xens1", "wan", "wan12"] {
            assert!(!devices.contains(device), "{device}");
        }
        assert_eq!(devices.to_string(), "eth0,ens*,wan?");
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_told() {
        let devices: DeviceNames = "eth0,ens*".parse().unwrap();
        assert_eq!(devices.unmatched(&["eth0", "lo"]).collect::<Vec<_>>(), ["ens*"]);
    }

    #[test]
    fn what_is_no_list_of_names_is_refused_with_what_to_write() {
        let error = |text: &str| text.parse::<DeviceNames>().unwrap_err().to_string();
        assert!(error("").contains("as in eth0,ens*"));
        assert!(error("eth0,").contains("as in eth0,ens*"));
        assert!(error("eth[0").contains("[ab] for one of several"));
        assert!(error("a-very-long-device-name").contains("ip link"));
    }
}
