//! Whether this kernel takes Weir's programs. It is tried, not concluded from its version, for
//! distributions bring new features to kernels with old numbers: every program is loaded once, onto small
//! maps of its own, and those of devices are attached to a loopback device that nobody else sees. Nothing
//! of it stays.

use std::io;
use std::thread;

use aya::Ebpf;
use aya::programs::loaded_programs as all_loaded_programs;
use nix::sched::{CloneFlags, unshare};
use nix::sys::utsname::uname;

use super::kernel::Kernel;
use crate::datapath::attach::{self, Tc};
use crate::datapath::features::Features;
use crate::datapath::load_error::LoadError;
use crate::datapath::programs::Program;
use crate::datapath::{loader, sock_destroy};
use crate::host::syscall;
use crate::pins::AttachPoint;

impl Kernel {
    /// Tries this kernel, which takes seconds at most.
    #[must_use]
    pub fn try_out() -> Self {
        let features = Features::of_this_kernel();
        let tc = Tc::of_this_kernel();
        let (refused, attach_points) = match loader::try_all(&features) {
            Ok((mut ebpf, refused)) => {
                let refused: Vec<_> = refused.iter().filter_map(name_and_cause).collect();
                let attach_points = on_loopback(&mut ebpf, tc, &refused);
                (Ok(refused), attach_points)
            }
            Err(error) => (Err(error), None),
        };
        let release = uname().map(|name| name.release().to_string_lossy().into_owned());
        Self {
            release: release.unwrap_or_else(|_| "of an unknown version".into()),
            tc,
            features,
            refused,
            attach_points,
            can_destroy_sockets: sock_destroy::probe()
                .map_err(|error: io::Error| error.to_string()),
            has_netns_cookie: syscall::namespace_cookie().is_ok(),
        }
    }
}

/// The names of programs that the kernel has loaded and that begin with `prefix`; none where this process
/// is not shown them, for which it needs `CAP_SYS_ADMIN`.
pub fn loaded_programs(prefix: &str) -> Vec<String> {
    let names = all_loaded_programs().map_while(Result::ok);
    let mut names: Vec<String> =
        names.filter_map(|program| Some(program.name_as_str()?.to_owned())).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names.dedup();
    names
}

fn name_and_cause(error: &LoadError) -> Option<(&'static str, String)> {
    match error {
        LoadError::Program { name, cause, .. } => Some((*name, cause.clone())),
        LoadError::Missing
        | LoadError::Unreadable { .. }
        | LoadError::Pins(_)
        | LoadError::TooOld
        | LoadError::Maps(_) => None,
    }
}

/// Attaches programs to the loopback device of a network namespace that goes with its thread; `None` where
/// this process may make none (it needs `CAP_SYS_ADMIN`).
fn on_loopback(
    ebpf: &mut Ebpf,
    tc: Tc,
    refused: &[(&'static str, String)],
) -> Option<Vec<(AttachPoint, Result<(), String>)>> {
    // Those that the verifier refuses are reported already.
    let is_loaded = |program: Program| !refused.iter().any(|(name, _)| *name == program.name());
    thread::scope(|scope| {
        let tried = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).ok()?;
            Some(attach::try_attach(ebpf, tc, "lo", is_loaded))
        });
        tried.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
