//! What a hardened kernel does to BPF programs: blinded constants, and lockdown.

use std::fs;

use super::finding::Finding;
use super::node::facts::setting;

/// How far a kernel is hardened against BPF programs and its users.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hardening {
    /// `net.core.bpf_jit_harden`; `None` where it is not shown.
    pub jit_harden: Option<u32>,
    /// The mode in brackets of `/sys/kernel/security/lockdown`; `None` without lockdown, or where it is
    /// not shown.
    pub lockdown: Option<String>,
}

impl Hardening {
    /// That of this kernel.
    #[must_use]
    pub fn local() -> Self {
        let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok();
        Self {
            jit_harden: setting("net/core/bpf_jit_harden"),
            lockdown: modes.as_deref().and_then(mode),
        }
    }

    /// What it means to programs. `takes_programs` says whether this kernel takes all of Weir's.
    #[must_use]
    pub fn judge(&self, takes_programs: bool) -> Vec<Finding> {
        [self.judge_blinding(), self.judge_lockdown(takes_programs)].into_iter().flatten().collect()
    }

    fn judge_blinding(&self) -> Option<Finding> {
        // 1 is about programs of users without privileges alone.
        (self.jit_harden? == 2).then(|| {
            Finding::warn(
                "BPF hardening",
                "net.core.bpf_jit_harden is 2: constants of all programs are blinded",
                "each constant costs further instructions with every packet: sysctl -w \
                 net.core.bpf_jit_harden=1 blinds those of unprivileged users' programs alone; then \
                 restart the agent, which loads its programs anew",
            )
        })
    }

    /// Weir's programs read packets and maps, and no other memory of the kernel: that is all that
    /// lockdown refuses programs.
    fn judge_lockdown(&self, takes_programs: bool) -> Option<Finding> {
        let about = "kernel lockdown";
        let mode = self.lockdown.as_deref()?;
        Some(match mode {
            "confidentiality" if !takes_programs => Finding::warn(
                about,
                "confidentiality: programs may not read the kernel's memory, and some of Weir's are refused",
                "Weir's do not read it, so the cause may be another; see whether they are taken with \
                 lockdown=integrity on the kernel's command line",
            ),
            "confidentiality" => Finding::ok(
                about,
                "confidentiality: programs may not read the kernel's memory, and Weir's do not",
            ),
            _ => Finding::ok(about, mode),
        })
    }
}

/// The mode that is in force: `none [integrity] confidentiality`.
fn mode(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    fn hardening(jit_harden: u32, modes: &str) -> Hardening {
        Hardening { jit_harden: Some(jit_harden), lockdown: mode(modes) }
    }

    #[test]
    fn blinded_constants_are_warned_of_with_the_command_unless_they_are_other_users() {
        for value in [0, 1] {
            assert_eq!(hardening(value, "").judge(true), []);
        }
        let [finding] = hardening(2, "").judge(true).try_into().unwrap();
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.found.contains("bpf_jit_harden is 2"), "{finding:?}");
        assert!(finding.advice.unwrap().contains("sysctl -w net.core.bpf_jit_harden=1"));
    }

    #[test]
    fn lockdown_matters_where_programs_are_refused() {
        let judge = |modes: &str, taken| {
            let [finding] = hardening(0, modes).judge(taken).try_into().unwrap();
            (finding.level, finding.found, finding.advice)
        };
        let integrity = judge("none [integrity] confidentiality\n", false);
        assert_eq!(integrity, (Level::Ok, "integrity".into(), None));
        assert_eq!(judge("[none] integrity confidentiality\n", true).1, "none");
        let confidential = "none integrity [confidentiality]\n";
        assert_eq!(judge(confidential, true).0, Level::Ok);
        let (level, found, advice) = judge(confidential, false);
        assert_eq!(level, Level::Warn);
        assert!(found.starts_with("confidentiality"), "{found}");
        assert!(advice.unwrap().contains("lockdown=integrity"));
    }
}
