//! What is left of kube-proxy on a node: its process, and its rules, which outlive it. Both are
//! found by their names.

use std::fs;
use std::io;
use std::path::Path;

use super::finding::Finding;
use super::netfilter::{self, Found, Kind};

/// The chain that every mode of kube-proxy but nftables begins with.
const CHAIN: &str = "KUBE-SERVICES";

/// kube-proxy's own table, in both families.
const TABLE: &str = "kube-proxy";

/// The number of the first process namespace's inode (`PROC_PID_INIT_INO`).
const ALL_PROCESSES: &str = "pid:[4026531836]";

/// What was found of kube-proxy.
#[derive(Debug)]
pub struct Traces {
    /// The number of its process, if one runs.
    pub process: Option<u32>,
    /// Whether the node's processes are all seen: a container sees its own alone.
    pub sees_all_processes: bool,
    /// Whether the device of its mode `ipvs` is there.
    pub has_ipvs_device: bool,
    /// Its tables and chains in this network namespace.
    pub rules: io::Result<Vec<Found>>,
}

impl Traces {
    /// Those on the node we are on.
    #[must_use]
    pub fn local() -> Self {
        let processes = fs::read_link("/proc/self/ns/pid");
        Self {
            process: process(),
            sees_all_processes: processes.is_ok_and(|own| own == Path::new(ALL_PROCESSES)),
            has_ipvs_device: Path::new("/proc/sys/net/ipv4/conf/kube-ipvs0").exists(),
            rules: rules(),
        }
    }

    /// What to make of them.
    #[must_use]
    pub fn judge(&self) -> [Finding; 2] {
        [self.judge_process(), self.judge_rules()]
    }

    fn judge_process(&self) -> Finding {
        let about = "kube-proxy";
        match self.process {
            Some(process) => Finding::warn(
                about,
                format!("it runs here, as process {process}"),
                "two proxies on one node translate the same packets: keep it off this node, by its \
                 DaemonSet's node affinity or by stopping its service",
            ),
            None if self.sees_all_processes => Finding::ok(about, "it does not run here"),
            None => Finding::ok(
                about,
                "no process of it among those that this container is shown, its own",
            ),
        }
    }

    fn judge_rules(&self) -> Finding {
        let about = "kube-proxy's rules";
        let found = match &self.rules {
            Ok(found) => found,
            Err(error) => {
                return Finding::warn(
                    about,
                    format!("cannot be seen: {error}"),
                    "run weir check as root, or give its process CAP_NET_ADMIN; or look yourself: \
                     `nft list tables` must not name kube-proxy, nor `iptables-save` KUBE-SERVICES",
                );
            }
        };
        let device = self.has_ipvs_device.then(|| "the device kube-ipvs0".to_owned());
        let traces: Vec<String> = found.iter().map(Found::to_string).chain(device).collect();
        if traces.is_empty() {
            return Finding::ok(about, "no trace of them");
        }
        Finding::warn(
            about,
            traces.join(", "),
            "the node's own processes meet them before they meet Weir; once kube-proxy is gone they \
             are stale: remove them with `kube-proxy --cleanup`, of the version that ran, or reboot \
             the drained node",
        )
    }
}

fn process() -> Option<u32> {
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let folder = entry.ok()?.path();
        let name = fs::read_to_string(folder.join("comm")).ok()?;
        let number = folder.file_name()?.to_str()?.parse().ok()?;
        (name.trim() == "kube-proxy").then_some(number)
    })
}

fn rules() -> io::Result<Vec<Found>> {
    let mut found = netfilter::nftables(Kind::Table)?;
    found.retain(|table| table.table == TABLE);
    let chains = netfilter::nftables(Kind::Chain)?;
    found.extend(chains.into_iter().filter(|chain| chain.chain.as_deref() == Some(CHAIN)));
    found.extend(netfilter::iptables(CHAIN)?);
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    fn none() -> Traces {
        Traces {
            process: None,
            sees_all_processes: true,
            has_ipvs_device: false,
            rules: Ok(Vec::new()),
        }
    }

    #[track_caller]
    fn warned(traces: &Traces, found: &str, advice: &str) {
        let findings = traces.judge();
        let warnings: Vec<&Finding> = findings.iter().filter(|f| f.level == Level::Warn).collect();
        let [warning] = warnings.as_slice() else { panic!("{findings:?}") };
        assert!(warning.found.contains(found), "{warning:?}");
        assert!(
            warning.advice.as_deref().is_some_and(|found| found.contains(advice)),
            "{warning:?}"
        );
    }

    #[test]
    fn a_node_without_kube_proxy_has_nothing_to_change() {
        assert!(none().judge().iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn a_container_that_sees_no_kube_proxy_does_not_say_that_there_is_none() {
        let traces = Traces { sees_all_processes: false, ..none() };
        let [process, _] = traces.judge();
        assert!(process.found.contains("this container"), "{process:?}");
    }

    #[test]
    fn kube_proxy_and_what_it_leaves_are_warned_of_with_what_to_do() {
        warned(&Traces { process: Some(42), ..none() }, "process 42", "keep it off this node");
        warned(&Traces { has_ipvs_device: true, ..none() }, "kube-ipvs0", "--cleanup");
        let chain = Found {
            filter: "iptables",
            family: "ip",
            table: "nat".into(),
            chain: Some(CHAIN.into()),
        };
        let traces = Traces { rules: Ok(vec![chain]), ..none() };
        warned(&traces, "chain KUBE-SERVICES in iptables table ip nat", "--cleanup");
    }

    #[test]
    fn rules_that_cannot_be_seen_are_not_taken_for_none() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        let traces = Traces { rules: Err(refused), ..none() };
        warned(&traces, "cannot be seen: Operation not permitted", "CAP_NET_ADMIN");
    }
}
