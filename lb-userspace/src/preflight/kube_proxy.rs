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
    /// How many virtual services its mode `ipvs`, or another program, has given to IPVS.
    pub virtual_services: usize,
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
            virtual_services: virtual_services(),
            rules: rules(),
        }
    }

    /// What to make of them.
    #[must_use]
    pub fn judge(&self) -> Vec<Finding> {
        let all = [Some(self.judge_process()), Some(self.judge_rules()), self.judge_ipvs()];
        all.into_iter().flatten().collect()
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

    /// Something to say only where its mode `ipvs` has left something.
    fn judge_ipvs(&self) -> Option<Finding> {
        let device = self.has_ipvs_device.then(|| "the device kube-ipvs0".to_owned());
        let services = match self.virtual_services {
            0 => None,
            1 => Some("1 virtual service".to_owned()),
            count => Some(format!("{count} virtual services")),
        };
        let found: Vec<String> = device.into_iter().chain(services).collect();
        (!found.is_empty()).then(|| {
            Finding::warn(
                "IPVS",
                found.join(", "),
                "the node takes Services' addresses for its own, and IPVS translates what the node's own \
                 processes send to them; once kube-proxy is gone: ipvsadm --clear; ip link delete \
                 kube-ipvs0",
            )
        })
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
        let traces: Vec<String> = found.iter().map(Found::to_string).collect();
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

/// The virtual services that IPVS has in this network namespace; none if the kernel does not have it.
fn virtual_services() -> usize {
    fs::read_to_string("/proc/net/ip_vs").as_deref().map_or(0, count)
}

/// Behind the head each virtual service has a line that begins with its protocol, each server one that
/// begins with an arrow.
fn count(table: &str) -> usize {
    let is_one = |line: &&str| {
        ["TCP", "UDP", "SCTP", "FWM"].contains(&line.split(' ').next().unwrap_or(line))
    };
    table.lines().filter(is_one).count()
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
            virtual_services: 0,
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
        let process = traces.judge_process();
        assert!(process.found.contains("this container"), "{process:?}");
    }

    #[test]
    fn kube_proxy_and_what_it_leaves_are_warned_of_with_what_to_do() {
        warned(&Traces { process: Some(42), ..none() }, "process 42", "keep it off this node");
        let traces = Traces { has_ipvs_device: true, ..none() };
        warned(&traces, "kube-ipvs0", "ip link delete kube-ipvs0");
        let traces = Traces { virtual_services: 2, ..none() };
        warned(&traces, "2 virtual services", "ipvsadm --clear");
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
    fn virtual_services_are_counted_and_their_servers_are_not() {
        let head = "IP Virtual Server version 1.2.1 (size=4096)\n\
                    Prot LocalAddress:Port Scheduler Flags\n  \
                    -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";
        assert_eq!(count(head), 0);
        let services = "TCP  0A600001:01BB rr\n  -> AC1E000B:192B      Masq    1      0          0\n\
                        UDP  [fd96:0000:0000:0000:0000:0000:0000:000a]:0035 rr\nFWM  00000001 rr\n";
        assert_eq!(count(&format!("{head}{services}")), 3);
    }

    #[test]
    fn rules_that_cannot_be_seen_are_not_taken_for_none() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        let traces = Traces { rules: Err(refused), ..none() };
        warned(&traces, "cannot be seen: Operation not permitted", "CAP_NET_ADMIN");
    }
}
