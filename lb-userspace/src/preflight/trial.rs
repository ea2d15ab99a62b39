//! What this kernel makes of Weir's programs. It is tried, not concluded from its version, for
//! distributions bring new features to kernels with old numbers: every program is loaded once, onto small
//! maps of its own, and those of devices are put on a loopback device that nobody else sees. Nothing of
//! it stays.

use std::io;
use std::thread;

use aya::Ebpf;
use nix::sched::{CloneFlags, unshare};
use nix::sys::utsname::uname;

use super::Finding;
use crate::datapath::attach::{self, Hook, Tc};
use crate::datapath::features::Features;
use crate::datapath::loader::{self, ObjectError, Program};
use crate::datapath::{netns_cookie, sock_destroy, socket_lb};
use crate::host::syscall;

/// Where to go with what nobody expected.
const REPORT: &str = "this is a fault of Weir's, or a kernel that it cannot use: docs/kernels.md lists \
                      those that it was seen to work on. Report it to Weir's developers, with these \
                      lines";

/// What came of the trial.
#[derive(Debug)]
pub struct Trial {
    /// As `uname -r` has it.
    release: String,
    tc: Tc,
    features: Features,
    /// The programs that are refused; or why none could be tried.
    refused: Result<Vec<(&'static str, String)>, ObjectError>,
    /// What came of putting programs on hooks; `None` if that could not be tried.
    hooks: Option<Vec<(Hook, Result<(), String>)>>,
    /// Whether UDP sockets can be listed and ended.
    ends_sockets: Result<(), String>,
    /// Whether processes are told the cookie of their network namespace.
    tells_cookie: bool,
}

impl Trial {
    /// Tries this kernel, which takes seconds at most.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        let features = Features::of_this_kernel();
        let tc = Tc::of_this_kernel();
        let (refused, hooks) = match loader::try_all(&features) {
            Ok((mut ebpf, refused)) => {
                let refused: Vec<_> = refused.iter().filter_map(name_and_cause).collect();
                let hooks = on_loopback(&mut ebpf, tc, &refused);
                (Ok(refused), hooks)
            }
            Err(error) => (Err(error), None),
        };
        let release = uname().map(|name| name.release().to_string_lossy().into_owned());
        Self {
            release: release.unwrap_or_else(|_| "of a version that it does not tell".into()),
            tc,
            features,
            refused,
            hooks,
            ends_sockets: sock_destroy::try_ending().map_err(|error: io::Error| error.to_string()),
            tells_cookie: syscall::namespace_cookie().is_ok(),
        }
    }

    /// What it comes to. `is_capable` says whether this process may load programs: else what the kernel
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
            findings.push(self.judge_socket_programs(refused));
        }
        findings.push(self.judge_ending_of_sockets());
        if !self.features.has_coarse_clock() {
            findings.push(Finding::ok(
                "clock",
                "the exact one alone, which costs packets of Services a little more \
                 (bpf_ktime_get_coarse_ns is missing)",
            ));
        }
        findings
    }

    fn judge_packet_programs(&self) -> Finding {
        let about = "programs";
        let refused = match &self.refused {
            Err(error) => {
                let advice = match error {
                    ObjectError::Missing | ObjectError::Unreadable { .. } => "see what was found",
                    ObjectError::Maps(_) => "give this process the memory for its maps",
                    ObjectError::Pins(_) | ObjectError::Program { .. } => REPORT,
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
        let hooked = self.hooked(Hook::XdpGeneric).and_then(|result| result.as_ref().err());
        match loaded.or(hooked) {
            Some(cause) => Finding::warn(
                "XDP",
                format!("{program} is refused: {cause}"),
                format!("TC does the same at a higher cost; {REPORT}"),
            ),
            None if self.hooks.is_none() => Finding::ok(
                "XDP",
                "the kernel takes the program; not tried on a device, which needs CAP_SYS_ADMIN",
            ),
            None => Finding::ok("XDP", "the kernel takes the program"),
        }
    }

    fn judge_tc(&self) -> Finding {
        for hook in [Hook::Ingress, Hook::Egress] {
            if let Some(Err(error)) = self.hooked(hook) {
                return Finding::fail(
                    "TC",
                    format!("no program can be put on a device ({hook}): {error}"),
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
        match &self.hooks {
            Some(_) => Finding::ok("TC", how),
            None => Finding::ok("TC", format!("{how}; not tried, which needs CAP_SYS_ADMIN")),
        }
    }

    fn judge_socket_programs(&self, refused: &[(&'static str, String)]) -> Finding {
        let about = "socket programs";
        let of_sockets = |(name, _): &&(&str, String)| socket_lb::PROGRAMS.contains(name);
        if let Some((name, cause)) = refused.iter().find(of_sockets) {
            return Finding::warn(
                about,
                format!("{name} is refused: {cause}"),
                format!(
                    "the node's own processes are not balanced, everything else is: say \
                     --socket-balancing off if it is meant so; {REPORT}"
                ),
            );
        }
        let asks = refused.iter().find(|(name, _)| *name == netns_cookie::PROGRAM);
        if let (false, Some((name, cause))) = (self.tells_cookie, asks) {
            return Finding::warn(
                about,
                format!("the cookie of our network namespace cannot be told: {name}: {cause}"),
                "the node's own processes are not balanced, everything else is: a kernel with \
                 SO_NETNS_COOKIE (Linux 5.14) tells it, or say --socket-balancing off if it is meant so",
            );
        }
        if self.features.sets_errors() {
            return Finding::ok(about, "the kernel takes those of the node's own processes");
        }
        Finding::ok(
            about,
            "the kernel takes those of the node's own processes; a call that is rejected fails with \
             EPERM instead of ECONNREFUSED, for bpf_set_retval is missing (Linux 6.1 has it)",
        )
    }

    fn judge_ending_of_sockets(&self) -> Finding {
        let about = "connected UDP";
        match &self.ends_sockets {
            Ok(()) => Finding::ok(about, "sockets whose backend has left can be ended"),
            Err(error) => Finding::warn(
                about,
                format!("sockets whose backend has left cannot be ended: {error}"),
                "connected UDP sockets of the node's own processes go on sending to it until they \
                 connect anew: modprobe udp_diag; the kernel needs CONFIG_INET_UDP_DIAG and \
                 CONFIG_INET_DIAG_DESTROY",
            ),
        }
    }

    fn hooked(&self, hook: Hook) -> Option<&Result<(), String>> {
        let hooks = self.hooks.iter().flatten();
        hooks.into_iter().find(|(tried, _)| *tried == hook).map(|(_, result)| result)
    }
}

fn name_and_cause(error: &ObjectError) -> Option<(&'static str, String)> {
    match error {
        ObjectError::Program { name, cause, .. } => Some((*name, cause.clone())),
        ObjectError::Missing
        | ObjectError::Unreadable { .. }
        | ObjectError::Pins(_)
        | ObjectError::Maps(_) => None,
    }
}

/// Puts programs on the loopback device of a network namespace that goes with its thread; `None` where
/// this process may make none (it needs `CAP_SYS_ADMIN`).
fn on_loopback(
    ebpf: &mut Ebpf,
    tc: Tc,
    refused: &[(&'static str, String)],
) -> Option<Vec<(Hook, Result<(), String>)>> {
    // Those that the verifier refuses are told of already.
    let is_loaded = |program: Program| !refused.iter().any(|(name, _)| *name == program.name());
    thread::scope(|scope| {
        let tried = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).ok()?;
            Some(attach::try_on(ebpf, tc, "lo", is_loaded))
        });
        tried.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Level;

    fn good() -> Trial {
        Trial {
            release: "6.18.1-cloud-amd64".into(),
            tc: Tc::Tcx,
            features: Features::all(),
            refused: Ok(Vec::new()),
            hooks: Some(Hook::ALL.map(|hook| (hook, Ok(()))).into()),
            ends_sockets: Ok(()),
            tells_cookie: true,
        }
    }

    /// The worst finding after a change.
    fn worst(change: impl Fn(&mut Trial)) -> Finding {
        let mut trial = good();
        change(&mut trial);
        trial.judge(true).into_iter().max_by_key(|finding| finding.level).unwrap()
    }

    fn refuse(trial: &mut Trial, name: &'static str) {
        trial.refused = Ok(vec![(name, "R7 !read_ok".into())]);
    }

    #[test]
    fn a_kernel_that_takes_everything_is_good_and_its_version_is_told() {
        assert_eq!(worst(|_| {}).level, Level::Ok);
        assert_eq!(good().judge(true)[0].found, "Linux 6.18.1-cloud-amd64");
    }

    #[test]
    fn a_program_for_packets_that_is_refused_fails_with_its_name_the_last_lines_and_where_to_go() {
        let finding = worst(|trial| refuse(trial, "from_pod"));
        assert_eq!(finding.level, Level::Fail);
        assert_eq!(finding.found, "from_pod is refused: R7 !read_ok");
        assert!(finding.advice.unwrap().contains("Report it"));
        let finding = worst(|trial| trial.refused = Err(ObjectError::Maps("none".into())));
        assert_eq!((finding.level, finding.about.as_str()), (Level::Fail, "programs"));
    }

    #[test]
    fn what_weir_does_without_is_warned_of_with_what_it_costs() {
        for (name, about, cost) in [
            ("network_xdp", "XDP", "TC does the same"),
            ("connect6", "socket programs", "everything else is"),
        ] {
            let finding = worst(|trial| refuse(trial, name));
            assert_eq!((finding.level, finding.about.as_str()), (Level::Warn, about));
            assert!(finding.advice.unwrap().contains(cost));
        }
        let finding = worst(|trial| trial.ends_sockets = Err("No such file".into()));
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.advice.unwrap().contains("modprobe udp_diag"));
    }

    #[test]
    fn what_asks_for_the_cookie_matters_only_where_the_kernel_does_not_tell_it() {
        assert_eq!(worst(|trial| refuse(trial, netns_cookie::PROGRAM)).level, Level::Ok);
        let finding = worst(|trial| {
            refuse(trial, netns_cookie::PROGRAM);
            trial.tells_cookie = false;
        });
        assert_eq!(finding.level, Level::Warn);
    }

    #[test]
    fn without_the_modules_of_tc_nothing_can_be_attached() {
        let refuse = |trial: &mut Trial| {
            trial.tc = Tc::Clsact;
            trial.hooks = Some(vec![(Hook::Ingress, Err("Operation not supported".into()))]);
        };
        let finding = worst(refuse);
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.advice.unwrap().contains("modprobe cls_bpf"));
    }

    #[test]
    fn what_was_not_tried_is_said() {
        let mut trial = good();
        trial.hooks = None;
        let findings = trial.judge(true);
        let not_tried = findings.iter().filter(|finding| finding.found.contains("CAP_SYS_ADMIN"));
        assert_eq!(not_tried.count(), 2, "{findings:?}");
    }

    #[test]
    fn without_capabilities_the_kernel_is_not_blamed() {
        let mut trial = good();
        trial.refused = Err(ObjectError::Maps("Operation not permitted".into()));
        let findings = trial.judge(false);
        assert!(findings.iter().all(|finding| finding.level != Level::Fail), "{findings:?}");
    }
}
