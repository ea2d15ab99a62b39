//! What Weir needs of a kernel, judged on what a trial found.

use super::finding::Finding;
use crate::datapath::attach::Tc;
use crate::datapath::features::Features;
use crate::datapath::load_error::LoadError;
use crate::datapath::programs::{NETNS_COOKIE_PROGRAM, Program, SOCKET_PROGRAMS};
use crate::pins::AttachPoint;

/// What to do about an unexpected refusal.
const REPORT: &str = "this is a fault of Weir's, or a kernel that it cannot use: docs/kernels.md lists \
                      those that it was seen to work on. Report it to Weir's developers, with these \
                      lines";

/// Something to say only where the kernel refuses the programs of tunnels.
fn judge_l3(refused: &[(&'static str, String)]) -> Option<Finding> {
    let of_tunnels = |(name, _): &&(&str, String)| Program::L3.iter().any(|l3| l3.name() == *name);
    let (name, cause) = refused.iter().find(of_tunnels)?;
    let found = format!("{name} is refused: {cause}");
    Some(Finding::warn(
        "tunnels",
        found,
        format!("WireGuard's and IPIP's are not served; {REPORT}"),
    ))
}

/// A kernel, as far as Weir depends on it.
#[derive(Debug)]
pub struct Kernel {
    /// As `uname -r` has it.
    pub release: String,
    /// How programs are attached at TC.
    pub tc: Tc,
    /// What it can do.
    pub features: Features,
    /// The programs that are refused; or why none could be tried.
    pub refused: Result<Vec<(&'static str, String)>, LoadError>,
    /// Whether a program could be attached at each point; `None` if that could not be tried.
    pub attach_points: Option<Vec<(AttachPoint, Result<(), String>)>>,
    /// Whether UDP sockets can be listed and destroyed.
    pub can_destroy_sockets: Result<(), String>,
    /// Whether processes can read the cookie of their network namespace (`SO_NETNS_COOKIE`).
    pub has_netns_cookie: bool,
}

impl Kernel {
    /// What it means. `is_capable` says whether this process may load programs: else what the kernel
    /// refuses says nothing of the kernel.
    #[must_use]
    pub fn judge(&self, is_capable: bool) -> Vec<Finding> {
        let mut findings = vec![Finding::ok("kernel", format!("Linux {}", self.release))];
        if !is_capable {
            findings.push(Finding::warn(
                "programs",
                "not tried, for want of capabilities",
                "run `weir check` as root to see whether this kernel takes them",
            ));
            return findings;
        }
        findings.push(self.judge_packet_programs());
        if let Ok(refused) = &self.refused {
            findings.push(self.judge_xdp(refused));
            findings.push(self.judge_tc());
            findings.extend(judge_l3(refused));
            findings.push(self.judge_socket_programs(refused));
        }
        findings.push(self.judge_sock_destroy());
        findings
    }

    fn judge_packet_programs(&self) -> Finding {
        let about = "programs";
        let refused = match &self.refused {
            Err(error) => {
                let advice = match error {
                    LoadError::Missing | LoadError::Unreadable { .. } => "see what was found",
                    LoadError::Maps(_) => "give this process the memory for its maps",
                    LoadError::TooOld => "boot Linux 5.12 or later",
                    LoadError::Pins(_) | LoadError::Program { .. } => REPORT,
                };
                return Finding::fail(about, error.to_string(), advice);
            }
            Ok(refused) => refused,
        };
        let at_tc = |(name, _): &&(&str, String)| Program::TC.iter().any(|tc| tc.name() == *name);
        match refused.iter().find(at_tc) {
            Some((name, cause)) => {
                Finding::fail(about, format!("{name} is refused: {cause}"), REPORT)
            }
            None => Finding::ok(about, "the kernel takes those that balance packets"),
        }
    }

    fn judge_xdp(&self, refused: &[(&'static str, String)]) -> Finding {
        let program = Program::NetworkXdp.name();
        let loaded = refused.iter().find(|(name, _)| *name == program).map(|(_, cause)| cause);
        let at_device =
            self.attached_at(AttachPoint::XdpGeneric).and_then(|result| result.as_ref().err());
        match loaded.or(at_device) {
            Some(cause) => Finding::warn(
                "XDP",
                format!("{program} is refused: {cause}"),
                format!("TC does the same at a higher cost; {REPORT}"),
            ),
            None if self.attach_points.is_none() => Finding::ok(
                "XDP",
                "the kernel takes the program; not tried on a device, which needs CAP_SYS_ADMIN",
            ),
            None => Finding::ok("XDP", "the kernel takes the program"),
        }
    }

    fn judge_tc(&self) -> Finding {
        for point in [AttachPoint::Ingress, AttachPoint::Egress] {
            if let Some(Err(error)) = self.attached_at(point) {
                return Finding::fail(
                    "TC",
                    format!("no program can be put on a device ({point}): {error}"),
                    match self.tc {
                        Tc::Tcx => REPORT,
                        Tc::Clsact => {
                            "load the modules that kernels before 6.6 need for it: modprobe sch_ingress; \
                             modprobe cls_bpf"
                        }
                    },
                );
            }
        }
        let how = match self.tc {
            Tc::Tcx => "by links (tcx)",
            Tc::Clsact => {
                "by filters of a clsact qdisc, which others may remove: this kernel has no links at TC \
                 (Linux 6.6 has)"
            }
        };
        match &self.attach_points {
            Some(_) => Finding::ok("TC", how),
            None => Finding::ok("TC", format!("{how}; not tried, which needs CAP_SYS_ADMIN")),
        }
    }

    fn judge_socket_programs(&self, refused: &[(&'static str, String)]) -> Finding {
        let about = "socket programs";
        let of_sockets = |(name, _): &&(&str, String)| SOCKET_PROGRAMS.contains(name);
        if let Some((name, cause)) = refused.iter().find(of_sockets) {
            return Finding::warn(
                about,
                format!("{name} is refused: {cause}"),
                format!(
                    "the node's own processes are not balanced, everything else is: set \
                     --socket-balancing off if it is meant so; {REPORT}"
                ),
            );
        }
        let cookie_program = refused.iter().find(|(name, _)| *name == NETNS_COOKIE_PROGRAM);
        if let (false, Some((name, cause))) = (self.has_netns_cookie, cookie_program) {
            return Finding::warn(
                about,
                format!("the cookie of our network namespace cannot be read: {name}: {cause}"),
                "the node's own processes are not balanced, everything else is: a kernel with \
                 SO_NETNS_COOKIE (Linux 5.14) has it; or set --socket-balancing off if it is meant so",
            );
        }
        if self.features.sets_errors() {
            return Finding::ok(about, "the kernel takes those of the node's own processes");
        }
        Finding::ok(
            about,
            "the kernel takes those of the node's own processes; a datagram that is rejected fails with \
             EPERM instead of ECONNREFUSED, for bpf_set_retval is missing (Linux 6.1 has it)",
        )
    }

    fn judge_sock_destroy(&self) -> Finding {
        let about = "connected UDP";
        match &self.can_destroy_sockets {
            Ok(()) => Finding::ok(about, "sockets whose backend is gone can be destroyed"),
            Err(error) => Finding::warn(
                about,
                format!("sockets whose backend is gone cannot be destroyed: {error}"),
                "connected UDP sockets of the node's own processes go on sending to it until they \
                 connect anew: modprobe udp_diag; the kernel needs CONFIG_INET_UDP_DIAG and \
                 CONFIG_INET_DIAG_DESTROY",
            ),
        }
    }

    fn attached_at(&self, point: AttachPoint) -> Option<&Result<(), String>> {
        let attach_points = self.attach_points.iter().flatten();
        attach_points.into_iter().find(|(tried, _)| *tried == point).map(|(_, result)| result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    fn good() -> Kernel {
        Kernel {
            release: "6.18.1-cloud-amd64".into(),
            tc: Tc::Tcx,
            features: Features::all(),
            refused: Ok(Vec::new()),
            attach_points: Some(AttachPoint::ALL.map(|point| (point, Ok(()))).into()),
            can_destroy_sockets: Ok(()),
            has_netns_cookie: true,
        }
    }

    /// The worst finding after a change.
    fn worst(change: impl Fn(&mut Kernel)) -> Finding {
        let mut kernel = good();
        change(&mut kernel);
        kernel.judge(true).into_iter().max_by_key(|finding| finding.level).unwrap()
    }

    fn refuse(kernel: &mut Kernel, name: &'static str) {
        kernel.refused = Ok(vec![(name, "R7 !read_ok".into())]);
    }

    #[test]
    fn a_kernel_that_takes_everything_is_good_and_its_version_is_named() {
        assert_eq!(worst(|_| {}).level, Level::Ok);
        assert_eq!(good().judge(true)[0].found, "Linux 6.18.1-cloud-amd64");
    }

    #[test]
    fn a_program_for_packets_that_is_refused_fails_with_its_name_the_last_lines_and_where_to_go() {
        let finding = worst(|kernel| refuse(kernel, "from_pod"));
        assert_eq!(finding.level, Level::Fail);
        assert_eq!(finding.found, "from_pod is refused: R7 !read_ok");
        assert!(finding.advice.unwrap().contains("Report it"));
        let finding = worst(|kernel| kernel.refused = Err(LoadError::TooOld));
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.found.contains("compare-and-swap"), "{}", finding.found);
        assert_eq!(finding.advice.unwrap(), "boot Linux 5.12 or later");
        let finding = worst(|kernel| kernel.refused = Err(LoadError::Maps("none".into())));
        assert_eq!((finding.level, finding.about.as_str()), (Level::Fail, "programs"));
    }

    #[test]
    fn what_weir_does_without_is_warned_of_with_what_it_costs() {
        for (name, about, cost) in [
            ("network_xdp", "XDP", "TC does the same"),
            ("connect6", "socket programs", "everything else is"),
        ] {
            let finding = worst(|kernel| refuse(kernel, name));
            assert_eq!((finding.level, finding.about.as_str()), (Level::Warn, about));
            assert!(finding.advice.unwrap().contains(cost));
        }
        let finding = worst(|kernel| kernel.can_destroy_sockets = Err("No such file".into()));
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.advice.unwrap().contains("modprobe udp_diag"));
    }

    #[test]
    fn the_program_for_the_cookie_matters_only_where_the_kernel_has_no_socket_option() {
        assert_eq!(worst(|kernel| refuse(kernel, NETNS_COOKIE_PROGRAM)).level, Level::Ok);
        let finding = worst(|kernel| {
            refuse(kernel, NETNS_COOKIE_PROGRAM);
            kernel.has_netns_cookie = false;
        });
        assert_eq!(finding.level, Level::Warn);
    }

    #[test]
    fn without_the_modules_of_tc_nothing_can_be_attached() {
        let refuse = |kernel: &mut Kernel| {
            kernel.tc = Tc::Clsact;
            kernel.attach_points =
                Some(vec![(AttachPoint::Ingress, Err("Operation not supported".into()))]);
        };
        let finding = worst(refuse);
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.advice.unwrap().contains("modprobe cls_bpf"));
    }

    #[test]
    fn what_was_not_tried_is_said() {
        let mut kernel = good();
        kernel.attach_points = None;
        let findings = kernel.judge(true);
        let not_tried = findings.iter().filter(|finding| finding.found.contains("CAP_SYS_ADMIN"));
        assert_eq!(not_tried.count(), 2, "{findings:?}");
    }

    #[test]
    fn without_capabilities_the_kernel_is_not_blamed() {
        let mut kernel = good();
        kernel.refused = Err(LoadError::Maps("Operation not permitted".into()));
        let findings = kernel.judge(false);
        assert!(findings.iter().all(|finding| finding.level != Level::Fail), "{findings:?}");
    }
}
