//! The Kubernetes programs that the section `control-plane` of the tests runs. Those that are not on
//! the machine are built with Go from the modules under `tests/control_plane/`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{go, tools};

/// The variable with the folders of such programs for the tests, as in `PATH`.
pub const FOLDERS: &str = "WEIR_CONTROL_PLANE";

/// Our Go modules, and the programs that each one's binary is, by the name it is called by.
const MODULES: [(&str, &[&str]); 2] = [
    ("tests/control_plane/etcd", &["etcd"]),
    (
        "tests/control_plane/kubernetes",
        &["kube-apiserver", "kube-controller-manager", "kube-proxy"],
    ),
];

/// Folders that hold what neither `KUBEBUILDER_ASSETS` nor `PATH` has, built if need be. Where there
/// is no Go either, the tests are left without and say so.
pub fn folders() -> Result<OsString> {
    let mut folders = Vec::new();
    for (module, programs) in MODULES {
        if programs.iter().all(|program| is_on_the_machine(program)) {
            continue;
        }
        if let Some(binary) = go::program(module)? {
            folders.push(named(&binary, programs)?);
        }
    }
    Ok(env::join_paths(folders)?)
}

fn is_on_the_machine(program: &str) -> bool {
    let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    assets.is_some_and(|folder| folder.join(program).is_file()) || tools::on_path(program).is_some()
}

/// A folder beside `binary` in which it goes by the names of `programs`.
fn named(binary: &Path, programs: &[&str]) -> Result<PathBuf> {
    let folder = binary.with_extension("programs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for program in programs {
        let name = folder.join(program);
        if !name.is_file() {
            symlink(binary, &name).with_context(|| format!("cannot make {}", name.display()))?;
        }
    }
    Ok(folder)
}
