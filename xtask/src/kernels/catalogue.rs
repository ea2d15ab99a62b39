//! The kernels that Weir claims to run on, and how far each is tried.

use std::fmt;

use super::architecture::Architecture;

/// How much is done in a guest. Each includes what comes before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Depth {
    /// `weir check`, and every program loaded and attached.
    Load,
    /// Every packet case in this kernel, and real traffic in a lab by every kind of hook.
    Lab,
    /// The demonstration of `cargo xtask run`, and all tests of the sections kernel and end-to-end.
    All,
}

/// A kernel by the beginning of its version, and the processor it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kernel {
    /// Such as `6.1` (the newest of the series) or `6.12.43`.
    pub version: String,
    /// Its processor.
    pub architecture: Architecture,
}

/// A line of the set that the README claims.
pub struct Claim {
    version: &'static str,
    architecture: Architecture,
    /// Distributions whose kernels are of this version, or nearest to it.
    pub runs_on: &'static str,
    /// How far it is tried in a run of all tests; `None` in a run of this section alone.
    pub always: Option<Depth>,
}

/// The set that the README claims, and docs/kernels.md shows.
pub const CLAIMS: &[Claim] = &[
    claim("6.1", "Debian 12", Some(Depth::Lab)),
    claim("6.12.43", "Debian 13 at its start, RHEL 10", Some(Depth::Load)),
    claim("6.12", "Debian 13, Amazon Linux 2023, Bottlerocket, Azure Linux", None),
    claim("6.16.3", "Debian backports", None),
    claim("6.17", "Debian backports", None),
    claim("6.18", "Talos, Bottlerocket", None),
    claim("7.2", "Debian testing; Ubuntu 26.04 has 7.0", None),
    claim("7.3", "Debian experimental", None),
    Claim {
        version: "6.12",
        architecture: Architecture::Aarch64,
        runs_on: "Debian 13 on arm64",
        always: None,
    },
];

const fn claim(version: &'static str, runs_on: &'static str, always: Option<Depth>) -> Claim {
    Claim { version, architecture: Architecture::X86_64, runs_on, always }
}

impl Claim {
    /// The kernel it is about.
    pub fn kernel(&self) -> Kernel {
        Kernel { version: self.version.to_owned(), architecture: self.architecture }
    }
}

impl std::str::FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (architecture, version) = match text.split_once(':') {
            None => (Architecture::X86_64, text),
            Some((architecture, version)) => (architecture.parse()?, version),
        };
        let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        if !version.contains('.') || !version.split('.').all(is_number) {
            return Err("a version is like 6.1 or 6.12.43, and arm64:6.12 on 64-bit ARM".into());
        }
        Ok(Self { version: version.to_owned(), architecture })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.architecture {
            Architecture::X86_64 => f.write_str(&self.version),
            Architecture::Aarch64 => write!(f, "arm64:{}", self.version),
        }
    }
}

impl Kernel {
    /// Whether a package's version, such as `6.1.192-2`, is one of these.
    pub fn has(&self, version: &str) -> bool {
        let rest = version.strip_prefix(&self.version);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// The numbers in a version, by which the newest is found: all of the upstream version, then Debian's.
pub fn order(version: &str) -> Vec<u64> {
    let is_digit = |c: char| c.is_ascii_digit();
    version.split(|c| !is_digit(c)).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_named_by_its_version_and_where_needed_its_processor() {
        let kernel: Kernel = "6.12.43".parse().unwrap();
        assert_eq!((kernel.version.as_str(), kernel.architecture.debian()), ("6.12.43", "amd64"));
        let kernel: Kernel = "arm64:6.12".parse().unwrap();
        assert_eq!(kernel.to_string(), "arm64:6.12");
        for wrong in ["6", "six", "6.", "riscv:6.12", ""] {
            assert!(wrong.parse::<Kernel>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_series_has_its_versions_and_no_others() {
        let series: Kernel = "6.1".parse().unwrap();
        assert!(series.has("6.1.192-2") && series.has("6.1-1"));
        assert!(!series.has("6.12.43-1") && !series.has("5.6.1"));
        assert!(order("6.12.117-1") > order("6.12.43-1~bpo12+1"));
        assert!(order("7.2.13-1") > order("7.2.9-1"));
    }
}
