//! The kernel's own conntrack, whose size and timeouts kube-proxy sets and Weir does not: what Weir
//! translates does not need it, but firewalls, network policies and masquerading of network plugins do.

use super::finding::Finding;
use super::node::facts::setting;
use crate::host::processors;

/// What kube-proxy sets by default (`conntrack` of KubeProxyConfiguration): flows per CPU and at least,
/// and seconds of established flows and of those in CLOSE_WAIT.
const PER_CPU: u32 = 32_768;
const LEAST: u32 = 131_072;
const ESTABLISHED: u32 = 86_400;
const CLOSE_WAIT: u32 = 3_600;

/// The kernel's conntrack, as far as it is set by kube-proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelConntrack {
    /// `net.netfilter.nf_conntrack_max`; `None` where the kernel tracks nothing.
    pub max: Option<u32>,
    /// `net.netfilter.nf_conntrack_tcp_timeout_established`, in seconds.
    pub established: Option<u32>,
    /// `net.netfilter.nf_conntrack_tcp_timeout_close_wait`, in seconds.
    pub close_wait: Option<u32>,
    /// The CPUs that are online, if the kernel says.
    pub cpus: Option<u32>,
}

impl KernelConntrack {
    /// That of this node.
    #[must_use]
    pub fn local() -> Self {
        let of = |name: &str| setting(&format!("net/netfilter/nf_conntrack_{name}"));
        Self {
            max: of("max"),
            established: of("tcp_timeout_established"),
            close_wait: of("tcp_timeout_close_wait"),
            cpus: processors::online().ok(),
        }
    }

    /// How it compares with what kube-proxy would set.
    #[must_use]
    pub fn judge(&self) -> Finding {
        let about = "kernel's conntrack";
        let Some(max) = self.max else {
            return Finding::ok(about, "not in use; Weir does not need it");
        };
        let wanted = self.cpus.unwrap_or(1).saturating_mul(PER_CPU).max(LEAST);
        let timeouts: Vec<String> = [
            ("established", self.established, ESTABLISHED),
            ("close_wait", self.close_wait, CLOSE_WAIT),
        ]
        .into_iter()
        .filter_map(|(state, seconds, kube_proxy)| {
            let seconds = seconds.filter(|seconds| *seconds != kube_proxy)?;
            Some(format!("nf_conntrack_tcp_timeout_{state} is {seconds} ({kube_proxy})"))
        })
        .collect();
        let found = [format!("nf_conntrack_max is {max} ({wanted})")];
        let found = found.into_iter().chain(timeouts).collect::<Vec<String>>().join(", ");
        let found = format!("{found}; in brackets what kube-proxy sets");
        if max >= wanted {
            return Finding::ok(about, found);
        }
        Finding::warn(
            about,
            found,
            format!(
                "Weir leaves it alone, and kube-proxy's values end with the next boot; where firewall, \
                 network policies or masquerading track flows, new ones are dropped once it is full: \
                 sysctl -w net.netfilter.nf_conntrack_max={wanted} \
                 net.netfilter.nf_conntrack_tcp_timeout_established={ESTABLISHED} \
                 net.netfilter.nf_conntrack_tcp_timeout_close_wait={CLOSE_WAIT}, and the same in \
                 /etc/sysctl.d"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    const AS_KUBE_PROXY_SETS_IT: KernelConntrack = KernelConntrack {
        max: Some(LEAST),
        established: Some(ESTABLISHED),
        close_wait: Some(CLOSE_WAIT),
        cpus: Some(2),
    };

    #[test]
    fn a_kernel_that_tracks_nothing_and_one_that_tracks_enough_have_nothing_to_change() {
        let none = KernelConntrack { max: None, ..AS_KUBE_PROXY_SETS_IT }.judge();
        assert_eq!((none.level, none.found.contains("not in use")), (Level::Ok, true));
        let enough = AS_KUBE_PROXY_SETS_IT.judge();
        assert_eq!(enough.level, Level::Ok);
        assert!(enough.found.starts_with("nf_conntrack_max is 131072 (131072); "), "{enough:?}");
    }

    #[test]
    fn one_that_tracks_less_than_kube_proxy_would_let_it_is_warned_of_with_the_command() {
        let finding = KernelConntrack { max: Some(65_536), ..AS_KUBE_PROXY_SETS_IT }.judge();
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.found.contains("nf_conntrack_max is 65536 (131072)"), "{finding:?}");
        assert!(
            finding.advice.unwrap().contains("sysctl -w net.netfilter.nf_conntrack_max=131072 ")
        );
        let finding = KernelConntrack { cpus: Some(8), ..AS_KUBE_PROXY_SETS_IT }.judge();
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.advice.unwrap().contains("nf_conntrack_max=262144 "));
    }

    #[test]
    fn timeouts_that_differ_from_kube_proxys_are_shown() {
        let kernels = KernelConntrack {
            established: Some(432_000),
            close_wait: Some(60),
            ..AS_KUBE_PROXY_SETS_IT
        };
        let finding = kernels.judge();
        assert_eq!(finding.level, Level::Ok);
        for words in ["established is 432000 (86400)", "close_wait is 60 (3600)"] {
            assert!(finding.found.contains(words), "{finding:?}");
        }
    }
}
